"""The certificate transparency log: promises that it has seen a certificate (RFC 6962 3.2, 3.3).

Only the promise matters here, the Signed Certificate Timestamp (SCT) embedded in a certificate; nobody asks this log
for a proof.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from private_sigstore.authorities import key_id, new_key, sign, spki

_SCT_V1 = 0
_CERTIFICATE_TIMESTAMP = 0
_PRECERT_ENTRY = 1
_SHA256_ECDSA = b"\x04\x03"  # TLS 1.2 hash and signature algorithm (RFC 5246 7.4.1.4.1)


@dataclass
class CertificateLog:
    """A log that vouches for certificates of any issuer."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    def timestamp(
        self, tbs: bytes, issuer: ec.EllipticCurvePrivateKey, at: dt.datetime, *, forged: bool = False
    ) -> bytes:
        """Return the extension value with one SCT over a certificate that is yet to get it.

        Args:
            tbs: The TBSCertificate without the SCT extension (RFC 6962 3.2, PreCert).
            issuer: The key that will sign the certificate.
            at: When the log saw it.
            forged: Signed by a key that is not the log's, under the log's name.
        """
        ms = int(at.timestamp() * 1000)
        issuer_key_hash = hashlib.sha256(spki(issuer)).digest()
        entry = issuer_key_hash + struct.pack("!I", len(tbs))[1:] + tbs  # a 24-bit length
        signed = struct.pack("!BBQH", _SCT_V1, _CERTIFICATE_TIMESTAMP, ms, _PRECERT_ENTRY) + entry + b"\0\0"
        signature = sign(new_key() if forged else self.key, signed)
        sct = bytes([_SCT_V1]) + key_id(self.key) + struct.pack("!Q", ms) + b"\0\0"
        sct += _SHA256_ECDSA + struct.pack("!H", len(signature)) + signature
        sct_list = struct.pack("!HH", len(sct) + 2, len(sct)) + sct
        return _octet_string(sct_list)


def _octet_string(content: bytes) -> bytes:
    """Return a DER OCTET STRING of fewer than 256 bytes."""
    length = bytes([len(content)]) if len(content) < 128 else bytes([0x81, len(content)])
    return b"\x04" + length + content
