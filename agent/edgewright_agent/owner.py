"""Whose a state directory is: what root does there is done as that user.

>>> with as_owner(Path("/var/lib/edgewright")): disk.write_file(path, data)      # doctest: +SKIP
>>> become_owner(Path("/var/lib/edgewright"))                                   # doctest: +SKIP

A service polls as a user of its own, and people configure it as root. A lock or model that root left there would keep
the agent from every poll that follows; and root must not write where another user may have put a link. Everybody else,
and root in a directory of root's, is left as they are.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgewright_agent.errors import StorageError

_UMASK = 0o022  # as the units have it: applications of other users read the models


@dataclass(frozen=True)
class User:
    """An account; one that is in no database has its number as a name, and no home."""

    uid: int
    gid: int
    name: str
    home: str | None = None

    @classmethod
    def of(cls, uid: int, gid: int) -> User:
        """Look an account up; `gid` is for one that is in no database."""
        import pwd  # here: the daemon, which waits for years, looks nobody up

        with contextlib.suppress(KeyError):
            found = pwd.getpwuid(uid)
            return cls(uid, found.pw_gid, found.pw_name, found.pw_dir)
        return cls(uid, gid, str(uid))


def owner_of(path: Path) -> User | None:
    """Return whose a path will be, or None when this process need not become another user for it.

    The owner is that of the nearest folder that is there, or of a link on the way to it that is not root's: who has
    put it there says where it leads. Only root becomes somebody else.
    """
    if os.geteuid() != 0:
        return None
    for place in reversed((path, *path.parents)):
        with contextlib.suppress(OSError):
            found = place.lstat()
            if stat.S_ISLNK(found.st_mode) and found.st_uid != 0:
                return User.of(found.st_uid, found.st_gid)
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            found = place.stat()
            return User.of(found.st_uid, found.st_gid) if found.st_uid != 0 else None
    return None


@contextlib.contextmanager
def as_owner(path: Path) -> Iterator[None]:
    """Act as the owner of a path; afterwards again as before. Not for what starts programs: they could come back.

    Raises:
        StorageError: `not-permitted`: the owner may not run this Python.
    """
    user = owner_of(path)
    groups, gid = os.getgroups(), os.getegid()
    if user is None or not _take(user, os.setegid, os.seteuid):
        yield
        return
    umask = os.umask(_UMASK)
    try:
        if not _may_run():  # what is imported from here on could not be read
            told = f"{path} belongs to {user.name}, who may not run this Python ({sys.executable})"
            raise StorageError("not-permitted", f"{told}; use one that all may run")
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)
        os.umask(umask)


@contextlib.contextmanager
def as_caller() -> Iterator[None]:
    """Within `as_owner`: act as before for a moment."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == os.getuid():
        yield
        return
    os.seteuid(os.getuid())
    os.setegid(os.getgid())
    try:
        yield
    finally:
        os.setegid(gid)
        os.seteuid(uid)


def become_owner(path: Path) -> None:
    """Be the owner of a path from now on, in everything that this process does or starts.

    Raises:
        StorageError: `not-permitted`: the owner may not run this Python.
    """
    with as_owner(path):
        pass  # it may
    user = owner_of(path)
    if user is None or not _take(
        user, lambda gid: os.setresgid(gid, gid, gid), lambda uid: os.setresuid(uid, uid, uid)
    ):
        return
    os.umask(_UMASK)
    if user.home is not None:
        os.environ["HOME"] = user.home  # where a credential helper looks; root's may not be read any more


def _take(user: User, set_gid: Callable[[int], None], set_uid: Callable[[int], None]) -> bool:
    """Take groups and number of a user; False, and all is as before, where root may not.

    That is in a container without CAP_SETUID and CAP_SETGID.
    """
    groups, gids = os.getgroups(), os.getresgid()
    try:
        if user.home is None:
            os.setgroups([user.gid])
        else:
            os.initgroups(user.name, user.gid)
        set_gid(user.gid)
        set_uid(user.uid)
    except OSError:  # also where this account is none that there is here, in a user namespace
        with contextlib.suppress(OSError):
            os.setresgid(*gids)
            os.setgroups(groups)
        return False
    return True


def _may_run() -> bool:
    """Whether the user that this process acts as may read its Python."""
    return os.access(os.__file__, os.R_OK, effective_ids=True) and os.access(
        sys.executable, os.X_OK, effective_ids=True
    )
