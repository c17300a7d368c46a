"""The timestamp authority: says, signed, when it saw a signature (RFC 3161; CMS is RFC 5652)."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509

from private_sigstore.authorities import Authority, der, sign

_POLICY = "1.3.6.1.4.1.57264.2"


@dataclass
class TimestampAuthority:
    """The authority.

    Attributes:
        authority: Its key and chain.
        shift: How far from the truth its clock is.
    """

    authority: Authority = field(default_factory=lambda: Authority.root("tsa-root").issue_timestamper("tsa"))
    shift: dt.timedelta = dt.timedelta(0)
    _serials: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def stamp(self, query: bytes) -> bytes:
        """Answer a TimeStampReq (RFC 3161 2.4.1) with a TimeStampResp (2.4.2)."""
        asked = tsp.TimeStampReq.load(query)
        now = dt.datetime.now(dt.timezone.utc).replace(microsecond=0) + self.shift
        about = {
            "version": "v1",
            "policy": _POLICY,
            "message_imprint": asked["message_imprint"],
            "serial_number": next(self._serials),
            "gen_time": now,
            "accuracy": {"seconds": 1},
        }
        if asked["nonce"].native is not None:
            about["nonce"] = asked["nonce"].native
        token = self._signed(tsp.TSTInfo(about), now, with_certificate=bool(asked["cert_req"].native))
        response: bytes = tsp.TimeStampResp(
            {"status": {"status": "granted"}, "time_stamp_token": token}
        ).dump()
        return response

    def _signed(self, info: tsp.TSTInfo, now: dt.datetime, *, with_certificate: bool) -> cms.ContentInfo:
        certificate = der(self.authority.chain[0])
        sha256 = algos.DigestAlgorithm({"algorithm": "sha256"})
        content = info.dump()
        # RFC 3161 2.4.2 and RFC 5816: the certificate is named among what is signed.
        named = tsp.SigningCertificateV2({"certs": [{"cert_hash": hashlib.sha256(certificate).digest()}]})
        attributes = cms.CMSAttributes(
            [
                {"type": "content_type", "values": ["tst_info"]},
                {"type": "signing_time", "values": [cms.Time({"utc_time": now})]},
                {"type": "message_digest", "values": [hashlib.sha256(content).digest()]},
                {"type": "signing_certificate_v2", "values": [named]},
            ]
        )
        loaded = asn1_x509.Certificate.load(certificate)
        signer = {
            "version": "v1",
            "sid": {
                "issuer_and_serial_number": {
                    "issuer": loaded.issuer,
                    "serial_number": loaded.serial_number,
                }
            },
            "digest_algorithm": sha256,
            "signed_attrs": attributes,
            "signature_algorithm": {"algorithm": "sha256_ecdsa"},
            # RFC 5652 5.4: signed is the SET OF, not the implicitly tagged field.
            "signature": sign(self.authority.key, attributes.dump()),
        }
        signed = {
            "version": "v3",
            "digest_algorithms": [sha256],
            "encap_content_info": {
                "content_type": "tst_info",
                "content": core.ParsableOctetString(content),
            },
            "signer_infos": [signer],
        }
        if with_certificate:
            signed["certificates"] = [loaded]
        return cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(signed)})
