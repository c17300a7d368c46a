"""Does a model work here? Its golden inputs are replayed in a child process, against tolerance and budget.

>>> check(store.path(digest), timeout_s=60, budget=Budget(latency_ms=50), soak_s=30)   # doctest: +SKIP
Evidence(load_ms=12.1, inference_ms=0.4, peak_memory_bytes=9437184, ...)

`python -m edgewright_agent.health DIR SOAK_S` is the child: one JSON object on standard output. Whatever it does
(hang, crash, eat the memory), the agent and the running model live on: it is watched (`watchdog`), is the first to go
when memory runs out, and dies with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgewright_agent import memory
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
from edgewright_agent.golden import Golden, batch_is_free, compare, load_golden, one_by_one
from edgewright_agent.model_state import DEFAULT_INFERENCE_TIMEOUT_S, shorten
from edgewright_agent.pulse import Pulse
from edgewright_agent.settings import read
from edgewright_agent.sustained import Sustained, sustain
from edgewright_agent.transport.document import parse_json
from edgewright_agent.watchdog import PARENT, Ended, Watch, run

TIMED_RUNS = 5
SURPRISE = (
    2.0  # times what was expected: a busy device or a cold cache does that, so it is told and not refused
)
_PR_SET_PDEATHSIG = 1
# What a child may say of itself; the rest of its codes are its parent's.
_VERDICTS = (
    "health-crash",
    "health-wrong-output",
    "health-memory-growth",
    "health-out-of-memory",
    "runtime-missing",
    "runtime-version",
)
_MAX_VERDICT_CHARS = 1000  # as evidence keeps it
_CODE = re.compile(r"[a-z0-9-]{0,64}")
_MAX_WORD_CHARS = 200  # of the names of engine and providers
_MAX_PROVIDERS = 16
_MAX_FIGURE = 2**53  # what every reader of JSON agrees on (RFC 8259 6)


@dataclass(frozen=True)
class Evidence:
    """What the trial measured; `peak_memory_bytes` is over the bare engine, `inference_ms` for one sample.

    `soak` is there when the golden inputs were also replayed for a while.
    """

    load_ms: float
    inference_ms: float
    peak_memory_bytes: int
    providers: tuple[str, ...]
    engine: str
    samples: int
    expected: Mapping[str, float] = field(default_factory=dict)
    soak: Sustained | None = None
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
            **({"soak": _soak_document(self.soak)} if self.soak else {}),
        }


def _soak_document(soak: Sustained) -> dict[str, Any]:
    return {
        "seconds": soak.seconds,
        "inferences": soak.inferences,
        "p95Ms": soak.p95_ms,
        "growthBytes": soak.growth_bytes,
    }


def check(
    folder: Path,
    *,
    timeout_s: float,
    budget: Budget,
    soak_s: float = 0,
    inference_timeout_s: float = DEFAULT_INFERENCE_TIMEOUT_S,
    command: tuple[str, ...] | None = None,
) -> Evidence:
    """Replay an artifact's golden samples in a child process, once and then for as long as it has to soak.

    Args:
        folder: An installed artifact.
        timeout_s: Longest the child may take to load and replay once, in seconds.
        budget: Limits of this device.
        soak_s: How long it replays after that.
        inference_timeout_s: Longest it may then be without an inference that comes back.
        command: The child, for tests; folder and `soak_s` are appended.

    Raises:
        EngineError: `runtime-missing`, `runtime-version`: not the model's fault.
        HealthError: `health-crash`, `health-timeout`, `health-out-of-memory`, `health-wrong-output`,
            `health-memory-growth`, `health-over-budget`; its facts are what was seen.
    """
    child = (*(command or (sys.executable, "-m", "edgewright_agent.health")), str(folder), f"{soak_s:g}")
    ended = run(child, Watch(timeout_s, soak_s, inference_timeout_s, budget.peak_memory_bytes))
    try:
        report = parse_json(ended.output, "the health check's answer")
        if not isinstance(report, dict):
            raise ValueError("not an object")
        if "code" in report:
            raise _refusal(ended, report)
        if ended.code != 0:
            raise _death(ended)
        evidence = parse_evidence(report)
    except ValueError:
        raise _death(ended) from None
    try:
        _check_budget(evidence, budget)
    except HealthError as error:
        error.facts = {**ended.facts, "figures": evidence.document()}
        raise
    return evidence


def parse_evidence(report: Mapping[str, Any]) -> Evidence:
    """Read what a child says it measured. A model is in it that may have taken it over: only its form is believed.

    Raises:
        ValueError: it has not the form that `replay` gives it.
    """
    try:
        soak = None if report["soak"] is None else Sustained(**report["soak"])
        evidence = Evidence(**{**report, "providers": tuple(report["providers"]), "soak": soak})
    except (TypeError, KeyError) as error:
        raise ValueError(f"not what a health check says: {error}") from None
    figures = [evidence.load_ms, evidence.inference_ms, evidence.peak_memory_bytes, evidence.samples]
    figures += [soak.seconds, soak.inferences, soak.p95_ms, soak.growth_bytes] if soak else []
    words = (evidence.engine, *evidence.providers)
    fallback = evidence.fallback if evidence.fallback is not None else {"code": "", "message": ""}
    expected = evidence.expected
    if not all(_is_number(figure) for figure in figures):
        raise ValueError("a figure is no number")
    if not all(map(_is_word, words)):
        raise ValueError("a name is none")
    if not isinstance(expected, dict) or not all(_is_number(figure) for figure in expected.values()):
        raise ValueError("what was expected is no figure")
    if len(words) > 1 + _MAX_PROVIDERS or not expected.keys() <= {"loadMs", "memoryBytes"}:
        raise ValueError("there is more than a health check says")
    _check_fallback(fallback)
    return evidence


def _check_fallback(told: object) -> None:
    if not isinstance(told, dict) or not all(isinstance(told.get(key), str) for key in ("code", "message")):
        raise ValueError("the model beside it has no verdict")
    if not _CODE.fullmatch(told["code"]) or told["message"] != shorten(told["message"]):
        raise ValueError("the verdict about the model beside it is no line of text")
    figures = {key: value for key, value in told.items() if key not in ("code", "message")}
    if not figures.keys() <= {"loadMs", "inferenceMs"} or not all(map(_is_number, figures.values())):
        raise ValueError("there is more about the model beside it than a health check says")


def _is_word(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_WORD_CHARS and value.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_FIGURE


def _death(ended: Ended) -> HealthError:
    """Return what a child that gave no answer died of."""
    if ended.killed_for_memory:
        told = (
            f"the kernel ended it for want of memory; it held {_mib(ended.facts.get('peakProcessBytes', 0))}"
        )
        return HealthError("health-out-of-memory", told, ended.facts)
    code = "health-out-of-memory" if ended.wanted_memory() else "health-crash"
    return HealthError(code, ended.obituary(), ended.facts)


def _refusal(ended: Ended, report: Mapping[str, Any]) -> HealthError:
    """Return the verdict that a child gave itself: it goes to the record and to a terminal, so its form is checked.

    Raises:
        ValueError: it is none of those that a health check has.
    """
    code, message = report["code"], report.get("message")
    if code not in _VERDICTS or not isinstance(message, str):
        raise ValueError("no verdict of a health check")
    message = shorten(message, _MAX_VERDICT_CHARS)
    if code.startswith("runtime-"):
        return EngineError(code, message, ended.facts)
    if code == "health-crash" and ended.wanted_memory(message):
        code = "health-out-of-memory"
    return HealthError(code, message, ended.facts)


def _check_budget(evidence: Evidence, budget: Budget) -> None:
    p95_ms = evidence.soak.p95_ms if evidence.soak else 0.0
    for what, measured, limit, scale, unit in (
        ("load time", evidence.load_ms, budget.load_ms, 1, "ms"),
        ("latency", evidence.inference_ms, budget.latency_ms, 1, "ms"),
        ("p95 of the latency while soaking", p95_ms, budget.latency_ms, 1, "ms"),
        ("peak memory", evidence.peak_memory_bytes, budget.peak_memory_bytes, 2**20, "MiB"),
    ):
        if limit is not None and measured > limit:
            raise HealthError(
                "health-over-budget",
                f"{what} is {measured / scale:.2f} {unit}, the budget {limit / scale:.2f} {unit}",
            )


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


# --- the child ----------------------------------------------------------------------------------------------


def replay(folder: Path, *, soak_s: float = 0, pulse: Pulse | None = None) -> Mapping[str, Any]:
    """Load, replay, compare, measure and soak, in this process; return the fields of `Evidence`.

    Raises:
        EngineError: as for `check`.
        HealthError: `health-crash`, `health-wrong-output`, `health-memory-growth`.
    """
    pulse = pulse or Pulse(None)
    engine_name = f"onnxruntime {import_engine().__version__}"
    golden = load_golden(folder / FILE_GOLDEN)
    if not golden.tells:
        raise HealthError("health-crash", f"{FILE_GOLDEN} compares nothing: any model would pass")
    bare_bytes = memory.of_process("self").peak_bytes
    pulse.stage("loading", engine=engine_name, bareBytes=bare_bytes)
    started = time.perf_counter()
    engine = load(folder)
    load_ms = (time.perf_counter() - started) * 1000
    load_labels(folder)  # an application opens them together with the model
    pulse.stage("replaying", loadMs=round(load_ms, 3), providers=list(engine.providers))
    try:
        outputs = one_by_one(engine, golden.inputs)
        inference_ms = _latency_ms(engine, golden)
        compare(outputs, golden)
        soak = None
        if soak_s > 0:
            pulse.stage("soaking", inferenceMs=round(inference_ms, 3))
            soak = sustain(engine, golden, soak_s, beat=pulse.beat)
    except InferenceError as error:
        raise HealthError("health-crash", f"golden inputs: {error}") from error
    peak_bytes = memory.of_process("self").peak_bytes - bare_bytes  # before what only runs in an emergency
    pulse.stage("fallback")  # it is loaded without a beat: from here on the deadline alone counts
    fallback = replay_fallback(folder)
    pulse.stage("done")
    return {
        "load_ms": round(load_ms, 3),
        "inference_ms": round(inference_ms, 3),
        "peak_memory_bytes": peak_bytes,
        "providers": engine.providers,
        "engine": engine_name,
        "samples": len(next(iter(golden.inputs.values()))),
        "expected": read(folder).expected,
        "soak": asdict(soak) if soak else None,
        "fallback": fallback,
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


def _latency_ms(engine: Engine, golden: Golden) -> float:
    """Median wall time of one sample (of the whole batch when the model fixes it), in milliseconds."""
    free = batch_is_free(engine)
    inputs = {name: array[:1] if free else array for name, array in golden.inputs.items()}
    times = []
    for _ in range(TIMED_RUNS):
        started = time.perf_counter()
        engine.infer(inputs)
        times.append((time.perf_counter() - started) * 1000)
    return sorted(times)[TIMED_RUNS // 2]


def main(arguments: list[str]) -> int:
    """Run the child: print one JSON object, return 0 for a healthy model, 2 otherwise."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.environ.get(PARENT, str(os.getppid())) != str(os.getppid()):
        return 2  # the agent died before that: nobody waits, and nobody would ever end this
    # A service is stopped with all of its processes: the agent ends this one, and then it is no crash of the model.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    # What an engine or a provider prints (also from C++, past Python) is a complaint, and not the answer.
    answer = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        report = replay(Path(arguments[0]), soak_s=float((*arguments, "0")[1]), pulse=Pulse.inherited())
    except AgentError as error:
        # An unreadable runtime manifest or golden file was signed that way: the model's own fault.
        code = error.code if error.code in _VERDICTS else "health-crash"
        report = {"code": code, "message": str(error)}
    except MemoryError:
        report = {"code": "health-out-of-memory", "message": "it got no more memory"}
    sys.stdout.flush()
    os.write(answer, json.dumps(report).encode())
    return 2 if "code" in report else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
