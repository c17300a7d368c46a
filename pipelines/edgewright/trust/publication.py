"""Where a fleet's metadata is kept and published, and the one way a revision of it gets there.

>>> with opened(workspace, now) as publication:                                  # doctest: +SKIP
...     following = advance(publication.current, publication.staged, wanted=None, authority=publication.authority)
...     publication.carry_out(following, registry)

What lacks signatures is staged, and an error says who has to sign; nothing else is written. What is complete is
written to the folder, then taken out of `staged/`, then pushed: `timestamp.json` last, each time.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tuf.api.metadata import Targets

from edgewright.errors import TrustError
from edgewright.publish.durable import locked
from edgewright.publish.registry import OpenRepository, Registry, open_registry
from edgewright.trust.authority import Authority
from edgewright.trust.delegation import Holders, holders_in
from edgewright.trust.push import push_metadata, require_ours, require_recoverable, stray_root
from edgewright.trust.repository import STAGED, Current, MetadataFolder, delegated
from edgewright.trust.revision import FRESHNESS, Following, advance
from edgewright.trust.roles import Lifetimes, class_of, declared, is_class, is_declared
from edgewright.trust.signers import KeyRing
from edgewright.trust.staged import Signing, Staged, StagedFolder
from edgewright_agent.contract import TUF_REPOSITORY

if TYPE_CHECKING:
    from edgewright.spec.workspace import Workspace


@dataclass(frozen=True)
class Publication:
    """A fleet's metadata, read and verified, with the lock on its folder held.

    Attributes:
        current: What is current; None before the first release.
        staged: What waits for signatures.
        authority: Who may sign here, and for how long.
    """

    folder: MetadataFolder
    staging: StagedFolder
    current: Current | None
    staged: Staged
    authority: Authority

    def carry_out(
        self, following: Following, registry: Registry, *, recover: bool = False
    ) -> tuple[str, ...]:
        """Write and publish a revision; return the tags that are new in the registry.

        Raises:
            TrustError: signatures are missing; what there is has been staged.
            NetworkError: the registry cannot be reached or refuses.
            EnvironmentFault: a folder cannot be written.
        """
        if following.pending or following.current is None:
            self.staging.write(following.staged)
            raise self.waits_for(following.pending)
        if recover:
            require_recoverable(registry, following.current)
        self.folder.write(following.files)
        self.staging.write(following.staged)
        return push_metadata(registry, self.folder.published_files(following.current), recover=recover)

    def waits_for(self, pending: tuple[Signing, ...]) -> TrustError:
        """Return the error that says who has to sign."""
        ring = self.authority.ring
        parts = []
        for one in pending:
            names = [ring.name_of(key) for key in one.waiting.values()]
            away = [f"{name} ({ring.absence(name) or 'here, but not asked yet'})" for name in names]
            parts.append(f"{one.role} {one.version} needs {count(one.missing)} of {', '.join(away)}")
        return TrustError(
            f"nothing is published: {'; '.join(parts)}; it is staged in {self.staging.folder}",
            hint="where those keys are: edgewright trust sign; then, here, this command again",
        )

    def notes(self, current: Current) -> tuple[str, ...]:
        """Return what somebody should look after once `current` is what it is."""
        # With their keys at hand roles renew themselves; offline keys must be fetched in time.
        notes = [
            f"{role} expires on {current.expires[role]}, and its keys are not at hand: edgewright trust renew {role}"
            for role, metadata in current.metadata.items()
            if self.authority.is_old(role, metadata)
        ]
        waiting = self.staging.read(current).signing(current)
        return (
            *notes,
            *(
                f"{one.role} {one.version} is staged and waits for {count(one.missing)}: edgewright trust status"
                for one in waiting
                if not one.complete
            ),
        )


@dataclass(frozen=True)
class RefreshOutcome:
    """What `edgewright trust refresh` did.

    Attributes:
        current: The set after it.
        written: Metadata files that are new in the folder.
        pushed: Tags that are new in the registry.
        address: Where the metadata is published.
        notes: What somebody should look after.
    """

    current: Current
    written: tuple[str, ...]
    pushed: tuple[str, ...]
    address: str
    notes: tuple[str, ...]


def refresh(workspace: Workspace, *, now: datetime | None = None, recover: bool = False) -> RefreshOutcome:
    """Take over what is staged and signed, sign snapshot and timestamp again, and publish: no content changes.

    Args:
        workspace: The checked specs.
        now: The time (UTC); the clock when absent.
        recover: Publish over metadata that somebody made with stolen keys, which root must not name any more.

    Raises:
        TrustError: as for `edgewright.trust.release.release`, or nothing has been released yet.
        NetworkError: the registry cannot be reached or refuses.
        EnvironmentFault: a folder cannot be written.
    """
    registry = open_repositories(workspace)(TUF_REPOSITORY)
    with opened(workspace, now) as publication:
        if not recover:
            require_ours(registry, publication.current)
        following = advance(
            publication.current,
            publication.staged,
            wanted=None,
            authority=publication.authority,
            again=FRESHNESS,
        )
        pushed = publication.carry_out(following, registry, recover=recover)
        assert following.current is not None
        notes = publication.notes(following.current)
        if recover and (stray := stray_root(registry, following.current)) is not None:
            notes = (stray, *notes)
    address = registry.address("timestamp.json")
    return RefreshOutcome(following.current, tuple(following.files), pushed, address, notes)


@contextmanager
def opened(workspace: Workspace, now: datetime | None = None) -> Iterator[Publication]:
    """Read and verify a fleet's metadata, and keep others away from it meanwhile.

    Raises:
        TrustError: it is damaged, or what is staged does not follow it.
    """
    folder = metadata_folder(workspace)
    with locked(folder.with_name(f"{folder.name}.lock")):
        metadata = MetadataFolder(folder)
        current = metadata.read()
        staging = StagedFolder(folder / STAGED)
        moment = (now or datetime.now(UTC)).replace(microsecond=0)
        yield Publication(metadata, staging, current, staging.read(current), authority_of(workspace, moment))


def metadata_folder(workspace: Workspace) -> Path:
    """Return the folder of a fleet's metadata."""
    return workspace.root / workspace.fleet.trust.metadata


def authority_of(workspace: Workspace, now: datetime) -> Authority:
    """Return the keys at hand and the lifetimes of a fleet."""
    trust = workspace.fleet.trust
    ring = KeyRing.of(workspace)

    def holders(role: str, targets: Targets | None) -> Holders:
        if targets is not None and is_class(role) and not is_declared(trust, role):
            # The key called `artifacts` may have been revoked long ago: a new class must not bring it back.
            found = _shared_holders(targets, own=trust.roles.classes)
            if found is not None:
                return found
        said = declared(trust, role)
        return Holders(said.threshold, [ring.public(name) for name in said.names])

    return Authority(ring, holders, Lifetimes(trust.expiry), now)


def _shared_holders(targets: Targets, own: Container[str]) -> Holders | None:
    """Return who signs for the classes without keys of their own, as metadata has it; None when there is no such class.

    Raises:
        TrustError: they are signed by different keys, so that none can be taken for the one they share.
    """
    shared = [role for role in delegated(targets) if is_class(role) and class_of(role) not in own]
    found = [holders_in(targets, role) for role in shared]
    if len({(frozenset(one.ids), one.threshold) for one in found}) > 1:
        raise TrustError(
            f"{', '.join(shared)} share their keys according to fleet.yaml, and are signed by different ones",
            hint="edgewright trust rotate artifacts; then this again",
        )
    return found[0] if found else None


def open_repositories(workspace: Workspace) -> OpenRepository:
    """Return what opens the repositories of a fleet's registry."""
    spec = workspace.fleet.registry.model_dump(mode="json", by_alias=True, exclude_none=True)
    return open_registry(spec, workspace.root)


def count(signatures: int) -> str:
    """Return a number of missing signatures in words."""
    return "1 more signature" if signatures == 1 else f"{signatures} more signatures"
