from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewright.spec.schema import KINDS, schema_of
from edgewright.spec.yaml import read

Schema = dict[str, Any]
ROOT = Path(__file__).resolve().parents[3]


def complaints(value: Any, schema: Schema, root: Schema, path: str = "") -> Iterator[str]:
    """The part of JSON Schema 2020-12 that the generated schemas use, applied to a value."""
    if "$ref" in schema:
        yield from complaints(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, path)
    if "anyOf" in schema and all(any(complaints(value, option, root)) for option in schema["anyOf"]):
        yield f"{path}: no alternative fits"
    if "const" in schema and value != schema["const"]:
        yield f"{path}: not {schema['const']}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: not one of {schema['enum']}"
    types = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }
    allowed = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type")
    if allowed and not any(isinstance(value, types[name]) for name in allowed):
        yield f"{path}: not {' or '.join(allowed)}"
        return
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: {schema['patternErrorMessage']}"
    if "minimum" in schema and value < schema["minimum"] or "maximum" in schema and value > schema["maximum"]:
        yield f"{path}: out of range"
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"{path}: too few"
        for index, item in enumerate(value):
            yield from complaints(item, schema.get("items", {}), root, f"{path}[{index}]")
    if isinstance(value, dict):
        yield from (f"{path}: {key} is missing" for key in schema.get("required", ()) if key not in value)
        for key, item in value.items():
            if key in schema.get("properties", {}):
                yield from complaints(item, schema["properties"][key], root, f"{path}.{key}")
            elif schema.get("additionalProperties") is False and "patternProperties" not in schema:
                yield f"{path}: {key} is unknown"


def mappings_of(schema: Schema) -> Iterator[tuple[str, Schema]]:
    yield "", schema
    yield from schema["$defs"].items()


@pytest.mark.parametrize("kind", KINDS)
def test_every_property_has_a_description_for_the_editors_hover(kind: str) -> None:
    missing = [
        f"{name}.{key}"
        for name, part in mappings_of(schema_of(kind))
        for key, entry in part.get("properties", {}).items()
        if len(entry.get("description", "")) < 4
    ]
    assert not missing


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_keys_are_errors_in_the_editor_too(kind: str) -> None:
    open_ended = [
        name
        for name, part in mappings_of(schema_of(kind))
        if part.get("type") == "object" and part.get("additionalProperties") is not False
    ]
    assert not open_ended


@pytest.mark.parametrize("kind", KINDS)
def test_every_reference_leads_somewhere(kind: str) -> None:
    schema = schema_of(kind)
    assert set(re.findall(r"#/\$defs/(\w+)", repr(schema))) <= set(schema["$defs"])


def test_the_editor_accepts_what_is_shipped() -> None:
    files = [("fleet", ROOT / "fleet.yaml")]
    files += [("hardware", file) for file in sorted((ROOT / "hardware").glob("*.yaml"))]
    files += [("model", file) for file in sorted((ROOT / "models").glob("*/model.yaml"))]
    assert len(files) == 11
    files += [("baseline", file) for file in sorted((ROOT / "baselines").glob("*.yaml"))]
    for kind, file in files:
        schema = schema_of(kind)
        assert list(complaints(read(file, file.name).data, schema, schema, file.name)) == []


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("limits", "latency", "p95"), "40", "must be a duration: a number and one of us, ms, s"),
        (("limits", "latency", "p95"), 40, "not string"),
        (("storage", "kind"), "floppy", "not one of"),
        (
            ("limits", "instructions"),
            {"load": "120m"},
            "must be a count: a number, alone or with one of k, M, G, T",
        ),
        (("limits", "instructions"), {"load": []}, "not string or number"),
        (("cpu", "cores"), 0, "out of range"),
        (("cpu", "speed"), "fast", "speed is unknown"),
    ],
)
def test_the_editor_refuses_what_validate_refuses(path: tuple[str, ...], value: Any, complaint: str) -> None:
    schema = schema_of("hardware")
    data = read(ROOT / "hardware" / "raspberry-pi-4.yaml", "x").data
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    found = list(complaints(data, schema, schema))
    assert len(found) == 1
    assert complaint in found[0]


def test_defaults_are_shown_the_way_people_write_them() -> None:
    assert schema_of("hardware")["$defs"]["Poll"]["properties"]["jitter"]["default"] == "20%"
    assert schema_of("fleet")["$defs"]["Expiry"]["properties"]["timestamp"]["default"] == "7d"


@pytest.mark.parametrize("count", ["2.5M", 345_108])
def test_the_editor_takes_a_count_with_and_without_a_unit(count: str | int) -> None:
    schema = schema_of("hardware")
    entry = schema["$defs"]["InstructionLimits"]["properties"]["inference"]
    assert list(complaints(count, entry, schema)) == []


def test_optional_keys_offer_no_null() -> None:
    for kind in KINDS:
        assert "null" not in repr(schema_of(kind))


def test_every_default_and_example_fits_its_own_schema() -> None:
    for kind in KINDS:
        schema = schema_of(kind)
        for name, part in mappings_of(schema):
            for key, entry in part.get("properties", {}).items():
                for value in [
                    *entry.get("examples", ()),
                    *([entry["default"]] if "default" in entry else ()),
                ]:
                    assert list(complaints(value, entry, schema)) == [], f"{name}.{key}: {value}"


def test_the_same_schema_comes_out_every_time() -> None:
    assert repr(schema_of("model")) == repr(schema_of("model"))
