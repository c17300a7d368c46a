"""The idle loop: one conditional request per poll, everything else in a short-lived child.

>>> Daemon(Path("/etc/edgewright/agent.json")).run()   # doctest: +SKIP

It imports the standard library and, once it polls, `transport.registry`. SIGTERM and SIGINT stop it, SIGHUP
polls now, a changed configuration counts from the next poll on. Under systemd (`Type=notify`) it says READY
and feeds the watchdog.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from edgewright_agent.clock import to_text, uptime, utc_now
from edgewright_agent.config import Config, load
from edgewright_agent.degrade import look, observe
from edgewright_agent.errors import AgentError, StorageError
from edgewright_agent.files import Disk
from edgewright_agent.lock import exclusive
from edgewright_agent.poll import ask, conditional, failed, nothing_new, trusted_now, with_mirrors
from edgewright_agent.record import Ledger, Poll, Record
from edgewright_agent.schedule import due, next_window_s, polling, wait_s

if TYPE_CHECKING:
    from edgewright_agent.transport import Source

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_AWAITED = (*_STOPPING, signal.SIGHUP, signal.SIGCHLD)
_NETWORK_EXIT_CODE = 3
POLL_WITHIN_S = 60.0  # for all mirrors together: meanwhile no watchdog is fed


class _Stop(Exception):
    """SIGTERM arrived while waiting for the network."""


class Daemon:
    """One agent process. `command` is the child that updates, for tests."""

    def __init__(self, config_path: Path, *, command: tuple[str, ...] | None = None) -> None:
        self._path = config_path.resolve()
        self._command = command or (
            sys.executable,
            *("-m", "edgewright_agent", "once", "--config", str(self._path)),
        )
        watchdog_us = os.environ.get("WATCHDOG_USEC", "")
        self._slice_s = int(watchdog_us) / 2e6 if watchdog_us.isdigit() else 3600.0
        self._random = random.SystemRandom()
        self._asked = False  # for a poll, by a SIGHUP that came while one was under way

    def run(self) -> int:
        """Poll until told to stop; returns the exit code.

        Raises:
            ConfigError: the configuration is wrong at the start.
            StorageError: `busy` when another daemon serves this state directory.
        """
        config = load(self._path)
        signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
        for number in _STOPPING:
            signal.signal(number, _stop)
        with exclusive(config.state / "daemon.lock"):
            log("start", device=config.device.id, source=config.origin.url)
            _notify("READY=1")
            try:
                self._loop(config)
            except _Stop:
                pass
            finally:
                _notify("STOPPING=1")
                log("stop")
        return 0

    def _loop(self, config: Config) -> None:
        failures = 0
        # The first poll is the child's: it also recovers what the last shutdown left behind.
        code = self._child()
        while True:
            failures = failures + 1 if code == _NETWORK_EXIT_CODE else 0
            record = _last_record(config)
            asked_s = record.poll.retry_after_s if record.poll and code == _NETWORK_EXIT_CODE else None
            pause_s = wait_s(
                polling(config, record), failures, retry_after_s=asked_s, share=self._random.random()
            )
            window_s = next_window_s(config, record, utc_now())
            pause_s = pause_s if window_s is None else min(pause_s, window_s)
            if self._asked:
                self._asked = False
            else:
                log("sleep", seconds=round(pause_s), failures=failures)
                if self._await(pause_s) in _STOPPING:
                    return
            try:
                config = load(self._path)
                code = self._poll(config)
            except AgentError as error:
                log("failed", code=error.code, message=str(error))
                code = error.exit_code

    def _poll(self, config: Config) -> int:
        ledger = Ledger(config.state, Disk())
        source = None
        try:
            margin_s = polling(config, ledger.record).interval_s
            etag = conditional(ledger.record, config.fingerprint(), now=utc_now(), margin_s=margin_s)
            again = etag is None or due(config, ledger.record, utc_now())
            if again or self._certificate_due(config, ledger):
                return self._child()
            polls = ledger.record.counters.get("polls", 0)
            within_s = min(POLL_WITHIN_S, self._slice_s / 2)
            source = config.origin.open(polls=polls, within_s=within_s)
            with contextlib.closing(source), _interruptible():
                new = ask(source, etag) is not None
        except AgentError as error:
            _record(config, failed(error, utc_now()), source)
            raise
        if new:
            return self._child()
        _record(config, nothing_new(utc_now()), source)
        log("not-modified")
        return 0

    def _certificate_due(self, config: Config, ledger: Ledger) -> bool:
        if config.identity is None:
            return False
        from edgewright_agent.identity.validity import renewal_due

        return renewal_due(config.identity, config.state, trusted_now(ledger.record, utc_now()))

    def _child(self) -> int:
        """Run the update and return its exit code; a stop is passed on, and safe at any moment of it."""
        try:
            pid = os.posix_spawn(
                self._command[0], list(self._command), os.environ, setsigmask=(), setsigdef=_AWAITED
            )
        except OSError as error:  # no memory or no process left at the moment: no reason to end
            log("failed", code="no-process", message=f"cannot start the update: {error.strerror}")
            return _NETWORK_EXIT_CODE
        stopping = False
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                log("update", exit_code=code)
                if stopping:
                    raise _Stop
                return code if 0 <= code <= _NETWORK_EXIT_CODE else _NETWORK_EXIT_CODE
            found = self._await(self._slice_s, until_child=True)
            if found in _STOPPING:
                stopping = True
                os.kill(pid, signal.SIGTERM)
            elif found == signal.SIGHUP:
                self._asked = True

    def _await(self, seconds: float, *, until_child: bool = False) -> int | None:
        """Wait for a signal that matters, feeding the watchdog; return it, or None when the time is up."""
        deadline = time.monotonic() + seconds
        while True:
            _notify("WATCHDOG=1")
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            found = signal.sigtimedwait(_AWAITED, min(left_s, self._slice_s))
            if found is None or (found.si_signo == signal.SIGCHLD and not until_child):
                continue
            return found.si_signo


def log(event: str, **facts: object) -> None:
    """Write one JSON line to standard error, if it still takes any: a full disk or a lost reader ends nothing."""
    with contextlib.suppress(OSError):
        print(json.dumps({"at": to_text(utc_now()), "event": event, **facts}), file=sys.stderr, flush=True)


def _record(config: Config, poll: Poll, source: Source | None) -> None:
    """Keep the result of a poll; when another agent is at work its own result is the better one."""
    try:
        with exclusive(config.state / "lock"):
            disk, now = Disk(), utc_now()
            ledger = Ledger(config.state, disk)
            poll = with_mirrors(poll, ledger.record.poll, source)
            record = replace(ledger.record.aged(uptime()).counted(polls=1), poll=poll)
            rungs = observe(record.rungs, look(config, record, disk, now), to_text(now))
            ledger.commit(replace(record, rungs=rungs))
    except StorageError as error:
        log("not-recorded", code=error.code, message=str(error))


def _last_record(config: Config) -> Record:
    """Return what the device knows; nothing while that cannot be read."""
    try:
        return Ledger(config.state, Disk()).record
    except StorageError:
        return Record()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end a request that hangs."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _Stop


def _notify(state: str) -> None:
    """Tell systemd (sd_notify(3)), where it listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    import socket

    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall(state.encode())
