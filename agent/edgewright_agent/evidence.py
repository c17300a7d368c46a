"""What is kept of a model that failed here until somebody has taken note: everything that could say why.

>>> archive = Archive(config.state, Disk())                             # doctest: +SKIP
>>> name = archive.keep("digit-reader", document)                       # doctest: +SKIP
>>> [entry.name for entry in archive.entries("digit-reader")]           # doctest: +SKIP
['ab12cd34ef56-1.json']
>>> archive.acknowledge(archive.entries("digit-reader"))                # doctest: +SKIP
1

One file per failure, `evidence/<model>/<digest>-<n>.json`, durable before the tombstone that names it. A full disk
holds no tombstone up: it then stands without a file, with its code and reason in the record. Acknowledging renames the
file, which a full disk allows; it stays until its room is needed.
"""

from __future__ import annotations

import contextlib
import platform
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent import __version__, memory
from edgewright_agent.clock import Uptime, to_text
from edgewright_agent.contract import canonical_json, is_name
from edgewright_agent.errors import AgentError, StorageError
from edgewright_agent.files import Disk
from edgewright_agent.model_state import shorten
from edgewright_agent.transport.document import parse_json

if TYPE_CHECKING:
    from edgewright_agent.record import Record
    from edgewright_agent.store import Store

FOLDER = "evidence"
MAX_BYTES = 16 * 1024  # of one file
MAX_KEPT_OF_MODEL = 8  # as many as it may have tombstones
MAX_KEPT = 64
MAX_STDERR_CHARS = 4096
_MAX_TRIES = 20
_NAME = re.compile(r"[0-9a-f]{12}-([0-9]{1,9})\.json")
_ACKNOWLEDGED = ".acknowledged"  # is appended to the name


@dataclass(frozen=True)
class Entry:
    """One file: its model, the name it was given, whether somebody has taken note, and where it lies."""

    model: str
    name: str
    acknowledged: bool
    path: Path

    @property
    def number(self) -> int:
        """Its place among the files of its model: a later one has a higher number."""
        return int(self.name.partition("-")[2].partition(".")[0])

    def document(self) -> dict[str, Any]:
        """Return what it says; of a file that a bad disk has changed, only that.

        Nothing in it is believed by anything: it is for people and for the fleet's collector.
        """
        try:
            with self.path.open("rb") as file:
                found = parse_json(file.read(2 * MAX_BYTES), "the evidence")
            if isinstance(found, dict):
                return found
        except (OSError, ValueError):
            pass
        return {"version": 1, "model": self.model, "code": "unreadable", "reason": f"{self.path} is damaged"}


class Archive:
    """The evidence on one device."""

    def __init__(self, state: Path, disk: Disk) -> None:
        self._folder, self._disk = state / FOLDER, disk

    @classmethod
    def beside(cls, store: Store) -> Archive:
        """Return the archive of the device that a store belongs to."""
        return cls(store.root.parent, store.disk)

    def entries(self, model: str | None = None) -> tuple[Entry, ...]:
        """Return what is there, of one model or of all, oldest first within a model."""
        models = [model] if model else sorted(_names(self._folder))
        return tuple(entry for name in models if is_name(name) for entry in self._of(name))

    def last(self, model: str, digest: str) -> Entry | None:
        """Return the newest evidence against a digest, if there is any."""
        mine = [entry for entry in self._of(model) if entry.name.startswith(_stem(digest))]
        return mine[-1] if mine else None

    def keep(self, model: str, digest: str, document: Mapping[str, Any]) -> str | None:
        """Write evidence durably, in the room of acknowledged one if need be.

        Returns:
            Its name; None when the disk refused: what happens next must not wait for it.
        """
        folder = self._folder / model
        for terse in (False, True):
            with contextlib.suppress(StorageError):
                self._make_room(model, all_acknowledged=terse)
                self._disk.make_dir(folder)
                number = 1 + max((entry.number for entry in self._of(model)), default=0)
                name = f"{_stem(digest)}{number}.json"
                self._disk.replace_file(folder / name, _bytes(document, terse=terse))
                return name
        return None

    def acknowledge(self, entries: Collection[Entry]) -> int:
        """Mark entries as taken note of; return how many were not before.

        Raises:
            StorageError: the disk refused.
        """
        fresh = [entry for entry in entries if not entry.acknowledged]
        for entry in fresh:
            self._disk.rename(entry.path, entry.path.with_name(entry.name + _ACKNOWLEDGED))
        return len(fresh)

    def _of(self, model: str) -> tuple[Entry, ...]:
        found = []
        for file in _names(self._folder / model):
            name = file.removesuffix(_ACKNOWLEDGED)
            if _NAME.fullmatch(name):
                found.append(Entry(model, name, file != name, self._folder / model / file))
        return tuple(sorted(found, key=lambda entry: entry.number))

    def _make_room(self, model: str, *, all_acknowledged: bool) -> None:
        """Let go what one more file has no place beside: acknowledged ones first, the oldest first."""
        mine, everything = list(self._of(model)), list(self.entries())
        leaving = [entry for entry in everything if entry.acknowledged] if all_acknowledged else []
        for kept, limit in ((mine, MAX_KEPT_OF_MODEL), (everything, MAX_KEPT)):
            staying = [entry for entry in kept if entry not in leaving]
            staying.sort(key=lambda entry: (not entry.acknowledged, _age(entry), entry.number))
            leaving += staying[: max(0, len(staying) - limit + 1)]
        for entry in leaving:
            self._disk.remove(entry.path)
            self._disk.sync_dir(entry.path.parent)
        for file in _names(self._folder / model):
            if not _NAME.fullmatch(file.removesuffix(_ACKNOWLEDGED)):
                self._disk.remove(self._folder / model / file)  # a power cut came before its rename


def document_of(
    model: str,
    digest: str,
    version: str,
    error: AgentError,
    *,
    record: Record,
    now: datetime,
    up: Uptime,
    tries: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> dict[str, Any]:
    """Return everything that is known about a failure, as evidence carries it.

    Args:
        model: Name of the model.
        digest: The artifact that failed.
        version: For people.
        error: What it failed of; facts of a `HealthError` go in as they are, where the agent knows no better.
        record: For the boots that this device has seen.
        now: When.
        up: How long the device has been up.
        tries: Every attempt of the trial, oldest first: `attempt_of`.
        more: What else is known.
    """
    facts = dict(getattr(error, "facts", {}))
    device = memory.of_device()
    engine, stderr = facts.pop("engine", None), str(facts.pop("stderr", ""))
    known: dict[str, Any] = {
        **facts,  # first: what a child said of itself stands in for nothing that the agent knows
        "version": 1,
        "model": model,
        "digest": digest,
        "modelVersion": version,
        "code": error.code,
        "reason": shorten(str(error), 1000),
        "at": to_text(now),
        "tries": list(tries)[-_MAX_TRIES:],
        "stderr": _printable(stderr),
        "engine": engine or _installed_engine(),
        "agent": __version__,
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "memory": {"totalBytes": device.total_bytes, "availableBytes": device.available_bytes},
        "boot": {"id": up.boot, "number": record.boots, "upS": up.seconds},
        **more,
    }
    return {name: value for name, value in known.items() if value not in (None, "", [], {})}


def attempt_of(error: AgentError, now: datetime) -> dict[str, Any]:
    """Return one attempt as `tries` lists it."""
    facts = getattr(error, "facts", {})
    told = {name: facts[name] for name in ("exit", "stage", "seconds", "peakProcessBytes") if name in facts}
    return {"code": error.code, "reason": shorten(str(error)), "at": to_text(now), **told}


def _bytes(document: Mapping[str, Any], *, terse: bool) -> bytes:
    """Return the file of a document: without what only helps understanding, where it would be too large."""
    data = canonical_json({**document, "stderr": "", "tries": []} if terse else document)
    if len(data) > MAX_BYTES:
        plain = ("version", "model", "digest", "modelVersion", "code", "reason", "at", "exit", "boot")
        data = canonical_json({name: document[name] for name in plain if name in document})
    return data


def _printable(text: str) -> str:
    """Return the end of what a child wrote, fit for a terminal: its lines, and nothing that moves a cursor."""
    shown = "".join(one if one.isprintable() or one == "\n" else "?" for one in text)
    return shown[-MAX_STDERR_CHARS:].strip()


def _installed_engine() -> str | None:
    """Return the engine that is installed, which is not imported for it."""
    from importlib import metadata

    for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return f"onnxruntime {metadata.version(name)}"
    return None


def _stem(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12] + "-"


def _age(entry: Entry) -> float:
    with contextlib.suppress(OSError):
        return entry.path.stat().st_mtime
    return 0.0


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []
