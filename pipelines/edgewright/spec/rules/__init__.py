"""What a single field cannot know: rules between fields, and between files.

A rule names the fields it reads and is left out when one of them is wrong in itself, so that no mistake is
reported twice:

>>> @rule(HardwareClass, "memory")
... def models_fit_in_memory(hardware, context):
...     if hardware.memory.for_models > hardware.memory.total:
...         yield Finding(("memory", "forModels"), "more than the whole memory")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, NamedTuple, TypeVar

from edgewright.spec.base import Document
from edgewright.spec.baseline import Baseline
from edgewright.spec.device import Device
from edgewright.spec.document import Loaded
from edgewright.spec.fleet import Fleet
from edgewright.spec.hardware import HardwareClass
from edgewright.spec.model import Model
from edgewright.spec.problem import Problem
from edgewright.spec.source import Path

F = TypeVar("F", bound=Callable[..., Iterator["Finding"]])


class Finding(NamedTuple):
    """One broken rule.

    Attributes:
        path: Where in the file under check.
        message: What is wrong.
        suggestion: What would be right.
        value: Whether to point at the value; otherwise at the key.
    """

    path: Path
    message: str
    suggestion: str = ""
    value: bool = True


@dataclass(frozen=True)
class Draft:
    """All files of a repository before anything is known to be right."""

    root: FilePath
    fleet: Loaded[Fleet]
    hardware: Mapping[str, Loaded[HardwareClass]]
    models: Mapping[str, Loaded[Model]]
    baselines: Mapping[str, Loaded[Baseline]]
    devices: Mapping[str, Loaded[Device]] = field(default_factory=dict)

    def files(self) -> list[Loaded[Any]]:
        """Return every file."""
        return [
            self.fleet,
            *self.hardware.values(),
            *self.models.values(),
            *self.baselines.values(),
            *self.devices.values(),
        ]


class Context(NamedTuple):
    """What a rule may look at besides the document itself."""

    draft: Draft
    loaded: Loaded[Any]


_RULES: list[tuple[type[Document], tuple[str, ...], Callable[..., Iterator[Finding]]]] = []


def rule(kind: type[Document], *needs: str) -> Callable[[F], F]:
    """Register a rule over documents of `kind` that reads the fields `needs`."""

    def register(function: F) -> F:
        _RULES.append((kind, needs, function))
        return function

    return register


def broken_rules(draft: Draft) -> list[Problem]:
    """Return a problem for every rule that some file breaks."""
    # Imported for their registrations; they import this module.
    from edgewright.spec.rules import (  # noqa: F401
        baseline,
        condition,
        device,
        encryption,
        fleet,
        hardware,
        model,
        policy,
        safe_output,
        variant,
    )

    problems = []
    for loaded in draft.files():
        context = Context(draft, loaded)
        for kind, needs, function in _RULES:
            if loaded.kind is kind and loaded.has(*needs):
                for found in function(loaded.document, context):
                    problems.append(
                        loaded.source.problem(
                            found.message, found.path, value=found.value, suggestion=found.suggestion
                        )
                    )
    return problems


def repeated(items: Iterable[Any]) -> Iterator[tuple[int, int, Any]]:
    """Yield (index, first index, item) of every item that came before."""
    first: dict[Any, int] = {}
    for index, item in enumerate(items):
        if item in first:
            yield index, first[item], item
        first.setdefault(item, index)
