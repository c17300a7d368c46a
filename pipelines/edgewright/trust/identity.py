"""The identity token that keyless signing shows: from a secret, from the CI job, or from a person's browser.

A token is never written anywhere and never part of an error or an action key.

>>> find_token({"issuer": "https://token.actions.githubusercontent.com"}, root, config)      # doctest: +SKIP
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.errors import NetworkError, TrustError
from edgewright.trust.secret import read_line

if TYPE_CHECKING:
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken

_HOW = "in GitHub Actions give the job `id-token: write`; elsewhere name a token in signing.identityToken"


# One log-in does for all lanes of a run; a token lives for minutes and stays in this process.
_logged_in: dict[str, IdentityToken] = {}


def find_token(signing: Mapping[str, Any], root: Path, config: ClientTrustConfig) -> IdentityToken:
    """Return the token of who signs.

    Args:
        signing: The section of fleet.yaml; `identityToken` decides when it is there.
        root: The fleet's repository.
        config: The Sigstore instance, whose issuer a browser is sent to.

    Raises:
        TrustError: there is none, or it is malformed or out of date.
        NetworkError: the issuer cannot be reached.
    """
    from sigstore.oidc import IdentityError, IdentityToken

    raw = _token_of_the_fleet(signing, root) or _token_of_the_job()
    if raw is None:
        return _token_of_a_person(config)
    try:
        return IdentityToken(raw)
    except IdentityError as error:
        reason = str(error).lower()
    raise TrustError(
        f"keyless signing has no usable identity: {reason}", hint=_HOW
    )  # not chained: it holds claims


def _token_of_the_fleet(signing: Mapping[str, Any], root: Path) -> str | None:
    reference = signing.get("identityToken")
    return read_line(reference, root, what="the identity token") if reference else None


def _token_of_the_job() -> str | None:
    """Return the token of the CI job this runs in, None outside of one (GitHub, GitLab, Google Cloud, Buildkite)."""
    import requests
    from sigstore.oidc import IdentityError, detect_credential

    try:
        return detect_credential()
    except IdentityError as error:
        raise TrustError(f"this CI job gives no identity token: {error}", hint=_HOW) from error
    except requests.RequestException as error:
        raise NetworkError(f"this CI job's identity endpoint does not answer: {error}") from error


def _token_of_a_person(config: ClientTrustConfig) -> IdentityToken:
    from sigstore.oidc import Issuer

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise TrustError(
            "keyless signing has nobody to sign as: no signing.identityToken, no CI job, no terminal",
            hint=_HOW,
        )
    from edgewright.trust.keyless import told

    with told("logging in with a browser"):
        url = config.signing_config.get_oidc_url()
        token = _logged_in.get(url)
        if token is None or not token.in_validity_period():
            token = _logged_in[url] = Issuer(url).identity_token()
        return token
