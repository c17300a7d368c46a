"""What a device measured of a kit: the document that `edgewright-agent calibrate` writes.

>>> measured = read(Path("measured.json"))                   # doctest: +SKIP
>>> measured.nets["cnn-000-fp32"].cpu_ms                     # doctest: +SKIP
0.409
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.bench.calibration.nets import Recipe
from edgewright.errors import BuildError
from edgewright_agent.contract import MAX_KIT_NETS, MAX_MEASURED_BYTES, MEASURED_KIND

MAX_MS = 3_600_000.0


@dataclass(frozen=True)
class NetTimes:
    """Times of one net, the least of all rounds.

    Attributes:
        cpu_ms: One inference on one thread, CPU time.
        wall_ms: The same in wall time.
        threads_ms: One inference on the class's threads, wall time; None for a class with one.
        load_ms: Loading, CPU time.
        spread: How much longer the slowest round's `cpu_ms` was.
    """

    cpu_ms: float
    wall_ms: float
    threads_ms: float | None
    load_ms: float
    spread: float


@dataclass(frozen=True)
class Measured:
    """What one device measured.

    Attributes:
        date: When, by its own clock: `2026-03-14`.
        engine: `onnxruntime 1.31.1`.
        processor: The device by its own name.
        machine: The kernel's name of its architecture.
        threads: Of the class.
        rounds: How often every net was measured.
        kit: Digest of the kit.
        hardware_class: The class that the kit was made for.
        recipe: How the kit is made again.
        nets: Name → times.
        failures: Name → why that net could not be run there.
    """

    date: str
    engine: str
    processor: str
    machine: str
    threads: int
    rounds: int
    kit: str
    hardware_class: str
    recipe: Recipe
    nets: Mapping[str, NetTimes]
    failures: Mapping[str, str]

    @property
    def spread(self) -> float:
        """By how much rounds differ, in the median."""
        return statistics.median(times.spread for times in self.nets.values())


def read(path: Path) -> Measured:
    """Read a measured document.

    Raises:
        BuildError: it cannot be read, or is not one.
    """
    try:
        with path.open("rb") as stream:
            body = stream.read(MAX_MEASURED_BYTES + 1)
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror or error}") from error
    hint = "edgewright-agent calibrate KIT --out FILE writes one"
    if len(body) > MAX_MEASURED_BYTES:
        raise BuildError(f"{path} is too large for a calibration that a device measured", hint=hint)
    try:
        return understand(json.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise BuildError(f"{path} is not a calibration that a device measured: {what}", hint=hint) from error


def understand(document: Mapping[str, Any]) -> Measured:
    """Return what a document says.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not what a device writes.
    """
    if document["kind"] != MEASURED_KIND or document["version"] != 1:
        raise ValueError("another kind or version of document")
    if len(document["nets"]) > MAX_KIT_NETS:
        raise ValueError("too many nets")
    found = Measured(
        date=_line(document["date"])[:10],
        engine=_line(document["engine"]),
        processor=_line(document["processor"]),
        machine=_line(document["machine"]),
        threads=int(document["threads"]),
        rounds=int(document["rounds"]),
        kit=_line(document["kit"]["digest"]),
        hardware_class=_line(document["kit"]["hardwareClass"]),
        recipe=_recipe(document["kit"]["recipe"]),
        nets={name: _times(entry) for name, entry in document["nets"].items() if "failure" not in entry},
        failures={
            name: _line(entry["failure"]) for name, entry in document["nets"].items() if "failure" in entry
        },
    )
    if not found.nets:
        raise ValueError("no net was measured")
    return found


def _recipe(document: Mapping[str, Any]) -> Recipe:
    """Return what the kit is made again from: bounded, for it comes from a device and is minutes of work."""
    seed, nets = int(document["seed"]), int(document["nets"])
    if seed < 0 or not 1 <= nets <= MAX_KIT_NETS:
        raise ValueError("a recipe that no kit was made from")
    return Recipe(seed, nets, bool(document["reduceRange"]))


def _times(entry: Mapping[str, Any]) -> NetTimes:
    cpu = [_milliseconds(value) for value in entry["cpuMs"]]
    threads = [_milliseconds(value) for value in entry.get("threadsMs", ())]
    return NetTimes(
        cpu_ms=min(cpu),
        wall_ms=min(_milliseconds(value) for value in entry["wallMs"]),
        threads_ms=min(threads) if threads else None,
        load_ms=min(_milliseconds(value) for value in entry["loadCpuMs"]),
        spread=max(cpu) / min(cpu) - 1,
    )


def _milliseconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a time")
    if not (math.isfinite(value) and 0 < value <= MAX_MS):
        raise ValueError(f"{value!r} is not a time in milliseconds")
    return float(value)


def _line(value: Any) -> str:
    """Return text that goes into a YAML file and onto a terminal: one line of printable characters."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return " ".join("".join(char if char.isprintable() else " " for char in value).split())[:200]
