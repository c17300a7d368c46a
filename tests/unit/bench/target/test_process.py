from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgewright.bench.target.cgroup import Place, permitted
from edgewright.bench.target.process import LimitKind, MemoryLimit, execute
from edgewright.errors import EnvironmentFault

GROWS = (
    "import sys; print('imported', flush=True); sys.stdin.readline()\n"
    "held = []\n"
    "try:\n"
    "    for _ in range(64): held.append(b'x' * 2**22)\n"
    "except MemoryError: sys.exit(7)\n"
)


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def test_what_it_says_comes_back(tmp_path: Path) -> None:
    ended = execute(python("import os; print(os.getcwd())"), tmp_path, {}, timeout_s=60)
    assert (ended.returncode, ended.stdout.strip(), ended.timed_out) == (0, str(tmp_path), False)


def test_a_program_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot be started"):
        execute([str(tmp_path / "absent")], tmp_path, {}, timeout_s=1)


def has_ended(pid: int) -> bool:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 20)[0])
    finally:
        os.close(process)


def test_a_deadline_ends_the_process_and_what_it_started(tmp_path: Path) -> None:
    script = "sleep 600 & echo $! > pid; wait"  # a shell: it has come that far long before the deadline
    ended = execute(["/bin/sh", "-c", script], tmp_path, {"PATH": os.defpath}, timeout_s=2)
    assert ended.timed_out and "in time" in ended.ending
    assert has_ended(int((tmp_path / "pid").read_text()))


def test_a_killed_parent_leaves_no_emulator_behind(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from edgewright.bench.target.process import execute\n"
        "import sys; execute([sys.executable, '-c',"
        ' \'import os,sys,time; os.write(2, b""); open("pid","w").write(str(os.getpid())); time.sleep(600)\'],'
        " Path('.'), {}, timeout_s=600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    pid_file = tmp_path / "pid"
    while not pid_file.exists() or not pid_file.read_text():
        assert parent.poll() is None
    child = int(pid_file.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait(20)
    assert has_ended(child)


@pytest.mark.parametrize("kind", ["data", "address-space"])
def test_memory_is_limited_over_what_was_imported(tmp_path: Path, kind: LimitKind) -> None:
    small = execute(python(GROWS), tmp_path, {}, timeout_s=60, limit=MemoryLimit(2**25, kind))
    large = execute(python(GROWS), tmp_path, {}, timeout_s=60, limit=MemoryLimit(2**30, kind))
    assert (small.returncode, large.returncode) == (7, 0)


def test_watched_memory_ends_the_process(tmp_path: Path) -> None:
    endless = GROWS + "import time; time.sleep(600)"
    assert execute(
        python(endless), tmp_path, {}, timeout_s=60, limit=MemoryLimit(2**25, "resident")
    ).over_limit


@pytest.mark.parametrize("kind", ["data", "resident"])
def test_a_group_limits_where_it_is_permitted_and_the_rest_elsewhere(tmp_path: Path, kind: LimitKind) -> None:
    place = permitted()
    by = "cgroup" if place else kind
    endless = GROWS.replace("sys.exit(7)", "os.kill(os.getpid(), 9)").replace("import sys", "import os, sys")
    small, large = (
        execute(python(endless), tmp_path, {}, timeout_s=60, limit=MemoryLimit(most, kind, place))
        for most in (2**25, 2**30)
    )
    assert (small.limited_by, small.returncode) == (by, -signal.SIGKILL)
    assert small.over_limit or by == "data"
    assert (large.limited_by, large.returncode, large.over_limit) == (by, 0, False)


def test_a_group_counts_nothing_of_before(tmp_path: Path) -> None:
    holds = "held = b'x' * 2**27\n" + GROWS.replace("range(64)", "range(4)")
    ended = execute(python(holds), tmp_path, {}, timeout_s=60, limit=MemoryLimit(2**25, "data", permitted()))
    assert (ended.returncode, ended.over_limit) == (0, False)


def test_a_group_that_cannot_be_made_after_all_changes_nothing(tmp_path: Path) -> None:
    gone = Place(2, tmp_path / "absent")
    ended = execute(python(GROWS), tmp_path, {}, timeout_s=60, limit=MemoryLimit(2**25, "data", gone))
    assert (ended.returncode, ended.limited_by) == (7, "data")


def test_an_emulator_without_memory_for_itself_does_not_hang(tmp_path: Path) -> None:
    script = (
        "import sys, time; print('imported', flush=True); sys.stdin.readline()\n"
        "sys.stderr.write('qemu-aarch64: GLib: gmem.c:169: failed to allocate 24576 bytes\\n')\n"
        "sys.stderr.flush(); time.sleep(600)"
    )
    ended = execute(python(script), tmp_path, {}, timeout_s=60, limit=MemoryLimit(2**30, "address-space"))
    assert ended.over_limit and not ended.timed_out


def test_only_features_that_change_results_are_noted(tmp_path: Path) -> None:
    said = "TCG doesn't support requested feature: CPUID.07H:EBX."
    script = (
        f"import sys; sys.stderr.write({said!r} + 'avx512f [bit 16]\\n' + {said!r} + 'rdseed [bit 18]\\n')"
    )
    assert execute(python(script), tmp_path, {}, timeout_s=60).notes == (
        "the emulated processor lacks avx512f",
    )
