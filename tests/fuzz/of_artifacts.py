"""What artifacts are made of and come in: manifests, `runtime.json`, OCI documents, bundle files, compressed
layers, deltas."""

from __future__ import annotations

import bz2
import contextlib
import functools
import hashlib
import io
import json
import lzma
import struct
import tarfile
import zlib
from typing import Any

from edgewright_agent import artifact, delta, delta_manifest, settings, unpack
from edgewright_agent.contract import (
    ANNOTATION_DELTA_BASE,
    ANNOTATION_DELTA_TARGET,
    DELTA_ADD,
    DELTA_ARTIFACT,
    DELTA_BLOCK,
    DELTA_COPY,
    DELTA_HEADER,
    DELTA_LAYER,
    DELTA_MAGIC,
    DELTA_OPERATION,
    DELTA_REPLACE,
    OCI_INDEX,
    OCI_MANIFEST,
    SIGSTORE_BUNDLE,
    digest_of,
)
from edgewright_agent.errors import StorageError, TransportError, TrustError
from edgewright_agent.files import Disk
from edgewright_agent.transport import Manifest, bundle, document
from edgewright_agent.trust.approval import Delta
from fuzz.mutation import EDITS, RAW, document_of, seeds_of
from fuzz.target import DIGEST, scratch, target
from unit.agent.core.workbench import make_artifact


@functools.cache
def _manifests() -> list[Any]:
    plain = json.loads(make_artifact("1.0.0").body)
    packed = json.loads(make_artifact("1.0.1").body)
    packed["layers"][0] |= {"mediaType": "application/vnd.cncf.model.weight.v1.tar+gzip"}
    packed["layers"][0]["annotations"] |= {
        "org.cncf.model.filepath": "model.onnx",
        "dev.edgewright.file-digest": DIGEST,
        "dev.edgewright.file-size": "300000",
    }
    return [plain, packed]


@target("artifact-manifest", "an artifact's manifest", TrustError, seeds=lambda: seeds_of(_manifests()))
def _artifact_manifest(data: bytes) -> object:
    parsed = artifact.parse(document_of(data, _manifests()))
    artifact.check_purpose(parsed, model="digit-reader", hardware_class="raspberry-pi-4")
    return parsed.size, [(layer.file_digest, layer.file_size) for layer in parsed.layers]


@functools.cache
def _runtimes() -> list[Any]:
    return [
        {
            "version": 1,
            "versions": ">=1.20,<2",
            "providers": ["OpenVINOExecutionProvider", "CPUExecutionProvider"],
            "providerOptions": {"OpenVINOExecutionProvider": {"device_type": "CPU"}},
            "threads": 4,
            "arena": False,
            "memoryPattern": True,
            "graphOptimization": "extended",
            "sessionConfig": {"session.intra_op.allow_spinning": "0"},
            "externalData": ["model.onnx.data"],
            "expected": {"loadMs": 9, "memoryBytes": 4194304},
        }
    ]


@target(
    "runtime-json", "an artifact's runtime.json", ValueError, seeds=lambda: seeds_of(_runtimes(), rounds=64)
)
def _runtime(data: bytes) -> object:
    parsed = document.parse_json(document_of(data, _runtimes()), "runtime.json")
    return settings.parse(parsed) if isinstance(parsed, dict) else None


def _descriptor(**more: Any) -> dict[str, Any]:
    return {"mediaType": OCI_MANIFEST, "digest": DIGEST, "size": 700, **more}


@functools.cache
def oci_documents() -> list[Any]:
    layer = _descriptor(mediaType=SIGSTORE_BUNDLE, annotations={"org.opencontainers.image.title": "x"})
    return [
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [_descriptor(), _descriptor(artifactType="x")],
        },
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [layer], "subject": _descriptor()},
    ]


@target(
    "oci-document",
    "referrer lists, indexes and manifests",
    TransportError,
    seeds=lambda: seeds_of(oci_documents()),
)
def _oci_document(data: bytes) -> object:
    body = document_of(data, oci_documents())
    parsed = document.parse_manifest(body, "a manifest")
    document.media_type_of(parsed)
    with contextlib.suppress(TransportError):
        document.only_layer(Manifest(digest_of(body), OCI_MANIFEST, body, None), "a manifest")
    return document.referrer_list(body, "the referrers")


@functools.cache
def _tar() -> bytes:
    held = io.BytesIO()
    manifest = json.dumps(oci_documents()[1]).encode()
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": OCI_MANIFEST,
                "digest": digest_of(manifest),
                "size": len(manifest),
                "annotations": {"org.opencontainers.image.ref.name": "timestamp.json"},
            }
        ],
    }
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in (
            ("./tuf/index.json", json.dumps(index).encode()),
            (f"./tuf/blobs/sha256/{digest_of(manifest)[7:]}", manifest),
            ("./tuf/" + "long" * 40, b"x"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return held.getvalue()


def _tar_seeds() -> list[bytes]:
    whole = _tar()
    gnu = io.BytesIO()
    with tarfile.open(fileobj=gnu, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("./tuf/" + "long" * 60))
        link = tarfile.TarInfo("tuf/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return [whole, whole[:1536], whole[: len(whole) // 2], gnu.getvalue(), b"\x1f\x8b", bytes(1024), b""]


@target("bundle-file", "a bundle file (tar of OCI layouts)", TransportError, seeds=_tar_seeds)
def _bundle_file(data: bytes) -> object:
    path = scratch() / "bundle.tar"
    path.write_bytes(data)
    with contextlib.closing(bundle.open_bundle(str(path))) as source:
        found = source.manifest("tuf", "timestamp.json")
        source.referrers("tuf", DIGEST)
        return found


_CONTENT = bytes(range(256)) * 8
_LAYER = artifact.Layer("model.onnx", DIGEST, 100, (digest_of(_CONTENT), len(_CONTENT)))


@functools.cache
def _archive() -> bytes:
    info = tarfile.TarInfo("model.onnx")
    info.size = len(_CONTENT)
    return info.tobuf(tarfile.USTAR_FORMAT) + _CONTENT + bytes(-len(_CONTENT) % 512 + 1024)


def _gzip(data: bytes) -> bytes:
    stream = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def _layer_seeds() -> list[bytes]:
    archive = _archive()
    return [
        RAW + _gzip(archive),
        EDITS + archive,
        EDITS + archive + bytes(512),
        EDITS + archive[:512],
        RAW + _gzip(archive) * 2,
        RAW + _gzip(bytes(200_000)),
        RAW,
    ]


@target("compressed-layer", "a compressed layer", TrustError, StorageError, seeds=_layer_seeds)
def _compressed_layer(data: bytes) -> object:
    part, whole = scratch() / "layer.part", scratch() / "layer"
    part.write_bytes(_gzip(data[1:]) if data[:1] == EDITS else data[1:])
    try:
        return unpack.unpack(part, whole, _LAYER, _unsynced(), reserve_bytes=0)
    finally:
        size = whole.stat().st_size if whole.exists() else 0
        assert size <= len(_CONTENT), "more was written than was signed"


_BASE = bytes(range(256)) * 6


@functools.cache
def _deltas() -> list[bytes]:
    """Deltas from `_BASE` to `_CONTENT`, one for each codec."""
    ends = (hashlib.sha256(_BASE).digest(), len(_BASE), hashlib.sha256(_CONTENT).digest(), len(_CONTENT))
    header = struct.pack(DELTA_HEADER, DELTA_MAGIC, *ends)
    operations = ((DELTA_COPY, 0, 1024), (DELTA_ADD | 0x20, 0, 500), (DELTA_REPLACE, 0, 524))
    table = zlib.compress(b"".join(struct.pack(DELTA_OPERATION, *one) for one in operations))
    data = bytes(500) + _CONTENT[1524:]
    coded = {0: data, 1: zlib.compress(data), 2: bz2.compress(data), 3: lzma.compress(data, preset=0)}
    return [
        header
        + struct.pack(DELTA_BLOCK, codec, len(operations), len(table), len(data), len(stream))
        + table
        + stream
        for codec, stream in coded.items()
    ]


def _delta_seeds() -> list[bytes]:
    whole = _deltas()
    return [*whole, *(delta[: len(delta) // 2] for delta in whole), whole[0][:100], b""]


@target("delta-file", "the file of a delta layer", TrustError, StorageError, seeds=_delta_seeds)
def _delta_file(data: bytes) -> object:
    part, base, whole = scratch() / "delta", scratch() / "base", scratch() / "made"
    part.write_bytes(data)
    base.write_bytes(_BASE)
    try:
        delta.apply(part, base, _LAYER, whole, _unsynced(), reserve_bytes=0)
        return whole.unlink()
    finally:
        assert not whole.exists(), "what is not the signed file stays nowhere"


@functools.cache
def _delta_manifests() -> list[Any]:
    layer = {
        "mediaType": DELTA_LAYER,
        "digest": DIGEST,
        "size": 700,
        "annotations": {"org.opencontainers.image.title": "model.onnx"},
    }
    ends = {ANNOTATION_DELTA_BASE: DIGEST, ANNOTATION_DELTA_TARGET: _target().digest}
    return [{"schemaVersion": 2, "artifactType": DELTA_ARTIFACT, "layers": [layer], "annotations": ends}]


@functools.cache
def _target() -> artifact.Artifact:
    return artifact.parse(make_artifact("1.0.0").body)


@target("delta-manifest", "a delta's manifest", TrustError, seeds=lambda: seeds_of(_delta_manifests()))
def _delta_manifest(data: bytes) -> object:
    body = document_of(data, _delta_manifests())
    layers = delta_manifest.parse(body, Delta(DIGEST, digest_of(body), len(body), 700), _target())
    assert sum(layer.size for layer in layers.values()) == 700
    return layers


@functools.cache
def _unsynced() -> Disk:
    disk = Disk()
    disk.calls.sync = lambda path, fd: None  # type: ignore[method-assign]  nothing here must last
    return disk
