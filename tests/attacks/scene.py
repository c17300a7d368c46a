"""Where an attack is played: the fleet's keys, the registry process, a device that runs a model, the attacker's tools.

>>> scene.serve(2)                                            # doctest: +SKIP
>>> forgery = scene.forgery("rollout", of=1)                   # doctest: +SKIP
>>> forgery.publish(scene.tuf, "snapshot", "timestamp")        # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from attacks.device import Device, Told, clock_shifted
from attacks.fleet import MODEL, OTHER_MODEL, PI, PREFIX, RELEASES, Fleet, Release, lane
from attacks.forgery import Forgery
from attacks.mirror import Mirror
from edgewright.publish import oci
from edgewright.publish.registry import Registry
from edgewright_agent.contract import (
    OCI_EMPTY_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    TUF_REPOSITORY,
    digest_of,
    fallback_tag,
)
from private_sigstore.instance import PrivateSigstore
from unit.publish.lane import LaneFiles
from unit.trust.fleet import SmallFleet

_Started = TypeVar("_Started")
_API = Path("docker/registry/v2")
_REPOSITORIES = _API / "repositories" / PREFIX


@dataclass
class Scene:
    """One attack's world; nothing of it outlives the test but the registry process.

    Attributes:
        fleet: The fleet, its registry process and its releases.
        device: The device under attack.
        folder: Scratch space.
        clock: How wrong the device's clock is.
        floor: Highest versions that the device has accepted before the poll that is judged.
        collected: What the collector of reports said, where the attack is on it.
        sigstore: Returns the private Sigstore instance of this test run.
        instead: What is done in place of the poll that is judged, once.
    """

    fleet: Fleet
    device: Device
    folder: Path
    clock: timedelta = timedelta()
    floor: dict[str, int] = field(default_factory=dict)
    collected: str | None = None
    sigstore: Callable[[], PrivateSigstore] | None = None
    instead: Callable[[], Told] | None = None
    served: int = 0
    _base: Path | None = None
    _tampered: bool = False
    _copies: int = 0
    _owner: SmallFleet | None = None
    _showing: Path = Path()
    _attached: Callable[[], None] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def serve(self, number: int) -> Release:
        """Let the registry hold exactly what it held after a release."""
        release = self.fleet.releases[number]
        self._base, self._tampered, self.served = release.storage, False, number
        _show(release.storage, self.fleet.registry.storage)
        return release

    def tamper(self, repository: str | None = None) -> None:
        """Go on with a copy of what is served: nobody writes into what the fleet has released.

        Only the repository that is written to is copied, the others are links. Blobs are shared: one that is added
        changes nothing for a repository that has no link to it.
        """
        assert self._base is not None
        if not self._tampered:
            self._tampered = True
            self._copies += 1
            own = self.folder / f"tampered-{self._copies}"
            (own / _REPOSITORIES).mkdir(parents=True)
            for path in (self._base / _REPOSITORIES).iterdir():
                (own / _REPOSITORIES / path.name).symlink_to(path.resolve())
            (own / _API / "blobs").symlink_to(self.fleet.releases[RELEASES[-1]].storage / _API / "blobs")
            _show(own, self.fleet.registry.storage)
            self._showing = own
        there = self._showing / _REPOSITORIES / repository if repository else None
        if there is not None and there.is_symlink():
            shared = there.resolve()
            there.unlink()
            shutil.copytree(shared, there, copy_function=_copy)

    def keep(self) -> None:
        """Take what the registry holds now for honest: what is written to it from now on is an attack."""
        if self._tampered:
            self._base, self._tampered = self._showing, False

    def take_back(self) -> None:
        """Undo what was written since `serve` or `keep`."""
        assert self._base is not None
        _show(self._base, self.fleet.registry.storage)
        self._tampered = False

    def owner(self) -> SmallFleet:
        """Return the fleet in the hands of its owner, as it was at the release that is served.

        It is a copy with every key, and what it releases goes to the registry: the same functions as everywhere.
        """
        self.tamper(TUF_REPOSITORY)
        if self._owner is None:
            release, made = self.fleet.releases[self.served], self.fleet.made
            root = self.folder / "owner"
            shutil.copytree(made.root / ".edgewright/keys", root / ".edgewright/keys")
            shutil.copytree(made.root / "auditor", root / "auditor")
            shutil.copytree(release.metadata, root / ".edgewright/tuf")
            self._owner = replace(
                made,
                root=root,
                lanes={model: dict(classes) for model, classes in release.lanes.items()},
                more=dict(release.more),
                trust=copy.deepcopy(made.trust),
                now=datetime.now(UTC),
            )
        return self._owner

    def dismiss_owner(self) -> None:
        """Forget what the owner has done: the attacker did it elsewhere, or it was somebody else's fleet."""
        assert self._owner is not None
        shutil.rmtree(self._owner.root)
        self._owner = None

    def offer_artifacts(self, number: int) -> None:
        """Let the owner have published the artifacts of a release: the next metadata may assign them."""
        owner, release = self.owner(), self.fleet.releases[number]
        owner.lanes = {model: dict(classes) for model, classes in release.lanes.items()}
        for model in (MODEL, OTHER_MODEL):
            there = self._showing / _REPOSITORIES / model
            assert there.is_symlink(), "the attacker writes after the owner"
            there.unlink()
            there.symlink_to(release.storage / _REPOSITORIES / model)

    def serve_honestly(self, number: int) -> None:
        """Serve a release as its owner signs it now, who may have had to bring other things in order meanwhile."""
        if self._owner is None:
            self.serve(number)
            return
        self.take_back()
        self.offer_artifacts(number)
        self._owner.now = datetime.now(UTC)
        self._owner.release()
        if self._attached is not None:
            self._attached()

    def honestly(self, attached: Callable[[], None]) -> None:
        """Say what the owner attaches to the artifact of the honest release that follows."""
        self._attached = attached

    def remember_floor(self) -> None:
        """Say that what the device has accepted so far was honest."""
        self.floor = dict(self.device.record.floor)

    def poll(self, *, as_a_process: bool = False) -> Told:
        """Let the device poll, by its own clock, or do what the attack is on."""
        if self.instead is not None:
            instead, self.instead = self.instead, None
            return instead()
        if as_a_process:
            assert not self.clock, "a process has the clock of the machine"
            return self.device.once_as_a_process()
        with clock_shifted(self.clock):
            return self.device.once()

    def start(self, started: contextlib.AbstractContextManager[_Started]) -> _Started:
        """Start something that ends with the scene."""
        return self._stack.enter_context(started)

    def close(self) -> None:
        """End whatever the attack started."""
        self._stack.close()

    # --- what an attacker can do with the registry ---------------------------------------------------------------

    @property
    def tuf(self) -> Registry:
        """The repository of the metadata, to push to."""
        return self.repository_of(TUF_REPOSITORY)

    @property
    def repository(self) -> Registry:
        """The repository of the model, to push to."""
        return self.repository_of(MODEL)

    def repository_of(self, name: str) -> Registry:
        """Return any repository, to push to."""
        return cast(Registry, _Tampered(self.fleet.made.open(name), lambda: self.tamper(name)))

    @property
    def path(self) -> str:
        """Path of the registry's API below its prefix."""
        return f"/v2/{PREFIX}"

    def forgery(self, *stolen: str, of: int | None = None) -> Forgery:
        """Return the metadata of a release (default: what is served), for somebody with these keys."""
        if of is None and self._owner is not None:
            return Forgery(self._owner.metadata, self._owner.keys, stolen)
        return Forgery(self.fleet.releases[of or self.served].metadata, self.fleet.keys, stolen)

    def overwrite(self, digest: str, content: bytes) -> None:
        """Replace what the registry stored under a digest."""
        self.tamper()
        blobs = self.fleet.registry.storage / "docker/registry/v2/blobs"
        if blobs.is_symlink():
            shared = blobs.resolve()
            blobs.unlink()
            shutil.copytree(shared, blobs, copy_function=_copy)
        self.fleet.registry.blob_path(digest).write_bytes(content)

    def manifest(self, digest: str) -> dict[str, Any]:
        """Return a manifest of the model's repository."""
        body = self.repository.get_manifest(digest)
        assert body is not None
        document: dict[str, Any] = json.loads(body)
        return document

    def layer_of(self, tag: str) -> str:
        """Return the digest of the bytes that a tag of the metadata repository stands for."""
        body = self.tuf.get_manifest(tag)
        assert body is not None
        return str(json.loads(body)["layers"][0]["digest"])

    def list_referrers(self, subject: str, *referrers: bytes) -> None:
        """Let the referrers of a digest be these manifests, and no others."""
        self.repository.put_blob(oci.EMPTY_CONFIG["digest"], OCI_EMPTY_BYTES)
        for body in referrers:
            self.repository.put_manifest(digest_of(body), body, OCI_MANIFEST)
        entries = [oci.manifest_descriptor(body) for body in referrers]
        self.repository.put_manifest(fallback_tag(subject), oci.index(entries), OCI_INDEX)

    def referrers_of(self, subject: str) -> list[bytes]:
        """Return the manifests that are listed as referrers of a digest."""
        body = self.repository.get_manifest(fallback_tag(subject))
        assert body is not None
        found = [self.repository.get_manifest(entry["digest"]) for entry in json.loads(body)["manifests"]]
        return [manifest for manifest in found if manifest is not None]

    def malware(self, *, hardware_class: str = PI, **changes: Any) -> LaneFiles:
        """Push a model of the attacker's own, signed by a key of the attacker's own; its answers are other ones."""
        self.tamper(MODEL)
        made = lane(self.folder / "workshop", self.fleet.url, MODEL, hardware_class, scale=-1.0, **changes)
        made.all()
        return made

    # --- other ways to the device ----------------------------------------------------------------------------------

    def mirror(self) -> Mirror:
        """Put a man in the middle between the device and the registry."""
        mirror = self._stack.enter_context(Mirror(self.fleet.registry))
        self.device.look_at(f"{mirror.url}/{PREFIX}")
        return mirror

    def layouts(self, number: int) -> Path:
        """Return a copy of a release as OCI layouts, to be tampered with."""
        layouts = self.folder / f"layouts-{number}"
        shutil.copytree(self.fleet.releases[number].layouts, layouts)
        return layouts

    def look_into(self, path: Path) -> None:
        """Let the device read a bundle file or a directory of layouts."""
        self.device.look_at(f"oci:{path}" if path.is_dir() else f"bundle:{path}")

    def look_at_registry(self) -> None:
        """Let the device read the registry itself again."""
        self.device.look_at(self.fleet.url)

    def patched(self, change: contextlib.AbstractContextManager[Any]) -> None:
        """Keep a change of a constant (a time window) for as long as the scene lasts."""
        self._stack.enter_context(change)


def _show(storage: Path, link: Path) -> None:
    """Let the registry process find a folder as its storage."""
    fresh = link.with_name("storage.new")
    fresh.symlink_to(storage)
    fresh.replace(link)


def _copy(source: str, destination: str) -> None:
    Path(destination).write_bytes(Path(source).read_bytes())


class _Tampered:
    """A repository that is copied before anything is written to it."""

    def __init__(self, repository: Registry, before: Callable[[], None]) -> None:
        self._repository, self._before = repository, before

    def __getattr__(self, name: str) -> Any:
        if name.startswith("put_"):
            self._before()
        return getattr(self._repository, name)


@contextlib.contextmanager
def played(generator: Iterator[None]) -> Iterator[None]:
    """Run an attack up to its `yield`, and the rest of it afterwards."""
    next(generator)
    yield
    assert next(generator, "done") == "done", "an attack yields once"
