from __future__ import annotations

from edgewright.spec.baseline import text_of
from edgewright.spec.checks import checks_of
from edgewright.spec.limits import CHECKS
from edgewright.spec.load import load_fleet

from .conftest import SHEET, Repository, entry

FILE = "baselines/reader.yaml"


def found(repository: Repository, hardware_class: str = "board") -> tuple[str, ...]:
    return checks_of(load_fleet(repository.root), "reader", hardware_class)


def test_where_nobody_says_anything_a_lane_has_the_checks_of_every_lane(repository: Repository) -> None:
    assert found(repository) == CHECKS


def test_the_worst_label_is_a_check_where_the_model_or_its_override_limits_it(repository: Repository) -> None:
    repository.write("hardware/second.yaml", SHEET)
    model = "models/reader/model.yaml"
    repository.append(model, "overrides: [{hardwareClass: second, metric: {maxLabelDrop: 0.05}}]\n")
    assert found(repository, "second") == (*CHECKS, "label-drop")
    assert found(repository) == CHECKS
    repository.edit(model, "maxDrop: 0.01", "maxDrop: 0.01, maxLabelDrop: 0.1")
    assert found(repository) == (*CHECKS, "label-drop")


def test_a_budget_of_the_class_is_a_check_of_its_lanes(repository: Repository) -> None:
    repository.edit(
        "hardware/board.yaml", "peakMemory: 256MiB", "peakMemory: 256MiB\n  instructions: {load: 120M}"
    )
    assert found(repository) == (*CHECKS, "instructions-load")


def test_a_budget_of_a_model_is_a_check_on_that_class_only(repository: Repository) -> None:
    repository.write("hardware/second.yaml", SHEET)
    repository.append(
        "models/reader/model.yaml",
        "overrides: [{hardwareClass: second, limits: {instructions: {inference: 2.5M}}}]\n",
    )
    assert found(repository, "second") == (*CHECKS, "instructions-inference")
    assert found(repository) == CHECKS


def test_a_limit_on_growth_is_a_check_only_where_there_is_a_baseline(repository: Repository) -> None:
    repository.write("hardware/second.yaml", SHEET)
    repository.edit("hardware/board.yaml", "peakMemory: 256MiB", "peakMemory: 256MiB\n  regression: 2%")
    assert found(repository) == CHECKS
    repository.write(FILE, text_of("reader", [entry()]))
    assert found(repository) == (*CHECKS, "regression-load", "regression-inference")
    assert found(repository, "second") == CHECKS
