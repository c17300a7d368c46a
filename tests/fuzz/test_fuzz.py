"""Every parser of foreign bytes with a few hundred inputs each; `make fuzz` tries a hundred thousand and more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fuzz.mutation import mutants
from fuzz.target import Target, tidy
from fuzz.targets import TARGETS

MUTANTS = 250


@pytest.fixture(autouse=True, scope="session")  # workers come back to this module: what is made once stays
def _tidy() -> Iterator[None]:
    yield
    tidy()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: str(target.name))
def test_foreign_bytes_end_in_a_documented_error(target: Target) -> None:
    for data in mutants(target.seeds(), MUTANTS, target.name):
        try:
            target.run(data)
        except Exception as crash:
            raise AssertionError(f"{target.name} crashes on {data!r}") from crash


def test_real_documents_are_understood() -> None:
    """Otherwise every input would be refused at the door, and nothing behind it would be tried."""
    understood = 0
    for target in TARGETS:
        for data in target.seeds():
            try:
                target.parse(data)
            except target.errors:
                continue
            except Exception:  # noqa: BLE001, S112  the other test's business
                continue
            understood += 1
            break
    assert understood == len(TARGETS)
