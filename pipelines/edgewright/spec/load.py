"""Reads a whole repository and reports everything that is wrong with it at once.

>>> workspace = load_fleet(Path("."))
>>> sorted(workspace.models)
['digit-reader', 'vibration-monitor']
"""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import TypeVar

from edgewright.spec.base import NAME, Document
from edgewright.spec.baseline import BASELINES, Baseline
from edgewright.spec.device import DEVICES, Device
from edgewright.spec.document import Loaded, load_document
from edgewright.spec.fleet import Fleet
from edgewright.spec.hardware import HardwareClass
from edgewright.spec.model import Model
from edgewright.spec.problem import InvalidSpec, Problem
from edgewright.spec.rules import Draft, broken_rules
from edgewright.spec.workspace import FLEET_FILE, Workspace

__all__ = ["Workspace", "load_fleet"]

D = TypeVar("D", bound=Document)


def load_fleet(root: FilePath) -> Workspace:
    """Read `fleet.yaml`, `hardware/*.yaml`, `models/*/model.yaml`, `baselines/*.yaml` and `devices/*.yaml` in `root`.

    Raises:
        InvalidSpec: Something is wrong; it holds every problem found in all files.
    """
    problems: list[Problem] = []
    hardware = _load_all(HardwareClass, _flat_files(root, "hardware", problems), root)
    models = _load_all(Model, _model_files(root, problems), root)
    baselines = _load_all(Baseline, _flat_files(root, BASELINES, problems), root)
    devices = _load_all(Device, _flat_files(root, DEVICES, problems), root)
    if (root / FLEET_FILE).exists():
        fleet = load_document(Fleet, root / FLEET_FILE, FLEET_FILE, FLEET_FILE)
    else:
        raise InvalidSpec(
            [Problem(FLEET_FILE, 1, 1, "there is no such file", f"create it in {root.name or root}")]
        )
    draft = Draft(root, fleet, hardware, models, baselines, devices)
    for loaded in draft.files():
        problems += loaded.problems
    problems += broken_rules(draft)
    if problems:
        raise InvalidSpec(problems)
    return Workspace(
        root=root,
        fleet=fleet.document,
        hardware={name: loaded.document for name, loaded in hardware.items()},
        models={name: loaded.document for name, loaded in models.items()},
        sources={loaded.source.file: loaded.source for loaded in draft.files()},
        baselines={name: loaded.document for name, loaded in baselines.items()},
        devices={name: loaded.document for name, loaded in devices.items()},
    )


def _load_all(kind: type[D], files: dict[str, FilePath], root: FilePath) -> dict[str, Loaded[D]]:
    return {
        name: load_document(kind, file, _display(file.relative_to(root).as_posix()), name)
        for name, file in sorted(files.items())
    }


def _flat_files(root: FilePath, folder: str, problems: list[Problem]) -> dict[str, FilePath]:
    files: dict[str, FilePath] = {}
    for file in _entries(root, folder, problems):
        shown = _display(f"{folder}/{file.name}")
        if file.suffix == ".yml":
            problems.append(Problem(shown, 1, 1, "spec files end in .yaml", f"rename it to {file.stem}.yaml"))
        elif file.suffix == ".yaml":
            _check_name(file.stem, shown, problems)
            files[file.stem] = file
    return files


def _model_files(root: FilePath, problems: list[Problem]) -> dict[str, FilePath]:
    files: dict[str, FilePath] = {}
    for folder in _entries(root, "models", problems):
        if (folder / "model.yml").exists():
            shown = _display(f"models/{folder.name}/model.yml")
            problems.append(Problem(shown, 1, 1, "spec files end in .yaml", "rename it to model.yaml"))
        if (folder / "model.yaml").exists():
            _check_name(folder.name, _display(f"models/{folder.name}/model.yaml"), problems)
            files[folder.name] = folder / "model.yaml"
    return files


def _entries(root: FilePath, folder: str, problems: list[Problem]) -> list[FilePath]:
    """Files and folders that are not hidden; a folder that is missing is an empty one."""
    try:
        found = sorted((root / folder).iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(Problem(folder, 1, 1, f"this folder cannot be read: {error.strerror}"))
        return []
    return [item for item in found if not item.name.startswith((".", "_"))]


def _display(path: str) -> str:
    """Return a path fit for a terminal: names on disk may hold any byte."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in path)


def _check_name(name: str, shown: str, problems: list[Problem]) -> None:
    if not NAME.accepts(name):
        fixed = NAME.fix(name) if NAME.fix else ""
        hint = f"rename it to {fixed}" if NAME.accepts(fixed) else ""
        problems.append(Problem(shown, 1, 1, f"'{_display(name)}' must be {NAME.what}", hint))
