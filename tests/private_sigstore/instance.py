"""A private Sigstore in one process: Fulcio, certificate log, Rekor, timestamp authority and token issuer.

>>> with PrivateSigstore() as sigstore:                                   # doctest: +SKIP
...     (tmp_path / "trust.json").write_text(json.dumps(sigstore.client_trust_config()))
...     token = sigstore.tokens.token("acme/fleet/.github/workflows/release.yml@refs/heads/main")

Real sigstore-python and real cosign sign against it and verify what it gave. `faults` makes it misbehave.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from asn1crypto import tsp
from cryptography.exceptions import InvalidSignature

from edgewright_agent.contract import INTOTO_PAYLOAD, SIGSTORE_BUNDLE, canonical_json, dsse_pae
from private_sigstore.authorities import BORN, ORGANIZATION, Authority, b64, der, key_id, new_key, sign, spki
from private_sigstore.ctlog import CertificateLog
from private_sigstore.fulcio import Fulcio
from private_sigstore.oidc import TokenIssuer
from private_sigstore.rekor import ORIGIN, Rekor
from private_sigstore.timestamps import TimestampAuthority
from servers import Serving

WORKFLOW = "acme/fleet/.github/workflows/release.yml@refs/heads/main"
"""A workflow as GitHub's token names it."""
IDENTITY = f"https://github.com/{WORKFLOW}"
"""The same as a certificate names it."""

Answer = tuple[int, str, bytes]
_JSON = "application/json"


class PrivateSigstore(Serving):
    """One instance, listening on a port of 127.0.0.1 while it is entered.

    Attributes:
        faults: What it does wrong: see `Fulcio.issue`, `Rekor.add`; `late` stamps an hour after the certificate ended.
        requests: The paths that were asked for.
    """

    def __init__(self) -> None:
        super().__init__(_handler(self))
        self.tokens = TokenIssuer(f"{self.url}/oidc")
        self.ctlog = CertificateLog()
        self.fulcio = Fulcio(self.tokens, self.ctlog)
        self.rekor = Rekor()
        self.timestamps = TimestampAuthority()
        self.faults: Collection[str] = ()
        self.requests: list[str] = []

    @property
    def issuer(self) -> str:
        """The OIDC issuer that its certificates name."""
        return self.tokens.url

    @contextmanager
    def misbehaving(self, *faults: str) -> Iterator[None]:
        """Do something wrong for a while."""
        self.faults = faults
        self.timestamps.shift = dt.timedelta(hours=1) if "late" in faults else dt.timedelta(0)
        try:
            yield
        finally:
            self.faults = ()
            self.timestamps.shift = dt.timedelta(0)

    # --- what clients are told ------------------------------------------------------------------------------------
    def trusted_root(self) -> dict[str, Any]:
        """Return the TrustedRoot (sigstore protobuf-specs `sigstore_trustroot.proto`)."""
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [_log(f"https://{ORIGIN}", spki(self.rekor.key), key_id(self.rekor.key))],
            "certificateAuthorities": [_authority("fulcio-root", self.url, self.fulcio.authority)],
            "ctlogs": [_log(f"{self.url}/ct", spki(self.ctlog.key), key_id(self.ctlog.key))],
            "timestampAuthorities": [_authority("tsa-root", self.url, self.timestamps.authority)],
        }

    def signing_config(self) -> dict[str, Any]:
        """Return the SigningConfig v0.2: where the services are."""
        return {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": _service(self.url, 1),
            "oidcUrls": _service(self.issuer, 1),
            "rekorTlogUrls": _service(self.url, 2),
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": _service(f"{self.url}/api/v1/timestamp", 1),
            "tsaConfig": {"selector": "ANY"},
        }

    def client_trust_config(self) -> dict[str, Any]:
        """Return both in one: what `signing.trustConfig` names."""
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": self.trusted_root(),
            "signingConfig": self.signing_config(),
        }

    # --- a client that checks nothing -------------------------------------------------------------------------------
    def bundle(
        self, payload: bytes, identity: str = WORKFLOW, *, payload_type: str = INTOTO_PAYLOAD
    ) -> dict[str, Any]:
        """Return a signed bundle v0.3, made without looking at what the services answer.

        Honest clients refuse much of what `faults` does while they sign; a thief does not.
        """
        key = new_key()
        claims = self.tokens.check(self.tokens.token(identity))
        certificate = der(self.fulcio.issue(claims, key.public_key(), self.faults))
        pae = dsse_pae(payload_type, payload)
        signature = sign(key, pae)
        verifier = {
            "x509Certificate": {"rawBytes": b64(certificate)},
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
        }
        asked = {
            "digest": b64(hashlib.sha256(pae).digest()),
            "signature": {"content": b64(signature), "verifier": verifier},
        }
        imprint = {
            "hash_algorithm": {"algorithm": "sha256"},
            "hashed_message": hashlib.sha256(signature).digest(),
        }
        query = tsp.TimeStampReq({"version": "v1", "message_imprint": imprint, "cert_req": True}).dump()
        return {
            "mediaType": SIGSTORE_BUNDLE,
            "verificationMaterial": {
                "certificate": {"rawBytes": b64(certificate)},
                "tlogEntries": [self.rekor.add({"hashedRekordRequestV002": asked}, self.faults)],
                "timestampVerificationData": {
                    "rfc3161Timestamps": [{"signedTimestamp": b64(self.timestamps.stamp(query))}]
                },
            },
            "dsseEnvelope": {
                "payload": b64(payload),
                "payloadType": payload_type,
                "signatures": [{"sig": b64(signature)}],
            },
        }

    # --- HTTP -------------------------------------------------------------------------------------------------------
    def get(self, path: str, query: dict[str, str]) -> Answer:
        """Answer a GET."""
        if path == "/oidc/.well-known/openid-configuration":
            return 200, _JSON, canonical_json(self.tokens.configuration())
        if path == "/oidc/authorize":
            return 302, self.tokens.authorize(query), b""
        if path == "/actions/token":  # what ACTIONS_ID_TOKEN_REQUEST_URL names in a workflow
            return 200, _JSON, canonical_json({"value": self.tokens.token(WORKFLOW)})
        return 404, _JSON, b"{}"

    def post(self, path: str, body: bytes, bearer: str) -> Answer:
        """Answer a POST."""
        if path == "/api/v2/signingCert":
            request = json.loads(body)
            token = bearer or request.get("credentials", {}).get("oidcIdentityToken", "")
            return 200, _JSON, canonical_json(self.fulcio.answer(token, request, self.faults))
        if path == "/api/v2/log/entries":
            return 201, _JSON, canonical_json(self.rekor.add(json.loads(body), self.faults))
        if path == "/api/v1/timestamp":
            if "no-timestamp" in self.faults:
                return 503, _JSON, b"{}"
            return 200, "application/timestamp-reply", self.timestamps.stamp(body)
        if path == "/oidc/token":
            return 200, _JSON, canonical_json(self.tokens.exchange(dict(parse_qsl(body.decode()))))
        return 404, _JSON, b"{}"


def _since() -> dict[str, str]:
    return {"start": BORN.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _log(url: str, public_der: bytes, log_id: bytes) -> dict[str, Any]:
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": b64(public_der),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": _since(),
        },
        "logId": {"keyId": b64(log_id)},
    }


def _authority(name: str, url: str, authority: Authority) -> dict[str, Any]:
    return {
        "subject": {"organization": ORGANIZATION, "commonName": name},
        "uri": url,
        "certChain": {"certificates": [{"rawBytes": b64(der(one))} for one in authority.chain]},
        "validFor": _since(),
    }


def _service(url: str, version: int) -> list[dict[str, Any]]:
    return [{"url": url, "majorApiVersion": version, "validFor": _since(), "operator": ORGANIZATION}]


def _handler(sigstore: PrivateSigstore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where = urlsplit(self.path)
            self._answer(*sigstore.get(where.path, dict(parse_qsl(where.query))))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
            try:
                answer = sigstore.post(urlsplit(self.path).path, body, bearer)
            except (ValueError, KeyError, AssertionError, InvalidSignature) as error:
                answer = 400, _JSON, canonical_json({"code": 3, "message": str(error) or repr(error)})
            self._answer(*answer)

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            sigstore.requests.append(self.path)
            self.send_response(status)
            self.send_header("Location" if status == 302 else "Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Stay silent: pytest shows what tests say."""

    return Handler
