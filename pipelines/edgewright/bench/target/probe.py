"""The program that runs inside a target: loads a model, infers, and tells what it saw; never a traceback.

    python probe.py request.json answer.json

It imports the standard library, numpy and onnxruntime only, and must run on whatever Python and ONNX Runtime a
userland has (Python 3.11 and newer, ONNX Runtime 1.20 and newer), so it imports nothing of this package.

Request: `model` (path; without it the answer is about the engine alone), `providers`, `providerOptions` (provider →
its options), `arena`, `memoryPattern`, `graphOptimization`, `sessionConfig` (session configuration entries), `inputs`
(as in golden.json), `inferences` (one-sample inferences, cycling through the inputs), `threads` (1 by default),
`placement` (whether to tell which provider got which operators), `limited` (whether the caller waits for the line
`imported` and answers one line, so that a memory limit can count the model alone). In place of `model` and `inputs` a
`batch`, so that many small models pay for one import: a list of `model`, `inputs` (name → shape; filled by `noise`)
and `inferences`; they share the other settings.

Answer: `engine`, `python`, `machine`, `available`, `providers` (really used), `placement`, `outputs` (of the first
inference of every input row that was reached), `engineBytes` (what starting the engine reads from storage),
`peakBytes` (VmHWM after each stage), `times` (s, this machine's wall time: how long a check takes, never a figure of
the device), and where something failed `failure` (one of FAILURES), `stage`, `message`.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Request = dict[str, Any]

FAILURES = (
    "engine-missing",
    "model-corrupt",
    "operator-missing",
    "opset-too-new",
    "model-invalid",
    "inputs-refused",
    "out-of-memory",
    "runtime-error",
)

# A counting plugin sees every system call of the guest: one whose first argument is MARKER | mark cuts the count.
# getpriority with such an argument is refused by every Linux and changes nothing.
MARKER = 0x5A00
MARK_IMPORTED, MARK_LOADED, MARK_INFERENCE, MARK_INFERRED, MARK_STARTED, MARK_ENGINE = 1, 2, 3, 4, 5, 6
"""What has just happened: all is ready and loading begins; the session exists; one inference begins; it ended; the
engine's import begins; it ended."""

LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_SAID_OF_MEMORY = (
    "bad_alloc", "failed to allocate", "out of memory", "cannot allocate memory",
    "resource temporarily unavailable",  # what starting a thread says when its stack finds no room
)  # fmt: skip


_LIBC = ctypes.CDLL(None)


def mark(number: int) -> None:
    """Cut the instruction count here; costs one refused system call."""
    # Not os.getpriority: raising and catching its error would cost a guest as much as a small model's layer.
    _LIBC.getpriority(MARKER | number, 0)


def peak_bytes() -> int | None:
    """Return the largest resident memory this process has had (VmHWM), None where /proc tells none."""
    try:
        with open("/proc/self/status") as status:  # noqa: PTH123  pathlib would cost the guest an import
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def engine_bytes() -> int:
    """Return the size of every file that a process with the engine imported has read: libraries and byte code."""
    paths = set()
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        for line in maps:
            path = line.rstrip("\n").split(maxsplit=5)[5:]
            if path and path[0].startswith("/"):
                paths.add(path[0])
    for module in list(sys.modules.values()):
        source = getattr(module, "__cached__", None) or getattr(module, "__file__", None)
        if source:
            paths.add(source)
    return sum(os.path.getsize(path) for path in paths if os.path.isfile(path))  # noqa: PTH113, PTH202


def kind_of(error: BaseException, stage: str) -> str:
    """Return which of FAILURES an exception is.

    ONNX Runtime's exceptions are named after its status codes; some share one code, so the text decides.

    >>> kind_of(RuntimeError("Fatal error: acme:Frob(-1) is not a registered function/op"), "load")
    'operator-missing'
    """
    name, text = type(error).__name__, str(error)
    lower = text.lower()
    if isinstance(error, MemoryError) or any(words in lower for words in _SAID_OF_MEMORY):
        return "out-of-memory"
    if stage == "import":
        return "engine-missing"
    if stage == "infer" and name in ("InvalidArgument", "ValueError"):
        return "inputs-refused"
    if "opset" in lower and ("under development" in lower or "till opset" in lower):
        return "opset-too-new"
    if (
        "is not a registered function/op" in text
        or "No Op registered for" in text
        or name == "NotImplemented"
        or "NOT_IMPLEMENTED" in text
    ):
        return "operator-missing"
    if name == "InvalidProtobuf" or "No graph was found in the protobuf" in text:
        return "model-corrupt"
    if name in ("InvalidGraph", "InvalidArgument", "Fail", "NoModel", "NoSuchFile") and stage == "load":
        return "model-invalid"
    return "runtime-error"


def decode(np: Any, value: Request) -> Any:
    """Return the array of a golden.json value."""
    flat = np.frombuffer(base64.b64decode(value["data"]), np.dtype(value["dtype"]).newbyteorder("<"))
    return flat.reshape(value["shape"]).astype(value["dtype"])


def encode(np: Any, array: Any) -> Request:
    """Return an array as golden.json writes it."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    data = base64.b64encode(little.tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def open_session(onnxruntime: Any, request: Request) -> Any:
    """Return a session with the request's settings and those of its providers that are here."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(request.get("threads", 1))
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = bool(request.get("arena", True))
    options.enable_mem_pattern = bool(request.get("memoryPattern", True))
    options.log_severity_level = 4
    level = LEVELS[request.get("graphOptimization", "extended")]
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    for key, value in request.get("sessionConfig", {}).items():
        options.add_session_config_entry(key, value)
    if request.get("placement"):
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    available = onnxruntime.get_available_providers()
    wanted = [name for name in request.get("providers", ()) if name in available]
    told = request.get("providerOptions", {})
    providers = [
        (name, told[name]) if told.get(name) else name for name in wanted or ["CPUExecutionProvider"]
    ]
    return onnxruntime.InferenceSession(request["model"], options, providers=providers)


def placement_of(session: Any) -> dict[str, dict[str, int]] | None:
    """Return {provider: {operator: nodes}}, or None where this ONNX Runtime (before 1.24) does not tell."""
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    if tell is None:
        return None
    placed: dict[str, dict[str, int]] = {}
    for subgraph in tell():
        operators = placed.setdefault(subgraph.ep_name, {})
        for node in subgraph.get_nodes():
            operators[node.op_type] = operators.get(node.op_type, 0) + 1
    return placed


def noise(np: Any, shape: list[int], turn: int) -> Any:
    """Return float32 values in [-1, 1) that look like noise; the same everywhere, others every turn (SplitMix64)."""
    whole = np.uint64
    bits = np.arange(int(np.prod(shape)), dtype=whole) + whole(turn) * whole(1 << 32)
    bits = (bits ^ (bits >> whole(30))) * whole(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> whole(27))) * whole(0x94D049BB133111EB)
    bits ^= bits >> whole(31)
    return ((bits >> whole(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)).reshape(shape)


def run_batch(np: Any, onnxruntime: Any, request: Request, answer: Request) -> None:
    """Load and run one model after another; each sets the marks that it would set alone."""
    for entry in request["batch"]:
        feeds = [
            {name: noise(np, shape, turn) for name, shape in entry["inputs"].items()}
            for turn in range(entry["inferences"])
        ]
        answer["stage"] = "load " + os.path.basename(entry["model"])  # noqa: PTH119  as above
        mark(MARK_IMPORTED)
        session = open_session(onnxruntime, {**request, **entry})
        mark(MARK_LOADED)
        answer["stage"] = "infer " + os.path.basename(entry["model"])  # noqa: PTH119
        infer(np, session, entry, feeds, [])
        del session


def infer(np: Any, session: Any, request: Request, feeds: list[Request], times: list[float]) -> Request:
    """Run the inferences; return the output rows of every input row that was reached."""
    rows = []
    for turn in range(int(request.get("inferences", len(feeds)))):
        feed = feeds[turn % len(feeds)]
        started = time.perf_counter()
        mark(MARK_INFERENCE)
        row = session.run(None, feed)
        mark(MARK_INFERRED)
        times.append(time.perf_counter() - started)
        if turn < len(feeds):
            rows.append(row)
    names = [output.name for output in session.get_outputs()]
    for i, name in enumerate(
        names
    ):  # a provider that runs out of memory may return nothing and call it success
        if rows and any(len(row[i]) != 1 for row in rows):
            raise RuntimeError(f"output {name!r} has other than one row for one row of input")
    return {
        name: encode(np, np.concatenate([row[i] for row in rows])) for i, name in enumerate(names) if rows
    }


def run(request: Request, answer: Request, tell: Callable[[Request], None]) -> None:
    """Fill `answer` stage by stage, so that what was seen before a failure is told with it.

    A limited process may be killed at any time, so it tells what it has seen before it goes on.
    """
    peaks, times = answer.setdefault("peakBytes", {}), answer.setdefault("times", {})
    answer["stage"] = "import"
    started = time.perf_counter()
    mark(MARK_STARTED)
    import numpy as np
    import onnxruntime

    mark(MARK_ENGINE)
    answer["engine"] = "onnxruntime " + onnxruntime.__version__
    answer["available"] = onnxruntime.get_available_providers()
    answer["numpy"] = np.__version__
    inputs = {name: decode(np, value) for name, value in request.get("inputs", {}).items()}
    count = min((len(array) for array in inputs.values()), default=0)
    feeds = [
        {name: np.ascontiguousarray(array[i : i + 1]) for name, array in inputs.items()} for i in range(count)
    ]
    times["imported"] = time.perf_counter() - started
    peaks["imported"] = peak_bytes()
    if request.get("batch"):
        run_batch(np, onnxruntime, request, answer)
        return
    if not request.get("model"):
        return
    answer["stage"] = "load"
    if request.get("limited"):
        tell(answer)
        print("imported", flush=True)
        sys.stdin.readline()

    started = time.perf_counter()
    mark(MARK_IMPORTED)
    session = open_session(onnxruntime, request)
    mark(MARK_LOADED)
    times["loaded"] = time.perf_counter() - started
    peaks["loaded"] = peak_bytes()
    answer["providers"] = session.get_providers()
    answer["placement"] = placement_of(session) if request.get("placement") else None
    if not feeds:
        return

    answer["stage"] = "infer"
    if request.get("limited"):
        tell(answer)
    answer["outputs"] = infer(np, session, request, feeds, times.setdefault("inferences", []))
    peaks["inferred"] = peak_bytes()
    # Only now: it reads where everything lies, and what is read must not be in memory while something is counted.
    answer["engineBytes"] = engine_bytes()


def main(request_path: str, answer_path: str) -> None:
    """Read the request, write the answer; the exit code is 0 whenever there is an answer."""
    with open(request_path) as stream:  # noqa: PTH123
        request = json.load(stream)
    answer: Request = {"python": sys.version.split()[0], "machine": os.uname().machine}

    def tell(answer: Request) -> None:
        with open(answer_path, "w") as stream:  # noqa: PTH123
            json.dump(answer, stream)

    try:
        run(request, answer, tell)
    except Exception as error:  # noqa: BLE001  whatever it is becomes a named failure
        answer["failure"] = kind_of(error, answer["stage"])
        answer["message"] = f"{type(error).__name__}: {str(error).strip()}"[:2000]
        answer.pop("outputs", None)
    tell(answer)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
    # Session and arena need no tidying, and a limited process may not be able to: the answer is written.
    sys.stdout.flush()
    os._exit(0)
