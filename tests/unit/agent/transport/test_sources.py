"""What every source does alike, whether it is a real registry, a directory or a bundle file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.contract import OCI_EMPTY_BYTES, OCI_MANIFEST, digest_of
from edgewright_agent.errors import ConfigError, TransportError
from edgewright_agent.transport import Source, open_source
from unit.agent.transport.conftest import WEIGHTS, Release

NOBODY = "sha256:" + "0" * 64


def refuses(code: str, call: Callable[[], Any]) -> str:
    with pytest.raises(TransportError) as caught:
        call()
    assert caught.value.code == code, caught.value
    return str(caught.value)


def test_a_manifest_is_found_by_tag_and_by_digest(source: Source, release: Release) -> None:
    for reference in ("1.0.0", release.digest):
        manifest = source.manifest("digit-reader", reference)
        assert manifest is not None
        assert (manifest.digest, manifest.media_type) == (release.digest, OCI_MANIFEST)
        assert digest_of(manifest.body) == release.digest


def test_a_tag_that_did_not_move_answers_nothing(source: Source) -> None:
    manifest = source.manifest("digit-reader", "1.0.0")
    assert manifest is not None
    assert source.manifest("digit-reader", "1.0.0", etag=manifest.etag) is None


def test_the_etag_of_another_state_answers_with_the_manifest(source: Source) -> None:
    for etag in (f'"{NOBODY}"', NOBODY, "", "not an etag\r\nX: y"):
        assert source.manifest("digit-reader", "1.0.0", etag=etag) is not None


@pytest.mark.parametrize("offset", [0, 1, 255_999, 256 * 1024, 300_001, len(WEIGHTS) - 1, len(WEIGHTS)])
def test_a_blob_is_read_from_any_offset(source: Source, release: Release, offset: int) -> None:
    chunks = source.blob("digit-reader", release.weights, size=len(WEIGHTS), offset=offset)
    assert b"".join(chunks) == WEIGHTS[offset:]


def test_two_blobs_can_be_read_at_the_same_time(source: Source, release: Release) -> None:
    first = source.blob("digit-reader", release.weights, size=len(WEIGHTS))
    head = next(first)
    empty = b"".join(source.blob("digit-reader", digest_of(OCI_EMPTY_BYTES), size=2))
    assert empty == OCI_EMPTY_BYTES
    assert head + b"".join(first) == WEIGHTS


def test_a_blob_that_is_not_read_to_its_end_does_no_harm(source: Source, release: Release) -> None:
    for _ in range(3):
        chunks = source.blob("digit-reader", release.weights, size=len(WEIGHTS))
        next(chunks)
        del chunks
    assert source.manifest("digit-reader", "1.0.0") is not None


def test_referrers_are_found(source: Source, release: Release) -> None:
    assert [entry["digest"] for entry in source.referrers("digit-reader", release.digest)] == [
        release.referrer
    ]


def test_nothing_refers_to_what_nobody_signed(source: Source, release: Release) -> None:
    assert source.referrers("digit-reader", release.referrer) == []


def test_what_is_not_there_is_not_found(source: Source) -> None:
    refuses("not-found", lambda: source.manifest("digit-reader", "2.0.0"))
    refuses("not-found", lambda: source.manifest("digit-reader", NOBODY))
    refuses("not-found", lambda: source.manifest("other-model", "1.0.0"))
    refuses("not-found", lambda: list(source.blob("digit-reader", NOBODY, size=10)))


def test_a_blob_that_is_shorter_than_announced_is_truncated(source: Source, release: Release) -> None:
    size = len(WEIGHTS) + 10
    refuses("truncated", lambda: list(source.blob("digit-reader", release.weights, size=size)))
    refuses(
        "truncated", lambda: list(source.blob("digit-reader", release.weights, size=size, offset=size - 5))
    )


def test_a_manifest_above_its_limit_is_not_read(source: Source, release: Release) -> None:
    size = len(release.shelf.body("digit-reader", release.digest))
    assert source.manifest("digit-reader", "1.0.0", limit=size) is not None
    refuses("too-large", lambda: source.manifest("digit-reader", "1.0.0", limit=size - 1))


@pytest.mark.parametrize(
    "name",
    ["", "..", "../etc", "/etc", "a/../b", "a//b", "A", "a b", "a\0", "a?x", "a%2e%2e", "é", "a" * 300],
)
def test_names_no_repository_can_have_are_refused_before_they_are_used(source: Source, name: str) -> None:
    refuses("not-found", lambda: source.manifest(name, "1.0.0"))
    refuses("not-found", lambda: list(source.blob(name, NOBODY, size=1)))
    refuses("not-found", lambda: source.referrers(name, NOBODY))


@pytest.mark.parametrize(
    "reference", ["", "..", "../x", ".x", "a/b", "a b", "sha256:12", "x" * 129, "é", "a?n=1"]
)
def test_references_that_are_neither_tag_nor_digest_are_refused(source: Source, reference: str) -> None:
    refuses("not-found", lambda: source.manifest("digit-reader", reference))


def test_a_closed_source_lets_go(source: Source) -> None:
    source.manifest("digit-reader", "1.0.0")
    source.close()


# --- opening -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "registry.example/acme",
        "ftp://registry.example",
        "oci:",
        "bundle:",
        "https://",
        "https:///acme",
        "http://host:99999",
        "http://host/acme?x=1",
        "http://host/Acme",
        "http://host/../x",
        "http://ho st/",
        "http://user:secret@host/acme",
    ],
)
def test_a_source_that_makes_no_sense_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_source(url)
    assert caught.value.code == "bad-source"


def test_half_a_login_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError):
        open_source("https://registry.example", username="edge")


def test_a_ca_file_that_is_none_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for path in ("absent.pem", "empty.pem"):
        with pytest.raises(ConfigError) as caught:
            open_source("https://registry.example", ca_file=str(tmp_path / path))
        assert caught.value.code == "bad-ca-file"


def test_opening_reads_nothing(tmp_path: Path) -> None:
    open_source("https://registry.invalid/acme")
    open_source(f"oci:{tmp_path / 'not there'}")


@pytest.mark.parametrize(
    ("url", "not_loaded"),
    [
        ("", {"http.client", "ssl", "tarfile"}),
        ("oci:/nowhere", {"http.client", "ssl", "tarfile"}),
        ("http://127.0.0.1:9", {"urllib.request", "tarfile", "cryptography", "tuf"}),
    ],
)
def test_a_device_loads_only_what_its_source_needs(url: str, not_loaded: set[str]) -> None:
    program = (
        "import json, sys\n"
        "from edgewright_agent.transport import open_source\n"
        f"{url!r} and open_source({url!r})\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not not_loaded & set(json.loads(ran.stdout))
