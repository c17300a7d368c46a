"""A keyless bundle, verified: what it says, who signed it, and where the transparency log has it.

>>> verifier = KeylessVerifier.of(trusted_root_document(trust_config))      # doctest: +SKIP
>>> verifier.verify(bundle).identity                                        # doctest: +SKIP
'https://github.com/acme/fleet/.github/workflows/release.yml@refs/heads/main'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgewright.errors import TrustError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.models import TrustedRoot


@dataclass(frozen=True)
class KeylessBundle:
    """A bundle whose certificate, log entry, time and signature are valid.

    Attributes:
        payload_type: DSSE payload type; to be checked by whoever reads the payload.
        payload: What was signed.
        issuer: OpenID Connect issuer in the certificate.
        identity: Its only subject alternative name.
        log_index: Where its entry is in the transparency log.
    """

    payload_type: str
    payload: bytes
    issuer: str
    identity: str
    log_index: int


class KeylessVerifier:
    """Verifies against one trusted root, without network."""

    def __init__(self, trusted_root: TrustedRoot) -> None:
        from sigstore.verify import Verifier

        self._verifier = Verifier(trusted_root=trusted_root)

    @classmethod
    def of(cls, trusted_root: bytes) -> KeylessVerifier:
        """Return a verifier for a TrustedRoot document, JSON.

        Raises:
            TrustError: it is not one.
        """
        from sigstore.models import TrustedRoot
        from sigstore_models.trustroot import v1 as trustroot

        try:
            return cls(TrustedRoot(trustroot.TrustedRoot.from_json(trusted_root)))
        except Exception as error:  # noqa: BLE001  whatever sigstore-python raises over a document
            raise TrustError(f"the Sigstore trusted root cannot be used: {error}") from error

    def verify(self, bundle: bytes) -> KeylessBundle:
        """Return what a valid bundle holds; whether to believe its identity is the caller's decision.

        Raises:
            TrustError: it is not valid, and why.
        """
        from sigstore.models import Bundle

        signer = _Signer()
        try:
            parsed = Bundle.from_json(bundle)
            payload_type, payload = self._verifier.verify_dsse(parsed, signer)
        except Exception as error:  # noqa: BLE001  sigstore-python raises what its libraries raise
            said = " ".join(str(error).split())[:300]
            raise TrustError(f"the bundle is not valid: {said}") from error
        index = int(parsed.log_entry._inner.log_index)  # no public way to it in sigstore 4
        return KeylessBundle(payload_type, payload, signer.issuer, signer.identity, index)


class _Signer:
    """Notes whose certificate it is, in the place where sigstore-python asks a policy."""

    issuer = ""
    identity = ""

    def verify(self, cert: Certificate) -> None:
        self.issuer, self.identity = issuer_of(cert), identity_of(cert)


def issuer_of(certificate: Certificate) -> str:
    """Return the OpenID Connect issuer in a certificate (Fulcio oid-info: …57264.1.8, before it .1.1).

    Raises:
        ValueError: none, or two that differ.
    """
    from cryptography.hazmat import asn1
    from cryptography.x509 import UnrecognizedExtension

    found = set()
    for extension in certificate.extensions:
        if isinstance(extension.value, UnrecognizedExtension):
            raw = extension.value.value
            if extension.oid.dotted_string == "1.3.6.1.4.1.57264.1.8":
                found.add(asn1.decode_der(str, raw))
            elif extension.oid.dotted_string == "1.3.6.1.4.1.57264.1.1":
                found.add(raw.decode())
    if len(found) != 1:
        raise ValueError(f"the certificate names {len(found)} issuers, not one")
    return str(found.pop())


def identity_of(certificate: Certificate) -> str:
    """Return the only subject alternative name: an e-mail address, a URI, or Fulcio's user name (…57264.1.7).

    Raises:
        ValueError: none, several, or of another kind.
    """
    from cryptography import x509
    from cryptography.hazmat import asn1

    names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    if len(names) == 1:
        name = names[0]
        if isinstance(name, (x509.RFC822Name, x509.UniformResourceIdentifier)):
            return name.value
        if isinstance(name, x509.OtherName) and name.type_id.dotted_string == "1.3.6.1.4.1.57264.1.7":
            return str(asn1.decode_der(str, name.value))
    raise ValueError("the certificate does not have one e-mail address or URI as its subject")
