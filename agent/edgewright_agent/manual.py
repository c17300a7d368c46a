"""What a person may do by hand on a device: go back, stay, try again, begin a record. All of it is counted.

>>> rollback(ledger, store, "digit-reader", now=utc_now())   # doctest: +SKIP
Slot(digest='sha256:…', version='1.0.0', since='2030-01-01T00:00:00Z')
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from edgewright_agent.clock import from_text, to_text, uptime
from edgewright_agent.contract import ROLE_CLASS_PREFIX, ROLE_ROLLOUT, is_name
from edgewright_agent.degrade import as_tried
from edgewright_agent.errors import ConfigError, StorageError
from edgewright_agent.files import Disk, faults, fresh_of
from edgewright_agent.floor import Floor
from edgewright_agent.model_state import ModelState, Pin, Slot, Tombstone, Verdict
from edgewright_agent.owner import as_caller
from edgewright_agent.record import MISSING, Ledger, Record
from edgewright_agent.settings import wanted_providers
from edgewright_agent.store import Store

_ROLES = ("root", "timestamp", "snapshot", "targets", ROLE_ROLLOUT)
_MAX_VERSION = 2**53 - 1


def rollback(ledger: Ledger, store: Store, model: str, *, now: datetime, to: str | None = None) -> Slot:
    """Make another model that is still here active and tombstone the one that was; a pin ends with it.

    Args:
        ledger: The record.
        store: The models.
        model: Its name.
        now: When.
        to: Digest (or its beginning) or version of what to go back to, or `factory`; else the previous model, and where
            there is none the factory one.

    Raises:
        ConfigError: `no-model`, or `no-previous` when there is nothing (of that kind) to go back to.
        StorageError: the target is `damaged`; the record is missing, damaged or cannot be written: nothing has
            changed.
    """
    ledger.require_whole()
    state = ledger.record.model(model)
    bad = _active(state, model)
    target = _found(state, to, but=bad.digest)
    if target is None:
        raise ConfigError("no-previous", _nothing(state, model, bad, to))
    store.verify(target.digest)
    at = to_text(now)
    active = replace(target, since=at)
    stone = Tombstone(bad.digest, bad.version, "manual-rollback", "rolled back by hand", at)
    verdict = Verdict(stone.code, f"{bad.version} was rolled back by hand", at, bad.digest, bad.version)
    previous = state.previous if state.previous and state.previous.digest != target.digest else None
    state = replace(
        state.entomb(stone),
        active=active,
        previous=previous,
        trial=None,
        waiting=None,
        soak=None,
        pin=None,
        last=verdict,
    )
    state = as_tried(state, wanted_providers(store.path(active.digest)), at)
    # Without the ETag the next poll is a whole one, which also collects what is not needed any more.
    record = ledger.record.with_model(model, state).counted(rollbacks=1, manual_rollbacks=1)
    ledger.commit(replace(record, seen=None))
    store.link(model, active.digest)
    return active


def pin(ledger: Ledger, store: Store, model: str, *, now: datetime, version: str | None = None) -> Slot:
    """Stay with what is active, or go to another version that is still here and stay with that.

    What is pinned counts as proved: its live soak ends, and what was on trial is let go. Nothing is tombstoned, so
    after `unpin` what is assigned comes back.

    Args:
        ledger: The record.
        store: The models.
        model: Its name.
        now: When.
        version: Version or digest (or its beginning) of an active, previous or factory model; else the active one.

    Raises:
        ConfigError: `no-model`, `no-version` when it is not on this device.
        StorageError: it is `damaged`; the record is missing, damaged or cannot be written: nothing has changed.
    """
    ledger.require_whole()
    state = ledger.record.model(model)
    active = _active(state, model)
    target = active if version is None else _found(state, version)
    if target is None:
        raise ConfigError("no-version", f"{model} {version} is not on this device; {_here(state)}")
    at = to_text(now)
    if target.digest != active.digest:
        store.verify(target.digest)
        target = replace(target, since=at)
        previous = active if state.proving is None else state.spare_for(target.digest)
        state = replace(state, active=target, previous=previous)
        state = as_tried(state, wanted_providers(store.path(target.digest)), at)
    held = Pin(target.digest, target.version, at)
    if state.pin and state.pin.digest == held.digest:
        held = state.pin  # saying it again does not begin it again
    state = replace(state, pin=held, trial=None, waiting=None, soak=None)
    record = ledger.record.with_model(model, state).counted(pins=1)
    ledger.commit(replace(record, seen=None))
    store.link(model, target.digest)
    return target


def unpin(ledger: Ledger, model: str) -> Pin:
    """Take a pin away, so that the next poll installs what is assigned; return it.

    Raises:
        ConfigError: `not-pinned`.
        StorageError: the record is damaged or missing, or cannot be written.
    """
    ledger.require_whole()
    state = ledger.record.model(model)
    if state.pin is None:
        raise ConfigError("not-pinned", f"{model} is not pinned here")
    record = ledger.record.with_model(model, replace(state, pin=None)).counted(unpins=1)
    ledger.commit(replace(record, seen=None))
    return state.pin


def _active(state: ModelState, model: str) -> Slot:
    if state.active is None:
        raise ConfigError("no-model", f"no {model} is active here")
    return state.active


def _found(state: ModelState, to: str | None, *, but: str | None = None) -> Slot | None:
    """Return the slot that a person means: by digest, the beginning of one, version or `factory`."""
    slots = (
        {"factory": state.factory}
        if to == "factory"
        else {"active": state.active, "previous": state.previous, "factory": state.factory}
    )
    fitting = [
        slot
        for slot in slots.values()
        if slot
        and slot.digest != but
        and (to in (None, "factory", slot.version) or _begins(slot.digest, str(to)))
    ]
    return fitting[0] if fitting else None


def _begins(digest: str, text: str) -> bool:
    plain = text.removeprefix("sha256:")
    return len(plain) >= 6 and digest.removeprefix("sha256:").startswith(plain)


def _nothing(state: ModelState, model: str, bad: Slot, to: str | None) -> str:
    if to is None:
        return f"{model} {bad.version} is the only one here: there is nothing to go back to"
    if to == "factory":
        return f"{model} has no other factory version here: there is nothing to go back to"
    return f"{model} {to} is nothing to go back to here; {_here(state)}"


def _here(state: ModelState) -> str:
    slots = {"active": state.active, "previous": state.previous, "factory": state.factory}
    return "here are: " + ", ".join(
        f"{slot.version} {slot.digest[:19]} ({name})" for name, slot in slots.items() if slot
    )


def retry(ledger: Ledger, model: str) -> int:
    """Forget what failed here, so that the next poll tries it again; return how many tombstones went.

    Raises:
        ConfigError: `nothing-to-retry`.
        StorageError: the record is damaged or missing, or cannot be written.
    """
    ledger.require_whole()
    state = ledger.record.model(model)
    if not state.tombstones:
        raise ConfigError("nothing-to-retry", f"{model} has no tombstones here")
    record = ledger.record.with_model(model, replace(state, tombstones=())).counted(retries=1)
    ledger.commit(replace(record, seen=None))
    return len(state.tombstones)


def floor_of(least: Mapping[str, str]) -> Floor:
    """Return the floor that a person gives, from role → version, and `clock` → time.

    >>> floor_of({"timestamp": "40", "clock": "2030-01-01T00:00:00Z"}).versions
    {'timestamp': 40}

    Raises:
        ConfigError: `bad-floor`.
    """
    versions, clock = dict[str, int](), None
    for name, text in least.items():
        if name == "clock":
            try:
                clock = to_text(from_text(text))
            except (ValueError, OverflowError):
                raise ConfigError(
                    "bad-floor", f"clock={text} is not a time like 2030-01-01T00:00:00Z"
                ) from None
        elif name not in _ROLES and not (
            name.startswith(ROLE_CLASS_PREFIX) and is_name(name.removeprefix(ROLE_CLASS_PREFIX))
        ):
            raise ConfigError(
                "bad-floor", f"{name} is no role: {', '.join(_ROLES)}, {ROLE_CLASS_PREFIX}NAME, or clock"
            )
        elif not text.isascii() or not text.isdecimal() or not 0 < int(text[:20]) <= _MAX_VERSION:
            raise ConfigError("bad-floor", f"{name}={text} is not a version")
        else:
            versions[name] = int(text)
    return Floor(versions, {}, clock)


def unanchored(config: Path) -> Path:
    """Return the mark beside a configuration that allows its device to be anchored, once, without a person."""
    return config.with_name(config.name + ".unanchored")


def fleet_name(text: str | None) -> str | None:
    """Return the name of a fleet as a person gives it, or None.

    Raises:
        ConfigError: `bad-fleet`.
    """
    if text is not None and not is_name(text):
        raise ConfigError("bad-fleet", f"{text!r} is not a fleet's name")
    return text


def leave_mark(
    config: Path, least: Mapping[str, str], *, fleet: str | None = None, disk: Disk | None = None
) -> None:
    """Allow one `anchor` for a configuration that is written before its device has a state directory.

    Raises:
        ConfigError: `bad-fleet`.
        StorageError: it cannot be written.
    """
    document = {"version": 1, "atLeast": dict(least), "fleet": fleet_name(fleet)}
    (disk or Disk()).replace_file(unanchored(config), json.dumps(document).encode())


def anchor(ledger: Ledger, config: Path, *, disk: Disk | None = None) -> bool:
    """Begin the first record of a device that `init --no-state` has prepared; whether one has begun.

    The mark it has left is used up: a state that is lost later is not begun anew by a start script. With a record, this
    does nothing but make sure of that.

    Raises:
        StorageError: `state-missing` without the mark, `state-damaged`; the mark cannot be removed: nothing has begun.
        ConfigError: `bad-floor`: the mark is not what `init` has written.
    """
    mark, disk = unanchored(config), disk or Disk()
    if ledger.record.quarantined == MISSING and mark.exists():
        # First: where this fails, the mark would allow it again and again. Not by a rename: not every file system
        # promises that a power cut leaves one of the two names.
        with as_caller():  # the configuration's folder is not the agent's
            with faults(mark, "read"):
                body = mark.read_bytes()
            disk.replace_file(_used(mark), body)
            _forget(disk, mark)
    elif ledger.record.quarantined == MISSING and _used(mark).exists():
        pass  # a power cut between the two steps
    else:
        ledger.require_whole()
        with as_caller():
            _forget(disk, mark, _used(mark))
        return False
    try:
        with as_caller():
            document = json.loads(_used(mark).read_bytes())
        floor = floor_of({str(name): str(version) for name, version in document["atLeast"].items()})
        fleet = fleet_name(document.get("fleet"))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ConfigError("bad-floor", f"{mark} is not what `init` writes: {error}") from error
    ledger.reanchor(Record(fleet=fleet).with_floor(floor, uptime()))
    with as_caller():
        _forget(disk, _used(mark))
    return True


def reanchor(
    ledger: Ledger, store: Store, *, now: datetime, floor: Floor | None = None, fleet: str | None = None
) -> dict[str, str]:
    """Begin a new record from what `current` points at, after the record was lost; or follow a renamed fleet.

    What is lost: previous slots, pins, tombstones, sequences, and the version floor, which starts again at
    `floor` and what the next verified metadata says. Without a floor, run it only when the source is known to be
    current.

    Args:
        ledger: The record that is missing or damaged; a whole one only gets another fleet's name.
        store: Installed models.
        now: Since when what runs is said to run.
        floor: The lowest that a person allows.
        fleet: Name of the fleet this device belongs to; else the next assignment's.

    Returns:
        Per model that was linked: the version that stays active, or why it could not stay.

    Raises:
        ConfigError: `not-damaged`: the record is fine; `bad-fleet`.
        StorageError: the disk refused.
    """
    fleet = fleet_name(fleet)
    if not ledger.record.quarantined:
        if fleet is None or floor is not None:
            raise ConfigError("not-damaged", "the record is whole: there is nothing to re-anchor")
        ledger.commit(replace(ledger.record, fleet=fleet, seen=None))
        return {}
    record, told = Record(fleet=fleet).with_floor(floor or Floor(), uptime()), {}
    for model, digest in store.links().items():
        try:
            artifact = store.verify(digest)
        except StorageError as error:
            told[model] = str(error)
            continue
        slot = Slot(digest, artifact.version, to_text(now))
        record = record.with_model(model, replace(record.model(model), active=slot))
        told[model] = artifact.version
    for model, digest in store.factories().items():
        with contextlib.suppress(StorageError):
            slot = Slot(digest, store.verify(digest).version, to_text(now))
            record = record.with_model(model, replace(record.model(model), factory=slot))
    ledger.reanchor(record.counted(reanchors=1))
    return told


def _used(mark: Path) -> Path:
    return mark.with_name(mark.name + ".used")


def _forget(disk: Disk, *marks: Path) -> None:
    """Remove marks durably, and what a power cut may have left of writing them."""
    strays = [path for mark in marks for path in (mark, fresh_of(mark)) if path.exists()]
    for stray in strays:
        disk.remove(stray)
    if strays:
        disk.sync_dir(strays[0].parent)
