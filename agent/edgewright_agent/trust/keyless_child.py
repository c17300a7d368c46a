"""The child that checks keyless bundles with sigstore-python, offline, and ends: see `keyless`.

Standard input: `{"trustedRoot": base64, "bundles": [base64, …]}`. Standard output: one line of JSON for each bundle, in
order and as soon as it is known, so that one that ends this process takes no answer with it.

>>> python -m edgewright_agent.trust.keyless_child < request.json      # doctest: +SKIP
{"payloadType":"application/vnd.in-toto+json","payload":"eyJf…","issuer":"https://…","identity":"https://…"}
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import resource
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgewright_agent.contract import MAX_BUNDLE_BYTES, SIGSTORE_BUNDLE
from edgewright_agent.transport.document import parse_json

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.verify import Verifier

CPU_LIMIT_S = 150
"""CPU time, by the kernel, whatever the code is in."""
MEMORY_LIMIT_BYTES = 1024 * 1024 * 1024
"""Address space. About 60 MiB are used; libraries reserve more than they touch."""

# What a check that is offline has no use for (Python's table of audit events).
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind", "socket.sendto")

_MAX_NAME = 2048


class _Refused(Exception):
    """A bundle is not valid, in one sentence."""


class _Signer:
    """Notes whose certificate it is, in the place where sigstore-python asks a policy.

    Attributes:
        issuer: URL of the OIDC issuer.
        identity: Subject alternative name.
    """

    issuer = ""
    identity = ""

    def verify(self, cert: Certificate) -> None:
        self.issuer, self.identity = _issuer(cert), _identity(cert)


def main() -> None:
    """Answer one request and end."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    _confine()
    request = json.load(sys.stdin)
    bundles = [base64.b64decode(bundle) for bundle in request["bundles"]]
    problem, verifier = _open(base64.b64decode(request["trustedRoot"]))
    for bundle in bundles:
        answer = problem if verifier is None else _check(verifier, bundle)
        print(json.dumps(answer), file=answers, flush=True)


def _confine() -> None:
    """Give up what a check does not need: the network, files of its own, much time and much memory."""
    for limit, most in (
        (resource.RLIMIT_CPU, CPU_LIMIT_S),
        (resource.RLIMIT_AS, MEMORY_LIMIT_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # already lower
            resource.setrlimit(limit, (most, most))

    def refuse(event: str, _arguments: tuple[Any, ...]) -> None:
        if event in _NETWORK:
            raise _Refused("the check tried to reach the network")

    sys.addaudithook(refuse)


def _open(trusted_root: bytes) -> tuple[dict[str, Any], Verifier | None]:
    try:
        from sigstore.models import TrustedRoot
        from sigstore.verify import Verifier
        from sigstore_models.trustroot import v1 as trustroot
    except ImportError as error:
        message = f"signatures by identity need sigstore: install edgewright-agent[keyless] ({error})"
        return {"code": "keyless-missing", "message": message}, None
    try:
        parse_json(trusted_root, "it")  # no duplicate keys, no absurd nesting
        # Not `from_file`: there need be no place to write to.
        return {}, Verifier(trusted_root=TrustedRoot(trustroot.TrustedRoot.from_json(trusted_root)))
    except Exception as error:  # noqa: BLE001  whatever a library raises over a document of others
        message = f"the Sigstore trusted root cannot be used: {_reason(error)}"
        return {"code": "bad-trusted-root", "message": message}, None


def _check(verifier: Verifier, raw: bytes) -> dict[str, Any]:
    try:
        return _verify(verifier, raw)
    except _Refused as error:
        return {"refused": str(error)}
    except Exception as error:  # noqa: BLE001  sigstore-python raises what its libraries raise: ValueError, TypeError, …
        return {"refused": _reason(error)}


def _verify(verifier: Verifier, raw: bytes) -> dict[str, Any]:
    from sigstore.models import Bundle

    _check_shape(raw)
    signer = _Signer()
    payload_type, payload = verifier.verify_dsse(Bundle.from_json(raw), signer)
    if not signer.issuer or not signer.identity:
        raise _Refused("its certificate names nobody")
    return {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "issuer": signer.issuer,
        "identity": signer.identity,
    }


def _check_shape(raw: bytes) -> None:
    """Look at the outside with our own strict reader before a library looks inside."""
    if len(raw) > MAX_BUNDLE_BYTES:
        raise _Refused(f"it has more than {MAX_BUNDLE_BYTES} bytes")
    try:
        document = parse_json(raw, "the bundle")
    except ValueError as error:
        raise _Refused(str(error)) from None
    if not isinstance(document, dict) or document.get("mediaType") != SIGSTORE_BUNDLE:
        raise _Refused("it is not a Sigstore bundle v0.3")
    material = document.get("verificationMaterial")
    if not isinstance(material, Mapping) or "certificate" not in material:
        raise _Refused("it was signed with a bare key, not by an identity")
    entries = material.get("tlogEntries")
    if not isinstance(entries, list) or len(entries) != 1:
        raise _Refused("it does not have exactly one entry of a transparency log")
    if "dsseEnvelope" not in document:
        raise _Refused("it holds no statement (DSSE envelope)")


def _issuer(certificate: Certificate) -> str:
    """Return the OIDC issuer (Fulcio, oid-info: 1.3.6.1.4.1.57264.1.8, and before it .1.1); both must agree."""
    from cryptography.hazmat import asn1
    from cryptography.x509 import ObjectIdentifier, UnrecognizedExtension

    found = set()
    for extension in certificate.extensions:
        if not isinstance(extension.value, UnrecognizedExtension):
            continue
        if extension.oid == ObjectIdentifier("1.3.6.1.4.1.57264.1.8"):
            found.add(asn1.decode_der(str, extension.value.value))
        elif extension.oid == ObjectIdentifier("1.3.6.1.4.1.57264.1.1"):
            found.add(extension.value.value.decode())
    if len(found) != 1:
        raise _Refused(f"its certificate names {len(found)} issuers, not one")
    return _printable(found.pop())


def _identity(certificate: Certificate) -> str:
    """Return the only subject alternative name: an e-mail address, a URI, or Fulcio's user name (…57264.1.7)."""
    from cryptography import x509
    from cryptography.hazmat import asn1

    names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    if len(names) != 1:
        raise _Refused(f"its certificate has {len(names)} subject names, not one")
    name = names[0]
    if isinstance(name, (x509.RFC822Name, x509.UniformResourceIdentifier)):
        return _printable(name.value)
    if isinstance(name, x509.OtherName) and name.type_id.dotted_string == "1.3.6.1.4.1.57264.1.7":
        return _printable(asn1.decode_der(str, name.value))
    raise _Refused("its certificate's subject name is neither an e-mail address nor a URI")


def _printable(text: str) -> str:
    if not text.isprintable() or not 0 < len(text) <= _MAX_NAME:
        raise _Refused("its certificate has a name that cannot be shown")
    return text


def _reason(error: BaseException) -> str:
    """Return what an error of a library says, on one line and without the bytes it compared."""
    said = " ".join(": ".join(map(str, error.args)).split())
    return re.split(r"[:,' ]*expected ", said.replace("('", ""))[0][:300] or type(error).__name__


if __name__ == "__main__":
    main()
