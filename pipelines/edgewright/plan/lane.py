"""Lanes: every model × hardware class that must be built, and the address of each step on the way.

>>> str(StepId("exported", "digit-reader", "raspberry-pi-4"))
'digit-reader/exported/raspberry-pi-4'
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgewright.spec.load import Workspace


@dataclass(frozen=True, order=True)
class StepId:
    """One stage of one lane; `hardware_class` is None for the stages of a model as a whole."""

    stage: str
    model: str
    hardware_class: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.model, self.stage, self.hardware_class) if part)


@dataclass(frozen=True, order=True)
class Lane:
    """One model × one hardware class."""

    model: str
    hardware_class: str

    def __str__(self) -> str:
        return f"{self.model} on {self.hardware_class}"


def lanes(workspace: Workspace) -> Iterator[Lane]:
    """Yield every lane, models and classes in alphabetical order."""
    for name, model in sorted(workspace.models.items()):
        chosen = workspace.hardware if model.classes is None else model.classes
        for hardware_class in sorted(chosen):
            yield Lane(name, hardware_class)


def classes_of(workspace: Workspace, model: str) -> list[str]:
    """Return the hardware classes `model` is built for, in alphabetical order."""
    return [lane.hardware_class for lane in lanes(workspace) if lane.model == model]
