"""One measurement in one fresh process: load a model, run single samples, tell time and memory.

    python -m edgewright.bench.worker < request.json > answer.json

Request: `model` (path), `providers`, `threads`, `arena`, `graphOptimization`, `inputs` (as in golden.json),
`warmUp`, `samples`, `maxSeconds`. Imports the standard library, numpy and onnxruntime only, so that the
memory a model takes is not lost in that of a larger program, and so that the file runs anywhere those three
do.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
MIN_SAMPLES = 20  # fewer say nothing about a 95th percentile, however slow the model is


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of one process.

    Returns:
        `providers` (really used), `loadMs`, `p50Ms`, `p95Ms`, `p99Ms`, `samples`, `barePeakBytes` (after the
        imports), `peakBytes` (at the end), `engine`.
    """
    bare_bytes = peak_bytes()
    available = onnxruntime.get_available_providers()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(request["threads"])
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = bool(request["arena"])
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, LEVELS[request["graphOptimization"]]
    )
    providers = [name for name in request["providers"] if name in available] or ["CPUExecutionProvider"]

    started_ns = time.perf_counter_ns()
    session = onnxruntime.InferenceSession(request["model"], options, providers=providers)
    load_ns = time.perf_counter_ns() - started_ns

    latencies_ms = _latencies(session, request) / 1e6
    return {
        "providers": session.get_providers(),
        "loadMs": load_ns / 1e6,
        **{f"p{share}Ms": float(np.percentile(latencies_ms, share)) for share in (50, 95, 99)},
        "samples": len(latencies_ms),
        "barePeakBytes": bare_bytes,
        "peakBytes": peak_bytes(),
        "engine": f"onnxruntime {onnxruntime.__version__}",
    }


def peak_bytes() -> int:
    """Return the largest resident memory this process has had (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status tells no VmHWM")


def _latencies(session: onnxruntime.InferenceSession, request: Mapping[str, Any]) -> Any:
    """Return the duration of each one-sample inference (ns), cycling through the inputs after a warm-up."""
    arrays = {name: _decode(value) for name, value in request["inputs"].items()}
    count = len(next(iter(arrays.values())))
    feeds = [
        {name: np.ascontiguousarray(array[i : i + 1]) for name, array in arrays.items()} for i in range(count)
    ]
    for turn in range(int(request["warmUp"])):
        session.run(None, feeds[turn % count])
    durations_ns: list[int] = []
    deadline_ns = time.perf_counter_ns() + int(float(request["maxSeconds"]) * 1e9)
    for turn in range(int(request["samples"])):
        started_ns = time.perf_counter_ns()
        session.run(None, feeds[turn % count])
        ended_ns = time.perf_counter_ns()
        durations_ns.append(ended_ns - started_ns)
        if ended_ns > deadline_ns and len(durations_ns) >= MIN_SAMPLES:
            break
    return np.array(durations_ns, np.float64)


def _decode(value: Mapping[str, Any]) -> Any:
    flat = np.frombuffer(base64.b64decode(value["data"]), np.dtype(value["dtype"]).newbyteorder("<"))
    return flat.reshape(value["shape"]).astype(value["dtype"])


if __name__ == "__main__":
    json.dump(measure(json.load(sys.stdin)), sys.stdout)
