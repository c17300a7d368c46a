"""The assignment: which release every group of devices should run, as the `rollout` role signs it.

>>> mine = assigned(desired.assignment, hardware_class="raspberry-pi-4", labels={})    # doctest: +SKIP
>>> mine["digit-reader"].digest                                                     # doctest: +SKIP
'sha256:…'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgewright_agent.config import Budget
from edgewright_agent.contract import MAX_MANIFEST_BYTES, is_digest, is_name, selector_matches
from edgewright_agent.errors import TrustError
from edgewright_agent.model_state import DEFAULT_INFERENCE_TIMEOUT_S, Terms
from edgewright_agent.transport import is_repository
from edgewright_agent.transport.document import parse_json

_MAX_TEXT = 255
_MAX_SEQUENCE = 2**53 - 1  # the largest integer every JSON reader agrees on (RFC 8259 6)
_MAX_ATTEMPTS = 20  # as a hardware sheet may ask for
_MAX_HEALTH_TIMEOUT_S = 3600
# Seconds by what bounds them: an hour for what keeps a child process at work, a month for what only watches.
_MAX_S = {"inferenceTimeoutS": 3600, "trialSoakS": 3600, "soakS": 30 * 86400}
_BUDGET = ("loadMs", "latencyMs", "peakMemoryBytes")
_MAX_FIGURE = 2**53 - 1


KINDS = ("shadow", "ab")


@dataclass(frozen=True)
class Experiment:
    """A second artifact of the same model, to be compared with the assigned one on live requests.

    Attributes:
        name: With the device's id it decides which requests take part.
        kind: `shadow`: it sees requests too, its answers are only compared. `ab`: it answers its share.
        share: Of requests, above 0, at most 1.
        digest: Its OCI manifest.
        size: Length of that manifest, in bytes.
        model_version: For people.
    """

    name: str
    kind: str
    share: float
    digest: str
    size: int
    model_version: str


@dataclass(frozen=True)
class Assigned:
    """What one device should run for one model.

    Attributes:
        model: Name of the model.
        group: The group that decided.
        repository: Where the artifact is, under the source's prefix.
        model_version: For people.
        digest: The artifact's OCI manifest.
        size: Length of that manifest, in bytes.
        attempts: Loads a new artifact may fail before it is rolled back.
        health_timeout_s: How long its trial may take, in seconds.
        update_policy: The fleet's words on when to update, as signed; empty when there are none.
        experiment: What runs beside it, if anything.
        terms: What else a new artifact must go through.
    """

    model: str
    group: str
    repository: str
    model_version: str
    digest: str
    size: int
    attempts: int
    health_timeout_s: float
    update_policy: Mapping[str, Any]
    terms: Terms = field(default_factory=Terms)
    experiment: Experiment | None = None

    def candidate(self) -> Assigned | None:
        """Return what runs beside it as something to obtain and to try by itself; None when nothing does."""
        told = self.experiment
        if told is None:
            return None
        return replace(
            self, model_version=told.model_version, digest=told.digest, size=told.size, experiment=None
        )


def parse_assignment(body: bytes) -> dict[str, Any]:
    """Parse an assignment and check the shape of everything in it; unknown keys are left for newer agents.

    Raises:
        TrustError: `bad-metadata`, saying where.
    """
    try:
        document = parse_json(body, "the assignment")
    except ValueError as error:
        raise TrustError("bad-metadata", str(error)) from None
    top = _object(document, "assignment")
    if top.get("version") != 1:
        raise TrustError("bad-metadata", f"assignment has version {top.get('version')!r}; this agent knows 1")
    _name(top.get("fleet"), "fleet")
    _integer(top.get("sequence"), "sequence", low=1, high=_MAX_SEQUENCE)
    _text(top.get("release"), "release")
    names = [_check_group(group, f"groups[{index}]") for index, group in enumerate(_list(top, "groups"))]
    if len(set(names)) != len(names):
        raise TrustError("bad-metadata", "assignment has two groups of one name")
    return top


def assigned(
    assignment: Mapping[str, Any], *, hardware_class: str, labels: Mapping[str, str]
) -> dict[str, Assigned]:
    """Return what a device should run, by model: per model the first group that matches and names it decides.

    A group that decides but has no artifact for the device's class leaves the model out: it is not for this
    class, and a later group does not change that.

    Args:
        assignment: From `parse_assignment`.
        hardware_class: The device's class.
        labels: The device's labels.
    """
    chosen: dict[str, Assigned] = {}
    decided: set[str] = set()
    for group in assignment["groups"]:
        if not selector_matches(group["selector"]["matchLabels"], dict(labels)):
            continue
        for model, release in group["models"].items():
            if model in decided:
                continue
            decided.add(model)
            artifact = release["artifacts"].get(hardware_class)
            if artifact is not None:
                chosen[model] = _assigned(model, group["name"], release, artifact)
    return chosen


def _assigned(model: str, group: str, release: Mapping[str, Any], artifact: Mapping[str, Any]) -> Assigned:
    policy = artifact.get("rollbackPolicy", {})
    return Assigned(
        model=model,
        group=group,
        repository=release["repository"],
        model_version=artifact["modelVersion"],
        digest=artifact["digest"],
        size=artifact["size"],
        attempts=policy.get("attempts", 3),
        health_timeout_s=float(policy.get("healthTimeoutS", 60)),
        update_policy=artifact.get("updatePolicy", {}),
        experiment=_experiment(artifact["experiment"]) if "experiment" in artifact else None,
        terms=_terms(policy),
    )


def _terms(policy: Mapping[str, Any]) -> Terms:
    budget = policy.get("budget", {})
    peak = budget.get("peakMemoryBytes")
    return Terms(
        Budget(budget.get("loadMs"), budget.get("latencyMs"), None if peak is None else int(peak)),
        policy.get("trialSoakS", 0),
        policy.get("soakS", 0),
        policy.get("inferenceTimeoutS", DEFAULT_INFERENCE_TIMEOUT_S),
    )


def _experiment(told: Mapping[str, Any]) -> Experiment:
    share = float(told["share"])
    return Experiment(told["name"], told["kind"], share, told["digest"], told["size"], told["modelVersion"])


def _check_group(group: object, where: str) -> str:
    fields = _object(group, where)
    selector = _object(fields.get("selector"), f"{where}.selector")
    for key, value in _object(selector.get("matchLabels"), f"{where}.selector.matchLabels").items():
        _text(key, f"{where}.selector.matchLabels")
        _text(value, f"{where}.selector.matchLabels.{key}")
    for model, release in _object(fields.get("models"), f"{where}.models").items():
        _name(model, f"{where}.models")
        _check_release(_object(release, f"{where}.models.{model}"), f"{where}.models.{model}")
    return _name(fields.get("name"), f"{where}.name")


def _check_release(release: Mapping[str, Any], where: str) -> None:
    if not is_repository(release.get("repository")):
        raise _wrong(f"{where}.repository", "a repository name", release.get("repository"))
    _text(release.get("modelVersion"), f"{where}.modelVersion")
    for hardware_class, entry in _object(release.get("artifacts"), f"{where}.artifacts").items():
        inside = f"{where}.artifacts.{hardware_class}"
        _name(hardware_class, f"{where}.artifacts")
        artifact = _object(entry, inside)
        if not is_digest(artifact.get("digest")):
            raise _wrong(f"{inside}.digest", "a sha256 digest", artifact.get("digest"))
        _text(artifact.get("modelVersion"), f"{inside}.modelVersion")
        _integer(artifact.get("size"), f"{inside}.size", low=1, high=MAX_MANIFEST_BYTES)
        if "experiment" in artifact:
            _check_experiment(_object(artifact["experiment"], f"{inside}.experiment"), f"{inside}.experiment")
        _object(artifact.get("updatePolicy", {}), f"{inside}.updatePolicy")
        policy = _object(artifact.get("rollbackPolicy", {}), f"{inside}.rollbackPolicy")
        if "attempts" in policy:
            _integer(policy["attempts"], f"{inside}.rollbackPolicy.attempts", low=1, high=_MAX_ATTEMPTS)
        timeout_s = policy.get("healthTimeoutS", 60)
        if type(timeout_s) not in (int, float) or not 0 < timeout_s <= _MAX_HEALTH_TIMEOUT_S:
            raise _wrong(f"{inside}.rollbackPolicy.healthTimeoutS", "seconds, at most an hour", timeout_s)
        _check_terms(policy, f"{inside}.rollbackPolicy")


def _check_terms(policy: Mapping[str, Any], where: str) -> None:
    for key, most_s in _MAX_S.items():
        if key in policy:
            _number(policy[key], f"{where}.{key}", f"seconds, at most {most_s}", most=most_s)
    budget = _object(policy.get("budget", {}), f"{where}.budget")
    for key in _BUDGET:
        if key in budget:
            _number(budget[key], f"{where}.budget.{key}", "a number above zero", most=_MAX_FIGURE)


def _number(value: object, where: str, expected: str, *, most: float) -> None:
    # type(), because True is an int to isinstance.
    if type(value) not in (int, float) or not 0 < value <= most:  # type: ignore[operator]
        raise _wrong(where, expected, value)


def _check_experiment(told: Mapping[str, Any], where: str) -> None:
    _name(told.get("name"), f"{where}.name")
    if told.get("kind") not in KINDS:
        raise _wrong(f"{where}.kind", " or ".join(KINDS), told.get("kind"))
    share: Any = told.get("share")
    if type(share) not in (int, float) or not 0 < share <= 1:
        raise _wrong(f"{where}.share", "a share above 0, at most 1", share)
    if not is_digest(told.get("digest")):
        raise _wrong(f"{where}.digest", "a sha256 digest", told.get("digest"))
    _integer(told.get("size"), f"{where}.size", low=1, high=MAX_MANIFEST_BYTES)
    _text(told.get("modelVersion"), f"{where}.modelVersion")


def _wrong(where: str, expected: str, found: object) -> TrustError:
    return TrustError("bad-metadata", f"the assignment's {where} is not {expected}: {str(found)[:80]!r}")


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    return value


def _list(fields: Mapping[str, Any], key: str) -> list[Any]:
    value = fields.get(key)
    if not isinstance(value, list):
        raise _wrong(key, "a list", value)
    return value


def _name(value: object, where: str) -> str:
    if not is_name(value):
        raise _wrong(where, "a name", value)
    return str(value)


def _text(value: object, where: str) -> None:
    if not isinstance(value, str) or not value.isprintable() or len(value) > _MAX_TEXT:
        raise _wrong(where, "a short text", value)


def _integer(value: object, where: str, *, low: int, high: int) -> None:
    # type(), because True is an int to isinstance.
    if type(value) is not int or not low <= value <= high:
        raise _wrong(where, f"an integer from {low} to {high}", value)
