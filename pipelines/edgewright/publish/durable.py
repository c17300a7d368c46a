"""Files that are either completely there or not there at all, and storage failures told in one sentence.

>>> write_file(Path("index.json"), b"{}")   # doctest: +SKIP
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgewright.errors import EnvironmentFault

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def storage(doing: str, path: Path) -> Iterator[None]:
    """Turn an `OSError` inside the block into one sentence about `path`.

    Raises:
        EnvironmentFault: what `doing` met: a full disk, a missing permission, or anything else.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise EnvironmentFault(
                f"cannot {doing} {path}: no space left ({error.strerror})",
                hint=f"free some space under {path.parent} and run the same command again",
            ) from error
        if error.errno in _DENIED:
            raise EnvironmentFault(
                f"cannot {doing} {path}: {error.strerror}",
                hint=f"make {path.parent} writable for this user",
            ) from error
        raise EnvironmentFault(f"cannot {doing} {path}: {error.strerror or error}") from error


def write_file(path: Path, content: bytes | Iterable[bytes], *, mode: int = 0o644) -> None:
    """Write `path` so that, after a crash at any point, it holds the old bytes or the new ones.

    The order is: temporary file in the same folder, fsync, rename, fsync of the folder.

    Raises:
        EnvironmentFault: the file system refused; nothing is left behind.
    """
    with storage("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in (content,) if isinstance(content, bytes) else content:
                    file.write(piece)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path` (created if needed); the lock ends with the process.

    Raises:
        EnvironmentFault: the lock file cannot be created.
    """
    with storage("lock", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with storage("lock", path):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
