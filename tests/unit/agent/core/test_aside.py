"""A job in a copy of a process: what it found, what it failed with, and that nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.aside import MAX_TOLD_BYTES, Aside, Told
from edgewright_agent.errors import ConfigError
from edgewright_agent.transport import BusyError


def done(job: Callable[[dict[str, Any]], None], aside: Aside | None = None) -> Told:
    aside = aside or Aside("test")
    aside.begin(job, limit_s=60)
    return ended(aside)


def descriptors() -> list[str]:
    return sorted(path.name for path in list(Path("/proc/self/fd").iterdir()))


def ended(aside: Aside) -> Told:
    assert aside.busy
    while (told := aside.take()) is None:
        time.sleep(0.005)
    assert not aside.busy
    assert aside.take() is None
    return told


def test_what_a_job_found_comes_back_and_what_it_changed_does_not() -> None:
    changed: list[int] = []

    def job(told: dict[str, Any]) -> None:
        changed.append(1)
        told["pid"] = os.getpid()

    told = done(job)
    assert told.error is None
    assert told.facts["pid"] != os.getpid()
    assert changed == []


def test_a_failure_comes_back_with_its_code_and_with_what_was_found_before_it() -> None:
    def job(told: dict[str, Any]) -> None:
        told["first"] = 1
        raise BusyError("wait", retry_after_s=30.0)

    told = done(job)
    assert told.facts == {"first": 1}
    assert told.error
    assert (told.error.code, str(told.error), told.error.exit_code) == ("busy", "wait", 3)
    assert getattr(told.error, "retry_after_s", None) == 30.0


def test_a_wrong_configuration_keeps_its_exit_code_and_a_name_of_any_bytes_can_be_told() -> None:
    def job(_: dict[str, Any]) -> None:
        raise ConfigError("bad-ca-file", "cannot use /etc/\udcff.pem")

    told = done(job)
    assert told.error
    assert (told.error.exit_code, str(told.error)) == (1, "cannot use /etc/\\udcff.pem")


@pytest.mark.parametrize("fault", ["a mistake", "killed", "exit", "too much", "no JSON"])
def test_whatever_becomes_of_a_job_is_a_failure_with_a_sentence(fault: str) -> None:
    def job(told: dict[str, Any]) -> None:
        if fault == "a mistake":
            raise KeyError("mirrors")
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "exit":
            raise SystemExit(0)
        told["found"] = "x" * MAX_TOLD_BYTES if fault == "too much" else {1, 2}

    told = done(job)
    assert told.error
    assert told.error.exit_code == 3
    assert told.error.code == ("internal" if fault == "a mistake" else "interrupted")


def test_a_job_has_neither_the_descriptors_nor_the_signal_handlers_of_its_process() -> None:
    read, write = os.pipe()
    heard: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: heard.append(number))
    try:

        def job(told: dict[str, Any]) -> None:
            told["fds"] = descriptors()
            told["handler"] = signal.getsignal(signal.SIGHUP) == signal.SIG_DFL

        told = done(job, Aside("test", (signal.SIGHUP,)))
        assert told.facts["handler"] is True
        assert not {str(read), str(write)} & set(told.facts["fds"])
        os.kill(os.getpid(), signal.SIGHUP)
        assert heard == [signal.SIGHUP]
    finally:
        signal.signal(signal.SIGHUP, before)
        os.close(read)
        os.close(write)


def test_a_job_that_hangs_can_be_ended_and_ends_by_itself_after_its_limit() -> None:
    aside = Aside("test")
    aside.begin(lambda _: signal.pause(), limit_s=60)
    with pytest.raises(ValueError, match="under way"):
        aside.begin(lambda _: None, limit_s=60)
    assert aside.take() is None
    aside.stop()
    told = ended(aside)
    assert told.error
    assert "signal 9" in str(told.error)
    aside.begin(lambda _: signal.pause(), limit_s=1)
    told = ended(aside)
    assert told.error
    assert f"signal {signal.SIGALRM.value}" in str(told.error)


def test_closing_leaves_neither_process_nor_descriptor() -> None:
    aside = Aside("test")
    before = descriptors()
    aside.begin(lambda _: signal.pause(), limit_s=60)
    aside.close()
    aside.close()
    assert not aside.busy
    done(lambda _: None, aside)
    assert descriptors() == before
