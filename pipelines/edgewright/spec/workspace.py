"""A fleet's repository, read and found valid.

>>> workspace = load_fleet(Path("."))
>>> workspace.line("hardware/raspberry-pi-4.yaml", ("limits", "latency", "p95"))
'hardware/raspberry-pi-4.yaml:41'
>>> workspace.lanes()[0]
('digit-reader', 'factory-gateway-gpu')
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from edgewright.spec.baseline import Baseline, ClassBaseline
from edgewright.spec.device import Device
from edgewright.spec.fleet import Fleet
from edgewright.spec.hardware import HardwareClass
from edgewright.spec.model import Model
from edgewright.spec.source import Mark, Path, Source

FLEET_FILE = "fleet.yaml"


@dataclass(frozen=True)
class Workspace:
    """All specs of a repository.

    Attributes:
        root: Folder of `fleet.yaml`.
        fleet: The fleet.
        hardware: Class name → hardware class, sorted by name.
        models: Model name → model, sorted by name.
        sources: File (relative, with `/`) → where its values stand.
        baselines: Model name → what it costs as published, for models that have a baseline, sorted by name.
        devices: Device id → enrolled device, sorted by id.
    """

    root: FilePath
    fleet: Fleet
    hardware: Mapping[str, HardwareClass]
    models: Mapping[str, Model]
    sources: Mapping[str, Source] = field(repr=False)
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    devices: Mapping[str, Device] = field(default_factory=dict)

    def at(self, file: str, path: Path) -> Mark:
        """Return line and column (from 1) of a path, or of its nearest parent that is written in the file.

        Raises:
            KeyError: There is no such file.
        """
        return self.sources[file].at(path)

    def line(self, file: str, path: Path) -> str | None:
        """Return `file:line` of a path; None when the file leaves it to its default or does not exist."""
        source = self.sources.get(file)
        return source.line(path) if source is not None and source.writes(path) else None

    def classes_of(self, model: str) -> tuple[str, ...]:
        """Return the hardware classes a model is built for, sorted."""
        chosen = self.models[model].classes
        return tuple(self.hardware if chosen is None else sorted(chosen))

    def baseline_of(self, model: str, hardware_class: str) -> ClassBaseline | None:
        """Return what a lane costs as published, None when nothing is known of it."""
        baseline = self.baselines.get(model)
        return baseline.of(hardware_class) if baseline else None

    def lanes(self) -> list[tuple[str, str]]:
        """Return every (model, hardware class) to build, sorted."""
        return [(model, name) for model in self.models for name in self.classes_of(model)]
