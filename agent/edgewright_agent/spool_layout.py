"""How the telemetry spool lies in its file: two heads, an outbox, and segments of checksummed records.

    0        4096     8192            73728     90112
    | head 0 | head 1 | outbox 64 KiB | segment | segment | …

The outbox holds one batch, or two: beside one of aggregates or samples, in the second half, one of what is worth more.

A segment belongs to one priority at a time. A record begins at a sector of its own, so writing one can never damage
another that is durable, and after a damaged one the next is found again. Its checksum covers the number and the nonce
of its segment's present life: what is left of an earlier life is no record.

>>> header = SegmentHeader(generation=7, nonce=b"8 bytes.", priority=Priority.ERROR)
>>> segment = (header.encode() + encode_record(header, 41, b'{"code":"x"}')).ljust(16384, b"\\0")
>>> [(found.sequence, found.payload) for found in scan(segment, SegmentHeader.decode(segment))]
[(41, b'{"code":"x"}')]
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

SECTOR_BYTES = 512  # the least that a power cut during a write can spoil
HEAD_BYTES = 4096
OUTBOX_BYTES = 64 * 1024
BESIDE_AT = OUTBOX_BYTES // 2  # within the outbox
_OUTBOX_AT = 2 * HEAD_BYTES
_SEGMENTS_AT = _OUTBOX_AT + OUTBOX_BYTES
_SEGMENT_BYTES = 16 * 1024
_MAX_SEGMENTS = 256
MIN_BYTES = 256 * 1024
MAX_BYTES = 64 * 1024 * 1024
DEFAULT_BYTES = 4 * 1024 * 1024

MAX_STORED_BYTES = 15 * 1024  # of a record, as it is stored: fits the smallest segment
MAX_PAYLOAD_BYTES = 64 * 1024
MAX_SEQUENCE = 2**53 - 1  # what JSON numbers carry everywhere

_CHECK_BYTES = 16
_SEGMENT = struct.Struct(">8sQ8sBB2xIQQ32s")
_SEGMENT_MAGIC = b"\xffEWSEG1\n"  # 0xff is in no UTF-8 text, so no payload holds it
_RECORD = struct.Struct(">4sBB2xIQ")
_RECORD_MAGIC = b"\xffEWr"
_DEFLATED = 1
_OUTBOX = struct.Struct(">8sII32s")
_OUTBOX_MAGIC = b"\xffEWBOX1\n"


class Priority(IntEnum):
    """What a record is worth, the best first: when there is no room, the last goes first."""

    UPDATE_STATUS = 0
    ERROR = 1
    AGGREGATE = 2
    SAMPLE = 3

    @property
    def word(self) -> str:
        """As people, reports and metrics call it."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True)
class Layout:
    """Where things are in a spool file of `size` bytes."""

    size: int

    @property
    def segment_bytes(self) -> int:
        """Length of a segment: 16 KiB, and more where there would be too many to look through."""
        length = _SEGMENT_BYTES
        while (self.size - _SEGMENTS_AT) // length > _MAX_SEGMENTS:
            length *= 2
        return length

    @property
    def segments(self) -> int:
        """How many there are."""
        return (self.size - _SEGMENTS_AT) // self.segment_bytes

    @property
    def outbox_at(self) -> int:
        """Where the outbox begins."""
        return _OUTBOX_AT

    def segment_at(self, index: int) -> int:
        """Where segment `index` begins."""
        return _SEGMENTS_AT + index * self.segment_bytes


def layout_of(size: int) -> Layout | None:
    """Return the layout of a file of that size, or None if no spool has it."""
    return Layout(size) if MIN_BYTES <= size <= MAX_BYTES and size % HEAD_BYTES == 0 else None


@dataclass(frozen=True)
class SegmentHeader:
    """First sector of a segment.

    Attributes:
        generation: Number of this life of the segment; they only grow over the whole file.
        nonce: 8 random bytes: a number may be given again when a power cut took the first life back.
        priority: Of all its records.
        level: How often its records were merged two to one.
        sealed: Bytes of records of a segment that was written at once and is not appended to; 0 for others.
        replaces: Generations of the segments whose records it holds in fewer records.
        body: sha256 of the sealed bytes.
    """

    generation: int
    nonce: bytes
    priority: Priority
    level: int = 0
    sealed: int = 0
    replaces: tuple[int, int] = (0, 0)
    body: bytes = bytes(32)

    def encode(self) -> bytes:
        """Return the sector."""
        packed = _SEGMENT.pack(
            _SEGMENT_MAGIC,
            self.generation,
            self.nonce,
            self.priority,
            self.level,
            self.sealed,
            *self.replaces,
            self.body,
        )
        return (packed + _check(packed)).ljust(SECTOR_BYTES, b"\0")

    @classmethod
    def decode(cls, sector: bytes) -> SegmentHeader | None:
        """Return the header, or None for anything but a whole one."""
        packed, check = sector[: _SEGMENT.size], sector[_SEGMENT.size : _SEGMENT.size + _CHECK_BYTES]
        if len(check) != _CHECK_BYTES or check != _check(packed):
            return None
        magic, generation, nonce, priority, level, sealed, first, second, body = _SEGMENT.unpack(packed)
        if magic != _SEGMENT_MAGIC or priority >= len(Priority) or generation == 0:
            return None
        return cls(generation, nonce, Priority(priority), level, sealed, (first, second), body)

    def is_whole(self, segment: bytes) -> bool:
        """Whether every sealed byte is as it was written."""
        return hashlib.sha256(segment[SECTOR_BYTES : SECTOR_BYTES + self.sealed]).digest() == self.body


@dataclass(frozen=True)
class Record:
    """One record as it was found; `end` is where in its segment the next may begin."""

    sequence: int
    priority: Priority
    payload: bytes
    end: int = 0


def encode_record(header: SegmentHeader, sequence: int, payload: bytes) -> bytes:
    """Return a record for a segment, padded to whole sectors.

    Raises:
        ValueError: it is too large.
    """
    stored, flags = payload, 0
    deflated = zlib.compress(payload, 6)
    if len(deflated) < len(payload):
        stored, flags = deflated, _DEFLATED
    if len(payload) > MAX_PAYLOAD_BYTES or len(stored) > MAX_STORED_BYTES:
        raise ValueError(f"a record of {len(payload)} bytes, {len(stored)} deflated, is too large")
    head = _RECORD.pack(_RECORD_MAGIC, header.priority, flags, len(stored), sequence)
    record = head + _check(_life(header), head, stored) + stored
    return record.ljust(_whole_sectors(len(record)), b"\0")


def scan(segment: bytes, header: SegmentHeader | None) -> Iterator[Record]:
    """Yield the whole records of a segment in the order in which they lie; what is no record is passed over."""
    if header is None:
        return
    at = SECTOR_BYTES
    while at < len(segment):
        found = _record_at(segment, at, header)
        if found is not None:
            yield found
        at = found.end if found else at + SECTOR_BYTES


def _record_at(segment: bytes, at: int, header: SegmentHeader) -> Record | None:
    head = segment[at : at + _RECORD.size]
    if len(head) < _RECORD.size or not head.startswith(_RECORD_MAGIC):
        return None
    _, priority, flags, length, sequence = _RECORD.unpack(head)
    start = at + _RECORD.size + _CHECK_BYTES
    stored = segment[start : start + length]
    check = segment[at + _RECORD.size : start]
    if len(stored) != length or priority != header.priority or not 0 < sequence <= MAX_SEQUENCE:
        return None
    if check != _check(_life(header), head, stored):
        return None
    payload = _inflated(stored) if flags & _DEFLATED else stored
    if payload is None:
        return None
    return Record(sequence, header.priority, payload, at + _whole_sectors(start - at + length))


def encode_outbox(meta: bytes, body: bytes, room: int = OUTBOX_BYTES) -> bytes | None:
    """Return a batch as it lies in the outbox, or None when that does not fit into `room` bytes."""
    digest = hashlib.sha256(meta + body).digest()
    made = _OUTBOX.pack(_OUTBOX_MAGIC, len(meta), len(body), digest) + meta + body
    return made if len(made) <= room else None


def decode_outbox(region: bytes) -> tuple[bytes, bytes] | None:
    """Return what describes the batch and its body, or None when there is no whole one."""
    if len(region) < _OUTBOX.size:
        return None
    magic, described, length, digest = _OUTBOX.unpack_from(region)
    meta = region[_OUTBOX.size : _OUTBOX.size + described]
    body = region[_OUTBOX.size + described : _OUTBOX.size + described + length]
    if magic != _OUTBOX_MAGIC or len(meta) != described or len(body) != length:
        return None
    return (meta, body) if hashlib.sha256(meta + body).digest() == digest else None


def _life(header: SegmentHeader) -> bytes:
    return header.generation.to_bytes(8, "big") + header.nonce


def _check(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()[:_CHECK_BYTES]


def _whole_sectors(length: int) -> int:
    return -(-length // SECTOR_BYTES) * SECTOR_BYTES


def _inflated(stored: bytes) -> bytes | None:
    inflater = zlib.decompressobj()
    try:
        payload = inflater.decompress(stored, MAX_PAYLOAD_BYTES)
    except zlib.error:
        return None
    return payload if inflater.eof else None
