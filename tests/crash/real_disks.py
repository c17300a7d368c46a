"""Power cuts on real file systems: what is on the disk after an operation is copied, mounted, and an agent started.

    $ PYTHONPATH=tests:pipelines:agent python -m crash.real_disks --points 400       # as root
    file system       stories  points  broken    lost   stuck
    ext4                   25     100       0       0       0

A disk is a small image in memory behind a loop device. What the kernel has not yet written to it is not in the copy:
that is the power cut. Mounting the copy replays its journal. Each story is played twice: on a quiet disk, and with a
neighbour that syncs a file of its own after every operation, which makes a file system commit names before data.

The work is done by a child in a mount namespace of its own: whatever becomes of it, the kernel unmounts and detaches.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from crash.counted import Counted
from crash.invariants import BROKEN, LOST, STUCK, check
from crash.model_check import memory
from crash.recording import Acknowledged
from crash.stories import STORIES, named
from crash.story import Story
from real import ROOT, TOOLS

MIB = 1 << 20


@dataclass(frozen=True)
class FileSystem:
    """One kind of disk.

    Attributes:
        name: As a command line takes it.
        make: The program that formats an image, and its options.
        size_bytes: Of the image.
        options: For `mount`.
        overlay: Whether the device lies in an overlay over it, its first state being in the read-only image below.
    """

    name: str
    make: tuple[str, ...]
    size_bytes: int
    options: str = "loop"
    overlay: bool = False


_EXT4 = ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,nodiscard", "-J", "size=2")
FILE_SYSTEMS = (
    FileSystem("ext4", _EXT4, 24 * MIB),
    FileSystem("ext4-writeback", _EXT4, 24 * MIB, "loop,data=writeback"),
    FileSystem("btrfs", ("mkfs.btrfs", "-q", "--mixed", "-K"), 64 * MIB),
    FileSystem("overlayfs", _EXT4, 24 * MIB, overlay=True),
)


class Disk:
    """An image, and where it is mounted."""

    def __init__(self, kind: FileSystem, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.image, self.place = folder / "image", folder / "mounted"
        self._below = folder / "below" if kind.overlay else self.place
        for made in {self.place, self._below}:
            made.mkdir()

    @property
    def device(self) -> Path:
        """The device's folder on it."""
        return self.place / "device"

    def format(self) -> None:
        """Begin anew."""
        with self.image.open("wb") as file:
            file.truncate(self.kind.size_bytes)
        program, *options = self.kind.make
        _run(_program(program), *options, str(self.image))

    @contextlib.contextmanager
    def below(self) -> Iterator[Path]:
        """Mount the image alone and give the folder in which a device's first state is made."""
        _mount(self.image, self._below, self.kind.options)
        try:
            home = self._below
            if self.kind.overlay:
                for name in ("lower", "upper", "work"):
                    (home / name).mkdir(exist_ok=True)
                home /= "lower"
            yield home
        finally:
            _run("umount", str(self._below))

    @contextlib.contextmanager
    def mounted(self, image: Path | None = None) -> Iterator[None]:
        """Mount this image, or a copy of it."""
        _mount(image or self.image, self._below, self.kind.options)
        try:
            if self.kind.overlay:
                layers = ",".join(f"{name}dir={self._below}/{name}" for name in ("lower", "upper", "work"))
                _run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.place))
            try:
                yield
            finally:
                if self.kind.overlay:
                    _run("umount", str(self.place))
        finally:
            _run("umount", str(self._below))

    def copy(self, number: int) -> Path:
        """Keep what is on the disk now: not what the kernel holds back."""
        kept = self.folder / f"copy-{number}"
        source, target = os.open(self.image, os.O_RDONLY), os.open(kept, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.ftruncate(target, self.kind.size_bytes)
            at = 0
            with contextlib.suppress(OSError):  # ENXIO: only a hole is left
                while True:
                    at = os.lseek(source, at, os.SEEK_DATA)
                    end = os.lseek(source, at, os.SEEK_HOLE)
                    while at < end:
                        at += os.pwrite(target, os.pread(source, min(end - at, MIB), at), at)
        finally:
            os.close(source)
            os.close(target)
        return kept


@dataclass(frozen=True)
class Point:
    """What was on the disk after an operation, and what had been acknowledged by then."""

    after: int
    image: Path
    acknowledged: Acknowledged | None


def cut(
    story: Story, disk: Disk, *, points: int, neighbour: bool, careless: Collection[str] = ()
) -> tuple[int, list[str], Counter[str]]:
    """Play a story on a disk and start an agent on what is on it after some operations, evenly chosen.

    Returns:
        How many points, what was wrong, and how often.
    """
    kept = _play(story, disk, points, neighbour, careless)
    faults, count = list[str](), Counter[str]()
    for point in kept:
        with disk.mounted(point.image):
            found = check(story, disk.device, point.acknowledged)
        point.image.unlink()
        count.update(fault.kind for fault in found)
        faults += [
            f"{disk.kind.name}: {story.name}, after operation {point.after}: {fault}" for fault in found
        ]
    return len(kept), faults, count


def _play(story: Story, disk: Disk, points: int, neighbour: bool, careless: Collection[str]) -> list[Point]:
    wanted = _evenly(_operations(story.name), points)
    disk.format()
    with disk.below() as home:
        story.prepare(home / "device")
    kept = list[Point]()
    with disk.mounted():
        calls = Counted(careless=careless)
        calls.know(story.device(disk.device).ledger)

        def look() -> None:
            if neighbour:
                _write_and_sync(disk.place / "neighbour")
            if calls.count in wanted:
                kept.append(
                    Point(calls.count, disk.copy(calls.count), calls.acknowledged_by(calls.count - 1))
                )

        calls.after = look
        story.act(story.device(disk.device, calls))
    return kept


@cache
def _operations(name: str) -> int:
    story = named(name)
    with tempfile.TemporaryDirectory(prefix="edgewright-disk-", dir=memory()) as scratch:
        folder = Path(scratch) / "device"
        story.prepare(folder)
        calls = Counted()
        story.act(story.device(folder, calls))
        return calls.count


def _evenly(operations: int, points: int) -> set[int]:
    if points >= operations:
        return set(range(1, operations + 1))
    return {1 + number * (operations - 1) // max(1, points - 1) for number in range(points)}


def _write_and_sync(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, b"telemetry\n")
        os.fsync(fd)
    finally:
        os.close(fd)


def _mount(image: Path, place: Path, options: str) -> None:
    _run("mount", "-o", options, str(image), str(place))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


def _program(name: str) -> str:
    for found in (str(TOOLS / name), shutil.which(name)):
        if found and Path(found).exists():
            return found
    raise RuntimeError(f"{name} is not on this machine: run scripts/real-parts")


def _child(options: argparse.Namespace) -> int:
    kind = next(kind for kind in FILE_SYSTEMS if kind.name == options.child)
    stories = [named(name) for name in options.stories] or list(STORIES)
    each = -(-options.points // (2 * len(stories)))
    total, faults, count = 0, list[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="edgewright-disk-", dir=memory()) as place:
        for story in stories:
            for neighbour in (False, True):
                folder = Path(place) / f"{story.name}-{neighbour}".replace(" ", "-")
                folder.mkdir()
                disk = Disk(kind, folder)
                points, found, counted = cut(
                    story, disk, points=each, neighbour=neighbour, careless=options.careless
                )
                total, count = total + points, count + counted
                faults += found
                disk.image.unlink()
    print(
        json.dumps({"kind": kind.name, "stories": len(stories), "points": total, **count, "faults": faults})
    )
    return 0


def in_a_namespace(
    kind: str, points: int, stories: Sequence[str] = (), careless: Sequence[str] = ()
) -> dict[str, Any]:
    """Run a file system's share in a child whose mounts end with it; return what it has seen.

    Args:
        kind: Name of the file system.
        points: How many.
        stories: Their names; none is all.
        careless: Operations of `files.Calls` that are left out, to see that this is noticed.

    Raises:
        RuntimeError: it could not be done here, saying why.
    """
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "crash.real_disks"]
    command += ["--child", kind, "--points", str(points), *stories]
    command += [word for name in careless for word in ("--careless", name)]
    paths = os.pathsep.join(str(ROOT / name) for name in ("tests", "agent"))
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{kind}: {done.stderr.strip()[-2000:]}")
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def main() -> int:
    """Play the stories; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m crash.real_disks", description="Cut the power of real disks."
    )
    parser.add_argument("stories", nargs="*", help="names (default: all)", metavar="STORY")
    parser.add_argument("--points", type=int, default=400, help="over all file systems (default: 400)")
    parser.add_argument(
        "--on", action="append", choices=[kind.name for kind in FILE_SYSTEMS], help="file system"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--careless", action="append", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return _child(options)
    print(f"{'file system':18}{'stories':>8}{'points':>8}{'broken':>8}{'lost':>8}{'stuck':>8}", flush=True)
    faults = list[str]()
    names = options.on or [kind.name for kind in FILE_SYSTEMS]
    for name in names:
        seen = in_a_namespace(name, -(-options.points // len(names)), options.stories)
        cells = [seen["stories"], seen["points"], *(seen.get(kind, 0) for kind in (BROKEN, LOST, STUCK))]
        print(f"{name:18}" + "".join(f"{cell:>8}" for cell in cells), flush=True)
        faults += seen["faults"]
    for fault in faults[:20]:
        print(f"    {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
