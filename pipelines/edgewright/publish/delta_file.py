"""The file of a delta layer: operations and their data as blocks, each with the codec that makes it smallest.

>>> operations = [Operation(DELTA_COPY, 1, 0, 4096), Operation(DELTA_ADD, 4, 4096, 1 << 20)]   # doctest: +SKIP
>>> write_delta(Path("model.onnx"), base, target, operations)                                # doctest: +SKIP

`edgewright_agent.delta` reads it and says what the format is; `edgewright_agent.contract` has its numbers. The same two
files give the same delta, as far as zlib, bz2 and liblzma do. What is written is carried out once before it is
published (`rebuilt`), so that no fleet fetches deltas that do not work.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import mmap
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edgewright.publish.durable import storage
from edgewright_agent.contract import (
    DELTA_ADD,
    DELTA_BLOCK,
    DELTA_BZ2,
    DELTA_COPY,
    DELTA_DICTIONARY_BYTES,
    DELTA_HEADER,
    DELTA_MAGIC,
    DELTA_OPERATION,
    DELTA_REPLACE,
    DELTA_STORED,
    DELTA_WINDOW_BYTES,
    DELTA_XZ,
    DELTA_ZLIB,
    MAX_DELTA_BLOCK_OPERATIONS,
)

Bytes = memoryview | mmap.mmap | bytes
"""A file in memory or mapped: sliced, never copied whole."""

PIECE_BYTES = 8 * 1024 * 1024
"""Most data of one operation, and about the most of a block: what making a delta holds in memory at a time."""
SMALL_BYTES = 64 * 1024
"""Data of another kind joins a block until there is so much of both: streams of a few bytes compress badly."""
_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": DELTA_DICTIONARY_BYTES}]


@dataclass(frozen=True)
class Operation:
    """How the next `length` bytes of the target come about; see `edgewright_agent.delta.Operation`."""

    kind: int
    width: int
    offset: int
    length: int


@dataclass
class _Block:
    operations: list[Operation]
    data: bytearray

    def takes(self, operation: Operation, data: int) -> bool:
        """Whether an operation with so many bytes of data still belongs here."""
        if len(self.operations) >= MAX_DELTA_BLOCK_OPERATIONS or len(self.data) + data > 2 * PIECE_BYTES:
            return False
        last = next((one for one in reversed(self.operations) if one.kind != DELTA_COPY), None)
        alike = last is None or (last.kind, last.width) == (operation.kind, operation.width)
        return not data or alike or min(len(self.data), data) < SMALL_BYTES


def write_delta(path: Path, base: Bytes, target: Bytes, operations: Sequence[Operation]) -> int:
    """Write the delta that carries out `operations`; return its size in bytes.

    Args:
        path: Where it goes.
        base: The file it starts from.
        target: The file it makes.
        operations: In the order of the target, which they cover exactly; none has more data than `PIECE_BYTES`.

    Raises:
        EnvironmentFault: no space, or not writable.
    """
    with storage("write", path), path.open("wb") as out:
        header = (
            DELTA_MAGIC,
            hashlib.sha256(base).digest(),
            len(base),
            hashlib.sha256(target).digest(),
            len(target),
        )
        out.write(struct.pack(DELTA_HEADER, *header))
        for block in _blocks(base, target, operations):
            codec, coded = smallest(bytes(block.data))
            table = b"".join(
                struct.pack(
                    DELTA_OPERATION, one.kind | (one.width.bit_length() - 1) << 4, one.offset, one.length
                )
                for one in block.operations
            )
            table = zlib.compress(table, 9)
            head = (codec, len(block.operations), len(table), len(block.data), len(coded))
            out.write(struct.pack(DELTA_BLOCK, *head) + table + coded)
        return out.tell()


def smallest(data: bytes) -> tuple[int, bytes]:
    """Return the codec that makes data smallest, and what it makes of it."""
    tries = [
        (DELTA_STORED, data),
        (DELTA_ZLIB, zlib.compress(data, 9)),
        (DELTA_BZ2, bz2.compress(data, 9)),
        (DELTA_XZ, lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=_XZ)),
    ]
    return min(tries, key=lambda one: len(one[1])) if data else tries[0]


def data_of(operation: Operation, base: Bytes, target: Bytes, start: int) -> bytes:
    """Return the data an operation needs to make `target[start:]`: planes of elements in windows."""
    new = np.frombuffer(target[start : start + operation.length], np.uint8)
    if operation.kind == DELTA_ADD:
        old = np.frombuffer(base[operation.offset : operation.offset + operation.length], np.uint8)
        new = new - old  # modulo 256
    return planes(new, operation.width)


def planes(data: np.ndarray, width: int) -> bytes:
    """Return every window with the first bytes of its elements first, then the second ones, and so on."""
    if width == 1:
        return data.tobytes()
    whole = len(data) - len(data) % DELTA_WINDOW_BYTES
    windows = data[:whole].reshape(-1, DELTA_WINDOW_BYTES // width, width).transpose(0, 2, 1)
    rest = data[whole:]
    even = len(rest) - len(rest) % width
    last = rest[:even].reshape(-1, width).T
    return windows.tobytes() + last.tobytes() + rest[even:].tobytes()


def rebuilt(path: Path, base: Bytes) -> tuple[str, int]:
    """Carry a delta out; return digest and size of what it makes."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        target_size = struct.unpack(DELTA_HEADER, file.read(struct.calcsize(DELTA_HEADER)))[4]
        while size < target_size:
            for piece in _carried_out(file, base):
                digest.update(piece)
                size += len(piece)
    return f"sha256:{digest.hexdigest()}", size


def _carried_out(file: BinaryIO, base: Bytes) -> Iterator[bytes]:
    codec, _count, table, _raw, coded = struct.unpack(DELTA_BLOCK, file.read(struct.calcsize(DELTA_BLOCK)))
    operations = struct.iter_unpack(DELTA_OPERATION, zlib.decompress(file.read(table)))
    unpack: dict[int, Callable[[bytes], bytes]] = {
        DELTA_STORED: bytes,
        DELTA_ZLIB: zlib.decompress,
        DELTA_BZ2: bz2.decompress,
        DELTA_XZ: lzma.decompress,
    }
    data = np.frombuffer(unpack[codec](file.read(coded)), np.uint8)
    for kind, offset, length in operations:
        old = base[offset : offset + length]
        if kind & 15 == DELTA_COPY:
            yield bytes(old)
            continue
        new = _interleaved(data[:length], 1 << (kind >> 4))
        data = data[length:]
        yield (new if kind & 15 == DELTA_REPLACE else new + np.frombuffer(old, np.uint8)).tobytes()


def _interleaved(data: np.ndarray, width: int) -> np.ndarray:
    found = data.copy()
    for start in range(0, len(data), DELTA_WINDOW_BYTES):
        window = data[start : start + DELTA_WINDOW_BYTES]
        even = len(window) - len(window) % width
        found[start : start + even] = window[:even].reshape(width, -1).T.reshape(-1)
    return found


def _blocks(base: Bytes, target: Bytes, operations: Sequence[Operation]) -> Iterator[_Block]:
    block, start = _Block([], bytearray()), 0
    for operation in operations:
        length = 0 if operation.kind == DELTA_COPY else operation.length
        if not block.takes(operation, length):
            yield block
            block = _Block([], bytearray())
        block.operations.append(operation)
        if length:
            block.data += data_of(operation, base, target, start)
        start += operation.length
    if block.operations:
        yield block
