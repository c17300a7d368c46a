"""`edgewright release`: sign the desired state of the fleet and publish it.

>>> outcome = release(workspace, published)      # doctest: +SKIP
>>> outcome.release, outcome.versions            # doctest: +SKIP
('r4', {'root': 1, 'targets': 4, 'rollout': 4, 'snapshot': 5, 'timestamp': 6})

First everything is checked and computed, then the metadata folder is written, then the registry. A registry
that fails half-way is completed by the next call: what devices see changes with `timestamp.json`, the last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Set
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgewright.errors import BuildError, GateError
from edgewright.publish.durable import locked
from edgewright.publish.registry import OpenRepository, open_registry
from edgewright.trust import catalog as catalogs
from edgewright.trust.assignment import HeldBack, LaneKey, assign, digests, policies_of
from edgewright.trust.catalog import Catalog, Published
from edgewright.trust.keys import load_role_signer, role_public_key
from edgewright.trust.push import push_metadata, require_ours
from edgewright.trust.repository import Current, MetadataFolder
from edgewright.trust.revision import Authority, Lifetimes, advance
from edgewright.trust.secret import read_line
from edgewright_agent.contract import (
    ANNOTATION_CLASS,
    ANNOTATION_MODEL,
    ANNOTATION_VERSION,
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
        TrustError: keys or metadata are missing or do not belong together, or the registry is ahead.
        GateError: nothing is published yet, or a group pins a version that was never released.
        BuildError: a published lane is not in the registry as described.
        NetworkError: the registry cannot be reached or refuses.
        EnvironmentFault: the metadata folder or a layout cannot be written.
    """
    fleet = workspace.fleet
    moment = (now or datetime.now(UTC)).replace(microsecond=0)
    spec = fleet.registry.model_dump(mode="json", by_alias=True, exclude_none=True)
    open_repository = open_registry(spec, workspace.root)
    registry = open_repository(TUF_REPOSITORY)
    folder = MetadataFolder(workspace.root / fleet.trust.metadata)
    with locked(folder.folder.with_name(f"{folder.folder.name}.lock")):
        current = folder.read()
        require_ours(registry, current)

        before = catalogs.read_targets(current.targets.signed.targets.values()) if current else {}
        after = catalogs.add_published(before, published)
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
        promised = set(digests(groups).values())
        _require_pushed(open_repository, after, promised)
        kept = catalogs.prune(after, promised)

        authority = _authority(workspace, moment)
        staged = advance(
            current,
            targets=catalogs.to_targets(kept),
            assignment=canonical_json(assignment),
            authority=authority,
            refresh=refresh,
            renew_root=(workspace.root / fleet.trust.keys / "root.key").is_file(),
        )
        folder.write(staged.files)
        progress(f"signed {', '.join(staged.files) or 'nothing'}")
        pushed = push_metadata(registry, folder.published_files(staged.current))
        progress(f"pushed {len(pushed)} metadata files")
    return ReleaseOutcome(
        release=assignment["release"],
        is_new=assignment["sequence"] != old["sequence"],
        sequence=assignment["sequence"],
        changes=_changes(old["groups"], groups, {**_versions(before), **_versions(after)}),
        held_back=tuple(held),
        versions=staged.current.versions,
        expires=staged.current.expires,
        written=tuple(staged.files),
        pushed=pushed,
        address=registry.address("timestamp.json"),
        notes=_notes(authority, staged.current),
    )


def _authority(workspace: Workspace, now: datetime) -> Authority:
    trust = workspace.fleet.trust
    keys = workspace.root / trust.keys
    passphrase = None
    if trust.passphrase is not None:
        passphrase = read_line(trust.passphrase, workspace.root, what="the passphrase of the role keys")
    return Authority(
        public_key=lambda role: role_public_key(keys, role),
        signer=lambda role: load_role_signer(keys, role, passphrase),
        lifetimes=Lifetimes(**trust.expiry.model_dump()),
        now=now,
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


def _notes(authority: Authority, current: Current) -> tuple[str, ...]:
    # With its key at hand root renews itself; an offline key must be fetched in time.
    if authority.is_old("root", current.root):
        return (f"root expires on {current.expires['root']}: put root.key back for one release before then",)
    return ()
