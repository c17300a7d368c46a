from __future__ import annotations

import doctest

import pytest

from edgewright.plan import figures
from edgewright.plan.figures import shown


def test_the_example_at_the_top_is_true() -> None:
    assert doctest.testmod(figures).failed == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (345_108, "345,108"), (12_000_000_001, "12,000,000,001"), (None, "not measured")],
)
def test_instructions_are_shown_to_the_last_one(value: float | None, text: str) -> None:
    assert shown(value, "instructions") == text


def test_a_share_that_shrinks_is_shown_with_its_sign() -> None:
    assert shown(-0.031, "ratio") == "-3.10 %"
