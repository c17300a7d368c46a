"""JSON Schemas of the kinds of spec files, for editors (yaml-language-server) and `explain`.

>>> schema_of("hardware")["$defs"]["Latency"]["properties"]["p95"]["examples"]
['30ms', '1.5s']

Descriptions are the texts under the fields of the pydantic models.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from edgewright.spec.base import Document
from edgewright.spec.baseline import Baseline
from edgewright.spec.device import Device
from edgewright.spec.fleet import Fleet
from edgewright.spec.hardware import HardwareClass
from edgewright.spec.model import Model
from edgewright.spec.quantity import Quantity

KINDS: dict[str, type[Document]] = {
    "fleet": Fleet,
    "hardware": HardwareClass,
    "model": Model,
    "baseline": Baseline,
    "device": Device,
}
"""Kind of file → its document; the kind is also the first word of an `explain` path."""

FILES = {
    "fleet": "fleet.yaml",
    "hardware": "hardware/*.yaml",
    "model": "models/*/model.yaml",
    "baseline": "baselines/*.yaml",
    "device": "devices/*.yaml",
}
"""Kind of file → which files are of it."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Generator(GenerateJsonSchema):
    """Without titles made from field names: they tell nothing the key does not."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one kind of file.

    Args:
        kind: A key of `KINDS`.
    """
    document = KINDS[kind]
    schema: dict[str, Any] = document.model_json_schema(by_alias=True, schema_generator=_Generator)
    models = _models_of(document)
    for name, part in {**schema.get("$defs", {}), document.__name__: schema}.items():
        if name in models:  # the others are plain types, such as any JSON value
            _describe(models[name], part)
    schema["$schema"] = DIALECT
    cleaned: dict[str, Any] = _without_null(schema)
    return cleaned


def _describe(model: type[BaseModel], part: dict[str, Any]) -> None:
    """Put field descriptions and readable defaults into the schema of one model."""
    part.pop("title", None)
    texts = {name: text for base in reversed(model.__mro__) for name, text in _field_texts(base).items()}
    for name, field in model.model_fields.items():
        entry = part["properties"][field.alias or name]
        entry["description"] = _longer(texts[name], _own_text(field.annotation))
        quantity = next((item for item in field.metadata if isinstance(item, Quantity)), None)
        if quantity is not None and isinstance(field.default, (int, float)):
            entry["default"] = quantity.format(field.default)


def _longer(field: str, model: str) -> str:
    """Of what a field and what its mapping say about themselves, the one that says more."""
    return model if len(model) > len(field) else field


def _own_text(annotation: Any) -> str:
    for option in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return inspect.getdoc(option) or ""
    return ""


def _models_of(document: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Every model a document is made of, by class name."""
    found: dict[str, type[BaseModel]] = {}

    def visit(annotation: Any) -> None:
        for argument in getattr(annotation, "__args__", ()):
            visit(argument)
        if not isinstance(annotation, type) or not issubclass(annotation, BaseModel):
            return
        if annotation.__name__ not in found:
            found[annotation.__name__] = annotation
            for field in annotation.model_fields.values():
                visit(field.annotation)

    visit(document)
    return found


@cache
def _field_texts(model: type) -> dict[str, str]:
    """Return field → the string literal right below it in the source of `model` (PEP 258)."""
    for node in _classes_of(model.__module__) if model.__module__.startswith("edgewright.") else ():
        if node.name == model.__name__:
            return {
                item.target.id: inspect.cleandoc(text.value.value)
                for item, text in zip(node.body, node.body[1:], strict=False)
                if isinstance(item, ast.AnnAssign)
                and isinstance(item.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            }
    return {}


@cache
def _classes_of(module: str) -> tuple[ast.ClassDef, ...]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return tuple(node for node in tree.body if isinstance(node, ast.ClassDef))


def _without_null(node: Any) -> Any:
    """Drop `null` alternatives: leaving a key out is how a person says nothing."""
    if isinstance(node, list):
        return [_without_null(item) for item in node]
    if not isinstance(node, dict):
        return node
    # Only a schema has a list here; a field that happens to be called `anyOf` has a mapping.
    options = node.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        rest = [item for item in options if item != {"type": "null"}]
        node = {key: value for key, value in node.items() if key != "anyOf"}
        node = {**rest[0], **node} if len(rest) == 1 else {**node, "anyOf": rest}
    if "default" in node and node["default"] is None:
        node = {key: value for key, value in node.items() if key != "default"}
    return {key: _without_null(value) for key, value in node.items()}
