"""OCI layouts: every file whole or absent, several writers at once, a full disk."""

from __future__ import annotations

import ctypes
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewright.errors import EnvironmentFault
from edgewright.publish import oci
from edgewright.publish.layout_registry import LayoutRegistry
from edgewright.publish.referrer import listed
from edgewright.publish.registry import Registry, open_registry
from edgewright_agent.contract import OCI_EMPTY_BYTES, OCI_MANIFEST, digest_of, fallback_tag
from unit.publish.lane import LaneFiles, run_index

BLOB = b"weights"


@pytest.fixture
def layout(tmp_path: Path) -> LayoutRegistry:
    return LayoutRegistry(tmp_path / "out/digit-reader", "oci:out/digit-reader")


def small_manifest(text: str = "x") -> bytes:
    return oci.manifest(
        artifact_type="application/x", config=oci.EMPTY_CONFIG, layers=[], annotations={"text": text}
    )


def push(layout: Registry, reference: str, body: bytes) -> None:
    layout.put_blob(oci.EMPTY_CONFIG["digest"], OCI_EMPTY_BYTES)
    layout.put_manifest(reference, body, OCI_MANIFEST)


def test_a_manifest_is_found_by_digest_and_by_tag(layout: LayoutRegistry) -> None:
    body = small_manifest()
    push(layout, digest_of(body), body)
    push(layout, "1.0.0", body)
    assert layout.get_manifest("1.0.0") == layout.get_manifest(digest_of(body)) == body
    assert layout.get_manifest("2.0.0") is None


def test_a_tag_moves_and_what_was_pushed_by_digest_stays(layout: LayoutRegistry) -> None:
    old, new = small_manifest("old"), small_manifest("new")
    push(layout, digest_of(old), old)
    for body in (old, new):
        push(layout, "1.0.0", body)
    assert layout.get_manifest("1.0.0") == new
    assert layout.get_manifest(digest_of(old)) == old


def test_a_manifest_whose_blobs_are_not_there_is_refused(layout: LayoutRegistry) -> None:
    body = small_manifest()
    with pytest.raises(EnvironmentFault, match="which is not there"):
        layout.put_manifest("1.0.0", body, OCI_MANIFEST)
    assert layout.get_manifest("1.0.0") is None


def test_a_file_that_changed_since_it_was_hashed_is_not_stored(
    layout: LayoutRegistry, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"edited")
    with pytest.raises(EnvironmentFault, match="no longer hashes"):
        layout.put_blob(digest_of(BLOB), path)
    assert list((layout.folder / "blobs/sha256").iterdir()) == []


def test_a_damaged_blob_is_not_handed_out(layout: LayoutRegistry) -> None:
    layout.put_blob(digest_of(BLOB), BLOB)
    (layout.folder / "blobs/sha256" / digest_of(BLOB)[7:]).write_bytes(b"wEights")
    with pytest.raises(EnvironmentFault, match="damaged"):
        layout.get_blob(digest_of(BLOB), limit=100)


def test_a_blob_is_saved_whole_and_as_it_was_pushed_or_not_at_all(
    layout: LayoutRegistry, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    assert not layout.save_blob(digest_of(BLOB), saved, limit=100)
    layout.put_blob(digest_of(BLOB), BLOB)
    assert layout.save_blob(digest_of(BLOB), saved, limit=100) and saved.read_bytes() == BLOB
    saved.unlink()
    with pytest.raises(EnvironmentFault, match="larger than"):
        layout.save_blob(digest_of(BLOB), saved, limit=len(BLOB) - 1)
    (layout.folder / "blobs/sha256" / digest_of(BLOB)[7:]).write_bytes(b"wEights")
    with pytest.raises(EnvironmentFault, match="damaged"):
        layout.save_blob(digest_of(BLOB), saved, limit=100)
    assert not saved.exists()


def test_the_order_of_pushes_does_not_show(tmp_path: Path) -> None:
    bodies = [small_manifest(str(number)) for number in range(3)]
    indexes = []
    for name, order in (("a", bodies), ("b", bodies[::-1])):
        layout = LayoutRegistry(tmp_path / name, "oci:x")
        for body in order:
            push(layout, digest_of(body), body)
        indexes.append((tmp_path / name / "index.json").read_bytes())
    assert indexes[0] == indexes[1]


WRITER = """
import sys
from pathlib import Path
from edgewright.publish import oci, referrer
from edgewright.publish.registry import open_registry
from edgewright.publish.statement import sign_statement, statement
from edgewright.trust.signing_key import load_signing_key
root, digest, number = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
key = load_signing_key({"privateKey": "file:keys/signing.key", "publicKey": "keys/signing.pub"}, root)
registry = open_registry({"url": "oci:registry"}, root)("digit-reader")
subject = oci.manifest_descriptor(registry.get_manifest(digest))
for step in range(5):
    bundle = sign_statement(statement("x", digest, f"https://example/{number}/{step}", {}), key)
    referrer.attach(registry, subject=subject, bundle=bundle)
"""


def test_several_processes_signing_at_once_lose_no_referrer(tmp_path: Path) -> None:
    lane = LaneFiles(tmp_path)
    lane.all()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), lane.digest, str(number)])
        for number in range(3)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    entries = listed(open_registry(lane.registry, lane.root)(lane.model), lane.digest)
    assert len({entry["digest"] for entry in entries}) == 4 + 3 * 5


def test_what_is_published_looks_like_a_registry(tmp_path: Path) -> None:
    lane = LaneFiles(tmp_path)
    lane.all()
    version = run_index(lane).facts
    index = json.loads((tmp_path / "registry/digit-reader/index.json").read_bytes())
    tags = {
        entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in index["manifests"]
    }
    assert tags == {None, *version["tags"], fallback_tag(lane.digest), fallback_tag(version["digest"])}
    untagged = [entry["digest"] for entry in index["manifests"] if "annotations" not in entry]
    assert {lane.digest, version["digest"]} <= set(untagged)
    assert len(untagged) == 2 + 4 + 1  # the lane, the index, and what is attested of them


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that takes 64 KiB: a file system of that size, or else a limit per file."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    mounted = libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=64k") == 0
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not mounted:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, before[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    if mounted:
        libc.umount2(bytes(folder), 2)  # MNT_DETACH


@pytest.fixture
def large_lane(tmp_path: Path) -> LaneFiles:
    lane = LaneFiles(tmp_path / "fleet", weights=b"w" * 200_000)
    lane.package()
    lane.sign()
    return lane


def test_a_full_disk_leaves_no_half_artifact(large_lane: LaneFiles, tiny_disk: Path) -> None:
    lane = large_lane
    lane.registry = {"url": f"oci:{tiny_disk}/registry"}
    with pytest.raises(EnvironmentFault, match="no space left") as caught:
        lane.publish()
    assert "free some space" in str(caught.value.hint)
    left = [path.name for path in tiny_disk.rglob("*") if path.is_file()]
    assert left == ["oci-layout"]


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "registry").write_text("a file where the folder should be")
    lane = LaneFiles(tmp_path)
    with pytest.raises(EnvironmentFault, match="registry"):
        lane.all()
