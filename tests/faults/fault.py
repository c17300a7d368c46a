"""What can go wrong with one answer on its way: a fault and the place in the answer where it strikes.

>>> from random import Random
>>> str(drawn(Random(6)))
'corrupt in-status'
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from random import Random

PLACES = ("connect", "before-status", "in-status", "headers", "first-byte", "mid-body", "last-byte")
CUTS = ("reset", "truncate", "stall", "drip")  # what can happen from a place on
RETRY_AFTER = (
    "",
    "2",
    "-5",
    "soon",
    "9" * 400,
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Thu, 01 Jan 1970 00:00:00 GMT",
)
PORTALS = ("page", "redirect", "511")
LENGTHS = ("longer", "shorter", "negative", "nonsense", "huge")
RANGES = ("shifted", "other-total", "nonsense", "missing", "unasked")
_DETAILS = {"portal": PORTALS, "length": LENGTHS, "range": RANGES, "status": ("500", "404", "204")}


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: One of `KINDS`.
        detail: A place for cuts and corruption; else which of the kind.
    """

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} {self.detail or 'without'}"[:60]


def every_fault() -> Iterator[Fault]:
    """Yield every fault there is."""
    for kind, place in itertools.product(CUTS, PLACES):
        yield Fault(kind, place)
    for place in PLACES[2:]:
        yield Fault("corrupt", place)
    for status, after in itertools.product(("429", "503"), RETRY_AFTER):
        yield Fault(status, after)
    yield Fault("429", formatdate(usegmt=True))
    for kind, details in (
        ("portal", PORTALS),
        ("length", LENGTHS),
        ("range", RANGES),
        ("status", ("500", "404", "204")),
    ):
        for detail in details:
            yield Fault(kind, detail)


EVERY = tuple(every_fault())
KINDS = tuple(dict.fromkeys(fault.kind for fault in EVERY))


def drawn(random: Random) -> Fault:
    """Return a fault, every kind as likely as every other."""
    kind = random.choice(KINDS)
    return random.choice([fault for fault in EVERY if fault.kind == kind])


def place_of(place: str, head: int, total: int) -> int:
    """Return the position in an answer of `total` bytes, the first `head` of them headers, at which a place is."""
    body = total - head
    return {
        "connect": 0,
        "before-status": 0,
        "in-status": min(7, total),
        "headers": head // 2,
        "first-byte": head + min(1, body),
        "mid-body": head + body // 2,
        "last-byte": max(head, total - 1),
    }[place]


def altered(fault: Fault, answer: bytes, *, asked_range: bool) -> bytes:
    """Return an answer with a fault that is in its bytes, not in their way."""
    head_bytes = answer.index(b"\r\n\r\n") + 4
    head, body = answer[:head_bytes], answer[head_bytes:]
    if fault.kind == "corrupt":
        at = min(place_of(fault.detail, len(head), len(answer)), len(answer) - 1)
        return answer[:at] + bytes([answer[at] ^ 0x15]) + answer[at + 1 :]
    if fault.kind in ("429", "503"):
        after = f"Retry-After: {fault.detail}\r\n" if fault.detail else ""
        return f"HTTP/1.1 {fault.kind} Busy\r\n{after}Content-Length: 0\r\n\r\n".encode()
    if fault.kind == "status":
        return f"HTTP/1.1 {fault.detail} X\r\nContent-Length: 0\r\n\r\n".encode()
    if fault.kind == "portal":
        return _portal(fault.detail)
    if fault.kind == "length":
        return _with(head, "Content-Length", _LENGTHS[fault.detail](len(body))) + body
    if fault.kind == "range":
        return _ranged(fault.detail, head, body, asked_range)
    return answer


_LENGTHS = {
    "longer": lambda size: str(size + 10),
    "shorter": lambda size: str(max(0, size - 10)),
    "negative": lambda size: str(-size - 1),
    "nonsense": lambda size: "many",
    "huge": lambda size: "9" * 30,
}


def _portal(detail: str) -> bytes:
    page = b"<html><title>Hotel</title>Please log in</html>"
    if detail == "redirect":
        return b"HTTP/1.1 302 Found\r\nLocation: /login?from=registry\r\nContent-Length: 0\r\n\r\n"
    status = "511 Network Authentication Required" if detail == "511" else "200 OK"
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\n\r\n".encode() + page
    )


def _ranged(detail: str, head: bytes, body: bytes, asked: bool) -> bytes:
    if detail == "unasked" and not asked:
        return (
            _with(head.replace(b" 200 OK", b" 206 Partial", 1), "Content-Range", f"bytes 5-{len(body) + 4}/*")
            + body
        )
    if not asked or b"Content-Range" not in head:
        return head + body
    if detail == "missing":
        return _with(head, "Content-Range", None) + body
    old = next(line for line in head.decode().split("\r\n") if line.lower().startswith("content-range:"))
    start, end, total = old.partition("bytes ")[2].replace("/", "-").split("-")
    spoilt = {
        "shifted": f"bytes {int(start) - 1}-{int(end) - 1}/{total}",
        "other-total": f"bytes {start}-{end}/{int(total) + 1}",
        "nonsense": "bytes all",
        "unasked": f"bytes 0-{end}/{total}",
    }[detail]
    return _with(head, "Content-Range", spoilt) + body


def _with(head: bytes, name: str, value: str | None) -> bytes:
    prefix = f"{name.lower()}:"
    lines = [
        line for line in head.decode("latin-1").split("\r\n") if line and not line.lower().startswith(prefix)
    ]
    return "\r\n".join([*lines, *([f"{name}: {value}"] if value is not None else []), "", ""]).encode(
        "latin-1"
    )
