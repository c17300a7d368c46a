"""The way from a session to the agent's daemon, if there is one: small datagrams, sent and forgotten.

>>> beats = Beats(Path("/var/lib/edgewright"))                       # doctest: +SKIP
>>> beats.send(beat)                                                 # doctest: +SKIP

Nothing waits for them, but a moment for the last one, nothing fails for want of them, and nobody has to listen. The
daemon notices with their help that an application crashed or hangs in an inference, shows its figures, and sends them
home.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

from edgewright_agent.beat import Beat, encode
from edgewright_agent.contract import LIVE_SOCKET

SILENT_S = 30.0  # not to look for a daemon again, once there was none
LAST_WORD_S = 0.2  # to wait for a daemon too busy to read, where nothing will be said after it
PAUSE_S = (
    0.005  # between two tries of that: no call tells when the queue of a socket has room that many send to
)
_SUN_PATH = 107  # bytes of a socket's address (unix(7)), without its end


class Beats:
    """The way to the daemon of one session. Safe to share between threads; never raises, blocks a moment at most."""

    def __init__(self, state: Path) -> None:
        self.session = os.urandom(8).hex()
        self._folder = state
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._silent_until = float("-inf")

    def send(self, beat: Beat, *, anyway: bool = False) -> bool:
        """Send one datagram; return whether a daemon took it.

        Args:
            beat: What to say.
            anyway: It is the last one. Look for a daemon even if there was none a moment ago, and wait a moment for
                one too busy to read: lost, it would make a clean end look like a crash.
        """
        with self._lock:
            now = time.monotonic()
            if now < self._silent_until and not anyway:
                return False
            try:
                # A session that the garbage collector finds has its last word when its socket may be closed already.
                if self._socket is None or self._socket.fileno() < 0:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                    self._socket.setblocking(False)
                self._send_to(encode(beat), wait_s=LAST_WORD_S if anyway else 0.0)
            except (FileNotFoundError, ConnectionRefusedError, PermissionError):
                self._silent_until = now + SILENT_S
                return False
            except OSError:  # a daemon too busy to read: it hears the next one
                return False
            self._silent_until = float("-inf")
            return True

    def close(self) -> None:
        """Give the socket back."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _send_to(self, body: bytes, wait_s: float) -> None:
        assert self._socket is not None  # noqa: S101  made by the caller
        path = self._folder / LIVE_SOCKET
        if len(os.fsencode(path)) <= _SUN_PATH:
            _send(self._socket, body, str(path), wait_s)
            return
        fd = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _send(self._socket, body, f"/proc/self/fd/{fd}/{LIVE_SOCKET}", wait_s)
        finally:
            os.close(fd)


def _send(sender: socket.socket, body: bytes, address: str, wait_s: float) -> None:
    ends = time.monotonic() + wait_s
    while True:
        try:
            sender.sendto(body, address)
            return
        except BlockingIOError:
            if time.monotonic() >= ends:
                raise
        time.sleep(PAUSE_S)
