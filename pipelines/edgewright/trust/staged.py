"""Changes that wait for signatures: `<trust.metadata>/staged/`, committed to Git or carried from hand to hand.

>>> staged = StagedFolder(Path(".edgewright/tuf/staged")).read(current)     # doctest: +SKIP
>>> [(one.role, one.missing) for one in staged.signing(current)]           # doctest: +SKIP
[('root', 1)]

Whatever is read from there is verified against what is current before anybody signs it: the version is exactly
the next one, every signature in it is of a key that may sign, and delegations have the form this program gives
them. Nothing in there is ever published; `edgewright.trust.revision` takes over what has all its signatures.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets, VerificationResult

from edgewright.errors import TrustError
from edgewright.publish.durable import storage, sync_folder, write_file
from edgewright.trust.repository import Current, target_file
from edgewright.trust.roles import is_class
from edgewright.trust.shape import require_our_shape
from edgewright_agent.contract import MAX_TUF_BYTES, ROLE_ROLLOUT

_DOCUMENT = re.compile(r"(trust|rollout)/[0-9a-f]{64}\.[a-z-]+\.json")


@dataclass(frozen=True)
class Signing:
    """How far the signing of one role's metadata is.

    Attributes:
        role: The role.
        version: Version of the metadata.
        needs: What has to be met: one threshold, or for root the former keys' and the new keys'.
    """

    role: str
    version: int
    needs: tuple[VerificationResult, ...]

    @property
    def complete(self) -> bool:
        """Whether every threshold is met."""
        return all(need.verified for need in self.needs)

    @property
    def missing(self) -> int:
        """How many signatures are missing at least."""
        return max(need.missing for need in self.needs)

    @property
    def signed(self) -> dict[str, Key]:
        """Keys that have signed, by id."""
        return {keyid: key for need in self.needs for keyid, key in need.signed.items()}

    @property
    def waiting(self) -> dict[str, Key]:
        """Keys whose signature would help, by id."""
        return {keyid: key for need in self.needs if not need for keyid, key in need.unsigned.items()}


@dataclass(frozen=True)
class Staged:
    """What waits for signatures.

    Attributes:
        metadata: Role → metadata; root and targets come first.
        files: Target path → bytes of targets that the metadata lists and that are new.
    """

    metadata: Mapping[str, Metadata[Any]] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)

    def delegator(self, role: str, current: Current | None) -> Root | Targets:
        """Return what names the keys of a role once everything staged is current.

        Raises:
            TrustError: nothing does.
        """
        parent = "root" if role in ("root", "targets", "snapshot", "timestamp") else "targets"
        found = self.metadata.get(parent) or (current.metadata[parent] if current else None)
        if found is None:
            raise TrustError(f"{role} is staged without {parent}, which says who signs it")
        delegator: Root | Targets = found.signed
        return delegator

    def signing(self, current: Current | None) -> list[Signing]:
        """Return how far each role is."""
        former = current.root if current else None
        return [
            signing(role, metadata, self.delegator(role, current), former)
            for role, metadata in self.metadata.items()
        ]


def signing(role: str, metadata: Metadata[Any], delegator: Root | Targets, former: Root | None) -> Signing:
    """Return how far metadata is on its way to be believed.

    Args:
        role: Its role.
        metadata: The metadata.
        delegator: What names the role's keys; for root the new root itself.
        former: The root before it, whose keys have to sign a new root as well (TUF 5.3.4).
    """
    body = metadata.signed_bytes
    delegators = [delegator, former] if role == "root" and former is not None else [delegator]
    needs = tuple(one.get_verification_result(role, body, metadata.signatures) for one in delegators)
    return Signing(role, metadata.signed.version, needs)


class StagedFolder:
    """`root.json`, `targets.json`, `class-….json`, `rollout.json`, and the targets they list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, current: Current | None) -> Staged:
        """Return what waits for signatures, verified against what is current.

        Raises:
            TrustError: it does not follow what is current, or carries a signature that nobody may give.
        """
        if not self.folder.is_dir():
            return Staged()
        found = {path.stem: path for path in sorted(self.folder.glob("*.json"))}
        order = sorted(found, key=lambda role: ({"root": 0, "targets": 1}.get(role, 2), role))
        read = {role: self._metadata(role, found[role]) for role in order}
        # A crash between taking over and clearing away leaves what is current already.
        metadata = {role: one for role, one in read.items() if not _is_current(role, one, current)}
        staged = Staged(metadata)
        for role, one in metadata.items():
            self._require_next(role, one, staged, current)
        return Staged(metadata, self._files(metadata, current))

    def write(self, staged: Staged) -> None:
        """Make the folder hold exactly this.

        Raises:
            EnvironmentFault: it cannot be written.
        """
        files = {
            **{target_file(target): staged.files[path] for path, target in _new_targets(staged)},
            **{f"{role}.json": metadata.to_bytes() for role, metadata in staged.metadata.items()},
        }
        for name, body in files.items():
            write_file(self.folder / name, body)
        self._clear(keep=set(files))

    def _clear(self, keep: set[str]) -> None:
        if not self.folder.is_dir():
            return
        with storage("empty", self.folder):
            # Nothing but what has been staged: the folder may be a whole memory stick, with other things on it.
            for path in (
                *self.folder.glob("*.json"),
                *self.folder.glob("trust/*"),
                *self.folder.glob("rollout/*"),
            ):
                name = str(path.relative_to(self.folder))
                ours = _DOCUMENT.fullmatch(name) if "/" in name else _waits(path.stem)
                if ours and name not in keep:
                    path.unlink()
            for folder in ("trust", "rollout", *(() if keep else (".",))):
                with contextlib.suppress(OSError):  # not empty, or never there
                    (self.folder / folder).rmdir()
            sync_folder(self.folder if self.folder.is_dir() else self.folder.parent)

    def _metadata(self, role: str, path: Path) -> Metadata[Any]:
        kind = Root if role == "root" else Targets
        if not _waits(role):
            raise TrustError(f"{path} is not something that waits for signatures", hint="remove it")
        body = _read(path)
        try:
            metadata: Metadata[Any] = Metadata.from_bytes(body)
        except (RepositoryError, ValueError) as error:
            raise TrustError(f"{path} is not TUF metadata: {error}", hint=_again(path)) from error
        if not isinstance(metadata.signed, kind):
            raise TrustError(f"{path} holds {metadata.signed.type} metadata", hint=_again(path))
        return metadata

    def _require_next(
        self, role: str, metadata: Metadata[Any], staged: Staged, current: Current | None
    ) -> None:
        path = self.folder / f"{role}.json"
        before = current.versions.get(role, 0) if current else 0
        if metadata.signed.version != before + 1:
            raise TrustError(
                f"{path} is version {metadata.signed.version}, but what is current is version {before}:"
                " it does not follow it",
                hint=f"fetch the newest metadata folder, or {_again(path)}",
            )
        if role == "root" and not metadata.signed.consistent_snapshot:
            raise TrustError(f"{path} switches consistent snapshots off", hint=_again(path))
        require_our_shape(role, metadata.signed)
        try:
            staged.delegator(role, current).get_delegated_role(role)
        except ValueError as error:
            raise TrustError(
                f"{path} is of a role that targets delegates nothing to", hint=_again(path)
            ) from error
        allowed = dict(_allowed(role, metadata, staged, current))
        for keyid, signature in metadata.signatures.items():
            try:
                allowed[keyid].verify_signature(signature, metadata.signed_bytes)
            except (KeyError, UnverifiedSignatureError, VerificationError) as error:
                raise TrustError(
                    f"{path} carries a signature of {keyid[:12]} that is not one of its keys', or not for this text",
                    hint=_again(path),
                ) from error

    def _files(self, metadata: Mapping[str, Metadata[Any]], current: Current | None) -> dict[str, bytes]:
        known = current.files if current else {}
        files: dict[str, bytes] = {}
        for path, target in _new_targets(Staged(metadata)):
            with contextlib.suppress(KeyError, RepositoryError):
                target.verify_length_and_hashes(known[path])
                files[path] = known[path]
                continue
            body = _read(self.folder / target_file(target))
            try:
                target.verify_length_and_hashes(body)
            except RepositoryError as error:
                raise TrustError(
                    f"{self.folder / target_file(target)} is not the file that is to be signed"
                ) from error
            files[path] = body
        return files


def _waits(role: str) -> bool:
    return role in ("root", "targets", ROLE_ROLLOUT) or is_class(role)


def _is_current(role: str, metadata: Metadata[Any], current: Current | None) -> bool:
    known = current.metadata.get(role) if current is not None else None
    return known is not None and known.signed_bytes == metadata.signed_bytes


def _new_targets(staged: Staged) -> Iterator[tuple[str, Any]]:
    for role in ("targets", ROLE_ROLLOUT):
        if role in staged.metadata:
            yield from staged.metadata[role].signed.targets.items()


def _allowed(
    role: str, metadata: Metadata[Any], staged: Staged, current: Current | None
) -> Iterator[tuple[str, Key]]:
    delegators = [staged.delegator(role, current)]
    if role == "root":
        delegators = [metadata.signed, *([current.root] if current else [])]
    elif current is not None:
        delegators.append(current.root if role == "targets" else current.targets)
    for delegator in delegators:
        with contextlib.suppress(ValueError):  # a new class: the former targets do not know it
            for keyid in delegator.get_delegated_role(role).keyids:
                yield keyid, delegator.get_key(keyid)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise TrustError(f"{path} is missing: what is to be signed came without it", hint=_again(path))
    with storage("read", path):
        if path.stat().st_size > MAX_TUF_BYTES:
            raise TrustError(f"{path} is larger than any metadata", hint=_again(path))
        return path.read_bytes()


def _again(path: Path) -> str:
    return f"remove {path} and stage the change again (`edgewright trust status` says what is wanted)"
