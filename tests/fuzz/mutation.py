"""Inputs made of bytes: mutations of real documents, the same for the same seed.

>>> edited({"version": 1}, bytes([0, 0, 0, 0]))
{'version': None}

A target that reads JSON takes its input in one of two forms, told apart by the first byte: the document itself, or a
list of edits to a real one. Edits keep the document JSON, so they reach what lies behind the parser.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

RAW, EDITS = b"\0", b"\1"
MAX_EDITS = 4
MAX_PLACES = 2000
MAX_DOCUMENT_BYTES = 512 * 1024
"""The most that any bound in `contract` lets through."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 255, 2**31, 2**53, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308, "", "a", "a" * 300,
    "a" * 5000, "\0", "\n", "../..", "/etc/passwd", "\ud800", "é", "1.0.0", "2030-01-02T03:04:05Z",
    "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2030-13-45T99:99:99Z", "sha256:" + "0" * 64, "0" * 64, "(a+)+$",
    "(?P<x>", "[[:alpha:]]", [], {}, [[]], [{}], {"": ""}, [None] * 70, {"sha256": "0" * 64}, ["a", "a"], "root",
    "timestamp", "rollout", "rollout/assignment.json", "application/vnd.oci.image.manifest.v1+json",
)  # fmt: skip

PIECES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f", b"{}", b"[[[[", b'"\\ud800"', b"1e999")


def edited(document: Any, data: bytes) -> Any:
    """Return a copy of a JSON document, changed as the bytes say; four bytes are one edit."""
    made = copy.deepcopy(document)
    for start in range(0, min(len(data), 4 * MAX_EDITS), 4):
        where, how, what, more = data[start : start + 4].ljust(4, b"\0")
        found = list(itertools.islice(places(made), MAX_PLACES + 1))
        if len(found) > MAX_PLACES:
            break  # lists of lists of lists: longer than anything that gets through the transport
        if not found:
            return VALUES[what % len(VALUES)]
        holder, key = found[(where + 256 * (how >> 4)) % len(found)]
        made = _edit(made, holder, key, how % 8, VALUES[(what + more) % len(VALUES)], more)
    return made


def _edit(document: Any, holder: Any, key: Any, how: int, value: Any, more: int) -> Any:
    if how in (0, 1, 2):
        holder[key] = copy.deepcopy(value)
    elif how == 3:
        del holder[key]
    elif how == 4 and isinstance(holder, dict):
        holder[str(value)[:40]] = holder.pop(key)
    elif how == 5:  # deeper than any of ours, and within what json.dumps can write
        nested = holder[key]
        for _ in range(more % 128):
            nested = [nested]
        holder[key] = nested
    elif how == 6 and isinstance(holder, list):
        holder.extend([holder[key]] * (more % 70))
    elif how == 7 and isinstance(holder[key], str):
        text = holder[key]
        holder[key] = text[: more % (len(text) + 1)] + chr(more * 7) + text[more % (len(text) + 1) :]
    else:
        holder[key] = [holder[key], copy.deepcopy(value)]
    return document


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Yield holder and key of every value in a JSON document."""
    pairs: Any = ()
    if isinstance(document, dict):
        pairs = list(document.items())
    elif isinstance(document, list):
        pairs = list(enumerate(document))
    for key, value in pairs:
        yield document, key
        yield from places(value)


def document_of(data: bytes, real: Sequence[Any]) -> bytes:
    """Return the JSON bytes that an input stands for: itself, or edits to one of the real documents."""
    if data[:1] != EDITS or not real:
        return data[1:]
    which, changes = data[1:2] or b"\0", data[2:]
    return json.dumps(edited(real[which[0] % len(real)], changes)).encode()[:MAX_DOCUMENT_BYTES]


def seeds_of(real: Sequence[Any], *, rounds: int = 8) -> list[bytes]:
    """Return inputs for a target that reads JSON: every real document, and some edits of each."""
    chance = random.Random(len(real))  # noqa: S311  the same in every run, on purpose
    raw = [RAW + json.dumps(document).encode() for document in real]
    edits = [
        EDITS + bytes([which]) + chance.randbytes(chance.choice((4, 8, 16)))
        for which in range(len(real))
        for _ in range(rounds)
    ]
    return raw + edits


def mutants(seeds: Sequence[bytes], count: int, name: str) -> Iterator[bytes]:
    """Yield every seed and then `count` mutations of them, the same in every run."""
    yield from seeds
    chance = random.Random(name)  # noqa: S311
    for _ in range(count):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 4))):
            _mutate(data, chance, seeds)
        yield bytes(data)


def _mutate(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    kind = chance.randrange(6)
    if kind == 0 and data:
        data[at % len(data)] ^= 1 << chance.randrange(8)
    elif kind == 1:
        data[at:at] = chance.randbytes(chance.choice((1, 2, 8)))
    elif kind == 2:
        del data[at : at + chance.choice((1, 4, 64))]
    elif kind == 3:
        piece = data[at : at + chance.choice((4, 32))]
        data[at:at] = piece * chance.choice((1, 3, 50))
    elif kind == 4:
        other = chance.choice(seeds)
        data[at:] = other[min(at, len(other)) :]
    else:
        data[at : at + 4] = chance.choice(PIECES)
