"""Every way in which this device could run a model now, best first: read from the link, the record and the artifacts.

>>> [step.rung for step in steps_of(Path("/var/lib/edgewright"), "digit-reader", providers)]  # doctest: +SKIP
['normal', 'next-provider', 'cpu-model', 'previous', 'factory']

Only reads, and needs nothing but the right to read: an application has no business with the agent's lock.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgewright_agent.engine import has_variant
from edgewright_agent.errors import AgentError, ConfigError, StorageError
from edgewright_agent.files import Disk
from edgewright_agent.health import fallback_works
from edgewright_agent.model_state import ModelState
from edgewright_agent.record import Ledger
from edgewright_agent.runtime.ladder import Step
from edgewright_agent.settings import read
from edgewright_agent.store import Store

CPU = "CPUExecutionProvider"


def active_digest(state: Path, model: str) -> str | None:
    """Return what `current/<model>` points at; None when there is no such link."""
    return Store(state, Disk()).linked(model)


def folder_of(state: Path, digest: str) -> Path:
    """Return where an artifact lies."""
    return Store(state, Disk()).path(digest)


def state_of(state: Path, model: str) -> ModelState:
    """Return what the record says of a model; nothing when it cannot be read."""
    try:
        return Ledger(state, Disk()).record.model(model)
    except StorageError:
        return ModelState()


def denied(path: Path) -> ConfigError | None:
    """Return what keeps this process from reading a file of the agent; None when its modes do not.

    Applications run as users of their own; the agent's group lets them read what it installs.
    """
    for place in (*reversed(path.parents), path):
        try:
            found = os.stat(place)  # noqa: PTH116  follows links, and says what is wrong
        except PermissionError:
            continue  # its folder, which comes first, was the one
        except OSError:
            return None
        need = os.X_OK if stat.S_ISDIR(found.st_mode) else os.R_OK
        if not os.access(place, need, effective_ids=True):
            who = _name_of(pwd.getpwuid, os.geteuid())
            group = _name_of(grp.getgrgid, found.st_gid)
            return ConfigError(
                "not-permitted",
                f"{place} may not be read by {who}: let it into the agent's group "
                f"(usermod -aG {group} {who}) and start the application anew",
            )
    return None


def _name_of(look_up: Callable[[int], Sequence[Any]], number: int) -> str:
    try:
        return str(look_up(number)[0])
    except KeyError:
        return str(number)


def version_of(state: Path, model: str, digest: str) -> str:
    """Return the version of an artifact for people: of its manifest, or as recorded; empty when neither says."""
    try:
        return Store(state, Disk()).artifact(digest).version
    except AgentError:
        slots = state_of(state, model).slots()
        return next((slot.version for slot in slots if slot.digest == digest), "")


def steps_of(
    state: Path, model: str, available: Sequence[str], incumbent: str | None = None
) -> tuple[Step, ...]:
    """Return every step of a model's ladder that is on this device, best first; without the safe output.

    Args:
        state: The agent's state directory.
        model: Its name.
        available: Execution providers of this engine.
        incumbent: What is in use now: better than nothing, also when nothing names it any more.
    """
    recorded = state_of(state, model)
    # The link is made from the record; where it is lost, the record still knows.
    active = active_digest(state, model) or (recorded.active.digest if recorded.active else None)
    places = [
        ("normal", active or incumbent),
        ("previous", recorded.previous.digest if recorded.previous else None),
        ("previous", incumbent),
        ("factory", recorded.factory.digest if recorded.factory else None),
    ]
    steps: list[Step] = []
    seen = set()
    for rung, digest in places:
        # What was given up here is no way down, unless it is still what `current` points at.
        if digest is None or digest in seen or (rung != "normal" and recorded.tombstone_of(digest)):
            continue
        seen.add(digest)
        beside = beside_works(recorded, digest)
        steps += ways(folder_of(state, digest), digest, rung, available, beside=beside)
    return tuple(steps)


def beside_works(recorded: ModelState, digest: str) -> bool:
    """Whether the trial lets an artifact's CPU model be used, if it ships one.

    Where the record cannot be read, or does not say (it leaves figures out when it gets too long), loading it decides:
    its answers are compared then as well.
    """
    tried = (recorded.active, recorded.previous, recorded.factory, recorded.candidate)
    slot = next((slot for slot in tried if slot and slot.digest == digest), None)
    return slot is None or slot.health is None or fallback_works(slot.health)


def ways(
    folder: Path, digest: str, rung: str, available: Sequence[str], *, beside: bool = True
) -> Iterator[Step]:
    """Yield how one artifact can be run: by its providers, by those after the first, and so on.

    A CPU model shipped beside stands for the CPU: it was made and measured for that, and the other was not. Where this
    engine has not got the first provider, the best way there is stands a rung lower.

    Args:
        folder: The artifact.
        digest: Its digest.
        rung: Where it stands.
        available: Execution providers of this engine.
        beside: Whether a CPU model shipped beside may be used.
    """
    beside = beside and has_variant(folder, "cpu")
    try:
        wanted = read(folder).providers
    except AgentError:
        wanted = ()  # loading it says what is wrong
    usable = tuple(name for name in wanted if name in available)
    first = wanted.index(usable[0]) if usable else 0
    if not (beside and first and usable == (CPU,)):
        yield Step(_lower(rung, "next-provider") if first else rung, digest, providers=usable or None)
    for start in range(1, len(usable)):
        rest = usable[start:]
        if not (beside and rest == (CPU,)):
            yield Step(_lower(rung, "next-provider"), digest, providers=rest)
    if beside:
        yield Step(_lower(rung, "cpu-model"), digest, variant="cpu")


def _lower(rung: str, below: str) -> str:
    return below if rung == "normal" else rung
