"""What every spec has in common: strict keys, camelCase in YAML, frozen values, descriptions from docstrings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=63)]
"""A name: lower-case letters, digits and single dashes (underscores would collide in Dagster keys)."""


class Spec(BaseModel):
    """Base of every mapping in a spec file."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        strict=True,
    )


class Document(Spec):
    """Base of every spec file."""

    version: Literal[1]
    """Version of this file's format; always 1."""
