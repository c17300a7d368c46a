"""Mode `keyless`: sign with a certificate of ten minutes that a Sigstore instance gives to whoever has an identity.

The key exists in this process only and is forgotten. What remains is in the bundle: the certificate, its entry in a
transparency log and a signed time. Each bundle is verified here as a device will, before anybody gets it.

>>> signer = open_keyless_signer(spec["signing"], root)        # doctest: +SKIP
>>> signer.sign(payload)                                       # doctest: +SKIP
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.errors import EdgewrightError, NetworkError, TrustError
from edgewright.trust.identity import find_token
from edgewright.trust.instance import load_trust_config
from edgewright.trust.keyless_bundle import KeylessBundle, KeylessVerifier
from edgewright_agent.contract import INTOTO_PAYLOAD, MAX_BUNDLE_BYTES

if TYPE_CHECKING:
    from sigstore.sign import Signer

_MAX_SAID = 300


class KeylessSigner:
    """One certificate for everything it signs."""

    def __init__(self, signer: Signer, verifier: KeylessVerifier, signing: Mapping[str, Any]) -> None:
        self._signer = signer
        self._verifier = verifier
        self._signing = signing
        self._signed: list[KeylessBundle] = []

    def sign(self, payload: bytes) -> bytes:
        """Return a verified bundle over an in-toto statement.

        Raises:
            TrustError: refused by the instance, or not signed by the identity that devices will expect.
            NetworkError: a service of the instance cannot be reached.
        """
        from sigstore.dsse import Statement

        with told("signing"):
            bundle = self._signer.sign_dsse(Statement(payload)).to_json().encode()
        if len(bundle) > MAX_BUNDLE_BYTES:
            raise TrustError(
                f"a signed statement of {len(bundle)} bytes is more than devices read ({MAX_BUNDLE_BYTES})"
            )
        self._signed.append(self._checked(bundle, payload))
        return bundle

    def facts(self) -> Mapping[str, Any]:
        """Return issuer, identity, and where the entries are in the transparency log."""
        who = {(bundle.issuer, bundle.identity) for bundle in self._signed}
        if len(who) != 1:
            return {}
        issuer, identity = who.pop()
        indexes = [bundle.log_index for bundle in self._signed]
        return {"issuer": issuer, "identity": identity, "log_index": indexes}

    def _checked(self, bundle: bytes, payload: bytes) -> KeylessBundle:
        try:
            found = self._verifier.verify(bundle)
        except TrustError as error:
            raise TrustError(
                f"what the Sigstore instance gave does not verify with its own trusted root: {error}",
                hint="is signing.trustConfig of this instance, and current?",
            ) from error
        if (found.payload_type, found.payload) != (INTOTO_PAYLOAD, payload):
            raise TrustError("the bundle that came back holds another statement than was signed")
        require_identity(self._signing, found.issuer, found.identity)
        return found


def open_keyless_signer(signing: Mapping[str, Any], root: Path) -> KeylessSigner:
    """Return a signer with a fresh certificate.

    Args:
        signing: `trustConfig`, `issuer`, `identity` or `identityPattern`, optionally `identityToken`.
        root: The fleet's repository.

    Raises:
        TrustError: the trust configuration is wrong, there is no identity token, or the instance refuses it.
        NetworkError: the instance cannot be reached.
    """
    text = load_trust_config(signing["trustConfig"], root)
    from sigstore.models import ClientTrustConfig
    from sigstore.sign import Signer, SigningContext

    with told("reading signing.trustConfig"):
        config = ClientTrustConfig.from_json(text)
        context = SigningContext.from_trust_config(config)
        verifier = KeylessVerifier(config.trusted_root)
    token = find_token(signing, root, config)
    # Before the instance hears of it: what it certifies stands in public logs for ever.
    if token.federated_issuer != signing["issuer"]:
        raise TrustError(
            f"the identity token is by {token.federated_issuer}, signing.issuer is {signing['issuer']}",
            hint="devices would refuse it; correct signing.issuer or use a token of that issuer",
        )
    with told("asking for a certificate"):
        return KeylessSigner(Signer(token, context), verifier, signing)


def require_identity(signing: Mapping[str, Any], issuer: str, identity: str) -> None:
    """Refuse an identity that devices of this fleet would refuse.

    Raises:
        TrustError: says which of the two is another.
    """
    expected = signing.get("identity")
    pattern = signing.get("identityPattern")
    if issuer != signing["issuer"]:
        raise TrustError(f"signed under issuer {issuer}, but devices expect {signing['issuer']}")
    if expected is not None and identity != expected:
        raise TrustError(
            f"signed as {identity}, but devices expect {expected}",
            hint="sign where signing.identity says, or change it and release before anything is signed",
        )
    if expected is None and (pattern is None or re.fullmatch(pattern, identity) is None):
        raise TrustError(
            f"signed as {identity}, which signing.identityPattern does not match as a whole: {pattern}"
        )


@contextmanager
def told(doing: str) -> Iterator[None]:
    """Turn what sigstore-python raises (its own errors, private ones, those of `requests`) into one sentence.

    Raises:
        NetworkError: a service did not answer.
        TrustError: anything else.
    """
    import requests
    from sigstore.errors import NetworkError as SigstoreNetworkError

    try:
        yield
    except EdgewrightError:
        raise
    except Exception as error:  # noqa: BLE001  there is no root for what it raises
        chain = list(_causes(error))
        refused = next((one for one in chain if isinstance(one, requests.HTTPError)), None)
        if refused is not None and refused.response is not None:
            answer = refused.response
            said = _message(answer.text[:_MAX_SAID])
            raise TrustError(
                f"keyless signing failed while {doing}: {answer.url} answered {answer.status_code}: {said}"
            ) from error
        if any(isinstance(one, (requests.RequestException, SigstoreNetworkError)) for one in chain):
            raise NetworkError(
                f"keyless signing failed while {doing}: a service of the Sigstore instance does not answer: "
                f"{_one_line(chain[-1])}",
                hint="nothing was signed; run the same command again",
            ) from error
        raise TrustError(f"keyless signing failed while {doing}: {_one_line(error)}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _message(body: str) -> str:
    """Return the text in an answer of Fulcio or Rekor (a gRPC status as JSON), else its first line."""
    found = re.search(r'"message"\s*:\s*"([^"]*)"', body)
    return found[1] if found else " ".join(body.split())


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:_MAX_SAID] or type(error).__name__
