from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.build.search.candidate import Candidate
from edgewright.build.search.choose import MARGIN, Choice, Objective, choose
from edgewright.build.search.demands import beside_bytes, missed
from edgewright.build.search.report import document, rows
from unit.build.search.made import FP32, candidate, demands


def verdict(choice: Choice, name: str) -> str:
    return next(one.verdict for one in choice.judged if one.candidate.name == name)


def reason(choice: Choice, name: str) -> str:
    return next(one.reason for one in choice.judged if one.candidate.name == name)


@pytest.mark.parametrize(
    ("objective", "wins"),
    [("latency", "quick"), ("size", "small"), ("memory", "lean"), ("balanced", "quick")],
)
def test_the_objective_decides(objective: Objective, wins: str) -> None:
    tried = [
        FP32,
        candidate("quick", latency_ms=0.5, size=200, memory_bytes=2000),
        candidate("small", latency_ms=3.0, size=50, memory_bytes=3900),
        candidate("lean", latency_ms=3.5, size=390, memory_bytes=500),
    ]
    assert choose(tried, demands(), objective).winner.name == wins


@pytest.mark.parametrize("ratio", [1.5, 1.0, 1.001 - MARGIN])
def test_fp32_ships_unless_something_is_clearly_better_on_the_objective(ratio: float) -> None:
    choice = choose([FP32, candidate("other", latency_ms=4.0 * ratio, size=10)], demands(), "latency")
    assert choice.winner is FP32
    assert choice.fits
    assert "no candidate that fits is better than fp32 by 3% or more" in choice.why


def test_a_candidate_worse_than_fp32_ships_only_when_a_limit_demands_it_and_that_is_said() -> None:
    tried = [FP32, candidate("slow", latency_ms=5.0, size=100)]
    choice = choose(tried, demands(artifactSize=300.0), "latency")
    assert choice.winner.name == "slow"
    assert (
        "worse than fp32 on latency (1.25), but fp32 may not ship: artifact-size 400 B misses 300 B by 33.3 %"
        in choice.why
    )


def test_what_lost_too_much_is_refused_with_both_figures() -> None:
    naive = candidate("static-int8", value=0.578, drop=0.385, size=10, latency_ms=0.1)
    mended = candidate("mixed-int8", value=0.96, drop=0.003, size=45, latency_ms=0.2)
    choice = choose([FP32, naive, mended], demands(max_drop=0.005), "size")
    assert choice.winner is mended
    assert verdict(choice, "static-int8") == "refused"
    assert "accuracy-drop 38.50 % misses 0.50 % by 7600.0 %" in reason(choice, "static-int8")
    assert "accuracy-floor 57.80 % misses 90.00 %" in reason(choice, "static-int8")


def test_where_nothing_fits_the_nearest_goes_on_with_what_it_misses_and_by_how_much() -> None:
    tried = [FP32, candidate("a", latency_ms=3.0), candidate("b", latency_ms=2.2, size=90)]
    choice = choose(tried, demands(latency={"p95": 2.0, "p99": 3.0}), "size")
    assert not choice.fits
    assert choice.winner.name == "b"
    assert choice.why == (
        "no candidate fits this class; the nearest is b: latency-p95 2.2 ms misses 2 ms by 10.0 %"
    )
    assert verdict(choice, "b") == "refused"


def test_one_demand_missed_by_much_is_nearer_than_two_missed_by_little() -> None:
    both = candidate("both", size=11, drop=0.03)
    alone = candidate("alone", size=30)
    choice = choose([FP32, both, alone], demands(artifactSize=10.0), "size")
    assert choice.winner.name == "alone"


def test_equals_on_the_objective_are_told_apart_by_accuracy() -> None:
    tried = [FP32, candidate("rough", drop=0.01, size=100), candidate("fine", drop=0.001, size=101)]
    assert choose(tried, demands(), "size").winner.name == "fine"


def test_a_label_that_lost_too_much_refuses_a_candidate_whose_mean_is_fine() -> None:
    tried = [FP32, candidate("int8", worst=("crack", 0.2))]
    assert choose(tried, demands(max_label_drop=0.1), "size").winner is FP32
    choice = choose(tried, demands(max_label_drop=0.1), "size")
    assert "label-drop of crack 20.00 % misses 10.00 %" in reason(choice, "int8")
    assert choose(tried, demands(), "size").winner.name == "int8"


def test_a_candidate_whose_kernels_saturate_on_the_target_is_refused() -> None:
    choice = choose([FP32, candidate("int8", disagrees="answers otherwise")], demands(), "size")
    assert choice.winner is FP32
    assert reason(choice, "int8") == "target-outputs: answers otherwise"


def test_times_of_the_processor_beside_an_accelerator_decide_nothing() -> None:
    tried = [FP32, candidate("quick", latency_ms=0.1, size=200), candidate("small", latency_ms=9.0, size=50)]
    choice = choose(tried, demands(), "latency", declared=True)
    assert choice.winner.name == "small"
    assert choice.why.endswith("(latency of an accelerator is not measured here: size decides)")


def test_what_never_reached_the_target_keeps_the_reason_why() -> None:
    choice = choose([FP32, candidate("fp16", measured=False)], demands(), "size")
    assert (verdict(choice, "fp16"), reason(choice, "fp16")) == ("dropped", "beaten before the target")


def test_a_figure_exactly_at_its_limit_fits() -> None:
    assert missed(candidate(size=1000, latency_ms=10.0, value=0.9, drop=0.02), demands()) == []


def test_memory_is_compared_by_its_estimate_and_held_to_the_limit_as_measured() -> None:
    def with_estimate(one: Candidate, measured: int, estimated: int) -> Candidate:
        assert one.cost is not None
        cost = dataclasses.replace(one.cost, memory_bytes=measured, estimate_bytes=estimated)
        return dataclasses.replace(one, cost=cost)

    lean = with_estimate(candidate("lean"), 5000, 1000)  # a step up on this machine changes nothing
    assert choose([FP32, lean], demands(), "memory").winner is lean
    assert [miss.check for miss in missed(lean, demands(peakMemory=4000.0))] == ["peak-memory"]


def test_what_lies_beside_the_model_counts_against_the_limit_of_the_artifact() -> None:
    signature = {"inputs": [{"dtype": "float32", "shape": ["batch", 3, 224, 224]}], "outputs": []}
    beside = beside_bytes(signature, 8)
    assert 6.4e6 < beside < 6.5e6
    tight = dataclasses.replace(demands(artifactSize=beside + 50.0), beside_bytes=beside)
    assert [miss.check for miss in missed(candidate(size=51), tight)] == ["artifact-size"]
    assert missed(candidate(size=50), tight) == []


def test_the_pareto_set_is_marked() -> None:
    worse = candidate("worse", size=200, latency_ms=2.0, memory_bytes=2000, drop=0.01)
    choice = choose([FP32, candidate("good"), worse], demands(), "size")
    assert {one.candidate.name: one.pareto for one in choice.judged} == {
        "fp32": False,
        "good": True,
        "worse": False,
    }


FIGURES = st.builds(
    lambda size, latency, memory, drop: candidate(
        "any", size=size, latency_ms=latency, memory_bytes=memory, drop=drop, value=0.95 - drop
    ),
    st.integers(1, 2000),
    st.floats(0.01, 20),
    st.integers(1, 2_000_000),
    st.floats(-0.05, 0.3),
)


@given(st.lists(FIGURES, max_size=6), st.sampled_from(["latency", "size", "memory", "balanced"]))
def test_nothing_that_misses_a_demand_is_ever_chosen_and_fp32_is_never_beaten_by_worse(
    tried: list[Candidate], objective: Objective
) -> None:
    named = [
        dataclasses.replace(one, proposal=dataclasses.replace(one.proposal, recipe=f"r{index}"))
        for index, one in enumerate(tried)
    ]
    choice = choose([FP32, *named], demands(), objective)
    assert choice.fits  # fp32 meets them
    assert missed(choice.winner, demands()) == []
    ratio = next(one.ratio for one in choice.judged if one.candidate is choice.winner)
    assert ratio is not None
    assert choice.winner is FP32 or ratio <= 1 - MARGIN


def test_the_gate_report_carries_every_candidate_as_json() -> None:
    choice = choose([FP32, candidate("good"), candidate("gone", measured=False)], demands(), "size")
    search = json.loads(json.dumps(document(choice, "size", {"fp16": "no fp16"}, ["x"])))
    assert [row["candidate"] for row in rows(search)] == ["good", "fp32", "gone"]
    assert search["model"] == choice.winner.digest
    assert search["notApplicable"] == {"fp16": "no fp16"}


def test_a_candidate_survives_its_document() -> None:
    one = candidate(worst=("crack", 0.1), disagrees="x")
    assert Candidate.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    ("limits", "check"),
    [
        ({"instructions": {"load": 5}}, "instructions-load"),
        ({"instructions": {"inference": 5}}, "instructions-inference"),
        ({"latency": {"p95": 10.0, "p99": 0.5}}, "latency-p99"),
    ],
)
def test_a_candidate_is_held_to_every_limit_that_its_figures_can_tell_of(
    limits: dict[str, object], check: str
) -> None:
    one = candidate()
    assert one.cost is not None
    one = dataclasses.replace(one, cost=dataclasses.replace(one.cost, load_instructions=6))
    assert [miss.check for miss in missed(one, demands(**limits))] == [check]
