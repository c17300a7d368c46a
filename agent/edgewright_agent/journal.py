"""What the daemon says: one JSON line per event on standard error, and a word to systemd. Neither can stop it.

>>> log("sleep", seconds=900)        # doctest: +SKIP
>>> notify("WATCHDOG=1")             # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import json
import os
import select

from edgewright_agent.clock import to_text, utc_now

_STDERR = 2
_MAX_LINE_BYTES = select.PIPE_BUF  # a pipe that is ready takes so much without making us wait (pipe(7))
_lost = 0


def log(event: str, **facts: object) -> None:
    """Write one line, if standard error takes it now: a full disk, a lost or a stalled reader ends nothing.

    The next line that gets through says how many did not.
    """
    global _lost  # noqa: PLW0603  there is one standard error
    entry = {"at": to_text(utc_now()), "event": event, **facts, **({"lost": _lost} if _lost else {})}
    line = json.dumps(entry).encode() + b"\n"
    if len(line) > _MAX_LINE_BYTES:
        line = json.dumps({"at": entry["at"], "event": event, "code": "too-long"}).encode() + b"\n"
    _lost += 1
    with contextlib.suppress(OSError):
        ready = select.poll()
        ready.register(_STDERR, select.POLLOUT)
        if any(happened & select.POLLOUT for _fd, happened in ready.poll(0)):
            os.write(_STDERR, line)
            _lost = 0


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)), where it listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    import socket

    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.send(state.encode())


def watchdog_s() -> float | None:
    """Return how often systemd wants to hear from this process (sd_watchdog_enabled(3)); None: it does not."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or not int(microseconds) or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1e6
