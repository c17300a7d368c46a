"""What the agent knows for certain: one document of frozen data, kept in two slots.

>>> slot = Slot("sha256:" + "a" * 64, "1.0.0", "2030-01-01T00:00:00Z")
>>> Record().with_model("digit-reader", ModelState(active=slot)).model("digit-reader").active.version
'1.0.0'

Only `Ledger.commit` changes it. It exists from `edgewright-agent init` (or `anchor`) on. If there is none, or both
slots are damaged, it is *quarantined*: what `current` points at keeps running and nothing is installed until a person
runs `edgewright-agent reanchor`. A device that began anew by itself would believe any old state that has not expired.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from edgewright_agent.clock import Uptime, elapsed_s, from_text, later, to_text
from edgewright_agent.contract import canonical_json
from edgewright_agent.errors import StorageError
from edgewright_agent.files import Disk
from edgewright_agent.floor import Floor
from edgewright_agent.model_state import ModelState, Rung, parse_model, shorten, terser
from edgewright_agent.slots import MAX_PAYLOAD_BYTES, Slots
from edgewright_agent.transport.document import parse_json

VERSION = 1
_MOST_STUCK, _MAX_STUCK_CHARS = 4, 200
# How long reasons are, whether figures of trials stay, and how many tombstones, for a record that would not fit.
_TERSER = ((40, True, 8), (10, False, 8), (10, False, 4), (10, False, 1))
MAX_UNPACKED_BYTES = 1024 * 1024  # of a record, also where it is compressed to fit its slot
MISSING, DAMAGED = "state-missing", "state-damaged"
_QUARANTINED = {
    MISSING: "there is no record of what this device has seen: what runs keeps running, nothing is installed; a new "
    "device is anchored by `edgewright-agent anchor`; on one that has run before, find out what emptied its state "
    "directory, then run `edgewright-agent reanchor`",
    DAMAGED: "both copies of the agent's record are damaged: what runs keeps running, nothing is "
    "installed; check the disk, then run `edgewright-agent reanchor`",
}


@dataclass(frozen=True)
class Poll:
    """The last poll: `ok`, `not-modified`, or the code of what went wrong.

    Attributes:
        at: When.
        code: What came of it.
        message: The same in words.
        retry_after_s: How long the source asked to be left alone.
        mirrors: Of several mirrors those that failed when they were last asked, by URL, with when and why: that all
            is well as long as another one answers should not hide them.
    """

    at: str
    code: str
    message: str
    retry_after_s: float | None = None
    mirrors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """The timestamp ETag of the last wholly successful update, and what it holds for.

    Attributes:
        etag: As the source gave it.
        fingerprint: Of the configuration.
        lost: Digests of factory models that were damaged even so: nobody signs for them any more. Whatever else gets
            damaged is news, and "not modified" no answer to it.
    """

    etag: str
    fingerprint: str
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """Everything the agent must not forget.

    Attributes:
        models: By name.
        floor: Highest version of each TUF role ever accepted; see `floor.Floor`, also for what may lower it.
        floor_keys: Who could sign each role when its floor was set.
        sequences: Highest sequence accepted, by `<class>/<model>`: what was assigned before it is not installed again.
        fleet: The fleet's name, from the first accepted assignment.
        expires: When each role's metadata ends (RFC 3339).
        seen: What a conditional poll may send.
        poll: Last poll.
        counters: Events since the record began (`polls`, `installs`, `rollbacks`, …).
        boots: Boots seen, and the kernel's id of the last one.
        clock_floor: Latest time that accepted metadata proves to have come; no clock below it is believed.
        clock_since: How long the device had been up by then: time has gone on from there, whatever the clock says.
        policy: The class's `updatePolicy` as it was last signed: when to poll, how fast to load, when to activate.
        rungs: Where the device as a whole stands on the degraded-mode ladder, by rung; none is normal.
        stuck: Garbage that could not be removed when it was last looked for: paths below the state directory, and why.
        scrubbed: When everything that is kept was last read back, or the count to that began.
        quarantined: Not stored. Why there is no record: `state-missing`, `state-damaged`, or None.
    """

    models: Mapping[str, ModelState] = field(default_factory=dict)
    floor: Mapping[str, int] = field(default_factory=dict)
    expires: Mapping[str, str] = field(default_factory=dict)
    seen: Seen | None = None
    poll: Poll | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    boots: int = 0
    boot_id: str = ""
    clock_floor: str | None = None
    clock_since: Uptime | None = None
    floor_keys: Mapping[str, str] = field(default_factory=dict)
    sequences: Mapping[str, int] = field(default_factory=dict)
    fleet: str | None = None
    policy: Mapping[str, Any] = field(default_factory=dict)
    rungs: Mapping[str, Rung] = field(default_factory=dict)
    stuck: Mapping[str, str] = field(default_factory=dict)
    scrubbed: str | None = None
    quarantined: str | None = None

    def model(self, name: str) -> ModelState:
        """Return a model's state; an unknown model has an empty one."""
        return self.models.get(name, ModelState())

    def with_model(self, name: str, state: ModelState) -> Record:
        """Return this record with one model's state replaced."""
        return replace(self, models={**self.models, name: state})

    def lowest(self, up: Uptime) -> Floor:
        """Return what nothing may fall below, for a device that has been up so long."""
        clock = self.clock_floor
        if clock is not None and (gone_s := elapsed_s(self.clock_since, up)):
            clock = to_text(later(from_text(clock), gone_s))
        return Floor(self.floor, self.floor_keys, clock)

    def with_floor(self, floor: Floor, up: Uptime) -> Record:
        """Return this record with another floor, as of now."""
        since = up if floor.clock else None
        return replace(
            self, floor=floor.versions, floor_keys=floor.keys, clock_floor=floor.clock, clock_since=since
        )

    def aged(self, up: Uptime) -> Record:
        """Return this record with its clock floor moved on to now, so that the next boot counts from here.

        Without it, who turns a device off every day and lets it see nothing new would stop its time for ever.
        """
        return self.with_floor(self.lowest(up), up)

    def with_sequences(self, accepted: Mapping[str, int]) -> Record:
        """Return this record with sequence floors lifted, by lane; none sinks."""
        lifted = {lane: max(number, self.sequences.get(lane, 0)) for lane, number in accepted.items()}
        return replace(self, sequences={**self.sequences, **lifted})

    def counted(self, **events: int) -> Record:
        """Return this record with counters advanced."""
        return replace(
            self, counters={**self.counters, **{k: self.counters.get(k, 0) + n for k, n in events.items()}}
        )


def some_of(stuck: Mapping[str, str]) -> dict[str, str]:
    """Return as much of what could not be removed as a record has room for and a person wants to read."""
    return {path: shorten(why, _MAX_STUCK_CHARS) for path, why in sorted(stuck.items())[:_MOST_STUCK]}


class Ledger:
    """The record on disk. `record` is always what the newest durable slot says.

    Raises:
        StorageError: `not-permitted`, or `state-version` when a newer agent wrote it.
    """

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._slots = Slots(folder, disk)
        self._folder = folder
        self._disk = disk
        reading = self._slots.read()
        self.generation = reading.generation
        if reading.payload is not None:
            self.record = from_bytes(reading.payload)
        else:
            self.record = Record(quarantined=DAMAGED if reading.exist else MISSING)

    @property
    def lived(self) -> bool:
        """Whether the state directory shows that a device has lived here, whatever its record says."""
        return any(_entries(self._folder / name) for name in ("store", "current", "tuf"))

    def require_whole(self) -> None:
        """Refuse to go on from a quarantined record, which knows nothing.

        Raises:
            StorageError: `state-missing`, `state-damaged`.
        """
        if self.record.quarantined:
            raise StorageError(self.record.quarantined, _QUARANTINED[self.record.quarantined])

    def commit(self, record: Record) -> None:
        """Make `record` the newest durable one; a no-op when nothing changed.

        Raises:
            StorageError: the record before still holds; `state-missing`, `state-damaged` while quarantined.
        """
        self.require_whole()
        if record != self.record:
            self._write(record)

    def sweep(self) -> None:
        """Remove what a power cut may have left of beginning the record.

        Raises:
            StorageError: the disk refused.
        """
        self._slots.sweep()

    def reanchor(self, record: Record) -> None:
        """Begin a new record, the first or in place of a lost one; damaged slots are set aside.

        Raises:
            StorageError: the disk refused.
        """
        self._disk.make_dir(self._folder)
        self._slots.set_aside()
        self._write(replace(record, quarantined=None))
        self._slots.allocate()
        self.keep_ballast()

    def keep_ballast(self) -> None:
        """Have what lets a full copy-on-write disk still take the record, where there is room for it now."""
        with contextlib.suppress(StorageError):
            self._slots.keep_ballast()

    def _write(self, record: Record) -> None:
        self._disk.make_dir(self._folder)
        record, payload = _fitting(record)
        self._slots.write(self.generation + 1, payload)
        self.generation += 1
        self.record = record


def to_bytes(record: Record) -> bytes:
    """Serialize a record canonically; absent values are left out."""
    document = _plain(replace(record, quarantined=None))
    return canonical_json({"version": VERSION, **document})


def from_bytes(payload: bytes) -> Record:
    """Parse what `to_bytes` or `_fitting` wrote.

    Raises:
        StorageError: `state-version` for a record of another format.
    """
    try:
        document: dict[str, Any] = parse_json(_unpacked(payload), "the record")
        # A field from the future may be a floor, which the next write would lose.
        if document.pop("version", None) == VERSION and document.keys() <= _STORED:
            document["models"] = {name: parse_model(value) for name, value in document["models"].items()}
            document["seen"] = _seen(document["seen"]) if "seen" in document else None
            document["clock_since"] = Uptime(**document["clock_since"]) if "clock_since" in document else None
            document["poll"] = Poll(**document["poll"]) if "poll" in document else None
            document["rungs"] = {name: Rung(**value) for name, value in document.get("rungs", {}).items()}
            return Record(**document)
    except (ValueError, TypeError, KeyError, AttributeError):
        pass  # a whole slot, so somebody meant it, but not this agent
    raise StorageError(
        "state-version", "the record was written by another version of the agent; install that one"
    )


def _seen(value: dict[str, Any]) -> Seen:
    return Seen(**{**value, "lost": tuple(value.get("lost", ()))})


def _fitting(record: Record) -> tuple[Record, bytes]:
    """Return a record that fits its slot, and its bytes: compressed, if need be.

    Where that is not enough, words and figures for people go before anything that decides; then the oldest tombstones:
    a version that failed here may be tried once more, which beats not recording at all.
    """
    payload = _packed(to_bytes(record))
    for chars, figures, stones in _TERSER:
        if len(payload) <= MAX_PAYLOAD_BYTES:
            break
        models = {name: terser(state, chars, figures, stones) for name, state in record.models.items()}
        poll = replace(record.poll, mirrors={}) if record.poll else None
        record = replace(record, models=models, poll=poll, stuck={})
        payload = _packed(to_bytes(record))
    return record, payload


def _packed(document: bytes) -> bytes:
    """Return a document as its slot holds it: as it is, unless it has no room so.

    Nearly all devices have a few models, and a record that a person can read with `strings`.
    """
    if len(document) <= MAX_PAYLOAD_BYTES or len(document) > MAX_UNPACKED_BYTES:
        return document
    import zlib

    return zlib.compress(document)


def _unpacked(payload: bytes) -> bytes:
    """Return the document that `_packed` was given.

    Raises:
        ValueError: no such bytes, or more than there may be.
    """
    if payload.startswith(b"{"):
        return payload
    import zlib

    stream = zlib.decompressobj()
    try:
        document = stream.decompress(payload, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not stream.eof or stream.unused_data:
        raise ValueError("the record does not end where it should")
    return document


def _plain(value: Any) -> Any:
    """Return what JSON has for a dataclass, without what is None (`dataclasses.asdict` copies every leaf)."""
    if isinstance(value, (str, int, float)) or value is None:
        return value
    if isinstance(value, Mapping):
        return {key: _plain(held) for key, held in value.items() if held is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(held) for held in value]
    return {
        entry.name: _plain(held)
        for entry in fields(value)
        if (held := getattr(value, entry.name)) is not None
    }


_STORED = {entry.name for entry in fields(Record)} - {"quarantined"}


def _entries(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
