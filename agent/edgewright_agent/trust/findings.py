"""What the statements about one artifact come to: which demands they meet, and the most telling reason where not.

>>> findings = Findings(demands, digest, "digit-reader", "raspberry-pi-4")     # doctest: +SKIP
>>> findings.add(statement)                                                    # doctest: +SKIP
>>> findings.complete                                                          # doctest: +SKIP
False

`judge` says what a single statement is worth, for devices and for `edgewright verify` alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgewright_agent.contract import (
    ATTESTATIONS,
    BOM_CLASS,
    BOM_MODEL,
    BUILD_TYPE,
    PREDICATE_BOM,
    PREDICATE_GATE_REPORT,
    PREDICATE_PROVENANCE,
    PREDICATE_SIGN,
)
from edgewright_agent.errors import AgentError, TransportError, TrustError
from edgewright_agent.trust.bundle import Statement
from edgewright_agent.trust.policy import Demands

_MAX_REASONS = 4
_NAMES = {kind: name for name, kind in ATTESTATIONS.items()}
_MISSING = {
    PREDICATE_SIGN: ("unsigned", "has no valid signature of a trusted key or identity"),
    PREDICATE_GATE_REPORT: ("no-gate-report", "is signed, but has no valid gate report"),
    PREDICATE_PROVENANCE: ("no-provenance", "has no valid provenance, which the policy demands"),
    PREDICATE_BOM: ("no-bom", "has no valid bill of materials, which the policy demands"),
}
"""In this order: the first demand that is not met is the one that is told."""


def judge(
    statement: Statement, *, digest: str, model: str, hardware_class: str, builders: frozenset[str]
) -> TrustError | None:
    """Return why a statement, validly signed and about `digest`, does not do for this model and class; None if it does.

    Args:
        statement: Verified, its subject is `digest`.
        digest: The artifact's manifest.
        model: The model it is meant to be.
        hardware_class: The class it is meant for.
        builders: What provenance must name as its builder; empty: any.
    """
    said = statement.predicate
    if statement.predicate_type == PREDICATE_GATE_REPORT:
        if said.get("version") != 1:
            return TrustError(
                "no-gate-report", f"the gate report has version {_shown(said.get('version'))}, not 1"
            )
        if said.get("artifact") != digest:
            return TrustError("no-gate-report", f"the gate report is about {_shown(said.get('artifact'))}")
        if (wrong := _lane(said, "the gate report", model, hardware_class)) is not None:
            return wrong
        if (failed := _failed_checks(said)) is not None:
            return TrustError("gate-failed", f"the gate report says: {failed}")
    if statement.predicate_type == PREDICATE_PROVENANCE:
        return _judge_provenance(said, model, hardware_class, builders)
    if statement.predicate_type == PREDICATE_BOM:
        return _judge_bom(said, model, hardware_class)
    return None


@dataclass
class Findings:
    """What the referrers of one artifact came to.

    Attributes:
        accepted: Predicate type → the first statement that meets the demand.
        obstacle: Why certificates could not be checked at all.
    """

    demands: Demands
    digest: str
    model: str
    hardware_class: str
    accepted: dict[str, Statement] = field(default_factory=dict)
    obstacle: TrustError | None = None
    _refused: dict[str, TrustError] = field(
        default_factory=dict
    )  # a signed statement that does not do; the first
    _bad: list[AgentError] = field(default_factory=list)
    _unread: list[TransportError] = field(default_factory=list)
    _others: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every demand is met."""
        return all(kind in self.accepted for kind in self.demands.signers)

    def add(self, statement: Statement) -> None:
        """Take a statement into account that is validly signed and about this artifact."""
        kind = statement.predicate_type
        if kind not in self.demands.signers:
            self._others.append(f"a statement of type {_shown(kind)}")
        elif statement.by is None or not self.demands.accept(kind, statement.by):
            self._others.append(f"a {_NAMES[kind]} by {statement.by}, who may not make one for this device")
        else:
            refusal = judge(
                statement,
                digest=self.digest,
                model=self.model,
                hardware_class=self.hardware_class,
                builders=self.demands.builders,
            )
            if refusal is None:
                self.accepted.setdefault(kind, statement)
            else:
                self._refused.setdefault(kind, refusal)

    def refuse(self, error: AgentError) -> None:
        """Note a referrer that cannot be read or does not verify."""
        if isinstance(error, TransportError):
            self._unread.append(error)
        else:
            self._bad.append(error)

    def failure(self) -> AgentError:
        """Return the most telling reason; what could not be read counts before what was not found."""
        what = f"{self.model} for {self.hardware_class} ({self.digest})"
        denied = next((error for error in self._unread if error.code == "denied"), None)
        if denied is not None:
            return denied
        if self.obstacle is not None:
            return self.obstacle
        kind = next(kind for kind in _MISSING if kind in self.demands.signers and kind not in self.accepted)
        seen = list(dict.fromkeys([*map(str, self._bad), *map(str, self._unread), *self._others]))
        notes = f"; looked at: {'; '.join(seen[:_MAX_REASONS])}" if seen else ""
        if (refused := self._refused.get(kind)) is not None:
            return TrustError(refused.code, f"{what}: {refused}{notes}")
        code, sentence = _MISSING[kind]
        if not self.demands.signers[kind]:
            nobody = f"the policy's demands leave nobody who may sign the {_NAMES[kind]}"
            return TrustError("bad-policy", f"{what}: {nobody}")
        if kind == PREDICATE_SIGN and self._bad and not self.accepted and not self._refused:
            code = "bad-signature"
        return TrustError(code, f"{what} {sentence}{notes}")


def _judge_provenance(
    said: Mapping[str, Any], model: str, hardware_class: str, builders: frozenset[str]
) -> TrustError | None:
    definition, details = said.get("buildDefinition"), said.get("runDetails")
    if not isinstance(definition, dict) or not isinstance(details, dict):
        return TrustError("no-provenance", "the provenance has no buildDefinition and runDetails (SLSA v1)")
    parameters = definition.get("externalParameters")
    # What another builder calls its parameters is not ours to read; it is bound by the digest all the same.
    if definition.get("buildType") == BUILD_TYPE:
        wrong = _lane(
            parameters if isinstance(parameters, dict) else {}, "the provenance", model, hardware_class
        )
        if wrong is not None:
            return wrong
    builder = details.get("builder")
    name = builder.get("id") if isinstance(builder, dict) else None
    if any(name != wanted for wanted in builders):
        return TrustError(
            "wrong-builder",
            f"the provenance names {_shown(name)}; the policy wants {', '.join(sorted(builders))}",
        )
    return None


def _judge_bom(said: Mapping[str, Any], model: str, hardware_class: str) -> TrustError | None:
    if said.get("bomFormat") != "CycloneDX":
        return TrustError("no-bom", "the bill of materials is not CycloneDX")
    metadata = said.get("metadata")
    component = metadata.get("component") if isinstance(metadata, dict) else None
    properties = component.get("properties") if isinstance(component, dict) else None
    named = {
        str(entry.get("name")): entry.get("value")
        for entry in (properties if isinstance(properties, list) else [])
        if isinstance(entry, dict)
    }
    # Another tool's bill says nothing of lanes; it is bound by the digest all the same.
    if BOM_MODEL not in named and BOM_CLASS not in named:
        return None
    lane = {"model": named.get(BOM_MODEL), "hardwareClass": named.get(BOM_CLASS)}
    return _lane(lane, "the bill of materials", model, hardware_class)


def _lane(said: Mapping[str, Any], what: str, model: str, hardware_class: str) -> TrustError | None:
    if said.get("model") != model:
        return TrustError("wrong-model", f"{what} is about model {_shown(said.get('model'))}")
    if said.get("hardwareClass") != hardware_class:
        return TrustError("wrong-class", f"{what} is for {_shown(said.get('hardwareClass'))}")
    return None


def _failed_checks(report: Mapping[str, Any]) -> str | None:
    """Return what does not pass, or None; a verdict that its own checks contradict is no pass."""
    checks = report.get("checks")
    if not isinstance(checks, list) or not checks or not all(isinstance(check, dict) for check in checks):
        return "no checks"
    failed = [str(check.get("name"))[:40] for check in checks if check.get("verdict") != "pass"]
    if failed:
        return f"failed: {', '.join(failed[:8])}"
    return None if report.get("verdict") == "pass" else f"verdict {str(report.get('verdict'))[:40]!r}"


def _shown(value: object) -> str:
    return repr(str(value)[:80]) if value is not None else "nothing"
