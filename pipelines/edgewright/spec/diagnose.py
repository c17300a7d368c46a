"""Turns what pydantic found wrong into problems a person can act on: what, where, what would be right.

>>> parsed = parse("hardware/pi.yaml", b"memroy: 4GiB")
>>> try:
...     HardwareClass.model_validate(parsed.data)
... except ValidationError as error:
...     print(diagnose(error, HardwareClass, parsed.source)[0].render())
hardware/pi.yaml:1:1: unknown key 'memroy'; did you mean 'memory'?
     1 | memroy: 4GiB
       | ^^^^^^
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from edgewright.spec.problem import Problem, did_you_mean, nearest
from edgewright.spec.redact import is_sensitive, redact_text
from edgewright.spec.source import Path, Source

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
    "greater_than": ("more than", "gt"),
    "less_than": ("less than", "lt"),
}
_YES = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def diagnose(
    error: ValidationError, kind: type[BaseModel], source: Source, doubtful: Set[Path] = frozenset()
) -> list[Problem]:
    """Return one problem for each mistake pydantic found in a file.

    Args:
        error: What validation raised.
        kind: The document that was validated.
        source: Where its values stand.
        doubtful: Paths a problem already speaks about; errors in them are left out.
    """
    by_path: dict[Path, list[dict[str, Any]]] = {}
    for detail in error.errors(include_url=False):
        item: dict[str, Any] = {**detail}
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # pydantic counts only the items that are right; the others have their own problems
        path, item["branch"] = _written_path(item["loc"], item["type"], source)
        if not any(path[: len(doubt)] == doubt for doubt in doubtful):
            by_path.setdefault(path, []).append(item)
    missing = {path for path, found in by_path.items() if found[0]["type"] == "missing"}
    problems = []
    for path in [path for path, found in by_path.items() if found[0]["type"] == "extra_forbidden"]:
        known = keys_at(kind, path[:-1])
        meant = nearest(str(path[-1]), known)
        if meant is not None:
            missing.discard((*path[:-1], meant))  # one mistake, one message
        hint = did_you_mean(str(path[-1]), known, "keys here are")
        shown = redact_text(str(path[-1])[:60])
        problems.append(source.problem(f"unknown key '{shown}'", path, value=False, suggestion=hint))
    for path in missing:
        problems.append(source.problem(f"missing key {path[-1]!r}", path[:-1], value=False))
    for path, found in by_path.items():
        if found[0]["type"] not in ("extra_forbidden", "missing"):
            message, hint = _message(found, any(is_sensitive(step) for step in path))
            problems.append(source.problem(message, path, suggestion=hint))
    return problems


def unknown_keys(error: ValidationError) -> list[Path]:
    """Return the paths of keys that are not part of the format."""
    return [item["loc"] for item in error.errors(include_url=False) if item["type"] == "extra_forbidden"]


def keys_at(kind: type[BaseModel], path: Path) -> list[str]:
    """Return the keys a mapping at `path` may have; empty when it may have any."""
    for model in _models_at(kind, path):
        return [field.alias or name for name, field in model.model_fields.items()]
    return []


def _models_at(annotation: Any, path: Path) -> Iterator[type[BaseModel]]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _models_at(get_args(annotation)[0], path)
    elif origin in (Union, UnionType):
        for option in get_args(annotation):
            yield from _models_at(option, path)
    elif origin is tuple and path:
        yield from _models_at(get_args(annotation)[0], path[1:])
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            yield annotation
        for name, field in annotation.model_fields.items() if path else ():
            if (field.alias or name) == path[0]:
                yield from _models_at(field.annotation, path[1:])


def _written_path(location: tuple[str | int, ...], kind: str, source: Source) -> tuple[Path, bool]:
    """Cut from pydantic's location what is not in the file: names of union branches, `[key]` markers."""
    if kind == "missing":
        return location, False
    path: Path = location
    while path and path not in source.values and path not in source.keys:
        path = path[:-1]
    return path, path != location


def _message(found: list[dict[str, Any]], sensitive: bool) -> tuple[str, str]:
    first = found[0]
    if len(found) > 1 and first["branch"]:
        expected = " or ".join(dict.fromkeys(_expected(item) for item in found))
        return f"must be {expected}, not {_shown(first['input'], sensitive)}", ""
    kind, value, context = first["type"], first["input"], first.get("ctx", {})
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, not {_shown(value, sensitive)}", _cast(kind, value, sensitive)
    if kind == "literal_error":
        choices = _choices(context)
        if len(choices) == 1:
            return f"must be {choices[0]}, not {_shown(value, sensitive)}", ""
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        if hint and len(choices) > 8:
            return f"{_shown(value, sensitive)} is not known here", hint
        return f"{_shown(value, sensitive)} is not one of {', '.join(choices)}", hint
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"must be {words} {context[key]}, not {_shown(value, sensitive)}", ""
    if kind in ("too_short", "too_long"):
        words = "at least" if kind == "too_short" else "at most"
        count = context.get("min_length", context.get("max_length"))
        return f"must have {words} {count} item{'s'[: count != 1]}", ""
    if kind in ("text", "quantity"):
        message, _, hint = str(first["msg"]).partition(": write ")
        if hint and not sensitive:
            return message, f"write {hint}"
        return (message if kind == "quantity" and not sensitive else str(first["msg"])), ""
    return str(first["msg"]), ""


def _expected(item: dict[str, Any]) -> str:
    if item["type"] == "literal_error":
        return " or ".join(_choices(item["ctx"]))
    if item["type"] in _BOUNDS:
        words, key = _BOUNDS[item["type"]]
        return f"{words} {item['ctx'][key]}"
    return _EXPECTED.get(item["type"], str(item["msg"]))


def _choices(context: dict[str, Any]) -> list[str]:
    expected = str(context.get("expected", ""))
    return re.findall(r"'([^']*)'", expected) or [expected]


def _shown(value: Any, sensitive: bool) -> str:
    match value:
        case None:
            return "empty"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _ if sensitive:
            return "what is written here"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
    text = redact_text(str(value))
    text = text if len(text) <= 60 else text[:59] + "…"
    return "'" + "".join(char if char.isprintable() else " " for char in text) + "'"


def _cast(kind: str, value: Any, sensitive: bool) -> str:
    if sensitive or isinstance(value, (dict, list)) or value is None:
        return ""
    word = str(value)[:40]
    if kind == "string_type":
        return f'put it in quotes: "{word.lower() if isinstance(value, bool) else word}"'
    if kind == "bool_type" and word.lower() in _YES:
        return f"write {_YES[word.lower()]}"
    number = {"int_type": r"-?[0-9]{1,9}", "float_type": r"-?[0-9]{1,9}(\.[0-9]{1,9})?"}.get(kind)
    if number and isinstance(value, str) and re.fullmatch(number, word):
        return f"write {word} without quotes"
    if kind == "float_type" and re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,4})?%", word):
        return f"write {float(word[:-1]) / 100:g}"
    if kind in ("tuple_type", "list_type") and re.fullmatch(r"[\w./-]+", word):
        return f"write [{redact_text(word)}]"
    return ""
