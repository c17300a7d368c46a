"""Desired state: TUF metadata fetched from a source, checked against what this device has seen before.

python-tuf does the client workflow (TUF 5.3). This module adds what a device needs beside it: transport
through a registry, a floor no version may fall below even when the cache is lost, durability, and the rule
that only `targets` adds artifacts while only `rollout` assigns them.

Importing it costs about 33 MiB: only the short-lived child that updates does.

>>> desired = refresh(source, cache=cache, root=root, floor={"timestamp": 7})     # doctest: +SKIP
>>> desired.require_artifact("digit-reader", "raspberry-pi-4", digest)            # doctest: +SKIP
1834
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Signed, TargetFile, Targets
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from edgewright_agent.contract import (
    ASSIGNMENT_TARGET,
    MAX_ASSIGNMENT_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_TUF_BYTES,
    ROLE_ROLLOUT,
    TUF_REPOSITORY,
    artifact_target,
    is_digest,
    tuf_tag,
)
from edgewright_agent.errors import TransportError, TrustError
from edgewright_agent.files import Disk, faults
from edgewright_agent.transport import Source
from edgewright_agent.transport.document import read_document
from edgewright_agent.trust.assignment import parse_assignment

ROLES = ("root", "timestamp", "snapshot", "targets", ROLE_ROLLOUT)

_BASE = "registry/"  # stands for the repository in the URLs that python-tuf makes
_CONFIG = UpdaterConfig(
    max_root_rotations=64,
    max_delegations=8,
    root_max_length=MAX_TUF_BYTES,
    timestamp_max_length=16 * 1024,
    snapshot_max_length=MAX_TUF_BYTES,
    targets_max_length=MAX_TUF_BYTES,
    prefix_targets_with_hash=True,
)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Desired:
    """What the fleet wants, verified: signatures, thresholds, freshness and versions.

    Attributes:
        versions: Version of every role; the caller stores them durably as the next `floor`.
        expires: When each role's metadata expires (ISO 8601, UTC).
        assignment: See `trust.assignment`.
    """

    versions: Mapping[str, int]
    expires: Mapping[str, str]
    assignment: dict[str, Any]
    _targets: Mapping[str, TargetFile] = field(repr=False)

    def require_artifact(self, model: str, hardware_class: str, digest: str) -> int:
        """Return the length in bytes of an artifact's manifest if the `targets` role signed exactly this one.

        Raises:
            TrustError: `not-a-target`.
        """
        path = artifact_target(model, hardware_class, digest) if is_digest(digest) else ""
        target = self._targets.get(path)
        custom = target.custom if target is not None else None
        if (
            target is None
            or target.hashes.get("sha256") != digest.removeprefix("sha256:")
            or type(target.length) is not int
            or not 0 < target.length <= MAX_MANIFEST_BYTES
            or not isinstance(custom, dict)
            or (custom.get("model"), custom.get("hardwareClass")) != (model, hardware_class)
        ):
            raise TrustError(
                "not-a-target",
                f"the targets role has not approved {digest} as {model} for {hardware_class}",
            )
        return target.length


def refresh(
    source: Source,
    *,
    cache: Path,
    root: bytes,
    floor: Mapping[str, int],
    now: datetime | None = None,
) -> Desired:
    """Bring the metadata up to date and return what it says; on return the cache is durable.

    Args:
        source: Untrusted; holds the metadata in repository `tuf`.
        cache: Directory of this function alone. It may be lost or damaged: it saves transfers, and `floor`
            carries what must not be forgotten.
        root: The root metadata this device was provisioned with; every chain of roots starts here.
        floor: Highest version seen so far, by role. Nothing below is accepted, whoever signed it.
        now: The time expiry is judged by, with a time zone; default the system clock. A device without a
            real-time clock passes the later of clock and clock floor.

    Raises:
        TrustError: `expired-metadata`, `metadata-rollback`, `bad-signature`, `bad-metadata`.
        TransportError: The source cannot deliver.
        StorageError: The cache cannot be written.
    """
    moment = now or datetime.now(timezone.utc)
    session = _Session(source, cache, root, floor, moment)
    try:
        return session.run()
    except TrustError as refusal:
        # python-tuf keeps every role as soon as its signature is good. Of a refused state nothing may stay: a stolen
        # key's timestamp of version 7 would hide the owner's own version 7. Expired metadata was good once.
        if refusal.code != "expired-metadata":
            _empty(cache)
        raise
    except OSError:
        # A power cut can leave a cache that python-tuf neither reads nor writes over: start again from the
        # provisioned root. A refused signature, version or expiry never gets here.
        _empty(cache)
    with faults(cache, "write"):
        return session.run()


class _Fetcher(FetcherInterface):
    """Metadata files as documents of a source: `…/5.snapshot.json` is tag `5.snapshot.json`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.last = "metadata"  # name of the file asked for most recently
        self.body = b""

    def _fetch(self, url: str) -> Iterator[bytes]:
        return iter([self.download_bytes(url, MAX_TUF_BYTES)])

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return a file; in memory, where the inherited method needs a writable /tmp."""
        self.last = url.removeprefix(_BASE)
        try:
            self.body = read_document(self._source, TUF_REPOSITORY, tuf_tag(self.last), limit=max_length)
        except TransportError as error:
            if error.code == "not-found":  # ends the walk through the chain of roots (TUF 5.3.3)
                raise DownloadHTTPError(str(error), 404) from error
            raise DownloadError(str(error)) from error
        return self.body


class _Client(Updater):
    """python-tuf's client, with a clock that can be given and its verified roles readable.

    Both need the trusted set, for which python-tuf has no public name (its own tests replace `datetime`
    instead); the dependency is pinned to one major version, and the tests here would notice.
    """

    def __init__(self, fetcher: _Fetcher, cache: Path, root: bytes, now: datetime) -> None:
        super().__init__(str(cache), _BASE, fetcher=fetcher, config=_CONFIG, bootstrap=root)
        self._trusted_set.reference_time = now

    def role(self, name: str) -> Signed | None:
        """Return the verified content of a role, possibly expired, or None."""
        return self._trusted_set.get(name)

    def delegated_by_targets(self, name: str) -> Targets | None:
        """Return a role that the top-level targets role itself delegates to, if it was verified."""
        role = self._trusted_set.get(name)
        return role if self._trusted_set.contains(name, Targets.type) and isinstance(role, Targets) else None

    def _update_root_symlink(self) -> None:
        """Leave out the link `root.json`: nothing reads it with a bootstrap root, and vfat has no links."""


class _Session:
    """One refresh: python-tuf's workflow between our checks."""

    def __init__(
        self, source: Source, cache: Path, root: bytes, floor: Mapping[str, int], now: datetime
    ) -> None:
        self._cache, self._root, self._floor, self._now = cache, root, floor, now
        self._disk = Disk()
        self.fetcher = _Fetcher(source)

    def run(self) -> Desired:
        self._disk.make_dir(self._cache)
        for stray in self._cache.glob("tmp*"):  # left by a power cut in the middle of a write
            stray.unlink()
        client = self._checked(None, lambda: _Client(self.fetcher, self._cache, self._root, self._now))
        self._checked(client, client.refresh)
        target = self._checked(client, lambda: client.get_targetinfo(ASSIGNMENT_TARGET))
        rollout = client.delegated_by_targets(ROLE_ROLLOUT)
        # The walk also finds the file in other delegations; only `rollout` may assign.
        if target is None or rollout is None or rollout.targets.get(ASSIGNMENT_TARGET) is not target:
            raise TrustError("bad-metadata", f"the {ROLE_ROLLOUT} role does not sign {ASSIGNMENT_TARGET}")
        roles = {name: role for name in ROLES if (role := client.role(name)) is not None}
        versions = {name: role.version for name, role in roles.items()}
        self._check_floor(versions)
        assignment = parse_assignment(self._checked(client, lambda: self._assignment(target)))
        top = roles[Targets.type]
        self._disk.sync_tree(self._cache)  # python-tuf never does: power cuts left files of length zero
        return Desired(
            versions=versions,
            expires={name: _iso(role.expires) for name, role in roles.items()},
            assignment=assignment,
            _targets=top.targets if isinstance(top, Targets) else {},
        )

    def _check_floor(self, versions: Mapping[str, int]) -> None:
        for name, version in versions.items():
            if type(version) is not int:
                raise TrustError("bad-metadata", f"the version of {name} is not an integer")
            if version < self._floor.get(name, 0):
                raise TrustError(
                    "metadata-rollback",
                    f"{name} metadata has version {version}, but this device has seen {self._floor[name]}: "
                    "an old state is being replayed",
                )

    def _assignment(self, target: TargetFile) -> bytes:
        digest = target.hashes.get("sha256", "")
        if not is_digest(f"sha256:{digest}") or not 0 <= target.length <= MAX_ASSIGNMENT_BYTES:
            raise TrustError(
                "bad-metadata", f"{ASSIGNMENT_TARGET} has no sha256 or more than its allowed length"
            )
        kept = self._cache / "assignment.json"
        with contextlib.suppress(OSError, LengthOrHashMismatchError):
            body = kept.read_bytes()
            target.verify_length_and_hashes(body)
            return body
        folder, _, name = ASSIGNMENT_TARGET.rpartition("/")
        body = self.fetcher.download_bytes(f"{_BASE}{folder}/{digest}.{name}", target.length)
        target.verify_length_and_hashes(body)
        staged = self._cache / "tmp-assignment"
        staged.write_bytes(body)
        staged.replace(kept)
        return body

    def _checked(self, client: _Client | None, step: Callable[[], _T]) -> _T:
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

    def _expired(self, client: _Client | None) -> tuple[str, str]:
        for name in ("root", "timestamp", "snapshot"):
            role = client.role(name) if client is not None else None
            if role is not None and role.is_expired(self._now):
                return name, _iso(role.expires)
        # Expired targets and delegations are not kept by python-tuf, but their signature was checked.
        name = self.fetcher.last.removesuffix(".json").rpartition(".")[2]
        return name, str(json.loads(self.fetcher.body)["signed"]["expires"])


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _empty(cache: Path) -> None:
    # What cannot be removed is met again by the second attempt, which reports it.
    if cache.is_dir() and not cache.is_symlink():
        shutil.rmtree(cache, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            cache.unlink(missing_ok=True)
