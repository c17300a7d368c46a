"""A Sigstore instance as fleet.yaml names it: where it is, and which keys and authorities it is known by.

>>> text = load_trust_config("trust.json", root)     # doctest: +SKIP
>>> trusted_root_document(text)[:40]                 # doctest: +SKIP
b'{"certificateAuthorities":[{"certChain":{'
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgewright.errors import NetworkError, TrustError
from edgewright.spec.fleet import PUBLIC_GOOD
from edgewright_agent.contract import MAX_TRUSTED_ROOT_BYTES, canonical_json

_HINT = "a ClientTrustConfig holds trustedRoot and signingConfig; the instance's operator gives it out"


def load_trust_config(setting: str, root: Path) -> str:
    """Return the ClientTrustConfig (JSON) that `signing.trustConfig` names.

    For `public-good` it is fetched from sigstore.dev, through the TUF client in sigstore-python.

    Args:
        setting: A path, or `public-good`.
        root: The fleet's repository; a relative path starts there.

    Raises:
        TrustError: it cannot be read, or is something else.
        NetworkError: sigstore.dev cannot be reached.
    """
    if setting == PUBLIC_GOOD:
        return _public_good()
    path = root / setting
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text)
    except OSError as error:
        raise TrustError(
            f"signing.trustConfig {path} cannot be read: {error.strerror}", hint=_HINT
        ) from error
    except ValueError as error:
        raise TrustError(f"signing.trustConfig {path} is not JSON: {error}", hint=_HINT) from error
    _part(document, "trustedRoot", path)
    _part(document, "signingConfig", path)
    return text


def trusted_root_document(trust_config: str) -> bytes:
    """Return the TrustedRoot of a trust configuration as devices get it: canonical JSON.

    Raises:
        TrustError: it is larger than devices read.
    """
    document = canonical_json(json.loads(trust_config)["trustedRoot"])
    if len(document) > MAX_TRUSTED_ROOT_BYTES:
        raise TrustError(
            f"the Sigstore trusted root has {len(document)} bytes, more than devices read "
            f"({MAX_TRUSTED_ROOT_BYTES})",
            hint="remove authorities and logs that signed nothing you still run",
        )
    return document


def _part(document: Any, key: str, path: Path) -> None:
    if not isinstance(document, dict) or not isinstance(document.get(key), dict):
        raise TrustError(f"signing.trustConfig {path} has no {key}", hint=_HINT)


def _public_good() -> str:
    from sigstore.errors import Error
    from sigstore.models import ClientTrustConfig

    try:
        config = ClientTrustConfig.production()
    except Error as error:
        raise NetworkError(
            f"the trust configuration of sigstore.dev cannot be fetched: {error}",
            hint="check the network, or keep one as a file and name it in signing.trustConfig",
        ) from error
    text: str = config._inner.to_json()  # no public way to its JSON in sigstore 4
    return text
