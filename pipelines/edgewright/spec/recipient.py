"""A recipient: somebody's public key that weights are encrypted for, read strictly and never taken for anything else.

>>> read_recipient(Path("keys/raspberry-pi-4.pub")).kind     # doctest: +SKIP
'EC P-256'

The private half belongs on devices. One that lies in the place of a public key is refused, and nothing of it is shown.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

MAX_KEY_BYTES = 16 * 1024
RSA_BITS = (2048, 8192)  # least: NIST SP 800-131A; most: what a small device opens in well under a second


@dataclass(frozen=True)
class Recipient:
    """A public key.

    Attributes:
        kind: `EC P-256` or `RSA`.
        sha256: Of its SubjectPublicKeyInfo (DER): the same key in another file is the same recipient.
        pem: Its SubjectPublicKeyInfo (PEM).
    """

    kind: str
    sha256: str
    pem: bytes


def read_recipient(path: Path) -> Recipient:
    """Read a public key: EC P-256 or RSA of 2048 bits and more, as PEM.

    Raises:
        ValueError: what is wrong with it, as the end of a sentence that begins with its name.
    """
    # Imported here: a fleet that encrypts nothing does not pay for it.
    from cryptography.hazmat.primitives import serialization

    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise ValueError("is a private key; it belongs on devices, not in the fleet's repository")
    if data.count(b"-----BEGIN ") != 1:
        raise ValueError("is not one public key in PEM form")
    try:
        key = serialization.load_pem_public_key(data)
    except Exception as error:  # cryptography raises ValueError, UnsupportedAlgorithm and its own
        raise ValueError("is not a public key in PEM form (-----BEGIN PUBLIC KEY-----)") from error
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    der = key.public_bytes(serialization.Encoding.DER, spki)
    pem = key.public_bytes(serialization.Encoding.PEM, spki)
    return Recipient(_kind(key), hashlib.sha256(der).hexdigest(), pem)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_KEY_BYTES:
        raise ValueError(f"has more than {MAX_KEY_BYTES} bytes, so it is no public key")
    return data


def _kind(key: PublicKeyTypes) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, rsa.RSAPublicKey):
        if not RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
            raise ValueError(
                f"is an RSA key of {key.key_size} bits; {RSA_BITS[0]} to {RSA_BITS[1]} are taken"
            )
        return "RSA"
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1):
            raise ValueError(f"is a key on the curve {key.curve.name}; P-256 (prime256v1) is taken")
        return "EC P-256"
    raise ValueError("is neither an EC P-256 nor an RSA key")
