"""The baseline: `baselines/<model>.yaml`, what a model costs in guest instructions on each class as published.

It lies in Git beside the specs, so that a plan needs no registry and a pull request shows old and new counts.
`edgewright baseline --write` writes it; it is read and checked like every other spec.

>>> published = ClassBaseline.model_validate({
...     "hardwareClass": "raspberry-pi-4", "modelVersion": "1.0.0", "artifact": "sha256:" + 64 * "0",
...     "target": "qemu-aarch64 7.2, cpu cortex-a72", "engine": "onnxruntime 1.31.1",
...     "instructions": {"load": 45_123_456, "inference": 345_108}})
>>> print(text_of("digit-reader", [published]).partition("version: 1\\n")[2], end="")
classes:
  - hardwareClass: raspberry-pi-4
    modelVersion: 1.0.0
    artifact: sha256:0000000000000000000000000000000000000000000000000000000000000000
    target: "qemu-aarch64 7.2, cpu cortex-a72"
    engine: "onnxruntime 1.31.1"
    instructions:
      load: 45123456
      inference: 345108
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

from edgewright.spec.base import Document, Line, Name, SemanticVersion, Spec, Text
from edgewright.spec.scalar import AmbiguousScalar, scalar

BASELINES = "baselines"
"""Folder of the baselines, beside `fleet.yaml`."""

HEADER = """\
# What {model} costs in guest instructions, as published: the gate compares new builds with it.
# Written by `edgewright baseline --write`, never by hand. A number that grows here is a decision: review it.
"""

Digest = Annotated[
    str, Text("a digest: sha256: and 64 hexadecimal digits in lower case", r"sha256:[0-9a-f]{64}")
]


class Instructions(Spec):
    """Guest instructions, one thread."""

    load: int = Field(ge=1)
    """From the imported engine to a session that can run."""
    inference: int = Field(ge=1)
    """One-sample inference."""


class ClassBaseline(Spec):
    """What was published for one hardware class."""

    hardware_class: Name
    """The class."""
    model_version: SemanticVersion
    """Version of the model that was counted."""
    artifact: Digest
    """Digest of the manifest that was counted."""
    target: Line
    """Emulated processor it was counted on; counts of another one cannot be compared."""
    engine: Line
    """Engine it was counted with; counts of another one cannot be compared."""
    instructions: Instructions
    """Counts."""

    def yardstick(self) -> dict[str, Any]:
        """Return what a gate compares with, as JSON values in the words of the YAML.

        The digest is not among them: it changes with a word of the model's description, and no verdict should.
        """
        return self.model_dump(mode="json", by_alias=True, exclude={"hardware_class", "artifact"})


class Baseline(Document):
    """What one model costs on each hardware class: `baselines/<model>.yaml`."""

    classes: tuple[ClassBaseline, ...] = Field(min_length=1)
    """One entry per hardware class that has been published."""

    def index_of(self, hardware_class: str) -> int | None:
        """Return where a class's entry stands in `classes`, None when it has none."""
        names = [entry.hardware_class for entry in self.classes]
        return names.index(hardware_class) if hardware_class in names else None

    def of(self, hardware_class: str) -> ClassBaseline | None:
        """Return a class's entry, if it has one."""
        index = self.index_of(hardware_class)
        return None if index is None else self.classes[index]


def baseline_file_of(model: str) -> str:
    """Return the file of a model's baseline, relative to the repository."""
    return f"{BASELINES}/{model}.yaml"


def text_of(model: str, entries: Iterable[ClassBaseline]) -> str:
    """Return the file of these entries: the same text for the same entries, whatever their order."""
    lines = [HEADER.format(model=model) + "version: 1", "classes:"]
    for entry in sorted(entries, key=lambda entry: entry.hardware_class):
        lines += [
            f"  - hardwareClass: {_word(entry.hardware_class)}",
            f"    modelVersion: {_word(entry.model_version)}",
            f"    artifact: {_word(entry.artifact)}",
            f"    target: {_word(entry.target)}",
            f"    engine: {_word(entry.engine)}",
            "    instructions:",
            f"      load: {entry.instructions.load}",
            f"      inference: {entry.instructions.inference}",
        ]
    return "\n".join([*lines, ""])


def _word(text: str) -> str:
    """Return `text` as YAML reads it back: quoted unless it is one plain word (a class may be called `7`)."""
    try:
        plain = re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?", text) and scalar(text) == text
    except AmbiguousScalar:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)
