"""Sockets in the state directory: open to its group, and wherever that directory is.

>>> with Bound(state / "live.sock", socket.SOCK_DGRAM) as live:     # doctest: +SKIP
...     live.channel.recv(1024)

A path of a Unix socket has 107 bytes at most (unix(7)); a longer one is reached through a descriptor of its directory.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from edgewright_agent.errors import StorageError
from edgewright_agent.files import Disk, faults

MAX_PATH_BYTES = 107
_SO_SNDTIMEO_NEW = 67  # asm-generic/socket.h
MODE = 0o660  # owner and group of the state directory: applications are in that group


class Bound:
    """A socket with a name in the file system; what an ended process has left there is replaced.

    Args:
        path: Where; its directory exists.
        kind: `socket.SOCK_STREAM` or `SOCK_DGRAM`.

    Raises:
        StorageError: `not-a-socket` when something else is there, `not-permitted`, `read-only`, `no-space`, `io-error`.
    """

    def __init__(self, path: Path, kind: socket.SocketKind) -> None:
        self.path = path
        with faults(path, "look at"), contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise StorageError("not-a-socket", f"{path} is in the way: no socket; move it away")
        Disk().remove(path)
        self.channel = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
        try:
            os.fchmod(
                self.channel.fileno(), MODE
            )  # before it has a name: nobody else can use it for a moment
            with faults(path, "listen at"), address(path) as name:
                self.channel.bind(name)
            Disk().set_mode(path, MODE)  # whatever the umask took away
            with contextlib.suppress(PermissionError):
                os.chown(path, -1, path.parent.stat().st_gid)
            self._inode = _inode(path)
        except BaseException:
            self.channel.close()
            raise

    @property
    def there(self) -> bool:
        """Whether its name still leads to it: somebody may have emptied the directory, or made it anew."""
        return self._inode is not None and _inode(self.path) == self._inode

    def close(self) -> None:
        """Close it, and take its name away."""
        self.channel.close()
        if self.there:
            with contextlib.suppress(StorageError):
                Disk().remove(self.path)

    def __enter__(self) -> Bound:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def address(path: Path) -> Iterator[str]:
    """Give a name for `path` that fits a socket address, good as long as the context.

    Raises:
        OSError: its directory cannot be opened, or the name of the file alone is too long.
    """
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        near = f"/proc/self/fd/{folder}/{path.name}"
        if len(os.fsencode(near)) > MAX_PATH_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
        yield near
    finally:
        os.close(folder)


def connect(path: Path, kind: socket.SocketKind, *, timeout_s: float) -> socket.socket:
    """Return a socket that is connected to `path`.

    Raises:
        OSError: nobody listens there, or we may not talk to it.
    """
    channel = socket.socket(socket.AF_UNIX, kind)
    try:
        # A connect that must not wait fails at once when others are before us (unix(7)): the kernel keeps this time.
        # Where longs have 32 bits and times 64, it has another number and takes 64 bits of each (socket(7), time64).
        layout = "@qq" if socket.SO_SNDTIMEO == _SO_SNDTIMEO_NEW else "@ll"
        channel.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack(layout, math.ceil(timeout_s), 0)
        )
        with address(path) as name:
            channel.connect(name)
        channel.settimeout(timeout_s)
    except BaseException:
        channel.close()
        raise
    return channel


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
