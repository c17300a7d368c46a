"""A job done in a copy of this process: what it imports, allocates and hangs in is gone with the copy.

>>> aside = Aside("ask")                                     # doctest: +SKIP
>>> aside.begin(lambda told: told.update(answer=42), limit_s=60)    # doctest: +SKIP
>>> aside.take()                                              # doctest: +SKIP
Told(facts={'answer': 42}, error=None)

OpenSSL alone would be 4 MiB in a process that waits for years, and a look-up of a name cannot be ended from outside; a
process can. The copy shares every page that neither of them writes to, so it costs 2 ms and what the job itself needs.
It is made by fork alone: whoever begins a job must have one thread only. What the job found comes back as JSON in a
file without a name, which has room for all of it, so that neither of them waits for the other.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewright_agent.children import Child
from edgewright_agent.errors import AgentError, StorageError
from edgewright_agent.transport.document import parse_json

MAX_TOLD_BYTES = 256 * 1024
Job = Callable[[dict[str, Any]], None]


class ToldError(AgentError):
    """What went wrong in a copy of this process, as it was told here."""

    def __init__(self, code: str, message: str, exit_code: int, retry_after_s: float | None) -> None:
        super().__init__(code, message)
        self.exit_code = exit_code  # of the class it had there
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Told:
    """What came of a job: the facts it noted, also those from before it failed, and what it failed with."""

    facts: dict[str, Any] = field(default_factory=dict)
    error: AgentError | None = None


class Aside:
    """At most one job under way.

    Args:
        name: What is done, for the log.
        reset: Signals that the copy shall take as the system has it.
    """

    def __init__(self, name: str, reset: Collection[int] = ()) -> None:
        self._name, self._reset = name, tuple(reset)
        self._child: Child | None = None
        self._file = -1

    @property
    def busy(self) -> bool:
        """Whether there is a job whose end has not been taken."""
        return self._child is not None

    def begin(self, job: Job, *, limit_s: float) -> None:
        """Do a job; SIGCHLD says that it has ended.

        Args:
            job: Notes what it finds in the dictionary it is given (JSON), and raises what goes wrong.
            limit_s: The copy ends after this many seconds whatever becomes of this process.

        Raises:
            OSError: there is no memory or process left at the moment.
        """
        if self._child is not None:
            raise ValueError("a job is under way")
        file = os.memfd_create(self._name)
        try:
            # A signal for this process must not be noted by the copy, nor one be lost.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, self._reset)
            try:
                pid = os.fork()
                if pid == 0:
                    _copy(job, file, limit_s, self._reset, before)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:
            os.close(file)
            raise
        self._child, self._file = Child(self._name, pid), file

    def take(self) -> Told | None:
        """Return what came of the job; None as long as it goes on, and when there is none."""
        if self._child is None or (code := self._child.ended()) is None:
            return None
        self._child = None
        file, self._file = self._file, -1
        try:
            return _read(os.pread(file, MAX_TOLD_BYTES + 1, 0), code)
        finally:
            os.close(file)

    def stop(self) -> None:
        """End the job, if there is one; `take` says so."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    def close(self) -> None:
        """End the job and forget it."""
        if self._child is not None:
            self.stop()
            self._child.wait()
            os.close(self._file)
            self._child, self._file = None, -1


def _copy(job: Job, file: int, limit_s: float, reset: tuple[int, ...], mask: Collection[int]) -> None:
    """Do the job in the copy; never returns, and runs nothing that this process had planned for its end."""
    code = 1
    try:
        gc.disable()  # it would write to, and so copy, every page that has an object
        signal.set_wakeup_fd(-1)
        for number in reset:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(max(int(limit_s), 1))
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _close_others(file)
        os.write(file, json.dumps(_done(job)).encode())
        code = 0
    finally:
        os._exit(code)


def _done(job: Job) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    failed = None
    try:
        job(facts)
    except AgentError as error:
        failed = {
            "code": error.code,
            "message": str(error).encode(errors="backslashreplace").decode(),  # a path may hold any bytes
            "exitCode": error.exit_code,
            "retryAfterS": getattr(error, "retry_after_s", None),
        }
    except Exception as error:  # noqa: BLE001  a mistake of ours must not end the daemon
        message = f"this should not happen: {type(error).__name__}: {error}"
        failed = {"code": "internal", "message": message, "exitCode": 3, "retryAfterS": None}
    return {"facts": facts, "failed": failed}


def _close_others(file: int) -> None:
    """Close what the copy has no business with: locks and sockets would outlive a daemon that is killed."""
    for open_file in list(Path("/proc/self/fd").iterdir()):
        if (number := int(open_file.name)) > 2 and number != file:
            with contextlib.suppress(OSError):
                os.close(number)


def _read(data: bytes, code: int) -> Told:
    how = f"was ended by signal {-code}" if code < 0 else "ended without a word that makes sense"
    if code == 0 and len(data) <= MAX_TOLD_BYTES:
        with contextlib.suppress(ValueError):
            document = parse_json(data, "what a copy of this process told")
            failed = document["failed"]
            error = None
            if failed is not None:
                error = ToldError(
                    failed["code"], failed["message"], failed["exitCode"], failed["retryAfterS"]
                )
            return Told(document["facts"], error)
    return Told({}, StorageError("interrupted", f"the process for it {how}"))
