"""A kit of nets without models, what a device measured of it and what an emulator counted, all made up to fit together.

>>> world = World.of({"fp32": {"loads": 1.0}, "int8": {"loads": 2.0}})
>>> world.measured().nets["net-000-fp32"].cpu_ms > 0
True
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.bench.calibration.batch import NetCounts
from edgewright.bench.calibration.kit import Kit, describe
from edgewright.bench.calibration.measured import Measured, understand
from edgewright.bench.calibration.nets import Net, Recipe
from edgewright.bench.counting.spans import ClassCounts
from edgewright.bench.timing import cycles_of
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import load_fleet
from edgewright_agent.contract import MEASURED_KIND
from real import ROOT

CLASS = "raspberry-pi-4"
LOADING = {"cyclesPerInstruction": 0.5, "cyclesPerByte": 2.0, "once": 3e6}


@dataclass(frozen=True)
class World:
    """Everything a calibration is made from, consistent with `rates`."""

    sheet: Sheet
    kit: Kit
    counts: Mapping[str, NetCounts]
    document: dict[str, Any]

    @classmethod
    def of(
        cls, rates: Mapping[str, Mapping[str, float]], *, nets: int = 80, kinds: bool = True, threads: int = 3
    ) -> World:
        """Return a world in which a device takes exactly what `rates` say at 1.5 GHz."""
        sheet = Sheet.of(load_fleet(ROOT).hardware[CLASS])
        dice = random.Random(5)
        made, counts, times = [], {}, {}
        for number in range(nets):
            precision = ("fp32", "int8")[number % 2]
            name = f"net-{number // 2:03}-{precision}"
            size = int(10 ** dice.uniform(5, 7))
            model = bytes(int(10 ** dice.uniform(3, 5)))
            made.append(Net(name, precision, model, (4,), size))
            counted = ClassCounts(
                size,
                {"loads": size // 3, "scalar": size - size // 3} if kinds else {},
                load_bytes=int(size * dice.uniform(1, 8)) if kinds else 0,
                branch_misses=int(size * dice.uniform(0, 0.01)) if kinds else 0,
            )
            counts[name] = NetCounts(int(10 ** dice.uniform(6, 8)), counted)
            load = LOADING["cyclesPerInstruction"] * counts[name].load + 2.0 * len(model) + LOADING["once"]
            took_ms = cycles_of(counted, rates[precision]) / 1.5e6
            times[name] = {
                "cpuMs": [took_ms * 1.02, took_ms],
                "wallMs": [took_ms * 1.05, took_ms * 1.1],
                "threadsMs": [took_ms * 0.7, took_ms * 0.75],
                "loadCpuMs": [load / 1.5e6, load / 1.5e6 * 1.2],
                "loadMs": [load / 1.4e6, load / 1.4e6],
            }
        recipe = Recipe(1, nets)
        kit = describe(CLASS, sheet, recipe, made)
        document = {
            "kind": MEASURED_KIND,
            "version": 1,
            "date": "2026-03-14T10:00:00Z",
            "kit": {"digest": kit.digest, "hardwareClass": CLASS, "recipe": recipe.to_json()},
            "processor": "Raspberry Pi 4 Model B Rev 1.5",
            "machine": "aarch64",
            "cores": 4,
            "threads": threads,
            "engine": "onnxruntime 1.31.1",
            "rounds": 2,
            "nets": times,
        }
        return cls(sheet, kit, counts, document)

    def measured(self, **changes: Any) -> Measured:
        """Return the document as the pipeline understands it."""
        return understand({**self.document, **changes})

    def write(self, path: Path, **changes: Any) -> Path:
        """Write the document as a device does."""
        path.write_text(json.dumps({**self.document, **changes}))
        return path
