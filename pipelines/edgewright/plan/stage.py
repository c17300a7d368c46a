"""The stages of a lane: what each reads from the specs, what it needs from earlier stages, which tools shape its bytes.

The table `STAGES` is the whole pipeline. A stage's `version` is raised when its code starts to give another result for
the same input; its `reads` returns the slice of the specs it may see, which is also all that its action key knows.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import zlib
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgewright.errors import TrustError
from edgewright.plan.lane import StepId
from edgewright.plan.tree import files_below
from edgewright.spec.hardware import Sheet
from edgewright.spec.limits import (
    effective_conditions,
    effective_limits,
    effective_metric,
    effective_optimization,
    limit_sources,
)
from edgewright.spec.load import Workspace
from edgewright.spec.model import Model
from edgewright_agent.contract import (
    FILE_DATA,
    FILE_DRIFT,
    FILE_GOLDEN,
    FILE_LABELS,
    FILE_MODEL,
    FILE_RUNTIME,
)

Slice = Mapping[str, Any]


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
    reads: Callable[[Workspace, StepId], Slice]
    needs: tuple[str, ...] = ()
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tools: tuple[str, ...] = ()
    code: bool = False
    host: bool = False
    per_model: bool = False
    place: str | None = None


def dump(spec: BaseModel | None) -> Any:
    """Return a spec as JSON values in the words of the YAML, quantities as numbers, absent keys left out."""
    return None if spec is None else spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def _checkpoint(workspace: Workspace, step: StepId) -> Slice:
    model = workspace.models[step.model]
    source = {"checkpoint": dump(model.checkpoint)} if model.checkpoint else {"train": dump(model.train)}
    return {"network": dump(model.network), **source}


def _exported(workspace: Workspace, step: StepId) -> Slice:
    model = workspace.models[step.model]
    return {"network": dump(model.network), "signature": dump(model.signature)}


def _variants(workspace: Workspace, step: StepId) -> Slice:
    model = workspace.models[step.model]
    if not model.optimization.variants:
        return {"variants": []}
    return {
        "network": dump(model.network),
        "signature": dump(model.signature),
        "variants": [dump(variant) for variant in model.optimization.variants],
        # By which variants that are trained here are compared; one that is pinned needs no data.
        **(
            {"data": {"selection": model.data.selection}, "metric": {"name": model.metric.name}}
            if any(variant.checkpoint is None for variant in model.optimization.variants)
            else {}
        ),
    }


def _searched(workspace: Workspace, step: StepId) -> Slice:
    model, hardware = _both(workspace, step)
    optimization = dump(effective_optimization(model, str(step.hardware_class)))
    return {
        # Neither limits nor floors nor the objective: what is demanded changes no figure, so it re-decides at no cost.
        "recipes": optimization["recipes"],
        "timeBudget": optimization["timeBudget"],
        "precisions": list(hardware.precisions),
        "hardware": dump(Sheet.of(hardware)),
        "data": _without(dump(model.data), "test"),
        "metric": {"name": model.metric.name},
        "signature": dump(model.signature),
        "labels": list(model.labels),
        "conditions": [_without(dump(condition), "floor") for condition in model.conditions],
    }


def _optimized(workspace: Workspace, step: StepId) -> Slice:
    model, hardware = _both(workspace, step)
    name = str(step.hardware_class)
    return {
        "objective": effective_optimization(model, name).objective,
        "conditions": [dump(condition) for condition in effective_conditions(model, name)],
        "limits": dump(effective_limits(hardware, model, name)),
        "metric": dump(effective_metric(model, name)),
        "hardware": dump(Sheet.of(hardware)),
        "signature": dump(model.signature),
        "golden": {"samples": model.golden.samples},
        "sources": limit_sources(model, step.model, name),
    }


def _evaluated(workspace: Workspace, step: StepId) -> Slice:
    model = workspace.models[step.model]
    return {
        "data": dump(model.data),
        "metric": {"name": model.metric.name},
        "golden": dump(model.golden),
        "labels": list(model.labels),
        "signature": dump(model.signature),
    }


def _benchmarked(workspace: Workspace, step: StepId) -> Slice:
    model, hardware = _both(workspace, step)
    return {
        "hardware": dump(Sheet.of(hardware)),
        "model": {
            "signature": dump(model.signature),
            "data": {"test": model.data.test},
            "metric": {"name": model.metric.name},
            # Neither what may be dropped nor the floors of conditions: what is demanded changes no figure.
            **({"workload": _without(dump(model.workload), "maxDropped")} if model.workload else {}),
            "conditions": [_without(dump(condition), "floor") for condition in model.conditions],
        },
    }


def _without(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


def _packaged(workspace: Workspace, step: StepId) -> Slice:
    model = workspace.models[step.model]
    compression = workspace.fleet.registry.compression
    return {
        "modelVersion": model.model_version,
        "description": model.description,
        "license": model.license,
        "hardwareClass": step.hardware_class,
        # Another zlib may write other bytes for the same file.
        **({} if compression == "none" else {"compression": compression, "zlib": zlib.ZLIB_RUNTIME_VERSION}),
    }


def _gated(workspace: Workspace, step: StepId) -> Slice:
    model, hardware = _both(workspace, step)
    name = str(step.hardware_class)
    baseline = workspace.baseline_of(step.model, name)
    return {
        **({"baseline": baseline.yardstick()} if baseline else {}),
        "limits": dump(effective_limits(hardware, model, name)),
        "metric": dump(effective_metric(model, name)),
        "conditions": [dump(condition) for condition in effective_conditions(model, name)],
        **({"maxDropped": model.workload.max_dropped / 100} if model.workload else {}),
        "modelVersion": model.model_version,
        "sources": limit_sources(model, step.model, name),
    }


def _signing(workspace: Workspace) -> Slice:
    signing = workspace.fleet.signing
    public = workspace.root / signing.public_key
    try:
        digest = hashlib.sha256(public.read_bytes()).hexdigest()
    except OSError as error:
        raise TrustError(
            f"no signing key: cannot read {signing.public_key} ({error.strerror})",
            hint="make the keys once with `edgewright keys init`",
        ) from error
    return {"signing": dump(signing), "publicKeySha256": digest}


def _signed(workspace: Workspace, _step: StepId) -> Slice:
    return _signing(workspace)


def _published(workspace: Workspace, _step: StepId) -> Slice:
    return {"registry": dump(workspace.fleet.registry)}


def _index(workspace: Workspace, step: StepId) -> Slice:
    model = workspace.models[step.model]
    return {
        "modelVersion": model.model_version,
        "registry": dump(workspace.fleet.registry),
        "architectures": {name: hardware.cpu.arch for name, hardware in sorted(workspace.hardware.items())},
        **_signing(workspace),
    }


def _both(workspace: Workspace, step: StepId) -> tuple[Any, Any]:
    return workspace.models[step.model], workspace.hardware[str(step.hardware_class)]


_RUN = ("numpy", "onnxruntime")
_DATA = ("scikit-learn",)  # what the data modules of this repository's models read their samples with
_TRAIN = ("numpy", "safetensors", "torch", *_DATA)

_ARTIFACT = (FILE_MODEL, FILE_DATA, FILE_RUNTIME)
"""What `optimized` ships; why it was chosen changes with every limit and is for the gate report alone."""

STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "checkpoint", "edgewright.build.checkpoint:run", 1, _checkpoint,
            tools=_TRAIN, code=True, per_model=True,
        ),
        Stage(
            "variants", "edgewright.build.variants:run", 1, _variants,
            needs=("checkpoint",), tools=("onnx", "onnxruntime", "onnxscript", "torch-pruning", *_TRAIN),
            code=True, per_model=True,
        ),
        Stage(
            "exported", "edgewright.build.export:run", 1, _exported,
            needs=("checkpoint",), tools=("onnx", "onnxruntime", "onnxscript", "torch"), code=True,
        ),
        Stage(
            "searched", "edgewright.build.search.stage:run", 2, _searched,
            needs=("exported", "variants"), tools=("onnx", "onnx-ir", *_RUN, *_DATA), code=True, host=True,
            place="edgewright.bench.target.place:place",
        ),
        Stage(
            "optimized", "edgewright.build.optimize:run", 4, _optimized,
            needs=("searched",), tools=("onnx", "matplotlib"),
        ),
        Stage(
            "evaluated", "edgewright.build.evaluate:run", 2, _evaluated,
            needs=("exported", "optimized"), only={"optimized": _ARTIFACT}, tools=(*_RUN, *_DATA), code=True,
        ),
        Stage(
            "benchmarked", "edgewright.bench.benchmark:run", 4, _benchmarked,
            needs=("optimized", "evaluated"), only={"optimized": _ARTIFACT, "evaluated": (FILE_GOLDEN,)},
            tools=("matplotlib", *_RUN, *_DATA), code=True, host=True,
            place="edgewright.bench.target.place:place",
        ),
        Stage(
            "packaged", "edgewright.publish.package:run", 1, _packaged,
            needs=("optimized", "evaluated"),
            only={"optimized": _ARTIFACT, "evaluated": (FILE_LABELS, FILE_GOLDEN, FILE_DRIFT)},
        ),
        Stage(
            "gated", "edgewright.bench.gate:run", 5, _gated,
            needs=("optimized", "evaluated", "benchmarked", "packaged"),
            only={
                "optimized": ("search.json",),
                "evaluated": ("evaluation.json",),
                "benchmarked": ("benchmark.json",),
                "packaged": ("manifest.json",),
            },
        ),
        Stage("signed", "edgewright.publish.sign:run", 1, _signed, needs=("packaged", "gated")),
        Stage("published", "edgewright.publish.push:run", 1, _published, needs=("packaged", "signed")),
        Stage(
            "index", "edgewright.publish.version:run", 1, _index,
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
