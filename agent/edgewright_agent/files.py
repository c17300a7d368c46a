"""Durable writes: the one interface through which the agent changes a disk.

The order is always: file data, file sync, directory sync, rename inside one directory, parent sync. Any other
order was measured to lose acknowledged installs or to leave the active model empty after a power cut.

>>> disk = Disk()                                            # doctest: +SKIP
>>> disk.make_dir(staging)                                   # doctest: +SKIP
>>> disk.write_file(staging / "manifest.json", body)         # doctest: +SKIP
>>> disk.sync_dir(staging); disk.rename(staging, installed)  # doctest: +SKIP

`Calls` holds the single operations. A test replaces it to record them, to fail one, or to die at one.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgewright_agent.errors import StorageError

_ZEROS = 64 * 1024
# What posix_fallocate(3) says on file systems that have no such thing, where the C library does not write zeros itself.
_CANNOT_ALLOCATE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@dataclass(frozen=True)
class Free:
    """What a file system still has: bytes for this user, and inodes (None where it does not count them).

    `block_bytes` is what the smallest file costs; the totals are 0 where they are not known.
    """

    bytes: int
    inodes: int | None
    block_bytes: int = 4096
    total_bytes: int = 0
    total_inodes: int = 0


class Calls:
    """The single operations on a disk; nothing else in the agent changes one.

    Two kinds of writes go round it, because their bytes may be lost at any time: lock files, which are empty, and
    python-tuf's in its cache (made durable by `Disk.sync_tree`, distrusted against the floor in the record).
    """

    def mkdir(self, path: Path) -> None:
        path.mkdir(mode=0o755)

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)

    def open_private(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path, flags, 0o600)

    def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(fd, view, offset)
            view, offset = view[done:], offset + done

    def allocate(self, path: Path, fd: int, size: int) -> None:
        """Have the file system set aside `size` bytes of zeros, so that writing them later needs no space."""
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            if error.errno not in _CANNOT_ALLOCATE:
                raise
            zeros = bytes(_ZEROS)
            for offset in range(0, size, _ZEROS):
                self.write(path, fd, zeros[: size - offset], offset)

    def sync(self, path: Path, fd: int) -> None:
        os.fsync(fd)

    def sync_data(self, path: Path, fd: int) -> None:
        os.fdatasync(fd)

    def sync_dir(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def chmod(self, path: Path, mode: int) -> None:
        path.chmod(mode)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def link(self, old: Path, new: Path) -> None:
        os.link(old, new, follow_symlinks=False)

    def symlink(self, link: Path, target: str) -> None:
        link.symlink_to(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def rmdir(self, path: Path) -> None:
        path.rmdir()

    def free(self, path: Path) -> Free:
        found = os.statvfs(path)
        inodes = found.f_favail if found.f_files else None
        block_bytes = found.f_frsize or 4096
        return Free(
            found.f_bavail * block_bytes, inodes, block_bytes, found.f_blocks * block_bytes, found.f_files
        )


class Appender:
    """A file that grows: every byte before the last `sync` is durable."""

    def __init__(self, calls: Calls, path: Path, fd: int, size: int) -> None:
        self.path = path
        self._calls, self._fd = calls, fd
        self.size = size

    def write(self, data: bytes) -> None:
        """Append `data`.

        Raises:
            StorageError: `no-space`, `read-only`, `io-error`.
        """
        with faults(self.path, "write"):
            self._calls.write(self.path, self._fd, data, self.size)
        self.size += len(data)

    def sync(self) -> None:
        """Make everything written so far durable.

        Raises:
            StorageError: the file was discarded: after a failed fsync its pages may look clean and be lost.
        """
        try:
            with faults(self.path, "sync"):
                self._calls.sync(self.path, self._fd)
        except StorageError:
            _discard(self._calls, self.path)
            raise


class Disk:
    """Durable operations, composed of `Calls`. Every method raises `StorageError` when the disk says no."""

    def __init__(self, calls: Calls | None = None) -> None:
        self.calls = calls or Calls()
        self._made: set[Path] = set()
        self._named: set[Path] = set()  # overwritten files whose name is durable

    def make_dir(self, path: Path) -> None:
        """Have a directory and its parents, each durable in its parent."""
        with faults(path, "create"):
            if not path.is_dir():
                self.make_dir(path.parent)
                with contextlib.suppress(FileExistsError):
                    self.calls.mkdir(path)
                self.calls.sync_dir(path.parent)
            elif path not in self._made:
                # Whoever made it may have been killed before the sync; where we may not even look (systemd's
                # /var/lib/private) it was not an agent.
                with contextlib.suppress(PermissionError):
                    self.calls.sync_dir(path.parent)
            self._made.add(path)

    def write_file(self, path: Path, data: bytes) -> None:
        """Write a file whose old content, if any, no longer matters, and sync it (not its directory)."""
        with self.appending(path, keep=0) as file:
            file.write(data)
            file.sync()

    @contextlib.contextmanager
    def appending(self, path: Path, *, keep: int) -> Iterator[Appender]:
        """Open a file for growth after its first `keep` bytes; 0 starts it anew."""
        flags = os.O_WRONLY | os.O_CREAT | (0 if keep else os.O_TRUNC)
        with faults(path, "open"):
            fd = self.calls.open(path, flags)
        try:
            yield Appender(self.calls, path, fd, keep)
        finally:
            os.close(fd)

    def overwrite(self, path: Path, data: bytes) -> None:
        """Overwrite the start of a pre-allocated file in place and sync its data.

        The first time also its directory: on overlayfs a file of the image below is copied up when it is opened, and
        without that its copy has no name after a power cut, however often its data was synced.

        Raises:
            StorageError: after a failed sync the file is gone; after a failed write it is torn.
        """
        with faults(path, "open"):
            fd = self.calls.open(path, os.O_WRONLY)
        try:
            with faults(path, "write"):
                self.calls.write(path, fd, data, 0)
            try:
                with faults(path, "sync"):
                    self.calls.sync_data(path, fd)
            except StorageError:
                _discard(self.calls, path)
                raise
        finally:
            os.close(fd)
        if path not in self._named:
            self.sync_dir(path.parent)
            self._named.add(path)

    def write_at(self, path: Path, data: bytes, offset: int, *, sync: bool) -> None:
        """Overwrite a part of a pre-allocated file in place; with `sync`, all that was written to it is durable then.

        Raises:
            StorageError: the part is torn. After a failed sync nothing is discarded, unlike in `overwrite`: what
                such a file holds is checksummed piece by piece, and the rest of it may well be good.
        """
        with faults(path, "open"):
            fd = self.calls.open(path, os.O_WRONLY)
        try:
            with faults(path, "write"):
                self.calls.write(path, fd, data, offset)
            if sync:
                with faults(path, "sync"):
                    self.calls.sync_data(path, fd)
        finally:
            os.close(fd)

    def preallocate(self, path: Path, size: int, start: bytes) -> None:
        """Write a file of `size` bytes that begins with `start` and goes on with zeros; sync it (not its directory).

        On copy-on-write file systems its space is not its own even so.
        """
        with faults(path, "open"):
            fd = self.calls.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            with faults(path, "allocate"):
                self.calls.allocate(path, fd, size)
                self.calls.write(path, fd, start, 0)
            with faults(path, "sync"):
                self.calls.sync(path, fd)
        except StorageError:
            _discard(self.calls, path)
            raise
        finally:
            os.close(fd)

    def replace_file(self, path: Path, data: bytes) -> None:
        """Put a file in place whole or not at all, durably."""
        fresh = fresh_of(path)
        self.write_file(fresh, data)
        self.rename(fresh, path)

    def create_private(self, path: Path, data: bytes) -> bool:
        """Put a file only its owner can read in place, whole and durably, unless something is there.

        Returns:
            Whether it was put there; what is there is never touched.
        """
        fresh = fresh_of(path)
        self.remove(fresh)
        with faults(path, "create"):
            fd = self.calls.open_private(fresh)
            try:
                self.calls.write(fresh, fd, data, 0)
                self.calls.sync(fresh, fd)
            finally:
                os.close(fd)
            try:
                self.calls.link(fresh, path)  # unlike a rename, it refuses to replace
            except FileExistsError:
                return False
            finally:
                self.calls.unlink(fresh)
            self.calls.sync_dir(path.parent)
        return True

    def rename(self, old: Path, new: Path) -> None:
        """Rename inside one directory, durably.

        Raises:
            StorageError: `exdev` when overlayfs cannot move a directory of a lower layer: make it anew.
        """
        if old.parent != new.parent:
            raise ValueError(f"not in one directory: {old}, {new}")
        with faults(new, "rename"):
            self.calls.rename(old, new)
            self.calls.sync_dir(new.parent)

    def replace_symlink(self, link: Path, target: str) -> None:
        """Point `link` at `target` atomically and durably."""
        fresh = fresh_link_of(link)
        self.remove(fresh)
        with faults(link, "link"):
            self.calls.symlink(fresh, target)
        self.rename(fresh, link)

    def set_mode(self, path: Path, mode: int) -> None:
        """Say who may use a file or directory; durable with its next sync."""
        with faults(path, "change the mode of"):
            self.calls.chmod(path, mode)

    def remove(self, path: Path) -> None:
        """Remove a file or link if it is there; durable with its directory's next sync."""
        with faults(path, "remove"), contextlib.suppress(FileNotFoundError):
            self.calls.unlink(path)

    def remove_tree(self, path: Path, *, first: str | None = None) -> None:
        """Remove a directory and all in it; `first` is the file without which the rest is garbage."""
        with faults(path, "remove"):
            if path.is_symlink() or not path.is_dir():
                self.remove(path)
                return
            if first and (path / first).exists():
                self.remove(path / first)
                self.calls.sync_dir(path)
            for entry in sorted(path.iterdir()):
                if entry.is_dir() and not entry.is_symlink():
                    self.remove_tree(entry)
                else:
                    self.remove(entry)
            self.calls.rmdir(path)
            self.calls.sync_dir(path.parent)

    def sync_dir(self, path: Path) -> None:
        """Make a directory's entries durable."""
        with faults(path, "sync"):
            self.calls.sync_dir(path)

    def sync_tree(self, path: Path) -> None:
        """Make every file under a directory durable that somebody else wrote; empty or absent is fine."""
        with faults(path, "sync"):
            if not path.is_dir():
                return
            for entry in sorted(path.iterdir()):
                if entry.is_symlink():
                    continue
                if entry.is_dir():
                    self.sync_tree(entry)
                    continue
                fd = os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    self.calls.sync(entry, fd)
                finally:
                    os.close(fd)
            self.calls.sync_dir(path)

    def free(self, path: Path) -> Free:
        """Return the space left on the file system of `path`."""
        with faults(path, "ask for free space"):
            return self.calls.free(path)


def fresh_of(path: Path) -> Path:
    """Return where a file is written before it is renamed to its name; a power cut may leave both names."""
    return path.with_name(path.name + ".new")


def fresh_link_of(link: Path) -> Path:
    """Return where a link is made before it is renamed to its name: a name that no model can have."""
    return link.with_name(f".{link.name}.new")


def existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return path


_CODES = {
    errno.ENOSPC: ("no-space", "free some space, it recovers by itself"),
    errno.EDQUOT: ("no-space", "raise the quota, it recovers by itself"),
    errno.EROFS: ("read-only", "the file system is mounted read-only; check the disk"),
    errno.EXDEV: ("exdev", "the directory lies in a read-only image layer"),
    errno.EACCES: ("not-permitted", ""),
    errno.EPERM: ("not-permitted", ""),
}


@contextlib.contextmanager
def faults(path: Path, action: str) -> Iterator[None]:
    """Turn an operating system error into a `StorageError` that names the path, the action and a way out."""
    try:
        yield
    except OSError as error:
        code, advice = _CODES.get(error.errno or 0, ("io-error", "check the disk"))
        advice = advice or whose(path)
        raise StorageError(code, f"cannot {action} {path}: {error.strerror or error}; {advice}") from error


def whose(path: Path) -> str:
    """Say whose a path is that this user may not use, or the nearest folder above that can be seen, and what to do."""
    from edgewright_agent.owner import User

    me = User.of(os.geteuid(), os.getegid())
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            found = place.lstat()
            owner = User.of(found.st_uid, found.st_gid)
            if owner.uid == me.uid:
                return f"{place} belongs to {me.name}, who this is: check its mode, and what the unit allows"
            told = f"{place} belongs to {owner.name}, and this is {me.name}: "
            above = place.parent.stat()
            if owner.uid == 0 and above.st_uid != 0:  # root would do it as that user: see `owner`
                return f"{told}chown -R {User.of(above.st_uid, above.st_gid).name} {place.parent}"
            return told + ("let that user in, or run as root" if owner.uid == 0 else f"run as {owner.name}")
    return "run as the user that owns it"


def _discard(calls: Calls, path: Path) -> None:
    # Best effort on a disk that has just failed; the caller reports the first error.
    with contextlib.suppress(OSError):
        calls.unlink(path)
        calls.sync_dir(path.parent)
