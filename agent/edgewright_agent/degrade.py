"""When a device or a model goes down a step of the degraded-mode ladder, and when it comes up again.

>>> look = Look(stale=("timestamp",), verified=False, fresh_s=-60.0, free=Free(2 << 30, 90_000))
>>> observe({}, look, "2030-01-01T00:00:00Z")["stale"].reason
'timestamp ended'

A device goes down as soon as something is seen, and comes up only when it has been better for a while (hysteresis): a
disk at the edge of its reserve, or an accelerator that comes and goes, must not make reports flicker. The
steps themselves are in `ladder`. Everything here but `look` is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edgewright_agent.clock import from_text
from edgewright_agent.files import Disk, Free, existing
from edgewright_agent.ladder import (
    EXPIRED,
    LADDER,
    LOOKS,
    NO_SPACE,
    RUNGS,
    SPARE_BYTES,
    SPARE_INODES,
    SPARE_OF_DISK,
    SPARE_SHARE,
    step,
    worst,
)
from edgewright_agent.model_state import ModelState, Rung, shorten
from edgewright_agent.poll import trusted_now

__all__ = [
    "NO_SPACE",
    "RUNGS",
    "Look",
    "Reserve",
    "as_tried",
    "entered",
    "from_beats",
    "look",
    "observe",
    "proved",
    "reserve_of",
    "settled",
    "stand",
    "worst",
]

if TYPE_CHECKING:
    from edgewright_agent.config import Config
    from edgewright_agent.record import Record

# A session sees providers itself. Whether what the agent has put in place of a damaged model is good enough, it
# cannot say.
_AGENTS = ("previous", "factory", "safe-output")
_SESSION = "session: "


# --- the device -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reserve:
    """What the agent leaves free for others, and for itself to come back with."""

    bytes: int = 0
    inodes: int = 0


@dataclass(frozen=True)
class Look:
    """What is seen of a device at one moment.

    Attributes:
        stale: Roles whose metadata has ended.
        verified: Whether the last poll found the metadata good.
        fresh_s: Seconds until the first role's metadata ends; None without any.
        free: What the state's file system has left; None when it cannot say.
        reserve: What should be left.
        fault: What a write that found no space said; empty when none did.
        margin_s: How long metadata must go on to hold before `stale` is over, in seconds.
    """

    stale: tuple[str, ...] = ()
    verified: bool = False
    fresh_s: float | None = None
    free: Free | None = None
    reserve: Reserve = Reserve()
    fault: str = ""
    margin_s: float = 0.0

    @property
    def short(self) -> bool:
        """Whether less is free than should be."""
        return bool(_short(self.free, self.reserve))


def look(config: Config, record: Record, disk: Disk, now: datetime, *, fault: str = "") -> Look:
    """Look at a device: at the clock, its record and its disk; never fails.

    Args:
        config: Its configuration.
        record: Its record, with the last poll in it.
        disk: Where its state is.
        now: Its clock.
        fault: What a write that found no space has said since.
    """
    from edgewright_agent.errors import StorageError
    from edgewright_agent.schedule import polling

    time = trusted_now(record, now)
    left_s = {role: (from_text(end) - time).total_seconds() for role, end in record.expires.items()}
    stale = tuple(sorted(role for role, seconds in left_s.items() if seconds <= 0))
    poll = record.poll.code if record.poll else ""
    if record.poll and poll == NO_SPACE:
        fault = fault or record.poll.message
    try:
        free: Free | None = disk.free(existing(config.state))
    except StorageError:
        free = None
    return Look(
        stale=stale or (("metadata",) if poll == EXPIRED else ()),
        verified=poll in ("ok", "not-modified"),
        fresh_s=min(left_s.values(), default=None),
        free=free,
        reserve=reserve_of(config, record.policy),
        fault=fault,
        margin_s=polling(config, record).interval_s,
    )


def reserve_of(config: Config, policy: Mapping[str, Any]) -> Reserve:
    """Return what must stay free: the device's own reserve or its class's, whichever is larger."""
    return Reserve(
        max(config.reserve_bytes, _signed(policy, "diskReserveBytes")),
        max(config.reserve_inodes, _signed(policy, "inodeReserve")),
    )


def _signed(policy: Mapping[str, Any], key: str) -> int:
    value = policy.get(key, 0)
    return value if type(value) is int else 0


def observe(rungs: Mapping[str, Rung], seen: Look, at: str) -> dict[str, Rung]:
    """Return where the device stands after a look, by rung; none is normal.

    Args:
        rungs: Where it stood before.
        seen: The look.
        at: When, RFC 3339.
    """
    found = {
        "stale": _stale(rungs.get("stale"), seen, at),
        NO_SPACE: _no_space(rungs.get(NO_SPACE), seen, at),
    }
    return {name: rung for name, rung in found.items() if rung}


def entered(rungs: Mapping[str, Rung], seen: Look, at: str) -> dict[str, Rung]:
    """Return where a device stands for somebody who only looks: what is recorded, and what has begun since."""
    return {**observe(rungs, seen, at), **rungs}


def _stale(now: Rung | None, seen: Look, at: str) -> Rung | None:
    if seen.stale:
        return now or _enter("stale", at, f"{', '.join(seen.stale)} ended")
    good = seen.verified and seen.fresh_s is not None and seen.fresh_s > seen.margin_s
    return None if good else now


def _no_space(now: Rung | None, seen: Look, at: str) -> Rung | None:
    if why := seen.fault or _short(seen.free, seen.reserve):
        # The figures of the first look stay: a record that is written at each look wears out a disk.
        return replace(now, streak=0) if now else _enter(NO_SPACE, at, why)
    if now is None or seen.free is None:
        return now
    if _short(seen.free, _comfortable(seen.reserve, seen.free)):
        return replace(now, streak=0)
    return _better(now)


def _comfortable(reserve: Reserve, free: Free) -> Reserve:
    """Return what must be free before a disk that was short is so no more."""
    some = int(free.total_bytes * SPARE_OF_DISK) if free.total_bytes else SPARE_BYTES
    few = int(free.total_inodes * SPARE_OF_DISK) if free.total_inodes else SPARE_INODES
    spare = max(int(reserve.bytes * SPARE_SHARE), min(SPARE_BYTES, some))
    return Reserve(reserve.bytes + spare, reserve.inodes + min(SPARE_INODES, few))


def _short(free: Free | None, reserve: Reserve) -> str:
    """Return in words what is missing to a reserve; empty when nothing is."""
    if free is None:
        return ""
    if free.bytes < reserve.bytes:
        return f"{free.bytes} bytes are free, the reserve is {reserve.bytes}"
    if free.inodes is not None and free.inodes < reserve.inodes:
        return f"{free.inodes} inodes are free, the reserve is {reserve.inodes}"
    return ""


def _enter(rung: str, at: str, reason: str) -> Rung:
    return Rung(rung, step(rung).code, at, shorten(reason))


def _better(now: Rung) -> Rung | None:
    return None if now.streak + 1 >= LOOKS else replace(now, streak=now.streak + 1)


# --- one model --------------------------------------------------------------------------------------------------


def stand(state: ModelState, rung: str, reason: str, at: str) -> ModelState:
    """Return a model's state at a rung that the agent itself has put it on; where it stands there already, as it was.

    >>> stand(ModelState(), "factory", "1.0.0 is damaged", "2030-01-01T00:00:00Z").rung.code
    'previous-damaged'
    """
    if rung == "normal":
        return replace(state, rung=None) if state.rung else state
    if state.rung and state.rung.name == rung and not state.rung.reason.startswith(_SESSION):
        return state
    return replace(state, rung=_enter(rung, at, reason))


def settled(state: ModelState) -> ModelState:
    """Return the state of a model of which the assigned artifact is active and whole."""
    ended = state.rung and state.rung.name in _AGENTS and not state.rung.reason.startswith(_SESSION)
    return replace(state, rung=None) if ended else state


def proved(state: ModelState, wanted: Sequence[str], got: Sequence[str], at: str) -> ModelState:
    """Return the state of a model whose active artifact has just passed its trial.

    Args:
        state: With that artifact as `active`.
        wanted: Execution providers it was made for, in order.
        got: Those that its trial ran on.
        at: When, RFC 3339.
    """
    if wanted and got and got[0] != wanted[0]:
        return stand(state, "next-provider", f"{wanted[0]} did not start, {got[0]} did", at)
    return stand(state, "normal", "", at)


def as_tried(state: ModelState, wanted: Sequence[str], at: str) -> ModelState:
    """Return the state of a model whose active artifact is another one that ran here before, as its trial found it."""
    health = (state.active.health if state.active else None) or {}
    return proved(state, wanted, health.get("providers") or (), at)


def from_beats(state: ModelState, beats: Iterable[Mapping[str, Any]], at: str) -> ModelState:
    """Return a model's state after the latest word of each session that applications have open on it.

    Down at once to the lowest rung that any session stands on, up after `LOOKS` calls in which all stood better. No
    session open says nothing, as does a word that makes no sense: whoever may write to the socket may write anything.

    Args:
        state: The model's state.
        beats: Latest document of each live session of this model (`contract.LIVE_SOCKET`).
        at: When, RFC 3339.
    """
    told = [beat for beat in beats if beat.get("event") != "close" and beat.get("rung") in _TELLABLE]
    if not told:
        return state
    seen = worst(beat["rung"] for beat in told)
    now = state.rung
    if RUNGS.index(seen) > RUNGS.index(now.name if now else "normal"):
        why = next(beat for beat in told if beat["rung"] == seen)
        return replace(state, rung=_enter(seen, at, _SESSION + _words(why)))
    if now is None or (now.name in _AGENTS and not now.reason.startswith(_SESSION)):
        return state
    if seen == now.name:
        return replace(state, rung=replace(now, streak=0))
    better = _better(now)
    if better is not None or seen == "normal":
        return replace(state, rung=better)
    return replace(state, rung=_enter(seen, at, _SESSION + "up from " + now.name))


_TELLABLE = tuple(one.rung for one in LADDER if one.about == "model" or not one.code)


def _words(beat: Mapping[str, Any]) -> str:
    providers = beat.get("providers")
    ran = ", ".join(map(str, providers)) if isinstance(providers, (list, tuple)) else ""
    return " on ".join(part for part in (str(beat.get("code") or beat["rung"]), ran) if part)
