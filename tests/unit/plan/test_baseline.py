from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgewright.plan.action import Action
from edgewright.plan.baseline import LaneCost, lane_costs, renewed
from edgewright.plan.cache import Cache
from edgewright.plan.history import explain
from edgewright.plan.lane import Lane, StepId
from edgewright.plan.resolve import resolve
from edgewright.spec.baseline import ClassBaseline, baseline_file_of, text_of
from edgewright.spec.load import load_fleet

from .filled import BENCHMARK, fail, fill, replace

MODEL = "digit-reader"
PI = "raspberry-pi-4"
LANE = Lane(MODEL, PI)


@pytest.fixture
def fleet(workspace: Path) -> Path:
    keys = workspace / ".edgewright" / "keys"
    keys.mkdir(parents=True)
    (keys / "signing.pub").write_text("public key")
    return workspace


def cost(fleet: Path, lane: Lane = LANE) -> LaneCost:
    workspace, cache = load_fleet(fleet), Cache(fleet / "cache")
    found = lane_costs(workspace, cache, resolve(workspace, cache))
    assert [item.lane for item in found] == [Lane(*names) for names in workspace.lanes()]
    return next(item for item in found if item.lane == lane)


def filled(fleet: Path, *failing: str) -> Cache:
    cache = Cache(fleet / "cache")
    fill(load_fleet(fleet), cache, fleet / "scratch", frozenset(failing))
    return cache


def recorded(found: LaneCost, **changed: Any) -> ClassBaseline:
    assert found.now is not None
    return found.now.model_copy(update=changed)


def write(fleet: Path, *entries: ClassBaseline) -> Path:
    file = fleet / baseline_file_of(MODEL)
    file.parent.mkdir(exist_ok=True)
    file.write_text(text_of(MODEL, entries))
    return file


def test_a_published_lane_is_told_with_its_digest_its_counts_and_their_ruler(fleet: Path) -> None:
    cache = filled(fleet)
    found = cost(fleet)
    records = resolve(load_fleet(fleet), cache).records
    manifest = records[StepId("packaged", MODEL, PI)].files["manifest.json"]
    assert (found.state, found.then) == ("published", None)
    assert found.now is not None
    assert found.now.model_dump(by_alias=True) == {
        "hardwareClass": PI,
        "modelVersion": "1.0.0",
        "artifact": manifest,
        "target": "some core",
        "engine": "onnxruntime 1.31.1",
        "instructions": {"load": 50_000_000, "inference": 400_000},
    }


def test_a_lane_that_was_never_built_costs_nothing_known(fleet: Path) -> None:
    assert cost(fleet) == LaneCost(LANE, "waiting", None, None)


@pytest.mark.parametrize(
    "benchmark", [{}, {"counts": None}, {"counts": {**BENCHMARK["counts"], "engine": ""}}]
)
def test_a_benchmark_without_counts_is_no_cost(fleet: Path, benchmark: dict[str, Any]) -> None:
    filled(fleet)
    replace(fleet, LANE, "benchmarked", "benchmark.json", benchmark)
    assert cost(fleet).now is None


def test_only_what_is_published_becomes_the_baseline(fleet: Path) -> None:
    filled(fleet, PI)
    blocked, published = cost(fleet), cost(fleet, Lane(MODEL, "medical-cart-cpu"))
    assert (blocked.state, published.state) == ("blocked", "published")
    assert blocked.cause.startswith("latency-p95 50 ms misses 40 ms")
    assert renewed([blocked, published]) == [published.now]


def test_a_lane_that_is_not_published_keeps_the_baseline_it_has(fleet: Path) -> None:
    filled(fleet)
    old = recorded(cost(fleet), model_version="0.9.0")
    write(fleet, old)
    sheet = fleet / "hardware" / f"{PI}.yaml"
    sheet.write_text(sheet.read_text().replace("threads: 3", "threads: 2"))
    changed = cost(fleet)
    assert (changed.state, changed.then, changed.now) == ("waiting", old, None)
    assert renewed([changed]) == [old]


def test_growth_alone_can_be_accepted_and_only_on_demand(fleet: Path) -> None:
    filled(fleet, PI)
    fail(fleet, LANE, "regression-inference", "regression-load")
    found = cost(fleet)
    assert (found.state, found.only_regressed) == ("blocked", True)
    assert renewed([found]) == []
    assert renewed([found], accept=True) == [found.now]


def test_growth_is_not_accepted_together_with_anything_else(fleet: Path) -> None:
    filled(fleet, PI)
    fail(fleet, LANE, "regression-inference", "accuracy-floor")
    found = cost(fleet)
    assert found.only_regressed is False
    assert renewed([found], accept=True) == []


def test_a_lane_whose_gate_was_not_asked_is_not_accepted(fleet: Path) -> None:
    filled(fleet, PI)
    fail(fleet, LANE, "regression-inference")
    cache, workspace = Cache(fleet / "cache"), load_fleet(fleet)
    cache.forget(resolve(workspace, cache).records[StepId("gated", MODEL, PI)].key)
    assert renewed([cost(fleet)], accept=True) == []


def test_a_change_of_the_baseline_is_told_with_its_line_and_both_counts(fleet: Path) -> None:
    """The entry is a part of the gate's slice, under `baseline`."""
    filled(fleet)
    old = recorded(cost(fleet))
    new = old.model_copy(update={"instructions": old.instructions.model_copy(update={"inference": 404_000})})
    file = write(fleet, new)
    line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if "inference:" in text)
    before, after = (
        {"spec": {"baseline": entry.yardstick()}, "inputs": {}, "tools": {}, "stageVersion": 1}
        for entry in (old, new)
    )
    cause = explain(load_fleet(fleet), Action(StepId("gated", MODEL, PI), "key", after, {}), before)
    assert cause == f"{baseline_file_of(MODEL)}:{line} baseline.instructions.inference: 400000 → 404000"
