"""The health check: a real engine in a real child process, and children that misbehave in every way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright_agent import health
from edgewright_agent.config import Budget
from edgewright_agent.engine import EngineError
from edgewright_agent.errors import HealthError
from edgewright_agent.health import Evidence, check, parse_evidence
from edgewright_agent.pulse import Pulse
from unit.agent.core import onnx_artifact
from unit.agent.core.onnx_artifact import PIXELS, WEIGHTS

GENEROUS = Budget(load_ms=60_000, latency_ms=60_000, peak_memory_bytes=1 << 32)


def verdict(folder: Path, *, budget: Budget = GENEROUS) -> HealthError:
    with pytest.raises(HealthError) as failed:
        check(folder, timeout_s=60, budget=budget)
    return failed.value


def misbehaving(program: str, *, timeout_s: float = 60) -> HealthError:
    """The verdict on a child that runs this program instead of the health check."""
    with pytest.raises(HealthError) as failed:
        check(Path("/"), timeout_s=timeout_s, budget=Budget(), command=(sys.executable, "-c", program))
    return failed.value


def test_a_sound_model_gives_its_figures(tmp_path: Path) -> None:
    evidence = check(onnx_artifact.write(tmp_path / "m"), timeout_s=60, budget=GENEROUS)
    assert isinstance(evidence, Evidence)
    assert evidence.providers == ("CPUExecutionProvider",), "what is not available here is left out"
    assert evidence.samples == len(PIXELS)
    assert evidence.load_ms > 0
    assert evidence.inference_ms > 0
    assert evidence.peak_memory_bytes >= 0
    assert evidence.engine.startswith("onnxruntime 1.")


def test_the_model_beside_it_is_tried_when_the_soak_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    class Said(Pulse):
        def stage(self, name: str, **known: Any) -> None:
            said.append(name)

    monkeypatch.setattr(health, "replay_fallback", lambda _folder: said.append("it is tried"))
    health.replay(onnx_artifact.write(tmp_path / "m"), soak_s=0.01, pulse=Said(None))
    assert said == ["loading", "replaying", "soaking", "fallback", "it is tried", "done"]


def test_another_models_outputs_are_wrong(tmp_path: Path) -> None:
    folder = onnx_artifact.write(tmp_path / "m", outputs=onnx_artifact.scores(PIXELS, -WEIGHTS))
    error = verdict(folder)
    assert error.code == "health-wrong-output"
    assert "scores is off by up to" in str(error)


def test_an_output_within_tolerance_that_names_another_winner_is_wrong(tmp_path: Path) -> None:
    outputs = onnx_artifact.scores(PIXELS)
    outputs[0] = np.roll(outputs[0], 1)
    error = verdict(onnx_artifact.write(tmp_path / "m", outputs=outputs, tolerance=10.0))
    assert error.code == "health-wrong-output"
    assert "winner for 1 samples" in str(error)


def test_an_embedding_names_no_winner(tmp_path: Path) -> None:
    outputs = onnx_artifact.scores(PIXELS)
    outputs[0] = np.roll(outputs[0], 1)
    named = onnx_artifact.write(tmp_path / "named", outputs=outputs, tolerance=10.0, winners=["scores"])
    assert verdict(named).code == "health-wrong-output"
    silent = onnx_artifact.write(tmp_path / "silent", outputs=outputs, tolerance=10.0, winners=[])
    assert check(silent, timeout_s=60, budget=GENEROUS).samples == len(PIXELS)


def test_outputs_that_are_not_finite_are_wrong(tmp_path: Path) -> None:
    folder = onnx_artifact.write(tmp_path / "m", weights=np.full((4, 3), np.nan, np.float32))
    assert (error := verdict(folder)).code == "health-wrong-output"
    assert "not finite" in str(error)


def test_another_shape_is_wrong(tmp_path: Path) -> None:
    folder = onnx_artifact.write(tmp_path / "m", outputs=np.zeros((8, 2), np.float32))
    assert verdict(folder).code == "health-wrong-output"


def test_a_model_that_is_no_model_crashes(tmp_path: Path) -> None:
    folder = onnx_artifact.write(tmp_path / "m")
    (folder / "model.onnx").write_bytes(b"not a protobuf")
    assert (error := verdict(folder)).code == "health-crash"
    assert "rejects the model" in str(error)


@pytest.mark.parametrize("file", ["runtime.json", "golden.json", "labels.json"])
@pytest.mark.parametrize("content", [b"{", b"[]", b"{}"])
def test_unreadable_files_of_a_signed_artifact_are_the_models_fault(
    tmp_path: Path, file: str, content: bytes
) -> None:
    folder = onnx_artifact.write(tmp_path / "m")
    (folder / file).write_bytes(content)
    assert verdict(folder).code == "health-crash"


@pytest.mark.parametrize(
    "change",
    [
        {"outputs": {}},
        {"inputs": {}},
        {"outputs": {"scores": onnx_artifact.encoded(np.zeros((0, 3), np.float32))}},
        {"atol": float("inf")},
        {"rtol": float("nan")},
    ],
)
def test_golden_samples_that_any_model_would_pass_are_the_models_fault(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    folder = onnx_artifact.write(tmp_path / "m")
    golden = json.loads((folder / "golden.json").read_bytes())
    (folder / "golden.json").write_text(json.dumps({**golden, **change}))
    assert (error := verdict(folder)).code == "health-crash"
    assert "any model would pass" in str(error)


def test_a_check_that_cannot_be_started_is_not_the_models_fault() -> None:
    with pytest.raises(EngineError) as failed:
        check(Path("/"), timeout_s=60, budget=Budget(), command=("/nowhere/python",))
    assert (failed.value.code, failed.value.exit_code) == ("runtime-missing", 3)


def test_what_was_expected_is_compared_and_told_but_never_refused(tmp_path: Path) -> None:
    folder = onnx_artifact.write(tmp_path / "m", expected={"loadMs": 0.001, "memoryBytes": 2**40})
    evidence = check(folder, timeout_s=60, budget=Budget())
    [surprise] = evidence.surprises
    assert surprise.startswith("loads in ")
    assert surprise.endswith("expected 0 ms")
    assert evidence.document()["expected"] == {"loadMs": 0.001, "memoryBytes": 2.0**40}
    assert evidence.document()["surprises"] == [surprise]


def test_a_model_that_says_nothing_of_it_surprises_nobody(tmp_path: Path) -> None:
    document = check(onnx_artifact.write(tmp_path / "m"), timeout_s=60, budget=Budget()).document()
    assert not {"expected", "surprises"} & set(document)


def test_what_the_engine_prints_about_a_provider_does_not_spoil_the_answer(tmp_path: Path) -> None:
    program = (
        "import sys, onnxruntime\n"
        "class Talking(onnxruntime.InferenceSession):\n"
        "    def __init__(self, *given, **named):\n"
        "        print('EP Error, falling back to CPUExecutionProvider and retrying')\n"
        "        super().__init__(*given, **named)\n"
        "onnxruntime.InferenceSession = Talking\n"
        "from edgewright_agent.health import main; raise SystemExit(main(sys.argv[1:]))"
    )
    folder = onnx_artifact.write(tmp_path / "m")
    evidence = check(folder, timeout_s=60, budget=GENEROUS, command=(sys.executable, "-c", program))
    assert evidence.samples == 8


def test_an_engine_out_of_range_is_not_the_models_fault(tmp_path: Path) -> None:
    error = verdict(onnx_artifact.write(tmp_path / "m", versions=">=1.0,<1.1"))
    assert isinstance(error, EngineError)
    assert (error.code, error.exit_code) == ("runtime-version", 3)


def test_no_provider_of_the_model_is_here(tmp_path: Path) -> None:
    error = verdict(onnx_artifact.write(tmp_path / "m", providers=["TensorrtExecutionProvider"]))
    assert isinstance(error, EngineError)


def test_an_engine_that_is_not_installed_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    folder = onnx_artifact.write(tmp_path / "m")
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from edgewright_agent.health import main; raise SystemExit(main(sys.argv[1:]))"
    )
    with pytest.raises(EngineError) as failed:
        check(folder, timeout_s=60, budget=Budget(), command=(sys.executable, "-c", program))
    assert failed.value.code == "runtime-missing"
    assert "edgewright-agent[runtime]" in str(failed.value)


@pytest.mark.parametrize(
    ("budget", "what"),
    [
        (Budget(load_ms=0), "load time"),
        (Budget(latency_ms=0), "latency"),
        (Budget(peak_memory_bytes=0), "peak memory"),
    ],
)
def test_a_model_over_its_budget_is_told_with_both_figures(tmp_path: Path, budget: Budget, what: str) -> None:
    error = verdict(onnx_artifact.write(tmp_path / "m"), budget=budget)
    assert error.code == "health-over-budget"
    assert str(error).startswith(f"{what} is ")


def test_a_crash_is_told_with_its_signal() -> None:
    error = misbehaving("import os; os.abort()")
    assert (error.code, "SIGABRT" in str(error)) == ("health-crash", True)


def test_an_exit_is_told_with_its_code_and_last_words() -> None:
    error = misbehaving("import sys; print('out of cheese', file=sys.stderr); sys.exit(7)")
    assert error.code == "health-crash"
    assert "ended with 7: out of cheese" in str(error)


def test_a_hang_ends_at_the_deadline_and_takes_its_children_along(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = (
        "import subprocess, sys, pathlib, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    assert misbehaving(program, timeout_s=2).code == "health-timeout"
    if pid_file.exists() and (pid := pid_file.read_text()):
        # Killed is not dead yet: on a busy machine a process takes its end only when it is scheduled next.
        ends_s = time.monotonic() + 30
        while lives(pid) and time.monotonic() < ends_s:
            time.sleep(0.05)
        assert not lives(pid)


def lives(pid: str) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_check_whose_agent_has_died_before_it_began_ends_by_itself(tmp_path: Path) -> None:
    folder = onnx_artifact.write(tmp_path / "m")
    command = [sys.executable, "-m", "edgewright_agent.health", str(folder)]
    for parent, answers in ((os.getpid(), True), (os.getppid(), False)):
        environment = {**os.environ, "EDGEWRIGHT_AGENT_PID": str(parent)}
        ran = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert (ran.returncode == 0, bool(ran.stdout)) == (answers, answers)


def test_endless_output_is_neither_kept_nor_waited_for() -> None:
    program = "while True: print('x' * 65536)"
    assert misbehaving(program, timeout_s=1).code == "health-timeout"


def test_too_much_output_is_no_answer() -> None:
    assert misbehaving("print('[' + '1,' * 100000 + '1]')").code == "health-crash"


def test_the_check_leaks_no_descriptors(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        misbehaving("raise SystemExit(1)")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def _answer(**changes: Any) -> dict[str, Any]:
    told = {
        "load_ms": 1.5, "inference_ms": 0.5, "peak_memory_bytes": 4096, "providers": ["CPUExecutionProvider"],
        "engine": "onnxruntime 1.23.0", "samples": 8, "expected": {}, "soak": None, "fallback": None,
    }  # fmt: skip
    return {**told, **changes}


def test_an_answer_in_the_form_of_a_check_is_taken() -> None:
    soak = {"seconds": 1.0, "inferences": 7, "p95_ms": 0.5, "growth_bytes": -4096}
    fallback = {"code": "", "message": "", "loadMs": 1.0}
    found = parse_evidence(_answer(soak=soak, fallback=fallback, expected={"loadMs": 2.0}))
    assert found.soak is not None and found.soak.inferences == 7


@pytest.mark.parametrize(
    "answer",
    [
        {},
        _answer(more=1),
        _answer(load_ms="1"),
        _answer(load_ms=True),
        _answer(peak_memory_bytes=2**60),
        _answer(providers=7),
        _answer(providers=[7]),
        _answer(providers=["\x1b[2J"]),
        _answer(engine="x" * 1000),
        _answer(expected=[]),
        _answer(expected={"loadMs": "soon"}),
        _answer(soak=7),
        _answer(soak={"seconds": 1}),
        _answer(soak={"seconds": "1", "inferences": 7, "p95_ms": 1, "growth_bytes": 0}),
        _answer(fallback="good"),
        _answer(fallback={"code": 0, "message": ""}),
        _answer(fallback={"code": "", "message": "\x1b]0;title"}),
        _answer(fallback={"code": "\x1b[2J", "message": ""}),
        _answer(fallback={"code": "x" * 50_000, "message": ""}),
        _answer(fallback={"code": "", "message": "", "more": "x" * 50_000}),
        _answer(fallback={"code": "", "message": "", "loadMs": "soon"}),
        _answer(providers=["x"] * 5000),
        _answer(expected={f"x{number}": 1.0 for number in range(5000)}),
        {"code": "x"},
        {"code": "health-wrong-output"},
        {"code": "health-wrong-output", "message": 7},
        {"code": ["health-wrong-output"], "message": "off"},
        {"code": "waits-for-window", "message": "later"},
        {"code": "health-" + "x" * 50_000, "message": ""},
        {"code": "runtime-\x1b[2J", "message": ""},
    ],
)
def test_an_answer_that_a_model_has_made_up_is_a_crash_and_no_traceback(
    answer: dict[str, Any], tmp_path: Path
) -> None:
    child = (sys.executable, "-c", f"print({json.dumps(answer)!r})")
    with pytest.raises(HealthError) as failed:
        check(tmp_path, timeout_s=30, budget=Budget(), command=child)
    assert failed.value.code == "health-crash"


def test_a_verdict_of_its_own_is_one_line_with_a_bound() -> None:
    said = {"code": "health-wrong-output", "message": "off\n\x1b[2J" + "x" * 50_000}
    error = misbehaving(f"print({json.dumps(said)!r}); raise SystemExit(2)")
    assert error.code == "health-wrong-output"
    assert str(error).startswith("off ?[2Jxxx")
    assert len(str(error)) == 1000


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_figure_that_is_no_number_is_under_no_budget(number: str, tmp_path: Path) -> None:
    text = json.dumps(_answer()).replace("1.5", number)
    with pytest.raises(HealthError) as failed:
        check(
            tmp_path,
            timeout_s=30,
            budget=Budget(load_ms=1),
            command=(sys.executable, "-c", f"print({text!r})"),
        )
    assert failed.value.code == "health-crash"
