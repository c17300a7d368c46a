"""The stages of a lane: what each reads from the specs, what it needs from earlier stages, which tools shape its bytes.

The table `STAGES` is the whole pipeline. A stage's `version` is raised when its code starts to give another result for
the same input; its `reads` returns the slice of the specs it may see, which is also all that its action key knows.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from edgewright.plan import slices
from edgewright.plan.lane import StepId
from edgewright.plan.tree import files_below
from edgewright.spec.load import Workspace
from edgewright.spec.model import Model
from edgewright_agent.contract import (
    FILE_CPU_MODEL,
    FILE_CPU_RUNTIME,
    FILE_DATA,
    FILE_DRIFT,
    FILE_GOLDEN,
    FILE_LABELS,
    FILE_MODEL,
    FILE_RUNTIME,
)


@dataclass(frozen=True)
class Stage:
    """One step of every lane (or, when `per_model`, of every model).

    Attributes:
        entry: `module:function` that does it, imported only when it runs.
        version: Raised when the same input would give another result.
        needs: Earlier stages whose files it reads.
        only: Stage → the files of it that are read, where not all are; a change of the others changes nothing here.
        reads: Returns the spec slice it sees.
        tools: Distributions whose versions are part of the action key.
        code: Whether it runs the Python beside `model.yaml`, which may read any file there.
        host: Whether its figures belong to the machine that made them.
        place: `module:function` that says of a lane's spec slice which emulators and userlands its figures depend on.
    """

    name: str
    entry: str
    version: int
    reads: Callable[[Workspace, StepId], slices.Slice]
    needs: tuple[str, ...] = ()
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tools: tuple[str, ...] = ()
    code: bool = False
    host: bool = False
    per_model: bool = False
    place: str | None = None


_RUN = ("numpy", "onnxruntime")
_DATA = ("scikit-learn",)  # what the data modules of this repository's models read their samples with
_TRAIN = ("numpy", "safetensors", "torch", *_DATA)

_ARTIFACT = (FILE_MODEL, FILE_DATA, FILE_RUNTIME)
"""What `optimized` ships; why it was chosen changes with every limit and is for the gate report alone."""

_SHIPPED = (*_ARTIFACT, FILE_CPU_MODEL, FILE_CPU_RUNTIME)
"""With what ships beside for the processor, where the class asks for it."""

STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "checkpoint", "edgewright.build.checkpoint:run", 1, slices.checkpoint,
            tools=_TRAIN, code=True, per_model=True,
        ),
        Stage(
            "variants", "edgewright.build.variants:run", 1, slices.variants,
            needs=("checkpoint",), tools=("onnx", "onnxruntime", "onnxscript", "torch-pruning", *_TRAIN),
            code=True, per_model=True,
        ),
        Stage(
            "exported", "edgewright.build.export:run", 1, slices.exported,
            needs=("checkpoint",), tools=("onnx", "onnxruntime", "onnxscript", "torch"), code=True,
        ),
        Stage(
            "searched", "edgewright.build.search.stage:run", 3, slices.searched,
            needs=("exported", "variants"), tools=("onnx", "onnx-ir", *_RUN, *_DATA), code=True, host=True,
            place="edgewright.bench.target.place:place",
        ),
        Stage(
            "optimized", "edgewright.build.optimize:run", 4, slices.optimized,
            needs=("searched",), tools=("onnx", "matplotlib"),
        ),
        Stage(
            "evaluated", "edgewright.build.evaluate:run", 2, slices.evaluated,
            needs=("exported", "optimized"), only={"optimized": _SHIPPED}, tools=(*_RUN, *_DATA), code=True,
        ),
        Stage(
            "benchmarked", "edgewright.bench.benchmark:run", 4, slices.benchmarked,
            needs=("optimized", "evaluated"), only={"optimized": _ARTIFACT, "evaluated": (FILE_GOLDEN,)},
            tools=("matplotlib", *_RUN, *_DATA), code=True, host=True,
            place="edgewright.bench.target.place:place",
        ),
        Stage(
            "packaged", "edgewright.publish.package:run", 1, slices.packaged,
            needs=("optimized", "evaluated"),
            only={"optimized": _SHIPPED, "evaluated": (FILE_LABELS, FILE_GOLDEN, FILE_DRIFT)},
        ),
        Stage(
            "gated", "edgewright.bench.gate:run", 5, slices.gated,
            needs=("optimized", "evaluated", "benchmarked", "packaged"),
            only={
                "optimized": ("search.json",),
                "evaluated": ("evaluation.json",),
                "benchmarked": ("benchmark.json",),
                "packaged": ("manifest.json",),
            },
        ),
        Stage("signed", "edgewright.publish.sign:run", 2, slices.signed, needs=("packaged", "gated")),
        Stage("published", "edgewright.publish.push:run", 2, slices.published, needs=("packaged", "signed")),
        Stage(
            "index", "edgewright.publish.version:run", 1, slices.index,
            needs=("packaged", "published"), per_model=True,
        ),
    )
}  # fmt: skip

MODEL_STAGES = tuple(name for name, stage in STAGES.items() if stage.per_model and name != "index")
LANE_STAGES = tuple(name for name, stage in STAGES.items() if not stage.per_model)


def upstream(step: StepId, classes: list[str]) -> list[StepId]:
    """Return the steps whose files `step` reads; the index reads those of every class of its model."""
    stage = STAGES[step.stage]
    if step.stage == "index":
        return [StepId(need, step.model, name) for name in classes for need in stage.needs]
    return [
        StepId(need, step.model, None if STAGES[need].per_model else step.hardware_class)
        for need in stage.needs
    ]


@functools.cache
def tool_version(distribution: str) -> str:
    """Return the installed version of a distribution, or `absent`."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


@functools.cache
def host_name() -> str:
    """Return what identifies this machine's speed: its processor's own name, and how many cores we may use."""
    cores = len(os.sched_getaffinity(0))
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return f"{line.partition(':')[2].strip()}, {cores} cores"
    except OSError:
        pass
    return f"unknown processor, {cores} cores"


def pinned_files(model: Model) -> set[str]:
    """Return the files in the model's folder whose digest the YAML names: the checkpoint and its variants'."""
    pinned = [model.checkpoint, *(variant.checkpoint for variant in model.optimization.variants)]
    return {
        checkpoint.path for checkpoint in pinned if checkpoint is not None and checkpoint.path is not None
    }


def code_digests(folder: Path, pinned: Set[str]) -> dict[str, str]:
    """Return file name → sha256 of everything that a model's own Python may read: all files beside its YAML.

    The YAML itself is left out (a stage reads a slice of it), so are `pinned` files (their digests are in that slice)
    and documents. Links are followed: code and data that models share are often linked into each of them.
    """
    found = {}
    for path in files_below(folder):
        name = path.relative_to(folder).as_posix()
        if name == "model.yaml" or name in pinned or path.suffix in (".md", ".pyc") or not path.is_file():
            continue
        state = path.stat()
        found[name] = _digest(path, state.st_size, state.st_mtime_ns, state.st_ino)
    return found


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, *_state: int) -> str:
    # Remembered while the file keeps its size, time and place: one run asks for every stage of every lane.
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
