"""What a person sees of a model in the fleet's table, as far as its device can be believed to make sense."""

from __future__ import annotations

from typing import Any

import pytest

from edgewright.collect.fleet_table import _running


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"version": "1.0.0", "state": "running"}, "1.0.0"),
        ({"version": "1.0.0", "state": "running", "rung": None}, "1.0.0"),
        ({"version": "1.0.0", "state": "held"}, "1.0.0 (held)"),
        ({"version": "1.0.0", "state": "running", "rung": {"rung": "cpu-model"}}, "1.0.0 (cpu-model)"),
        ({"version": "1.0.0", "state": "held", "rung": {"rung": "factory"}}, "1.0.0 (held, factory)"),
        ({"version": None, "state": "absent", "rung": {"rung": "safe-output"}}, "absent"),
        ({"version": "1.0.0", "state": "running", "rung": ["nonsense"]}, "1.0.0"),
        ({"version": "1.0.0", "state": "running", "rung": {"rung": 5}}, "1.0.0 (?)"),
    ],
)
def test_a_model_is_told_with_where_it_stands_when_it_does_not_run_as_it_should(
    entry: dict[str, Any], told: str
) -> None:
    assert _running(entry) == told
