"""What a sheet may say about how applications take up an update."""

from __future__ import annotations

from edgewright.plan.lane import StepId
from edgewright.plan.slices import benchmarked, optimized, searched
from edgewright.spec.load import load_fleet
from unit.spec.conftest import Repository, only

SHEET = "hardware/board.yaml"
PROVIDERS = "  providers: [CPUExecutionProvider]\n"


def test_it_goes_to_the_manifest_and_nothing_is_measured_again(repository: Repository) -> None:
    step = StepId("searched", "reader", "board")
    before = load_fleet(repository.root)
    repository.edit(SHEET, PROVIDERS, PROVIDERS + "  swap: after-release\n")
    after = load_fleet(repository.root)
    assert searched(before, step) == searched(after, step)
    assert benchmarked(before, step) == benchmarked(after, step)
    assert optimized(after, step) == {**optimized(before, step), "swap": "after-release"}


def test_another_word_is_an_error_that_says_which_there_are(repository: Repository) -> None:
    repository.edit(SHEET, PROVIDERS, PROVIDERS + "  swap: never\n")
    told = only(repository)
    assert "beside" in told
    assert "after-release" in told
