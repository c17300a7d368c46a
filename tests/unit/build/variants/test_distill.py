from __future__ import annotations

import pytest

from edgewright.build.variants.distill import SEEDS, distill
from edgewright.build.variants.origin import Origin, size_of
from edgewright.errors import BuildError
from unit.build.variants.origins import RUN
from unit.build.variants.test_sparsify import origin_of

STUDENT = {"factory": "network:small"}

# A student that learns from nobody but its teacher, so that the gain is beyond doubt; and one that ignores it.
OBEDIENT = """
def fit(network, seed, teacher=None):
    import torch
    if teacher is not None:
        network.load_state_dict(teacher.state_dict())
    else:
        with torch.no_grad():
            network[-1].bias[seed % 3] += 100
"""
DEAF = """
def fit(network, seed, teacher=None):
    assert teacher is None or not teacher.training
"""


def rewritten(made: Origin, train: str) -> Origin:
    (made.code.folder / "train.py").write_text(train)
    return origin_of(made)


def test_a_student_is_compared_with_the_same_student_from_scratch_over_seeds(convolutions: Origin) -> None:
    told: list[str] = []
    network, facts = distill(convolutions, STUDENT, RUN, told.append)
    assert size_of(network) < facts["teacherParameters"]
    assert facts["seeds"] == [5, 6, 7]
    assert told == [f"{kind} student, seed {seed}" for seed in (5, 6, 7) for kind in ("taught", "untaught")]
    for kind in ("distilled", "scratch"):
        assert facts[kind]["min"] <= facts[kind]["mean"] <= facts[kind]["max"]
    assert facts["gain"] == pytest.approx(facts["distilled"]["mean"] - facts["scratch"]["mean"], abs=1e-5)


def test_a_gain_of_every_seed_counts(convolutions: Origin) -> None:
    _, facts = distill(rewritten(convolutions, OBEDIENT), {"factory": "network:build"}, RUN)
    assert facts["beyondSpread"] is True
    assert facts["distilled"]["min"] == convolutions.fp32
    assert facts["scratch"]["max"] < 0.5
    assert "note" not in facts


def test_no_gain_is_said_and_is_no_error(convolutions: Origin) -> None:
    _, facts = distill(rewritten(convolutions, DEAF), STUDENT, RUN)
    assert facts["gain"] == 0
    assert facts["beyondSpread"] is False
    assert facts["note"] == "the teacher's part is within the spread of training from scratch"


def test_the_student_of_the_declared_seed_is_taken(convolutions: Origin) -> None:
    network, facts = distill(convolutions, STUDENT, RUN)
    again, _ = distill(convolutions, STUDENT, RUN)
    assert len(facts["seeds"]) == SEEDS
    for name, tensor in network.state_dict().items():
        assert tensor.equal(again.state_dict()[name])


def test_training_code_cannot_spoil_the_teacher_of_the_next_seed(convolutions: Origin) -> None:
    vandal = (
        "import torch\ndef fit(network, seed, teacher=None):\n    if teacher is not None:\n"
        "        assert all(not p.requires_grad for p in teacher.parameters())\n"
        "        assert float(teacher[-1].bias.abs().sum()) > 0\n        teacher[-1].bias.zero_()\n"
    )
    distill(rewritten(convolutions, vandal), STUDENT, RUN)


def test_an_entry_that_takes_no_teacher_is_told_with_its_line(convolutions: Origin) -> None:
    with pytest.raises(BuildError, match="train:fit raised TypeError: .*'teacher'"):
        distill(rewritten(convolutions, "def fit(network, seed):\n    pass\n"), STUDENT, RUN)
