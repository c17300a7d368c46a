"""Who should run what: the one document devices act on, computed from groups and what may be chosen from.

>>> group = Group.model_validate({"name": "all", "models": ({"model": "digit-reader"},)})
>>> candidates = {("digit-reader", "pi-4"): [Candidate("sha256:…", 900, "1.0.0", "digit-reader", build=1)]}
>>> documents, held_back = assign([group], wanted={"digit-reader": ["pi-4"]}, candidates=candidates,
...                               published={("digit-reader", "pi-4")}, policies={},
...                               versions={"digit-reader": "1.0.0"})
>>> documents[0]["models"]["digit-reader"]["artifacts"]["pi-4"]["digest"]
'sha256:…'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from typing import Any

from edgewright.errors import GateError, SpecError
from edgewright.spec.fleet import Group, Slot
from edgewright.spec.hardware import DeviceBudget, HardwareClass, Windows
from edgewright_agent.contract import MIN_AGENT

MAX_HEALTH_TIMEOUT_S = 3600.0
"""Devices refuse an assignment that asks for more."""

LaneKey = tuple[str, str]
"""Model and hardware class."""


@dataclass(frozen=True)
class PublishedLane:
    """One lane's artifact as the registry has it.

    Attributes:
        digest: Digest of its manifest.
        size: Length of its manifest in bytes.
        model_version: Version people know it by.
        repository: Repository below the registry's prefix.
    """

    digest: str
    size: int
    model_version: str
    repository: str

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PublishedLane:
        """Return the lane from its JSON form (`digest`, `size`, `modelVersion`, `repository`)."""
        return cls(document["digest"], document["size"], document["modelVersion"], document["repository"])


@dataclass(frozen=True)
class Candidate(PublishedLane):
    """An artifact a class role signs, so that a rollout may choose it.

    Attributes:
        build: Place in the history of its lane; the highest is the newest.
        sequence: Approval epoch in which it was last assigned; 0 when it never was.
        runtime: The engine that may run it (`engine`, `version`).
        min_agent: Lowest version of the agent that understands it.
        deltas: Legal deltas to it, as its custom data says them; None: nobody has looked for any yet.
    """

    build: int
    sequence: int = 0
    runtime: Mapping[str, Any] = field(default_factory=dict)
    min_agent: str = MIN_AGENT
    deltas: tuple[Mapping[str, Any], ...] | None = None


@dataclass(frozen=True)
class HeldBack:
    """A class that does not get the newest build of a model.

    Attributes:
        digest: What it keeps; None when it gets nothing at all.
        model_version: Version of what it keeps.
        reason: Why.
    """

    group: str
    model: str
    hardware_class: str
    digest: str | None
    model_version: str | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def assign(
    groups: Sequence[Group],
    *,
    wanted: Mapping[str, Sequence[str]],
    candidates: Mapping[LaneKey, Sequence[Candidate]],
    published: Set[LaneKey],
    policies: Mapping[str, Mapping[str, Any]],
    versions: Mapping[str, str],
    blocked: Mapping[LaneKey, str],
) -> tuple[list[dict[str, Any]], list[HeldBack]]:
    """Return the `groups` of an assignment document, and the classes that are held back.

    A slot without a pin takes the newest candidate of each lane; a pinned one the newest of that version. A
    lane without a published build for the current specs (a gate blocks it) keeps its newest candidate.

    Args:
        groups: In the order of fleet.yaml: the first that matches a device and names a model decides.
        wanted: Hardware classes per model.
        candidates: What may be chosen, per lane.
        published: Lanes whose current build is published.
        policies: `updatePolicy` and `rollbackPolicy` per class.
        versions: Version of each model in the specs; named where no class has an artifact yet.
        blocked: Why a gate holds a lane back.

    Raises:
        GateError: a pin names a version that was never released for any class the model is wanted for.
    """
    documents: list[dict[str, Any]] = []
    held: list[HeldBack] = []
    for group in groups:
        models: dict[str, Any] = {}
        for slot in group.models:
            classes = wanted.get(slot.model, ())
            chosen = {name: _choose(candidates.get((slot.model, name), ()), slot) for name in classes}
            found = {name: candidate for name, candidate in chosen.items() if candidate is not None}
            if slot.pin is not None and not found:
                what = f"group {group.name} pins {slot.model} to {slot.pin}"
                raise _not_released(what, slot.model, slot.pin, classes, candidates)
            beside = _beside(group.name, slot, found, candidates)
            held += [
                fact
                for name in classes
                if (slot.model, name) not in published or chosen[name] is None
                if (fact := _held_back(group.name, slot, name, chosen[name], blocked))
            ]
            models[slot.model] = _model(slot, found, beside, policies, versions[slot.model])
        selector = {"matchLabels": dict(sorted(group.selector.match_labels.items()))}
        documents.append({"name": group.name, "selector": selector, "models": models})
    return documents, held


def policies_of(hardware: HardwareClass) -> dict[str, Any]:
    """Return what a hardware sheet says about updates, with units in the names, for devices to follow.

    Raises:
        SpecError: a trial would take longer than any device lets it.
    """
    update = hardware.update_policy
    policy: dict[str, Any] = {
        "poll": {
            "intervalS": _plain(update.poll.interval),
            "jitter": _plain(update.poll.jitter / 100),
            "maxBackoffS": _plain(update.poll.max_backoff),
        },
        "diskReserveBytes": _plain(update.disk_reserve),
    }
    if update.inode_reserve is not None:
        policy["inodeReserve"] = update.inode_reserve
    if update.bandwidth is not None:
        policy["bandwidthBitsPerS"] = _plain(update.bandwidth)
    if windows := _windows(update.windows):
        policy["windows"] = windows
    # A class that never has another link was planned with this one; elsewhere such a link is an exception.
    policy["metered"] = update.metered or ("allow" if hardware.connectivity.metered else "metadata")
    if hardware.connectivity.metered:
        policy["meteredLink"] = True
    rollback = hardware.rollback_policy
    if not 0 < rollback.health_timeout <= MAX_HEALTH_TIMEOUT_S:
        raise SpecError(
            f"rollbackPolicy.healthTimeout is {rollback.health_timeout:g} s; devices take up to an hour"
        )
    return {"updatePolicy": policy, "rollbackPolicy": _rollback_of(hardware)}


def _rollback_of(hardware: HardwareClass) -> dict[str, Any]:
    """Return `rollbackPolicy`; what a sheet does not ask for is not in it."""
    rollback = hardware.rollback_policy
    document: dict[str, Any] = {
        "attempts": rollback.attempts,
        "healthTimeoutS": _plain(rollback.health_timeout),
    }
    if budget := _device_budget(hardware):
        document["budget"] = budget
    for key, seconds in (("trialSoakS", rollback.trial_soak), ("soakS", rollback.soak)):
        if seconds is not None:
            document[key] = _plain(seconds)
            document["inferenceTimeoutS"] = _plain(rollback.inference_timeout)
    return document


def _device_budget(hardware: HardwareClass) -> dict[str, Any]:
    rollback, limits = hardware.rollback_policy, hardware.limits
    asked = rollback.budget or DeviceBudget()
    figures = (
        ("loadMs", asked.load_time, limits.load_time),
        ("latencyMs", asked.latency, limits.latency.p95),
        ("peakMemoryBytes", asked.peak_memory, limits.peak_memory),
    )
    chosen = {
        key: own if own is not None else limit if rollback.enforce_limits else None
        for key, own, limit in figures
    }
    return {key: _plain(value) for key, value in chosen.items() if value is not None}


def experiments(groups: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """Return (group, model, class) → the experiment that runs there, of an assignment's groups."""
    return {
        (group["name"], model, name): artifact["experiment"]
        for group in groups
        for model, entry in group["models"].items()
        for name, artifact in entry["artifacts"].items()
        if "experiment" in artifact
    }


def _windows(windows: Windows | None) -> dict[str, Any]:
    if windows is None or not (windows.download or windows.activation):
        return {}
    kinds = {"download": windows.download, "activation": windows.activation}
    return {
        **{kind: list(texts) for kind, texts in kinds.items() if texts},
        "timeZone": windows.time_zone,
    }


def digests(groups: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], str]:
    """Return (group, model, class) → digest of an assignment's groups."""
    return {
        (group["name"], model, name): artifact["digest"]
        for group in groups
        for model, entry in group["models"].items()
        for name, artifact in entry["artifacts"].items()
    }


def by_lane(groups: Sequence[Mapping[str, Any]]) -> dict[LaneKey, set[str]]:
    """Return lane → digests that any group of an assignment is told to run, be it beside another."""
    found: dict[LaneKey, set[str]] = {}
    for (_group, model, name), digest in digests(groups).items():
        found.setdefault((model, name), set()).add(digest)
    for (_group, model, name), experiment in experiments(groups).items():
        found.setdefault((model, name), set()).add(experiment["digest"])
    return found


def runtime_of(hardware: HardwareClass) -> dict[str, Any]:
    """Return which engine a hardware sheet asks for, as the custom data of targets says it."""
    return {"engine": hardware.runtime.engine, "version": hardware.runtime.versions}


def _choose(candidates: Sequence[Candidate], slot: Slot) -> Candidate | None:
    fitting = [entry for entry in candidates if slot.pin in (None, entry.model_version)]
    return max(fitting, key=lambda entry: entry.build, default=None)


def _beside(
    group: str, slot: Slot, found: Mapping[str, Candidate], candidates: Mapping[LaneKey, Sequence[Candidate]]
) -> dict[str, Candidate]:
    """Return class → what runs beside the group's own version; a class without another version has no experiment.

    Raises:
        GateError: the experiment names a version that was never released for any of these classes.
    """
    if slot.experiment is None:
        return {}
    wanted = slot.experiment.version
    chosen: dict[str, Candidate] = {}
    for name in found:
        fitting = [c for c in candidates.get((slot.model, name), ()) if wanted in (None, c.model_version)]
        if fitting:
            chosen[name] = max(fitting, key=lambda entry: entry.build)
    if wanted is not None and found and not chosen:
        what = f"group {group} compares {slot.model} with {wanted}"
        raise _not_released(what, slot.model, wanted, sorted(found), candidates)
    return {name: candidate for name, candidate in chosen.items() if candidate.digest != found[name].digest}


def _not_released(
    what: str,
    model: str,
    version: str,
    classes: Sequence[str],
    candidates: Mapping[LaneKey, Sequence[Candidate]],
) -> GateError:
    """Say that a version was released for none of the classes that are to run it, and which were."""
    released = {
        name: {entry.model_version for entry in entries}
        for (of, name), entries in candidates.items()
        if of == model
    }
    elsewhere = ", ".join(sorted(name for name, versions in released.items() if version in versions))
    known = ", ".join(sorted(set().union(*(released.get(name, ()) for name in classes))))
    here = ", ".join(classes)
    if elsewhere:
        return GateError(
            f"{what}, which was released for {elsewhere} and not for {here or 'any class it is built for'}",
            hint=f"released for {here}: {known or 'nothing yet'}" if here else None,
        )
    return GateError(f"{what}, which was never released", hint=f"released: {known or 'nothing yet'}")


def _held_back(
    group: str, slot: Slot, name: str, chosen: Candidate | None, blocked: Mapping[LaneKey, str]
) -> HeldBack | None:
    why = blocked.get((slot.model, name), "the current build is not published")
    if chosen is None:
        reason = f"never released as {slot.pin}" if slot.pin else why
        return HeldBack(group, slot.model, name, None, None, reason)
    if slot.pin is None:
        reason = f"keeps {chosen.model_version}: {why}"
        return HeldBack(group, slot.model, name, chosen.digest, chosen.model_version, reason)
    return None


def _model(
    slot: Slot,
    found: Mapping[str, Candidate],
    beside: Mapping[str, Candidate],
    policies: Mapping[str, Mapping[str, Any]],
    version: str,
) -> dict[str, Any]:
    # Classes may be held back on an older version; the model's own is the newest that anybody gets.
    newest = max((candidate.model_version for candidate in found.values()), key=_semantic, default=version)
    repositories = {candidate.repository for candidate in found.values()}
    return {
        "repository": min(repositories, default=slot.model),
        "modelVersion": newest,
        "artifacts": {
            name: {
                "digest": candidate.digest,
                "size": candidate.size,
                "modelVersion": candidate.model_version,
                **_experiment(slot, beside.get(name)),
                **policies.get(name, {}),
            }
            for name, candidate in sorted(found.items())
        },
    }


def _experiment(slot: Slot, candidate: Candidate | None) -> dict[str, Any]:
    if slot.experiment is None or candidate is None:
        return {}
    return {
        "experiment": {
            "name": slot.experiment.name,
            "kind": slot.experiment.kind,
            "share": _plain(slot.experiment.share / 100),
            "digest": candidate.digest,
            "size": candidate.size,
            "modelVersion": candidate.model_version,
        }
    }


def _semantic(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _plain(number: float) -> int | float:
    """Write 900.0 as 900, so that a document does not depend on how YAML spelt the quantity."""
    return int(number) if float(number).is_integer() else round(float(number), 9)
