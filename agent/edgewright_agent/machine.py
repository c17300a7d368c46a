"""The device under the agent: memory, disk, temperature, as the kernel tells them. What it does not tell is None.

>>> machine = measure(Path("/"))                 # doctest: +SKIP
>>> machine.memory_available_bytes               # doctest: +SKIP
412876800
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_MEMINFO = Path("/proc/meminfo")
_ZONES = Path("/sys/class/thermal")
_PLAUSIBLE_C = (-60.0, 200.0)  # a sensor that is not there often says 0 K or the largest number it can


@dataclass(frozen=True)
class Machine:
    """One look at it. Disk figures are those of the state directory's file system, for an ordinary user."""

    memory_total_bytes: int | None
    memory_available_bytes: int | None
    disk_total_bytes: int | None
    disk_free_bytes: int | None
    temperature_c: float | None
    load: float | None

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        figures = asdict(self)
        return {
            "memory": {
                "total": figures["memory_total_bytes"],
                "available": figures["memory_available_bytes"],
            },
            "disk": {"total": figures["disk_total_bytes"], "free": figures["disk_free_bytes"]},
            "temperatureC": self.temperature_c,
            "load": self.load,
        }


def measure(state: Path) -> Machine:
    """Look at the machine now."""
    total, available = _memory()
    disk_total = disk_free = load = None
    with contextlib.suppress(OSError):
        found = os.statvfs(state)
        disk_total, disk_free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    with contextlib.suppress(OSError):
        load = round(os.getloadavg()[0], 2)
    return Machine(total, available, disk_total, disk_free, temperature(), load)


def temperature(zones: Path = _ZONES) -> float | None:
    """Return the hottest thermal zone in °C."""
    found = []
    with contextlib.suppress(OSError):
        for zone in zones.glob("thermal_zone*/temp"):
            with contextlib.suppress(OSError, ValueError):
                found.append(int(zone.read_text(encoding="ascii")) / 1000)
    plausible = [degrees for degrees in found if _PLAUSIBLE_C[0] < degrees < _PLAUSIBLE_C[1]]
    return round(max(plausible), 1) if plausible else None


def _memory() -> tuple[int | None, int | None]:
    figures: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                figures[name] = int(value.split()[0]) * 1024
    return figures.get("MemTotal"), figures.get("MemAvailable")
