from __future__ import annotations

from pathlib import Path
from typing import Any

from edgewright.bench.memory import STEP_BYTES, peak_memory, rounded_up
from unit.bench.lane import RUNTIME
from unit.bench.target import models


def peak(case: models.Case, folder: Path, **runtime: Any) -> int | None:
    model, _ = case.write(folder)
    return peak_memory(model, {**RUNTIME, **runtime}, case.golden)


def test_a_model_takes_at_least_its_weights_and_not_the_engine(tmp_path: Path) -> None:
    small, large = peak(models.relu(), tmp_path), peak(models.weighing(64), tmp_path)
    assert small is not None and large is not None
    assert small % STEP_BYTES == large % STEP_BYTES == 0
    assert small < 20 * 2**20
    assert large - small > 64 * 2**20


def test_two_measurements_are_the_same_figure(tmp_path: Path) -> None:
    assert peak(models.relu(), tmp_path, threads=4) == peak(models.relu(), tmp_path, threads=4)


def test_what_does_not_run_has_no_figure(tmp_path: Path) -> None:
    assert peak(models.unknown_operator(), tmp_path) is None


def test_a_figure_is_rounded_to_the_step_above() -> None:
    assert [rounded_up(size) for size in (1, STEP_BYTES, STEP_BYTES + 1)] == [
        STEP_BYTES,
        STEP_BYTES,
        2 * STEP_BYTES,
    ]
