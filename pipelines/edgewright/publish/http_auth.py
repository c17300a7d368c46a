"""Registry log-in: read a `WWW-Authenticate` challenge, answer it, and give the password to nobody else.

>>> parse_challenge('Bearer realm="https://auth.example/token",service="registry"')
Challenge(scheme='bearer', parameters={'realm': 'https://auth.example/token', 'service': 'registry'})
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from edgewright.errors import NetworkError

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
        for match in _PARAMETER.finditer(rest)
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


def token_request(
    challenge: Challenge, registry_url: str, repository: str
) -> tuple[str, list[tuple[str, str]]]:
    """Return (realm URL, query parameters) that ask for a token to pull and push `repository`.

    The challenge of a read asks for a read-only token; a push with that token is refused, so pull and push
    are asked for at once (distribution: token specification).

    Raises:
        NetworkError: the realm is missing, or would take the password from https to plain http.
    """
    realm = challenge.parameters.get("realm", "")
    if urlsplit(realm).scheme not in ("http", "https"):
        raise NetworkError(f"{registry_url} asks for a token but names no usable realm ({realm!r})")
    if origin(registry_url)[0] == "https" and origin(realm)[0] != "https":
        raise NetworkError(f"{registry_url} sends log-ins to {realm}, which is not encrypted; refused")
    query = [("service", challenge.parameters["service"])] if "service" in challenge.parameters else []
    wanted = [f"repository:{repository}:pull,push"]
    wanted += [
        scope
        for scope in challenge.parameters.get("scope", "").split()
        if not scope.startswith(f"repository:{repository}:")
    ]
    return realm, [*query, *(("scope", scope) for scope in wanted)]
