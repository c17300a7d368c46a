"""How the device itself is: temperature, memory, disk. What it cannot tell is None.

>>> sorted(vitals(Path("/"), Disk()))
['disk', 'load', 'memory', 'temperatureC']
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgewright_agent.errors import StorageError
from edgewright_agent.files import Disk

_SENSORS = ("class/thermal/thermal_zone*/temp", "class/hwmon/hwmon*/temp*_input")
_MAX_SENSORS = 64
# Sensors that are not connected tell -273 or 0xff…; silicon neither works nor lies in between.
_COLDEST_C, _HOTTEST_C = -60.0, 200.0


def vitals(
    state: Path, disk: Disk, *, sys: Path = Path("/sys"), proc: Path = Path("/proc")
) -> dict[str, Any]:
    """Return the state of the device as JSON values.

    Args:
        state: Whose file system counts.
        disk: Asks it.
        sys: The kernel's view of the hardware.
        proc: The kernel's view of itself.
    """
    return {
        "temperatureC": max(_temperatures(sys), default=None),
        "memory": _memory(proc),
        "disk": _disk(state, disk),
        "load": _load(),
    }


def _temperatures(sys: Path) -> Iterator[float]:
    """Yield what sensors tell, in degrees Celsius (Linux: thermal/sysfs-api, hwmon/sysfs-interface: millidegrees)."""
    for pattern in _SENSORS:
        with contextlib.suppress(OSError):
            for path in sorted(sys.glob(pattern))[:_MAX_SENSORS]:
                with contextlib.suppress(OSError, ValueError):
                    degrees = int(path.read_text(encoding="ascii")) / 1000
                    if _COLDEST_C <= degrees <= _HOTTEST_C:
                        yield degrees


def _memory(proc: Path) -> dict[str, int] | None:
    found: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (proc / "meminfo").read_text(encoding="ascii").splitlines():
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                found[name] = int(rest.split()[0]) * 1024
    if len(found) < 2:
        return None
    return {"totalBytes": found["MemTotal"], "availableBytes": found["MemAvailable"]}


def _disk(state: Path, disk: Disk) -> dict[str, int | None] | None:
    try:
        free = disk.free(state)
        found = os.statvfs(state)
    except (StorageError, OSError):
        return None
    return {
        "totalBytes": found.f_blocks * found.f_frsize,
        "freeBytes": free.bytes,
        "freeInodes": free.inodes,
    }


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None
