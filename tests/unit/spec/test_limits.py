from __future__ import annotations

from edgewright.spec.limits import (
    effective_limits,
    effective_metric,
    effective_optimization,
    limit_sources,
    limit_values,
)
from edgewright.spec.load import Workspace, load_fleet

from .conftest import Repository

OVERRIDE = """\
overrides:
  - hardwareClass: board
    metric: {floor: 0.8}
    limits:
      loadTime:
      latency: {p95: 20ms}
    optimization: {recipes: []}
"""


def loaded(repository: Repository, override: str = "") -> Workspace:
    repository.append("models/reader/model.yaml", override)
    return load_fleet(repository.root)


def test_without_an_override_the_sheet_and_the_model_decide(repository: Repository) -> None:
    workspace = loaded(repository)
    hardware, model = workspace.hardware["board"], workspace.models["reader"]
    assert effective_limits(hardware, model, "board") == hardware.limits
    assert effective_metric(model, "board") == model.metric
    assert effective_optimization(model, "board") == model.optimization
    assert limit_sources(model, "reader", "board") == {
        "artifact-size": "hardware/board.yaml#limits.artifactSize",
        "load-time": "hardware/board.yaml#limits.loadTime",
        "latency-p95": "hardware/board.yaml#limits.latency.p95",
        "latency-p99": "hardware/board.yaml#limits.latency.p99",
        "peak-memory": "hardware/board.yaml#limits.peakMemory",
        "power-cycle": "hardware/board.yaml#limits.powerCycle",
        "instructions-load": "hardware/board.yaml#limits.instructions.load",
        "instructions-inference": "hardware/board.yaml#limits.instructions.inference",
        "regression-load": "hardware/board.yaml#limits.regression",
        "regression-inference": "hardware/board.yaml#limits.regression",
        "accuracy-floor": "models/reader/model.yaml#metric.floor",
        "accuracy-drop": "models/reader/model.yaml#metric.maxDrop",
        "label-drop": "models/reader/model.yaml#metric.maxLabelDrop",
        "target-drop": "models/reader/model.yaml#metric.maxDrop",
        "provider-drop": "models/reader/model.yaml#metric.maxDrop",
    }


def test_an_override_replaces_only_what_it_sets(repository: Repository) -> None:
    workspace = loaded(repository, OVERRIDE)
    hardware, model = workspace.hardware["board"], workspace.models["reader"]
    limits = effective_limits(hardware, model, "board")
    assert (limits.latency.p95, limits.latency.p99, limits.load_time) == (20.0, 60.0, 2000.0)
    metric = effective_metric(model, "board")
    assert (metric.floor, metric.max_drop) == (0.8, 0.01)
    assert effective_optimization(model, "board").recipes == ()


def test_a_limit_is_traced_to_the_line_that_decides_it(repository: Repository) -> None:
    workspace = loaded(repository, OVERRIDE)
    lines = {}
    for check, source in limit_sources(workspace.models["reader"], "reader", "board").items():
        file, _, path = source.partition("#")
        keys = tuple(int(key) if key.isdigit() else key for key in path.split("."))
        lines[check] = workspace.line(file, keys)
    assert lines == {
        "artifact-size": "hardware/board.yaml:15",
        "load-time": "hardware/board.yaml:16",  # the override leaves it empty
        "latency-p95": "models/reader/model.yaml:22",
        "latency-p99": "hardware/board.yaml:19",
        "peak-memory": "hardware/board.yaml:20",
        "power-cycle": None,
        "instructions-load": None,  # neither file has one
        "instructions-inference": None,
        "regression-load": None,  # one per cent, because nobody says anything else
        "regression-inference": None,
        "accuracy-floor": "models/reader/model.yaml:19",
        "accuracy-drop": "models/reader/model.yaml:16",
        "label-drop": None,  # reported, not judged
        "target-drop": "models/reader/model.yaml:16",
        "provider-drop": "models/reader/model.yaml:16",
    }


def test_an_override_says_nothing_about_other_classes(repository: Repository) -> None:
    workspace = loaded(repository, OVERRIDE)
    hardware, model = workspace.hardware["board"], workspace.models["reader"]
    assert effective_limits(hardware, model, "other") == hardware.limits


def test_limits_are_dumped_in_the_words_of_the_yaml_as_numbers(repository: Repository) -> None:
    workspace = loaded(repository, OVERRIDE)
    limits = effective_limits(workspace.hardware["board"], workspace.models["reader"], "board")
    assert limits.model_dump(mode="json", by_alias=True) == {
        "artifactSize": 32_000_000,
        "loadTime": 2000.0,
        "latency": {"p95": 20.0, "p99": 60.0},
        "peakMemory": 256 * 2**20,
        "powerCycle": None,
        "instructions": None,
        "regression": 1.0,
    }


SHEET_BUDGET = "  peakMemory: 256MiB\n  instructions: {load: 120M, inference: 2.5M}\n  regression: 2%\n"


def budgeted(repository: Repository, limits: str) -> Workspace:
    """A class with an instruction budget and a model that says something else."""
    repository.edit("hardware/board.yaml", "  peakMemory: 256MiB\n", SHEET_BUDGET)
    return loaded(repository, f"overrides: [{{hardwareClass: board, limits: {limits}}}]\n")


def test_an_instruction_budget_is_narrowed_number_by_number(repository: Repository) -> None:
    workspace = budgeted(repository, "{instructions: {inference: 900k}, regression: 0.5%}")
    hardware, model = workspace.hardware["board"], workspace.models["reader"]
    found = limit_values(effective_limits(hardware, model, "board"))
    assert found["instructions-load"] == 120_000_000
    assert found["instructions-inference"] == 900_000
    assert found["regression-load"] == found["regression-inference"] == 0.5
    sources = limit_sources(model, "reader", "board")
    assert sources["instructions-load"] == "hardware/board.yaml#limits.instructions.load"
    assert sources["instructions-inference"] == (
        "models/reader/model.yaml#overrides.0.limits.instructions.inference"
    )
    assert sources["regression-load"] == "models/reader/model.yaml#overrides.0.limits.regression"


def test_a_model_may_have_a_budget_where_its_class_has_none(repository: Repository) -> None:
    workspace = loaded(
        repository, "overrides: [{hardwareClass: board, limits: {instructions: {inference: 900k}}}]\n"
    )
    limits = effective_limits(workspace.hardware["board"], workspace.models["reader"], "board")
    found = limit_values(limits)
    assert found["instructions-inference"] == 900_000
    assert "instructions-load" not in found


def test_a_limit_that_nobody_sets_has_no_value(repository: Repository) -> None:
    found = limit_values(loaded(repository).hardware["board"].limits)
    assert found == {
        "artifact-size": 32_000_000,
        "load-time": 2000.0,
        "latency-p95": 40.0,
        "latency-p99": 60.0,
        "peak-memory": 256 * 2**20,
        "regression-load": 1.0,
        "regression-inference": 1.0,
    }
