"""python-tuf's client as a device needs it: through a source, bounded per role, with floors and a clock of its own.

>>> client = Client(Fetcher(source), cache=cache, root=root, floor=floor, now=now)     # doctest: +SKIP
>>> client.refresh(); client.delegated("rollout")                                      # doctest: +SKIP

What python-tuf leaves to us: it trusts a length that a snapshot claims without a bound of its own, counts cached roots
as rotations of this refresh (and so stops for ever at some root), walks through delegations that are not this device's,
and takes the system clock's word for the time.
"""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import DownloadError, DownloadHTTPError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import DelegatedRole, Root, Signed, Targets
from tuf.api.serialization import DeserializationError
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from edgewright_agent.clock import from_text, to_text
from edgewright_agent.contract import ISSUED_FIELD, MAX_TUF_BYTES, ROLE_ROLLOUT, TUF_REPOSITORY, tuf_tag
from edgewright_agent.errors import TransportError, TrustError
from edgewright_agent.floor import SNAPSHOT, TIMESTAMP, Floor, keys_of
from edgewright_agent.transport import Source
from edgewright_agent.transport.document import parse_json, read_document

MAX_DELEGATIONS = 1024  # hardware classes and `rollout`; four times what a large fleet has
MAX_ROOT_ROTATIONS = 32  # per refresh; the next one goes on from there
BASE = "registry/"  # stands for the repository in the URLs that python-tuf makes
LIMITS = {  # bytes; a class role has MAX_TUF_BYTES: some 900 artifacts
    "root": 128 * 1024,
    "timestamp": 16 * 1024,
    "snapshot": 256 * 1024,
    "targets": MAX_TUF_BYTES,
    ROLE_ROLLOUT: 64 * 1024,
}
_CONFIG = UpdaterConfig(
    max_root_rotations=MAX_ROOT_ROTATIONS,
    max_delegations=1,  # never walked: `Client.delegated` goes straight to the role
    root_max_length=LIMITS["root"],
    timestamp_max_length=LIMITS["timestamp"],
    snapshot_max_length=LIMITS["snapshot"],
    targets_max_length=MAX_TUF_BYTES,
    prefix_targets_with_hash=True,
)


class Fetcher(FetcherInterface):
    """Metadata files as documents of a source: `…/5.snapshot.json` is tag `5.snapshot.json`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.last = "metadata"  # name of the file asked for most recently
        self.body = b""

    def _fetch(self, url: str) -> Iterator[bytes]:
        return iter([self.download_bytes(url, MAX_TUF_BYTES)])

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return a metadata file, strict JSON; in memory, where the inherited method needs a writable /tmp."""
        # python-tuf passes on the length that a snapshot gives, whatever it is.
        body = self.document(
            url.removeprefix(BASE), min(max_length, LIMITS.get(_role_of(url), MAX_TUF_BYTES))
        )
        try:
            parse_json(body, "it")
        except ValueError as error:
            raise DeserializationError(str(error)) from None
        return body

    def document(self, name: str, limit: int) -> bytes:
        """Return any file of the repository, at most `limit` bytes.

        Raises:
            DownloadError: caused by a `TransportError`.
        """
        self.last = name
        try:
            self.body = read_document(self._source, TUF_REPOSITORY, tuf_tag(name), limit=limit)
        except TransportError as error:
            if error.code == "not-found":  # ends the walk through the chain of roots (TUF 5.3.3)
                raise DownloadHTTPError(str(error), 404) from error
            raise DownloadError(str(error)) from error
        return self.body

    @property
    def last_role(self) -> str:
        """Role of the file asked for most recently."""
        return _role_of(self.last)


class Client(Updater):
    """python-tuf's workflow (TUF 5.3), with the device's floor and clock brought in where they belong.

    It needs the trusted set, for which python-tuf has no public name (its own tests replace `datetime` instead); the
    dependency is pinned to one major version, and the tests here would notice.

    Attributes:
        floor: What still holds under the newest root.
    """

    def __init__(self, fetcher: Fetcher, *, cache: Path, root: bytes, floor: Floor, now: datetime) -> None:
        super().__init__(str(cache), BASE, fetcher=fetcher, config=_CONFIG, bootstrap=root)
        self._now, self.floor, self._accepted = now, floor, floor.versions
        self._fetched: dict[str, bytes] = {}

    @property
    def time(self) -> datetime:
        """What expiry is judged by."""
        return self._trusted_set.reference_time

    @property
    def root(self) -> Root:
        """The newest root."""
        return self._trusted_set.root

    def role(self, name: str) -> Signed | None:
        """Return the verified content of a role, possibly expired, or None."""
        return self._trusted_set.get(name)

    def issued(self) -> datetime | None:
        """Return when the verified timestamp says it was signed, if it says so.

        Raises:
            TrustError: `bad-metadata` when that is no time, or after its own expiry.
        """
        timestamp = self._trusted_set.timestamp
        text = timestamp.unrecognized_fields.get(ISSUED_FIELD)
        if text is None:
            return None
        try:
            moment = from_text(to_text(from_text(text)))
        except (ValueError, TypeError, AttributeError, OverflowError):
            raise TrustError(
                "bad-metadata", f"timestamp.json: {ISSUED_FIELD} is no time: {str(text)[:80]!r}"
            ) from None
        if moment > timestamp.expires:
            raise TrustError(
                "bad-metadata", f"timestamp.json: {ISSUED_FIELD} is after its own expiry: {text}"
            )
        return moment

    def delegated(self, name: str) -> tuple[DelegatedRole, Targets] | None:
        """Return a role that the top-level targets role itself delegates to, verified; None when it does not.

        Only this role is loaded: no other class's, and nothing that a delegated role delegates to.

        Raises:
            RepositoryError, DownloadError: as python-tuf.
        """
        delegations = self._trusted_set.targets.delegations
        roles = delegations.roles if delegations is not None else None
        if roles is None:
            return None
        if len(roles) > MAX_DELEGATIONS:
            raise RepositoryError(f"targets delegates to {len(roles)} roles; {MAX_DELEGATIONS} are allowed")
        role = roles.get(name)
        return None if role is None else (role, self._load_targets(name, Targets.type))

    def require_fresh_root(self) -> None:
        """Judge root's expiry once more: the timestamp may have proved that the clock was behind.

        Raises:
            ExpiredMetadataError: it has ended.
        """
        if self.root.is_expired(self.time):
            raise ExpiredMetadataError("Final root.json is expired")

    def _load_root(self) -> None:
        # Cached roots first, uncounted: python-tuf starts from the provisioned root every time and gives up after so
        # many, which would leave a long-lived device at one root for ever.
        while self._load_cached_root():
            pass
        super()._load_root()
        keys = {
            role: keys_of(self.root.roles[role].keyids, self.root.roles[role].threshold)
            for role in _ROTATABLE
        }
        self.floor = self.floor.released(root=self.root.version, keys=keys)
        self._trusted_set.reference_time = self.floor.time(self._now) or self._now

    def _load_cached_root(self) -> bool:
        path = Path(self._dir, "root_history", f"{self.root.version + 1}.root.json")
        try:
            self._trusted_set.update_root(path.read_bytes())
        except (OSError, RepositoryError):
            return False  # python-tuf asks the source for it, and writes it anew
        return True

    def keep(self) -> None:
        """Write what was fetched into the cache; the caller has accepted all of it.

        Raises:
            OSError: the cache is broken; without room for it, nothing is written.
        """
        for role, data in self._fetched.items():
            with without_room():
                super()._persist_metadata(role, data)

    def _persist_metadata(self, rolename: str, data: bytes) -> None:
        # Not yet, as python-tuf does it once the signature is good: of a state that is then refused nothing may stay.
        # A stolen key's timestamp of version 7 would hide the owner's own version 7. The chain of roots is kept at
        # once: whoever had to begin it anew each time might not get to the end of it in one refresh.
        self._fetched[rolename] = data

    def _persist_root(self, version: int, data: bytes) -> None:
        with without_room():
            super()._persist_root(version, data)

    def _load_local_metadata(self, rolename: str) -> bytes:
        # The cache counts for no more than the record: another fleet's state, or that of a moment before a power cut,
        # may have been written here and then not been accepted.
        data = super()._load_local_metadata(rolename)
        accepted = self._accepted.get(rolename)
        try:
            if accepted is None or json.loads(data)["signed"]["version"] <= accepted:
                return data
        except (ValueError, TypeError, LookupError, RecursionError):
            pass
        raise FileNotFoundError(f"no {rolename} in the cache that was accepted")

    def _load_timestamp(self) -> None:
        super()._load_timestamp()
        # So that a device whose clock starts in 1970 still sees that the rest of a replayed state has ended.
        if (issued := self.issued()) is not None:
            self._trusted_set.reference_time = max(self.time, issued)

    def _update_root_symlink(self) -> None:
        """Leave out the link `root.json`: nothing reads it with a bootstrap root, and vfat has no links."""


@contextlib.contextmanager
def without_room() -> Iterator[None]:
    """Do without a cache that cannot be written: the floor in the record is what counts, and a full disk ends no poll.

    Whatever else is wrong with it is still told.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise


_ROTATABLE = (TIMESTAMP, SNAPSHOT)


def _role_of(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".json").rpartition(".")[2]
