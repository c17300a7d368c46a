"""A device at a glance, for people: what its models do now, as the daemon tells it.

>>> print("\\n".join(frame(document, now, width=100)))    # doctest: +SKIP
pump-7  raspberry-pi-4  ok  next poll in 12 min                                            10:12:33

`frame` is text from a status document (`/v1/status`) and a moment; `commands.top` draws it again and again.
"""

from __future__ import annotations

import json
import socket
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from edgewright_agent import sockets
from edgewright_agent.clock import from_text
from edgewright_agent.contract import HEALTH_SOCKET
from edgewright_agent.errors import TransportError
from edgewright_agent.transport.document import parse_json

MAX_ANSWER_BYTES = 8 * 1024 * 1024
MIN_WIDTH = 40
_TIMEOUT_S = 10.0
_GOOD, _ODD, _BAD, _DIM, _BOLD = "32", "33", "31", "2", "1"  # SGR parameters (ECMA-48 8.3.117)
_COLOURS = {"ok": _GOOD, "running": _GOOD, "normal": _GOOD, "absent": _BAD, "damaged": _BAD, "missing": _BAD}
_LABEL = "{:<8}"
_PSI_ODD, _PSI_BAD = 0.1, 0.25  # the usual reading: a shift to look at, a shift to act on


@dataclass(frozen=True)
class Cell:
    """Text in a colour; an empty one is the terminal's own."""

    text: str
    colour: str = ""


@dataclass(frozen=True)
class Column:
    """One column of the table. `keep`: those with the least go first where there is no room."""

    heading: str
    keep: int
    right: bool
    cell: Callable[[str, Mapping[str, Any]], Cell]


def fetch(state: Path, page: str = "/v1/status") -> dict[str, Any]:
    """Ask the daemon of a state directory.

    Raises:
        OSError: nobody listens there, or we may not talk to it.
        TransportError: `bad-response`.
    """
    received = bytearray()
    with sockets.connect(state / HEALTH_SOCKET, socket.SOCK_STREAM, timeout_s=_TIMEOUT_S) as channel:
        channel.sendall(f"GET {page} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        while (data := channel.recv(65536)) and len(received) <= MAX_ANSWER_BYTES:
            received += data
    _head, _, body = bytes(received).partition(b"\r\n\r\n")
    try:
        document = parse_json(body, "the agent's answer")
    except ValueError as error:
        raise TransportError("bad-response", str(error)) from None
    if not isinstance(document, dict) or "models" not in document:
        told = json.dumps(document)[:300]
        raise TransportError("bad-response", f"the agent cannot tell its status: {told}")
    return document


def frame(
    document: Mapping[str, Any], now: datetime, *, width: int, colours: bool = False, clock: str = ""
) -> list[str]:
    """Return the lines of one picture.

    Args:
        document: What the daemon says at `/v1/status`.
        now: The clock's time.
        width: Columns of the terminal.
        colours: Whether it shows colours.
        clock: What stands in the upper right corner.
    """
    width = max(width, MIN_WIDTH)
    lines = [
        _headline(document, width, clock),
        *_facts(document, now, width),
        [],
        *_table(document["models"], width),
    ]
    return [_line(cells, width, colours) for cells in [*lines, *_remarks(document, width)]]


def _headline(document: Mapping[str, Any], width: int, clock: str) -> list[Cell]:
    device, agent, state = document["device"], document["agent"], document["state"]
    left = [
        Cell(device["id"], _BOLD),
        Cell(device["class"]),
        Cell(state, _COLOURS.get(state, _ODD)),
        Cell(_doing(agent)),
    ]
    used = sum(len(cell.text) + 2 for cell in left)
    return [*left, Cell(clock.rjust(width - used), _DIM)] if used + len(clock) <= width else left


def _doing(agent: Mapping[str, Any]) -> str:
    if agent["doing"] != "waiting" or agent["nextPollS"] is None:
        return str(agent["doing"])
    failures = f" after {_counted(agent['failures'], 'failure')}" if agent["failures"] else ""
    return f"next poll in {span(agent['nextPollS'])}{failures}"


def _facts(document: Mapping[str, Any], now: datetime, width: int) -> list[list[Cell]]:
    poll, expires = document["poll"], document["metadata"]["expires"]
    told = "never"
    if poll:
        told = f"{_ago(poll['at'], now)}  {poll['code']}: {poll['message']}"
    fine = poll is not None and poll["code"] in ("ok", "not-modified")
    ends = "none yet"
    colour = ""
    if expires:
        role, moment = min(expires.items(), key=lambda item: str(item[1]))
        left_s = (from_text(moment) - now).total_seconds()
        ends = f"{role} ends first, in {span(left_s)}" if left_s > 0 else f"{role} ended {span(-left_s)} ago"
        colour = "" if left_s > 0 else _BAD
    return [
        [Cell(_LABEL.format("poll"), _DIM), Cell(told, "" if fine else _ODD)],
        [Cell(_LABEL.format("metadata"), _DIM), Cell(ends, colour)],
        *(
            [Cell(_LABEL.format("" if index else "machine"), _DIM), Cell(line)]
            for index, line in enumerate(_joined(_machine(document), width - len(_LABEL.format("")) - 2))
        ),
    ]


def _joined(parts: Sequence[str], width: int) -> list[str]:
    """Return parts with dots between them, in as many lines as they need."""
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]} · {part}" if lines[-1] else part
        if len(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def _machine(document: Mapping[str, Any]) -> list[str]:
    vitals, spool, agent = document["vitals"] or {}, document["spool"], document["agent"]
    memory, disk = vitals.get("memory"), vitals.get("disk")
    found = []
    if memory:
        found.append(f"memory {size(memory['availableBytes'])} of {size(memory['totalBytes'])} free")
    if disk:
        found.append(f"disk {size(disk['freeBytes'])} of {size(disk['totalBytes'])} free")
    if vitals.get("temperatureC") is not None:
        found.append(f"{vitals['temperatureC']:.0f} °C")
    if vitals.get("load") is not None:
        found.append(f"load {vitals['load']:.2f}")
    if spool:
        found.append(_spool(spool))
    found.append(_counted(agent["sessions"], "session"))
    return found


def _spool(spool: Mapping[str, Any]) -> str:
    classes = spool["classes"].values()
    used = sum(one["segments"] for one in classes) / max(spool["segments"], 1)
    dropped = sum(one["dropped"] for one in classes)
    return f"spool {100 * used:.0f} % full" + (f", {dropped} dropped" if dropped else "")


def _figures(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the live figures if they are of what is active: after a rollback those heard last are of another."""
    live: Mapping[str, Any] = model["live"] or {}
    return live if live.get("digest") == model["active"] else {}


def _recent(model: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _figures(model).get("recent", {})
    return found


def _figure(value: float | None, form: str = "{:.1f}", colour: str = "") -> Cell:
    return Cell("-", _DIM) if value is None else Cell(form.format(value), colour)


def _rate(_name: str, model: Mapping[str, Any]) -> Cell:
    return _figure(_recent(model).get("perS"), "{:.1f}")


def _errors(_name: str, model: Mapping[str, Any]) -> Cell:
    live = _figures(model)
    if not live:
        return _figure(None)
    count = live["errors"]
    return Cell(str(count), _BAD if _recent(model).get("errors") else _ODD if count else "")


def _drift(_name: str, model: Mapping[str, Any]) -> Cell:
    drift = _figures(model).get("drift", {"confidence": None, "inputs": {}})
    known = [value for value in (drift["confidence"], *drift["inputs"].values()) if value is not None]
    if not known:
        return _figure(None)
    worst = max(known)
    return _figure(worst, "{:.2f}", _BAD if worst > _PSI_BAD else _ODD if worst > _PSI_ODD else "")


def _sessions(_name: str, model: Mapping[str, Any]) -> Cell:
    live = model["live"]
    if not live:
        return _figure(None)
    return (
        Cell(f"{live['sessions']}, {live['hung']} hung", _BAD)
        if live["hung"]
        else Cell(str(live["sessions"]))
    )


def _success(_name: str, model: Mapping[str, Any]) -> Cell:
    age_s = (model["live"] or {}).get("sinceSuccessS")
    return _figure(None) if age_s is None else Cell(f"{span(age_s)} ago")


def _stands(key: str) -> Callable[[str, Mapping[str, Any]], Cell]:
    def cell(_name: str, model: Mapping[str, Any]) -> Cell:
        return Cell(str(model[key]), _COLOURS.get(model[key], _ODD))

    return cell


COLUMNS = (
    Column("MODEL", 100, False, lambda name, _model: Cell(name, _BOLD)),
    Column("VERSION", 90, False, lambda _name, model: Cell(model["version"] or "-")),
    Column("DIGEST", 10, False, lambda _name, model: Cell((model["active"] or "-")[7:19] or "-", _DIM)),
    Column("STATE", 95, False, _stands("state")),
    Column("RUNG", 85, False, _stands("rung")),
    Column("REQ/S", 80, True, _rate),
    Column("P50 MS", 30, True, lambda _n, model: _figure(_recent(model).get("p50Ms"), "{:.2f}")),
    Column("P95 MS", 70, True, lambda _n, model: _figure(_recent(model).get("p95Ms"), "{:.2f}")),
    Column("ERRORS", 75, True, _errors),
    Column("CONF", 20, True, lambda _n, model: _figure(_recent(model).get("confidence"), "{:.2f}")),
    Column("DRIFT", 25, True, _drift),
    Column("SESSIONS", 40, True, _sessions),
    Column("LAST OK", 60, True, _success),
)


def _table(models: Mapping[str, Any], width: int) -> list[list[Cell]]:
    if not models:
        return [[Cell("no model is installed here yet", _ODD)]]
    cells = {c.heading: [c.cell(name, model) for name, model in sorted(models.items())] for c in COLUMNS}
    widths = {
        heading: max(len(heading), *(len(cell.text) for cell in found)) for heading, found in cells.items()
    }
    shown = list(COLUMNS)
    while sum(widths[column.heading] + 2 for column in shown) - 2 > width and len(shown) > 1:
        shown.remove(min(shown, key=lambda column: column.keep))

    def row(found: Sequence[Cell]) -> list[Cell]:
        return [
            Cell(
                cell.text.rjust(widths[column.heading])
                if column.right
                else cell.text.ljust(widths[column.heading]),
                cell.colour,
            )
            for column, cell in zip(shown, found, strict=True)
        ]

    rows = [[cells[column.heading][index] for column in shown] for index in range(len(models))]
    return [row([Cell(column.heading, _DIM) for column in shown]), *map(row, rows)]


def _remarks(document: Mapping[str, Any], width: int) -> list[list[Cell]]:
    """What a person has to know that is no figure: why a model does not run as assigned, what to do."""
    told = []
    for name, model in sorted(document["models"].items()):
        if model.get("reason"):
            told.append(f"{name}: {model['reason']}")
        live = model["live"] or {}
        if live.get("codes"):
            told.append(f"{name}: sessions say {', '.join(live['codes'])}")
        if live.get("crashed"):
            told.append(
                f"{name}: {_counted(live['crashed'], 'session')} ended in a crash since the agent started"
            )
    if document["next"]:
        told.append(f"next: {document['next']}")
    lines = [
        line
        for entry in told
        for line in textwrap.wrap(entry, width, subsequent_indent="  ", break_long_words=True)
    ]
    return [[], *([Cell(line, _ODD)] for line in lines)] if lines else []


def _line(cells: Sequence[Cell], width: int, colours: bool) -> str:
    """Return one line that fits: text is cut, what makes its colour is not counted."""
    made, left = [], width
    for index, cell in enumerate(cells):
        text = ("  " if index else "") + cell.text
        if len(text) > left:
            text = text[: max(0, left - 1)] + "…" if left else ""
        left -= len(text)
        made.append(f"\x1b[{cell.colour}m{text}\x1b[0m" if colours and cell.colour and text.strip() else text)
    return "".join(made) if colours else "".join(made).rstrip()


def span(seconds: float) -> str:
    """Return a length of time in its two largest units at most.

    >>> span(0.4), span(59.6), span(750), span(9000), span(200_000)
    ('0 s', '60 s', '12 min', '2 h 30 min', '2 d 7 h')
    """
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours < 2:
        return f"{minutes} min"
    if days < 2:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def size(count: float) -> str:
    """Return bytes in the unit that people read.

    >>> size(812), size(431_000_000), size(7_900_000_000)
    ('812 B', '411 MiB', '7.4 GiB')
    """
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _ago(moment: str, now: datetime) -> str:
    seconds = (now - from_text(moment)).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 0 else moment
