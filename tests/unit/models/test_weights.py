from __future__ import annotations

import hashlib

import pytest
import torch

from edgewright.build.checkpoint import restore
from edgewright.build.entry import ModelCode
from edgewright.build.metric import Score, metric
from edgewright.build.samples import load
from edgewright.plan.slices import dump
from edgewright.spec.load import load_fleet
from real import ROOT

MODELS = sorted(path.parent.name for path in ROOT.glob("models/*/model.yaml"))
MIB = 2**20


def worth(name: str, part: str) -> Score:
    """What the committed weights are worth on one of the sets, in fp32 torch."""
    folder, model = ROOT / "models" / name, load_fleet(ROOT).models[name]
    code, signature = ModelCode(folder), dump(model.signature)
    weights = folder / str(model.checkpoint.path if model.checkpoint else None)
    network = restore(code, dump(model.network), weights.read_bytes())
    samples = load(code, getattr(model.data, part), signature)
    (array,) = samples.inputs.values()
    with torch.no_grad():
        outputs = torch.cat([network(part) for part in torch.from_numpy(array).split(64)]).numpy()
    return metric(model.metric.name).score(outputs, samples.targets, outputs)


@pytest.mark.parametrize("name", MODELS)
def test_the_committed_weights_are_those_the_yaml_names(name: str) -> None:
    checkpoint = load_fleet(ROOT).models[name].checkpoint
    assert checkpoint is not None
    weights = (ROOT / "models" / name / str(checkpoint.path)).read_bytes()
    assert hashlib.sha256(weights).hexdigest() == checkpoint.sha256
    assert len(weights) < 1.1 * MIB


@pytest.mark.parametrize("name", MODELS)
def test_the_readme_says_what_the_weights_are_worth_and_the_floor_holds_at_the_intervals_lower_end(
    name: str,
) -> None:
    model, score = load_fleet(ROOT).models[name], worth(name, "test")
    readme = (ROOT / "models" / name / "README.md").read_text()
    assert f"{model.metric.name:<11} {score.value:.4f} on {score.samples} held-out samples" in readme
    assert f"interval    {score.low:.4f} to {score.high:.4f}, 95 %" in readme
    assert score.low >= model.metric.floor + 0.01, "a little lost in int8 must not break the floor"
