"""One process with a deadline and, if asked, a memory limit; nothing it started outlives it.

>>> execute(["true"], Path("."), {}, timeout_s=5).returncode      # doctest: +SKIP
0
"""

from __future__ import annotations

import contextlib
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

from edgewright.errors import EnvironmentFault

KILLED_S = 5.0
"""How long a killed process may take to vanish."""

_LACKS = re.compile(r"TCG doesn't support requested feature: \S*\.(?P<feature>[\w.-]+)")


@dataclass(frozen=True)
class Completed:
    """How a program in a target ended.

    Attributes:
        returncode: Exit code, negative for a signal.
        notes: What the emulator said about itself, in sentences.
        timed_out: Whether it was stopped because it ran too long.
    """

    returncode: int
    stdout: str
    stderr: str
    notes: tuple[str, ...] = ()
    timed_out: bool = False

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
    memory_limit_bytes: int | None = None,
) -> Completed:
    """Run a command to its end or its deadline.

    Args:
        command: Program and arguments.
        folder: Working folder.
        environment: All it sees.
        timeout_s: It is killed after that, with everything it started.
        memory_limit_bytes: What it may take beyond what it holds when it prints the line `imported`.

    Raises:
        EnvironmentFault: it cannot be started.
    """
    try:
        process = subprocess.Popen(  # noqa: S603  our own interpreter or emulator
            command, cwd=folder, env=dict(environment), text=True, errors="replace", start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise EnvironmentFault(f"{command[0]} cannot be started: {error.strerror}") from error
    deadline_s = time.monotonic() + timeout_s
    try:
        if memory_limit_bytes is not None:
            _limit_when_imported(process, memory_limit_bytes, deadline_s)
        stdout, stderr = process.communicate(timeout=max(0.0, deadline_s - time.monotonic()))
        return Completed(process.returncode, stdout, stderr, _said_by_the_emulator(stderr))
    except subprocess.TimeoutExpired:
        _kill(process)
        return Completed(-signal.SIGKILL, "", "", timed_out=True)
    finally:
        _kill(process)


def _limit_when_imported(process: subprocess.Popen[str], limit_bytes: int, deadline_s: float) -> None:
    """Let the process take `limit_bytes` more than it holds once the engine is imported.

    RLIMIT_DATA counts private writable memory, so neither the address space a 32-bit guest reserves nor mapped
    files count, and it needs no privilege. A guest cannot set it itself: qemu-user ignores that.
    """
    assert process.stdout and process.stdin
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(max(0.0, deadline_s - time.monotonic())):
            raise subprocess.TimeoutExpired(process.args, 0)
    if process.stdout.readline() != "imported\n":
        return  # it failed before; its answer says how
    held = re.search(r"^VmData:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    total = int(held.group(1)) * 1024 + limit_bytes if held else limit_bytes
    resource.prlimit(process.pid, resource.RLIMIT_DATA, (total, total))
    process.stdin.write("limited\n")
    process.stdin.flush()


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
