"""Who signed an artifact, that its gates passed, and what else a policy demands, from the bundles that refer to it.

Every demanded attestation must be there, about exactly this manifest, by a signer that may say so. Bundles of bare keys
are checked in this process; those with a certificate all at once in one child (`trust.keyless`), and only when keys
leave a demand open.

>>> demands = demands_of(policy, pins=pins, hardware_class="raspberry-pi-4")                 # doctest: +SKIP
>>> report = verify_artifact(source, "digit-reader", digest, demands,
...                          model="digit-reader", hardware_class="raspberry-pi-4")          # doctest: +SKIP
>>> report["verdict"]                                                                        # doctest: +SKIP
'pass'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from edgewright_agent.contract import INTOTO_PAYLOAD, PREDICATE_GATE_REPORT
from edgewright_agent.errors import AgentError, BrokenAnswerError, TransportError, TrustError
from edgewright_agent.transport import Source
from edgewright_agent.trust.bundle import (
    Statement,
    fingerprint,
    load_key,
    parse_bundle,
    read_statement,
    verify_bundle,
    verify_with_keys,
)
from edgewright_agent.trust.findings import Findings
from edgewright_agent.trust.policy import ByIdentity, Demands, KeySigner, Signer
from edgewright_agent.trust.referrers import bundles_of

__all__ = ["Statement", "key_signer", "load_key", "verify_artifact", "verify_bundle", "verify_certified"]


def verify_artifact(
    source: Source,
    repository: str,
    digest: str,
    demands: Demands,
    *,
    model: str,
    hardware_class: str,
    trusted_root: bytes | None = None,
) -> Mapping[str, Any]:
    """Return the passing gate report of an artifact that carries every demanded attestation.

    Looks through the artifact's referrers. A malformed or foreign one is stepped over: it hides no good one.

    Args:
        source: Untrusted.
        repository: Where the artifact is.
        digest: Its manifest.
        demands: What it must carry, and by whom.
        model: The model it is meant to be.
        hardware_class: This device's class.
        trusted_root: The Sigstore trusted root that `targets` signed; without it no certificate is believed.

    Raises:
        TrustError: `unsigned`, `bad-signature` (there are bundles, none valid), `no-gate-report`, `gate-failed`,
            `no-provenance`, `wrong-builder`, `no-bom`, `wrong-class`, `wrong-model`, `bad-policy`; or what keeps
            certificates from being checked at all.
        TransportError: The source cannot deliver.
    """
    findings = Findings(demands, digest, model, hardware_class)
    keys = keys_of(demands.everybody())
    certified: list[bytes] = []
    broken: BrokenAnswerError | None = None
    for _referrer, found in bundles_of(source, repository, digest, wanted=demands.signers):
        try:
            if isinstance(found, TransportError):
                raise found
            bundle = parse_bundle(found)
            if bundle.certified:
                certified.append(bundle.data)
            else:
                findings.add(verify_with_keys(bundle, keys, subject_digest=digest))
        except AgentError as error:
            findings.refuse(error)
            broken = error if isinstance(error, BrokenAnswerError) else broken
        if findings.complete:
            return findings.accepted[PREDICATE_GATE_REPORT].predicate
    if certified:
        _add_certified(findings, certified, demands, trusted_root)
    if findings.complete:
        return findings.accepted[PREDICATE_GATE_REPORT].predicate
    # What is missing may be in what did not arrive whole: not yet a reason to call the artifact unsigned.
    raise broken or findings.failure()


def verify_certified(
    bundles: Sequence[bytes], *, trusted_root: bytes, subject_digest: str
) -> list[Statement | TrustError]:
    """Return the statement of every bundle that has a certificate, or why it is refused, in the same order.

    Whose identity counts is not decided here.
    """
    # Imported when there is one to check: a device in key mode need not carry what this takes.
    from edgewright_agent.trust.keyless import verify_bundles

    results: list[Statement | TrustError] = []
    for verified in verify_bundles(bundles, trusted_root=trusted_root):
        if isinstance(verified, TrustError):
            results.append(verified)
            continue
        try:
            if verified.payload_type != INTOTO_PAYLOAD:
                raise TrustError(
                    "bad-signature",
                    "a signature bundle is refused: its payload is not an in-toto statement",
                )
            by = ByIdentity(verified.issuer, verified.identity)
            results.append(read_statement(verified.payload, subject_digest=subject_digest, by=by))
        except TrustError as error:
            results.append(error)
    return results


def key_signer(name: str, pem: bytes) -> KeySigner:
    """Return a signer by its public key.

    Raises:
        ConfigError: `bad-key`.
    """
    return KeySigner(name, pem, fingerprint(load_key(pem, f"the signing key {name}")))


def keys_of(signers: Iterable[Signer]) -> list[ec.EllipticCurvePublicKey]:
    """Return the public keys among `signers`."""
    return [load_key(signer.pem) for signer in signers if isinstance(signer, KeySigner)]


def _add_certified(
    findings: Findings, bundles: Sequence[bytes], demands: Demands, trusted_root: bytes | None
) -> None:
    if not demands.takes_certificates():
        why = "it was signed with a certificate (keyless), but only keys are trusted here"
    elif trusted_root is None:
        why = "it was signed with a certificate, and the fleet publishes no trusted root to check it by"
    else:
        for result in verify_certified(bundles, trusted_root=trusted_root, subject_digest=findings.digest):
            if not isinstance(result, TrustError):
                findings.add(result)
            elif result.code == "bad-signature":
                findings.refuse(result)
            else:  # nothing about this bundle, but that none can be checked here
                findings.obstacle = result
        return
    for _ in bundles:
        findings.refuse(TrustError("bad-signature", f"a signature bundle is refused: {why}"))
