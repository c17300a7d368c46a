"""What a session tells the agent's daemon, if there is one: small datagrams, sent and forgotten.

>>> beats = Beats(Path("/var/lib/edgewright"), "digit-reader")       # doctest: +SKIP
>>> beats.send("beat", told)                                         # doctest: +SKIP

Nothing waits for them, nothing fails for want of them, and nobody has to listen. The daemon notices with their help
that an application crashed or hangs in an inference, shows its figures, and sends them home.
"""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright_agent.contract import LIVE_SOCKET, MAX_LIVE_BYTES
from edgewright_agent.runtime.tally import Figures

log = logging.getLogger("edgewright")

BEAT_S = 10.0
HANGS_S = 10.0  # an inference in flight for so long is worth a beat, though nothing else happened
SILENT_S = 30.0  # not to look for a daemon again, once there was none
MAX_INPUTS = 32
MAX_NAME_CHARS = 128
_SUN_PATH = 107  # bytes of a socket's address (unix(7)), without its end


@dataclass(frozen=True)
class ExperimentFigures:
    """What a session has counted of an experiment.

    Attributes:
        name, kind, digest: As the device has it.
        requests: Requests that the candidate has seen.
        agree: Of a shadow's: those it answered like the active model.
        errors: Those it could not answer.
        dropped: Of a shadow's: requests it should have seen and had no time for.
        latency: `[bucket, count]` of the candidate.
    """

    name: str
    kind: str
    digest: str
    requests: int = 0
    agree: int = 0
    errors: int = 0
    dropped: int = 0
    latency: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Told:
    """What a session says of itself in one datagram."""

    digest: str
    rung: str
    code: str
    providers: tuple[str, ...]
    figures: Figures
    in_flight_s: float = 0.0
    experiment: ExperimentFigures | None = None


def encode(event: str, session: str, model: str, told: Told) -> bytes:
    """Return a datagram, at most `MAX_LIVE_BYTES` long: drift and latency go before what counts."""
    figures, tried = told.figures, told.experiment
    # What the daemon would take for no name must not cost the whole datagram.
    named = {name: drift for name, drift in figures.input_drift.items() if _is_plain(name)}
    inputs = dict(sorted(named.items())[:MAX_INPUTS])
    document: dict[str, Any] = {
        "version": 1,
        "pid": os.getpid(),
        "session": session,
        "model": model,
        "digest": told.digest,
        "event": event,
        "rung": told.rung,
        "code": told.code,
        "providers": list(told.providers[:8]),
        "inferences": figures.inferences,
        "errors": figures.errors,
        "inputErrors": figures.input_errors,
        "safeOutputs": figures.safe_outputs,
        "inFlightS": math.ceil(told.in_flight_s * 1000) / 1000,  # 0 means that there is none
        "sinceSuccessS": None if figures.since_success_s is None else round(figures.since_success_s, 3),
        "latency": [list(pair) for pair in figures.latency],
        "confidence": None if figures.confidence is None else list(figures.confidence),
        "drift": {
            "confidence": _rounded(figures.confidence_drift),
            "inputs": {name: _rounded(value) for name, value in inputs.items()},
        },
        "experiment": None
        if tried is None
        else {
            "name": tried.name,
            "kind": tried.kind,
            "digest": tried.digest,
            "requests": tried.requests,
            "agree": tried.agree,
            "errors": tried.errors,
            "latency": [list(pair) for pair in tried.latency],
        },
    }
    body = _json(document)
    for name, less in (("drift", {"confidence": None, "inputs": {}}), ("experiment", None), ("latency", [])):
        if len(body) <= MAX_LIVE_BYTES:
            break
        document[name] = less
        body = _json(document)
    return body


class Beats:
    """The way to the daemon of one session. Safe to share between threads; never blocks, never raises."""

    def __init__(self, state: Path, model: str) -> None:
        self.session = os.urandom(8).hex()
        self._model = model
        self._folder = state
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._silent_until = float("-inf")

    def send(self, event: str, told: Told, *, anyway: bool = False) -> bool:
        """Send one datagram; return whether a daemon took it.

        Args:
            event: `open`, `beat`, `swap` or `close`.
            told: What to say.
            anyway: Look for a daemon even if there was none a moment ago.
        """
        with self._lock:
            now = time.monotonic()
            if now < self._silent_until and not anyway:
                return False
            try:
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                    self._socket.setblocking(False)
                self._send_to(encode(event, self.session, self._model, told))
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

    def _send_to(self, body: bytes) -> None:
        assert self._socket is not None  # noqa: S101  made by the caller
        path = self._folder / LIVE_SOCKET
        if len(os.fsencode(path)) <= _SUN_PATH:
            self._socket.sendto(body, str(path))
            return
        fd = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.sendto(body, f"/proc/self/fd/{fd}/{LIVE_SOCKET}")
        finally:
            os.close(fd)


class Keeper:
    """The background thread of a session: one wake-up every few seconds, and whenever it is nudged.

    It holds its session weakly, so that a session nobody has any more is no reason for a thread.
    """

    def __init__(self, work: weakref.WeakMethod[Callable[[], None]], every_s: float = BEAT_S) -> None:
        self._work = work
        self._every_s = every_s
        self._nudged = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="edgewright-session", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """Make it look now."""
        self._nudged.set()

    def end(self) -> None:
        """End the thread; does not wait for it."""
        self._ended = True
        self._nudged.set()

    def _run(self) -> None:
        while True:
            self._nudged.wait(self._every_s)
            self._nudged.clear()
            work = None if self._ended else self._work()
            if work is None:
                return
            try:
                work()
            except Exception:  # what it looks after goes on without it, and the next time may go well
                log.exception("the session's keeper failed")
            del work


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _is_plain(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME_CHARS and name.isprintable()


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
