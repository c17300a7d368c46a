"""Who signs, whatever the mode: a statement in, a Sigstore bundle out.

>>> signer = open_signer({"mode": "keyless", "trustConfig": "trust.json", …}, root)   # doctest: +SKIP
>>> bundle = signer.sign(statement(model, digest, PREDICATE_SIGN, {}))                # doctest: +SKIP
>>> signer.facts()                                                                    # doctest: +SKIP
{'issuer': 'https://…', 'identity': 'https://…', 'log_index': [1234]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgewright.publish.statement import sign_statement
from edgewright.trust.signing_key import SigningKey, fingerprint, load_signing_key


class Signer(Protocol):
    """Something that signs in-toto statements so that devices and cosign can verify them."""

    def sign(self, payload: bytes) -> bytes:
        """Return a Sigstore bundle v0.3 over an in-toto statement.

        Raises:
            TrustError: it cannot be signed, or devices would refuse it.
            NetworkError: a service cannot be reached.
        """
        ...

    def facts(self) -> Mapping[str, Any]:
        """Return who signed what this signer has signed so far, for the record of the stage."""
        ...


@dataclass(frozen=True)
class KeySigner:
    """Mode `key`: equal statements give equal bundles."""

    key: SigningKey

    def sign(self, payload: bytes) -> bytes:
        """As `Signer.sign`; no network."""
        return sign_statement(payload, self.key)

    def facts(self) -> Mapping[str, Any]:
        """Return the key's fingerprint."""
        return {"key_fingerprint": fingerprint(self.key.public_der)}


def open_signer(signing: Mapping[str, Any], root: Path) -> Signer:
    """Return the signer that the section `signing` of fleet.yaml describes.

    Args:
        signing: In the words of the YAML.
        root: The fleet's repository; relative paths start there.

    Raises:
        TrustError: the key is missing, locked or wrong; nobody to sign as; the instance refuses.
        NetworkError: the instance cannot be reached.
    """
    if signing.get("mode", "key") == "key":
        return KeySigner(load_signing_key(signing, root))
    from edgewright.trust.keyless import open_keyless_signer

    return open_keyless_signer(signing, root)
