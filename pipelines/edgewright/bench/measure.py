"""Benchmarked: what the optimized model costs, measured in fresh processes on the machine at hand.

Nothing here knows the class's own speed: the document says `"calibration": "none, this host"`, and the notes
say whatever else stands between these figures and the device.

Inputs: `optimized/model.onnx`, `optimized/runtime.json`, `evaluated/golden.json`. Output: `benchmark.json`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import edgewright
from edgewright.errors import BuildError
from edgewright.plan.job import Job, Result
from edgewright_agent.contract import canonical_json, digest_of

CALIBRATION = "none, this host"
ROUNDS = 3
SAMPLES, WARM_UP, MAX_SECONDS = 300, 20, 10.0
TIMEOUT_S = 180.0
METHOD = (
    f"{ROUNDS} fresh processes; times: least of the processes' own figures, one sample at a time after"
    f" {WARM_UP} warm-up runs; memory: most of the processes' peaks (VmHWM), "
    "less the peak after importing numpy and onnxruntime"
)
WORKER = (sys.executable, "-m", "edgewright.bench.worker")
_BEST = ("loadMs", "p50Ms", "p95Ms", "p99Ms")


def run(job: Job) -> Result:
    """Write `benchmark.json`.

    Raises:
        BuildError: a worker crashed, hung or answered nonsense.
    """
    model = job.inputs["optimized/model.onnx"]
    runtime_bytes = job.inputs["optimized/runtime.json"].read_bytes()
    runtime = json.loads(runtime_bytes)
    golden = json.loads(job.inputs["evaluated/golden.json"].read_bytes())
    threads = min(int(runtime["threads"]), host_cores())
    request = {
        "model": str(model),
        "providers": runtime["providers"],
        "threads": threads,
        "arena": runtime["arena"],
        "graphOptimization": runtime["graphOptimization"],
        "inputs": golden["inputs"],
        "samples": SAMPLES,
        "warmUp": WARM_UP,
        "maxSeconds": MAX_SECONDS,
    }
    job.progress(f"measuring {job.model} for {job.hardware_class}")
    rounds = [ask(request) for _ in range(ROUNDS)]
    figures = merged(rounds)
    notes = notes_on(runtime, figures["providers"], threads, job.spec.get("emulation") or {})
    document = {
        "version": 1,
        "model": digest_of(model.read_bytes()),
        "runtime": digest_of(runtime_bytes),
        "calibration": CALIBRATION,
        "method": METHOD,
        "notes": notes,
        "threads": threads,
        **figures,
    }
    (job.out / "benchmark.json").write_bytes(canonical_json(document))
    return Result(
        {
            "load_ms": figures["loadMs"],
            "p50_ms": figures["p50Ms"],
            "p95_ms": figures["p95Ms"],
            "p99_ms": figures["p99Ms"],
            "peak_memory_bytes": figures["peakMemoryBytes"],
            "providers": figures["providers"],
            "calibration": CALIBRATION,
            "notes": notes,
        }
    )


def ask(
    request: Mapping[str, Any], *, command: Sequence[str] = WORKER, timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """Run one worker and return its answer.

    Raises:
        BuildError: it crashed (with its last words), ran longer than `timeout_s`, or its answer cannot be
            read.
    """
    source_root = str(Path(edgewright.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (source_root, os.environ.get("PYTHONPATH"))))
    try:
        worker = subprocess.run(  # noqa: S603  our own interpreter and module
            list(command),
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=timeout_s,
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"the benchmark did not end within {timeout_s:g} s",
            hint="the model is too slow for this machine, or the machine too busy; try again when it is idle",
        ) from error
    if worker.returncode != 0:
        raise BuildError(f"the benchmark {_ending(worker.returncode)}{_last_words(worker.stderr)}")
    try:
        answer: dict[str, Any] = json.loads(worker.stdout)
    except ValueError as error:
        raise BuildError(f"the benchmark's answer is not JSON: {worker.stdout[:200]!r}") from error
    return answer


def merged(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one set of figures from several processes: least times, most memory.

    Other programs on the machine can only add to a time, so the least is the nearest to the model's own; a
    process's memory hardly varies, so the most is the safe one.
    """
    return {
        "providers": rounds[0]["providers"],
        **{name: round(min(answer[name] for answer in rounds), 4) for name in _BEST},
        "samples": sum(answer["samples"] for answer in rounds),
        "peakMemoryBytes": max(answer["peakBytes"] - answer["barePeakBytes"] for answer in rounds),
        "engine": rounds[0]["engine"],
    }


def notes_on(
    runtime: Mapping[str, Any], used: Sequence[str], threads: int, emulation: Mapping[str, Any]
) -> list[str]:
    """Return, in sentences, what stands between these figures and the device."""
    notes = []
    wanted = runtime["providers"][0]
    if wanted not in used:
        notes.append(f"{wanted} is not on this host; measured on {used[0]}")
    if threads < runtime["threads"]:
        asked = runtime["threads"]
        notes.append(f"the class runs {asked} threads; measured with {threads}, the cores of this host")
    if emulation.get("method") == "declared":
        notes.append("the class's accelerator cannot be emulated; its speed is not claimed")
    elif emulation.get("method") == "qemu-user":
        notes.append("measured natively, not on the class's emulated processor")
    return notes


def host_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _ending(returncode: int) -> str:
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"failed with exit code {returncode}"


def _last_words(stderr: bytes, lines: int = 5) -> str:
    said = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()][-lines:]
    return ":\n  " + "\n  ".join(said) if said else ", without a word"
