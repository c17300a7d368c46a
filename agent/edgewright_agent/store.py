"""The content-addressed model store: `store/<manifest digest>/` holds an artifact's files and its manifest.

>>> store = Store(Path("/var/lib/edgewright"), Disk())                       # doctest: +SKIP
>>> staging = store.stage(artifact)                                          # doctest: +SKIP
>>> ...; store.install(artifact); store.link("digit-reader", artifact.digest)  # doctest: +SKIP

A new artifact grows in `store/<digest>.staging/` and becomes `store/<digest>/` by one rename inside one
directory (a rename between two directories would need both synced, and overlayfs may refuse it). An entry
counts only once the record names it, and only with its `manifest.json`, which is the first file to go when
an entry is removed. `current/<model>` is derived from the record and repaired at every start.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgewright_agent.artifact import MANIFEST_FILE, Artifact, Layer, parse
from edgewright_agent.contract import FILE_MODEL, FILE_RUNTIME, is_digest, is_name
from edgewright_agent.errors import StorageError, TrustError
from edgewright_agent.files import Disk, existing, faults, fresh_link_of

READ_BYTES = 1024 * 1024
STORE = "store"
ENGINES = (
    "engines"  # <digest>/: what execution providers have built for an artifact; lost at any time, built again
)
# Of what was encrypted on its way: nobody else while it is incomplete, then the agent's group; never others.
PRIVATE_DIR, SHARED_DIR = 0o700, 0o750
PRIVATE_FILE, SHARED_FILE = 0o600, 0o640
_STAGING = ".staging"
_STAT_BLOCK_BYTES = 512  # whatever the file system's own blocks are (stat(2))
# Why a file cannot be read although nothing is wrong with it.
_NOT_THE_FILE = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
LOADED = (FILE_MODEL, FILE_RUNTIME)  # what a model runs from; the rest is for trials, people and statistics


@dataclass(frozen=True)
class Room:
    """What something takes of a disk."""

    bytes: int = 0
    inodes: int = 0

    def __add__(self, other: Room) -> Room:
        return Room(self.bytes + other.bytes, self.inodes + other.inodes)


class Store:
    """The models on one device."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.root = folder / STORE
        self.engines = folder / ENGINES
        self.current = folder / "current"
        self.factory = folder / "factory"
        self.disk = disk

    def path(self, digest: str) -> Path:
        """Return where an artifact is, or would be."""
        if not is_digest(digest):
            raise ValueError(f"not a digest: {digest!r}")
        return self.root / digest.removeprefix("sha256:")

    def staging(self, digest: str) -> Path:
        """Return where an artifact grows."""
        return self.path(digest).with_name(self.path(digest).name + _STAGING)

    def artifact(self, digest: str) -> Artifact:
        """Return an installed artifact's description; its manifest is checked against the digest.

        Raises:
            StorageError: `damaged`.
        """
        path = self.path(digest) / MANIFEST_FILE
        try:
            artifact = parse(path.read_bytes())
        except (OSError, TrustError) as error:
            raise StorageError("damaged", f"{path} is unreadable: {error}") from error
        if artifact.digest != digest:
            raise StorageError("damaged", f"{path} has changed since it was installed")
        return artifact

    def intact(self, digest: str) -> bool:
        """Whether an entry looks whole: manifest as signed, every file of its declared size. Cheap."""
        try:
            layers = self.artifact(digest).layers
            return all((self.path(digest) / layer.file).stat().st_size == layer.file_size for layer in layers)
        except (StorageError, OSError):
            return False

    def verify(self, digest: str) -> Artifact:
        """Read every byte of an entry back from the disk and hash it against the signed manifest.

        Raises:
            StorageError: `damaged`, naming the file.
        """
        artifact = self.artifact(digest)
        for layer in artifact.layers:
            check_file(self.path(digest) / layer.file, layer)
        return artifact

    def runs(self, digest: str) -> bool:
        """Whether what an application loads of an entry is, byte for byte, what was signed: model and runtime file."""
        try:
            layers = [layer for layer in self.artifact(digest).layers if layer.file in LOADED]
            for layer in layers:
                check_file(self.path(digest) / layer.file, layer)
        except StorageError:
            return False
        return True

    def drop_damaged(self, digest: str) -> None:
        """Remove what is damaged of an entry that still runs: `intact` then says so until it is fetched again.

        Raises:
            StorageError: the disk refused; the manifest is damaged.
        """
        for layer in self.artifact(digest).layers:
            if layer.file not in LOADED:
                try:
                    check_file(self.path(digest) / layer.file, layer)
                except StorageError as error:
                    if error.code == "damaged":
                        self.disk.remove_tree(self.path(digest) / layer.file)

    def stage(self, artifact: Artifact) -> Path:
        """Return a durable staging directory; parts of an earlier try are still in it.

        That of an encrypted artifact is closed to all others before anything is in it.
        """
        staging = self.staging(artifact.digest)
        self.disk.make_dir(staging)
        if artifact.sealed:
            self.disk.set_mode(staging, PRIVATE_DIR)
        return staging

    def install(self, artifact: Artifact) -> None:
        """Turn the complete staging directory into an entry, then read it back.

        Raises:
            StorageError: `damaged` when the disk gives back other bytes than it was given; nothing is left.
        """
        staging, final = self.staging(artifact.digest), self.path(artifact.digest)
        for entry in staging.iterdir():
            if entry.name not in {layer.file for layer in artifact.layers}:
                self.disk.remove_tree(entry)
        self.disk.write_file(staging / MANIFEST_FILE, artifact.body)
        if artifact.sealed:
            self.disk.set_mode(staging, SHARED_DIR)
        self.disk.sync_dir(staging)
        self.discard(artifact.digest)
        try:
            self.disk.rename(staging, final)
            self.verify(artifact.digest)
        except StorageError:
            with contextlib.suppress(StorageError):  # the first fault is the one to report
                self.disk.remove_tree(staging)
                self.discard(artifact.digest)
            raise

    def complete(self, artifact: Artifact) -> None:
        """Finish an entry whose damaged files have been replaced one by one, then read it back.

        Raises:
            StorageError: `damaged`; the disk refused.
        """
        entry = self.path(artifact.digest)
        for stray in sorted(entry.iterdir()):
            if stray.name not in {MANIFEST_FILE, *(layer.file for layer in artifact.layers)}:
                self.disk.remove_tree(stray)
        try:
            self.artifact(artifact.digest)
        except StorageError:
            self.disk.replace_file(entry / MANIFEST_FILE, artifact.body)
        self.disk.sync_dir(entry)
        self.verify(artifact.digest)

    def discard(self, digest: str) -> None:
        """Remove an entry, if it is there."""
        self.disk.remove_tree(self.path(digest), first=MANIFEST_FILE)

    def collect(self, keep: Collection[str], staged: Collection[str] | None = ()) -> dict[str, str]:
        """Remove entries not in `keep` and staging directories not in `staged` (None: all stay), oldest first.

        Returns:
            What could not be removed, by its path below the state directory, and why: garbage that stays is no reason
            to stop, but one to tell.
        """
        kept = {self.path(digest).name for digest in keep}
        if staged is not None:
            kept |= {self.staging(digest).name for digest in staged}
        stuck: dict[str, str] = {}
        for folder in (self.root, self.engines):
            for entry in _by_age(folder):
                if entry.name in kept or (staged is None and entry.name.endswith(_STAGING)):
                    continue
                try:
                    self.disk.remove_tree(entry, first=MANIFEST_FILE)
                except StorageError as error:
                    stuck[f"{folder.name}/{entry.name}"] = f"{error.code}: {error}"
        return stuck

    def keep_cache(self, digest: str) -> None:
        """Have `engines/<digest>/`, where an artifact's providers keep what they build, if it is installed.

        It is the agent's, so that whatever is put there can be removed, and open to whom the artifact is open to:
        what is built from a model tells as much as the model. Nobody else may write there: what one application builds
        is code that the next trial would run.

        Raises:
            StorageError: the disk refused: providers build it every time then.
        """
        from edgewright_agent.settings import wants_cache  # who only asks for news does without it

        entry, cache = self.path(digest), self.engines / self.path(digest).name
        mode = _mode(entry)
        if mode is None or not (cache.is_dir() or wants_cache(entry)):
            return
        self.disk.make_dir(cache)
        if _mode(cache) != mode:
            self.disk.set_mode(cache, mode)

    def stagings(self) -> list[Path]:
        """Return the directories of downloads that have begun, the longest untouched first."""
        return [entry for entry in _by_age(self.root) if entry.name.endswith(_STAGING)]

    def caches(self) -> list[Path]:
        """Return where execution providers have built something, the longest untouched first."""
        return [cache for cache in _by_age(self.engines) if _by_age(cache)]

    def empty_cache(self, cache: Path) -> None:
        """Remove what execution providers have built in `cache`, which stays: who loads the model next builds it there.

        That may take minutes.

        Raises:
            StorageError: the disk refused.
        """
        for built in _by_age(cache):
            self.disk.remove_tree(built)

    def shortage(
        self,
        artifact: Artifact,
        *,
        reserve_bytes: int,
        reserve_inodes: int = 0,
        otherwise: Mapping[str, int] | None = None,
        spare: Room | None = None,
    ) -> str | None:
        """Return why an artifact does not fit (bytes or inodes, after the reserve), or None when it does.

        Args:
            artifact: What is to come.
            reserve_bytes: What must stay free.
            reserve_inodes: Likewise.
            otherwise: File → room it needs, for those that do not come as their layers: copies, and what deltas make.
            spare: Room that could be made: counted as free.
        """
        made = spare or Room()
        ways = otherwise or {}
        free = self.disk.free(existing(self.root))
        staging, block = self.staging(artifact.digest), free.block_bytes
        # The manifest and the directory, and what `current` and the record's neighbours may need while it is installed.
        need = _blocks(len(artifact.body), block) + 3 * block
        for layer in artifact.layers:
            if _size(staging / layer.file) == layer.file_size:
                continue
            if layer.file in ways:
                need += _blocks(ways[layer.file], block)
                continue
            have = min(layer.size, _size(part_of(staging, layer)))
            need += _blocks(layer.size, block) - _blocks(have, block)
            if layer.content:  # for a while the archive or ciphertext and its file are both there
                # What an interrupted unpacking left is written over: it is space this needs and already has.
                have = min(layer.file_size, _size(unpacked_of(staging, layer)))
                need += _blocks(layer.file_size, block) - _blocks(have, block)
        if free.bytes + made.bytes < need + reserve_bytes:
            need += reserve_bytes
            return f"needs {need} bytes including a reserve of {reserve_bytes}, {free.bytes} are free"
        inodes = len(artifact.layers) + 3 + reserve_inodes + len(ways)
        if free.inodes is not None and free.inodes + made.inodes < inodes:
            return f"needs {inodes} inodes including a reserve of {reserve_inodes}, {free.inodes} are free"
        return None

    def linked(self, model: str) -> str | None:
        """Return the digest `current/<model>` points at, if any."""
        return _target(self.current / model)

    def links(self) -> dict[str, str]:
        """Return every model that has a `current` link, and what it points at."""
        return _targets(self.current)

    def sweep(self) -> None:
        """Remove links that a power cut has left under the name they are made with.

        Raises:
            StorageError: the disk refused.
        """
        for folder in (self.current, self.factory):
            for link in sorted(folder.iterdir()) if folder.is_dir() else ():
                if link == fresh_link_of(folder / link.name[1:].removesuffix(".new")):
                    self.disk.remove(link)

    def link(self, model: str, digest: str | None) -> None:
        """Make `current/<model>` say what the record says; does nothing when it already does."""
        self._link(self.current / model, digest)

    def factories(self) -> dict[str, str]:
        """Return every model that has a `factory` link, and what it points at."""
        return _targets(self.factory)

    def mark_factory(self, model: str, digest: str | None) -> None:
        """Make `factory/<model>` say what the record says; it is what is left of that when the record is lost."""
        self._link(self.factory / model, digest)

    def _link(self, link: Path, digest: str | None) -> None:
        if digest is None:
            if link.is_symlink():
                self.disk.remove(link)
                self.disk.sync_dir(link.parent)
        elif _target(link) != digest:
            self.disk.make_dir(link.parent)
            self.disk.replace_symlink(link, f"../store/{self.path(digest).name}")


def _target(link: Path) -> str | None:
    try:
        name = link.readlink().name
    except OSError:
        return None
    return f"sha256:{name}" if is_digest(f"sha256:{name}") else None


def _targets(folder: Path) -> dict[str, str]:
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    # What a power cut left between making a link and renaming it has a name no model can have.
    return {name: digest for name in names if is_name(name) and (digest := _target(folder / name))}


def part_of(staging: Path, layer: Layer) -> Path:
    """Return the name of a layer's unfinished download."""
    return staging / f"{layer.file}.part"


def unpacked_of(staging: Path, layer: Layer) -> Path:
    """Return the name of the file that is being unpacked or decrypted from a layer's finished download."""
    return staging / f"{layer.file}.unpacked.part"


def room_of(folder: Path) -> Room:
    """Return what the files below a folder take of the disk; directories are not counted."""
    found = Room()
    with contextlib.suppress(OSError):
        for path in folder.rglob("*"):
            told = path.lstat()
            if not stat.S_ISDIR(told.st_mode):
                found += Room(told.st_blocks * _STAT_BLOCK_BYTES, 1)
    return found


def check_file(path: Path, layer: Layer) -> None:
    """Hash a file as the disk, not the page cache, has it.

    Raises:
        StorageError: `damaged`: other bytes, none, or a bad sector under them; `not-permitted`, or `io-error` where it
            is this process that cannot read just now.
    """
    digest = hashlib.sha256()
    size = 0
    try:
        with path.open("rb", buffering=0) as file:
            # Other systems have shipped zero-byte files after "success": ask the medium, not the memory.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            buffer = memoryview(bytearray(READ_BYTES))
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                size += count
    except OSError as error:
        if error.errno in _NOT_THE_FILE:
            with faults(path, "read"):
                raise
        # What the disk does not give back is gone, and fetched again like what it gives back changed.
        raise StorageError("damaged", f"{path} cannot be read back: {error.strerror or error}") from error
    if size != layer.file_size or f"sha256:{digest.hexdigest()}" != layer.file_digest:
        raise StorageError("damaged", f"{path} differs from the signed manifest")


def _blocks(size: int, block_bytes: int) -> int:
    return -(-size // block_bytes) * block_bytes


def _by_age(folder: Path) -> list[Path]:
    """Return what is in a folder, the longest untouched first."""

    def touched(entry: Path) -> tuple[float, str]:
        try:
            return entry.lstat().st_mtime, entry.name
        except OSError:
            return 0.0, entry.name

    return sorted(folder.iterdir(), key=touched) if folder.is_dir() else []


def _mode(folder: Path) -> int | None:
    """Return who may use a folder; None when it is not there."""
    try:
        return stat.S_IMODE(folder.stat().st_mode)
    except OSError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
