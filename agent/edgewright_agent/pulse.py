"""What the child of a health check says while it is at it: how far it is, and that it lives.

>>> signs, rest = read(b'{"stage": "loading"}\\n.\\n{"sta')
>>> signs, rest
(({'stage': 'loading'}, {}), b'{"sta')

A pipe of its own, one line each: a stage with what is known by then (a JSON object), or a dot for an inference that
came back. Its other end believes little of it: whoever runs a broken model may write anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

from edgewright_agent.transport.document import parse_json

FD = "EDGEWRIGHT_HEALTH_PULSE"  # environment of the child: number of the pipe
STAGES = ("loading", "replaying", "soaking", "fallback", "done")
MAX_LINE_BYTES = 512  # less than PIPE_BUF: a line is never torn
_MAX_FIGURE = 2**53  # what every reader of JSON agrees on (RFC 8259 6)
_EVERY_S = 0.05  # between two dots; a fast model would fill the pipe with them


class Pulse:
    """The child's end; without a pipe it says nothing."""

    def __init__(self, fd: int | None) -> None:
        self._fd, self._beaten = fd, 0.0
        if fd is not None:
            os.set_blocking(fd, False)

    @classmethod
    def inherited(cls) -> Pulse:
        """Return the end that the parent has passed on, if it has."""
        number = os.environ.get(FD, "")
        return cls(int(number) if number.isdecimal() else None)

    def stage(self, name: str, **known: Any) -> None:
        """Say that a stage begins."""
        self._write(json.dumps({"stage": name, **known}).encode())

    def beat(self) -> None:
        """Say that an inference came back; not more often than anybody needs to know."""
        now = time.monotonic()
        if now - self._beaten >= _EVERY_S:
            self._beaten = now
            self._write(b".")

    def _write(self, line: bytes) -> None:
        if self._fd is not None:
            # A full pipe has enough signs of life in it; without a reader nobody misses them.
            with contextlib.suppress(OSError):
                os.write(self._fd, line[: MAX_LINE_BYTES - 1] + b"\n")


def read(data: bytes) -> tuple[tuple[dict[str, Any], ...], bytes]:
    """Return the signs in what the pipe gave ({} for a beat), and the rest that is no whole line yet."""
    *lines, rest = data.split(b"\n")
    return tuple(_sign(line) for line in lines), rest[-MAX_LINE_BYTES:]


def _sign(line: bytes) -> dict[str, Any]:
    if len(line) <= MAX_LINE_BYTES and line.startswith(b"{"):
        with contextlib.suppress(ValueError):
            sign = parse_json(line, "a stage")
            if isinstance(sign, dict) and sign.get("stage") in STAGES:
                return {key: value for key, value in sign.items() if key in _KNOWN and _KNOWN[key](value)}
    return {}


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_FIGURE


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_KNOWN: dict[str, Callable[[object], bool]] = {
    "stage": lambda value: value in STAGES,
    "engine": _is_text,
    "bareBytes": _is_figure,
    "loadMs": _is_figure,
    "providers": _is_list,
    "inferenceMs": _is_figure,
}
