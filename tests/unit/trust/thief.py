"""Somebody who has stolen online keys and can write to the registry.

>>> thief = Thief(fleet, "timestamp", "snapshot")       # doctest: +SKIP
>>> thief.fast_forward()                                # doctest: +SKIP
"""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile

from edgewright.trust.keys import load_role_signer
from edgewright.trust.push import metadata_manifest
from edgewright.trust.repository import MetadataFolder, file_name
from edgewright_agent.contract import OCI_EMPTY_BYTES, OCI_MANIFEST, TUF_REPOSITORY, digest_of, tuf_tag
from unit.trust.fleet import SmallFleet

FAR = 2**31
"""A version that honest counting never reaches."""


class Thief:
    """Holds copies of keys, taken when it was made."""

    def __init__(self, fleet: SmallFleet, *names: str) -> None:
        self.fleet = fleet
        keys = fleet.root / ".edgewright/keys"
        self.signers: dict[str, CryptoSigner] = {name: load_role_signer(keys, name, None) for name in names}

    def fast_forward(self, *roles: str) -> None:
        """Publish metadata with versions far ahead: of timestamp and snapshot, and of `roles` within it."""
        current = MetadataFolder(self.fleet.metadata).read()
        assert current is not None
        made = {
            role: copy.deepcopy(current.metadata[role].signed) for role in (*roles, "snapshot", "timestamp")
        }
        bodies = {role: self._sign(role, made[role]) for role in roles}
        made["snapshot"].meta.update({f"{role}.json": _meta(body) for role, body in bodies.items()})
        bodies["snapshot"] = self._sign("snapshot", made["snapshot"])
        made["timestamp"].snapshot_meta = _meta(bodies["snapshot"])
        bodies["timestamp"] = self._sign("timestamp", made["timestamp"])
        for role, body in bodies.items():
            self.put(file_name(role, FAR), body)

    def fast_forward_timestamp(self) -> None:
        """Publish a timestamp far ahead that names the genuine snapshot."""
        current = MetadataFolder(self.fleet.metadata).read()
        assert current is not None
        self.put("timestamp.json", self._sign("timestamp", copy.deepcopy(current.timestamp)))

    def put(self, name: str, body: bytes) -> None:
        """Write a file into the registry, whoever's it was."""
        registry = self.fleet.open(TUF_REPOSITORY)
        registry.put_blob(digest_of(OCI_EMPTY_BYTES), OCI_EMPTY_BYTES)
        registry.put_blob(digest_of(body), body)
        registry.put_manifest(tuf_tag(name), metadata_manifest(name, body), OCI_MANIFEST)

    def _sign(self, role: str, signed: Any) -> bytes:
        signed.version = FAR
        signed.expires = self.fleet.now + timedelta(days=3650)
        metadata = Metadata(signed)
        metadata.sign(self.signers[role])
        body: bytes = metadata.to_bytes()
        return body


def _meta(body: bytes) -> MetaFile:
    return MetaFile.from_data(FAR, body, ["sha256"])
