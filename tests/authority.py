"""Who vouches in tests: a certificate authority, and a token server as registries send their clients to one.

>>> authority = Authority.create(tmp_path)                           # doctest: +SKIP
>>> with TokenServer(authority, users={"ci": ("pw", "*")}) as server:  # doctest: +SKIP
...     server.realm
'http://127.0.0.1:40123/token'
"""

from __future__ import annotations

import base64
import datetime
import hmac
import ipaddress
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from servers import Serving

SERVICE = "edgewright-tests"
ISSUER = "edgewright-token-server"
TOKEN_LIFETIME_S = 300


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass(frozen=True)
class Authority:
    """A self-signed certificate authority made for one test session.

    Attributes:
        ca_file: Its certificate (PEM): what clients trust.
        server: Certificate and key (PEM files) for 127.0.0.1 and localhost.
        key: Its private key.
        certificate: Its certificate.
    """

    ca_file: Path
    server: tuple[Path, Path]
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, folder: Path, name: str = "Edgewright test authority") -> Authority:
        """Make one, with its files in `folder`."""
        now = datetime.datetime.now(datetime.timezone.utc)

        def build(subject: str, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.CertificateBuilder:
            return (
                x509.CertificateBuilder()
                .subject_name(_name(subject))
                .issuer_name(_name(name))
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(hours=1))
                .not_valid_after(now + datetime.timedelta(days=1))
                .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            )

        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca = build(name, ca_key, ca=True).sign(ca_key, hashes.SHA256())
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        leaf = (
            build("127.0.0.1", key, ca=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        ca_file, certificate_file, key_file = folder / "ca.pem", folder / "server.pem", folder / "server.key"
        ca_file.write_bytes(_pem(ca))
        certificate_file.write_bytes(_pem(leaf))
        key_file.write_bytes(_key_pem(key))
        return cls(ca_file, (certificate_file, key_file), ca_key, ca)


class TokenServer(Serving):
    """Gives bearer tokens for basic credentials (distribution, "Token Authentication Specification").

    Args:
        authority: Signs the tokens; the registry trusts its certificate.
        users: Name → (password, actions it may have: `pull`, `push`, … or `*` for all).

    Attributes:
        granted: (user, scopes asked for, scopes given) of every token, in order.
    """

    def __init__(self, authority: Authority, users: Mapping[str, tuple[str, str]]) -> None:
        self.authority = authority
        self.users = users
        self.granted: list[tuple[str, list[str], list[str]]] = []
        super().__init__(self._handler())

    @property
    def realm(self) -> str:
        """Address clients are sent to."""
        return f"{self.url}/token"

    def registry_auth(self) -> dict[str, Any]:
        """Return the `auth` section that makes a docker-registry send its clients here."""
        return {
            "token": {
                "realm": self.realm,
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(self.authority.ca_file),
            }
        }

    def token(self, user: str, scopes: list[str]) -> str:
        """Return a token of `user` for what it may have of `scopes` (`repository:name:pull,push`)."""
        access = []
        allowed = self.users[user][1].split(",") if user in self.users else []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            given = [action for action in actions.split(",") if "*" in allowed or action in allowed]
            if given:
                access.append({"type": kind, "name": name, "actions": given})
        self.granted.append(
            (user, scopes, [f"{a['type']}:{a['name']}:{','.join(a['actions'])}" for a in access])
        )
        now = int(datetime.datetime.now(datetime.timezone.utc).timestamp())
        der = self.authority.certificate.public_bytes(serialization.Encoding.DER)
        return jwt.encode(
            {
                "iss": ISSUER,
                "sub": user,
                "aud": SERVICE,
                "iat": now,
                "nbf": now - 10,
                "exp": now + TOKEN_LIFETIME_S,
                "jti": uuid.uuid4().hex,
                "access": access,
            },
            self.authority.key,
            algorithm="ES256",
            headers={"x5c": [base64.b64encode(der).decode()]},
        )

    def login(self, header: str | None) -> str | None:
        """Return whose basic credentials these are; "" without any, None when they are wrong."""
        if header is None:
            return ""
        kind, _, encoded = header.partition(" ")
        if kind.lower() != "basic":
            return None
        name, _, password = base64.b64decode(encoded).decode().partition(":")
        expected = self.users.get(name, (None, ""))[0]
        return name if expected is not None and hmac.compare_digest(password, expected) else None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                user = server.login(self.headers.get("Authorization"))
                if user is None or query.get("service") != [SERVICE]:
                    self._answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong credentials"}]})
                    return
                scopes = [scope for value in query.get("scope", []) for scope in value.split()]
                token = server.token(user, scopes)
                self._answer(200, {"token": token, "expires_in": TOKEN_LIFETIME_S})

            def _answer(self, status: int, document: dict[str, Any]) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Stay silent: pytest shows what tests say."""

        return Handler
