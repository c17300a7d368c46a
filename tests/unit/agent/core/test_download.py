"""Downloads: resumed from what is on disk, never longer than declared, never believed before they are hashed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright_agent.artifact import Layer
from edgewright_agent.contract import digest_of
from edgewright_agent.download import MAX_RECONNECTS, fetch
from edgewright_agent.errors import StorageError, TransportError
from edgewright_agent.files import Calls, Disk, Free
from edgewright_agent.metered import Metered, Traffic
from unit.agent.core.workbench import Shelf

DATA = bytes(range(256)) * 400
LAYER = Layer("model.onnx", digest_of(DATA), len(DATA))


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(blobs={LAYER.digest: DATA})


def download(
    shelf: Shelf, folder: Path, *, layer: Layer = LAYER, disk: Disk | None = None, reserve: int = 0
) -> None:
    fetch(shelf, "digit-reader", layer, folder, disk or Disk(), reserve_bytes=reserve)


def offsets(shelf: Shelf) -> list[int]:
    return [int(line.rsplit(" ", 1)[1]) for line in shelf.blob_requests()]


def test_a_whole_download_leaves_exactly_the_file(shelf: Shelf, tmp_path: Path) -> None:
    download(shelf, tmp_path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("model.onnx", DATA)]


def test_a_file_that_is_there_already_is_hashed_and_not_fetched(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(DATA)
    download(shelf, tmp_path)
    assert offsets(shelf) == []


def test_a_dropped_line_is_resumed_where_it_dropped(shelf: Shelf, tmp_path: Path) -> None:
    shelf.cut_after = 50_000
    download(shelf, tmp_path)
    assert offsets(shelf) == [0, 50_000]
    assert shelf.bytes_received == len(DATA)


def test_a_restart_resumes_from_the_durable_offset(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "model.onnx.part").write_bytes(DATA[:70_000])
    download(shelf, tmp_path)
    assert offsets(shelf) == [70_000]
    assert (tmp_path / "model.onnx").read_bytes() == DATA


def test_an_unreachable_source_leaves_the_part_for_the_next_try(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "model.onnx.part").write_bytes(DATA[:70_000])
    shelf.down = True
    with pytest.raises(TransportError) as failed:
        download(shelf, tmp_path)
    assert failed.value.code == "network"
    assert (tmp_path / "model.onnx.part").read_bytes() == DATA[:70_000]


@settings(deadline=None, max_examples=50)
@given(part=st.binary(max_size=300), keep=st.integers(0, 300), data=st.binary(min_size=1, max_size=200))
def test_whatever_a_crash_left_behind_the_result_is_the_signed_bytes(
    part: bytes, keep: int, data: bytes
) -> None:
    import tempfile

    layer = Layer("f", digest_of(data), len(data))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "f.part").write_bytes(data[:keep] + part)
        download(Shelf(blobs={layer.digest: data}), folder, layer=layer)
        assert [(p.name, p.read_bytes()) for p in folder.iterdir()] == [("f", data)]


def test_a_part_damaged_by_a_power_cut_does_not_accuse_the_source(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "model.onnx.part").write_bytes(b"\0" * 70_000)
    download(shelf, tmp_path)
    assert offsets(shelf) == [70_000, 0]
    assert (tmp_path / "model.onnx").read_bytes() == DATA


def test_bad_bytes_are_thrown_away(shelf: Shelf, tmp_path: Path) -> None:
    shelf.blobs[LAYER.digest] = DATA[:-1] + b"?"
    with pytest.raises(TransportError) as failed:
        download(shelf, tmp_path)
    assert failed.value.code == "digest-mismatch"
    assert list(tmp_path.iterdir()) == []


def test_nothing_beyond_the_declared_length_is_written(shelf: Shelf, tmp_path: Path) -> None:
    longest = 0

    class Watching(Calls):
        def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
            nonlocal longest
            longest = max(longest, offset + len(data))
            super().write(path, fd, data, offset)

    short = replace(LAYER, size=40_000)
    with pytest.raises(TransportError) as failed:
        download(shelf, tmp_path, layer=short, disk=Disk(Watching()))
    assert failed.value.code == "too-large"
    assert longest <= 40_000


def test_a_source_that_ends_early_is_truncated(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(TransportError) as failed:
        download(shelf, tmp_path, layer=replace(LAYER, size=len(DATA) + 1))
    assert failed.value.code == "truncated"


def test_a_source_that_drops_the_line_after_every_byte_is_given_up(tmp_path: Path) -> None:
    class Stingy(Shelf):
        def blob(self, repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
            self.asked.append(f"blob {offset}")
            yield DATA[offset : offset + 1]
            raise TransportError("network", "reset")

    stingy = Stingy()
    with pytest.raises(TransportError):
        download(stingy, tmp_path)
    assert len(stingy.asked) == MAX_RECONNECTS + 1


def test_a_disk_that_fills_up_gives_its_space_back(shelf: Shelf, tmp_path: Path) -> None:
    class Full(Calls):
        def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
            if offset > 40_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(path, fd, data, offset)

    with pytest.raises(StorageError) as failed:
        download(shelf, tmp_path, disk=Disk(Full()))
    assert failed.value.code == "no-space"
    assert list(tmp_path.iterdir()) == []


def test_what_a_source_gives_is_counted(shelf: Shelf, tmp_path: Path) -> None:
    traffic = Traffic()
    metered = Metered(shelf, traffic)
    shelf.cut_after = 50_000
    fetch(metered, "digit-reader", LAYER, tmp_path, Disk(), reserve_bytes=0)
    assert traffic.document() == {"requests": 2, "bytes_received": len(DATA)}


def test_the_reserve_is_kept_while_downloading(tmp_path: Path) -> None:
    class Shrinking(Calls):
        def free(self, path: Path) -> Free:
            return Free(10, None)

    big = b"x" * (9 * 2**20)
    layer = Layer("model.onnx", digest_of(big), len(big))
    with pytest.raises(StorageError, match="reserve"):
        download(
            Shelf(blobs={layer.digest: big}, chunk=2**20),
            tmp_path,
            layer=layer,
            disk=Disk(Shrinking()),
            reserve=11,
        )
    assert list(tmp_path.iterdir()) == []
