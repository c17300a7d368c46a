"""Locks of the state directory: one agent at a time, and nobody else's business."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import NoReturn

import pytest

from edgewright_agent.errors import StorageError
from edgewright_agent.files import Disk
from edgewright_agent.lock import exclusive
from edgewright_agent.spool import ERROR, Spool
from edgewright_agent.work import at_work
from unit.agent.core.workbench import NOW, Bench


def test_one_holds_it_and_the_other_is_told(tmp_path: Path) -> None:
    first, second = exclusive(tmp_path / "lock"), exclusive(tmp_path / "lock")
    with first, pytest.raises(StorageError, match="another agent") as failed, second:
        raise AssertionError("both hold it")
    assert failed.value.code == "busy"


def test_a_command_waits_for_who_holds_it_only_for_a_moment(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    lock = exclusive(bench.state / "lock")
    lock.__enter__()
    threading.Timer(0.2, lock.__exit__, (None, None, None)).start()
    with at_work(bench.config):
        pass
    with at_work(bench.config), pytest.raises(StorageError), at_work(bench.config, patience_s=0.1):
        raise AssertionError("both hold it")


def test_a_file_system_that_cannot_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fd: int, _how: int) -> NoReturn:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match=f"cannot lock {tmp_path}/lock"), exclusive(tmp_path / "lock"):
        pass


def test_no_other_account_of_the_device_can_hold_any_lock_of_the_agent(tmp_path: Path) -> None:
    """Who may only read a file may hold its lock, and the agent would be busy for ever."""
    before = os.umask(0)
    try:
        bench = Bench(tmp_path)
        with at_work(bench.config):
            pass
        Spool(bench.state / "spool", Disk()).append(ERROR, b"{}", now=NOW)
    finally:
        os.umask(before)
    locks = [path for path in bench.state.rglob("*lock*") if path.is_file()]
    assert len(locks) >= 2
    assert {path.name: path.stat().st_mode & 0o777 for path in locks} == dict.fromkeys(
        [path.name for path in locks], 0o600
    )


def test_what_an_earlier_agent_has_left_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / "lock").touch(0o644)
    with exclusive(tmp_path / "lock"):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_place_of_a_lock_makes_no_file_elsewhere(tmp_path: Path) -> None:
    """Such as /etc/nologin, where a command is run as root."""
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError), exclusive(tmp_path / "lock"):
        raise AssertionError("it was followed")
    assert not (tmp_path / "elsewhere").exists()


def test_a_pipe_in_the_place_of_a_lock_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with exclusive(tmp_path / "lock"):
        pass
