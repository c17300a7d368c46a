"""What a stage is given and what it gives back: the one signature all stages share.

A stage sees its spec slice and the files of earlier stages, nothing else, so its action key tells the whole
truth about what it read.

>>> def run(job: Job) -> Result:
...     (job.out / "model.onnx").write_bytes(job.inputs["exported/model.onnx"].read_bytes())
...     return Result(facts={"size_bytes": 3})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _silent(_message: str) -> None:
    return None


@dataclass(frozen=True)
class Job:
    """One execution of one stage.

    Attributes:
        root: The fleet's repository.
        model: Name of the model.
        hardware_class: Name of the class; None for stages of the model as a whole.
        spec: The slice of the specs this stage reads, in the words of the YAML, quantities as numbers.
        inputs: Files of earlier stages, `"<stage>/<file name>"` → path (read only).
        out: Empty folder; every file left there is an output of the stage.
        progress: Called with one short line when something worth telling happens.
    """

    root: Path
    model: str
    hardware_class: str | None
    spec: Mapping[str, Any]
    inputs: Mapping[str, Path]
    out: Path
    progress: Callable[[str], None] = field(default=_silent)


@dataclass(frozen=True)
class Result:
    """What a stage says about its outputs: figures for people (JSON values; units in the names)."""

    facts: Mapping[str, Any] = field(default_factory=dict)
