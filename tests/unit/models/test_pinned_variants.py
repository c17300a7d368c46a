"""The variants this repository ships: small files that say what they are, read without a change."""

from __future__ import annotations

import hashlib
import json

import pytest

from edgewright.build.canonical import to_bytes
from edgewright.build.entry import ModelCode
from edgewright.build.imported import conform
from edgewright.build.metric import metric
from edgewright.build.onnx_file import parse
from edgewright.build.samples import Network, load
from edgewright.plan.slices import dump
from edgewright.spec.load import load_fleet
from real import ROOT

PINNED = [
    (name, variant.name)
    for name, model in sorted(load_fleet(ROOT).models.items())
    for variant in model.optimization.variants
]


@pytest.mark.parametrize(("model", "name"), PINNED)
def test_a_pinned_variant_is_the_file_the_yaml_names_and_worth_what_was_noted(model: str, name: str) -> None:
    folder, document = ROOT / "models" / model, load_fleet(ROOT).models[model]
    variant = next(found for found in document.optimization.variants if found.name == name)
    assert variant.checkpoint is not None and variant.checkpoint.path is not None
    data = (folder / variant.checkpoint.path).read_bytes()
    assert hashlib.sha256(data).hexdigest() == variant.checkpoint.sha256
    assert len(data) < 1_000_000
    signature = dump(document.signature)
    assert to_bytes(conform(parse(data, name), signature, name)[0]) == data
    notes = json.loads((folder / "variants.json").read_bytes())["variants"]
    note = next(found for found in notes if found["sha256"] == variant.checkpoint.sha256)
    selection = load(ModelCode(folder), document.data.selection, signature)
    outputs = Network(data).run(selection.inputs)[signature["outputs"][0]["name"]]
    score = metric(document.metric.name).score(outputs, selection.targets, outputs).value
    # A sample on the edge may fall to the other side on another processor.
    assert score == pytest.approx(note["metric"]["value"], abs=1.5 / len(selection))
    assert note["metric"]["value"] >= note["metric"]["fp32"] - document.metric.max_drop
