"""OCI documents as pure functions: descriptors, manifests and indexes, serialized to one byte string.

Equal inputs give equal bytes and therefore equal digests; nothing here knows a time, a host or a path.

>>> descriptor("text/plain", b"hi")["digest"][:15]
'sha256:8f434346'
>>> manifest(artifact_type="application/x", config=EMPTY_CONFIG, layers=[])[:19]
b'{"artifactType":"ap'
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewright_agent.contract import (
    ANNOTATION_CLASS,
    OCI_EMPTY,
    OCI_EMPTY_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    canonical_json,
    digest_of,
)

Descriptor = dict[str, Any]
"""An OCI content descriptor (image-spec 1.1, descriptor.md): at least mediaType, digest and size in bytes."""

_READ_BYTES = 1 << 20


def descriptor(
    media_type: str,
    content: bytes | Path,
    *,
    annotations: Mapping[str, str] | None = None,
    artifact_type: str | None = None,
) -> Descriptor:
    """Describe `content`; a path is hashed in pieces, never held in memory."""
    if isinstance(content, Path):
        digest, size = hash_file(content)
    else:
        digest, size = digest_of(content), len(content)
    document: Descriptor = {"mediaType": media_type, "digest": digest, "size": size}
    if artifact_type is not None:
        document["artifactType"] = artifact_type
    if annotations:
        document["annotations"] = dict(annotations)
    return document


EMPTY_CONFIG: Descriptor = descriptor(OCI_EMPTY, OCI_EMPTY_BYTES)
"""The config of an artifact that needs none (image-spec 1.1, Guidance for an Empty Descriptor)."""


def hash_file(path: Path) -> tuple[str, int]:
    """Return (digest, size in bytes) of a file."""
    hasher = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            hasher.update(piece)
            size += len(piece)
    return "sha256:" + hasher.hexdigest(), size


def manifest(
    *,
    artifact_type: str,
    config: Descriptor,
    layers: Sequence[Descriptor],
    subject: Descriptor | None = None,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of an OCI image manifest used as an artifact (image-spec 1.1, manifest.md)."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": config,
        "layers": list(layers),
    }
    if subject is not None:
        document["subject"] = subject
    if annotations:
        document["annotations"] = dict(annotations)
    return canonical_json(document)


def index(manifests: Sequence[Descriptor], *, annotations: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of an OCI image index (image-spec 1.1, image-index.md)."""
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(manifests)}
    if annotations:
        document["annotations"] = dict(annotations)
    return canonical_json(document)


def manifest_descriptor(body: bytes) -> Descriptor:
    """Describe a manifest or index from its own bytes: media type and artifact type are what it says."""
    document = json.loads(body)
    media_type = document.get("mediaType", OCI_MANIFEST)
    artifact_type = document.get("artifactType") if media_type == OCI_MANIFEST else None
    return descriptor(media_type, body, artifact_type=artifact_type)


def platform(architecture: str) -> dict[str, str]:
    """Return the OCI platform of a hardware class's `cpu.arch` (OCI calls 32-bit ARM `arm`, variant `v7`)."""
    if architecture == "armv7":
        return {"os": "linux", "architecture": "arm", "variant": "v7"}
    return {"os": "linux", "architecture": architecture}


def lane_descriptor(body: bytes, hardware_class: str, architecture: str | None) -> Descriptor:
    """Describe one lane's manifest for the index of a model version."""
    document = manifest_descriptor(body) | {"annotations": {ANNOTATION_CLASS: hardware_class}}
    if architecture is not None:
        document["platform"] = platform(architecture)
    return document
