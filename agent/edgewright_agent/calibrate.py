"""What the nets of a calibration kit cost on this device: the measured half of `edgewright calibrate`.

>>> document = measure(Kit(Path("kit.zip")), rounds=2)             # doctest: +SKIP
>>> document["nets"]["cnn-000-fp32"]["cpuMs"]                      # doctest: +SKIP
[0.412, 0.409]

Every net is loaded and run in a fresh process, once in every round. Kept is the tenth percentile of the repetitions of
one inference, in CPU time of its thread: other programs on the device make no difference to it, and the smallest
of all can be an error of the clock (a hypervisor corrects what it took away afterwards). With several threads there is
no such clock, so that is wall time.

`python -m edgewright_agent.calibrate` is the child: a request on standard input, one JSON object on standard output.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent.clock import to_text, utc_now
from edgewright_agent.contract import MEASURED_KIND
from edgewright_agent.engine import EngineError, import_engine
from edgewright_agent.errors import AgentError, ConfigError
from edgewright_agent.kit import Kit, Net
from edgewright_agent.versions import in_range

if TYPE_CHECKING:
    from edgewright_agent.engine import Array

Progress = Callable[[int, int, str], None]
"""Called with nets done, nets in all, and what is measured now."""

NET_TIMEOUT_S = 300.0
WARM_UP = 3
RUNS = (10, 1000)  # at least, at most
RUN_S = 0.15  # of repetitions, within these
QUIET_SHARE = 0.1
FEEDS = (4, 64)  # different inputs, at least and at most
FEEDS_BYTES = 16 * 2**20
_REPORTED = ("cpuMs", "wallMs", "threadsMs", "loadCpuMs", "loadMs")


def measure(kit: Kit, *, rounds: int, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Measure every net of a kit and return the document that `edgewright calibrate --measured` reads.

    A net that this device's engine cannot run is told with its `failure`, and the others go on.

    Raises:
        ConfigError: `bad-kit`.
        EngineError: `runtime-missing`, `runtime-version`.
        AgentError: `nothing-measured`: no net ran.
    """
    engine = import_engine()
    if not in_range(engine.__version__, kit.versions):
        raise EngineError(
            "runtime-version", f"the class runs onnxruntime {kit.versions}, this is {engine.__version__}"
        )
    found: dict[str, dict[str, Any]] = {net.name: {} for net in kit.nets}
    total = rounds * len(kit.nets)
    with tempfile.TemporaryDirectory(prefix="edgewright-calibrate-") as scratch:
        for turn in range(rounds):
            for number, net in enumerate(kit.nets):
                progress(turn * len(kit.nets) + number, total, net.name)
                if "failure" in found[net.name]:
                    continue
                _add(found[net.name], _in_fresh_process(kit, net, Path(scratch, "net.onnx")))
    progress(total, total, "done")
    failures = [entry["failure"] for entry in found.values() if "failure" in entry]
    if len(failures) == len(found):
        raise AgentError("nothing-measured", f"no net of the kit ran here: {failures[0]}")
    return {
        "kind": MEASURED_KIND,
        "version": 1,
        "date": to_text(utc_now()),
        "kit": {"digest": kit.digest, "hardwareClass": kit.hardware_class, "recipe": kit.recipe},
        "processor": processor_name(),
        "machine": platform.machine(),
        "cores": os.cpu_count() or 1,
        "threads": kit.threads,
        "engine": f"onnxruntime {engine.__version__}",
        "rounds": rounds,
        "nets": found,
    }


def _add(entry: dict[str, Any], answer: dict[str, Any]) -> None:
    """Append one round's figures, or replace all of them by what went wrong."""
    if "failure" in answer:
        entry.clear()
        entry["failure"] = answer["failure"]
        return
    for name in _REPORTED:
        if name in answer:
            entry.setdefault(name, []).append(answer[name])


def processor_name() -> str:
    """Return what this device is: the board's own name where it has one, else its processor's."""
    with contextlib.suppress(OSError):
        board = Path("/proc/device-tree/model").read_text(errors="replace").strip("\0 \n")
        if board:
            return board
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return " ".join(line.partition(":")[2].split())
    return platform.machine()


def _in_fresh_process(kit: Kit, net: Net, path: Path) -> dict[str, Any]:
    kit.write(net, path)
    request = {
        "model": str(path),
        "inputs": {name: list(shape) for name, shape in net.inputs.items()},
        "threads": min(kit.threads, os.cpu_count() or 1),
        "arena": kit.arena,
        "graphOptimization": kit.graph_optimization,
    }
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter, no shell
            [sys.executable, "-m", "edgewright_agent.calibrate"],
            input=json.dumps(request),
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=NET_TIMEOUT_S,
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"failure": f"no answer within {NET_TIMEOUT_S:g} s"}
    except ValueError:
        said = done.stderr.strip().splitlines()[-1:]
        return {"failure": ": ".join([f"its process ended with {done.returncode}", *said])[:300]}
    except OSError as error:
        raise EngineError("runtime-missing", f"no process can be started: {error}") from error
    return answer


# --- the child ----------------------------------------------------------------------------------------------


def figures(request: dict[str, Any]) -> dict[str, Any]:
    """Load one net and run it, alone and with the class's threads; all times in milliseconds."""
    feeds = _feeds(request["inputs"])
    started, started_cpu = time.perf_counter_ns(), time.thread_time_ns()
    session = _session(request, 1)
    load_cpu_ns, load_ns = time.thread_time_ns() - started_cpu, time.perf_counter_ns() - started
    cpu_ns, wall_ns = _quiet_run_ns(session, feeds)
    answer = {"loadCpuMs": load_cpu_ns, "loadMs": load_ns, "cpuMs": cpu_ns, "wallMs": wall_ns}
    if request["threads"] > 1:
        del session
        answer["threadsMs"] = _quiet_run_ns(_session(request, request["threads"]), feeds)[1]
    return {name: round(value / 1e6, 5) for name, value in answer.items()}


def _feeds(inputs: dict[str, list[int]]) -> list[dict[str, Array]]:
    """Return different inputs to take turns with.

    A processor remembers how branches went: given the same small input again and again it is up to a third faster
    than it ever is with new ones.
    """
    first = {name: noise(shape, 0) for name, shape in inputs.items()}
    size = sum(array.nbytes for array in first.values())
    count = max(FEEDS[0], min(FEEDS[1], FEEDS_BYTES // max(1, size)))
    return [
        first,
        *({name: noise(shape, turn) for name, shape in inputs.items()} for turn in range(1, count)),
    ]


def noise(shape: list[int], turn: int) -> Array:
    """Return float32 values in [-1, 1) that look like noise; the same everywhere, others every turn (SplitMix64)."""
    import numpy

    count = 1
    for size in shape:
        count *= size
    whole = numpy.uint64
    bits = numpy.arange(count, dtype=whole) + whole(turn) * whole(1 << 32)
    bits = (bits ^ (bits >> whole(30))) * whole(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> whole(27))) * whole(0x94D049BB133111EB)
    bits ^= bits >> whole(31)
    values = (bits >> whole(40)).astype(numpy.float32) / numpy.float32(1 << 23) - numpy.float32(1)
    return values.reshape(shape)


def _session(request: dict[str, Any], threads: int) -> Any:
    engine = import_engine()
    options = engine.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = request["arena"]
    options.log_severity_level = 4
    level = {
        "disabled": "ORT_DISABLE_ALL",
        "basic": "ORT_ENABLE_BASIC",
        "extended": "ORT_ENABLE_EXTENDED",
        "all": "ORT_ENABLE_ALL",
    }[request["graphOptimization"]]
    options.graph_optimization_level = getattr(engine.GraphOptimizationLevel, level)
    return engine.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])


def _quiet_run_ns(session: Any, feeds: list[dict[str, Array]]) -> tuple[float, float]:
    """Return the tenth percentile of one inference: CPU time of this thread, and wall time."""
    for feed in feeds[:WARM_UP]:
        session.run(None, feed)
    cpu: list[int] = []
    wall: list[int] = []
    least, most = RUNS
    end = time.perf_counter_ns() + RUN_S * 1e9
    while len(wall) < least or (len(wall) < most and time.perf_counter_ns() < end):
        feed = feeds[len(wall) % len(feeds)]
        started, started_cpu = time.perf_counter_ns(), time.thread_time_ns()
        session.run(None, feed)
        ended_cpu, ended = time.thread_time_ns(), time.perf_counter_ns()
        cpu.append(ended_cpu - started_cpu)
        wall.append(ended - started)
    place = int(len(cpu) * QUIET_SHARE)
    return sorted(cpu)[place], sorted(wall)[place]


def main() -> int:
    """Run the child."""
    request = json.load(sys.stdin)
    import_engine()
    gc.disable()
    try:
        answer = figures(request)
    except Exception as error:  # noqa: BLE001  whatever it is, it is told, and the next net has its turn
        answer = {"failure": f"{type(error).__name__}: {str(error).strip()}"[:300]}
    print(json.dumps(answer), flush=True)
    return 0


def check_writable(path: Path) -> None:
    """Check before minutes of measuring that their result can be written.

    Raises:
        ConfigError: `bad-out`: the folder does not exist or takes no files.
    """
    if path.is_dir() or not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise ConfigError("bad-out", f"{path} cannot be written: name a file in a folder that exists")


if __name__ == "__main__":
    raise SystemExit(main())
