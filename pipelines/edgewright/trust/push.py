"""TUF metadata as OCI artifacts: every file a tiny manifest under a tag of its own, `timestamp.json` last.

>>> push_metadata(registry, {"1.root.json": b"…", "timestamp.json": b"…"})     # doctest: +SKIP
('1.root.json', 'timestamp.json')

A device that polls asks for one manifest, `timestamp.json`; all it can then be led to is already there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

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


def push_metadata(
    registry: Registry, files: Mapping[str, bytes], *, recover: bool = False
) -> tuple[str, ...]:
    """Push files in the given order; what is there already is left alone.

    Args:
        registry: The metadata repository.
        files: Relative name → bytes, `timestamp.json` last.
        recover: Write over what somebody else published under our names. Never a root: its keys are offline.

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
        if there is not None and name != TIMESTAMP and not (recover and not name.endswith(".root.json")):
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
    there = read_file(registry, TIMESTAMP)
    if there is None:
        return
    address = registry.address(TIMESTAMP)
    if current is None:
        raise TrustError(
            f"{address} holds metadata, but there is none here; starting again at version 1 would make every "
            "device refuse all updates",
            hint="restore the folder that fleet.yaml names in trust.metadata; it is meant to be kept",
        )
    theirs = _parse(there, address).signed.version
    ours = current.timestamp.version
    if theirs > ours or (theirs == ours and there != current.bodies["timestamp"]):
        raise TrustError(
            f"{address} is at version {theirs} and this folder at {ours}, and they do not match: somebody "
            "released from another copy",
            hint="fetch the newest trust.metadata folder (git pull) and release again; if nobody of you did, a key"
            " was stolen: docs/guides/fleet-operator.md says how to recover",
        )


def require_recoverable(registry: Registry, following: Current) -> None:
    """Refuse a recovery that devices would not follow, or that would hide a stolen root.

    Devices forget the versions they have seen of timestamp and snapshot only when root gives the role other keys
    (TUF 5.3.11), so what stands in the registry must not be signed by keys that our root still names.

    Raises:
        TrustError: the registry's metadata is signed by such keys, or its chain of roots is longer than ours.
        NetworkError: the registry cannot be reached.
    """
    root = following.root
    beyond = f"{root.version + 1}.root.json"
    if registry.get_manifest(tuf_tag(beyond)) is not None:
        raise TrustError(
            f"{registry.address(beyond)} is beyond the root of this folder (version {root.version})",
            hint="fetch the newest trust.metadata folder; if nobody of you made it, root's keys were stolen, and"
            " devices need a new 1.root.json",
        )
    there = read_file(registry, TIMESTAMP)
    if there is None or there == following.bodies["timestamp"]:
        return
    timestamp = _parse(there, registry.address(TIMESTAMP))
    _require_forgotten("timestamp", timestamp, following)
    meta = getattr(timestamp.signed, "snapshot_meta", None)
    name = f"{meta.version}.snapshot.json" if meta is not None else ""
    body = read_file(registry, name) if name else None
    if body is not None:
        _require_forgotten("snapshot", _parse(body, registry.address(name)), following)


def _require_forgotten(role: str, metadata: Metadata[Any], following: Current) -> None:
    """Refuse when devices that believed `metadata` would find our next one older than it."""
    signed = metadata.signed
    listed = {name: file.version for name, file in getattr(signed, "meta", {}).items()}
    ours = {f"{name}.json": version for name, version in following.versions.items()}
    newer = signed.version > following.versions[role] or any(
        version > ours.get(name, 0) for name, version in listed.items()
    )
    if newer and following.root.get_verification_result(role, metadata.signed_bytes, metadata.signatures):
        raise TrustError(
            f"the registry's {role} (version {signed.version}) is ahead of ours and signed by keys that root still"
            " names: devices that saw it would refuse ours",
            hint=f"edgewright trust rotate {role}, and then this again",
        )


def _parse(body: bytes, address: str) -> Metadata[Any]:
    try:
        return Metadata.from_bytes(body)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with foreign bytes, the answer is the same
        raise TrustError(f"{address} holds something that is not TUF metadata") from error


def read_file(registry: Registry, name: str) -> bytes | None:
    """Return the bytes of a published metadata file, unverified; None when there is none.

    Raises:
        TrustError: the tag holds something else.
        NetworkError: the registry cannot be reached.
    """
    manifest = registry.get_manifest(tuf_tag(name))
    if manifest is None:
        return None
    try:
        digest = str(json.loads(manifest)["layers"][0]["digest"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise TrustError(f"{registry.address(name)} holds something that is not TUF metadata") from error
    return registry.get_blob(digest, limit=MAX_TUF_BYTES)
