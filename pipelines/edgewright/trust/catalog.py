"""The catalogue of artifacts the `targets` role has signed: what a rollout may choose from, lane by lane.

>>> catalog = add_published({}, published)                        # doctest: +SKIP
>>> catalog[("digit-reader", "raspberry-pi-4")][-1].sequence      # doctest: +SKIP
7
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from tuf.api.metadata import TargetFile

from edgewright.trust.assignment import Candidate, LaneKey, PublishedLane
from edgewright_agent.contract import artifact_target

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
            sequence=int(custom["sequence"]),
        )
        found.setdefault((str(custom["model"]), str(custom["hardwareClass"])), []).append(candidate)
    return {lane: tuple(sorted(entries, key=_sequence)) for lane, entries in found.items()}


def add_published(catalog: Catalog, published: Published) -> Catalog:
    """Return the catalogue in which every published lane is the newest of its kind.

    A build that was superseded and is published again (a change taken back) gets a new sequence: devices go
    forward only.
    """
    updated = dict(catalog)
    for model, classes in published.items():
        for name, lane in classes.items():
            entries = updated.get((model, name), ())
            if entries and entries[-1].digest == lane.digest:
                continue
            sequence = entries[-1].sequence + 1 if entries else 1
            newest = Candidate(lane.digest, lane.size, lane.model_version, lane.repository, sequence)
            others = tuple(entry for entry in entries if entry.digest != lane.digest)
            updated[(model, name)] = (*others, newest)
    return updated


def prune(catalog: Catalog, assigned: Set[str]) -> Catalog:
    """Return the catalogue without builds nobody can be told to run: metadata must not grow for ever.

    Args:
        catalog: What may be chosen.
        assigned: Digests that are assigned.
    """
    kept: dict[LaneKey, tuple[Candidate, ...]] = {}
    for lane, entries in catalog.items():
        seen: dict[str, int] = {}
        chosen = []
        for entry in reversed(entries):
            seen[entry.model_version] = seen.get(entry.model_version, 0) + 1
            if seen[entry.model_version] <= KEPT_BUILDS or entry.digest in assigned:
                chosen.append(entry)
        kept[lane] = tuple(reversed(chosen))
    return kept


def to_targets(catalog: Catalog) -> dict[str, TargetFile]:
    """Return target path → target; a target's bytes are the artifact's OCI manifest."""
    targets = {}
    for (model, name), entries in sorted(catalog.items()):
        for entry in entries:
            path = artifact_target(model, name, entry.digest)
            custom = {
                "model": model,
                "hardwareClass": name,
                "modelVersion": entry.model_version,
                "sequence": entry.sequence,
            }
            hashes = {"sha256": entry.digest.removeprefix("sha256:")}
            targets[path] = TargetFile(entry.size, hashes, path, {"custom": custom})
    return targets


def _sequence(candidate: Candidate) -> int:
    return candidate.sequence
