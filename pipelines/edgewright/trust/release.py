"""`edgewright release`: sign the desired state of the fleet and publish it.

>>> outcome = release(workspace, published)      # doctest: +SKIP
>>> outcome.release, outcome.versions            # doctest: +SKIP
('r4', {'root': 1, 'targets': 1, 'class-raspberry-pi-4': 4, 'rollout': 4, 'snapshot': 5, 'timestamp': 6})

First everything is checked and computed, then the metadata folder is written, then the registry. A registry
that fails half-way is completed by the next call: what devices see changes with `timestamp.json`, the last.

The keys of root and targets may be somewhere else: they are asked for only when a hardware class is new or a trust
document changed. Then, as whenever signatures are missing, the release is staged and says who has to sign.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Set
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edgewright.errors import BuildError, GateError
from edgewright.publish.registry import OpenRepository
from edgewright.trust import catalog as catalogs
from edgewright.trust.assignment import (
    HeldBack,
    LaneKey,
    assign,
    by_lane,
    digests,
    experiments,
    policies_of,
    runtime_of,
)
from edgewright.trust.catalog import Catalog, Published
from edgewright.trust.documents import trust_documents
from edgewright.trust.publication import open_repositories, opened
from edgewright.trust.push import require_ours
from edgewright.trust.revision import FRESHNESS, Wanted, advance
from edgewright_agent.contract import (
    ANNOTATION_CLASS,
    ANNOTATION_MODEL,
    ANNOTATION_VERSION,
    ROLE_ROLLOUT,
    TUF_REPOSITORY,
    canonical_json,
)

if TYPE_CHECKING:
    from edgewright.spec.load import Workspace


@dataclass(frozen=True)
class Change:
    """What a release changes for one group, model and class; None where there was or will be nothing."""

    group: str
    model: str
    hardware_class: str
    old: str | None
    new: str | None
    old_version: str | None
    new_version: str | None


@dataclass(frozen=True)
class Compared:
    """A version that runs beside the one a group runs, on one class."""

    group: str
    model: str
    hardware_class: str
    experiment: str
    kind: str
    share: float
    digest: str
    model_version: str


@dataclass(frozen=True)
class ReleaseOutcome:
    """What a release did.

    Attributes:
        release: Identifier, `r<sequence>`.
        is_new: Whether the assignment changed; else `release` stands.
        sequence: Number of the assignment; grows when the assignment changes.
        changes: What devices will do.
        held_back: Classes that do not get the newest build, with the reason.
        versions: Role → version.
        expires: Role → expiry, ISO 8601.
        written: Metadata files that are new in the folder; empty when nothing changed.
        pushed: Tags that are new in the registry.
        address: Where the metadata is published.
        notes: What somebody should look after.
        experiments: What runs beside what, on live requests.
    """

    release: str
    is_new: bool
    sequence: int
    changes: tuple[Change, ...]
    held_back: tuple[HeldBack, ...]
    versions: Mapping[str, int]
    expires: Mapping[str, str]
    written: tuple[str, ...]
    pushed: tuple[str, ...]
    address: str
    notes: tuple[str, ...] = ()
    experiments: tuple[Compared, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def release(
    workspace: Workspace,
    published: Published,
    *,
    blocked: Mapping[LaneKey, str] | None = None,
    now: datetime | None = None,
    refresh: bool = False,
    progress: Callable[[str], None] = lambda _line: None,
) -> ReleaseOutcome:
    """Sign and publish who should run what.

    Args:
        workspace: The checked specs.
        published: What is published for the current specs; other lanes keep what they have.
        blocked: Why a gate holds a lane back, for those it does.
        now: The time (UTC); the clock when absent.
        refresh: Sign rollout, snapshot and timestamp again even if nothing changed.
        progress: Called with one line per step.

    Raises:
        TrustError: keys or metadata are missing or do not belong together, the registry is ahead, or signatures
            of keys that are not here are needed (what there is has been staged then).
        GateError: nothing is published yet, or a group pins a version that was never released.
        BuildError: a published lane is not in the registry as described.
        NetworkError: the registry cannot be reached or refuses.
        EnvironmentFault: the metadata folder or a layout cannot be written.
    """
    fleet = workspace.fleet
    open_repository = open_repositories(workspace)
    registry = open_repository(TUF_REPOSITORY)
    with opened(workspace, now) as publication:
        current = publication.current
        require_ours(registry, current)

        before = catalogs.read_targets(current.artifacts()) if current else {}
        runtimes = {name: runtime_of(hardware) for name, hardware in workspace.hardware.items()}
        after = catalogs.add_published(before, published, runtimes)
        if not after:
            raise GateError("nothing is published yet, so there is nothing to release", hint="edgewright run")
        old: dict[str, Any] = {"sequence": 0, "groups": []}
        if current is not None:
            old = json.loads(current.assignment)
        groups, held = assign(
            fleet.groups,
            wanted={name: workspace.classes_of(name) for name in workspace.models},
            candidates=after,
            published={(model, name) for model, classes in published.items() for name in classes},
            policies={name: policies_of(hardware) for name, hardware in workspace.hardware.items()},
            versions={name: model.model_version for name, model in workspace.models.items()},
            blocked=blocked or {},
        )
        assignment = _next_assignment(old, fleet.name, groups)
        compared = experiments(groups)
        promised = {*digests(groups).values(), *(experiment["digest"] for experiment in compared.values())}
        _require_pushed(open_repository, after, promised)
        approved = catalogs.approve(after, by_lane(old["groups"]), by_lane(groups))
        kept = catalogs.prune(approved, promised)

        following = advance(
            current,
            publication.staged,
            wanted=Wanted(
                classes=catalogs.to_targets(kept, workspace.hardware),
                documents=trust_documents(workspace),
                assignment=canonical_json(assignment),
            ),
            authority=publication.authority,
            again=FRESHNESS | {ROLE_ROLLOUT} if refresh else frozenset(),
        )
        pushed = publication.carry_out(following, registry)
        progress(f"signed {', '.join(following.files) or 'nothing'}")
        progress(f"pushed {len(pushed)} metadata files")
        assert following.current is not None
        notes = publication.notes(following.current)
    return ReleaseOutcome(
        release=assignment["release"],
        is_new=assignment["sequence"] != old["sequence"],
        sequence=assignment["sequence"],
        changes=_changes(old["groups"], groups, {**_versions(before), **_versions(after)}),
        held_back=tuple(held),
        versions=following.current.versions,
        expires=following.current.expires,
        written=tuple(following.files),
        pushed=pushed,
        address=registry.address("timestamp.json"),
        notes=notes,
        experiments=tuple(
            Compared(*key, told["name"], told["kind"], told["share"], told["digest"], told["modelVersion"])
            for key, told in sorted(compared.items())
        ),
    )


def _next_assignment(old: Mapping[str, Any], fleet: str, groups: list[dict[str, Any]]) -> dict[str, Any]:
    same = old["groups"] == groups and old.get("fleet") == fleet
    sequence = old["sequence"] if same else old["sequence"] + 1
    return {
        "version": 1,
        "fleet": fleet,
        "sequence": sequence,
        "release": f"r{sequence}",
        "groups": groups,
    }


def _require_pushed(open_repository: OpenRepository, catalog: Catalog, promised: Set[str]) -> None:
    """Check that whatever devices will be told to run is in this registry, and is what it is said to be."""
    wanted = (
        (lane, entry) for lane, entries in catalog.items() for entry in entries if entry.digest in promised
    )
    for (model, name), entry in wanted:
        registry = open_repository(entry.repository)
        body = registry.get_manifest(entry.digest)
        if body is None or len(body) != entry.size:
            raise BuildError(
                f"{registry.address(entry.digest)} ({model} {entry.model_version} for {name}) is not in the registry",
                hint="`edgewright run --republish` publishes the current builds again; copy older ones that groups"
                " pin or keep from a mirror or a backup",
            )
        annotations = json.loads(body).get("annotations", {})
        said = tuple(annotations.get(key) for key in (ANNOTATION_MODEL, ANNOTATION_CLASS, ANNOTATION_VERSION))
        if said != (model, name, entry.model_version):
            raise BuildError(f"{registry.address(entry.digest)} is {said}, not {model} on {name}")


def _versions(catalog: Catalog) -> dict[tuple[LaneKey, str], str]:
    return {
        (lane, entry.digest): entry.model_version for lane, entries in catalog.items() for entry in entries
    }


def _changes(
    old_groups: list[dict[str, Any]],
    new_groups: list[dict[str, Any]],
    versions: Mapping[tuple[LaneKey, str], str],
) -> tuple[Change, ...]:
    old, new = digests(old_groups), digests(new_groups)
    changes = []
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            group, model, name = key
            named = {
                digest: versions.get(((model, name), str(digest))) for digest in (old.get(key), new.get(key))
            }
            before, after = old.get(key), new.get(key)
            changes.append(Change(group, model, name, before, after, named[before], named[after]))
    return tuple(changes)
