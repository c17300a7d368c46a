"""Desired state: TUF metadata fetched from a source, checked against what this device has seen before.

python-tuf does the client workflow (TUF 5.3), `trust.tuf_client` bends it to a device. This module adds floors no
version may fall below even when the cache is lost, durability, and who may say what: `targets` the documents and the
delegations, the role of this device's own class its artifacts, and `rollout` nothing but the assignment.

Importing it costs about 33 MiB: only the short-lived child that updates does.

>>> desired = refresh(source, cache=cache, root=root, hardware_class="raspberry-pi-4")      # doctest: +SKIP
>>> desired.require_artifact("digit-reader", "raspberry-pi-4", digest).sequence             # doctest: +SKIP
7
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import DelegatedRole, TargetFile, Targets

from edgewright_agent.contract import (
    ASSIGNMENT_TARGET,
    MAX_ASSIGNMENT_BYTES,
    MAX_POLICY_BYTES,
    MAX_TRUSTED_ROOT_BYTES,
    POLICY_TARGET,
    ROLE_ROLLOUT,
    TRUSTED_ROOT_TARGET,
    artifact_target,
    class_role,
    is_digest,
)
from edgewright_agent.errors import TransportError, TrustError
from edgewright_agent.files import Disk, faults
from edgewright_agent.floor import Floor, keys_of
from edgewright_agent.transport import Source
from edgewright_agent.trust.approval import MAX_SEQUENCE, Approval, parse_approval
from edgewright_agent.trust.assignment import parse_assignment
from edgewright_agent.trust.tuf_client import Client, Fetcher

TOP_ROLES = ("root", "timestamp", "snapshot", "targets")
MAX_VERSION = MAX_SEQUENCE

_LIMITS = {
    ASSIGNMENT_TARGET: MAX_ASSIGNMENT_BYTES,
    POLICY_TARGET: MAX_POLICY_BYTES,
    TRUSTED_ROOT_TARGET: MAX_TRUSTED_ROOT_BYTES,
}
_T = TypeVar("_T")


@dataclass(frozen=True)
class ClassRole:
    """The role that lists the artifacts of one hardware class."""

    hardware_class: str
    delegation: DelegatedRole
    targets: Mapping[str, TargetFile]

    @property
    def name(self) -> str:
        """Return the role's name."""
        return class_role(self.hardware_class)


@dataclass(frozen=True)
class Desired:
    """What the fleet wants, verified: signatures, thresholds, freshness and versions.

    Attributes:
        versions: Version of every role that concerns this device.
        expires: When each role's metadata expires (ISO 8601, UTC).
        floor: What the caller stores durably before it acts, and gives to the next `refresh`.
        assignment: See `trust.assignment`.
        policy: Bytes of `trust/policy.json`, see `trust.policy`; None when `targets` lists none.
        trusted_root: Bytes of `trust/trusted-root.json`, for keyless signatures; None when `targets` lists none.
    """

    versions: Mapping[str, int]
    expires: Mapping[str, str]
    floor: Floor
    assignment: dict[str, Any]
    policy: bytes | None = None
    trusted_root: bytes | None = None
    _role: ClassRole | None = field(default=None, repr=False)

    def require_artifact(self, model: str, hardware_class: str, digest: str) -> Approval:
        """Return what is signed about an artifact, if this device's class role lists exactly this one.

        Raises:
            TrustError: `not-a-target`; `bad-metadata` when it is listed with values that make no sense.
        """
        path = artifact_target(model, hardware_class, digest) if is_digest(digest) else ""
        role = self._role if self._role is not None and self._role.hardware_class == hardware_class else None
        target = role.targets.get(path) if role is not None else None
        custom = target.custom if target is not None else None
        if (
            role is None
            or target is None
            or not role.delegation.is_delegated_path(path)
            or target.hashes.get("sha256") != digest.removeprefix("sha256:")
            or not isinstance(custom, dict)
            or (custom.get("model"), custom.get("hardwareClass")) != (model, hardware_class)
        ):
            raise TrustError(
                "not-a-target",
                f"the role {class_role(hardware_class)} has not approved {digest} as {model} for {hardware_class}",
            )
        return parse_approval(target.length, custom, what=f"{model} {digest[:19]}")

    def highest_sequence(self, model: str) -> int | None:
        """Return the highest sequence the class role lists for a model; None when it lists none."""
        found = [
            custom["sequence"]
            for target in (self._role.targets.values() if self._role else ())
            if isinstance(custom := target.custom, dict)
            and custom.get("model") == model
            and type(custom.get("sequence")) is int
        ]
        return max(found, default=None)


def refresh(
    source: Source,
    *,
    cache: Path,
    root: bytes,
    hardware_class: str,
    floor: Floor | None = None,
    now: datetime | None = None,
    disk: Disk | None = None,
) -> Desired:
    """Bring the metadata up to date and return what it says; on return the cache is durable.

    Args:
        source: Untrusted; holds the metadata in repository `tuf`.
        cache: Directory of this function alone. It may be lost or damaged: it saves transfers, and `floor`
            carries what must not be forgotten.
        root: The root metadata this device was provisioned with; every chain of roots starts here.
        hardware_class: The device's class: of the class roles, only its own is read.
        floor: What this device has accepted before. Nothing below is accepted, whoever signed it.
        now: The device's clock, with a time zone; default the system's. Expiry is judged by the latest of it, the
            floor's time, and the time that the newest timestamp was signed.
        disk: Where the cache is.

    Raises:
        TrustError: `expired-metadata`, `metadata-rollback`, `bad-signature`, `bad-metadata`.
        TransportError: The source cannot deliver.
        StorageError: The cache cannot be written.
    """
    moment = now or datetime.now(timezone.utc)
    session = _Session(source, cache, root, hardware_class, floor or Floor(), moment, disk or Disk())
    try:
        return session.run()
    except OSError:
        # A power cut can leave a cache that python-tuf neither reads nor writes over: start again from the
        # provisioned root. A refused signature, version or expiry never gets here.
        _empty(cache)
    with faults(cache, "write"):
        return session.run()


class _Session:
    """One refresh: python-tuf's workflow between our checks."""

    def __init__(
        self,
        source: Source,
        cache: Path,
        root: bytes,
        hardware_class: str,
        floor: Floor,
        now: datetime,
        disk: Disk,
    ) -> None:
        self._cache, self._root, self._class = cache, root, hardware_class
        self._floor, self._now, self._disk = floor, now, disk
        self.fetcher = Fetcher(source)

    def run(self) -> Desired:
        self._disk.make_dir(self._cache)
        for stray in self._cache.rglob("tmp*"):  # left by a power cut in the middle of a write
            stray.unlink()
        client = self._checked(None, self._client)
        self._checked(client, client.refresh)
        self._checked(client, client.require_fresh_root)
        rollout = self._checked(client, lambda: client.delegated(ROLE_ROLLOUT))
        own = self._checked(client, lambda: client.delegated(class_role(self._class)))
        roles = {name: role for name in TOP_ROLES if (role := client.role(name)) is not None}
        keys = {
            name: keys_of(role.keyids, role.threshold)
            for name, role in client.root.roles.items()
            if name in ("timestamp", "snapshot")
        }
        for name, found in ((ROLE_ROLLOUT, rollout), (class_role(self._class), own)):
            if found is not None:
                roles[name] = found[1]
                keys[name] = keys_of(found[0].keyids, found[0].threshold)
        versions = {name: role.version for name, role in roles.items()}
        self._check_floor(client.floor, versions)
        top = roles["targets"]
        documents = top.targets if isinstance(top, Targets) else {}
        assignment = self._checked(client, lambda: self._document(ASSIGNMENT_TARGET, _assignment_of(rollout)))
        desired = Desired(
            versions=versions,
            expires={name: _iso(role.expires) for name, role in roles.items()},
            floor=client.floor.raised(versions, keys=keys, clock=client.issued()),
            assignment=parse_assignment(assignment),
            policy=self._listed(client, documents, POLICY_TARGET),
            trusted_root=self._listed(client, documents, TRUSTED_ROOT_TARGET),
            _role=ClassRole(self._class, own[0], own[1].targets) if own is not None else None,
        )
        client.keep()
        self._disk.sync_tree(self._cache)  # python-tuf never does: power cuts left files of length zero
        return desired

    def _client(self) -> Client:
        return Client(self.fetcher, cache=self._cache, root=self._root, floor=self._floor, now=self._now)

    def _check_floor(self, floor: Floor, versions: Mapping[str, int]) -> None:
        for name, version in versions.items():
            if type(version) is not int or not 0 < version <= MAX_VERSION:
                raise TrustError("bad-metadata", f"the version of {name} is not a sensible number")
            if version < floor.versions.get(name, 0):
                raise TrustError(
                    "metadata-rollback",
                    f"{name} metadata has version {version}, but this device has seen {floor.versions[name]}: "
                    "an old state is being replayed",
                )

    def _listed(self, client: Client, documents: Mapping[str, TargetFile], path: str) -> bytes | None:
        """Return a document that `targets` may sign, or None when it does not."""
        target = documents.get(path)
        return None if target is None else self._checked(client, lambda: self._document(path, target))

    def _document(self, path: str, target: TargetFile) -> bytes:
        """Return the bytes of a document: from the cache while they are what is signed, else from the source."""
        digest = target.hashes.get("sha256", "")
        if (
            not is_digest(f"sha256:{digest}")
            or type(target.length) is not int
            or not 0 <= target.length <= _LIMITS[path]
        ):
            raise TrustError("bad-metadata", f"{path} has no sha256 or more than its allowed length")
        folder, _, name = path.rpartition("/")
        kept = self._cache / name
        with contextlib.suppress(OSError, LengthOrHashMismatchError):
            body = kept.read_bytes()
            target.verify_length_and_hashes(body)
            return body
        body = self.fetcher.document(f"{folder}/{digest}.{name}", target.length)
        target.verify_length_and_hashes(body)
        staged = self._cache / f"tmp-{name}"
        staged.write_bytes(body)
        staged.replace(kept)
        return body

    def _checked(self, client: Client | None, step: Callable[[], _T]) -> _T:
        """Run a step of python-tuf and turn its errors into ours."""
        try:
            return step()
        except ExpiredMetadataError as error:
            role, since = self._expired(client)
            raise TrustError(
                "expired-metadata",
                f"{role} metadata expired at {since}: nothing new is installed until it is renewed",
            ) from error
        except BadVersionNumberError as error:
            raise TrustError("metadata-rollback", f"{self.fetcher.last}: {error}") from error
        except UnsignedMetadataError as error:
            raise TrustError("bad-signature", f"{self.fetcher.last}: {error}") from error
        except LengthOrHashMismatchError as error:
            raise TrustError(
                "bad-metadata", f"{self.fetcher.last} is not the signed file: {error}"
            ) from error
        except RepositoryError as error:
            raise TrustError("bad-metadata", f"{self.fetcher.last}: {error}") from error
        except DownloadError as error:
            if isinstance(error.__cause__, TransportError):
                raise error.__cause__ from None
            raise TransportError("network", f"{self.fetcher.last}: {error}") from error
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
            # python-tuf does not look at the type of every value, and a stolen key can sign any: the name of a
            # delegated role that is a number came this far.
            raise TrustError(
                "bad-metadata", f"{self.fetcher.last} makes no sense ({type(error).__name__})"
            ) from error

    def _expired(self, client: Client | None) -> tuple[str, str]:
        for name in ("root", "timestamp", "snapshot"):
            role = client.role(name) if client is not None else None
            if client is not None and role is not None and role.is_expired(client.time):
                return name, _iso(role.expires)
        # Expired targets and delegations are not kept by python-tuf, but their signature was checked.
        return self.fetcher.last_role, str(json.loads(self.fetcher.body)["signed"]["expires"])


def _assignment_of(rollout: tuple[DelegatedRole, Targets] | None) -> TargetFile:
    target = rollout[1].targets.get(ASSIGNMENT_TARGET) if rollout is not None else None
    if rollout is None or target is None or not rollout[0].is_delegated_path(ASSIGNMENT_TARGET):
        raise TrustError("bad-metadata", f"the {ROLE_ROLLOUT} role does not sign {ASSIGNMENT_TARGET}")
    return target


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _empty(cache: Path) -> None:
    # What cannot be removed is met again by the second attempt, which reports it.
    if cache.is_dir() and not cache.is_symlink():
        shutil.rmtree(cache, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            cache.unlink(missing_ok=True)
