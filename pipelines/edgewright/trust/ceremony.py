"""What people do with keys: begin, renew, sign (and `rotation`). Each writes `staged/` and nothing else.

>>> sign(workspace)                                 # doctest: +SKIP
{'root': ('root-b',)}

`edgewright trust refresh` (or the next release) takes over what is completely signed, and publishes it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuf.api.metadata import Metadata

from edgewright.errors import TrustError
from edgewright.trust.authority import add_signatures, vouched_for
from edgewright.trust.documents import trust_documents
from edgewright.trust.publication import Publication, opened
from edgewright.trust.repository import Current
from edgewright.trust.revision import Wanted, begin
from edgewright.trust.staged import Signing, Staged, StagedFolder

if TYPE_CHECKING:
    from edgewright.spec.workspace import Workspace


@dataclass(frozen=True)
class Ceremony:
    """What a command staged.

    Attributes:
        staged: Everything that is staged after it.
        signing: How far each staged role is.
        made: Names of keys that were made.
        folder: Where it is staged.
        notes: What somebody should look after.
    """

    staged: Staged
    signing: tuple[Signing, ...]
    made: tuple[str, ...]
    folder: Path
    notes: tuple[str, ...] = ()


def initialise(workspace: Workspace, *, now: datetime | None = None) -> Ceremony:
    """Stage version 1 of root and targets, signed by the keys at hand.

    Raises:
        TrustError: there is metadata already, or a public half is missing.
    """
    with opened(workspace, now) as publication:
        if publication.current is not None:
            raise TrustError(
                "this fleet has its metadata already", hint="edgewright trust status says what it is"
            )
        if publication.staged.metadata:
            raise TrustError(
                f"version 1 is staged already in {publication.staging.folder}",
                hint="edgewright trust sign adds signatures; remove that folder to begin anew",
            )
        classes: Mapping[str, Mapping[str, Any]] = {name: {} for name in workspace.hardware}
        wanted = Wanted(classes, trust_documents(workspace), b"")
        following = begin(None, publication.staged, wanted=wanted, authority=publication.authority)
        return stage(publication, following.staged)


def renew(workspace: Workspace, role: str, *, now: datetime | None = None) -> Ceremony:
    """Stage the next version of a role's metadata that differs in its expiry only.

    Raises:
        TrustError: the role signs itself anew at every release, or something of it is staged already.
    """
    with opened(workspace, now) as publication:
        current = require_current(publication)
        if role not in current.metadata or role in ("snapshot", "timestamp"):
            raise TrustError(
                f"'{role}' is not a role that is renewed by hand", hint="edgewright trust refresh"
            )
        staged = publication.staged
        if role in staged.metadata:
            raise TrustError(
                f"{role} is staged already", hint="edgewright trust status says what it waits for"
            )
        following = next_version(publication, role, copy.deepcopy(current.metadata[role].signed))
        metadata = {**staged.metadata, role: following}
        return stage(
            publication,
            with_signatures(publication, Staged(metadata, {**current.files, **staged.files}), [role]),
        )


@dataclass(frozen=True)
class Review:
    """What somebody is about to sign.

    Attributes:
        role: The role.
        version: The version it would have.
        changes: Sentences: old → new.
        signers: Names of the keys here that can sign it and are still asked.
    """

    role: str
    version: int
    changes: tuple[str, ...]
    signers: tuple[str, ...]


def sign(
    workspace: Workspace,
    *,
    folder: Path | None = None,
    confirm: Callable[[Sequence[Review]], bool] = lambda _reviews: True,
    now: datetime | None = None,
) -> tuple[Ceremony, Mapping[str, tuple[str, ...]]]:
    """Add the signatures of the keys at hand to what is staged, after verifying it against what is current.

    Args:
        workspace: The checked specs.
        folder: Where it is staged, when it was carried here; default `<trust.metadata>/staged`.
        confirm: Asked with what is about to be signed; False signs nothing.
        now: The time (UTC).

    Returns:
        What is staged after it, and role → names of the keys that signed now.

    Raises:
        TrustError: nothing is staged, it does not follow what is current, or no key here is asked.
    """
    with opened(workspace, now) as publication:
        staging = StagedFolder(folder) if folder is not None else publication.staging
        staged = staging.read(publication.current)
        if not staged.metadata:
            raise TrustError(
                f"nothing waits for signatures in {staging.folder}", hint="edgewright trust status"
            )
        reviews = [*_reviews(publication, staged)]
        asked = [review for review in reviews if review.signers]
        added: dict[str, tuple[str, ...]] = {}
        if not asked:
            ring = publication.authority.ring
            waiting = {
                ring.name_of(key)
                for one in staged.signing(publication.current)
                for key in one.waiting.values()
            }
            if waiting:
                raise TrustError(
                    f"no key here is asked: the signatures of {', '.join(sorted(waiting))} are missing",
                    hint="run this where one of those keys is",
                )
        elif confirm(asked):
            for one in staged.signing(publication.current):
                if not one.complete:
                    names = add_signatures(
                        publication.authority.ring, one.role, staged.metadata[one.role], one
                    )
                    added[one.role] = tuple(names)
            staging.write(staged)
        signing = tuple(staged.signing(publication.current))
        return Ceremony(staged, signing, (), staging.folder), added


def exported_root(workspace: Workspace, version: int | None = None) -> tuple[int, bytes]:
    """Return version and bytes of a root to give to devices: the newest, or the one asked for.

    Raises:
        TrustError: there is none that has all its signatures.
    """
    with opened(workspace) as publication:
        current = publication.current
        if current is not None:
            wanted = version or current.root.version
            path = publication.folder.folder / f"{wanted}.root.json"
            if wanted > current.root.version or not path.is_file():
                raise TrustError(f"there is no root {wanted}; the newest is {current.root.version}")
            return wanted, path.read_bytes()
        for one in publication.staged.signing(None):
            if one.role == "root" and one.complete and version in (None, 1):
                return 1, publication.staged.metadata["root"].to_bytes()
        raise TrustError("there is no root with all its signatures yet", hint="edgewright trust status")


def require_current(publication: Publication) -> Current:
    """Return what is current.

    Raises:
        TrustError: nothing has been released yet.
    """
    if publication.current is None:
        raise TrustError(
            "nothing has been released yet: change fleet.yaml or the keys, and begin anew",
            hint="edgewright trust status",
        )
    return publication.current


def next_version(publication: Publication, role: str, signed: Any) -> Metadata[Any]:
    """Return the next version of a role with this content, unsigned, with a whole lifetime before it."""
    current = require_current(publication)
    signed.version = current.versions[role] + 1
    signed.expires = publication.authority.now + publication.authority.lifetimes.of(role)
    return Metadata(signed)


def with_signatures(publication: Publication, staged: Staged, roles: Sequence[str]) -> Staged:
    """Sign the staged metadata of some roles with the keys at hand.

    What was staged before goes on in it. Where nobody here has signed that, nobody here may have seen it: then it
    waits for `sign`, which shows the whole.
    """
    ring = publication.authority.ring
    before = publication.staged.metadata
    for one in staged.signing(publication.current):
        if one.role in roles and (one.role not in before or vouched_for(ring, before[one.role])):
            add_signatures(ring, one.role, staged.metadata[one.role], one)
    return staged


def stage(publication: Publication, staged: Staged, made: tuple[str, ...] = ()) -> Ceremony:
    """Write what is staged, and return how far it is."""
    publication.staging.write(staged)
    signing = tuple(staged.signing(publication.current))
    return Ceremony(staged, signing, made, publication.staging.folder)


def _reviews(publication: Publication, staged: Staged) -> Iterator[Review]:
    from edgewright.trust.review import changes

    ring = publication.authority.ring
    for one in staged.signing(publication.current):
        here = (
            []
            if one.complete
            else [key for need in one.needs for key in need.unsigned.values() if ring.has(key)]
        )
        names = tuple(dict.fromkeys(ring.name_of(key) for key in here))
        former = publication.current.metadata.get(one.role) if publication.current else None
        said = changes(one.role, former, staged.metadata[one.role], staged, publication.current, ring)
        yield Review(one.role, one.version, tuple(said), names)
