"""What a lane's benchmark depends on beside its inputs: the emulator, the userlands and the counting plugin.

>>> place({"hardware": dump(Sheet.of(hardware))})     # doctest: +SKIP
{'arm64': 'sha256:…', 'plugin': '5f0e5a1c3a52b3c4', 'probe': '9a0c…', 'qemu': 'sha256:…'}

Part of an action key, so it is asked by every plan: it reads one small file per userland.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewright.bench.counting.build import source_digest
from edgewright.bench.target.provider import environment_of
from edgewright.bench.target.userland import DOCUMENT, EMULATOR, USERLANDS, inspect, targets_cache
from edgewright.spec.hardware import Sheet

PROBE = Path(__file__).with_name("probe.py")


def place(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return name → digest of everything that runs a lane's artifact; `missing` where it is not on this machine.

    Args:
        spec: The slice of the stage `benchmarked`.
    """
    cache = targets_cache()
    names = (*userlands_of(Sheet.read(spec["hardware"])), EMULATOR)
    found = {name: inspect(name, cache) for name in names}
    return {
        **{name: item.tree if item.state == "ready" else item.state for name, item in found.items()},
        "plugin": source_digest(),
        "probe": hashlib.sha256(PROBE.read_bytes()).hexdigest(),
    }


def userlands_of(sheet: Sheet) -> tuple[str, ...]:
    """Return what a class runs and is counted in on this machine, its execution provider's environment included."""
    environment = environment_of(sheet)
    return (emulated_userland(sheet.cpu.arch), *([environment.name] if environment else []))


def emulated_userland(arch: str) -> str:
    """Return the userland in which instructions of an architecture are counted."""
    return next(name for name, known in USERLANDS.items() if known.arch == arch and known.qemu is not None)


def documents() -> list[Path]:
    """Return the files whose change means that a place may have changed."""
    return [targets_cache() / name / DOCUMENT for name in sorted({EMULATOR, *USERLANDS})]
