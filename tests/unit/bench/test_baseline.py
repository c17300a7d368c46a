from __future__ import annotations

import doctest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.bench import baseline
from edgewright.bench.baseline import NO_BASELINE, checks, growth
from edgewright.bench.counting.counts import ClassCounts, Counts
from edgewright.bench.report import Check
from edgewright.plan.figures import shown
from edgewright.spec.baseline import ClassBaseline

ENGINE = "onnxruntime 1.31.1"
TARGET = "qemu-aarch64 7.2, cpu cortex-a72"
SOURCES = {"regression-load": "hardware/board.yaml#limits.regression"}
THEN = ClassBaseline.model_validate(
    {
        "hardwareClass": "board",
        "modelVersion": "1.0.0",
        "artifact": "sha256:" + "a" * 64,
        "target": TARGET,
        "engine": ENGINE,
        "instructions": {"load": 50_000_000, "inference": 400_000},
    }
).yardstick()


def counted(load: int = 50_000_000, inference: int = 400_000, target: str = TARGET) -> dict[str, Any]:
    return Counts(ClassCounts(load, {}), ClassCounts(inference, {}), (inference,), target).to_json()


def judged(
    counts: dict[str, Any] | None,
    then: dict[str, Any] | None = THEN,
    engine: str | None = ENGINE,
    **limits: Any,
) -> tuple[dict[str, Check], tuple[str, ...]]:
    """Checks by name, and notes."""
    made, notes = checks(counts, engine, {"regression": 1.0, **limits}, then, SOURCES)
    return {check.name: check for check in made}, notes


def test_the_example_at_the_top_is_true() -> None:
    assert doctest.testmod(baseline).failed == 0


def test_a_budget_is_compared_with_the_count_to_the_last_instruction() -> None:
    limits = {"instructions": {"inference": 400_000}}
    at, _ = judged(counted(), None, **limits)
    over, _ = judged(counted(inference=400_001), None, **limits)
    assert (at["instructions-inference"].verdict, over["instructions-inference"].verdict) == ("pass", "fail")
    check = over["instructions-inference"]
    assert shown(check.measured, check.unit) == "400,001"
    assert shown(check.limit, check.unit) == "400,000"


def test_only_the_budgets_that_are_set_are_checked() -> None:
    assert list(judged(counted(), None)[0]) == []
    assert list(judged(counted(), None, instructions={"load": 1})[0]) == ["instructions-load"]
    both = {"inference": 1, "load": 1}
    assert list(judged(counted(), None, instructions=both)[0]) == [
        "instructions-load",
        "instructions-inference",
    ]


def test_without_a_baseline_nothing_is_compared_and_a_note_says_so() -> None:
    made, notes = judged(counted(), None)
    assert made == {}
    assert notes == (NO_BASELINE,)


def test_growth_within_the_limit_passes_and_says_nothing() -> None:
    made, notes = judged(counted(load=50_500_000, inference=404_000))
    assert [check.verdict for check in made.values()] == ["pass", "pass"]
    assert made["regression-inference"].measured == 0.01
    assert notes == ()


def test_growth_beyond_the_limit_fails_and_names_both_counts_and_the_command_that_accepts_it() -> None:
    made, notes = judged(counted(inference=404_001))
    assert made["regression-load"].verdict == "pass"
    check = made["regression-inference"]
    assert (check.verdict, check.limit, check.direction, check.unit) == ("fail", 0.01, "max", "ratio")
    assert notes == (
        "regression-inference: 404,001 instructions, 400,000 in 1.0.0;"
        " if that is wanted: `edgewright baseline MODEL --accept`",
    )


def test_a_model_that_became_cheaper_has_grown_by_less_than_nothing() -> None:
    made, notes = judged(counted(inference=300_000))
    assert made["regression-inference"].measured == -0.25
    assert made["regression-inference"].verdict == "pass"
    assert notes == ()


def test_a_limit_of_nothing_forbids_a_single_instruction_more() -> None:
    assert judged(counted(), regression=0.0)[0]["regression-load"].verdict == "pass"
    assert judged(counted(load=50_000_001), regression=0.0)[0]["regression-load"].verdict == "fail"


@given(st.integers(1, 10**6), st.integers(1, 999))
def test_growth_of_exactly_the_limit_passes_whatever_its_binary_digits_are(unit: int, per_mille: int) -> None:
    made, _ = judged(
        counted(load=unit * (1000 + per_mille)),
        {**THEN, "instructions": {"load": unit * 1000, "inference": 1}},
        regression=per_mille / 10,
    )
    assert made["regression-load"].verdict == "pass"


@given(st.integers(1, 10**8), st.integers(1, 10**8))
def test_a_count_that_is_larger_has_grown(now: int, then: int) -> None:
    assert (growth(now, then) > 0) == (now > then)
    assert (growth(now, then) < 0) == (now < then)


@pytest.mark.parametrize(
    ("engine", "target", "reason"),
    [
        (
            "onnxruntime 1.32.0",
            TARGET,
            "it was counted with onnxruntime 1.31.1, this with onnxruntime 1.32.0",
        ),
        (ENGINE, "another core", f"it was counted with {TARGET}, this with another core"),
    ],
)
def test_a_baseline_of_another_ruler_is_not_compared_and_a_note_names_what_renews_it(
    engine: str, target: str, reason: str
) -> None:
    made, notes = judged(counted(inference=10**9, target=target), engine=engine)
    assert made == {}
    assert len(notes) == 1
    assert reason in notes[0]
    assert "`edgewright baseline --write`" in notes[0]


def test_another_ruler_leaves_the_budget_as_it_is() -> None:
    made, _ = judged(
        counted(inference=10**9), engine="onnxruntime 1.32.0", instructions={"inference": 1_000_000}
    )
    assert made["instructions-inference"].verdict == "fail"


def test_a_model_that_was_not_counted_fails_every_check_there_is() -> None:
    made, notes = judged(None, engine=None, instructions={"load": 1, "inference": 1})
    assert {name: check.verdict for name, check in made.items()} == dict.fromkeys(
        ("instructions-load", "instructions-inference", "regression-load", "regression-inference"), "fail"
    )
    assert all(check.measured is None for check in made.values())
    assert notes == ()


def test_a_check_says_which_yaml_decides_its_limit() -> None:
    made, _ = judged(counted())
    assert made["regression-load"].source == "hardware/board.yaml#limits.regression"
