"""Weights as ciphertext: a layer encrypted as containers/ocicrypt does it, so that skopeo, buildah and devices open it.

>>> layer = encrypt_layer(layer, [read_recipient(Path("keys/pi.pub"))])     # doctest: +SKIP
>>> layer.descriptor["mediaType"]                                           # doctest: +SKIP
'application/vnd.cncf.model.weight.v1.raw+encrypted'

Every layer has a random key of its own: AES-256-CTR, and HMAC-SHA256 with the same key over the ciphertext. That key,
the nonce and the digest of what was encrypted ("private options") go into one JWE for all recipients; cipher and HMAC
("public options") stand beside it. Both are annotations of the layer, so every signature over the manifest covers them.
See docs/adr/0013-encrypted-weights.md for what that protects and what it does not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from edgewright.publish import oci
from edgewright.publish.durable import storage
from edgewright.publish.layer import Layer
from edgewright.spec.recipient import Recipient
from edgewright_agent.contract import (
    ANNOTATION_ENC_JWE,
    ANNOTATION_ENC_PUBOPTS,
    ANNOTATION_FILE_DIGEST,
    ANNOTATION_FILE_SIZE,
    ENCRYPTED,
    ENCRYPTION_CIPHER,
)

KEY_BYTES = 32
NONCE_BYTES = 16  # the whole first counter block, as ocicrypt has it
_READ_BYTES = 1 << 20
_ALGORITHMS = {"EC P-256": "ECDH-ES+A256KW", "RSA": "RSA-OAEP"}  # what ocicrypt uses for keys of these kinds


def encrypt_layer(layer: Layer, recipients: Sequence[Recipient]) -> Layer:
    """Put the ciphertext of a layer's blob in the place of the blob and describe it.

    Args:
        layer: As it would be published without encryption, compressed or not; its file is replaced.
        recipients: Who may open it.

    Raises:
        EnvironmentFault: the blob cannot be written.
    """
    key, nonce = os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES)
    with storage("encrypt a layer to", layer.path):
        authentication = _encrypt(layer.path, key, nonce)
    plain = layer.descriptor
    names = dict(plain["annotations"])
    names.setdefault(ANNOTATION_FILE_DIGEST, plain["digest"])
    names.setdefault(ANNOTATION_FILE_SIZE, str(plain["size"]))
    private = {
        "symkey": _base64(key),
        "digest": plain["digest"],
        "cipheroptions": {"nonce": _base64(nonce)},
    }
    public = {"cipher": ENCRYPTION_CIPHER, "hmac": _base64(authentication), "cipheroptions": {}}
    names[ANNOTATION_ENC_JWE] = _base64(wrap(json.dumps(private).encode(), recipients))
    names[ANNOTATION_ENC_PUBOPTS] = _base64(json.dumps(public).encode())
    return Layer(
        oci.descriptor(plain["mediaType"] + ENCRYPTED, layer.path, annotations=names),
        layer.diff_id,
        layer.path,
    )


def wrap(secret: bytes, recipients: Sequence[Recipient]) -> bytes:
    """Return a JWE that each recipient can open (RFC 7516, JSON serialization; content under A256GCM)."""
    token = JWE(secret, protected=json.dumps({"enc": "A256GCM"}))
    for recipient in recipients:
        header = json.dumps({"alg": _ALGORITHMS[recipient.kind]})
        token.add_recipient(JWK.from_pem(recipient.pem), header=header)
    return str(token.serialize()).encode()


def _encrypt(path: Path, key: bytes, nonce: bytes) -> bytes:
    """Replace a file by its ciphertext; return the HMAC over the ciphertext."""
    stream = Cipher(AES(key), CTR(nonce)).encryptor()
    authentication = hmac.new(key, digestmod=hashlib.sha256)
    fresh = path.with_name(f"{path.name}.encrypting")
    with path.open("rb") as plain, fresh.open("wb") as out:
        while piece := plain.read(_READ_BYTES):
            sealed = stream.update(piece)
            authentication.update(sealed)
            out.write(sealed)
    fresh.replace(path)
    return authentication.digest()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
