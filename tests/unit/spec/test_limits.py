from __future__ import annotations

from edgewright.spec.limits import (
    effective_limits,
    effective_metric,
    effective_optimization,
    limit_sources,
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
        "accuracy-floor": "models/reader/model.yaml#metric.floor",
        "accuracy-drop": "models/reader/model.yaml#metric.maxDrop",
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
        "accuracy-floor": "models/reader/model.yaml:19",
        "accuracy-drop": "models/reader/model.yaml:16",
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
    }
