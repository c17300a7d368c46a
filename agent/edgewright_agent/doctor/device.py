"""The device: its disk, clock and memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgewright_agent.clock import from_text, uptime, utc_now
from edgewright_agent.config import Config
from edgewright_agent.degrade import reserve_of
from edgewright_agent.doctor import FAIL, OK, WARN, Finding
from edgewright_agent.errors import StorageError
from edgewright_agent.files import Disk
from edgewright_agent.record import Ledger

_PROBE = ".doctor"
_LEAST_MEMORY = 64 * 2**20
# File systems that keep nothing over a power cut, or have no symbolic links; of the rest, what honours fsync is up to
# the disk, which nobody can ask.
_UNSUITED = {
    "tmpfs": (FAIL, "forgets everything when the power goes"),
    "ramfs": (FAIL, "forgets everything when the power goes"),
    "vfat": (FAIL, "has no symbolic links"),
    "exfat": (FAIL, "has no symbolic links"),
    "nfs": (WARN, "is a network's: locks and fsync are the server's word"),
    "nfs4": (WARN, "is a network's: locks and fsync are the server's word"),
    "cifs": (WARN, "is a network's: locks and fsync are the server's word"),
    "fuseblk": (WARN, "is kept by a program: whether fsync is honoured is its word"),
}


def state(config: Config) -> Iterator[Finding]:
    """The state directory is there, ours, and on a file system that keeps what it is given."""
    path = config.state
    if not path.is_dir():
        yield Finding("state", FAIL, f"{path} does not exist", "edgewright-agent init, or anchor")
        return
    kind, read_only = mounted(path)
    level, why = _UNSUITED.get(kind, (OK, ""))
    if level != OK:
        yield Finding(
            "state", level, f"{path} is on {kind}, which {why}", "put `state` on ext4, btrfs or f2fs"
        )
    if read_only:
        yield Finding("state", FAIL, f"{path} is mounted read-only", "check the disk, and dmesg")
        return
    try:
        _try_out(path)
    except StorageError as error:
        yield Finding("state", FAIL, str(error))
        return
    owner = path.stat().st_uid
    if owner != os.geteuid() and os.geteuid() != 0:
        yield Finding("state", WARN, f"{path} belongs to uid {owner}, this is {os.geteuid()}")
    if os.geteuid() == 0 and owner != 0:
        yield Finding(
            "state",
            OK,
            f"{path} on {kind}, of uid {owner}; looked at as root: `sudo -u` that user sees what it sees",
        )
    else:
        yield Finding("state", OK, f"{path} on {kind}")


def space(config: Config) -> Iterator[Finding]:
    """There is room beside the reserve, the device's own or its class's, whichever is larger."""
    if not config.state.is_dir():
        return
    policy: Mapping[str, Any] = {}
    with contextlib.suppress(StorageError):
        policy = Ledger(config.state, Disk()).record.policy
    free, reserve = Disk().free(config.state), reserve_of(config, policy)
    inodes = "" if free.inodes is None else f", {free.inodes:,} inodes"
    told = f"{free.bytes / 1e6:,.0f} MB{inodes} free, {reserve.bytes / 1e6:,.0f} MB of it never used"
    if free.bytes <= reserve.bytes:
        yield Finding(
            "space", FAIL, told, "free some space: nothing can be installed; what runs keeps running"
        )
    elif free.inodes is not None and free.inodes < max(256, reserve.inodes):
        yield Finding("space", FAIL, told, "remove small files: nothing can be installed")
    else:
        yield Finding("space", OK, told)


def clock(config: Config) -> Iterator[Finding]:
    """The clock can be believed: metadata ends at times."""
    # Here, because it needs cryptography: where that does not load, everything else is looked at all the same.
    from edgewright_agent.report_signing import clock_quality

    now = utc_now()
    floor = None
    with contextlib.suppress(StorageError):
        floor = Ledger(config.state, Disk()).record.lowest(uptime()).clock
    quality = clock_quality(floor, now)
    text = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    if quality["behindSignedTime"] and floor is not None:
        behind = from_text(floor) - now
        yield Finding(
            "clock", WARN, f"{text} is {behind} behind time that was signed, which is believed instead",
            "start a time service; without a battery the clock begins anew at every boot",
        )  # fmt: skip
    elif quality["synchronized"] is False:
        yield Finding(
            "clock", WARN, f"{text}, not synchronized", "start a time service, such as systemd-timesyncd"
        )
    else:
        yield Finding(
            "clock", OK, text + ("" if quality["synchronized"] else ", nobody knows whether synchronized")
        )


def memory(config: Config) -> Iterator[Finding]:
    """A trial has room beside what runs."""
    available = _available_bytes()
    if available is None:
        return
    told = f"{available / 2**20:,.0f} MiB available"
    if available < _LEAST_MEMORY:
        yield Finding("memory", WARN, told, "an update takes up to 64 MiB, and a trial what its model takes")
    else:
        yield Finding("memory", OK, told)


def mounted(path: Path) -> tuple[str, bool]:
    """Return the type of the file system that holds a path, and whether it is mounted read-only (proc(5), mounts)."""
    best, kind, read_only = "", "unknown", False
    with contextlib.suppress(OSError):
        where = str(path.resolve())
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split(" ")
            if len(fields) < 4:
                continue
            point = fields[1].replace("\\040", " ").rstrip("/")
            if (where == point or where.startswith(f"{point}/")) and len(point) >= len(best):
                best, kind, read_only = point, fields[2], "ro" in fields[3].split(",")
    return kind, read_only


def _try_out(path: Path) -> None:
    """Write, sync, rename and link, as an update does.

    Raises:
        StorageError: the disk refuses.
    """
    disk = Disk()
    probe, link = path / _PROBE, path / f"{_PROBE}.link"
    try:
        disk.replace_file(probe, b"looked at\n")
        disk.replace_symlink(link, _PROBE)
    finally:
        for left in (probe, path / f"{_PROBE}.new", link, path / f".{link.name}.new"):
            with contextlib.suppress(StorageError):
                disk.remove(left)
    disk.sync_dir(path)


def _available_bytes() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
