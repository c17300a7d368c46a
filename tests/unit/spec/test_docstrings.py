from __future__ import annotations

import doctest
import importlib
from typing import Any

import pytest

from edgewright.spec.hardware import HardwareClass
from edgewright.spec.yaml import parse


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("base", {}),
        ("baseline", {}),
        ("compose", {}),
        ("diagnose", {"parse": parse, "HardwareClass": HardwareClass}),
        ("explain", {}),
        ("problem", {}),
        ("quantity", {}),
        ("redact", {}),
        ("scalar", {}),
        ("schema", {}),
        ("source", {}),
        ("yaml", {}),
    ],
)
def test_the_example_at_the_top_of_a_module_is_true(module: str, names: dict[str, Any]) -> None:
    tested = importlib.import_module(f"edgewright.spec.{module}")
    results = doctest.testmod(tested, extraglobs=names, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert results.attempted > 0
    assert results.failed == 0
