"""The catalogue of artifacts the class roles have signed: what a rollout may choose from, lane by lane.

>>> catalog = add_published({}, published, runtimes)              # doctest: +SKIP
>>> catalog[("digit-reader", "raspberry-pi-4")][-1].build         # doctest: +SKIP
7

Two numbers belong to an artifact. `build` is its place in the history of its lane. `sequence` is the approval
epoch in which it was last assigned to anybody: devices refuse what has a lower one than they have accepted, so
whoever steals the rollout key cannot send them back to what is no longer assigned, and an intentional rollback
is a higher sequence that points at an older digest (docs/adr/0010).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from typing import Any

from tuf.api.metadata import TargetFile

from edgewright.trust.assignment import Candidate, LaneKey, PublishedLane
from edgewright_agent.contract import DELTAS_FIELD, MIN_AGENT, artifact_target

KEPT_BUILDS = 3
"""How many builds of one version of one lane stay installable beside those that are assigned."""

Catalog = Mapping[LaneKey, tuple[Candidate, ...]]
"""Lane → its candidates, oldest first."""

Published = Mapping[str, Mapping[str, PublishedLane]]
"""Model → hardware class → what is published."""


def read_targets(targets: Iterable[TargetFile]) -> Catalog:
    """Return the catalogue that signed metadata holds.

    Raises:
        KeyError, ValueError: a target is not one of ours.
    """
    found: dict[LaneKey, list[Candidate]] = {}
    for target in targets:
        custom = target.custom or {}
        candidate = Candidate(
            digest="sha256:" + target.hashes["sha256"],
            size=target.length,
            model_version=str(custom["modelVersion"]),
            repository=str(custom["model"]),
            build=int(custom["build"]),
            sequence=int(custom["sequence"]),
            runtime=dict(custom["runtime"]),
            min_agent=str(custom["minAgent"]),
            deltas=tuple(custom[DELTAS_FIELD]) if DELTAS_FIELD in custom else None,
        )
        found.setdefault((str(custom["model"]), str(custom["hardwareClass"])), []).append(candidate)
    return {lane: tuple(sorted(entries, key=_build)) for lane, entries in found.items()}


def add_published(
    catalog: Catalog, published: Published, runtimes: Mapping[str, Mapping[str, Any]]
) -> Catalog:
    """Return the catalogue in which every published lane is the newest of its kind.

    A build that was superseded and is published again (a change taken back) becomes the newest again.

    Args:
        catalog: What may be chosen.
        published: What is published for the current specs.
        runtimes: Hardware class → the engine its sheet asks for: `engine`, `version`.
    """
    updated = dict(catalog)
    for model, classes in published.items():
        for name, lane in classes.items():
            entries = updated.get((model, name), ())
            known = next((entry for entry in entries if entry.digest == lane.digest), None)
            build = entries[-1].build if entries and entries[-1] is known else _next_build(entries)
            newest = Candidate(
                lane.digest,
                lane.size,
                lane.model_version,
                lane.repository,
                build,
                known.sequence if known else 0,
                dict(runtimes[name]),
                MIN_AGENT,
                known.deltas if known else None,
            )
            others = (entry for entry in entries if entry.digest != lane.digest)
            updated[(model, name)] = (*others, newest)
    return updated


def approve(
    catalog: Catalog, former: Mapping[LaneKey, Set[str]], assigned: Mapping[LaneKey, Set[str]]
) -> Catalog:
    """Return the catalogue with the approval epochs of a new assignment.

    Where the set of assigned digests of a lane changes, the assigned ones get the next number, all the same one,
    so that devices may move between groups; the others keep their lower one.

    Args:
        catalog: What may be chosen.
        former: Lane → digests that any group was told to run.
        assigned: Lane → digests that any group is told to run now.
    """
    updated = dict(catalog)
    for lane, entries in catalog.items():
        chosen = assigned.get(lane, frozenset())
        if chosen == former.get(lane, frozenset()):
            continue
        epoch = max(entry.sequence for entry in entries) + 1
        updated[lane] = tuple(
            replace(entry, sequence=epoch) if entry.digest in chosen else entry for entry in entries
        )
    return updated


def prune(catalog: Catalog, assigned: Set[str]) -> Catalog:
    """Return the catalogue without builds nobody can be told to run: metadata must not grow for ever.

    Args:
        catalog: What may be chosen.
        assigned: Digests that are assigned.

    What was assigned last stays as well, even if nobody has it now: its number is the one to go on from.
    """
    kept: dict[LaneKey, tuple[Candidate, ...]] = {}
    for lane, entries in catalog.items():
        seen: dict[str, int] = {}
        chosen = []
        newest_epoch = max(entry.sequence for entry in entries)
        for entry in reversed(entries):
            seen[entry.model_version] = seen.get(entry.model_version, 0) + 1
            stays = entry.digest in assigned or 0 < newest_epoch == entry.sequence
            if stays or seen[entry.model_version] <= KEPT_BUILDS:
                chosen.append(entry)
        kept[lane] = tuple(reversed(chosen))
    return kept


def to_targets(catalog: Catalog, classes: Iterable[str]) -> dict[str, dict[str, TargetFile]]:
    """Return class → target path → target; a target's bytes are the artifact's OCI manifest.

    Args:
        catalog: What may be chosen.
        classes: Hardware classes of the fleet, which have a role even before they have an artifact.
    """
    targets: dict[str, dict[str, TargetFile]] = {name: {} for name in classes}
    for (model, name), entries in sorted(catalog.items()):
        for entry in entries:
            path = artifact_target(model, name, entry.digest)
            custom: dict[str, Any] = {
                "model": model,
                "hardwareClass": name,
                "modelVersion": entry.model_version,
                "build": entry.build,
                "sequence": entry.sequence,
                "runtime": dict(entry.runtime),
                "minAgent": entry.min_agent,
            }
            if entry.deltas is not None:
                custom[DELTAS_FIELD] = [dict(delta) for delta in entry.deltas]
            hashes = {"sha256": entry.digest.removeprefix("sha256:")}
            targets.setdefault(name, {})[path] = TargetFile(entry.size, hashes, path, {"custom": custom})
    return targets


def _next_build(entries: tuple[Candidate, ...]) -> int:
    return entries[-1].build + 1 if entries else 1


def _build(candidate: Candidate) -> int:
    return candidate.build
