"""What a sheet may say about a model for the processor beside."""

from __future__ import annotations

import pytest

from edgewright.plan.lane import StepId
from edgewright.plan.slices import benchmarked, gated, optimized, searched
from edgewright.spec.checks import checks_of
from edgewright.spec.load import load_fleet
from unit.spec.conftest import Repository, only

SHEET = "hardware/board.yaml"
PROVIDERS = "  providers: [CPUExecutionProvider]\n"
GPU = "  providers: [CUDAExecutionProvider, CPUExecutionProvider]\n"


@pytest.fixture
def gpu(repository: Repository) -> Repository:
    repository.edit(SHEET, PROVIDERS, GPU)
    repository.edit(
        SHEET,
        "power:",
        "accelerator: {kind: gpu, name: A card, computeCapability: '7.5', memory: 8GiB}\npower:",
    )
    repository.edit(SHEET, "{method: qemu-user, cpu: cortex-a72}", "{method: declared}")
    return repository


def test_it_is_planned_and_gated_where_the_sheet_asks_and_nothing_is_measured_again(gpu: Repository) -> None:
    step = StepId("searched", "reader", "board")
    before = load_fleet(gpu.root)
    gpu.edit(SHEET, GPU, GPU + "  cpuFallback: true\n")
    after = load_fleet(gpu.root)
    assert searched(before, step) == searched(after, step)
    assert benchmarked(before, step) == benchmarked(after, step)
    assert "cpuFallback" not in optimized(before, step)
    assert optimized(after, step)["cpuFallback"] is True
    assert gated(after, step)["cpuFallback"] is True
    added = set(checks_of(after, "reader", "board")) - set(checks_of(before, "reader", "board"))
    assert added == {"fallback-floor", "fallback-drop"}


def test_beside_a_model_for_the_processor_it_would_be_the_same_again(repository: Repository) -> None:
    repository.edit(SHEET, PROVIDERS, PROVIDERS + "  cpuFallback: true\n")
    assert "'cpuFallback' has no effect: CPUExecutionProvider is the first provider" in only(repository)
