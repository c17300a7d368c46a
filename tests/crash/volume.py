"""A file system in memory that knows what a disk has promised and what it has only been told.

>>> volume = Volume()
>>> volume.apply(Op("create", "f", mode=0o644)); volume.apply(Op("write", "f", data=b"new"))
>>> sorted({state.files.get("f") for state in volume.states(random.Random(0), spare=8)}, key=str)[-1] is None
True

It is weaker than any real one, so an agent that survives it survives those. Nothing is durable but what was synced:

- data: every sector written since the last fsync holds the old bytes, the new ones, zeros or garbage, and the file has
  any of the lengths it had since: lost, torn, reordered, zero-filled, stale blocks with a new length;
- room that was set aside: lost, or there, in which case it reads as zeros;
- names: every entry of a directory is any of what it was since that directory was last synced, each by itself. A
  rename may leave the old name, the new one, both, or, where nothing had the new name before, neither. (Where
  something had it, POSIX `rename` never lets the name vanish.)
- modes: the old one or the new one until the file or directory is synced.

A synced file in an unsynced directory may be without a name, and a synced directory without its parent's entry.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from crash.sectors import Content, File

FOLDER, FILE, LINK = "folder", "file", "link"


@dataclass(frozen=True)
class Op:
    """One operation as it was recorded; paths are relative to the device's folder."""

    kind: str
    path: str
    to: str = ""
    offset: int = 0
    data: bytes = b""
    mode: int = 0
    size: int = 0

    def __str__(self) -> str:
        more = f" -> {self.to}" if self.to else ""
        return f"{self.kind} {self.path}{more}" + (f" [{self.offset}+{len(self.data)}]" if self.data else "")


@dataclass
class Folder:
    """A directory: `entries` is what a process sees, `since` every value of a name since the last sync."""

    entries: dict[str, int] = field(default_factory=dict)
    since: dict[str, list[int | None]] = field(default_factory=dict)
    modes: list[int] = field(default_factory=lambda: [0o755])

    def put(self, name: str, number: int | None) -> None:
        values = self.since.setdefault(name, [self.entries.get(name)])
        if number in values:
            values.remove(number)
        values.append(number)
        if number is None:
            self.entries.pop(name, None)
        else:
            self.entries[name] = number

    def sync(self) -> None:
        self.since.clear()
        self.modes = self.modes[-1:]


@dataclass(frozen=True)
class Link:
    """A symbolic link; it is written whole or not at all."""

    target: str


Entry = tuple[str, "Content | str | None", int]


@dataclass(frozen=True)
class State:
    """What a disk holds after a power cut: path → kind, content or target, mode."""

    entries: dict[str, Entry]

    @property
    def files(self) -> dict[str, bytes]:
        """Regular files."""
        return {path: what.data for path, (_, what, _) in self.entries.items() if isinstance(what, Content)}

    def digest(self) -> bytes:
        """Two states with one digest are the same tree."""
        whole = hashlib.blake2b(digest_size=16)
        for path in sorted(self.entries):
            kind, what, mode = self.entries[path]
            tail = what.digest if isinstance(what, Content) else str(what).encode()
            whole.update(b"%s\0%s\0%o\0%s\n" % (path.encode(), kind.encode(), mode, tail))
        return whole.digest()

    def write_to(self, root: Path) -> None:
        """Make it real in an empty folder. Without pathlib: this is done ten thousand times."""
        base = f"{root}/"
        closed = []
        for path in sorted(self.entries):
            kind, what, mode = self.entries[path]
            if kind == FOLDER:
                os.mkdir(base + path)  # noqa: PTH102
                if mode != 0o755:
                    closed.append((base + path, mode))
            elif isinstance(what, Content):
                fd = os.open(base + path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
                os.write(fd, what.data)
                os.close(fd)
            else:
                os.symlink(str(what), base + path)  # noqa: PTH211
        for full, mode in closed:
            os.chmod(full, mode)  # noqa: PTH101


class Volume:
    """The file system."""

    def __init__(self) -> None:
        self.nodes: dict[int, File | Folder | Link] = {0: Folder()}
        self._next = 1

    @classmethod
    def holding(cls, state: State) -> Volume:
        """Return one that holds a state, all of it durable."""
        volume = cls()
        for path in sorted(state.entries):
            kind, what, mode = state.entries[path]
            if kind == FOLDER:
                volume.apply(Op("mkdir", path, mode=mode))
            elif isinstance(what, Content):
                volume.apply(Op("create", path, mode=mode))
                volume.apply(Op("write", path, data=what.data))
            else:
                volume.apply(Op("symlink", path, to=str(what)))
        volume.settle()
        return volume

    def settle(self) -> None:
        """Make everything durable, as time does."""
        for node in self.nodes.values():
            if not isinstance(node, Link):
                node.sync()

    def apply(self, op: Op) -> None:
        """Carry out one operation."""
        getattr(self, f"_{op.kind}")(op)

    # --- operations ---------------------------------------------------------------------------------------------

    def _mkdir(self, op: Op) -> None:
        self._add(op.path, Folder(modes=[op.mode or 0o755]))

    def _create(self, op: Op) -> None:
        self._add(op.path, File(modes=[op.mode or 0o644]))

    def _symlink(self, op: Op) -> None:
        self._add(op.path, Link(op.to))

    def _truncate(self, op: Op) -> None:
        self._file(op.path).truncate()

    def _allocate(self, op: Op) -> None:
        self._file(op.path).allocate(op.size)

    def _write(self, op: Op) -> None:
        self._file(op.path).write(op.offset, op.data)

    def _sync(self, op: Op) -> None:
        self._file(op.path).sync()

    def _sync_dir(self, op: Op) -> None:
        self._folder(op.path).sync()

    def _chmod(self, op: Op) -> None:
        node = self._node(op.path)
        assert not isinstance(node, Link)
        node.modes.append(op.mode)

    def _rename(self, op: Op) -> None:
        number = self._number(op.path)
        self._parent(op.to).put(_name(op.to), number)
        self._parent(op.path).put(_name(op.path), None)

    def _link(self, op: Op) -> None:
        self._parent(op.to).put(_name(op.to), self._number(op.path))

    def _unlink(self, op: Op) -> None:
        self._number(op.path)
        self._parent(op.path).put(_name(op.path), None)

    _rmdir = _unlink

    # --- looking things up --------------------------------------------------------------------------------------

    def _add(self, path: str, node: File | Folder | Link) -> None:
        self.nodes[self._next] = node
        self._parent(path).put(_name(path), self._next)
        self._next += 1

    def _number(self, path: str) -> int:
        number = 0
        for part in PurePosixPath(path).parts:
            folder = self.nodes[number]
            assert isinstance(folder, Folder), path
            number = folder.entries[part]
        return number

    def _node(self, path: str) -> File | Folder | Link:
        return self.nodes[self._number(path)]

    def _file(self, path: str) -> File:
        node = self._node(path)
        assert isinstance(node, File), path
        return node

    def _folder(self, path: str) -> Folder:
        node = self._node(path)
        assert isinstance(node, Folder), path
        return node

    def _parent(self, path: str) -> Folder:
        return self._folder(str(PurePosixPath(path).parent))

    # --- after a power cut --------------------------------------------------------------------------------------

    def now(self) -> State:
        """What a process sees."""
        return self._state({})

    def states(self, chance: random.Random, *, spare: int) -> Iterator[State]:
        """Yield what a disk may hold if the power goes now, the telling ones first.

        Nothing of what is not synced, all of it, each single thing otherwise than in those two, and then `spare`
        random mixtures. The same state may come twice.
        """
        domains = self._open_questions()
        yield self._state({key: 0 for key in domains})
        yield self._state({})
        for key, size in domains.items():
            for answer in range(size - 1):
                yield self._state({key: answer})
        for key, size in domains.items():
            for answer in range(1, size):
                yield self._state({**dict.fromkeys(domains, 0), key: answer})
        if len(domains) > 1:
            for _ in range(spare):
                yield self._state({key: chance.randrange(size) for key, size in domains.items()})

    def _open_questions(self) -> dict[tuple[str, int, str], int]:
        """Return everything that is not certain, and how many answers it has; the last is what a process sees."""
        found: dict[tuple[str, int, str], int] = {}
        queue, seen = [0], set()
        while queue:
            number = queue.pop()
            if number in seen:
                continue
            seen.add(number)
            node = self.nodes[number]
            if isinstance(node, Link):
                continue
            if len(set(node.modes)) > 1:
                found["mode", number, ""] = len(node.modes)
            if isinstance(node, Folder):
                for name, values in node.since.items():
                    found["name", number, name] = len(values)
                    queue.extend(value for value in values if value is not None)
                queue.extend(node.entries.values())
            elif (size := len(node.contents())) > 1:
                found["data", number, ""] = size
        return {key: size for key, size in found.items() if size > 1}

    def _state(self, answers: dict[tuple[str, int, str], int]) -> State:
        entries: dict[str, Entry] = {}
        self._fill(0, "", answers, entries)
        return State(entries)

    def _fill(
        self,
        number: int,
        prefix: str,
        answers: dict[tuple[str, int, str], int],
        entries: dict[str, Entry],
    ) -> None:
        folder = self.nodes[number]
        assert isinstance(folder, Folder)
        for name in {*folder.entries, *folder.since}:
            child = folder.entries.get(name)
            if (answer := answers.get(("name", number, name))) is not None:
                child = folder.since[name][answer]
            if child is None:
                continue
            node, path = self.nodes[child], prefix + name
            if isinstance(node, Link):
                entries[path] = (LINK, node.target, 0)
                continue
            mode = node.modes[answers.get(("mode", child, ""), -1)]
            if isinstance(node, File):
                entries[path] = (FILE, node.contents()[answers.get(("data", child, ""), -1)], mode)
            else:
                entries[path] = (FOLDER, None, mode)
                self._fill(child, f"{path}/", answers, entries)


def read_state(root: Path) -> State:
    """Return what a real folder holds."""
    entries: dict[str, Entry] = {}
    for path in sorted(root.rglob("*")):
        name, found = str(path.relative_to(root)), path.lstat()
        mode = stat.S_IMODE(found.st_mode)
        if path.is_symlink():
            entries[name] = (LINK, str(path.readlink()), 0)
        elif path.is_dir():
            entries[name] = (FOLDER, None, mode)
        else:
            entries[name] = (FILE, Content.of(path.read_bytes()), mode)
    return State(entries)


def _name(path: str) -> str:
    return PurePosixPath(path).name
