"""What every spec has in common: strict keys, camelCase in YAML, frozen values, described fields.

>>> class Lens(Spec):
...     focal_length: int
...     '''Focal length in millimetres.'''
>>> Lens.model_validate_json('{"focalLength": 8}').focal_length
8

The text under a field is its description: `edgewright.spec.schema` collects it for JSON Schemas and for
`edgewright explain`. (pydantic could, but it would read every source file at each start of the program.)
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler


# pydantic would look for plugins in every installed distribution, each time a program starts.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


@dataclass(frozen=True, eq=False)
class Text:
    """A form that text must have, with the sentence shown when it does not.

    The offending text itself is never part of the message: some of these fields attract secrets.

    Attributes:
        what: What it must be, with its article; completes "must be …".
        pattern: Regular expression (the subset that Python and ECMA-262 share), without anchors.
        examples: Values that are right.
        max_length: Longest allowed, in characters.
        fix: Turns a wrong text into what was probably meant, or into nothing useful.
    """

    what: str
    pattern: str
    examples: tuple[str, ...] = ()
    max_length: int = 4096
    fix: Callable[[str], str] | None = None

    def accepts(self, text: str) -> bool:
        """Whether `text` has this form."""
        return len(text) <= self.max_length and re.fullmatch(self.pattern, text) is not None

    def check(self, text: str) -> str:
        """Return `text`.

        Raises:
            PydanticCustomError: It does not have this form.
        """
        if self.accepts(text):
            return text
        message = f"must be {self.what}"
        fixed = self.fix(text) if self.fix else ""
        if fixed and self.accepts(fixed):
            message += f": write {fixed}"
        elif self.examples:
            message += f", such as {self.examples[0]}"
        raise PydanticCustomError("text", "{message}", {"message": message})

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Text stays text; only its form is checked."""
        return core_schema.no_info_after_validator_function(self.check, core_schema.str_schema(strict=True))

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the form for editors."""
        schema: dict[str, Any] = {"type": "string", "pattern": f"^(?:{self.pattern})$"}
        if self.examples:
            schema["examples"] = list(self.examples)
        return schema | {"patternErrorMessage": f"must be {self.what}"}


def _as_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


NAME = Text(
    "a name of lower-case letters, digits and single dashes, at most 63 characters",
    r"[a-z0-9]+(-[a-z0-9]+)*",
    ("raspberry-pi-4",),
    max_length=63,
    fix=_as_name,
)

Name = Annotated[str, NAME]
"""A name: lower-case letters, digits and single dashes (underscores would collide in Dagster keys)."""

Prose = Annotated[str, Text("text that says something", r"\s*\S[\s\S]*")]
"""Free text, not empty."""

Line = Annotated[str, Text("one line of text", r"\S(.*\S)?", max_length=200)]
"""One line of free text."""

FilePath = Annotated[str, Text("the path of a file or folder", r"(?!.*-----BEGIN)\S(.*\S)?", max_length=1024)]
"""A path, relative to the folder of fleet.yaml unless it is absolute."""

SemanticVersion = Annotated[
    str, Text("a version of three numbers", r"(0|[1-9]\d{0,8})(\.(0|[1-9]\d{0,8})){2}", ("1.0.0",))
]
"""A semantic version without pre-release or build parts; it is also a registry tag."""


class Spec(BaseModel):
    """Base of every mapping in a spec file."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        # Not pydantic's to_camel: importing its alias_generators module costs more than these five lines.
        alias_generator=lambda name: camel_case(name),
        validate_by_alias=True,
        validate_by_name=False,
        protected_namespaces=(),
        strict=True,
        allow_inf_nan=False,
        # Only the documents build validators, once each, when the first file is read.
        defer_build=True,
    )


def camel_case(name: str) -> str:
    """Return the YAML key of a Python field (`peak_memory` → `peakMemory`)."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


class Document(Spec):
    """Base of every spec file."""

    version: Literal[1]
    """Version of this file's format; always 1."""


def contradiction(message: str) -> PydanticCustomError:
    """Return the error of keys that contradict each other, to be raised by a validator."""
    return PydanticCustomError("contradiction", "{message}", {"message": message})
