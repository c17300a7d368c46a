"""Which operations make one file from another: tensor by tensor where both are ONNX, by matching bytes elsewhere.

>>> operations = plan(base, target, pairs)          # doctest: +SKIP
>>> sum(one.length for one in operations) == len(target)   # doctest: +SKIP
True

A fine-tuned tensor differs from its former self in every element and still by little. No tool that looks for equal runs
of bytes finds anything to save there; the difference of the two tensors, compressed, is small.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgewright.publish.delta_file import PIECE_BYTES, Bytes, Operation, data_of
from edgewright.publish.delta_tensors import Tensor
from edgewright_agent.contract import DELTA_ADD, DELTA_COPY, DELTA_REPLACE

RUN_BYTES = 32
"""Shortest run of equal bytes that is looked for: an operation takes a few bytes itself."""
MAX_MATCHED_BYTES = 8 * 1024 * 1024
"""Most bytes in which runs are looked for one by one; of larger ones only beginning and end are compared."""
SAMPLE_BYTES = 1024 * 1024
"""How much of a large piece is compressed to decide how it is coded."""


@dataclass(frozen=True)
class Pair:
    """The same tensor in both files."""

    base: Tensor
    target: Tensor


def pair_up(base: Sequence[Tensor], target: Sequence[Tensor]) -> list[Pair]:
    """Pair tensors by name, then those that are left by type and shape in the order of the graphs.

    Only tensors of one type and as many bytes are pairs. Ranges that overlap (tensors that share values) count once.
    """
    named = {one.name: one for one in base}
    pairs, left = [], []
    for one in target:
        other = named.get(one.name)
        if other is not None and _alike(one, other):
            pairs.append(Pair(named.pop(one.name), one))
        else:
            left.append(one)
    for one in left:
        found = next(
            (other for other in named.values() if other.kind == one.kind and _alike(one, other)), None
        )
        if found is not None:
            pairs.append(Pair(named.pop(found.name), one))
    found_pairs, end = [], 0
    for pair in sorted(pairs, key=lambda one: one.target.offset):
        if pair.target.offset >= end:
            found_pairs.append(pair)
            end = pair.target.offset + pair.target.length
    return found_pairs


def plan(base: Bytes, target: Bytes, pairs: Sequence[Pair]) -> list[Operation]:
    """Return the operations that make `target` of `base`, in order.

    Args:
        base: The file that devices have.
        target: The file they are to have.
        pairs: Of `pair_up`, whose ranges lie in these two files; none of them for files that are no ONNX.
    """
    found: list[Operation] = []
    index = _index(base, pairs)
    done = 0
    for pair in pairs:
        _add_rest(found, base, target, done, pair.target.offset, index)
        for start in range(0, pair.target.length, PIECE_BYTES):
            length = min(PIECE_BYTES, pair.target.length - start)
            at, old = pair.target.offset + start, pair.base.offset + start
            _append(found, _best(base, target, at, old, length, pair.target.width))
        done = pair.target.offset + pair.target.length
    _add_rest(found, base, target, done, len(target), index)
    return found


def estimate(base: Bytes, target: Bytes, operations: Sequence[Operation]) -> int:
    """Return about how many bytes the data of operations takes, from samples and a fast codec: mostly too many."""
    total, start = 0, 0
    for one in operations:
        if one.kind != DELTA_COPY:
            total += _cost(one, base, target, start)
        start += one.length
    return total


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.kind[0] == other.kind[0] and one.length == other.length


def _best(base: Bytes, target: Bytes, at: int, old: int, length: int, width: int) -> Operation:
    """Return the cheapest operation that makes a piece of a tensor of the same piece of its former self."""
    if target[at : at + length] == base[old : old + length]:
        return Operation(DELTA_COPY, 1, old, length)
    ways = [
        Operation(kind, elements, old if kind == DELTA_ADD else 0, length)
        for kind in (DELTA_ADD, DELTA_REPLACE)
        for elements in sorted({1, width})
    ]
    return min(ways, key=lambda one: _cost(one, base, target, at))


def _cost(operation: Operation, base: Bytes, target: Bytes, at: int) -> int:
    sample = min(operation.length, SAMPLE_BYTES)
    part = Operation(operation.kind, operation.width, operation.offset, sample)
    coded = len(zlib.compress(data_of(part, base, target, at), 1))
    return coded * operation.length // max(sample, 1)


def _append(found: list[Operation], one: Operation) -> None:
    """Add an operation, as part of the one before where it goes on there."""
    if found:
        last = found[-1]
        follows = one.kind == DELTA_REPLACE or last.offset + last.length == one.offset
        fits = one.kind == DELTA_COPY or last.length + one.length <= PIECE_BYTES
        if (last.kind, last.width) == (one.kind, one.width) and follows and fits:
            found[-1] = Operation(last.kind, last.width, last.offset, last.length + one.length)
            return
    found.append(one)


def _add_rest(
    found: list[Operation], base: Bytes, target: Bytes, start: int, end: int, index: dict[bytes, int]
) -> None:
    """Add operations for bytes that are no paired tensor: runs that the base has too, and the rest as it is."""
    while start < end:
        last = found[-1] if found else None
        # Most often the base goes on just as the target does.
        old = last.offset + last.length if last is not None and last.kind != DELTA_REPLACE else 0
        same = _common(base, target, old, start, end - start)
        if same >= min(RUN_BYTES, end - start):
            _append(found, Operation(DELTA_COPY, 1, old, same))
            start += same
            continue
        at, old = _next_run(target, start, end, index)
        while start < at:
            length = min(PIECE_BYTES, at - start)
            _append(found, Operation(DELTA_REPLACE, 1, 0, length))
            start += length
        if start < end:
            same = _common(base, target, old, start, end - start)
            _append(found, Operation(DELTA_COPY, 1, old, same))
            start += same


def _index(base: Bytes, pairs: Sequence[Pair]) -> dict[bytes, int]:
    """Return run of bytes → where the base has it, outside of paired tensors (their own place is known)."""
    spans, done = [], 0
    for one in sorted((pair.base for pair in pairs), key=lambda tensor: tensor.offset):
        spans.append((done, one.offset))
        done = max(done, one.offset + one.length)
    spans.append((done, len(base)))
    found: dict[bytes, int] = {}
    if sum(max(0, end - start) for start, end in spans) > MAX_MATCHED_BYTES:
        return found
    for start, end in spans:
        for at in range(start, end - RUN_BYTES + 1, RUN_BYTES):
            found.setdefault(bytes(base[at : at + RUN_BYTES]), at)
    return found


def _next_run(target: Bytes, start: int, end: int, index: dict[bytes, int]) -> tuple[int, int]:
    """Return where the target has the next run of the base, and where the base has it; the end and 0 without one."""
    if not index or end - start > MAX_MATCHED_BYTES:
        return end, 0
    part = bytes(target[start:end])
    for at in range(len(part) - RUN_BYTES + 1):
        old = index.get(part[at : at + RUN_BYTES])
        if old is not None:
            return start + at, old
    return end, 0


def _common(base: Bytes, target: Bytes, old: int, new: int, limit: int) -> int:
    """Return how many bytes are the same in both from there on."""
    limit = min(limit, len(base) - old, len(target) - new)
    done = 0
    for size in _growing():
        count = min(size, limit - done)
        if count <= 0:
            break
        one, other = base[old + done : old + done + count], target[new + done : new + done + count]
        if one != other:
            differs = np.frombuffer(one, np.uint8) != np.frombuffer(other, np.uint8)
            return done + int(differs.argmax())
        done += count
    return done


def _growing() -> Iterator[int]:
    size = 64
    while True:
        yield size
        size = min(size * 4, 1 << 20)
