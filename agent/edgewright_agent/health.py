"""Does a model work here? Its golden inputs are replayed in a child process, against tolerance and budget.

>>> check(store.path(digest), timeout_s=60, budget=Budget(latency_ms=50))   # doctest: +SKIP
Evidence(load_ms=12.1, inference_ms=0.4, peak_memory_bytes=9437184, ...)

`python -m edgewright_agent.health DIR` is the child: one JSON object on standard output. Whatever it does
(hang, crash, eat the memory), the agent and the running model live on: it has its own process group, is
killed at the deadline, is the first to go when memory runs out, and dies with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent.config import Budget
from edgewright_agent.contract import FILE_GOLDEN
from edgewright_agent.engine import (
    Engine,
    EngineError,
    InferenceError,
    has_variant,
    import_engine,
    load,
    load_labels,
)
from edgewright_agent.errors import AgentError, HealthError
from edgewright_agent.golden import Golden, compare, load_golden
from edgewright_agent.model_state import shorten
from edgewright_agent.settings import read

if TYPE_CHECKING:
    pass

MAX_OUTPUT_BYTES = 64 * 1024
TIMED_RUNS = 5
SURPRISE = (
    2.0  # times what was expected: a busy device or a cold cache does that, so it is told and not refused
)
_PR_SET_PDEATHSIG = 1
_PARENT = "EDGEWRIGHT_AGENT_PID"  # environment of the child


@dataclass(frozen=True)
class Evidence:
    """What the trial measured; `peak_memory_bytes` is over the bare engine, `inference_ms` for one sample."""

    load_ms: float
    inference_ms: float
    peak_memory_bytes: int
    providers: tuple[str, ...]
    engine: str
    samples: int
    expected: Mapping[str, float] = field(default_factory=dict)
    fallback: Mapping[str, Any] | None = None

    @property
    def surprises(self) -> tuple[str, ...]:
        """What is far from what the pipeline expected, in words: not refused, but worth a look."""
        told = (
            ("loads in {:.0f} ms, expected {:.0f} ms", self.load_ms, self.expected.get("loadMs"), 1),
            (
                "takes {:.1f} MiB, expected {:.1f} MiB",
                self.peak_memory_bytes,
                self.expected.get("memoryBytes"),
                2**20,
            ),
        )
        return tuple(
            text.format(measured / unit, expected / unit)
            for text, measured, expected, unit in told
            if expected is not None and measured > SURPRISE * expected
        ) + (
            (f"its model for the processor does not work: {self.fallback['message']}",)
            if self.fallback and self.fallback["code"]
            else ()
        )

    def document(self) -> dict[str, Any]:
        """Return the figures as the record and `status --json` carry them."""
        return {
            "loadMs": self.load_ms,
            "inferenceMs": self.inference_ms,
            "peakMemoryBytes": self.peak_memory_bytes,
            "providers": list(self.providers),
            "engine": self.engine,
            "samples": self.samples,
            **({"expected": dict(self.expected)} if self.expected else {}),
            **({"fallback": dict(self.fallback)} if self.fallback else {}),
            **({"surprises": list(self.surprises)} if self.surprises else {}),
        }


def check(
    folder: Path, *, timeout_s: float, budget: Budget, command: tuple[str, ...] | None = None
) -> Evidence:
    """Replay an artifact's golden samples in a child process.

    Args:
        folder: An installed artifact.
        timeout_s: Longest the child may take, in seconds.
        budget: Limits of this device.
        command: The child, for tests; the folder is appended.

    Raises:
        EngineError: `runtime-missing`, `runtime-version`: not the model's fault.
        HealthError: `health-crash`, `health-timeout`, `health-wrong-output`, `health-over-budget`.
    """
    code, output, complaints = _run_child(
        (*(command or (sys.executable, "-m", "edgewright_agent.health")), str(folder)), timeout_s
    )
    try:
        report = json.loads(output)
        if not isinstance(report, dict):
            raise ValueError("not an object")
    except ValueError:
        raise HealthError("health-crash", _obituary(code, complaints)) from None
    if "code" in report:
        error = EngineError if report["code"].startswith("runtime-") else HealthError
        raise error(report["code"], report["message"])
    if code != 0:
        raise HealthError("health-crash", _obituary(code, complaints))
    evidence = Evidence(**{**report, "providers": tuple(report["providers"])})
    _check_budget(evidence, budget)
    return evidence


def _check_budget(evidence: Evidence, budget: Budget) -> None:
    for what, measured, limit, scale, unit in (
        ("load time", evidence.load_ms, budget.load_ms, 1, "ms"),
        ("latency", evidence.inference_ms, budget.latency_ms, 1, "ms"),
        ("peak memory", evidence.peak_memory_bytes, budget.peak_memory_bytes, 2**20, "MiB"),
    ):
        if limit is not None and measured > limit:
            raise HealthError(
                "health-over-budget",
                f"{what} is {measured / scale:.2f} {unit}, the budget {limit / scale:.2f} {unit}",
            )


def _run_child(command: tuple[str, ...], timeout_s: float) -> tuple[int, bytes, bytes]:
    """Return exit code, output and complaints of a child; its whole process group is gone afterwards."""
    environment = {
        **os.environ,
        "PYTHONSAFEPATH": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        _PARENT: str(os.getpid()),
    }
    try:
        child = subprocess.Popen(  # noqa: S603  our own interpreter, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    except OSError as error:  # no memory or no process left at the moment
        raise EngineError("runtime-missing", f"the health check cannot be started: {error}") from error
    assert child.stdout and child.stderr  # noqa: S101  both are pipes
    deadline = time.monotonic() + timeout_s
    kept = {child.stdout.fileno(): b"", child.stderr.fileno(): b""}
    try:
        with selectors.DefaultSelector() as selector:
            for fd in kept:
                selector.register(fd, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if time.monotonic() >= deadline:  # also for a child that never stops talking
                    raise HealthError("health-timeout", f"no answer from the model within {timeout_s:g} s")
                for key, _ in ready:
                    data = os.read(key.fd, 16384)
                    if not data:
                        selector.unregister(key.fd)
                    kept[key.fd] = (kept[key.fd] + data)[: MAX_OUTPUT_BYTES + 1]
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise HealthError("health-timeout", f"the model did not end within {timeout_s:g} s") from None
        if len(kept[child.stdout.fileno()]) > MAX_OUTPUT_BYTES:
            raise HealthError("health-crash", f"the health check wrote more than {MAX_OUTPUT_BYTES} bytes")
        return child.returncode, kept[child.stdout.fileno()], kept[child.stderr.fileno()]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        child.stderr.close()


def _obituary(code: int, complaints: bytes) -> str:
    how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    last = complaints.decode(errors="replace").strip().splitlines()[-1:]
    return f"the health check {how}" + (f": {last[0][:200]}" if last else "")


# --- the child ----------------------------------------------------------------------------------------------


def replay(folder: Path) -> Mapping[str, Any]:
    """Load, replay, compare and measure, in this process.

    Raises:
        EngineError: as for `check`.
        HealthError: `health-crash`, `health-wrong-output`.
    """
    engine_version = import_engine().__version__
    golden = load_golden(folder / FILE_GOLDEN)
    if not golden.tells:
        raise HealthError("health-crash", f"{FILE_GOLDEN} compares nothing: any model would pass")
    bare_bytes = peak_memory_bytes()
    started = time.perf_counter()
    engine = load(folder)
    load_ms = (time.perf_counter() - started) * 1000
    load_labels(folder)  # an application opens them together with the model
    try:
        outputs = one_by_one(engine, golden.inputs)
        inference_ms = _latency_ms(engine, golden)
    except InferenceError as error:
        raise HealthError("health-crash", f"golden inputs: {error}") from error
    compare(outputs, golden)
    peak_bytes = peak_memory_bytes() - bare_bytes  # before anything that only runs in an emergency
    return {
        "load_ms": round(load_ms, 3),
        "inference_ms": round(inference_ms, 3),
        "peak_memory_bytes": peak_bytes,
        "providers": engine.providers,
        "engine": f"onnxruntime {engine_version}",
        "samples": len(next(iter(golden.inputs.values()))),
        "expected": read(folder).expected,
        "fallback": replay_fallback(folder),
    }


def replay_fallback(folder: Path) -> dict[str, Any] | None:
    """Try the model beside it for the processor; None when there is none.

    One that answers wrongly or is rejected is told and does not fail the trial: the model itself is good, and sessions
    pass this step of the ladder by. One that takes the process down does: it would take an application down, too.
    """
    if not has_variant(folder, "cpu"):
        return None
    told: dict[str, Any] = {"code": "", "message": ""}
    try:
        golden = load_golden(folder / FILE_GOLDEN, "cpu")
        if not golden.tells:
            raise HealthError("health-crash", f"{FILE_GOLDEN} compares nothing")
        started = time.perf_counter()
        engine = load(folder, "cpu")
        told["loadMs"] = round((time.perf_counter() - started) * 1000, 3)
        compare(one_by_one(engine, golden.inputs), golden)
        told["inferenceMs"] = round(_latency_ms(engine, golden), 3)
    except AgentError as error:
        told |= {"code": error.code, "message": shorten(str(error))}
    except (KeyError, TypeError, ValueError) as error:
        told |= {"code": "health-crash", "message": f"{FILE_GOLDEN} has no answers of it: {error!r}"}
    return told


def fallback_works(health: Mapping[str, Any] | None) -> bool:
    """Whether a slot's figures say that the model beside it for the processor passed its trial."""
    found = (health or {}).get("fallback")
    return isinstance(found, Mapping) and found.get("code") == ""


def one_by_one(engine: Engine, inputs: dict[str, Any]) -> dict[str, Any]:
    """Infer each sample by itself, as applications do and as the golden outputs were made; a fixed batch at once.

    Raises:
        InferenceError: an inference fails.
    """
    import numpy

    if not _batch_is_free(engine):
        return engine.infer(inputs)
    count = len(next(iter(inputs.values())))
    parts = [
        engine.infer({name: array[row : row + 1] for name, array in inputs.items()}) for row in range(count)
    ]
    return {name: numpy.concatenate([part[name] for part in parts]) for name in parts[0]}


def _batch_is_free(engine: Engine) -> bool:
    return all(port.shape and port.shape[0] is None for port in engine.inputs)


def _latency_ms(engine: Engine, golden: Golden) -> float:
    """Median wall time of one sample (of the whole batch when the model fixes it), in milliseconds."""
    free = _batch_is_free(engine)
    inputs = {name: array[:1] if free else array for name, array in golden.inputs.items()}
    times = []
    for _ in range(TIMED_RUNS):
        started = time.perf_counter()
        engine.infer(inputs)
        times.append((time.perf_counter() - started) * 1000)
    return sorted(times)[TIMED_RUNS // 2]


def peak_memory_bytes() -> int:
    """Return this process's peak resident memory (VmHWM: unlike ru_maxrss, not the parent's)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def main(arguments: list[str]) -> int:
    """Run the child: print one JSON object, return 0 for a healthy model, 2 otherwise."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.environ.get(_PARENT, str(os.getppid())) != str(os.getppid()):
        return 2  # the agent died before that: nobody waits, and nobody would ever end this
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        # onnxruntime prints to standard output when a provider does not start and the next takes its place.
        with contextlib.redirect_stdout(sys.stderr):
            report = replay(Path(arguments[0]))
    except AgentError as error:
        # An unreadable runtime manifest or golden file was signed that way: the model's own fault.
        code = error.code if error.code.startswith(("health-", "runtime-")) else "health-crash"
        report = {"code": code, "message": str(error)}
    print(json.dumps(report), flush=True)
    return 2 if "code" in report else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
