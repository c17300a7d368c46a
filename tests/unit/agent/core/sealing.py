"""Encrypted layers for tests, made part by part so that any part can be spoilt.

>>> device = make_key()                                   # doctest: +SKIP
>>> layer, blob = seal(b"weights", [device])              # doctest: +SKIP
>>> unwrap(layer, [device])                               # doctest: +SKIP
ContentKey()
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from edgewright.publish.encrypt import wrap
from edgewright.spec.recipient import Recipient
from edgewright_agent.artifact import Layer, Sealed
from edgewright_agent.contract import digest_of

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

CONTENT_KEY = bytes(range(32))
NONCE = bytes(range(16))


def make_key() -> ec.EllipticCurvePrivateKey:
    """A device's key."""
    return ec.generate_private_key(ec.SECP256R1())


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """An RSA key; making one takes a while, so tests share them by number."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def write_private(path: Path, key: Any, *, mode: int = 0o600, passphrase: bytes | None = None) -> Path:
    """Write a private key as PKCS#8 PEM."""
    lock: Any = serialization.NoEncryption()
    if passphrase:
        lock = serialization.BestAvailableEncryption(passphrase)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock))
    path.chmod(mode)
    return path


def public_pem(key: Any) -> bytes:
    """The public half of a key as PEM."""
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    pem: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, spki)
    return pem


def write_public(path: Path, key: Any) -> Path:
    """Write the public half of a key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(public_pem(key))
    return path


def recipient(key: Key) -> Recipient:
    """The recipient who has a key."""
    kind = "RSA" if isinstance(key, rsa.RSAPrivateKey) else "EC P-256"
    return Recipient(kind, "", public_pem(key))


def wrapped(document: Any, keys: Sequence[Key]) -> str:
    """A JWE for the holders of keys, as it stands in an annotation."""
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return encode(wrap(content, [recipient(key) for key in keys]))


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def ciphertext_of(data: bytes) -> bytes:
    return Cipher(AES(CONTENT_KEY), CTR(NONCE)).encryptor().update(data)


def seal(
    data: bytes,
    keys: Sequence[Key],
    *,
    file: str = "model.onnx",
    packed: bytes | None = None,
    jwe: Callable[[str], str] = lambda text: text,
    private: Callable[[dict[str, Any]], Any] = lambda options: options,
    public: Callable[[dict[str, Any]], Any] = lambda options: options,
) -> tuple[Layer, bytes]:
    """Encrypt a file for the holders of keys; return what the manifest says of it, and the blob.

    Args:
        data: The file.
        keys: Of the recipients.
        file: Its name.
        packed: Its archive, which is then what is encrypted.
        jwe: Spoils the annotation of the keys.
        private: Spoils the content of the JWE.
        public: Spoils the public options.
    """
    plain = data if packed is None else packed
    blob = ciphertext_of(plain)
    options: dict[str, Any] = {
        "symkey": encode(CONTENT_KEY),
        "digest": digest_of(plain),
        "cipheroptions": {"nonce": encode(NONCE)},
    }
    told: dict[str, Any] = {
        "cipher": "AES_256_CTR_HMAC_SHA256",
        "hmac": encode(hmac.new(CONTENT_KEY, blob, hashlib.sha256).digest()),
        "cipheroptions": {},
    }
    sealed = Sealed(
        jwe(wrapped(private(options), keys)), encode(json.dumps(public(told)).encode()), packed is not None
    )
    return Layer(file, digest_of(blob), len(blob), (digest_of(data), len(data)), sealed), blob
