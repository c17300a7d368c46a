"""Who signed an artifact, and that its gates passed: Sigstore bundles v0.3 in key mode, checked offline.

A bundle holds a DSSE envelope around an in-toto statement; the statement names the artifact by digest. Only
`cryptography` is needed. What real `cosign sign --key` writes is accepted.

>>> keys = [load_key(Path("signing.pub").read_bytes())]                                      # doctest: +SKIP
>>> report = verify_artifact(source, "digit-reader", digest, keys,
...                          model="digit-reader", hardware_class="raspberry-pi-4")          # doctest: +SKIP
>>> report["verdict"]                                                                        # doctest: +SKIP
'pass'
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgewright_agent.contract import (
    INTOTO_PAYLOAD,
    INTOTO_STATEMENT,
    MAX_BUNDLE_BYTES,
    MAX_REFERRERS,
    PREDICATE_GATE_REPORT,
    PREDICATE_SIGN,
    SIGSTORE_BUNDLE,
    dsse_pae,
    is_digest,
)
from edgewright_agent.errors import ConfigError, TransportError, TrustError
from edgewright_agent.transport import Source
from edgewright_agent.transport.document import only_layer, parse_json, parse_manifest, read_layer

# Failures that say nothing about one referrer but all about the way to the source: they end the search.
_OUTAGES = ("network", "busy", "too-slow")
_MAX_REASONS = 4


@dataclass(frozen=True)
class Statement:
    """A verified in-toto statement about one artifact (in-toto Attestation v1)."""

    predicate_type: str
    predicate: Mapping[str, Any]


def load_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Load a public key that may sign artifacts: ECDSA P-256 in PEM (SubjectPublicKeyInfo), as cosign's.

    Raises:
        ConfigError: `bad-key`.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError("bad-key", f"the signing key is not a PEM public key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError("bad-key", "the signing key is not an ECDSA P-256 key")
    return key


def verify_bundle(
    bundle: bytes, keys: Sequence[ec.EllipticCurvePublicKey], *, subject_digest: str
) -> Statement:
    """Check a bundle's signature and that its statement is about exactly one artifact.

    The key hint inside is ignored: it is not signed, and every trusted key is tried anyway.

    Args:
        bundle: Sigstore bundle v0.3, JSON.
        keys: Trusted public keys; one of them must have signed.
        subject_digest: `sha256:…` of the artifact's manifest.

    Raises:
        TrustError: `bad-signature`, saying what is wrong.
    """
    if len(bundle) > MAX_BUNDLE_BYTES:
        raise _bad(f"it has more than {MAX_BUNDLE_BYTES} bytes")
    document = _parse(bundle, "the bundle")
    if document.get("mediaType") != SIGSTORE_BUNDLE:
        raise _bad(f"its media type is {str(document.get('mediaType'))[:80]!r}, not Sigstore bundle v0.3")
    _check_key_mode(_object(document, "verificationMaterial"))
    envelope = _object(document, "dsseEnvelope")
    if envelope.get("payloadType") != INTOTO_PAYLOAD:
        raise _bad("its payload is not an in-toto statement")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise _bad("it does not have exactly one signature")
    payload = _decode(envelope, "payload")
    _check_signature(keys, _decode(signatures[0], "sig"), dsse_pae(INTOTO_PAYLOAD, payload))
    return _read_statement(payload, subject_digest)


def verify_artifact(
    source: Source,
    repository: str,
    digest: str,
    keys: Sequence[ec.EllipticCurvePublicKey],
    *,
    model: str,
    hardware_class: str,
) -> Mapping[str, Any]:
    """Return the passing gate report of an artifact that one of `keys` signed for this model and class.

    Looks through the artifact's referrers. A malformed or foreign one is stepped over: it hides no good one.

    Args:
        source: Untrusted.
        repository: Where the artifact is.
        digest: Its manifest.
        keys: Trusted public keys, from `load_key`.
        model: The model it is meant to be.
        hardware_class: This device's class.

    Raises:
        TrustError: `unsigned`, `bad-signature` (there are bundles, none valid), `no-gate-report`,
            `gate-failed`, `wrong-class`, `wrong-model`.
        TransportError: The source cannot deliver.
    """
    findings = _Findings(digest, model, hardware_class)
    for descriptor in source.referrers(repository, digest)[:MAX_REFERRERS]:
        try:
            bundle = _fetch_bundle(source, repository, str(descriptor["digest"]), digest)
            if bundle is not None:
                findings.add(verify_bundle(bundle, keys, subject_digest=digest))
        except TrustError as error:
            findings.bad.append(str(error))
        except TransportError as error:
            if error.code in _OUTAGES:
                raise
            findings.unread.append(error)
        if findings.signed and findings.report is not None:
            return findings.report
    raise findings.failure()


@dataclass
class _Findings:
    """What the referrers of one artifact came to."""

    digest: str
    model: str
    hardware_class: str
    signed: bool = False
    report: Mapping[str, Any] | None = None
    refused: TrustError | None = None  # why a signed gate report does not do; the first one
    bad: list[str] = field(default_factory=list)
    unread: list[TransportError] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def add(self, statement: Statement) -> None:
        if statement.predicate_type == PREDICATE_SIGN:
            self.signed = True
        elif statement.predicate_type == PREDICATE_GATE_REPORT:
            refusal = self._judge(statement.predicate)
            if refusal is None:
                self.report = statement.predicate
            else:
                self.refused = self.refused or refusal
        else:
            self.others.append(statement.predicate_type)

    def _judge(self, report: Mapping[str, Any]) -> TrustError | None:
        if report.get("version") != 1:
            return TrustError(
                "no-gate-report", f"the gate report has version {report.get('version')!r}, not 1"
            )
        if report.get("artifact") != self.digest:
            return TrustError("no-gate-report", f"the gate report is about {report.get('artifact')!r}")
        if report.get("model") != self.model:
            return TrustError("wrong-model", f"the gate report is about model {report.get('model')!r}")
        if report.get("hardwareClass") != self.hardware_class:
            return TrustError("wrong-class", f"the gate report is for {report.get('hardwareClass')!r}")
        if (failed := _failed_checks(report)) is not None:
            return TrustError("gate-failed", f"the gate report says: {failed}")
        return None

    def failure(self) -> TrustError | TransportError:
        """Return the most telling reason; what could not be read counts before what was not found."""
        what = f"{self.model} for {self.hardware_class} ({self.digest})"
        denied = next((error for error in self.unread if error.code == "denied"), None)
        if denied is not None:
            return denied
        seen = [*self.bad, *map(str, self.unread), *(f"a statement of type {kind}" for kind in self.others)]
        notes = f"; looked at: {'; '.join(seen[:_MAX_REASONS])}" if seen else ""
        if not self.signed:
            code = (
                "bad-signature" if self.bad and self.report is None and self.refused is None else "unsigned"
            )
            return TrustError(code, f"{what} has no valid signature of a trusted key{notes}")
        if self.refused is not None:
            return TrustError(self.refused.code, f"{what}: {self.refused}{notes}")
        return TrustError("no-gate-report", f"{what} is signed, but has no valid gate report{notes}")


def _failed_checks(report: Mapping[str, Any]) -> str | None:
    """Return what does not pass, or None; a verdict that its own checks contradict is no pass."""
    checks = report.get("checks")
    if not isinstance(checks, list) or not checks or not all(isinstance(check, dict) for check in checks):
        return "no checks"
    failed = [str(check.get("name"))[:40] for check in checks if check.get("verdict") != "pass"]
    if failed:
        return f"failed: {', '.join(failed[:8])}"
    return None if report.get("verdict") == "pass" else f"verdict {str(report.get('verdict'))[:40]!r}"


def _fetch_bundle(source: Source, repository: str, referrer: str, subject: str) -> bytes | None:
    """Return the bundle a referrer carries, or None when it carries something else."""
    manifest = source.manifest(repository, referrer)
    if manifest is None:
        return None
    document = parse_manifest(manifest.body, f"referrer {referrer}")
    named = document.get("subject")
    if not isinstance(named, dict) or named.get("digest") != subject:
        return None  # listed by mistake or malice; its statement would be refused as well
    layers = document.get("layers")
    # artifactType says nothing: cosign's own entries carry that of an empty config. The layer decides.
    if not isinstance(layers, list) or not any(
        isinstance(layer, dict) and layer.get("mediaType") == SIGSTORE_BUNDLE for layer in layers
    ):
        return None
    return read_layer(
        source, repository, only_layer(manifest, f"referrer {referrer}"), limit=MAX_BUNDLE_BYTES
    )


def _check_key_mode(material: Mapping[str, Any]) -> None:
    if "certificate" in material or "x509CertificateChain" in material:
        raise _bad("it was signed with a certificate (keyless), but this device trusts keys only")
    if not isinstance(material.get("publicKey"), dict):
        raise _bad("it names no public key")


def _check_signature(keys: Sequence[ec.EllipticCurvePublicKey], signature: bytes, signed: bytes) -> None:
    for key in keys:
        try:
            key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        return
    raise _bad("none of the trusted keys made its signature")


def _read_statement(payload: bytes, subject_digest: str) -> Statement:
    statement = _parse(payload, "the statement")
    if statement.get("_type") != INTOTO_STATEMENT:
        raise _bad("its statement is not an in-toto Statement v1")
    expected = [{"sha256": subject_digest.removeprefix("sha256:")}]
    subjects = statement.get("subject")
    named = (
        [subject.get("digest") if isinstance(subject, dict) else None for subject in subjects]
        if isinstance(subjects, list)
        else None
    )
    if not is_digest(subject_digest) or named != expected:
        raise _bad(f"its statement is about another artifact than {subject_digest}")
    kind, predicate = statement.get("predicateType"), statement.get("predicate")
    # cosign leaves an empty predicate out or writes null.
    predicate = {} if predicate is None else predicate
    if not isinstance(kind, str) or not isinstance(predicate, dict):
        raise _bad("its statement says nothing")
    return Statement(kind[:255], predicate)


def _parse(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = parse_json(data, what)
    except ValueError as error:
        raise _bad(str(error)) from None
    if not isinstance(document, dict):
        raise _bad(f"{what} is not a JSON object")
    return document


def _object(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise _bad(f"it has no {key}")
    return value


def _decode(fields: Mapping[str, Any], key: str) -> bytes:
    try:
        return base64.b64decode(fields[key], validate=True)
    except (KeyError, TypeError, ValueError):
        raise _bad(f"its {key} is not base64") from None


def _bad(reason: str) -> TrustError:
    return TrustError("bad-signature", f"a signature bundle is refused: {reason}")
