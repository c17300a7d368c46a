"""Peak memory of a model: fresh processes on this machine's processor, over the bare engine.

An emulator's own memory would drown a model's, so this figure alone is measured natively and says so. It is made of
allocations, not of time: eight processes of a 38 kB model spread by 16 KiB. The most of three, rounded up to whole
mebibytes, is therefore the same on every run.

>>> peak_memory(model, settings, golden, cpu)     # doctest: +SKIP
11534336
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewright.bench.target.ask import ask
from edgewright.bench.target.emulator import native_target
from edgewright.bench.target.processor import Core, host_arch

PROCESSES = 3
STEP_BYTES = 2**20
TIMEOUT_S = 300.0


def peak_memory(model: Path, settings: Mapping[str, Any], golden: Mapping[str, Any]) -> int | None:
    """Return the largest resident memory (VmHWM) over that of the imported engine, in bytes, rounded up.

    Args:
        model: The model's file.
        settings: `runtime.json`; its threads are started here, too, however many cores there are.
        golden: `golden.json`; its inputs are inferred one at a time.

    Returns:
        None where the model does not run here.

    Raises:
        EnvironmentFault: no process can be started.
    """
    target = native_target(Core(host_arch(), None, "this machine", 1))
    request = {
        "model": str(model.absolute()),
        "providers": ["CPUExecutionProvider"],
        "arena": settings["arena"],
        "graphOptimization": settings["graphOptimization"],
        "threads": settings["threads"],
        "inputs": golden["inputs"],
    }
    most_bytes = 0
    for _ in range(PROCESSES):
        answer = ask(target, request, timeout_s=TIMEOUT_S)
        if "failure" in answer:
            return None
        peaks = answer["peakBytes"]
        most_bytes = max(most_bytes, peaks["inferred"] - peaks["imported"])
    return rounded_up(most_bytes)


def rounded_up(size_bytes: int, step_bytes: int = STEP_BYTES) -> int:
    """Return the next whole step.

    >>> rounded_up(2**20 + 1)
    2097152
    """
    return -(-size_bytes // step_bytes) * step_bytes
