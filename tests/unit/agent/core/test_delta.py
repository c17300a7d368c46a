"""Delta files from strangers: bounded before they are believed, and never more than was signed."""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import struct
import tracemalloc
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgewright.publish.delta_file import Operation, write_delta
from edgewright_agent.artifact import Layer
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
    DELTA_XZ,
    DELTA_ZLIB,
    MAX_DELTA_BLOCK_OPERATIONS,
    digest_of,
)
from edgewright_agent.delta import apply, read_header
from edgewright_agent.errors import AgentError, StorageError, TrustError
from edgewright_agent.files import Calls, Disk, Free

BASE = bytes(range(256)) * 40
TARGET = BASE[:5000] + b"new" * 100 + BASE[5000:]

Op = tuple[int, int, int]


def header(base: bytes = BASE, target: bytes = TARGET, size: int | None = None) -> bytes:
    digests = hashlib.sha256(base).digest(), hashlib.sha256(target).digest()
    return struct.pack(
        DELTA_HEADER, DELTA_MAGIC, digests[0], len(base), digests[1], len(target) if size is None else size
    )


def block(
    operations: Sequence[Op],
    data: bytes = b"",
    *,
    codec: int = DELTA_STORED,
    raw: int | None = None,
    count: int | None = None,
    table: bytes | None = None,
) -> bytes:
    """A block; keywords say something else than is there."""
    packed = b"".join(struct.pack(DELTA_OPERATION, *one) for one in operations)
    table = zlib.compress(packed) if table is None else table
    needs = sum(length for kind, _offset, length in operations if kind & 15 != DELTA_COPY)
    head = (
        codec,
        len(operations) if count is None else count,
        len(table),
        needs if raw is None else raw,
        len(data),
    )
    return struct.pack(DELTA_BLOCK, *head) + table + data


def xz(data: bytes) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": DELTA_DICTIONARY_BYTES}]
    return lzma.compress(data, filters=filters)


GOOD = block([(DELTA_COPY, 0, 5000), (DELTA_REPLACE, 0, 300), (DELTA_COPY, 5000, 5240)], b"new" * 100)


def carry_out(data: bytes, folder: Path, *, base: bytes = BASE, target: bytes = TARGET) -> bytes:
    (folder / "delta").write_bytes(data)
    (folder / "base").write_bytes(base)
    layer = Layer("model.onnx", digest_of(target), len(target))
    apply(folder / "delta", folder / "base", layer, folder / "whole", Disk(), reserve_bytes=0)
    return (folder / "whole").read_bytes()


def refused(data: bytes, folder: Path, *, base: bytes = BASE) -> AgentError:
    with pytest.raises((TrustError, StorageError)) as failed:
        carry_out(data, folder, base=base)
    assert not (folder / "whole").exists(), "nothing is left of it"
    return failed.value


def test_copies_and_data_make_the_target(tmp_path: Path) -> None:
    assert carry_out(header() + GOOD, tmp_path) == TARGET


@pytest.mark.parametrize(
    ("codec", "packed"),
    [
        (DELTA_STORED, b"new" * 100),
        (DELTA_ZLIB, zlib.compress(b"new" * 100)),
        (DELTA_BZ2, bz2.compress(b"new" * 100)),
        (DELTA_XZ, xz(b"new" * 100)),
    ],
)
def test_every_codec_is_read(codec: int, packed: bytes, tmp_path: Path) -> None:
    operations = [(DELTA_COPY, 0, 5000), (DELTA_REPLACE, 0, 300), (DELTA_COPY, 5000, 5240)]
    assert carry_out(header() + block(operations, packed, codec=codec), tmp_path) == TARGET


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        (b"EWDELTA2" + header()[8:] + GOOD, "does not understand"),
        (header()[:50], "ends too early"),
        (header(), "ends too early"),
        (header(target=BASE) + GOOD, "another file"),
        (header(size=len(TARGET) - 1) + GOOD, "another file"),
        (header() + GOOD[:-1], "middle of a block"),
        (header() + GOOD + b"x", "goes on after its end"),
        (header() + block([(DELTA_COPY, 0, len(BASE) + 1)]), "behind"),
        (header() + block([(DELTA_COPY, len(BASE), 1)]), "behind"),
        (header() + block([(DELTA_COPY, 2**64 - 1, 2)]), "behind"),
        (header() + block([(DELTA_ADD, len(BASE) - 1, 2)], b"ab"), "behind"),
        (header() + block([(DELTA_COPY, 0, 0)]), "or nothing"),
        (header() + block([(DELTA_REPLACE, 0, 2**60)], b"x"), "makes more"),
        (header() + block([(DELTA_COPY, 0, 9000)] * 2), "makes more"),
        (header() + block([(3, 0, 10)], b"x" * 10), "unknown kind"),
        (header() + block([(DELTA_REPLACE | 0xF0, 0, 10)], b"x" * 10), "unknown kind"),
        (header() + block([], count=0), "0 operations"),
        (header() + block([(DELTA_COPY, 0, 1)] * (MAX_DELTA_BLOCK_OPERATIONS + 1)), "4097 operations"),
        (header() + block([(DELTA_COPY, 0, 10)], count=2), "not as many operations"),
        (header() + block([(DELTA_COPY, 0, 10)], table=b"rubbish"), "cannot be unpacked"),
        (header() + block([(DELTA_COPY, 0, 10)], table=zlib.compress(bytes(10**7))), "more room"),
        (header() + block([(DELTA_COPY, 0, 10)], table=zlib.compress(bytes(10**5))), "not as many"),
        (header() + block([(DELTA_REPLACE, 0, 10)], b"x" * 10, raw=11), "operations that need 10"),
        (header() + block([(DELTA_REPLACE, 0, 10)], b"x" * 9), "stores 10 bytes in 9"),
        (header() + block([(DELTA_REPLACE, 0, 10)], b"x" * 10, codec=9), "unknown codec"),
    ],
)  # fmt: skip
def test_a_malformed_delta_is_refused_with_the_reason(spoilt: bytes, why: str, tmp_path: Path) -> None:
    error = refused(spoilt, tmp_path)
    assert error.code == "bad-delta" and why in str(error)


@pytest.mark.parametrize("codec", [DELTA_ZLIB, DELTA_BZ2, DELTA_XZ])
@pytest.mark.parametrize("case", ["more", "less", "behind", "broken off", "rubbish"])
def test_a_stream_gives_exactly_what_its_block_declares(codec: int, case: str, tmp_path: Path) -> None:
    pack = {DELTA_ZLIB: zlib.compress, DELTA_BZ2: bz2.compress, DELTA_XZ: xz}[codec]
    data = {
        "more": pack(b"x" * 11),
        "less": pack(b"x" * 9),
        "behind": pack(b"x" * 10) + b"rest",
        "broken off": pack(os.urandom(500))[:40],
        "rubbish": b"rubbish, not a stream of any kind",
    }[case]
    needs = 500 if case == "broken off" else 10
    assert (
        refused(header() + block([(DELTA_REPLACE, 0, needs)], data, codec=codec), tmp_path).code
        == "bad-delta"
    )


@pytest.mark.parametrize("codec", [DELTA_ZLIB, DELTA_BZ2, DELTA_XZ])
def test_a_decompression_bomb_costs_neither_memory_nor_disk(codec: int, tmp_path: Path) -> None:
    pack = {DELTA_ZLIB: zlib.compress, DELTA_BZ2: bz2.compress, DELTA_XZ: xz}[codec]
    bomb = header() + block([(DELTA_REPLACE, 0, 5000)], pack(bytes(60_000_000)), codec=codec)
    tracemalloc.start()
    try:
        assert refused(bomb, tmp_path).code == "bad-delta"
        assert tracemalloc.get_traced_memory()[1] < DELTA_DICTIONARY_BYTES + 2**20
    finally:
        tracemalloc.stop()


def test_an_xz_stream_that_wants_a_huge_dictionary_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 64 * 2**20}]
    data = lzma.compress(bytes(5000), filters=filters)
    error = refused(header() + block([(DELTA_REPLACE, 0, 5000)], data, codec=DELTA_XZ), tmp_path)
    assert error.code == "bad-delta" and "emory" in str(error)


def test_a_delta_that_makes_other_bytes_leaves_nothing(tmp_path: Path) -> None:
    operations = [(DELTA_COPY, 0, 5000), (DELTA_REPLACE, 0, 300), (DELTA_COPY, 5000, 5240)]
    error = refused(header() + block(operations, b"bad" * 100), tmp_path)
    assert "other bytes than were signed" in str(error)


@pytest.mark.parametrize("base", [BASE[:-1], BASE + b"x", b""])
def test_a_base_of_another_size_is_damaged(base: bytes, tmp_path: Path) -> None:
    assert refused(header() + GOOD, tmp_path, base=base).code == "damaged"


def test_a_base_with_a_flipped_bit_makes_nothing(tmp_path: Path) -> None:
    refused(header() + GOOD, tmp_path, base=b"\x01" + BASE[1:])


def test_the_header_says_what_leads_where(tmp_path: Path) -> None:
    (tmp_path / "delta").write_bytes(header() + GOOD)
    found = read_header(tmp_path / "delta")
    assert (found.base_digest, found.base_size) == (digest_of(BASE), len(BASE))
    assert (found.target_digest, found.target_size) == (digest_of(TARGET), len(TARGET))


def test_a_large_delta_is_carried_out_in_bounded_memory(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    base = dice.bytes(24 * 2**20)
    target = (np.frombuffer(base, np.uint8) + np.arange(len(base), dtype=np.uint8) % 2).tobytes()
    pieces = [Operation(DELTA_ADD, 4, start, 8 * 2**20) for start in range(0, len(base), 8 * 2**20)]
    write_delta(tmp_path / "made", base, target, pieces)
    data = (tmp_path / "made").read_bytes()
    tracemalloc.start()
    try:
        (tmp_path / "base").write_bytes(base)
        layer = Layer("model.onnx", digest_of(target), len(target))
        (tmp_path / "delta").write_bytes(data)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        apply(tmp_path / "delta", tmp_path / "base", layer, tmp_path / "whole", Disk(), reserve_bytes=0)
        assert tracemalloc.get_traced_memory()[1] - before < DELTA_DICTIONARY_BYTES + 4 * 2**20
    finally:
        tracemalloc.stop()


def test_a_reserve_is_kept_while_a_file_is_made(tmp_path: Path) -> None:
    class Full(Calls):
        def free(self, path: Path) -> Free:
            return Free(10, None)

    base = os.urandom(10 * 2**20)
    write_delta(tmp_path / "delta", base, base, [Operation(DELTA_COPY, 1, 0, len(base))])
    (tmp_path / "base").write_bytes(base)
    layer = Layer("model.onnx", digest_of(base), len(base))
    with pytest.raises(StorageError) as failed:
        apply(
            tmp_path / "delta", tmp_path / "base", layer, tmp_path / "whole", Disk(Full()), reserve_bytes=99
        )
    assert failed.value.code == "no-space"
    assert not (tmp_path / "whole").exists()
