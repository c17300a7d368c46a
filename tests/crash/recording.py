"""The agent's operations, written down as they happen: what the model of the disk is told.

>>> recording = Recording(folder)                  # doctest: +SKIP
>>> Disk(recording).write_file(folder / "f", b"")  # doctest: +SKIP
>>> [str(op) for op in recording.ops]              # doctest: +SKIP
['create f', 'sync f']
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from crash.volume import Op
from edgewright_agent.files import Calls
from edgewright_agent.record import Ledger, Record

Fact = tuple[str, object]


@dataclass(frozen=True)
class Acknowledged:
    """A record that `commit` has returned for, and what else was said to be durable: it must not be lost from here on.

    Attributes:
        after: How many operations had been done.
        generation: Its number; 0 is none yet.
        record: What it says.
        told: Facts that are in no record, oldest first; what they mean is up to the story.
    """

    after: int
    generation: int = 0
    record: Record = Record()
    told: tuple[Fact, ...] = ()


class Witness(Calls):
    """Counts operations, and remembers after how many a record was acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: list[Acknowledged] = []

    @property
    def done(self) -> int:
        """How many operations have been done."""
        raise NotImplementedError

    def acknowledge(self, generation: int, record: Record) -> None:
        """Remember that a record is durable now, as far as its writer knows."""
        told = self.acknowledged[-1].told if self.acknowledged else ()
        self.acknowledged.append(Acknowledged(self.done, generation, record, told))

    def tell(self, fact: Fact) -> None:
        """Remember something else that is durable now, as far as its writer knows."""
        last = self.acknowledged[-1] if self.acknowledged else Acknowledged(0)
        self.acknowledged.append(replace(last, after=self.done, told=(*last.told, fact)))

    def resume(self, acknowledged: Acknowledged | None) -> None:
        """Go on with what another has witnessed before the first operation."""
        self.acknowledged = [replace(acknowledged, after=0)] if acknowledged else []

    def forget(self) -> None:
        """Let go what was acknowledged: the story begins with its loss."""
        self.acknowledged.clear()

    def know(self, ledger: Ledger) -> None:
        """Remember what was acknowledged before the first operation."""
        if not ledger.record.quarantined:
            self.acknowledge(ledger.generation, ledger.record)

    def acknowledged_by(self, done: int) -> Acknowledged | None:
        """Return the last record that was acknowledged when so many operations had been done."""
        return next((one for one in reversed(self.acknowledged) if one.after <= done), None)


class Recording(Witness):
    """Does what it is asked and remembers it.

    Args:
        root: The device's folder; what happens outside is nobody's business.
        foreign: Folders below it in which others write past `Calls` (python-tuf's cache): what has changed there is
            looked up before every operation and told as writes that nobody has synced.
        careless: Kinds of operations that are done but not remembered, as a disk that lies does them.
    """

    def __init__(
        self,
        root: Path,
        *,
        foreign: Collection[str] = (),
        careless: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.root, self.foreign, self.careless = f"{root}/", tuple(foreign), careless
        self.ops: list[Op] = []
        self._known: dict[str, tuple[int, int, int] | None] = {}
        self._strays = 0

    def begin(self) -> None:
        """Take what others have written so far for granted."""
        for folder in self.foreign:
            self._known.update(_listing(self.root, folder))

    @property
    def done(self) -> int:
        return len(self.ops)

    def open(self, path: Path, flags: int) -> int:
        there = os.path.lexists(path)
        size = path.stat().st_size if there else 0
        fd = super().open(path, flags)
        if not there:
            self._note("create", path, mode=0o644)
        elif flags & os.O_TRUNC and size:
            self._note("truncate", path)
        return fd

    def open_private(self, path: Path) -> int:
        fd = super().open_private(path)
        self._note("create", path, mode=0o600)
        return fd

    def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
        super().write(path, fd, data, offset)
        self._note("write", path, offset=offset, data=bytes(data))

    def allocate(self, path: Path, fd: int, size: int) -> None:
        super().allocate(path, fd, size)
        self._note("allocate", path, size=size)

    def mkdir(self, path: Path) -> None:
        super().mkdir(path)
        self._note("mkdir", path, mode=0o755)

    def sync(self, path: Path, fd: int) -> None:
        super().sync(path, fd)
        self._note("sync", path)

    def sync_data(self, path: Path, fd: int) -> None:
        super().sync_data(path, fd)
        self._note("sync", path)

    def sync_dir(self, path: Path) -> None:
        super().sync_dir(path)
        self._note("sync_dir", path)

    def chmod(self, path: Path, mode: int) -> None:
        super().chmod(path, mode)
        self._note("chmod", path, mode=mode)

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self._note("rename", old, to=new)

    def link(self, old: Path, new: Path) -> None:
        super().link(old, new)
        self._note("link", old, to=new)

    def symlink(self, link: Path, target: str) -> None:
        super().symlink(link, target)
        self._note("symlink", link, target=target)

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._note("unlink", path)

    def rmdir(self, path: Path) -> None:
        super().rmdir(path)
        self._note("rmdir", path)

    def _note(
        self,
        kind: str,
        path: Path,
        *,
        to: Path | None = None,
        target: str = "",
        offset: int = 0,
        data: bytes = b"",
        mode: int = 0,
        size: int = 0,
    ) -> None:
        self._look_round()
        name = self._inside(path)
        if name is None or kind in self.careless:
            return
        other = target if to is None else self._inside(to) or ""
        self.ops.append(Op(kind, name, other, offset, data, mode, size))

    def _inside(self, path: Path) -> str | None:
        text = f"{path}/"
        return text[len(self.root) : -1] if text.startswith(self.root) else None

    # --- what others write --------------------------------------------------------------------------------------

    def _look_round(self) -> None:
        for folder in self.foreign:
            found = dict(_listing(self.root, folder))
            for path in sorted(self._known.keys() - found.keys(), reverse=True):
                if path.startswith(folder):
                    self.ops.append(Op("unlink", path))
            for path in sorted(found):
                if self._known.get(path, 0) != found[path]:
                    self._tell(path, new=path not in self._known)
            self._known = {**{k: v for k, v in self._known.items() if not k.startswith(folder)}, **found}

    def _tell(self, path: str, *, new: bool) -> None:
        full = Path(self.root + path)
        if full.is_dir():
            if new and path not in self.foreign:  # the folder itself is the agent's
                self.ops.append(Op("mkdir", path, mode=0o755))
            return
        # As python-tuf and `tuf._Session` write: a file beside it, renamed over it, nothing synced.
        self._strays += 1
        stray = f"{path.rpartition('/')[0]}/tmp{self._strays:06}"
        self.ops += [
            Op("create", stray, mode=0o644),
            Op("write", stray, data=full.read_bytes()),
            Op("rename", stray, path),
        ]


def _listing(root: str, folder: str) -> list[tuple[str, tuple[int, int, int] | None]]:
    """Return every path below a folder with what tells a file's versions apart."""
    try:
        entries = list(os.scandir(root + folder))
    except FileNotFoundError:
        return []
    found: list[tuple[str, tuple[int, int, int] | None]] = []
    for entry in entries:
        path = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            found += [(path, None), *_listing(root, path)]
        else:
            seen = entry.stat(follow_symlinks=False)
            found.append((path, (seen.st_ino, seen.st_size, seen.st_mtime_ns)))
    return found


def empty(folder: Path) -> None:
    """Remove all that is in a folder."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)  # noqa: PTH108  many thousand times
