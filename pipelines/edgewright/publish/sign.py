"""Stage `signed`: two statements about one artifact, and the place where a gate is enforced.

Checks on screen can be skipped; this step cannot: without a passing gate report for exactly this digest it
refuses before it so much as looks for the key.

>>> run(job)     # doctest: +SKIP
Traceback (most recent call last):
edgewright.errors.GateError: digit-reader on raspberry-pi-4 may not be signed: latency-p95 31 ms, limit 20 ms
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewright.errors import GateError
from edgewright.plan.job import Job, Result
from edgewright.publish.durable import write_file
from edgewright.publish.package import MANIFEST
from edgewright.publish.statement import statement
from edgewright.trust.signer import open_signer
from edgewright_agent.contract import (
    ANNOTATION_CLASS,
    ANNOTATION_MODEL,
    ANNOTATION_VERSION,
    PREDICATE_GATE_REPORT,
    PREDICATE_SIGN,
    digest_of,
)

SIGN_BUNDLE = "sign.sigstore.json"
GATE_BUNDLE = "gate.sigstore.json"
REPORT = "gate-report.json"


def run(job: Job) -> Result:
    """Sign the artifact and its gate report.

    Raises:
        GateError: no report, a failing one, or one about something else.
        TrustError: the key is missing, locked, of another kind, or not the one devices pin; keyless: nobody to sign as,
            or not the identity that devices pin.
        NetworkError: keyless: a service of the Sigstore instance cannot be reached.
    """
    manifest = _read(job, f"packaged/{MANIFEST}", "artifact")
    path = job.inputs.get(f"gated/{REPORT}")
    report = json.loads(_read(job, f"gated/{REPORT}", "gate report"))
    require_pass(report, manifest, job, path)
    signer = open_signer(job.spec["signing"], job.root)
    digest = digest_of(manifest)
    for name, predicate_type, predicate in (
        (SIGN_BUNDLE, PREDICATE_SIGN, {}),
        (GATE_BUNDLE, PREDICATE_GATE_REPORT, report),
    ):
        payload = statement(job.model, digest, predicate_type, predicate)
        write_file(job.out / name, signer.sign(payload))
    return Result(
        facts={
            "digest": digest,
            **signer.facts(),
            "statements": [PREDICATE_SIGN, PREDICATE_GATE_REPORT],
        }
    )


def require_pass(report: Mapping[str, Any], manifest: bytes, job: Job, path: Path | None) -> None:
    """Refuse unless `report` says pass about exactly these manifest bytes.

    Raises:
        GateError: names the checks that failed, or what the report is really about.
    """
    lane = f"{job.model} on {job.hardware_class}"
    hint = f"read the gate report: {path}"
    digest = digest_of(manifest)
    if report.get("artifact") != digest:
        raise GateError(
            f"{lane} may not be signed: its gate report is about {report.get('artifact')}, not {digest}",
            hint="edgewright run",
        )
    annotations = json.loads(manifest).get("annotations", {})
    for word, annotation, expected in (
        ("model", ANNOTATION_MODEL, job.model),
        ("hardwareClass", ANNOTATION_CLASS, job.hardware_class),
        ("modelVersion", ANNOTATION_VERSION, annotations.get(ANNOTATION_VERSION)),
    ):
        if not report.get(word) == annotations.get(annotation) == expected or expected is None:
            raise GateError(
                f"{lane} may not be signed: {word} is {report.get(word)!r} in the gate report and "
                f"{annotations.get(annotation)!r} in the artifact",
                hint=hint,
            )
    checks = report.get("checks") or []
    failed = [check for check in checks if check.get("verdict") != "pass"]
    if report.get("verdict") != "pass" or failed or not checks:
        reasons = "; ".join(map(_reason, failed)) or "its gate report holds no passing verdict"
        raise GateError(f"{lane} may not be signed: {reasons}", hint=hint)


def _reason(check: Mapping[str, Any]) -> str:
    unit = check.get("unit", "")
    word = "at least" if check.get("direction") == "min" else "limit"
    figures = f"{check.get('measured')} {unit}, {word} {check.get('limit')} {unit}".replace(" ratio", "")
    return f"{check.get('name')} {figures} ({check.get('source')})"


def _read(job: Job, name: str, what: str) -> bytes:
    path = job.inputs.get(name)
    if path is None:
        raise GateError(f"{job.model} on {job.hardware_class} has no {what} to sign", hint="edgewright run")
    return path.read_bytes()
