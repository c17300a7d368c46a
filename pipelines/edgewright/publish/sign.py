"""Stage `signed`: the statements about one artifact, and the place where a gate is enforced.

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
from edgewright.publish.attestations import attestations
from edgewright.publish.durable import write_file
from edgewright.publish.package import MANIFEST
from edgewright.publish.statement import statement
from edgewright.trust.signer import open_signer
from edgewright_agent.contract import (
    ANNOTATION_CLASS,
    ANNOTATION_MODEL,
    ANNOTATION_VERSION,
    PREDICATE_PROVENANCE,
    digest_of,
)

REPORT = "gate-report.json"


def run(job: Job) -> Result:
    """Sign the artifact, its gate report, its provenance and its bill of materials.

    Raises:
        GateError: no report, a failing one, or one about something else.
        TrustError: the key is missing, locked, of another kind, or not the one devices pin; keyless: nobody to sign as,
            or not the identity that devices pin; or a statement is longer than devices read.
        NetworkError: keyless: a service of the Sigstore instance cannot be reached.
    """
    manifest = _read(job, f"packaged/{MANIFEST}", "artifact")
    path = job.inputs.get(f"gated/{REPORT}")
    report = _read(job, f"gated/{REPORT}", "gate report")
    require_pass(json.loads(report), manifest, job, path)
    signer = open_signer(job.spec["signing"], job.root)
    digest = digest_of(manifest)
    said = attestations(job, manifest, report)
    # All are signed before one is written: half of them would be published as little as none.
    bundles = {
        each.file: signer.sign(statement(job.model, digest, each.predicate_type, each.predicate))
        for each in said
    }
    for name, bundle in bundles.items():
        write_file(job.out / name, bundle)
    source = next(each.predicate for each in said if each.predicate_type == PREDICATE_PROVENANCE)
    parameters = source["buildDefinition"]["externalParameters"]
    if parameters["worktree"] == "modified":
        job.progress(
            f"{job.model} on {job.hardware_class}: the provenance says that files differ from the commit"
        )
    return Result(
        facts={
            "digest": digest,
            **signer.facts(),
            "statements": [each.predicate_type for each in said],
            "commit": parameters.get("commit"),
            "worktree": parameters["worktree"],
            "builder": source["runDetails"]["builder"]["id"],
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
