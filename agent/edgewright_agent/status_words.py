"""The status of a device in words: what `edgewright-agent status` prints.

>>> print(in_words(status))                              # doctest: +SKIP
device     pump-1 (raspberry-pi-4) site=lab
source     https://registry.example/acme
state      ok
metadata   timestamp 4, snapshot 4, targets 1, root 1, rollout 4, class-raspberry-pi-4 4
expires    timestamp first, 2030-01-08T00:00:00Z
last poll  2030-01-01T00:00:00Z ok: metadata verified
<BLANKLINE>
MODEL         RUNNING              VERSION  SINCE                 PREVIOUS  STATE
digit-reader  sha256:ab12cd34ef56  1.1.0    2030-01-01T00:00:00Z  1.0.0     soaking
<BLANKLINE>
digit-reader  its live soak goes on for 50 minutes

The table holds what is short; sentences stand below it, in lines that fit a terminal.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgewright_agent.report import short

if TYPE_CHECKING:
    from edgewright_agent.status import ModelStatus, Status

_WIDTH = 110
_LABEL = 11
_HEADINGS = ("MODEL", "RUNNING", "VERSION", "SINCE", "PREVIOUS", "STATE")
_ROLES = ("timestamp", "snapshot", "targets", "root", "rollout")


def in_words(status: Status, spool: Mapping[str, Any] | None = None) -> str:
    """Return a device's status for a terminal.

    Args:
        status: It.
        spool: How full the telemetry spool is (`spool.fill`); None where there is none.
    """
    lines = [f"{label:{_LABEL}}{text}" for label, text in _facts(status, spool)]
    if not status.models:
        return "\n".join([*lines, "", "no model is here yet"])
    rows = [_HEADINGS, *(_row(model) for model in status.models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    table = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    remarks = [
        line
        for model in status.models
        for remark in _remarks(model)
        for line in _wrapped(f"{model.name:{widths[0]}}", remark)
    ]
    return "\n".join([*lines, "", *(line.rstrip() for line in table), *(["", *remarks] if remarks else [])])


def _facts(status: Status, spool: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    labels = " ".join(f"{key}={value}" for key, value in sorted(status.labels.items()))
    yield "device", f"{status.device} ({status.hardware_class}) {labels}".rstrip()
    yield "source", status.source
    yield "state", _state(status)
    if status.behind_s and status.clock_floor:
        told = f"behind the signed time by {_duration(status.behind_s)}; taken to be {status.clock_floor}"
        yield "clock", told
    roles = sorted(
        status.versions, key=lambda role: (_ROLES.index(role) if role in _ROLES else len(_ROLES), role)
    )
    yield "metadata", ", ".join(f"{role} {status.versions[role]}" for role in roles) or "none yet"
    if ends := min(status.expires.items(), key=lambda item: item[1], default=None):
        yield "expires", f"{ends[0]} first, {ends[1]}"
    poll = status.poll
    yield "last poll", f"{poll.at} {poll.code}: {poll.message}" if poll else "never"
    for url, told in sorted(poll.mirrors.items()) if poll else ():
        yield "mirror", f"{url} failed {told}"
    for model, rung in status.standing():
        yield "ladder", f"{model} {rung.name} since {rung.since}, {rung.code}: {rung.reason}".lstrip()
    for one in status.models:
        if not one.factory_whole:
            told = f"{one.name}: {one.factory} is damaged: nothing to fall back on below `previous`"
            yield "factory", told
    for path, why in sorted(status.stuck.items()):
        yield "garbage", f"{path} cannot be removed, {why}"
    if spool:
        yield "telemetry", _telemetry(spool)
    if not status.quarantined and (command := status.next_command()):
        yield "next", command


def _state(status: Status) -> str:
    if status.quarantined:
        kept = "what runs keeps running, nothing is installed"
        return f"{status.quarantined}: {kept}; next: {status.next_command()}"
    if status.stale and status.state == "stale":
        return f"stale: {', '.join(status.stale)} ended"
    return status.state


def _telemetry(spool: Mapping[str, Any]) -> str:
    classes = spool["classes"].values()
    waiting, dropped = (sum(one[key] for one in classes) for key in ("waiting", "dropped"))
    delivery = spool["delivery"]
    told = f"{waiting} to send" if waiting else "nothing to send"
    told += f", {dropped} dropped" if dropped else ""
    told += f"; delivered {delivery['succeededAt']}" if delivery["succeededAt"] else "; never delivered"
    if delivery["triedAt"] and delivery["outcome"] != "ok":
        told += f", since then {delivery['outcome']}"
    return told


def _row(model: ModelStatus) -> Sequence[str]:
    return (
        model.name,
        short(model.active) or "-",
        model.version or "-",
        model.since or "-",
        model.previous or "-",
        model.state,
    )


def _remarks(model: ModelStatus) -> Iterator[str]:
    """Yield what is worth saying of a model beyond its state: why nothing newer runs, and what is still to come."""
    if model.reason:
        yield model.reason
    if model.soak and model.soak.failed:
        if not model.reason:
            yield f"{model.soak.failed}, and nothing to go back to"
    elif model.soak:
        yield f"its live soak goes on for {_duration(model.soak_left_s)}"
    if model.pin and model.state != "pinned":  # whose reason says it
        yield f"pinned by hand since {model.pin.at}; `edgewright-agent unpin {model.name}` ends that"


def _wrapped(name: str, remark: str) -> list[str]:
    wide = max(_WIDTH - len(name) - 2, 40)
    lines = textwrap.wrap(remark, wide, break_long_words=False, break_on_hyphens=False)
    return [f"{name if index == 0 else ' ' * len(name)}  {line}" for index, line in enumerate(lines)]


def _duration(seconds: int) -> str:
    for name, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {name}"
    return f"{seconds} s"
