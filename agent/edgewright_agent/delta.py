"""A delta file: how to make one file from another, in operations over byte ranges, decoded as a stream.

>>> header = read_header(delta)                                                  # doctest: +SKIP
>>> apply(delta, base, layer, whole, disk, reserve_bytes=64 << 20)                # doctest: +SKIP

The format (docs/adr/0015, numbers in `contract`) knows three operations: copy a range of the base file, write data of
the delta, and add data to a range of the base byte by byte modulo 256, which makes the small changes of a fine-tuned
tensor small to write. Data is compressed by block, with zlib, bz2 or xz, and lies byte plane by byte plane where
elements are wider than a byte.

A delta is believed in nothing: it was signed, and still every number in it is bounded before it is used, no stream
gives more than its block declares, and the file counts only if it has the digest of the signed manifest. Memory is a
few windows and the codec's own (an xz dictionary of 4 MiB), whatever the delta says. A file that was half made when
the power went is made anew from its start; the delta it was made from is still there.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from edgewright_agent import contract
from edgewright_agent.artifact import Layer
from edgewright_agent.errors import StorageError, TrustError
from edgewright_agent.files import Disk, faults
from edgewright_agent.unpack import write_checked

READ_BYTES = 64 * 1024
WRITE_BYTES = 256 * 1024  # small operations are gathered to writes of at least so much
XZ_MEMORY_BYTES = 2 * contract.DELTA_DICTIONARY_BYTES
_WINDOW = contract.DELTA_WINDOW_BYTES
_LOW_BITS = int.from_bytes(b"\x7f" * _WINDOW, "little")  # all bits but the highest of every byte
_KINDS = (contract.DELTA_COPY, contract.DELTA_REPLACE, contract.DELTA_ADD)


@dataclass(frozen=True)
class Header:
    """Which file a delta makes, and from which."""

    base_digest: str
    base_size: int
    target_digest: str
    target_size: int


@dataclass(frozen=True)
class Operation:
    """How the next `length` bytes of the target come about.

    Attributes:
        kind: Copy, replace or add.
        width: Bytes of an element of its data.
        offset: Where in the base file; 0 for replace.
    """

    kind: int
    width: int
    offset: int
    length: int


def read_header(delta: Path) -> Header:
    """Read which file a delta makes, and from which.

    Raises:
        TrustError: `bad-delta`.
        StorageError: it cannot be read.
    """
    with faults(delta, "read"), delta.open("rb") as file:
        return _header(file)


def apply(delta: Path, base: Path, layer: Layer, whole: Path, disk: Disk, *, reserve_bytes: int) -> None:
    """Write the file that a delta makes of `base`, synced.

    Args:
        delta: The delta, as it was downloaded.
        base: The file it starts from.
        layer: What the signed manifest says of the file to make.
        whole: Where that goes; nothing is left there after an error.
        disk: Where all of them are.
        reserve_bytes: What must stay free.

    Raises:
        TrustError: `bad-delta`, or `bad-manifest` when what it makes is not the file that was signed.
        StorageError: as for every write; `damaged` when the base is not the file the delta starts from.
    """
    try:
        with (
            faults(delta, "read"),
            delta.open("rb") as file,
            base.open("rb", buffering=0) as source,
            disk.appending(whole, keep=0) as out,
        ):
            header = _header(file)
            if (header.target_digest, header.target_size) != (layer.file_digest, layer.file_size):
                raise _bad(f"makes another file than {layer.file}")
            if os.fstat(source.fileno()).st_size != header.base_size:
                raise StorageError("damaged", f"{base} has not the size it was installed with")
            content = _gathered(target_bytes(file, source, header))
            write_checked(content, out, layer, disk, reserve_bytes=reserve_bytes)
            out.sync()
    except (TrustError, StorageError):
        disk.remove(whole)
        raise


def target_bytes(delta: BinaryIO, base: BinaryIO, header: Header) -> Iterator[bytes]:
    """Yield what a delta makes, in pieces of at most a window; `delta` stands behind its header.

    Raises:
        TrustError: `bad-delta`: it is malformed, or does not give exactly the size in its header.
        StorageError: `damaged`: the base ends too early.
    """
    end = os.fstat(delta.fileno()).st_size
    made, operations = 0, 0
    while made < header.target_size:
        codec, count, coded_operations, raw, coded = struct.unpack(
            contract.DELTA_BLOCK, _exactly(delta, struct.calcsize(contract.DELTA_BLOCK))
        )
        operations += count
        if not 0 < count <= contract.MAX_DELTA_BLOCK_OPERATIONS:
            raise _bad(f"has a block of {count} operations")
        if operations > contract.MAX_DELTA_OPERATIONS:
            raise _bad(f"has more than {contract.MAX_DELTA_OPERATIONS} operations")
        if coded_operations + coded > end - delta.tell():
            raise _bad("ends in the middle of a block")
        block = _operations(delta, count, coded_operations)
        made = _check(block, raw, made, header)
        data = _Data(delta, codec, raw, coded)
        for operation in block:
            yield from _range(operation, data, base)
        data.finish()
    if delta.tell() != end:
        raise _bad("goes on after its end")


def _header(file: BinaryIO) -> Header:
    magic, base, base_size, target, target_size = struct.unpack(
        contract.DELTA_HEADER, _exactly(file, struct.calcsize(contract.DELTA_HEADER))
    )
    if magic != contract.DELTA_MAGIC:
        raise _bad(f"begins with {magic!r}, so this agent does not understand it")
    return Header(f"sha256:{base.hex()}", base_size, f"sha256:{target.hex()}", target_size)


def _operations(file: BinaryIO, count: int, coded: int) -> list[Operation]:
    size = count * struct.calcsize(contract.DELTA_OPERATION)
    if coded > size + 1024:  # no compressor makes a table longer than that
        raise _bad("has operations that take more room than they need")
    stream = zlib.decompressobj()
    try:
        table = stream.decompress(_exactly(file, coded), size + 1)
    except zlib.error as error:
        raise _bad(f"has operations that cannot be unpacked: {error}") from None
    if len(table) != size or not stream.eof or stream.unused_data:
        raise _bad("has not as many operations as it says")
    return [
        Operation(kind & 15, 1 << (kind >> 4), offset, length)
        for kind, offset, length in struct.iter_unpack(contract.DELTA_OPERATION, table)
    ]


def _check(block: list[Operation], raw: int, made: int, header: Header) -> int:
    """Check a block before any of it is carried out; return how much of the target there is after it."""
    data = 0
    for operation in block:
        if operation.kind not in _KINDS or operation.width not in contract.DELTA_WIDTHS:
            raise _bad(f"has an operation of an unknown kind ({operation.kind}, {operation.width})")
        made += operation.length
        if operation.length == 0 or made > header.target_size:
            raise _bad(f"makes more than the {header.target_size} bytes it says, or nothing")
        if operation.kind != contract.DELTA_COPY:
            data += operation.length
        end = 0 if operation.kind == contract.DELTA_REPLACE else operation.offset + operation.length
        if end > header.base_size:
            raise _bad(f"reads behind the {header.base_size} bytes of its base")
    if data != raw:
        raise _bad(f"has {raw} bytes of data for operations that need {data}")
    return made


def _range(operation: Operation, data: _Data, base: BinaryIO) -> Iterator[bytes]:
    for start in range(0, operation.length, _WINDOW):
        count = min(_WINDOW, operation.length - start)
        if operation.kind == contract.DELTA_COPY:
            yield _read(base, operation.offset + start, count)
            continue
        piece = elements(data.take(count), operation.width)
        if operation.kind == contract.DELTA_ADD:
            piece = _sum(piece, _read(base, operation.offset + start, count))
        yield piece


def elements(window: bytes, width: int) -> bytes:
    """Return the elements of a window that holds their first bytes, then their second bytes, and so on.

    >>> elements(b"aAbBcC"[::2] + b"aAbBcC"[1::2] + b"!", 2)
    b'aAbBcC!'
    """
    if width == 1:
        return window
    count = len(window) // width
    found = bytearray(window)  # a rest that is no element stays where it is
    for plane in range(width):
        found[plane : count * width : width] = window[plane * count : (plane + 1) * count]
    return bytes(found)


def _sum(one: bytes, other: bytes) -> bytes:
    """Add two windows byte by byte modulo 256: as two large numbers whose carries stop at every byte.

    >>> _sum(bytes([1, 255, 128]), bytes([2, 3, 128]))
    b'\\x03\\x02\\x00'
    """
    low = _LOW_BITS >> 8 * (_WINDOW - len(one))
    left, right = int.from_bytes(one, "little"), int.from_bytes(other, "little")
    # The highest bit of a byte takes the carry from below and gives none: that is what exclusive or does.
    total = ((left & low) + (right & low)) ^ ((left ^ right) & ~low)
    return total.to_bytes(len(one), "little")


class _Data:
    """The data of one block: given in order, never more of it than the block declares."""

    def __init__(self, file: BinaryIO, codec: int, raw: int, coded: int) -> None:
        self._file, self._left, self._coded = file, b"", coded
        self._stream = _decompressor(codec)
        if self._stream is None and raw != coded:
            raise _bad(f"stores {raw} bytes in {coded}")

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes, a window at most."""
        found = bytearray()
        while len(found) < count:
            piece = self._next(count - len(found))
            if not piece:
                raise _bad("has less data than it says")
            found += piece
        return bytes(found)

    def finish(self) -> None:
        """Insist that this was all."""
        if self._stream is not None and not self._stream.eof and self._next(1):
            raise _bad("has more data than it says")
        rest = self._left or (self._stream.unused_data if self._stream is not None else b"")
        if rest or self._coded:
            raise _bad("has something behind its data")

    def _next(self, limit: int) -> bytes:
        """Return at most `limit` bytes; none at the end of the stream."""
        if self._stream is None:
            return self._read(limit)
        while not self._stream.eof:
            try:
                piece: bytes = self._stream.decompress(self._left, limit)
            except Exception as error:  # noqa: BLE001  three libraries, three kinds of error
                raise _bad(f"has data that cannot be unpacked: {str(error)[:200]}") from None
            self._left = getattr(self._stream, "unconsumed_tail", b"")
            if piece:
                return piece
            if not self._left and not self._stream.eof:
                self._left = self._read(READ_BYTES)
                if not self._left:
                    raise _bad("has data that breaks off")
        return b""

    def _read(self, limit: int) -> bytes:
        count = min(limit, self._coded)
        self._coded -= count
        return _exactly(self._file, count)


def _decompressor(codec: int) -> Any:
    """Return what unpacks a stream bit by bit with a limit on its output; None for data that is not packed."""
    try:
        if codec == contract.DELTA_ZLIB:
            return zlib.decompressobj()
        if codec == contract.DELTA_BZ2:
            import bz2

            return bz2.BZ2Decompressor()
        if codec == contract.DELTA_XZ:
            import lzma

            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
    except ImportError as error:  # small builds of Python leave them out
        raise _bad(f"needs a codec that this Python lacks ({error})") from None
    if codec != contract.DELTA_STORED:
        raise _bad(f"has data in the unknown codec {codec}")
    return None


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= WRITE_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _read(base: BinaryIO, offset: int, count: int) -> bytes:
    found = os.pread(base.fileno(), count, offset)
    if len(found) != count:
        raise StorageError("damaged", "the file a delta starts from ends too early")
    return found


def _exactly(file: BinaryIO, count: int) -> bytes:
    found = file.read(count)
    if len(found) != count:
        raise _bad("ends too early")
    return found


def _bad(what: str) -> TrustError:
    return TrustError("bad-delta", f"the delta {what}")
