"""Models that are no classifiers, through training, evaluation and the target's sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgewright.build.training import train
from edgewright.errors import BuildError
from unit.build.tiny import CODE, SPEC, Repository

NETWORK = """
from torch import nn

def build(width):
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, width), nn.Flatten(START))
"""
DATA = """
import numpy as np

def _made(count, seed):
    dice = np.random.default_rng(seed)
    targets = np.arange(count) % 2
    return {"point": (targets[:, None] + 0.8 * dice.standard_normal((count, 4))).astype(np.float32)}, targets

def training():
    return _made(200, 1)

def calibration():
    return _made(40, 2)

def selection():
    return _made(60, 3)

def test():
    return _made(80, 4)
"""
TRAIN = """
import torch
from data import training

def fit(network, seed):
    inputs, targets = training()
    points, targets = torch.from_numpy(inputs["point"]), torch.from_numpy(targets).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(40):
        given = network(points).reshape(len(points), -1)[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(given, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def built(root: Path, metric: str, width: int, shape: list[Any]) -> tuple[Repository, dict[str, Any]]:
    """A model of `shape` outputs up to its artifact, and its spec."""
    start = "0" if len(shape) == 1 else "1"
    code = {**CODE, "network.py": NETWORK.replace("START", start), "data.py": DATA, "train.py": TRAIN}
    repository = Repository(root / "repository", code)
    spec: dict[str, Any] = {
        "network": {"factory": "network:build", "arguments": {"width": width}},
        "train": {"entry": "train:fit", "seed": 3},
        "signature": {
            "inputs": SPEC["signature"]["inputs"],
            "outputs": [{"name": "answer", "dtype": "float32", "shape": shape}],
        },
        "metric": {"name": metric, "floor": 0.5, "maxDrop": 0.05},
        "labels": [],
    }
    for stage in ("checkpoint", "exported", "variants", "searched", "optimized"):
        repository.run(stage, **spec)
    return repository, spec


def test_a_detector_is_evaluated_by_its_area(tmp_path: Path) -> None:
    repository, spec = built(tmp_path, "auc", 1, ["batch", 1])
    made = {name: json.loads(path.read_bytes()) for name, path in repository.run("evaluated", **spec).items()}
    found = made["evaluation.json"]
    assert (found["metric"], found["samples"], found["perLabel"], found["worstLabel"]) == (
        "auc",
        80,
        {},
        None,
    )
    assert 0.8 < found["low"] < found["value"] <= found["high"] <= 1
    drop = found["drop"]
    assert drop["low"] <= drop["value"] <= drop["high"]
    assert drop["value"] == pytest.approx(found["fp32"]["value"] - found["value"], abs=1e-12)
    assert made["drift.json"]["confidence"]["kind"] == "score"
    assert made["golden.json"]["winners"] == []
    assert "labels.json" not in made


def test_an_embedding_is_evaluated_by_its_cosine(tmp_path: Path) -> None:
    repository, spec = built(tmp_path, "cosine", 6, ["batch", 6])
    made = {name: json.loads(path.read_bytes()) for name, path in repository.run("evaluated", **spec).items()}
    found = made["evaluation.json"]
    assert (found["metric"], found["fp32"]) == ("cosine", {"value": 1, "low": 1, "high": 1})
    assert 0.99 < found["low"] < found["value"] < 1, "int8 does not point exactly where fp32 does"
    assert found["drop"]["value"] == pytest.approx(1 - found["value"], abs=1e-9)
    assert made["drift.json"]["confidence"]["kind"] == "Euclidean norm"


def test_a_classifier_names_the_output_whose_largest_value_is_the_answer(exported: Repository) -> None:
    golden = json.loads(exported.run("evaluated")["golden.json"].read_bytes())
    assert golden["winners"] == ["logits"]


def test_a_metric_that_does_not_fit_the_output_is_refused(exported: Repository) -> None:
    with pytest.raises(BuildError, match=r"auc needs one score per sample; the first output is \[3\]"):
        exported.run("evaluated", metric={"name": "auc"}, labels=[])


def test_training_tells_what_a_detector_is_worth(tmp_path: Path) -> None:
    repository, spec = built(tmp_path, "auc", 1, ["batch", 1])
    training = train(repository.folder, {**spec, "data": SPEC["data"]})
    assert (training.metric, training.score.samples, training.recall) == ("auc", 80, {})
    assert 0.8 < training.score.low < training.score.value <= training.score.high
