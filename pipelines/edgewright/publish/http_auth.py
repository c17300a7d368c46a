"""Registry log-in: read a `WWW-Authenticate` challenge, answer it, and give the password to nobody else.

>>> parse_challenge('Bearer realm="https://auth.example/token",service="registry"')
Challenge(scheme='bearer', parameters={'realm': 'https://auth.example/token', 'service': 'registry'})
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from edgewright.errors import NetworkError

IDENTITY_TOKEN = "<token>"  # noqa: S105  the user name by which credential helpers mark an identity token
PULL, PUSH = "pull", "pull,push"
_MAX_CHALLENGE_CHARS = 8192
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750 2.1, b64token: nothing that could end a header
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')

Credentials = tuple[str, str]
"""User name and password."""


@dataclass(frozen=True)
class Challenge:
    """One challenge (RFC 9110, 11.6.1).

    Attributes:
        scheme: `basic` or `bearer`, lower case.
        parameters: `realm`, `service`, `scope`, …
    """

    scheme: str
    parameters: Mapping[str, str]


def parse_challenge(header: str) -> Challenge:
    """Return the first challenge of a `WWW-Authenticate` header."""
    scheme, _, rest = header.strip().partition(" ")
    found = {
        match[1].lower(): re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
        for match in _PARAMETER.finditer(rest[:_MAX_CHALLENGE_CHARS])
    }
    return Challenge(scheme.lower(), found)


def basic_header(credentials: Credentials) -> str:
    """Return the value of an `Authorization` header (RFC 7617)."""
    return "Basic " + base64.b64encode(":".join(credentials).encode()).decode()


def origin(url: str) -> tuple[str, str, int]:
    """Return (scheme, host, port): credentials for one origin are never sent to another."""
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return parts.scheme, (parts.hostname or "").lower(), parts.port or default


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine itself, by its name alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_carry_secrets(url: str) -> bool:
    """Whether a password or token may be sent to a URL: over TLS, or without leaving this machine."""
    scheme, host, _ = origin(url)
    return scheme == "https" or (scheme == "http" and is_loopback(host))


def token_request(
    challenge: Challenge, registry_url: str, repository: str, actions: str, *, with_secret: bool
) -> tuple[str, list[tuple[str, str]]]:
    """Return (realm URL, query parameters) that ask for a token for `actions` on `repository` and nothing else.

    Whatever scope the challenge names is left out: a registry may not choose what we ask for in our name.

    Args:
        challenge: What the registry asked for.
        registry_url: Its address.
        repository: Full path of the repository.
        actions: `PULL` or `PUSH`.
        with_secret: Whether a password or token goes along.

    Raises:
        NetworkError: the realm is missing, or would take the password where others can read it.
    """
    realm = challenge.parameters.get("realm", "")
    try:
        parts = urlsplit(realm)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc or not realm.isascii() or not realm.isprintable() or " " in realm:
        raise NetworkError(f"{registry_url} asks for a token but names no usable realm ({realm[:200]!r})")
    if origin(registry_url)[0] == "https" and origin(realm)[0] != "https":
        raise NetworkError(f"{registry_url} sends log-ins to {realm}, which is not encrypted; refused")
    # A registry proven by TLS could ask for the password itself, so the service it names may have it. Without TLS
    # anybody on the path can name one: then it does not leave this machine.
    if with_secret and not (
        (origin(registry_url)[0] == "https" and origin(realm)[0] == "https")
        or (may_carry_secrets(registry_url) and origin(realm)[1] == origin(registry_url)[1])
    ):
        raise NetworkError(f"{registry_url} wants the password sent to {realm}, without TLS; refused")
    query = [("service", challenge.parameters["service"])] if "service" in challenge.parameters else []
    return realm, [*query, ("scope", f"repository:{repository}:{actions}")]


def token_of(body: bytes, realm: str) -> str:
    """Return the token in a token service's answer.

    Raises:
        NetworkError: there is none that could stand in a header.
    """
    try:
        document = json.loads(body)
        token = document.get("token") or document["access_token"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
        raise NetworkError(f"the log-in at {realm} gave no token")
    return token
