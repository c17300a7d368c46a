"""Compressed layers on a device: nothing an archive says of itself is believed, nothing costs more than was signed."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright_agent import unpack as unpacking
from edgewright_agent.artifact import Layer, parse
from edgewright_agent.contract import digest_of
from edgewright_agent.download import fetch
from edgewright_agent.errors import AgentError, StorageError, TransportError, TrustError
from edgewright_agent.files import Calls, Disk, Free
from edgewright_agent.store import Store
from unit.agent.core.workbench import DyingCalls, PowerCut, Shelf, make_artifact

DATA = bytes(range(256)) * 4000


def tarred(data: bytes, name: str = "model.onnx", kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo(name)
        entry.size, entry.type = len(data), kind
        archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def packed(blob: bytes, *, size: int = len(DATA), digest: str = digest_of(DATA)) -> Layer:
    return Layer("model.onnx", digest_of(blob), len(blob), (digest, size))


GOOD = gzip.compress(tarred(DATA), mtime=0)


def download(
    folder: Path, blob: bytes, layer: Layer | None = None, disk: Disk | None = None, reserve: int = 0
) -> Shelf:
    layer = layer or packed(blob)
    shelf = Shelf(blobs={layer.digest: blob})
    fetch(shelf, "digit-reader", layer, folder, disk or Disk(), reserve_bytes=reserve)
    return shelf


def refused(folder: Path, blob: bytes, **changes: Any) -> str:
    with pytest.raises(TrustError) as error:
        download(folder, blob, packed(blob, **changes))
    assert error.value.code == "bad-manifest"
    assert list(folder.iterdir()) == [], "nothing is left of it"
    return str(error.value)


def test_a_compressed_layer_becomes_its_file_and_nothing_else(tmp_path: Path) -> None:
    download(tmp_path, GOOD)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("model.onnx", DATA)]


@pytest.mark.parametrize("size", [8192, 8193, 8704, 8705, 9000, 9216, 9217, 10240])
def test_an_archive_may_be_filled_up_to_a_whole_record_whatever_the_files_size(
    tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    blob = gzip.compress(tarred(data), mtime=0)
    download(tmp_path, blob, packed(blob, size=size, digest=digest_of(data)))
    assert (tmp_path / "model.onnx").read_bytes() == data


def test_a_file_that_is_there_already_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(DATA)
    assert download(tmp_path, GOOD).blob_requests() == []


def test_the_compressed_blob_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "model.onnx.part").write_bytes(GOOD[:500])
    shelf = download(tmp_path, GOOD)
    assert shelf.bytes_received == len(GOOD) - 500
    assert (tmp_path / "model.onnx").read_bytes() == DATA


def test_a_power_cut_while_unpacking_costs_no_second_download(tmp_path: Path) -> None:
    (tmp_path / "model.onnx.part").write_bytes(GOOD)
    (tmp_path / "model.onnx.unpacked.part").write_bytes(b"half of " * 10)
    assert download(tmp_path, GOOD).blob_requests() == []
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("model.onnx", DATA)]


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (b"plain bytes, not compressed", "is no gzip stream"),
        (GOOD[:-20], "has no end"),
        (GOOD + b"tail", "goes on after its end"),
        (GOOD + GOOD, "goes on after its end"),
        (gzip.compress(DATA), "tar header"),
        (gzip.compress(b"short"), "ends after 0"),
        (gzip.compress(tarred(DATA, "../../etc/passwd")), "holds b'../../etc/passwd'"),
        (gzip.compress(tarred(DATA, kind=tarfile.SYMTYPE)), "holds b'model.onnx'"),
        (gzip.compress(tarred(DATA)[:-10240] + tarred(b"second", "second")), "holds more than the one file"),
        (gzip.compress(tarred(DATA) + bytes(10**6)), "holds more than the one file"),
        (gzip.compress(tarred(DATA[:-1] + b"?")), "other bytes than were signed"),
        (gzip.compress(tarred(DATA)[:5000]), "ends after 4488 of"),
    ],
    ids=[
        "plain", "cut", "tail", "twice", "no-tar", "short", "traversal", "link", "second-file", "padding",
        "other-bytes", "cut-inside",
    ],
)  # fmt: skip
def test_an_archive_that_is_not_what_was_signed_is_refused(tmp_path: Path, blob: bytes, says: str) -> None:
    assert says in refused(tmp_path, blob)


def test_a_bomb_ends_at_the_size_that_was_signed(tmp_path: Path) -> None:
    written = 0

    class Watching(Calls):
        def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
            nonlocal written
            written = max(written, offset + len(data)) if path.name.endswith("unpacked.part") else written
            super().write(path, fd, data, offset)

    bomb = gzip.compress(tarred(bytes(20_000_000)))
    with pytest.raises(TrustError):  # says it holds 20 MB, signed are 1 kB
        download(tmp_path, bomb, packed(bomb, size=1000), Disk(Watching()))
    assert written == 0
    lying = bytearray(tarred(bytes(20_000_000)))
    lying[124:136] = b"00000001750\0"  # 1000 in octal
    bomb = gzip.compress(bytes(lying))
    with pytest.raises(TrustError, match="holds more than the one file"):
        download(tmp_path, bomb, packed(bomb, size=1000), Disk(Watching()))
    assert written <= 1000


def test_memory_is_bounded_however_well_it_was_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = 0
    real: Callable[..., Any] = unpacking._inflated

    def watched(part: Path, layer: Layer) -> Any:
        nonlocal largest
        for chunk in real(part, layer):
            largest = max(largest, len(chunk))
            yield chunk

    monkeypatch.setattr(unpacking, "_inflated", watched)
    zeros = bytes(20_000_000)
    blob = gzip.compress(tarred(zeros))
    download(tmp_path, blob, packed(blob, size=len(zeros), digest=digest_of(zeros)))
    assert largest <= unpacking.READ_BYTES


@settings(deadline=None, max_examples=60)
@given(data=st.binary(min_size=1, max_size=3000), at=st.integers(0, 5000), put=st.integers(0, 255))
def test_one_changed_byte_is_never_installed(data: bytes, at: int, put: int) -> None:
    import tempfile

    good = gzip.compress(tarred(data), mtime=0)
    at %= len(good)
    spoilt = good[:at] + bytes([put]) + good[at + 1 :]
    # The blob's own digest is right: this is what a publisher's mistake would look like.
    layer = packed(spoilt, size=len(data), digest=digest_of(data))
    with tempfile.TemporaryDirectory() as name:
        try:
            download(Path(name), spoilt, layer)
        except TrustError:
            assert list(Path(name).iterdir()) == []
        else:
            assert (Path(name) / "model.onnx").read_bytes() == data


def test_a_disk_that_fills_up_while_unpacking_gives_its_space_back(tmp_path: Path) -> None:
    class Shrinking(Calls):
        def free(self, path: Path) -> Free:
            return Free(10, None)

    zeros = bytes(9 * 2**20)
    blob = gzip.compress(tarred(zeros))
    layer = packed(blob, size=len(zeros), digest=digest_of(zeros))
    with pytest.raises(StorageError, match="reserve"):
        download(tmp_path, blob, layer, Disk(Shrinking()), reserve=11)
    assert list(tmp_path.iterdir()) == []


def compressed(document: dict[str, Any], **notes: str) -> None:
    layer = document["layers"][0]
    layer["mediaType"] = "application/vnd.cncf.model.weight.v1.tar+gzip"
    layer["annotations"] = {
        "org.opencontainers.image.title": "model.onnx.tar.gz",
        "org.cncf.model.filepath": "model.onnx",
        "dev.edgewright.file-digest": digest_of(DATA),
        "dev.edgewright.file-size": str(len(DATA)),
        **notes,
    }


def test_a_manifest_tells_blob_and_file_apart() -> None:
    layer = parse(make_artifact("1.0.0", edit=compressed).body).layers[0]
    assert (layer.file, layer.file_digest, layer.file_size) == ("model.onnx", digest_of(DATA), len(DATA))
    assert layer.digest != layer.file_digest


@pytest.mark.parametrize(
    ("note", "value"),
    [
        ("dev.edgewright.file-digest", "sha256:ab"),
        ("dev.edgewright.file-size", "0"),
        ("dev.edgewright.file-size", "-5"),
        ("dev.edgewright.file-size", "1e9"),
        ("dev.edgewright.file-size", "99999999999"),
        ("org.cncf.model.filepath", "../model.onnx"),
        ("org.cncf.model.filepath", "manifest.json"),
    ],
)
def test_a_manifest_that_does_not_say_what_is_in_a_layer_is_refused(note: str, value: str) -> None:
    with pytest.raises(TrustError) as error:
        parse(make_artifact("1.0.0", edit=lambda document: compressed(document, **{note: value})).body)
    assert error.value.code == "bad-manifest"


def test_a_compression_this_agent_does_not_know_is_refused_before_a_byte_is_fetched() -> None:
    def zstd(document: dict[str, Any]) -> None:
        document["layers"][0]["mediaType"] = "application/vnd.cncf.model.weight.v1.tar+zstd"

    with pytest.raises(TrustError, match=r"tar\+zstd, which this agent does not unpack"):
        parse(make_artifact("1.0.0", edit=zstd).body)


def test_room_is_made_for_the_archive_and_its_file(tmp_path: Path) -> None:
    artifact = parse(make_artifact("1.0.0", edit=compressed).body)
    plain = parse(make_artifact("1.0.0").body)

    def needed(store: Store, of: Any) -> int:
        return int((store.shortage(of, reserve_bytes=2**62) or "needs 0").split()[1])

    store = Store(tmp_path, Disk())
    more = needed(store, artifact) - needed(store, plain)
    assert len(DATA) <= more <= len(DATA) + 1000


def test_what_an_interrupted_unpacking_left_is_not_asked_for_again(tmp_path: Path) -> None:
    """A device whose disk just holds the update must not be stranded by a power cut in the middle of unpacking."""
    artifact = parse(make_artifact("1.0.0", edit=compressed).body)
    layer = artifact.layers[0]

    class Small(Calls):
        """A disk of a fixed size, of which the files in the store take a part."""

        capacity = 0

        def free(self, path: Path) -> Free:
            return Free(
                self.capacity - sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()), None
            )

    disk = Small()
    store = Store(tmp_path, Disk(disk))
    disk.capacity = int((store.shortage(artifact, reserve_bytes=0) or "needs 0").split()[1])
    assert store.shortage(artifact, reserve_bytes=0) is None
    staging = store.stage(artifact)
    (staging / "model.onnx.part").write_bytes(bytes(layer.size))
    (staging / "model.onnx.unpacked.part").write_bytes(DATA[:-1])
    assert store.shortage(artifact, reserve_bytes=0) is None


def test_an_unreachable_source_leaves_the_part(tmp_path: Path) -> None:
    layer = packed(GOOD)
    shelf = Shelf(blobs={layer.digest: GOOD}, down=True)
    (tmp_path / "model.onnx.part").write_bytes(GOOD[:100])
    with pytest.raises(TransportError):
        fetch(shelf, "digit-reader", layer, tmp_path, Disk(), reserve_bytes=0)
    assert (tmp_path / "model.onnx.part").read_bytes() == GOOD[:100]
    assert issubclass(TransportError, AgentError)


def test_power_may_go_at_any_operation(tmp_path: Path) -> None:
    small = bytes(range(200))
    blob = gzip.compress(tarred(small), mtime=0)
    layer = packed(blob, size=len(small), digest=digest_of(small))
    counting = DyingCalls()
    download(tmp_path, blob, layer, Disk(counting))
    assert counting.count > 5
    for turn in range(1, counting.count + 1):
        folder = tmp_path / str(turn)
        folder.mkdir()
        with pytest.raises(PowerCut):
            download(folder, blob, layer, Disk(DyingCalls(turn)))
        download(folder, blob, layer)
        assert (folder / "model.onnx").read_bytes() == small
