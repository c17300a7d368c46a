"""The watched child of a health check: real processes that hang, eat memory and tell stories."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewright_agent import memory, pulse
from edgewright_agent.config import Budget
from edgewright_agent.errors import HealthError
from edgewright_agent.health import check
from edgewright_agent.watchdog import Ended, Watch, run

SAY = "import os, sys, time\nsay = lambda line: os.write(int(os.environ['EDGEWRIGHT_HEALTH_PULSE']), line + b'\\n')\n"
SOAKS = SAY + 'say(b\'{"stage": "soaking"}\')\n'
CGROUP_V1, CGROUP_V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


def ended(program: str, watch: Watch) -> HealthError:
    """Why the parent ended a child that runs this program."""
    with pytest.raises(HealthError) as failed:
        run((sys.executable, "-c", program), watch)
    return failed.value


def refused(program: str, *, budget: Budget | None = None) -> HealthError:
    """The verdict on a child that runs this program."""
    with pytest.raises(HealthError) as failed:
        check(Path("/"), timeout_s=60, budget=budget or Budget(), command=(sys.executable, "-c", program))
    return failed.value


def test_a_child_that_soaks_and_gives_no_sign_of_life_is_ended() -> None:
    error = ended(SOAKS + "time.sleep(600)", Watch(600, soak_s=600, inference_timeout_s=0.2))
    assert error.code == "health-timeout"
    assert "hangs: no inference came back for 0.2 s" in str(error)
    assert (error.facts["stage"], error.facts["exit"]) == ("soaking", {"endedBy": "agent"})


def test_signs_of_life_keep_a_child_going_beyond_the_time_of_one_inference() -> None:
    beats = "for _ in range(25):\n    time.sleep(0.1); say(b'.')\n"
    found = run(
        (sys.executable, "-c", SOAKS + beats + "say(b'{\"stage\": \"done\"}'); print('over')"),
        Watch(600, soak_s=600, inference_timeout_s=2),
    )
    assert (found.code, found.output) == (0, b"over\n")
    assert found.facts["stage"] == "done"


def test_the_time_for_loading_is_not_the_time_of_one_inference() -> None:
    program = SAY + "say(b'{\"stage\": \"loading\"}'); time.sleep(0.5); print('over')"
    assert run((sys.executable, "-c", program), Watch(60, soak_s=1, inference_timeout_s=0.1)).code == 0


def test_the_time_for_the_model_beside_it_is_not_the_time_of_one_inference() -> None:
    program = SOAKS + "say(b'.'); say(b'{\"stage\": \"fallback\"}'); time.sleep(1); print('over')"
    found = run((sys.executable, "-c", program), Watch(60, soak_s=1, inference_timeout_s=0.5))
    assert (found.code, found.output, found.facts["stage"]) == (0, b"over\n", "fallback")
    forever = SOAKS + 'say(b\'{"stage": "fallback"}\'); time.sleep(600)'
    error = ended(forever, Watch(0.3, soak_s=0.1, inference_timeout_s=60))
    assert (error.code, error.facts["stage"]) == ("health-timeout", "fallback")


def test_a_child_cannot_win_time_by_beginning_its_soak_again() -> None:
    again = 'while True:\n    say(b\'{"stage": "soaking"}\'); time.sleep(0.01)'
    error = ended(SAY + again, Watch(0.3, soak_s=0.3, inference_timeout_s=60))
    assert (error.code, error.facts["stage"]) == ("health-timeout", "soaking")


def test_a_child_that_was_not_asked_to_soak_wins_nothing_by_saying_so() -> None:
    error = ended(SOAKS + "time.sleep(600)", Watch(0.5, inference_timeout_s=60))
    assert error.code == "health-timeout"


def test_lies_on_the_pipe_are_beats_at_most() -> None:
    signs, rest = pulse.read(b'{"stage": "heaven"}\n[]\n{"stage": {}}\n' + b"[" * 5000 + b"\n" + b"x" * 9000)
    assert signs == ({}, {}, {}, {})
    assert len(rest) == pulse.MAX_LINE_BYTES
    assert pulse.read(b"{" * 400 + b"\n")[0] == ({},)


@pytest.mark.parametrize(
    ("line", "known"),
    [
        (b'{"stage": "loading", "x": "\\ud800"}', {}),
        (b'{"stage": "loading", "bareBytes": 1e999}', {}),
        (b'{"stage": "loading", "bareBytes": NaN}', {}),
        (b'{"stage": "loading", "code": "health-crash", "oomKills": {"cgroup": 1}}', {"stage": "loading"}),
        (b'{"stage": "loading", "engine": "\\u001b[2J", "bareBytes": true}', {"stage": "loading"}),
        (b'{"stage": "replaying", "providers": [7], "loadMs": 9007199254740992}', {"stage": "replaying"}),
        (
            b'{"stage": "replaying", "providers": ["CPUExecutionProvider"], "loadMs": 1.5}',
            {"stage": "replaying", "providers": ["CPUExecutionProvider"], "loadMs": 1.5},
        ),
    ],
)
def test_of_a_stage_only_what_a_health_check_says_is_known(line: bytes, known: dict[str, object]) -> None:
    assert pulse.read(line + b"\n") == ((known,), b"")


def test_a_pipe_that_nobody_reads_does_not_hold_the_child_up() -> None:
    ours, its = os.pipe()
    try:
        said = pulse.Pulse(its)
        for _ in range(3000):
            said.stage("loading", engine="x" * 60)
        os.close(ours)
        ours = -1
        said.stage("done")
    finally:
        os.close(its)
        if ours >= 0:
            os.close(ours)


def test_a_model_that_takes_twice_its_budget_is_ended_while_it_grows() -> None:
    program = (
        SAY + "import json, re\n"
        "bare = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) * 1024\n"
        "say(json.dumps({'stage': 'loading', 'bareBytes': bare}).encode())\n"
        "held = []\n"
        "while len(held) < 400: held.append(bytearray(os.urandom(1 << 20))); time.sleep(0.01)\n"
        "time.sleep(600)"
    )
    error = refused(program, budget=Budget(peak_memory_bytes=10 * 2**20))
    assert error.code == "health-over-budget"
    assert "and growing, the budget 10.0 MiB: ended" in str(error)
    assert error.facts["peakProcessBytes"] > 20 * 2**20


def test_a_child_is_ended_before_the_device_has_no_memory_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "of_device", lambda: memory.Device(512 * 2**20, 2 * 2**20))
    error = ended("import time; time.sleep(600)", Watch(600))
    assert error.code == "health-out-of-memory"
    assert "when 2.0 MiB were left on the device" in str(error)


def test_a_small_child_is_not_to_blame_for_a_device_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "of_device", lambda: memory.Device(2**40, 2**25 - 1))
    assert run((sys.executable, "-c", "print()"), Watch(60)).code == 0


def test_want_of_memory_is_no_crash() -> None:
    limit = 512 * 2**20
    program = (
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))\n"
        "held = []\n"
        "while True: held.append(bytearray(1 << 24))"
    )
    error = refused(program)
    assert error.code == "health-out-of-memory"
    assert "MemoryError" in str(error)
    assert error.facts["exit"] == {"code": 1}


def test_a_bad_alloc_is_want_of_memory_and_an_abort_without_one_is_not() -> None:
    abort = "import os, sys; print({!r}, file=sys.stderr, flush=True); os.abort()"
    assert refused(abort.format("what():  std::bad_alloc")).code == "health-out-of-memory"
    assert refused(abort.format("free(): double free")).code == "health-crash"


def test_a_kill_alone_is_a_crash_and_with_a_count_that_rose_it_is_the_kernel() -> None:
    error = refused("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (error.code, error.facts["exit"]) == ("health-crash", {"signal": "SIGKILL"})
    assert Ended(-signal.SIGKILL, b"", b"", {"oomKills": {"cgroup": 1}}).killed_for_memory
    assert not Ended(-signal.SIGSEGV, b"", b"", {"oomKills": {"cgroup": 1}}).killed_for_memory


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """A control group of 64 MiB."""
    v1 = (CGROUP_V1 / "memory.limit_in_bytes").exists()
    folder = (CGROUP_V1 if v1 else CGROUP_V2) / f"edgewright-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(str(64 * 2**20))
    except OSError as error:
        if folder.exists():
            folder.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    yield folder
    folder.rmdir()


def test_a_child_that_the_kernel_kills_for_want_of_memory_is_told_as_that(small_cgroup: Path) -> None:
    program = (
        f"import os; open({str(small_cgroup / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "held = []\n"
        "while len(held) < 400: held.append(bytearray(os.urandom(1 << 20)))"
    )
    error = refused(program)
    assert error.code == "health-out-of-memory"
    assert "the kernel ended it for want of memory" in str(error)
    assert error.facts["exit"] == {"signal": "SIGKILL"}
    assert max(error.facts["oomKills"].values()) >= 1


@pytest.mark.parametrize(
    ("cgroup", "file", "text"),
    [
        (
            "0::/system.slice/agent.service\n",
            "system.slice/agent.service/memory.events",
            "oom 3\noom_kill 2\n",
        ),
        ("0::/not/visible/here\n", "memory.events", "oom_kill 2\n"),
        ("4:cpu,memory:/agent\n0::/\n", "memory/agent/memory.oom_control", "under_oom 0\noom_kill 2\n"),
    ],
)
def test_kills_are_counted_by_the_control_group_and_by_the_device(
    tmp_path: Path, cgroup: str, file: str, text: str
) -> None:
    for name, content in (
        ("proc/self/cgroup", cgroup),
        ("proc/vmstat", "pgfault 9\noom_kill 7\n"),
        (f"sys/fs/cgroup/{file}", text),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert memory.oom_kills(tmp_path) == {"device": 7, "cgroup": 2}


def test_a_kernel_that_counts_nothing_is_believed_nothing(tmp_path: Path) -> None:
    assert memory.oom_kills(tmp_path) == {}
    assert memory.of_device(tmp_path) == memory.Device(0, 0)


def test_the_last_words_are_kept_and_bounded() -> None:
    program = "import sys\nfor n in range(5000): print('line', n, file=sys.stderr)\nsys.exit(3)"
    error = refused(program)
    assert str(error).endswith("ended with 3: line 4999")
    assert len(error.facts["stderr"]) <= 8 * 1024
