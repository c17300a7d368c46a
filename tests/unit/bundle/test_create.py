"""A bundle file brings whatever devices would find in the registry, whoever else writes there."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from edgewright.bundle.create import create
from edgewright.errors import BuildError, EnvironmentFault, NetworkError
from edgewright.publish import oci
from edgewright.publish.layout_registry import LayoutRegistry
from edgewright.publish.referrer import list_referrer, listed
from edgewright_agent.contract import (
    ANNOTATION_BUNDLE_PREDICATE,
    MAX_BUNDLE_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_REFERRERS,
    OCI_EMPTY_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    PREDICATE_BOM,
    PREDICATE_GATE_REPORT,
    PREDICATE_PROVENANCE,
    PREDICATE_SIGN,
    SIGSTORE_BUNDLE,
    canonical_json,
    digest_of,
    fallback_tag,
)
from edgewright_agent.errors import TransportError
from edgewright_agent.transport import Source
from edgewright_agent.transport.bundle import open_bundle
from edgewright_agent.transport.layout import open_layout
from edgewright_agent.trust.referrers import bundles_of
from unit.trust.fleet import SmallFleet

MODEL, PI = "digit-reader", "raspberry-pi-4"
SCAN = "application/vnd.acme.scan+json"
DEMANDED = (PREDICATE_SIGN, PREDICATE_GATE_REPORT)


class Shelf:
    """A fleet of one artifact, and whoever attaches something to it."""

    def __init__(self, root: Path) -> None:
        self.fleet = SmallFleet(root, classes=(PI,))
        self.digest = self.fleet.publish(MODEL, PI, "1.0.0", b"weights" * 999)
        self.fleet.release()
        self.folder = root / "registry" / MODEL
        self.registry = LayoutRegistry(self.folder, f"oci:registry/{MODEL}")
        self.out = root / "stick.tar"

    @property
    def subject(self) -> dict[str, Any]:
        """Descriptor of the artifact."""
        body = self.registry.get_manifest(self.digest)
        assert body is not None
        return oci.descriptor(OCI_MANIFEST, body)

    def attach(self, bundle: bytes, predicate: str | None = None, kind: str = SIGSTORE_BUNDLE) -> str:
        """Attach something as any tool does; return the digest of its manifest."""
        self.registry.put_blob(str(oci.EMPTY_CONFIG["digest"]), OCI_EMPTY_BYTES)
        self.registry.put_blob(digest_of(bundle), bundle)
        body = oci.manifest(
            artifact_type=kind,
            config=oci.EMPTY_CONFIG,
            layers=[oci.descriptor(kind, bundle)],
            subject=self.subject,
            annotations={ANNOTATION_BUNDLE_PREDICATE: predicate} if predicate else None,
        )
        self.registry.put_manifest(digest_of(body), body, OCI_MANIFEST)
        list_referrer(self.registry, self.digest, body)
        return digest_of(body)

    def attach_document(self, document: Any) -> str:
        """Attach a manifest that no client of ours would push."""
        body = document if isinstance(document, bytes) else canonical_json(document)
        self.registry.put_blob(digest_of(body), body)
        index = json.loads((self.folder / "index.json").read_bytes())
        index["manifests"].append({"mediaType": OCI_MANIFEST, "digest": digest_of(body), "size": len(body)})
        (self.folder / "index.json").write_bytes(canonical_json(index))
        self.enter({"mediaType": OCI_MANIFEST, "digest": digest_of(body), "size": len(body)})
        return digest_of(body)

    def enter(self, entry: dict[str, Any]) -> None:
        """Put an entry before all others of the list of referrers, there or not."""
        body = oci.index([entry, *listed(self.registry, self.digest)])
        (self.folder / "blobs/sha256" / digest_of(body).removeprefix("sha256:")).write_bytes(body)
        index = json.loads((self.folder / "index.json").read_bytes())
        tag = fallback_tag(self.digest)
        kept = [one for one in index["manifests"] if tag not in one.get("annotations", {}).values()]
        noted = {"annotations": {"org.opencontainers.image.ref.name": tag}}
        index["manifests"] = [*kept, oci.descriptor(OCI_INDEX, body) | noted]
        (self.folder / "index.json").write_bytes(canonical_json(index))

    def write(self) -> None:
        """Write the bundle file."""
        create(self.fleet.workspace, groups=["all"], out=self.out)

    def found(self, source: Source, *wanted: str) -> list[str]:
        """Referrers whose bundle a device reads."""
        return [
            digest
            for digest, got in bundles_of(source, MODEL, self.digest, wanted=wanted or DEMANDED)
            if not isinstance(got, TransportError)
        ]

    def in_registry(self, *wanted: str) -> list[str]:
        """The same, in the registry."""
        return self.found(open_layout(str(self.folder.parent)), *wanted)

    def in_bundle(self, *wanted: str) -> list[str]:
        """The same, in the bundle file."""
        return self.found(open_bundle(str(self.out)), *wanted)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "fleet")


# --- what comes along -----------------------------------------------------------------------------------------------


def test_signatures_come_along_however_many_strangers_are_listed_before_them(shelf: Shelf) -> None:
    ours = [shelf.attach(name.encode(), name) for name in DEMANDED]
    for number in range(MAX_REFERRERS):
        shelf.attach(b"nightly scan %d" % number, kind=SCAN)
    shelf.write()
    assert set(ours) <= set(shelf.in_registry())
    assert shelf.in_bundle() == shelf.in_registry()


def test_attestations_that_no_policy_demands_take_the_place_of_none_that_it_does(shelf: Shelf) -> None:
    ours = [shelf.attach(name.encode(), name) for name in DEMANDED]
    for number in range(MAX_REFERRERS):
        shelf.attach(b"nightly bill of materials %d" % number, PREDICATE_BOM)
    shelf.write()
    assert set(ours) <= set(shelf.in_bundle())


def test_what_a_policy_demands_of_the_class_comes_before_what_says_nothing(shelf: Shelf) -> None:
    shelf.fleet.more = {
        "policy": {
            "signers": ({"name": "release", "publicKey": shelf.fleet.workspace.fleet.signing.public_key},),
            "demands": ({"attestation": "provenance", "classes": (PI,)},),
        }
    }
    shelf.fleet.release()
    ours = [shelf.attach(name.encode(), name) for name in (*DEMANDED, PREDICATE_PROVENANCE)]
    for number in range(MAX_REFERRERS):
        shelf.attach(b"a bundle that says nothing of itself %d" % number)
    shelf.write()
    assert set(ours) <= set(shelf.in_bundle(*DEMANDED, PREDICATE_PROVENANCE))


def test_what_is_no_bundle_takes_no_place(shelf: Shelf) -> None:
    foreign = [shelf.attach(b"no bundle %d" % n, PREDICATE_SIGN, kind=SCAN) for n in range(40)]
    ours = shelf.attach(b"{}", PREDICATE_SIGN)
    for entry in reversed([one for one in listed(shelf.registry, shelf.digest) if one["digest"] in foreign]):
        shelf.enter(entry)
    shelf.write()
    assert shelf.in_bundle() == [ours]


def test_a_layer_is_never_in_memory_as_a_whole(shelf: Shelf) -> None:
    megabytes = 24
    shelf.fleet.more = {"registry": {"url": shelf.fleet.url, "deltas": False}}
    shelf.fleet.publish(MODEL, PI, "2.0.0", bytes(megabytes << 20))
    shelf.fleet.release()
    tracemalloc.start()
    try:
        shelf.write()
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert shelf.out.stat().st_size > megabytes << 20
    assert peak_bytes < 8 << 20


def test_nothing_but_the_file_is_left_where_it_is_written(shelf: Shelf) -> None:
    shelf.out = shelf.out.parent / "sticks" / "one.tar"
    shelf.write()
    assert [path.name for path in shelf.out.parent.iterdir()] == ["one.tar"]


def test_nothing_is_left_where_a_layer_is_damaged(shelf: Shelf) -> None:
    layer = shelf.folder / "blobs/sha256" / digest_of(b"weights" * 999).removeprefix("sha256:")
    layer.write_bytes(b"damaged" * 999)
    shelf.out = shelf.out.parent / "sticks" / "one.tar"
    with pytest.raises(EnvironmentFault, match="damaged"):
        shelf.write()
    assert list(shelf.out.parent.iterdir()) == []


def test_the_same_release_gives_the_same_bytes(shelf: Shelf) -> None:
    shelf.attach(b"signature", PREDICATE_SIGN)
    shelf.write()
    once = shelf.out.read_bytes()
    shelf.write()
    assert shelf.out.read_bytes() == once


# --- what is passed over --------------------------------------------------------------------------------------------


def odd(shelf: Shelf) -> dict[str, Any]:
    """Manifests that somebody may attach and no device reads, by what is wrong with them."""
    good = oci.descriptor(SIGSTORE_BUNDLE, b"{}")
    shelf.registry.put_blob(digest_of(b"{}"), b"{}")
    shelf.registry.put_blob(digest_of(b"a" * 500), b"a" * 500)
    plain = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "subject": shelf.subject}
    return {
        "no layers": plain,
        "blobs": plain | {"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": []},
        "an index": plain | {"mediaType": OCI_INDEX, "manifests": []},
        "two layers": plain | {"layers": [good, good]},
        "a layer that is none": plain | {"layers": [7]},
        "a layer without a digest": plain | {"layers": [{"mediaType": SIGSTORE_BUNDLE, "size": 2}]},
        "a layer without a size": plain | {"layers": [good | {"size": "2"}]},
        "a layer that is gone": plain | {"layers": [oci.descriptor(SIGSTORE_BUNDLE, b"gone")]},
        "a layer that is longer": plain
        | {"layers": [oci.descriptor(SIGSTORE_BUNDLE, b"a" * 500) | {"size": 2}]},
        "a layer that is shorter": plain | {"layers": [good | {"size": 3}]},
        "a layer that is too long": plain | {"layers": [good | {"size": MAX_BUNDLE_BYTES + 1}]},
        "another subject": plain | {"layers": [good], "subject": good},
        "no subject": {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [good]},
        "a list": [],
        "no JSON": b"{",
        "far too deep": b"[" * 200_000,
        "too long": plain | {"layers": [good], "annotations": {"a": "a" * MAX_MANIFEST_BYTES}},
    }


def test_what_no_device_reads_is_passed_over(shelf: Shelf) -> None:
    ours = shelf.attach(b"signature", PREDICATE_SIGN)
    for document in odd(shelf).values():
        shelf.attach_document(document)
    shelf.attach(b"x" * (MAX_BUNDLE_BYTES + 1), kind="application/spdx+json")
    shelf.enter({"mediaType": OCI_MANIFEST, "digest": digest_of(b"not there"), "size": 9})
    shelf.enter({"mediaType": OCI_MANIFEST, "digest": "../../etc/passwd", "size": 9})
    shelf.write()
    assert shelf.in_bundle() == [ours]


@pytest.mark.parametrize("config", [None, 7, {"digest": digest_of(b"gone"), "size": 4}, {"size": 10**12}])
def test_a_signature_without_a_config_is_one_to_devices(shelf: Shelf, config: Any) -> None:
    bundle = oci.descriptor(SIGSTORE_BUNDLE, b"signature")
    shelf.registry.put_blob(digest_of(b"signature"), b"signature")
    ours = shelf.attach_document({"layers": [bundle], "subject": shelf.subject, "config": config})
    shelf.write()
    assert shelf.in_bundle() == shelf.in_registry() == [ours]


def test_a_stranger_s_words_cannot_make_the_lists_ones_that_devices_refuse(shelf: Shelf) -> None:
    ours = shelf.attach(b"signature", PREDICATE_SIGN)
    shelf.registry.put_blob(digest_of(b"{}"), b"{}")
    layers = canonical_json([oci.descriptor(SIGSTORE_BUNDLE, b"{}")]).decode()
    subject = canonical_json(shelf.subject).decode()
    for number in range(20):
        note = f'"annotations": {{"{number}": "{"a" * 200_000}"}}, "artifactType": "{"a" * 40_000}"'
        shelf.attach_document(f'{{"layers": {layers}, "subject": {subject}, {note}}}'.encode())
    half = f'{{"layers": {layers}, "subject": {subject}, "artifactType": "\\ud800"}}'
    shelf.attach_document(half.encode())
    shelf.write()
    assert ours in shelf.in_bundle()
    listed_here = open_bundle(str(shelf.out)).manifest(MODEL, fallback_tag(shelf.digest))
    assert listed_here is not None and len(listed_here.body) < 16 * 1024


def test_a_registry_that_goes_away_ends_it_and_leaves_no_signature_out(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = shelf.attach(b"signature", PREDICATE_SIGN)
    there = LayoutRegistry.get_manifest

    def away(registry: LayoutRegistry, reference: str) -> bytes | None:
        if reference == ours:
            raise NetworkError("registry.example: connection reset")
        return there(registry, reference)

    monkeypatch.setattr(LayoutRegistry, "get_manifest", away)
    with pytest.raises(NetworkError, match="connection reset"):
        shelf.write()
    assert not shelf.out.exists()


def test_an_artifact_that_is_gone_is_an_error(shelf: Shelf) -> None:
    (shelf.folder / "blobs/sha256" / digest_of(b"weights" * 999).removeprefix("sha256:")).unlink()
    with pytest.raises(BuildError, match="is not in the registry"):
        shelf.write()
    assert not shelf.out.exists()


def test_of_any_mixture_a_bundle_brings_what_the_registry_shows(shelf: Shelf) -> None:
    claims = (PREDICATE_SIGN, None, PREDICATE_BOM, "https://acme.example/scan/v1", PREDICATE_GATE_REPORT)
    for number in range(60):
        kind = SCAN if number % 7 == 3 else SIGSTORE_BUNDLE
        shelf.attach(b"bundle %d" % number, claims[number % len(claims)], kind=kind)
    shelf.write()
    assert set(shelf.in_registry()) < set(shelf.in_bundle())
