"""What holds for the data of every shipped model."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from edgewright.build.entry import ModelCode
from edgewright.build.samples import Samples, load
from edgewright.plan.slices import dump
from edgewright.spec.load import load_fleet
from real import ROOT

MODELS = sorted(path.parent.name for path in ROOT.glob("models/*/model.yaml"))
SETS = ("training", "calibration", "selection", "test")


def sets_of(name: str) -> dict[str, Samples]:
    model = load_fleet(ROOT).models[name]
    code, signature = ModelCode(ROOT / "models" / name), dump(model.signature)
    return {part: load(code, getattr(model.data, part), signature) for part in SETS}


@pytest.mark.parametrize("name", MODELS)
def test_four_sets_share_no_sample_and_repeat_none(name: str) -> None:
    digests = {part: samples.digests() for part, samples in sets_of(name).items()}
    for part, found in digests.items():
        assert len(set(found)) == len(found), f"{part} repeats a sample"
    for one, other in combinations(SETS, 2):
        assert not set(digests[one]) & set(digests[other]), (one, other)


@pytest.mark.parametrize("name", MODELS)
def test_the_sets_that_judge_have_as_many_samples_of_each_target(name: str) -> None:
    for part in ("selection", "test"):
        counts = np.bincount(sets_of(name)[part].targets)
        assert counts.max() - counts.min() <= max(1, 0.06 * counts.max()), part
