"""What runs beside the active model, as applications find it: `experiments/<model>.json` in the state directory.

>>> publish(state, disk, record.models, device="pi-7")     # doctest: +SKIP
>>> read(state, "digit-reader").kind                       # doctest: +SKIP
'shadow'

The files are derived from the record, like the links in `current`, and put right at every start. An application's
session reads them; it needs nothing else to take part in an experiment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgewright_agent.contract import MAX_EXPERIMENT_BYTES, canonical_json, is_digest, is_name
from edgewright_agent.files import Disk, faults
from edgewright_agent.model_state import ModelState
from edgewright_agent.transport.document import parse_json

FOLDER = "experiments"
VERSION = 1


@dataclass(frozen=True)
class Experiment:
    """An experiment on this device.

    Attributes:
        model: Name of the model.
        name: Its name.
        kind: `shadow` or `ab`.
        share: Of requests, from 0 to 1.
        digest: The artifact that is compared.
        active: The artifact that it is compared with; with another active one there is no experiment.
        device: Id of the device, which decides together with the name.
    """

    model: str
    name: str
    kind: str
    share: float
    digest: str
    active: str
    device: str


def running(model: str, state: ModelState, device: str) -> Experiment | None:
    """Return the experiment that a model's state means, if any."""
    told = state.candidate
    if told is None or state.active is None or state.active.digest == told.digest:
        return None
    return Experiment(model, told.experiment, told.kind, told.share, told.digest, state.active.digest, device)


def path_of(state: Path, model: str) -> Path:
    """Return where an experiment with a model is described, if there is one."""
    return state / FOLDER / f"{model}.json"


def publish(state: Path, disk: Disk, models: Mapping[str, ModelState], *, device: str) -> None:
    """Make the files say what the record says; writes only what differs.

    Raises:
        StorageError: the disk refused; what is there is of before, or nothing.
    """
    folder = state / FOLDER
    wanted = {
        path_of(state, model): canonical_json({"version": VERSION, **asdict(found)})
        for model, kept in models.items()
        if (found := running(model, kept, device))
    }
    with faults(folder, "read"):
        there = sorted(folder.iterdir()) if folder.is_dir() else []
    gone = [path for path in there if path not in wanted]
    for path in gone:
        disk.remove_tree(path)
    if gone:
        disk.sync_dir(folder)
    for path, body in wanted.items():
        if path not in there or _differs(path, body):
            disk.make_dir(folder)
            if path.is_dir():
                disk.remove_tree(path)
            disk.replace_file(path, body)


def _differs(path: Path, body: bytes) -> bool:
    try:
        return path.read_bytes() != body
    except OSError:  # a bad sector, or something else in its place: written anew
        return True


def read(state: Path, model: str) -> Experiment | None:
    """Return the experiment with a model, as an application may read it; None when there is none.

    What cannot be understood is none: an experiment is never a reason not to answer.
    """
    try:
        with path_of(state, model).open("rb") as file:
            document: dict[str, Any] = parse_json(file.read(MAX_EXPERIMENT_BYTES), "the experiment")
        if document.pop("version", None) != VERSION:
            return None
        found = Experiment(**document)
        sound = (
            found.model == model
            and is_name(found.name)
            and found.kind in ("shadow", "ab")
            and type(found.share) in (int, float)
            and 0 <= found.share <= 1
            and is_digest(found.digest)
            and is_digest(found.active)
            and isinstance(found.device, str)
        )
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return found if sound else None
