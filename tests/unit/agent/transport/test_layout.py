"""A directory prepared by a stranger: nothing outside it is read, nothing in it is followed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright_agent.contract import (
    ANNOTATION_REF_NAME,
    MAX_LISTED_REFERRERS,
    OCI_INDEX,
    OCI_MANIFEST,
    fallback_tag,
)
from edgewright_agent.errors import TransportError
from edgewright_agent.transport import Source, open_source
from unit.agent.transport.conftest import WEIGHTS, Release
from unit.agent.transport.shelf import descriptor
from unit.agent.transport.test_sources import refuses


@pytest.fixture
def source(release: Release) -> Source:
    return open_source(f"oci:{release.shelf.root}")


def test_the_etag_is_the_digest(source: Source, release: Release) -> None:
    manifest = source.manifest("digit-reader", "1.0.0")
    assert manifest is not None
    assert manifest.etag == release.digest


def test_a_blob_that_is_a_link_is_not_followed(source: Source, release: Release, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(WEIGHTS)
    path = release.shelf.blob_path("digit-reader", release.weights)
    path.unlink()
    path.symlink_to(secret)
    refuses("bad-response", lambda: list(source.blob("digit-reader", release.weights, size=len(WEIGHTS))))


@pytest.mark.parametrize("place", ["digit-reader", "digit-reader/blobs", "digit-reader/blobs/sha256"])
def test_a_folder_that_is_a_link_is_not_followed(
    source: Source, release: Release, tmp_path: Path, place: str
) -> None:
    folder = release.shelf.root / place
    folder.rename(tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside")
    refuses("bad-response", lambda: source.manifest("digit-reader", release.digest))


def test_an_index_that_is_a_link_is_not_followed(source: Source, release: Release, tmp_path: Path) -> None:
    index = release.shelf.root / "digit-reader" / "index.json"
    index.rename(tmp_path / "index.json")
    index.symlink_to(tmp_path / "index.json")
    refuses("bad-response", lambda: source.manifest("digit-reader", "1.0.0"))


def test_the_directory_itself_may_be_a_link_of_the_operator(release: Release, tmp_path: Path) -> None:
    (tmp_path / "usb").symlink_to(release.shelf.root)
    assert open_source(f"oci:{tmp_path / 'usb'}").manifest("digit-reader", "1.0.0") is not None


def test_a_pipe_does_not_make_the_device_wait(source: Source, release: Release) -> None:
    path = release.shelf.blob_path("digit-reader", release.weights)
    path.unlink()
    os.mkfifo(path)
    refuses("bad-response", lambda: list(source.blob("digit-reader", release.weights, size=10)))


def test_a_folder_is_no_blob(source: Source, release: Release) -> None:
    path = release.shelf.blob_path("digit-reader", release.weights)
    path.unlink()
    path.mkdir()
    refuses("bad-response", lambda: list(source.blob("digit-reader", release.weights, size=10)))


def test_a_directory_that_is_gone_is_not_found(tmp_path: Path) -> None:
    refuses("not-found", lambda: open_source(f"oci:{tmp_path / 'gone'}").manifest("tuf", "timestamp.json"))


def test_a_changed_manifest_is_a_mismatch(source: Source, release: Release) -> None:
    path = release.shelf.blob_path("digit-reader", release.digest)
    path.write_bytes(path.read_bytes().replace(b"schemaVersion", b"schemaversion"))
    refuses("digest-mismatch", lambda: source.manifest("digit-reader", "1.0.0"))
    refuses("digest-mismatch", lambda: source.manifest("digit-reader", release.digest))


def test_a_tag_given_to_two_manifests_means_neither(source: Source, release: Release) -> None:
    index = release.shelf.index("digit-reader")
    twin = descriptor(OCI_MANIFEST, b"{}", annotations={ANNOTATION_REF_NAME: "1.0.0"})
    release.shelf.write_index("digit-reader", {**index, "manifests": [*index["manifests"], twin]})
    refuses("bad-response", lambda: source.manifest("digit-reader", "1.0.0"))


def test_an_index_above_its_limit_is_not_parsed(source: Source, release: Release) -> None:
    path = release.shelf.root / "digit-reader" / "index.json"
    path.write_bytes(path.read_bytes() + b" " * (4 * 1024 * 1024))
    refuses("too-large", lambda: source.manifest("digit-reader", "1.0.0"))


def test_a_manifest_without_media_type_is_known_by_its_shape(source: Source, release: Release) -> None:
    for document, expected in (({"layers": []}, OCI_MANIFEST), ({"manifests": []}, OCI_INDEX)):
        digest = release.shelf.blob("digit-reader", json.dumps(document).encode())
        manifest = source.manifest("digit-reader", digest)
        assert manifest is not None
        assert manifest.media_type == expected


def test_without_a_fallback_tag_manifests_are_searched_up_to_a_bound(
    source: Source, release: Release
) -> None:
    shelf = release.shelf
    index = shelf.index("digit-reader")
    tag = fallback_tag(release.digest)
    index["manifests"] = [e for e in index["manifests"] if tag not in e.get("annotations", {}).values()]
    shelf.write_index("digit-reader", index)
    assert [entry["digest"] for entry in source.referrers("digit-reader", release.digest)] == [
        release.referrer
    ]
    for number in range(MAX_LISTED_REFERRERS + 5):
        shelf.refer("digit-reader", release.digest, b"%d" % number)
    assert len(source.referrers("digit-reader", release.digest)) == MAX_LISTED_REFERRERS


def test_one_unreadable_manifest_does_not_end_the_search(source: Source, release: Release) -> None:
    shelf = release.shelf
    index = shelf.index("digit-reader")
    tag = fallback_tag(release.digest)
    good = [e for e in index["manifests"] if tag not in e.get("annotations", {}).values()]
    index["manifests"] = [descriptor(OCI_MANIFEST, b"gone"), *good]
    shelf.write_index("digit-reader", index)
    assert [entry["digest"] for entry in source.referrers("digit-reader", release.digest)] == [
        release.referrer
    ]


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_index_ends_in_a_documented_error(source: Source, release: Release, data: st.DataObject) -> None:
    path = release.shelf.root / "digit-reader" / "index.json"
    good = path.read_bytes()
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 60)))
    noise = data.draw(st.binary(max_size=20) | st.sampled_from([b"null", b"[]", b"{}", b"1", b'"x"']))
    path.write_bytes(good[:start] + noise + good[end:])
    try:
        source.manifest("digit-reader", "1.0.0")
        source.referrers("digit-reader", release.digest)
    except TransportError:
        pass
    finally:
        path.write_bytes(good)
