"""One process with a deadline and, if asked, a memory limit; nothing it started outlives it.

Memory is limited by a control group where we may make one, by resource limits otherwise: a model well within the limit
and one well over it end the same way by each.

>>> execute(["true"], Path("."), {}, timeout_s=5).returncode      # doctest: +SKIP
0
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgewright.bench.target.cgroup import Group, Place, group
from edgewright.errors import EnvironmentFault

KILLED_S = 5.0
"""How long a killed process may take to vanish."""

WATCH_S = 0.02
"""How often a process is looked at that its limit may not end."""

# Only what changes results: a processor without, say, a random number generator computes the same.
_LACKS = re.compile(
    r"TCG doesn't support requested feature: \S*\.(?P<feature>(avx|fma|f16c|sse|amx|bf16|vnni)[\w.-]*)"
)
# Without memory for its own tables, GLib says so and raises a signal. QEMU takes that for the guest's, and GLib waits
# for its end for ever.
_STARVED = re.compile(rb"^qemu-\S+: GLib: .*failed to allocate", re.MULTILINE)
_PR_SET_PDEATHSIG = 1  # prctl(2)
_LIBC = ctypes.CDLL(None)

LimitKind = Literal["data", "address-space", "resident"]


@dataclass(frozen=True)
class MemoryLimit:
    """What a process may take beyond what it holds when it prints the line `imported`.

    Attributes:
        extra_bytes: How much.
        kind: What needs no permission. `data`: private writable memory (RLIMIT_DATA), for our own processes.
            `address-space` (RLIMIT_AS), for 64-bit guests: under the other, QEMU 7.2 takes a failed mapping for a
            successful one and never returns. `resident`: watched from outside and killed, for 32-bit guests: QEMU
            reserves their whole address space when it starts, so neither limit would ever be met.
        place: Where a control group can be made, which then limits in place of `kind`: the kernel counts the pages
            that are touched, and kills.
    """

    extra_bytes: int
    kind: LimitKind
    place: Place | None = None


@dataclass(frozen=True)
class Completed:
    """How a program in a target ended.

    Attributes:
        returncode: Exit code, negative for a signal.
        notes: What the emulator said about itself, in sentences.
        timed_out: Whether it was stopped because it ran too long.
        over_limit: Whether it was stopped because it held more memory than it may.
        answer: What it left in its `answer.json`; empty when it left none.
        limited_by: What limited its memory; None when nothing did.
    """

    returncode: int
    stdout: str
    stderr: str
    notes: tuple[str, ...] = ()
    timed_out: bool = False
    over_limit: bool = False
    answer: bytes = b""
    limited_by: LimitKind | Literal["cgroup"] | None = None

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.timed_out:
            return "did not end in time"
        if self.returncode < 0:
            return f"was killed by {signal.Signals(-self.returncode).name}"
        return f"ended with exit code {self.returncode}"


def execute(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    timeout_s: float,
    limit: MemoryLimit | None = None,
) -> Completed:
    """Run a command to its end or its deadline.

    Args:
        command: Program and arguments.
        folder: Working folder.
        environment: All it sees.
        timeout_s: It is killed after that, with everything it started.
        limit: Of its memory.

    Raises:
        EnvironmentFault: it cannot be started.
    """
    try:
        process = subprocess.Popen(  # noqa: S603  our own interpreter or emulator
            command, cwd=folder, env=dict(environment), text=True, errors="replace",
            start_new_session=True, preexec_fn=_die_with_parent,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise EnvironmentFault(f"{command[0]} cannot be started: {error.strerror}") from error
    deadline_s = time.monotonic() + timeout_s
    limited = _Limited()
    with contextlib.ExitStack() as groups:
        try:
            if limit is not None:
                limited = _limit_when_imported(process, limit, deadline_s, groups)
            while True:
                left_s = max(0.0, deadline_s - time.monotonic())
                try:
                    watched_s = left_s if limited.by in (None, "cgroup") else min(left_s, WATCH_S)
                    stdout, stderr = process.communicate(timeout=watched_s)
                    notes, over = _said_by_the_emulator(stderr), limited.ended()
                    return Completed(
                        process.returncode, stdout, stderr, notes, over_limit=over, limited_by=limited.by
                    )
                except subprocess.TimeoutExpired as error:
                    if limited.is_over(process.pid, error.stderr or b""):
                        return Completed(-signal.SIGKILL, "", "", over_limit=True, limited_by=limited.by)
                    if time.monotonic() >= deadline_s:
                        raise
        except subprocess.TimeoutExpired:
            return Completed(-signal.SIGKILL, "", "", timed_out=True, limited_by=limited.by)
        finally:
            _kill(process)


@dataclass(frozen=True)
class _Limited:
    """How a process was limited in the end.

    Attributes:
        by: As in `Completed.limited_by`.
        most_bytes: What it may hold, where that is watched.
        group: Its control group.
    """

    by: LimitKind | Literal["cgroup"] | None = None
    most_bytes: int = 0
    group: Group | None = None

    def is_over(self, pid: int, stderr: bytes) -> bool:
        """Whether a process that goes on has held more, or its limit has brought an emulator to a standstill."""
        if self.by == "resident":
            return _held_bytes(pid, "VmHWM") > self.most_bytes
        return bool(_STARVED.search(stderr))

    def ended(self) -> bool:
        """Whether the kernel ended it for what it held."""
        return self.group is not None and self.group.killed()


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies, even by SIGKILL: an emulator never outlives us."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _limit_when_imported(
    process: subprocess.Popen[str], limit: MemoryLimit, deadline_s: float, groups: contextlib.ExitStack
) -> _Limited:
    """Limit the process once the engine is imported.

    A guest cannot limit itself: qemu-user accepts the call and ignores it.
    """
    assert process.stdout and process.stdin
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(max(0.0, deadline_s - time.monotonic())):
            raise subprocess.TimeoutExpired(process.args, 0)
    if process.stdout.readline() != "imported\n":
        return _Limited()  # it failed before; its answer says how
    limited = _in_a_group(process.pid, limit, groups) or _without_a_group(process.pid, limit)
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write("limited\n")
        process.stdin.flush()
    return limited


def _in_a_group(pid: int, limit: MemoryLimit, groups: contextlib.ExitStack) -> _Limited | None:
    """Limit a process by a control group of its own, if that is permitted."""
    if limit.place is None:
        return None
    try:
        made = groups.enter_context(group(limit.place, limit.extra_bytes))
        made.take(pid)
    except OSError:
        return None
    return _Limited("cgroup", group=made)


def _without_a_group(pid: int, limit: MemoryLimit) -> _Limited:
    """Limit a process by what everybody may do, or say what to watch."""
    if limit.kind == "resident":
        return _Limited("resident", _held_bytes(pid, "VmRSS") + limit.extra_bytes)
    field, number = (
        ("VmData", resource.RLIMIT_DATA) if limit.kind == "data" else ("VmSize", resource.RLIMIT_AS)
    )
    most = _held_bytes(pid, field) + limit.extra_bytes
    resource.prlimit(pid, number, (most, most))
    return _Limited(limit.kind)


def _held_bytes(pid: int, field: str) -> int:
    """Return one of the kernel's figures about a process's memory, 0 when it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0


def _kill(process: subprocess.Popen[str]) -> None:
    """End the process and everything it started; does nothing when it has ended."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(KILLED_S)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _said_by_the_emulator(stderr: str) -> tuple[str, ...]:
    missing = sorted({match["feature"] for match in _LACKS.finditer(stderr)})
    return (f"the emulated processor lacks {', '.join(missing)}",) if missing else ()
