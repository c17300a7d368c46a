"""One spec file on its way from bytes to a checked document.

A file with mistakes still yields what is right in it, so that checks across files can report all at once:

>>> loaded = load_document(HardwareClass, root / "hardware" / "pi.yaml", "hardware/pi.yaml", "pi")
>>> loaded.complete, loaded.has("limits")
(False, True)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import to_json

from edgewright.spec.base import Document
from edgewright.spec.problem import Problem
from edgewright.spec.source import Path, Source
from edgewright.spec.yaml import read

D = TypeVar("D", bound=Document)


@dataclass(frozen=True)
class Loaded(Generic[D]):
    """What became of one file.

    Attributes:
        name: The name the file gives its subject (class, model).
        kind: Which document it should be.
        source: Where its values stand.
        document: The whole document when `complete`; otherwise only the fields that are right.
        complete: Whether the file has no problem of its own.
        problems: Its own problems.
    """

    name: str
    kind: type[D]
    source: Source
    document: D
    complete: bool
    problems: tuple[Problem, ...]

    def has(self, *fields: str) -> bool:
        """Whether these Python fields of `document` can be read."""
        return self.complete or all(field in self.document.__dict__ for field in fields)


def load_document(kind: type[D], file: FilePath, display: str, name: str) -> Loaded[D]:
    """Read and validate one file; mistakes end up in `problems`.

    Args:
        kind: The document it should be.
        file: Where it is.
        display: What messages call it: its path in the repository, with `/`.
        name: Name of its subject.
    """
    parsed = read(file, display)
    problems = list(parsed.problems)
    if not parsed.source.values:
        return Loaded(name, kind, parsed.source, kind.model_construct(), False, tuple(problems))
    try:
        # Through JSON, so that lists are accepted where fields are tuples while everything else stays strict.
        document = kind.model_validate_json(to_json(parsed.data))
    except ValidationError as error:
        from edgewright.spec.diagnose import diagnose  # not needed when all is well, which is nearly always

        problems += diagnose(error, kind, parsed.source, parsed.doubtful)
        partial = _partial(kind, parsed.data, error)
        return Loaded(name, kind, parsed.source, partial, False, tuple(problems))
    return Loaded(name, kind, parsed.source, document, not problems, tuple(problems))


def _partial(kind: type[D], data: Any, error: ValidationError) -> D:
    """Build a document of the fields that are valid on their own; the others stay unset."""
    from pydantic import TypeAdapter

    from edgewright.spec.diagnose import unknown_keys

    values: dict[str, Any] = {}
    data = _without(data, unknown_keys(error))
    for name, field in kind.model_fields.items():
        key = field.alias or name
        if not isinstance(data, Mapping):
            break
        if key not in data:
            if not field.is_required():
                values[name] = field.get_default(call_default_factory=True)
            continue
        annotation: Any = field.annotation
        for extra in field.metadata:
            annotation = Annotated[annotation, extra]
        try:
            values[name] = TypeAdapter(annotation).validate_json(to_json(data[key]), strict=True)
        except ValidationError:
            continue  # its problems are part of `error`
    partial = kind.model_construct()
    partial.__dict__.clear()  # model_construct fills in defaults, also of fields that are wrong in the file
    partial.__dict__.update(values)
    return partial


def _without(data: Any, paths: list[Path]) -> Any:
    import copy

    data = copy.deepcopy(data)
    for path in paths:
        at = data
        for step in path[:-1]:
            at = at[step]
        del at[path[-1]]
    return data
