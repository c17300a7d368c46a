"""TUF metadata as OCI artifacts: every file a tiny manifest under a tag of its own, `timestamp.json` last.

>>> push_metadata(registry, {"1.root.json": b"…", "timestamp.json": b"…"})     # doctest: +SKIP
('1.root.json', 'timestamp.json')

A device that polls asks for one manifest, `timestamp.json`; all it can then be led to is already there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from tuf.api.metadata import Metadata

from edgewright.errors import TrustError
from edgewright.publish import oci
from edgewright.publish.push import put_verified
from edgewright.publish.registry import Registry
from edgewright.trust.repository import Current
from edgewright_agent.contract import (
    ANNOTATION_TITLE,
    MAX_TUF_BYTES,
    OCI_EMPTY_BYTES,
    OCI_MANIFEST,
    TUF_METADATA,
    tuf_tag,
)

TIMESTAMP = "timestamp.json"


def metadata_manifest(name: str, body: bytes) -> bytes:
    """Return the manifest that carries one metadata (or target) file."""
    layer = oci.descriptor("application/json", body, annotations={ANNOTATION_TITLE: name.rpartition("/")[2]})
    return oci.manifest(artifact_type=TUF_METADATA, config=oci.EMPTY_CONFIG, layers=[layer])


def push_metadata(registry: Registry, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Push files in the given order; what is there already is left alone.

    Args:
        registry: The metadata repository.
        files: Relative name → bytes, `timestamp.json` last.

    Returns:
        Tags that were written.

    Raises:
        TrustError: a file that never changes is there with other bytes: somebody else's metadata.
        NetworkError: the registry cannot be reached or refuses.
        EnvironmentFault: a layout cannot be written.
    """
    written = []
    for name, body in files.items():
        manifest = metadata_manifest(name, body)
        tag = tuf_tag(name)
        there = registry.get_manifest(tag)
        if there == manifest:
            continue
        if there is not None and name != TIMESTAMP:
            raise TrustError(
                f"{registry.address(tag)} holds other content: this is not the registry of this fleet",
                hint="publish to an empty prefix, or restore the metadata folder that wrote it",
            )
        registry.put_blob(oci.EMPTY_CONFIG["digest"], OCI_EMPTY_BYTES)
        registry.put_blob(json.loads(manifest)["layers"][0]["digest"], body)
        put_verified(registry, tag, manifest, OCI_MANIFEST)
        written.append(tag)
    return tuple(written)


def require_ours(registry: Registry, current: Current | None) -> None:
    """Refuse to publish over metadata that this folder does not know.

    Raises:
        TrustError: the registry is ahead of this folder, or has taken another turn.
        NetworkError: the registry cannot be reached, or holds no metadata under the tag.
    """
    there = read_timestamp(registry)
    if there is None:
        return
    address = registry.address(TIMESTAMP)
    if current is None:
        raise TrustError(
            f"{address} holds metadata, but there is none here; starting again at version 1 would make every "
            "device refuse all updates",
            hint="restore the folder that fleet.yaml names in trust.metadata; it is meant to be kept",
        )
    try:
        theirs = Metadata.from_bytes(there).signed.version
    except Exception as error:  # noqa: BLE001 - whatever is wrong with foreign bytes, the answer is the same
        raise TrustError(f"{address} holds something that is not TUF metadata") from error
    ours = current.timestamp.signed.version
    if theirs > ours or (theirs == ours and there != current.bodies["timestamp"]):
        raise TrustError(
            f"{address} is at version {theirs} and this folder at {ours}, and they do not match: somebody "
            "released from another copy",
            hint="fetch the newest trust.metadata folder (git pull) and release again",
        )


def read_timestamp(registry: Registry) -> bytes | None:
    """Return the bytes of the published `timestamp.json`, unverified; None when there is none.

    Raises:
        TrustError: the tag holds something else.
        NetworkError: the registry cannot be reached.
    """
    manifest = registry.get_manifest(TIMESTAMP)
    if manifest is None:
        return None
    try:
        digest = str(json.loads(manifest)["layers"][0]["digest"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise TrustError(f"{registry.address(TIMESTAMP)} holds something that is not TUF metadata") from error
    return registry.get_blob(digest, limit=MAX_TUF_BYTES)
