"""TUF metadata as OCI artifacts: every file a tiny manifest under a tag of its own, `timestamp.json` last.

>>> push_metadata(registry, {"1.root.json": b"…", "timestamp.json": b"…"})     # doctest: +SKIP
('1.root.json', 'timestamp.json')

A device that polls asks for one manifest, `timestamp.json`; all it can then be led to is already there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tuf.api.metadata import Metadata, Root

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
    is_digest,
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
        recover: Write over what somebody else published under our names. Never a root that devices believe, nor the
            first: its keys are offline.

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
        ours = name == TIMESTAMP or (recover and not _believed(registry, name, files))
        if there is not None and not ours:
            raise TrustError(
                f"{registry.address(tag)} holds other content: this is not the registry of this fleet",
                hint="publish to an empty prefix, or restore the metadata folder that wrote it; if a run was cut off"
                " and its folder lost, or a thief wrote it: edgewright trust refresh --recover",
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
    if _follows(_found(registry, beyond), root):
        raise TrustError(
            f"{registry.address(beyond)} is beyond the root of this folder (version {root.version})",
            hint="fetch the newest trust.metadata folder; if nobody of you made it, root's keys were stolen, and"
            " devices need a new 1.root.json",
        )
    timestamp = _found(registry, TIMESTAMP)
    if timestamp is None or timestamp.signed_bytes == following.metadata["timestamp"].signed_bytes:
        return
    _require_forgotten("timestamp", timestamp, following)
    meta = getattr(timestamp.signed, "snapshot_meta", None)
    snapshot = _found(registry, f"{meta.version}.snapshot.json") if meta is not None else None
    if snapshot is not None:
        _require_forgotten("snapshot", snapshot, following)


def stray_root(registry: Registry, current: Current) -> str | None:
    """Return what to do about a file under the name of our next root, which stops every device that asks for it.

    Raises:
        NetworkError: the registry cannot be reached.
    """
    beyond = f"{current.root.version + 1}.root.json"
    if registry.get_manifest(tuf_tag(beyond)) is None:
        return None
    return (
        f"{registry.address(beyond)} is none of ours, and devices that read it follow nothing: delete that tag, or"
        " write over it: edgewright trust renew root, and then refresh --recover"
    )


def _believed(registry: Registry, name: str, files: Mapping[str, bytes]) -> bool:
    """Whether a file of the registry is another root than ours that devices follow from the one before it."""
    number, _, role = name.partition(".")
    if role != "root.json":
        return False
    there = _found(registry, name)
    if there is not None and there.signed_bytes == Metadata.from_bytes(files[name]).signed_bytes:
        return False  # ours, with signatures nobody asked for
    before = files.get(f"{int(number) - 1}.root.json")
    return before is None or _follows(there, Metadata[Root].from_bytes(before).signed)


def _follows(metadata: Metadata[Any] | None, root: Root) -> bool:
    """Whether devices at `root` take this metadata for the next root (TUF 5.3.4, 5.3.5)."""
    if (
        metadata is None
        or not isinstance(metadata.signed, Root)
        or metadata.signed.version != root.version + 1
    ):
        return False
    return all(
        one.get_verification_result("root", metadata.signed_bytes, metadata.signatures)
        for one in (root, metadata.signed)
    )


def _found(registry: Registry, name: str) -> Metadata[Any] | None:
    """Return a published file; None when there is none, or something that no device can have believed."""
    try:
        body = read_file(registry, name)
        return _parse(body, registry.address(name)) if body is not None else None
    except TrustError:
        return None


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
        raise _rubbish(address) from error


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
        layer = json.loads(manifest)["layers"][0]
        digest, size = layer["digest"], layer["size"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise _rubbish(registry.address(name)) from error
    if not is_digest(digest) or type(size) is not int or size > MAX_TUF_BYTES:
        raise _rubbish(registry.address(name))
    return registry.get_blob(digest, limit=MAX_TUF_BYTES)


def _rubbish(address: str) -> TrustError:
    return TrustError(
        f"{address} holds something that is not TUF metadata",
        hint="find out who else may write there, and then: edgewright trust refresh --recover",
    )
