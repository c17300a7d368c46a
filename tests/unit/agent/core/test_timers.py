"""When what is due; waiting for signals, descriptors and timers at once; children that leave nothing behind."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from edgewright_agent.children import Child
from edgewright_agent.loop import Loop
from edgewright_agent.timers import Timers


class Hand:
    """A clock moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_due_comes_once_and_in_order() -> None:
    clock = Hand()
    timers = Timers(clock)
    timers.after("late", 30)
    timers.after("soon", 10)
    assert (timers.left_s(), timers.left_s("late"), timers.take()) == (10, 30, [])
    clock.now = 31
    assert (timers.left_s(), timers.take(), timers.take()) == (0, ["soon", "late"], [])
    assert timers.left_s() is None


def test_a_timer_set_again_is_moved_and_one_that_should_come_sooner_never_later() -> None:
    timers = Timers(Hand())
    timers.after("a", 10)
    timers.after("a", 20)
    assert timers.left_s("a") == 20
    timers.sooner("a", 30)
    assert timers.left_s("a") == 20
    timers.sooner("a", 5)
    assert timers.left_s("a") == 5
    timers.cancel("a")
    assert timers.left_s("a") is None


def test_a_device_that_slept_finds_everything_due_at_once() -> None:
    clock = Hand()
    with Loop((), Timers(clock)) as loop:
        loop.timers.after("poll", 900)
        clock.now += 8 * 3600  # CLOCK_BOOTTIME goes on while it sleeps
        assert loop.turn() == []
        assert loop.timers.take() == ["poll"]


def test_a_signal_is_told_once_and_finishes_what_was_under_way() -> None:
    with Loop((signal.SIGUSR1, signal.SIGUSR2)) as loop:
        done = []
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        done.append("what was under way")
        os.kill(os.getpid(), signal.SIGUSR2)
        assert loop.turn() == [signal.SIGUSR1, signal.SIGUSR2]
        loop.timers.after("soon", 0)
        assert loop.turn() == []
        assert done
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_what_one_callback_closes_is_not_called_in_the_same_turn() -> None:
    ends = [os.pipe() for _ in range(2)]
    called = []

    def close_the_other(mine: int, other: int) -> None:
        called.append(mine)
        loop.forget(other)
        os.close(other)

    with Loop(()) as loop:
        first, second = ends[0][0], ends[1][0]
        loop.watch(first, lambda: close_the_other(first, second))
        loop.watch(second, lambda: close_the_other(second, first))
        for _, write in ends:
            os.write(write, b"x")
        loop.turn()
        assert len(called) == 1
        loop.forget(called[0])
        assert not loop.watches(called[0])
        os.close(called[0])
    for _, write in ends:
        os.close(write)


def test_a_child_is_waited_for_and_told_nothing_that_is_the_daemons_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    monkeypatch.setenv("KEPT", "yes")
    told = tmp_path / "told"
    program = f"import os; open({str(told)!r}, 'w').write(','.join(sorted(os.environ)))"
    child = Child.start("update", [sys.executable, "-c", program])
    assert child.wait() == 0
    names = told.read_text().split(",")
    assert ("KEPT" in names, "NOTIFY_SOCKET" in names) == (True, False)
    child.signal(signal.SIGTERM)  # it is gone: nothing happens, to nobody


def test_a_child_that_runs_is_not_waited_for_and_a_killed_one_tells_by_what() -> None:
    child = Child.start("update", [sys.executable, "-c", "import time; time.sleep(600)"])
    assert child.ended() is None
    child.signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
