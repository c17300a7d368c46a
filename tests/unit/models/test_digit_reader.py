from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
import torch

from edgewright.build.checkpoint import trained
from edgewright.build.entry import ModelCode
from real import ROOT

FOLDER = ROOT / "models" / "digit-reader"
PARTS = ("training", "calibration", "selection", "test")


@pytest.fixture(scope="module")
def code() -> ModelCode:
    return ModelCode(FOLDER)


def test_every_digit_of_the_data_set_is_in_exactly_one_part(code: ModelCode) -> None:
    images = [image.tobytes() for part in PARTS for image in code.call(f"data:{part}")[0]["image"]]
    assert len(images) == len(set(images)) == 1797


def test_each_part_has_its_share_of_every_digit(code: ModelCode) -> None:
    counts = {part: Counter(code.call(f"data:{part}")[1].tolist()) for part in PARTS}
    for digit in range(10):
        every = sum(count[digit] for count in counts.values())
        assert counts["test"][digit] == pytest.approx(0.25 * every, abs=1)
        assert counts["calibration"][digit] == pytest.approx(0.10 * every, abs=1)
        assert counts["selection"][digit] == pytest.approx(0.15 * every, abs=1)


def test_the_split_is_the_one_the_figures_were_made_with(code: ModelCode) -> None:
    inputs, targets = code.call("data:test")
    assert inputs["image"].dtype == np.float32
    digest = hashlib.sha256(inputs["image"].tobytes() + targets.tobytes()).hexdigest()
    assert digest.startswith("f6be7865e5bd8488")


@pytest.mark.parametrize("width", [2, 24])
def test_another_width_is_another_network_of_the_same_signature(code: ModelCode, width: int) -> None:
    network = code.call("network:build", width=width).eval()
    assert network(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_training_is_repeatable(code: ModelCode) -> None:
    network = {"factory": "network:build", "arguments": {"width": 2}}
    run = {"entry": "train:fit", "seed": 5, "arguments": {"epochs": 1}}
    assert trained(code, network, run) == trained(code, network, run)
    assert trained(code, network, run) != trained(code, network, {**run, "seed": 6})
