"""Everything attached to a published artifact, verified as a device verifies it, and the verdict per hardware class.

>>> report = audit(reference, source, terms)                  # doctest: +SKIP
>>> [(each.hardware_class, each.accepted) for each in report.classes]     # doctest: +SKIP
[('medical-cart-cpu', True), ('raspberry-pi-4', True)]
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgewright.errors import SpecError
from edgewright.verify.reference import Reference
from edgewright.verify.statement import printable, said
from edgewright_agent.contract import (
    ANNOTATION_CLASS,
    ANNOTATION_MODEL,
    ANNOTATION_VERSION,
    ATTESTATIONS,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    PREDICATE_SIGN,
    is_name,
)
from edgewright_agent.errors import AgentError, TransportError, TrustError
from edgewright_agent.transport import Manifest, Source
from edgewright_agent.transport.document import descriptors, media_type_of, parse_manifest
from edgewright_agent.trust.bundle import Bundle, Statement, parse_bundle, verify_with_keys
from edgewright_agent.trust.findings import Findings, judge
from edgewright_agent.trust.policy import Demands, Policy, Signer, demands_of
from edgewright_agent.trust.referrers import bundles_of
from edgewright_agent.trust.sigstore import keys_of, verify_certified

_VERSION_TAG = re.compile(r"([0-9]+\.[0-9]+\.[0-9]+)(?:-[0-9a-f]{12})?")
"""Tags that promise a version (`edgewright.publish.version`)."""
_NAMES = {kind: name for name, kind in ATTESTATIONS.items()}


@dataclass(frozen=True)
class Terms:
    """Whom to believe, as a device of the fleet would.

    Attributes:
        policy: The fleet's policy; None: only what is pinned counts.
        pins: What a device would pin besides.
        trusted_root: Sigstore trusted root that certificates are checked by.
    """

    policy: Policy | None
    pins: tuple[Signer, ...] = ()
    trusted_root: bytes | None = None

    def demands(self, hardware_class: str) -> Demands:
        """Return what an artifact for a class must carry."""
        return demands_of(self.policy, pins=self.pins, hardware_class=hardware_class)

    def signer_name(self, statement: Statement) -> str:
        """Return what the policy calls a statement's signer; empty when it names nobody like that."""
        signers = (*(self.policy.signers.values() if self.policy else ()), *self.pins)
        by = statement.by
        return next((signer.name for signer in signers if by is not None and signer.made(by)), "")


@dataclass(frozen=True)
class Row:
    """One referrer: what it attests, who signed it, what it says, and what it is worth here.

    Attributes:
        attestation: `signature`, `gate-report`, `provenance`, `bom`, a predicate type, or empty when unknown.
        signer: Name in the policy, and key or identity; empty when no signature verified.
        says: The statement in words; empty when no signature verified.
        code: `ok`, `extra` (valid, and nobody asks for it), `not-allowed` (valid, by a signer who may not), or the
            reason it is refused.
        detail: That reason, in a sentence.
    """

    referrer: str
    attestation: str
    signer: str
    says: str
    code: str
    detail: str = ""


@dataclass(frozen=True)
class Audited:
    """One manifest and everything attached to it; the index of a version has no class.

    Attributes:
        refusal: Why a device of this class would not take it; None when it would.
    """

    hardware_class: str
    model: str
    model_version: str
    digest: str
    rows: tuple[Row, ...]
    refusal: AgentError | None

    @property
    def accepted(self) -> bool:
        """Whether every demand is met."""
        return self.refusal is None


@dataclass(frozen=True)
class Audit:
    """A reference, looked at: the index if it is one, and every class."""

    index: Audited | None
    classes: tuple[Audited, ...]

    @property
    def accepted(self) -> bool:
        """Whether everything looked at is accepted."""
        return all(each.accepted for each in (*self.classes, *([self.index] if self.index else [])))


def audit(reference: Reference, source: Source, terms: Terms, *, hardware_class: str | None = None) -> Audit:
    """Fetch what a reference names, bounded, and verify everything attached to it.

    Args:
        reference: An artifact, or the index of a version.
        source: Untrusted.
        terms: Whom to believe.
        hardware_class: Only this class of an index, or what an artifact must be for.

    Raises:
        SpecError: it is not an artifact of this kind, or there is none for the class.
        TrustError: (the agent's) `no-policy`.
        TransportError: the source cannot deliver.
    """
    found = _manifest(source, reference.repository, reference.reference)
    document = parse_manifest(found.body, reference.named(found.digest))
    if media_type_of(document) != OCI_INDEX:
        lane = _lane(source, reference, found, terms)
        if hardware_class not in (None, lane.hardware_class):
            raise SpecError(
                f"{reference.named(found.digest)} is for {lane.hardware_class}, not {hardware_class}"
            )
        return Audit(None, (lane,))
    lanes = []
    for entry in _entries(document, reference.named(found.digest), hardware_class):
        manifest = _manifest(source, reference.repository, str(entry["digest"]))
        lanes.append(_as_listed(entry, _lane(source, reference, manifest, terms)))
    return Audit(_index(source, reference, found, document, terms), tuple(lanes))


def _manifest(source: Source, repository: str, reference: str) -> Manifest:
    found = source.manifest(repository, reference, limit=MAX_MANIFEST_BYTES)
    if found is None:
        raise TransportError("bad-response", f"{repository}:{reference} was asked for and not sent")
    return found


def _entries(document: dict[str, Any], what: str, wanted: str | None) -> Iterator[dict[str, Any]]:
    classes = []
    chosen = []
    for entry in descriptors(document.get("manifests"), what):
        name = str((entry.get("annotations") or {}).get(ANNOTATION_CLASS, ""))
        classes.append(name)
        if wanted is None or name == wanted:
            chosen.append(entry)
    if not chosen:
        there = printable(", ".join(classes)) or "none"
        raise SpecError(f"{what} has nothing for {wanted or 'any class'}", hint=f"classes there: {there}")
    yield from chosen


def _as_listed(entry: dict[str, Any], lane: Audited) -> Audited:
    """Refuse an artifact that is for another class than the index says."""
    listed = printable(str((entry.get("annotations") or {}).get(ANNOTATION_CLASS, "")))
    if listed == lane.hardware_class:
        return lane
    return replace(lane, refusal=TrustError("wrong-class", f"the index lists it for {listed or 'no class'}"))


def _lane(source: Source, reference: Reference, found: Manifest, terms: Terms) -> Audited:
    what = reference.named(found.digest)
    notes = parse_manifest(found.body, what).get("annotations")
    named = notes if isinstance(notes, dict) else {}
    model, hardware_class = named.get(ANNOTATION_MODEL), named.get(ANNOTATION_CLASS)
    if not is_name(model) or not is_name(hardware_class):
        raise SpecError(
            f"{what} is not a model artifact: it is annotated with no {ANNOTATION_MODEL} and {ANNOTATION_CLASS}"
        )
    demands = terms.demands(str(hardware_class))
    rows, findings = _look(
        source, reference.repository, found.digest, demands, terms, str(model), str(hardware_class)
    )
    version = printable(str(named.get(ANNOTATION_VERSION, "")))
    refusal = None if findings.complete else findings.failure()
    return Audited(
        str(hardware_class),
        str(model),
        version,
        found.digest,
        tuple(rows),
        refusal or _misplaced(reference, str(model), version),
    )


def _index(
    source: Source, reference: Reference, found: Manifest, document: dict[str, Any], terms: Terms
) -> Audited:
    """Look at the index itself: it needs a signature by whoever may sign artifacts of any class it lists."""
    named = document.get("annotations") if isinstance(document.get("annotations"), dict) else {}
    classes = {
        str((entry.get("annotations") or {}).get(ANNOTATION_CLASS, ""))
        for entry in descriptors(document.get("manifests"), "the index")
    }
    signers = {
        signer: None
        for name in sorted(classes)
        for signer in terms.demands(name).signers.get(PREDICATE_SIGN, ())
    }
    demands = Demands({PREDICATE_SIGN: tuple(signers)}, terms.pins)
    model = printable(str((named or {}).get(ANNOTATION_MODEL, "")))
    rows, findings = _look(source, reference.repository, found.digest, demands, terms, model, "every class")
    version = printable(str((named or {}).get(ANNOTATION_VERSION, "")))
    refusal = None if findings.complete else findings.failure()
    misplaced = _misplaced(reference, model, version)
    return Audited("", model, version, found.digest, tuple(rows), refusal or misplaced)


def _misplaced(reference: Reference, model: str, version: str) -> TrustError | None:
    """Return why a genuine artifact is not what was asked for; None if it is.

    Whoever can write to a registry can put another model, or last year's version, under a name or tag. Devices learn
    digests from signed metadata; people who name a tag mean what it says.
    """
    if reference.repository.rpartition("/")[2] != model:
        return TrustError(
            "wrong-model", f"it is {model or 'no model'}, in the repository {reference.repository}"
        )
    tag = _VERSION_TAG.fullmatch(reference.reference)
    if tag is not None and tag[1] != version:
        return TrustError("wrong-version", f"it is {version or 'no version'}, under the tag {tag[0]}")
    return None


def _look(
    source: Source,
    repository: str,
    digest: str,
    demands: Demands,
    terms: Terms,
    model: str,
    hardware_class: str,
) -> tuple[list[Row], Findings]:
    findings = Findings(demands, digest, model, hardware_class)
    rows: list[Row] = []
    keys = keys_of({*demands.everybody(), *(terms.policy.signers.values() if terms.policy else ())})
    certified: list[tuple[str, Bundle]] = []
    for referrer, got in bundles_of(source, repository, digest, wanted=demands.signers):
        try:
            if isinstance(got, TransportError):
                raise got
            bundle = parse_bundle(got)
            if bundle.certified:
                certified.append((referrer, bundle))
                continue
            statement = verify_with_keys(bundle, keys, subject_digest=digest)
        except AgentError as error:
            findings.refuse(error)
            rows.append(_refused(referrer, error))
            continue
        rows.append(_row(referrer, statement, findings, terms))
    results = _certified([bundle for _, bundle in certified], terms, digest)
    for (referrer, _bundle), result in zip(certified, results, strict=True):
        if isinstance(result, TrustError):
            if result.code != "bad-signature":
                findings.obstacle = result
            findings.refuse(result)
            rows.append(_refused(referrer, result))
        else:
            rows.append(_row(referrer, result, findings, terms))
    order = [*ATTESTATIONS, ""]
    rows.sort(
        key=lambda row: (
            row.code not in ("ok",),
            order.index(row.attestation) if row.attestation in order else 9,
        )
    )
    return rows, findings


def _certified(bundles: Sequence[Bundle], terms: Terms, digest: str) -> list[Statement | TrustError]:
    if not bundles:
        return []
    if terms.trusted_root is None:
        why = "it was signed with a certificate, and there is no trusted root to check it by"
        return [TrustError("bad-signature", f"a signature bundle is refused: {why}") for _ in bundles]
    return verify_certified(
        [bundle.data for bundle in bundles], trusted_root=terms.trusted_root, subject_digest=digest
    )


def _row(referrer: str, statement: Statement, findings: Findings, terms: Terms) -> Row:
    kind, by = statement.predicate_type, statement.by
    attestation = _NAMES.get(kind, printable(kind))
    findings.add(statement)
    refusal = judge(
        statement,
        digest=findings.digest,
        model=findings.model,
        hardware_class=findings.hardware_class,
        builders=findings.demands.builders,
    )
    code, detail = "ok", ""
    if refusal is not None:
        code, detail = refusal.code, str(refusal)
    elif kind not in findings.demands.signers:
        code = "extra"
    elif by is None or not findings.demands.accept(kind, by):
        code, detail = "not-allowed", f"{by} may not sign the {attestation}"
    name = terms.signer_name(statement)
    signer = f"{name}: {by}" if name else str(by)
    return Row(
        referrer,
        attestation,
        printable(signer),
        said(attestation, statement.predicate),
        code,
        printable(detail),
    )


def _refused(referrer: str, error: AgentError) -> Row:
    return Row(referrer, "", "", "", error.code, printable(str(error), 300))
