"""Writing a calibration into a hardware sheet: the figures under `emulation` change, every other byte stays.

>>> text = "emulation:\\n  method: native # here\\n  threadSpeedup: 1.5\\nlimits: {}\\n"
>>> print(with_figures(text, {"threadSpeedup": 1.2, "fitError": 6.1}), end="")
emulation:
  method: native # here
  threadSpeedup: 1.2
  fitError: 6.1%
limits: {}

A comment behind a figure that is replaced goes with it: it spoke of the old one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from edgewright.errors import SpecError
from edgewright.spec.emulation import Emulation
from edgewright.spec.quantity import PERCENT
from edgewright.spec.yaml import Parsed, parse

BLOCK = "emulation"
FIGURES = (
    "cyclesPerInstruction", "cyclesByKind", "loading", "threadSpeedup", "calibration", "calibratedOn", "fitError",
)  # fmt: skip
"""Keys of the block that a calibration decides, in the order in which they are written."""


def with_figures(text: str, figures: Mapping[str, Any], name: str = "the sheet") -> str:
    """Return a sheet's text with other figures.

    Args:
        text: Content of a valid sheet.
        figures: Key of FIGURES → value; those that are not here are taken out.
        name: What messages call the file.

    Raises:
        SpecError: the block is written in a way in which single lines cannot be replaced.
    """
    before = parse(name, text.encode())
    lines = text.splitlines(keepends=True)
    keys = _keys(before, name)
    end_of_line = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    spans = {key: _span(lines, keys, key, before) for key in keys}
    indent = " " * (before.source.keys[(BLOCK, next(iter(keys)))].col - 1)
    fresh = [line + end_of_line for line in _rendered(figures, indent)]
    replaced = [spans[key] for key in keys if key in FIGURES]
    place = min(start for start, _ in replaced) if replaced else max(stop for _, stop in spans.values())
    gone = {number for start, stop in replaced for number in range(start, stop)}
    if place == len(lines) and lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += end_of_line
    result: list[str] = []
    for number, line in enumerate([*lines, ""]):
        if number == place:
            result += fresh
        if number not in gone:
            result.append(line)
    changed = "".join(result)
    _check(before, parse(name, changed.encode()), figures, name)
    return changed


def _keys(parsed: Parsed, name: str) -> list[str]:
    """Return the block's keys in their order.

    Raises:
        SpecError: there is no block with one key a line.
    """
    source, path = parsed.source, (BLOCK,)
    if parsed.problems or path not in source.keys or not isinstance(parsed.data[BLOCK], dict):
        raise SpecError(f"{name} has no valid {BLOCK}", hint="edgewright validate")
    keys = list(parsed.data[BLOCK])
    numbers = [source.keys[path].line, *(source.keys[(BLOCK, key)].line for key in keys)]
    if len(set(numbers)) < len(numbers):
        raise SpecError(
            f"{name}: {BLOCK} is written on one line, so its figures cannot be replaced one by one",
            hint=f"write every key of {BLOCK} on a line of its own",
        )
    return keys


def _span(lines: Sequence[str], keys: Sequence[str], key: str, parsed: Parsed) -> tuple[int, int]:
    """Return the first line of a key (from 0) and the one after its value; comments that follow are not its own."""
    source = parsed.source
    start = source.keys[(BLOCK, key)].line - 1
    later = [mark.line - 1 for path, mark in source.keys.items() if len(path) == 1 and mark.line - 1 > start]
    later += [line - 1 for other in keys if (line := source.keys[(BLOCK, other)].line) - 1 > start]
    stop = min([*later, len(lines)])
    while stop > start + 1 and re.fullmatch(r"\s*(#.*)?", lines[stop - 1].rstrip("\r\n")):
        stop -= 1
    return start, stop


def _rendered(figures: Mapping[str, Any], indent: str) -> list[str]:
    return [line for key in FIGURES if key in figures for line in _lines(key, figures[key], indent)]


def _lines(key: str, value: Any, indent: str) -> list[str]:
    if isinstance(value, Mapping):
        return [
            f"{indent}{key}:",
            *(line for inner in value for line in _lines(inner, value[inner], indent + "  ")),
        ]
    if key == "fitError":
        return [f"{indent}{key}: {PERCENT.format(value)}"]
    if isinstance(value, str):
        plain = re.fullmatch(r"[a-z][a-z-]*", value)
        return [f"{indent}{key}: {value if plain else json.dumps(value, ensure_ascii=False)}"]
    return [f"{indent}{key}: {_number(value)}"]


def _number(value: float) -> str:
    """Return a number as YAML 1.2 and a person read it: no exponent.

    >>> _number(0.00004), _number(123456789.0), _number(1.5)
    ('0.00004', '123456789', '1.5')
    """
    return f"{value:.12f}".rstrip("0").rstrip(".")


def _check(before: Parsed, after: Parsed, figures: Mapping[str, Any], name: str) -> None:
    """Make sure that the new text is a valid sheet in which nothing but the figures is new.

    Raises:
        SpecError: it is not: better no calibration than a broken sheet.
    """
    if after.problems:
        raise SpecError(f"{name}: the figures cannot be written: {after.problems[0].render()}")
    old, new = dict(before.data), dict(after.data)
    kept, block = dict(old.pop(BLOCK)), dict(new.pop(BLOCK))
    for key in FIGURES:
        kept.pop(key, None)
        block.pop(key, None)
    if (old, kept) != (new, block) or set(after.data[BLOCK]) - set(kept) != set(figures):
        raise SpecError(f"{name}: the figures cannot be written without changing something else")
    try:
        Emulation.model_validate_json(to_json(after.data[BLOCK]))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise SpecError(f"{name}: the figures make no sense as {where}: {first['msg']}") from error
