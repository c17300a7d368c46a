"""Memory as the kernel tells it: of this device, of one process, and whether somebody was killed for want of it.

>>> of_device().total_bytes > of_device().available_bytes > 0
True
>>> of_process("self").peak_bytes >= of_process("self").resident_bytes > 0
True
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True)
class Device:
    """What there is, and what a new process could still get without swapping (proc(5), MemAvailable)."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True)
class Process:
    """What a process holds now, and the most it has held (VmHWM: unlike ru_maxrss, not its parent's)."""

    resident_bytes: int
    peak_bytes: int


def of_device(root: Path = ROOT) -> Device:
    """Return the memory of this device; zeros where the kernel does not tell."""
    found = _fields(root / "proc/meminfo")
    return Device(found.get("MemTotal", 0), found.get("MemAvailable", 0))


def of_process(pid: int | str, root: Path = ROOT) -> Process:
    """Return the memory of a process; zeros when it is gone."""
    found = _fields(root / f"proc/{pid}/status")
    return Process(found.get("VmRSS", 0), found.get("VmHWM", 0))


def available_bytes(root: Path = ROOT) -> int | None:
    """Return what this process could still get without swapping; None where nobody tells.

    The least of what the device has and of what its control groups leave: under systemd's `MemoryMax=` or in a
    container the device may have plenty. What a group's files hold in the page cache is given up first, so it counts
    as free (cgroup v2 `memory.max`, `memory.current`, `inactive_file` of `memory.stat`).
    """
    left = [total for total in (_fields(root / "proc/meminfo").get("MemAvailable"),) if total is not None]
    mount = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        if number != "0":
            continue
        group = mount / rest.partition(":")[2].lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(mount):
                break
            limit, used = (_lines(folder / f"memory.{name}") for name in ("max", "current"))
            if limit and used and limit[0].isdecimal() and used[0].isdecimal():
                cached = _named(folder / "memory.stat", "inactive_file") or 0
                left.append(max(0, int(limit[0]) - int(used[0]) + cached))
    return min(left, default=None)


def oom_kills(root: Path = ROOT) -> dict[str, int]:
    """Return how many processes have been killed for want of memory, as each place that counts them tells it.

    `device` is the whole machine (proc(5), vmstat), `cgroup` the control group of this process, which has a limit of
    its own under systemd's `MemoryMax=` or in a container (cgroup v2 `memory.events`, v1 `memory.oom_control`).
    """
    found = {"device": _count(root / "proc/vmstat")}
    for path in _cgroup_files(root):
        if path.is_file():
            found["cgroup"] = _count(path)
            break
    return {place: count for place, count in found.items() if count is not None}


def _cgroup_files(root: Path) -> Iterator[Path]:
    mount = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        # A container that sees its own group as the root may be told a path that is not there.
        for inside in (place.lstrip("/"), ""):
            if number == "0":
                yield from (mount / inside / "memory.events", mount / "unified" / inside / "memory.events")
            elif "memory" in controllers.split(","):
                yield mount / "memory" / inside / "memory.oom_control"


def _count(path: Path) -> int | None:
    return _named(path, "oom_kill")


def _named(path: Path, wanted: str) -> int | None:
    for line in _lines(path):
        name, _, value = line.partition(" ")
        if name == wanted and value.isdecimal():
            return int(value)
    return None


def _fields(path: Path) -> dict[str, int]:
    """Return `Name: 123 kB` lines, in bytes."""
    found = {}
    for line in _lines(path):
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[0].isdecimal() and words[1] == "kB":
            found[name] = int(words[0]) * 1024
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:  # the process has ended, or this kernel has no such file
        return []
