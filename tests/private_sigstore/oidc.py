"""An OpenID Connect issuer: tokens that say who somebody is (OpenID Connect Core 2), and the two ways to one.

A workflow asks an endpoint that only it knows (as on GitHub Actions); a person is sent through a browser (RFC 6749 4.1
with RFC 7636). Everybody who asks is believed: this is a test's issuer.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from private_sigstore.authorities import b64

AUDIENCE = "sigstore"
_LIFETIME_S = 600


@dataclass
class TokenIssuer:
    """The issuer.

    Attributes:
        url: What stands in tokens as `iss`.
        person: Who is logged in, in the browser.
        key: Signs tokens.
    """

    url: str
    person: str = "ada@acme.example"
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    _codes: dict[str, str] = field(default_factory=dict)

    def token(self, identity: str, *, lifetime_s: int = _LIFETIME_S, **claims: Any) -> str:
        """Return a token of an e-mail address, a workflow (`owner/repo/.github/workflows/x.yml@ref`) or a URI."""
        now = int(time.time())
        about: dict[str, Any] = {"sub": identity}
        if "://" not in identity and "/.github/workflows/" in identity:
            owner, repository = identity.split("/")[:2]
            about = {"sub": f"repo:{owner}/{repository}:environment:production", "job_workflow_ref": identity}
        elif "://" not in identity:
            about = {"sub": identity, "email": identity, "email_verified": True}
        times = {"iat": now, "nbf": now - 5, "exp": now + lifetime_s}
        return jwt.encode(
            {"iss": self.url, "aud": AUDIENCE, **times, **about, **claims}, self.key, algorithm="RS256"
        )

    def check(self, token: str) -> dict[str, Any]:
        """Return the claims of a token.

        Raises:
            ValueError: It is not one of this issuer's, or out of date.
        """
        try:
            found: dict[str, Any] = jwt.decode(
                token, self.key.public_key(), algorithms=["RS256"], audience=AUDIENCE, issuer=self.url
            )
        except jwt.InvalidTokenError as error:
            raise ValueError(f"the identity token is refused: {error}") from None
        return found

    def configuration(self) -> dict[str, Any]:
        """Return `.well-known/openid-configuration` (OpenID Connect Discovery 3)."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
        }

    def authorize(self, query: dict[str, str]) -> str:
        """Return where the browser is sent after the log-in (RFC 6749 4.1.2)."""
        code = secrets.token_urlsafe()
        self._codes[code] = query["code_challenge"]
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def exchange(self, form: dict[str, str]) -> dict[str, Any]:
        """Return the token a code stands for (RFC 6749 4.1.3, RFC 7636 4.6).

        Raises:
            ValueError: The code is unknown or another program asked for it.
        """
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = b64(digest).translate(str.maketrans("+/", "-_")).rstrip("=")
        if self._codes.pop(form["code"], None) != challenge:
            raise ValueError("this code was not given to you")
        return {"access_token": self.token(self.person), "token_type": "Bearer"}
