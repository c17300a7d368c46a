"""Control groups: let the kernel limit the pages a process really holds, where we may make a group of our own.

A process moves into an empty group when its engine is imported. Pages stay charged to the group that touched them
first, so the group holds what the model takes and nothing of the bare engine, and its limit needs no sum.

>>> place = permitted()                                            # None without the right to make groups
>>> with group(place, 64 * 2**20) as made:                         # doctest: +SKIP
...     made.take(process.pid)
...     process.wait()
...     made.killed()
True
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Version = Literal[1, 2]

PREFIX = "edgewright-"
EMPTIES_S = 5.0
"""How long a group may still count a process that has ended."""
TRIED_BYTES = 2**30


@dataclass(frozen=True)
class Place:
    """A folder in which groups with a memory limit can be made.

    Attributes:
        version: Of the control group interface that governs memory here: a machine can have both.
        folder: Where groups are made: in the group this process is in, or, where version 2 allows no groups inside
            one that holds processes, beside it; what limits their common parent, a container or a service, limits them.
    """

    version: Version
    folder: Path


@dataclass(frozen=True)
class Group:
    """A group of one process, limited from the start.

    Attributes:
        version: As in `Place`.
        folder: Its folder.
    """

    version: Version
    folder: Path

    def take(self, pid: int) -> None:
        """Move a process into the group, with all its threads; what it holds already is not counted.

        Raises:
            OSError: the kernel refuses.
        """
        (self.folder / "cgroup.procs").write_text(str(pid))

    def killed(self) -> bool:
        """Whether the kernel killed a process of the group because it held more than it may."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        return kills((self.folder / name).read_text()) > 0


def limits(version: Version, most_bytes: int) -> Mapping[str, str]:
    """Return file of a group → what to write, in this order; files with a leading `?` may be missing.

    What would be swapped out counts as held: a device has no swap to spare.
    """
    if version == 2:
        return {"memory.max": str(most_bytes), "?memory.swap.max": "0"}
    return {
        "memory.limit_in_bytes": str(most_bytes),
        "?memory.memsw.limit_in_bytes": str(most_bytes),
        "?memory.swappiness": "0",
        "?memory.oom_control": "0",  # kill, where our own group was told to wait
    }


def kills(events: str) -> int:
    """Return how many processes a group has lost to its limit, by `memory.events` or `memory.oom_control`.

    >>> kills("oom_kill_disable 0\\nunder_oom 0\\noom_kill 1\\n")
    1
    """
    counts = dict(line.split() for line in events.splitlines())
    return int(counts.get("oom_kill", 0))


def places(memberships: str, mounts: str) -> list[Place]:
    """Return where groups may be made, best first, whether or not we are allowed to.

    Args:
        memberships: `/proc/self/cgroup`.
        mounts: `/proc/self/mountinfo`.
    """
    mounted: dict[Version, str] = {1: "", 2: ""}
    roots: dict[Version, str] = {1: "/", 2: "/"}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _source, options = after.split()[:3]
        if kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(",")):
            at: Version = 2 if kind == "cgroup2" else 1
            roots[at], mounted[at] = before.split()[3:5]
    paths: dict[Version, str] = {}
    for line in memberships.splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(",") or number == "0":
            paths[2 if number == "0" else 1] = path
    version: Version = 1 if 1 in paths and mounted[1] else 2
    # A path that leads upwards is a group outside our view.
    if version not in paths or not mounted[version] or ".." in Path(paths[version]).parts:
        return []
    own = _below(mounted[version], roots[version], paths[version])
    if version == 1 or own == Path(mounted[version]):
        return [Place(version, own)]
    # Version 2 lets no group both hold processes and share out memory, except the topmost.
    return [Place(2, own.parent), Place(2, own)]


def _below(mount: str, root: str, path: str) -> Path:
    """Return the folder of a group: `path` as the kernel tells it, `root` of it at `mount`."""
    relative = path.removeprefix(root) if root != "/" else path
    return Path(mount, relative.lstrip("/"))


@functools.cache
def permitted() -> Place | None:
    """Return where this process may make groups, found by making one and moving a process into it; None if nowhere."""
    try:
        told = [Path("/proc/self", name).read_text() for name in ("cgroup", "mountinfo")]
    except OSError:
        return None
    return next((place for place in places(*told) if _works(place)), None)


def _works(place: Place) -> bool:
    try:
        with (
            group(place, TRIED_BYTES) as made,
            subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process,  # noqa: S607
        ):
            made.take(process.pid)
            return not made.killed()
    except OSError:
        return False


@contextlib.contextmanager
def group(place: Place, most_bytes: int) -> Iterator[Group]:
    """Make a group, and remove it in the end with whatever is still in it.

    Args:
        place: Where.
        most_bytes: What its process may hold.

    Raises:
        OSError: it cannot be made or limited.
    """
    _sweep(place)
    made = Group(place.version, Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=place.folder)))
    try:
        for name, value in limits(place.version, most_bytes).items():
            path = made.folder / name.lstrip("?")
            if not name.startswith("?") or path.exists():
                path.write_text(value)
        yield made
    finally:
        _remove(made.folder)


def _remove(folder: Path) -> None:
    """Kill what is left in a group and remove it."""
    deadline_s = time.monotonic() + EMPTIES_S
    while True:
        for pid in _members(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:  # the kernel has not yet let go of a process that has ended
            if time.monotonic() > deadline_s:
                return
            time.sleep(0.005)
        else:
            return


def _sweep(place: Place) -> None:
    """Remove groups whose maker was killed before it could."""
    for folder in place.folder.glob(f"{PREFIX}*-*"):
        maker = folder.name.removeprefix(PREFIX).partition("-")[0]
        if maker.isdigit() and not Path("/proc", maker).exists() and not _members(folder):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _members(folder: Path) -> list[int]:
    try:
        return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
    except OSError:
        return []
