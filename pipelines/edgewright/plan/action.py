"""One action: the key that says what a step would read, and the run that a missing key leads to.

`action_key = sha256(stage version | spec slice | code | input digests | toolchain)`. Two steps with one key are one
action: lanes that differ only in their limits share exports, and a reverted edit finds its old results.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.errors import EnvironmentFault
from edgewright.plan.cache import Cache, Record
from edgewright.plan.job import Job, Result
from edgewright.plan.lane import StepId, classes_of
from edgewright.plan.stage import STAGES, code_digests, host_name, pinned_files, tool_version, upstream
from edgewright.spec.load import Workspace
from edgewright_agent.contract import canonical_json

Records = Mapping[StepId, Record]


@dataclass(frozen=True)
class Action:
    """A step whose inputs are all known: its key, and what the key was made of."""

    step: StepId
    key: str
    parts: Mapping[str, Any]
    inputs: Mapping[str, str]


def prepare(workspace: Workspace, step: StepId, records: Records) -> Action:
    """Compute the action of `step` from the specs and the records of the steps it needs.

    Raises:
        KeyError: a needed record is absent (lanes that are blocked are simply absent for an index).
    """
    stage = STAGES[step.stage]
    inputs: dict[str, str] = {}
    for need in upstream(step, classes_of(workspace, step.model)):
        if step.stage == "index":
            if StepId("published", step.model, need.hardware_class) not in records:
                continue
            label = f"{need.stage}:{need.hardware_class}"
        else:
            label = need.stage
        only = stage.only.get(need.stage)
        inputs.update(
            {
                f"{label}/{name}": digest
                for name, digest in records[need].files.items()
                if only is None or name in only
            }
        )
    parts: dict[str, Any] = {
        "stageVersion": stage.version,
        "model": step.model,
        "spec": stage.reads(workspace, step),
        "inputs": inputs,
        "tools": {name: tool_version(name) for name in stage.tools},
    }
    if stage.code:
        folder = workspace.root / "models" / step.model
        parts["code"] = code_digests(folder, pinned_files(workspace.models[step.model]))
    if stage.host:
        parts["host"] = host_name()
    if stage.place:
        parts["place"] = _function(stage.place)(parts["spec"])
    key = hashlib.sha256(canonical_json({"stage": step.stage, **parts})).hexdigest()
    return Action(step, key, parts, inputs)


def perform(workspace: Workspace, action: Action, cache: Cache, progress: Callable[[str], None]) -> Record:
    """Run the stage and record what it gave; a failure records nothing.

    Raises:
        EdgewrightError: what the stage raises, its message made for a person.
    """
    step = action.step
    run: Callable[[Job], Result] = _function(STAGES[step.stage].entry)
    with cache.scratch() as scratch:
        job = job_of(workspace, action, cache, Path(scratch), progress)
        with told_of_the_disk(step):
            result = run(job)
        return record_of(action, cache, job, result)


def job_of(
    workspace: Workspace, action: Action, cache: Cache, out: Path, progress: Callable[[str], None]
) -> Job:
    """Return the job of an action, its inputs verified and its outputs to be left in `out`."""
    step = action.step
    inputs = {name: cache.verified(digest) for name, digest in action.inputs.items()}
    return Job(workspace.root, step.model, step.hardware_class, action.parts["spec"], inputs, out, progress)


def record_of(action: Action, cache: Cache, job: Job, result: Result) -> Record:
    """Move a job's outputs into the cache and record what the action gave."""
    outputs = {path.relative_to(job.out).as_posix(): path for path in job.out.rglob("*") if path.is_file()}
    return cache.store(action.key, action.parts, outputs, dict(result.facts))


@contextlib.contextmanager
def told_of_the_disk(step: StepId) -> Iterator[None]:
    """Say in a sentence what the file system refused.

    Raises:
        EnvironmentFault: it did.
    """
    try:
        yield
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise EnvironmentFault(
            f"{step} stopped: {error.strerror or error}{place}",
            hint="free space or mend the permissions, and run the same command again; it continues",
        ) from error


def _function(entry: str) -> Callable[..., Any]:
    module, _, name = entry.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found
