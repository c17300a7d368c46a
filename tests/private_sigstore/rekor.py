"""Rekor v2: the log of signatures, with a real Merkle tree and signed checkpoints.

Entries are `hashedrekord` 0.0.2 (rekor-tiles `api/proto`); the checkpoint is a C2SP tlog-checkpoint in a C2SP
signed-note whose key is ECDSA, so its key id is the first four bytes of the log's.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from edgewright_agent.contract import canonical_json
from private_sigstore.authorities import b64, key_id, new_key, sign
from private_sigstore.merkle import Tree

ORIGIN = "rekor.private.local"
"""Name of the log in checkpoints; verifiers compare it with the host in the trusted root's `baseUrl`."""


@dataclass
class Rekor:
    """The log. It begins with a few entries of others, so that every proof has something to prove."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    tree: Tree = field(default_factory=Tree)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        for number in range(5):
            self.tree.append(b"somebody else's entry %d" % number)

    def add(self, request: Mapping[str, Any], faults: Collection[str] = ()) -> dict[str, Any]:
        """Answer `POST /api/v2/log/entries`.

        Args:
            request: A `hashedRekordRequestV002`.
            faults: `forged-checkpoint` (signed by another key), `other-tree` (a checkpoint of another tree, well
                signed), `wrong-proof`, `other-entry` (the proof of what somebody else signed).

        Raises:
            InvalidSignature: The signature is not by the key that comes with it.
        """
        asked = request["hashedRekordRequestV002"]
        signature = base64.b64decode(asked["signature"]["content"])
        digest = base64.b64decode(asked["digest"])
        _verifier(asked["signature"]["verifier"]).verify(
            signature, digest, ec.ECDSA(Prehashed(hashes.SHA256()))
        )
        body = _body(asked)
        if "other-entry" in faults:
            other = new_key()
            stranger = {"content": b64(sign(other, b"other")), "verifier": asked["signature"]["verifier"]}
            body = _body({"digest": asked["digest"], "signature": stranger})
        with self._lock:
            index = self.tree.append(body)
            size, root, path = len(self.tree.leaves), self.tree.root(), self.tree.path(index)
        if "wrong-proof" in faults:
            path = [bytes(32), *path[1:]]
        noted = bytes(32) if "other-tree" in faults else root
        return {
            "logIndex": str(index),
            "logId": {"keyId": b64(key_id(self.key))},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "integratedTime": "0",  # v2 tells no time: that is the timestamp authority's
            "inclusionProof": {
                "logIndex": str(index),
                "rootHash": b64(root),
                "treeSize": str(size),
                "hashes": [b64(one) for one in path],
                "checkpoint": {"envelope": self._checkpoint(size, noted, "forged-checkpoint" in faults)},
            },
            "canonicalizedBody": b64(body),
        }

    def _checkpoint(self, size: int, root: bytes, forged: bool) -> str:
        """Return a signed checkpoint: origin, size and root; then an em dash, a name, and key id + signature."""
        note = f"{ORIGIN}\n{size}\n{b64(root)}\n"
        signature = sign(new_key() if forged else self.key, note.encode())
        return f"{note}\n\u2014 {ORIGIN} {b64(key_id(self.key)[:4] + signature)}\n"


def _body(asked: Mapping[str, Any]) -> bytes:
    """Return what is logged; verifiers rebuild it from the bundle and compare."""
    data = {"algorithm": "SHA2_256", "digest": asked["digest"]}
    return canonical_json(
        {
            "apiVersion": "0.0.2",
            "kind": "hashedrekord",
            "spec": {"hashedRekordV002": {"data": data, "signature": asked["signature"]}},
        }
    )


def _verifier(verifier: Mapping[str, Any]) -> ec.EllipticCurvePublicKey:
    if "x509Certificate" in verifier:
        raw = base64.b64decode(verifier["x509Certificate"]["rawBytes"])
        public = x509.load_der_x509_certificate(raw).public_key()
    else:
        raw = base64.b64decode(verifier["publicKey"]["rawBytes"])
        public = serialization.load_der_public_key(raw)  # type: ignore[assignment]
    assert isinstance(public, ec.EllipticCurvePublicKey)
    return public
