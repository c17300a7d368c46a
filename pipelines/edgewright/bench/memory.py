"""Peak memory of a model: fresh processes on this machine's processor, over the bare engine.

An emulator's own memory would drown a model's, so this figure alone is measured natively and says so. It is made of
allocations, not of time: on one thread eight processes of a 38 kB model are equal to a page or two, with more threads
they spread by some more. So one thread is measured, the most of three counts, further threads are allowed a declared
amount each, and the sum is rounded up to whole mebibytes. A figure right below a step may still end above it on
another day; a pipeline keeps the first one.

>>> peak_memory(model, settings, golden)     # doctest: +SKIP
11534336
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewright.bench.target.ask import ask
from edgewright.bench.target.emulator import native_target
from edgewright.bench.target.observe import Memo, question
from edgewright.bench.target.processor import Core, host_arch
from edgewright.bench.target.session import files_of, session_of
from edgewright.errors import EnvironmentFault

PROCESSES = 3
THREAD_BYTES = 256 * 2**10
"""Allowed for each thread after the first: stack and what the allocator sets aside for it (measured: 60 to 90 KiB)."""
STEP_BYTES = 2**20
TIMEOUT_S = 300.0


def peak_memory(
    model: Path,
    settings: Mapping[str, Any],
    golden: Mapping[str, Any],
    memo: Memo | None = None,
    *,
    data: Path | None = None,
) -> int | None:
    """Return the largest resident memory (VmHWM) over that of the imported engine, in bytes, rounded up.

    Args:
        model: The model's file.
        settings: `runtime.json`.
        golden: `golden.json`; its inputs are inferred one at a time.
        memo: Where what was measured before is found.
        data: The model's `model.onnx.data`, where it has one.

    Returns:
        None where the model does not run here.

    Raises:
        EnvironmentFault: no process can be started, or this machine was too busy.
    """
    target = native_target(Core(host_arch(), None, "this machine", 1))
    request = {
        **files_of(model, data),
        **session_of(settings, ["CPUExecutionProvider"]),
        "inputs": golden["inputs"],
    }
    key = question(target, {**request, "processes": PROCESSES}, None, None) if memo else ""
    found = memo.find(key) if memo else None
    if found is not None:
        most_bytes = int(found.answer["peakMemoryBytes"])
    else:
        peaks = [ask(target, request, timeout_s=TIMEOUT_S) for _ in range(PROCESSES)]
        if any(answer.get("failure") == "timed-out" for answer in peaks):  # says nothing of the model
            raise EnvironmentFault(
                f"{target.label}: no answer within {TIMEOUT_S:g} s",
                hint="run it again when this machine is idle",
            )
        if any("failure" in answer for answer in peaks):
            return None
        most_bytes = max(
            answer["peakBytes"]["inferred"] - answer["peakBytes"]["imported"] for answer in peaks
        )
        if memo:
            memo.keep(key, {"peakMemoryBytes": most_bytes}, ())
    return rounded_up(most_bytes + THREAD_BYTES * (int(settings["threads"]) - 1))


def rounded_up(size_bytes: int, step_bytes: int = STEP_BYTES) -> int:
    """Return the next whole step.

    >>> rounded_up(2**20 + 1)
    2097152
    """
    return -(-size_bytes // step_bytes) * step_bytes
