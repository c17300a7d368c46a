"""What fleet.yaml may compare with what."""

from __future__ import annotations

import pytest

from edgewright.spec.load import load_fleet
from unit.spec.conftest import Repository, only


def declare(repository: Repository, slot: str) -> None:
    repository.edit("fleet.yaml", "      - model: reader\n", f"      - {{model: reader, {slot}}}\n")


def test_an_experiment_sees_every_request_unless_it_says_otherwise(repository: Repository) -> None:
    declare(repository, "pin: 1.0.0, experiment: {name: wider, kind: shadow}")
    told = load_fleet(repository.root).fleet.groups[0].models[0].experiment
    assert told is not None and (told.share, told.version) == (100, None)


@pytest.mark.parametrize(
    ("slot", "message"),
    [
        (
            "experiment: {name: wider, kind: shadow}",
            "9:25: this compares a version with itself; pin the group to the version it runs, "
            "or name another version here",
        ),
        (
            "pin: 1.0.0, experiment: {name: wider, kind: ab, version: 1.0.0}",
            "9:37: this compares a version with itself; pin the group to the version it runs, "
            "or name another version here",
        ),
        (
            "pin: 1.0.0, experiment: {name: wider, kind: canary}",
            "9:69: 'canary' is not one of shadow, ab",
        ),
        (
            "pin: 1.0.0, experiment: {name: wider, kind: ab, share: 0%}",
            "9:80: a share lies above 0% and up to 100%; write 10%",
        ),
        (
            "pin: 1.0.0, experiment: {kind: ab}",
            "9:37: missing key 'name'",
        ),
    ],
)
def test_a_wrong_experiment_says_what_is_wrong(repository: Repository, slot: str, message: str) -> None:
    declare(repository, slot)
    assert only(repository).startswith(f"fleet.yaml:{message}")
