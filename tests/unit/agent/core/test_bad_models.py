"""Bad models, each through a real poll with a real health check: the old one runs on, and the evidence says why."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from edgewright_agent.evidence import Archive
from edgewright_agent.files import Disk
from real import ROOT
from unit.agent.core import onnx_artifact
from unit.agent.core.patient import VERSION
from unit.agent.core.workbench import HEALTHY, MODEL, Bench, make_artifact

# An engine that does to its process what the model says: no model file can be made to break the real one for sure.
ENGINE = """
import ctypes, sys, time
__version__ = "1.31.1"
class _Any:
    def __getattr__(self, name): return _Any()
    def __call__(self, *_, **__): return _Any()
class SessionOptions:
    def __setattr__(self, name, value): pass
    def add_session_config_entry(self, *_): pass
GraphOptimizationLevel = _Any()
def get_available_providers(): return ["CPUExecutionProvider"]
class _Port:
    def __init__(self, name, shape): self.name, self.type, self.shape = name, "tensor(float)", shape
class InferenceSession:
    def __init__(self, path, *_, **__):
        self._does = open(path).read()
        if self._does == "crash while loading":
            print("loading weights", file=sys.stderr, flush=True)
            ctypes.string_at(0)
    def get_inputs(self): return [_Port("image", ["N", 4])]
    def get_outputs(self): return [_Port("scores", ["N", 3])]
    def get_providers(self): return ["CPUExecutionProvider"]
    def run(self, names, inputs):
        import numpy
        self.count = getattr(self, "count", 0) + 1
        if self._does == "hang": time.sleep(600)
        if self._does == "hang after a while" and self.count > 20: time.sleep(600)
        if self._does == "eat":
            import resource
            limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (1 << 26)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            held = []
            while True: held.append(bytearray(1 << 22))
        pixels = inputs["image"]
        weights = numpy.sin(numpy.arange(12, dtype=numpy.float32)).reshape(4, 3) * 3
        raised = numpy.exp(pixels @ weights)
        scores = raised / raised.sum(axis=1, keepdims=True)
        if self._does == "drift" and self.count > 20: scores = scores[:, ::-1]
        return [scores.astype(numpy.float32)]
"""


@dataclass(frozen=True)
class Polled:
    """What one poll of a device that ran 1.0.0 came to."""

    bench: Bench
    exit_code: int
    text: str

    @property
    def evidence(self) -> dict[str, Any]:
        (stone,) = self.bench.ledger.record.model(MODEL).tombstones
        (entry,) = Archive(self.bench.state, Disk()).entries()
        assert (stone.version, stone.evidence) == (VERSION, entry.name)
        found = entry.document()
        assert (found["code"], found["modelVersion"]) == (stone.code, VERSION)
        return found


def poll(tmp_path: Path, *, does: str | None = None, policy: str = "{}", **changes: Any) -> Polled:
    """Poll once; `does` is what the model makes of the engine above, else the real engine runs what `changes` make."""
    bench, command = prepared(tmp_path, does=does, policy=policy, **changes)
    ran = subprocess.run(**command, check=False, timeout=120)
    assert ran.returncode in (0, 2), ran.stderr
    return Polled(Bench(bench.folder), ran.returncode, ran.stdout)


def prepared(
    tmp_path: Path, *, does: str | None, policy: str = "{}", **changes: Any
) -> tuple[Bench, dict[str, Any]]:
    """A device that runs 1.0.0, and the process of its next poll."""
    bench = Bench(tmp_path / "device")
    bench.publish(make_artifact("1.0.0"))
    assert bench.codes() == ["installed"]
    files = onnx_artifact.write(tmp_path / "files", **changes)
    paths = [f"{ROOT}/tests", f"{ROOT}/agent"]
    if does:
        (files / "model.onnx").write_text(does)
        (tmp_path / "engine").mkdir()
        (tmp_path / "engine" / "onnxruntime.py").write_text(ENGINE)
        paths.insert(0, str(tmp_path / "engine"))
    return bench, {
        "args": [sys.executable, "-m", "unit.agent.core.patient", str(bench.folder), str(files), policy],
        "cwd": ROOT / "tests",
        "env": {**os.environ, "PYTHONPATH": ":".join(paths)},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


@pytest.mark.parametrize(
    ("does", "policy", "tries", "code", "exit_of_child", "stage"),
    [
        ("crash while loading", "{}", 2, "health-crash", {"signal": "SIGSEGV"}, "loading"),
        (
            "hang",
            '{"healthTimeoutS": 3, "attempts": 1}',
            1,
            "health-timeout",
            {"endedBy": "agent"},
            "",
        ),
        (
            "hang after a while",
            '{"trialSoakS": 600, "inferenceTimeoutS": 1, "attempts": 1}',
            1,
            "health-timeout",
            {"endedBy": "agent"},
            "soaking",
        ),
        ("eat", '{"attempts": 1}', 1, "health-out-of-memory", {"code": 2}, "replaying"),
    ],
)
def test_a_model_that_breaks_its_process_is_rolled_back_with_evidence(
    tmp_path: Path, does: str, policy: str, tries: int, code: str, exit_of_child: dict[str, Any], stage: str
) -> None:
    polled = poll(tmp_path, does=does, policy=policy)
    assert (polled.exit_code, polled.bench.running()) == (2, "1.0.0")
    assert f"rolled back  {VERSION}" in polled.text
    found = polled.evidence
    assert (found["code"], found["exit"]) == (code, exit_of_child)
    assert stage in ("", found.get("stage")), "on a busy machine, loading may be what took the time"
    assert [attempt["code"] for attempt in found["tries"]] == [code] * tries, "every attempt is told"
    assert found["engine"] == "onnxruntime 1.31.1"
    assert found["peakProcessBytes"] > 0
    if does.startswith("crash"):
        assert found["stderr"].startswith("loading weights")


@pytest.mark.parametrize(
    ("number", "left"),
    [(signal.SIGTERM, 2), (signal.SIGINT, 2), (signal.SIGKILL, 1)],
    ids=["a stop of the service", "Ctrl-C", "what cannot be told from a model that ends everything"],
)
def test_a_trial_that_is_stopped_costs_no_attempt_and_leaves_no_process(
    tmp_path: Path, number: int, left: int
) -> None:
    bench, command = prepared(tmp_path, does="hang")
    with subprocess.Popen(**command) as polling:
        try:
            ends_s = time.monotonic() + 60
            while not (child := children(polling.pid)) or not deaf(child[0]):
                assert time.monotonic() < ends_s
                time.sleep(0.02)
            found = bench.ledger.record.model(MODEL).trial
            assert found and found.attempts_left == 1, "counted before it is loaded"
            if number == signal.SIGTERM:  # as systemd tells all processes of a service
                os.kill(child[0], number)
            polling.send_signal(number)
            assert polling.wait(60) == -number, "it ends as it always did"
            while parent_of(child[0]) is not None:
                assert time.monotonic() < ends_s
                time.sleep(0.02)
        finally:
            polling.kill()
    state = bench.ledger.record.model(MODEL)
    assert state.trial and state.trial.attempts_left == left
    assert not state.tombstones
    bench.doctor, bench.shelf.down = cast("Any", lambda *_, **__: HEALTHY), True
    assert (bench.codes(), bench.running()) == (["installed"], VERSION), "and it goes on at the next start"


def children(pid: int) -> list[int]:
    """Processes that a process has started and that still run."""
    there = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
    return [one for one in there if parent_of(one) == pid]


def parent_of(pid: int) -> int | None:
    """The parent of a process; None when it does not run any more."""
    with contextlib.suppress(OSError):
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[:2]
        return None if state in "ZX" else int(parent)
    return None


def deaf(pid: int) -> bool:
    """Whether a process ignores SIGTERM, as the health check does once it has begun."""
    with contextlib.suppress(OSError):
        ignored = (Path(f"/proc/{pid}/status").read_text()).partition("SigIgn:")[2].split()[0]
        return bool(int(ignored, 16) >> (signal.SIGTERM - 1) & 1)
    return False


def test_an_answer_that_drifts_during_the_soak_gets_no_second_chance(tmp_path: Path) -> None:
    polled = poll(tmp_path, does="drift", policy='{"trialSoakS": 600}')
    assert (polled.exit_code, polled.bench.running()) == (2, "1.0.0")
    found = polled.evidence
    assert (found["code"], found["stage"], len(found["tries"])) == ("health-wrong-output", "soaking", 1)


def test_a_wrong_answer_of_the_real_engine_is_kept_as_evidence(tmp_path: Path) -> None:
    wrong = onnx_artifact.scores(onnx_artifact.PIXELS, -onnx_artifact.WEIGHTS)
    polled = poll(tmp_path, outputs=wrong)
    assert (polled.exit_code, polled.bench.running()) == (2, "1.0.0")
    found = polled.evidence
    assert (found["code"], len(found["tries"]), found["attemptsLeft"]) == ("health-wrong-output", 1, 1)
    assert "scores is off by up to" in found["reason"]


def test_a_budget_of_the_class_holds_on_a_device_that_has_none(tmp_path: Path) -> None:
    polled = poll(tmp_path, policy='{"budget": {"loadMs": 0.000001}}')
    assert (polled.exit_code, polled.bench.running()) == (2, "1.0.0")
    found = polled.evidence
    assert (found["code"], found["stage"]) == ("health-over-budget", "done")
    assert found["figures"]["loadMs"] > 0


def test_a_good_model_soaks_on_trial_and_then_live(tmp_path: Path) -> None:
    polled = poll(tmp_path, policy='{"trialSoakS": 0.3, "soakS": 3600}')
    assert (polled.exit_code, polled.bench.running()) == (0, VERSION)
    state = polled.bench.ledger.record.model(MODEL)
    assert state.active
    assert state.proving
    assert (state.active.health or {})["soak"]["seconds"] >= 0.3
    assert state.previous
    assert state.previous.version == "1.0.0"
