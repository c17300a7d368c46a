"""The key that signs artifacts and gate reports: ECDSA P-256, verifiable offline by devices and by cosign.

>>> key = load_signing_key({"privateKey": "env:KEY", "publicKey": "signing.pub"}, root)  # doctest: +SKIP
>>> key.sign(b"payload")                                                                 # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgewright.errors import TrustError
from edgewright.trust.secret import read_line, read_secret

KEYS_HINT = "edgewright keys init"


@dataclass(frozen=True)
class SigningKey:
    """A private key and the public half that devices pin.

    Attributes:
        private: The private key.
        public_der: SubjectPublicKeyInfo of the public half, DER.
    """

    private: ec.EllipticCurvePrivateKey
    public_der: bytes

    def sign(self, data: bytes) -> bytes:
        """Return the DER signature of `data`; equal data give equal signatures (RFC 6979)."""
        return self.private.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def spki_der(public: Any) -> bytes:
    """Return the SubjectPublicKeyInfo of a public key, DER."""
    der: bytes = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return der


def fingerprint(public_der: bytes) -> str:
    """Return how people compare keys: sha256 of the SubjectPublicKeyInfo, hex."""
    return hashlib.sha256(public_der).hexdigest()


def parse_private_key(pem: bytes, passphrase: str | None, *, what: str, setting: str) -> Any:
    """Return the private key in `pem`.

    Args:
        pem: PKCS#8 or SEC 1 PEM.
        passphrase: None for a key stored in the clear.
        what: How to call the key in an error.
        setting: The word in fleet.yaml that names the passphrase.

    Raises:
        TrustError: not a key, or the passphrase is missing, wrong or not needed.
    """
    try:
        return serialization.load_pem_private_key(pem, passphrase.encode() if passphrase else None)
    except TypeError as error:
        if passphrase is None:
            raise TrustError(f"{what} is encrypted", hint=f"name its passphrase in {setting}") from error
        raise TrustError(f"{what} is not encrypted", hint=f"remove {setting} from fleet.yaml") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        wrong = "the passphrase is wrong" if passphrase else "it is not a PEM private key"
        raise TrustError(f"{what} cannot be opened: {wrong}") from error


def load_signing_key(signing: Mapping[str, Any], root: Path) -> SigningKey:
    """Load the signing key and check it against the public key that devices pin.

    Args:
        signing: `privateKey`, `publicKey` and optionally `passphrase`, as in fleet.yaml.
        root: The fleet's repository; relative paths start there.

    Raises:
        TrustError: a file is missing, the passphrase is wrong, the key is not ECDSA P-256, or the two halves
            do not belong together.
    """
    pem = read_secret(signing["privateKey"], root, what="the signing key", hint=KEYS_HINT)
    reference = signing.get("passphrase")
    passphrase = read_line(reference, root, what="the signing key's passphrase") if reference else None
    private = parse_private_key(pem, passphrase, what="the signing key", setting="signing.passphrase")
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise TrustError("the signing key is not ECDSA P-256, the only kind devices accept", hint=KEYS_HINT)
    pinned = load_public_key(root / signing["publicKey"])
    der = spki_der(private.public_key())
    if der != spki_der(pinned):
        raise TrustError(
            f"the signing key does not belong to {signing['publicKey']}; devices would refuse it",
            hint="edgewright keys show",
        )
    return SigningKey(private=private, public_der=der)


def load_public_key(path: Path) -> Any:
    """Return the public key in a PEM file.

    Raises:
        TrustError: the file is missing or is not a public key.
    """
    try:
        return serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        # Never the advice to make a new one where others have keys: that would be another key of the same name.
        hint = KEYS_HINT
        if path.parent.is_dir() and any(path.parent.glob("*.pub")):
            hint = f"get {path.name} from whoever has its private half, and put it there"
        raise TrustError(f"the public key {path} cannot be read: {error.strerror}", hint=hint) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TrustError(f"{path} is not a PEM public key", hint=KEYS_HINT) from error
