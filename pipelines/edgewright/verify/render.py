"""An audit as people and machines read it: a table per class, the verdict, and the same with the ecosystem's own tools.

>>> print(render(report, reference, terms))       # doctest: +SKIP
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from edgewright.plan.render import table
from edgewright.verify.audit import Audit, Audited, Row, Terms
from edgewright.verify.reference import Reference
from edgewright_agent.contract import PREDICATE_GATE_REPORT
from edgewright_agent.trust.policy import KeySigner, Signer

_TYPES = {"gate-report": PREDICATE_GATE_REPORT, "provenance": "slsaprovenance1", "bom": "cyclonedx"}
"""Attestation → what `cosign verify-attestation --type` calls it."""
_RESULTS = {"ok": "ok", "extra": "valid, not demanded", "not-allowed": "refused: this signer may not"}


def render(
    report: Audit, reference: Reference, terms: Terms, *, key_files: Mapping[str, str] | None = None
) -> str:
    """Return the whole audit for a terminal; `key_files` says where the public keys of signers are, by name."""
    parts = []
    if report.index is not None:
        index = report.index
        signed = next((row.signer for row in index.rows if row.code == "ok"), "")
        verdict = f"signed by {signed}" if index.accepted else f"refused, {index.refusal}"
        parts.append(f"{index.model} {index.model_version}  {index.digest}\nindex: {verdict}")
    parts += [_lane(each) for each in report.classes]
    refused = [each for each in report.classes if not each.accepted]
    total = len(report.classes)
    parts.append(
        f"{total - len(refused)} of {total} class{'' if total == 1 else 'es'} would be accepted by devices"
        " that follow this policy."
    )
    commands = cosign_commands(reference, report.classes[0], terms, key_files=key_files)
    if commands and not reference.url.startswith("oci:"):
        parts.append("The same with cosign:\n" + "\n".join(f"  {command}" for command in commands))
    return "\n\n".join(parts)


def to_json(report: Audit, reference: Reference) -> dict[str, Any]:
    """Return the whole audit as JSON values."""
    return {
        "accepted": report.accepted,
        "repository": reference.repository,
        "index": _audited_json(report.index) if report.index else None,
        "classes": [_audited_json(each) for each in report.classes],
    }


def cosign_commands(
    reference: Reference, lane: Audited, terms: Terms, *, key_files: Mapping[str, str] | None = None
) -> list[str]:
    """Return what checks the accepted attestations of a lane with cosign alone."""
    signers = {
        signer.name: signer
        for signer in (*(terms.policy.signers.values() if terms.policy else ()), *terms.pins)
    }
    commands = []
    for row in lane.rows:
        signer = signers.get(row.signer.partition(":")[0])
        if row.code != "ok" or signer is None:
            continue
        verb = (
            ["verify"]
            if row.attestation == "signature"
            else ["verify-attestation", "--type", _TYPES[row.attestation]]
        )
        plain = ["--allow-http-registry"] if reference.url.startswith("http://") else []
        commands.append(
            shlex.join(["cosign", *verb, *_by(signer, key_files or {}), *plain, reference.named(lane.digest)])
        )
    return commands


def _by(signer: Signer, key_files: Mapping[str, str]) -> list[str]:
    if isinstance(signer, KeySigner):
        # Key mode uses no transparency log; without a file it is the reader's own copy of that key.
        return ["--key", key_files.get(signer.name, f"{signer.name}.pub"), "--insecure-ignore-tlog=true"]
    return [
        "--certificate-oidc-issuer",
        signer.issuer,
        *(
            ["--certificate-identity", signer.identity]
            if signer.identity is not None
            # cosign searches, devices match the whole.
            else ["--certificate-identity-regexp", f"^(?:{signer.pattern})$"]
        ),
    ]


def _lane(each: Audited) -> str:
    verdict = "accepted" if each.accepted else "refused"
    head = f"{each.model} {each.model_version} for {each.hardware_class}  {each.digest}\n{verdict}"
    if each.refusal is not None:
        head += f", {each.refusal.code}: {each.refusal}"
    if not each.rows:
        return f"{head}\n\nnothing is attached to it"
    rows = [
        (row.attestation or "?", row.signer or "nobody known", _result(row), row.says or row.detail)
        for row in each.rows
    ]
    return f"{head}\n\n" + table(("attestation", "signed by", "result", "says"), rows)


def _result(row: Row) -> str:
    return _RESULTS.get(row.code, f"refused: {row.code}")


def _audited_json(each: Audited) -> dict[str, Any]:
    return {
        **({"hardwareClass": each.hardware_class} if each.hardware_class else {}),
        "model": each.model,
        "modelVersion": each.model_version,
        "digest": each.digest,
        "accepted": each.accepted,
        **({"code": each.refusal.code, "reason": str(each.refusal)} if each.refusal is not None else {}),
        "attestations": [
            {
                "referrer": row.referrer,
                "attestation": row.attestation,
                "signer": row.signer,
                "says": row.says,
                "result": row.code,
                **({"detail": row.detail} if row.detail else {}),
            }
            for row in each.rows
        ],
    }
