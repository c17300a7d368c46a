"""`evidence [MODEL]`: why models failed here.

$ edgewright-agent evidence digit-reader
digit-reader  1.1.0 ab12cd34ef56-1.json  health-crash
  reason   the health check died of SIGSEGV
  at       2030-01-01T00:00:00Z, boot 12, up 86400 s
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewright_agent.evidence import Entry

_FIRST = ("version", "model", "digest", "modelVersion", "code", "reason", "at", "boot", "tries", "stderr")


def add(verb: Any) -> None:
    """Describe the verb."""
    added = verb("evidence", "show why models failed here")
    added.add_argument("model", nargs="?", metavar="MODEL", help="of this model only")
    added.add_argument("--json", action="store_true", help="one JSON object per line")
    added.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from edgewright_agent.config import load
    from edgewright_agent.evidence import Archive
    from edgewright_agent.files import Disk

    entries = Archive(load(options.config).state, Disk()).entries(options.model)
    for entry in entries:
        if options.json:
            told = {**entry.document(), "name": entry.name, "acknowledged": entry.acknowledged}
            print(json.dumps(told, sort_keys=True))
        else:
            print("\n".join(_plain(line) for line in _lines(entry, entry.document())))
    if options.json:
        return 0
    if not entries:
        print("nothing has failed here")
    elif not all(entry.acknowledged for entry in entries):
        print(f"next, when it is noted: edgewright-agent acknowledge {options.model or '--all'}")
    return 0


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _plain(line: str) -> str:
    """Return a line without what would move a cursor, or be taken for a command, on somebody's terminal."""
    return "".join(one if one.isprintable() else "?" for one in line)


def _lines(entry: Entry, told: Mapping[str, Any]) -> Iterator[str]:
    noted = "  (acknowledged)" if entry.acknowledged else ""
    yield f"{entry.model}  {told.get('modelVersion', '?')} {entry.name}  {told.get('code')}{noted}"
    yield f"  {'reason':8} {told.get('reason')}"
    boot = _object(told.get("boot"))
    yield f"  {'at':8} {told.get('at')}, boot {boot.get('number')}, up {boot.get('upS')} s"
    tries = told.get("tries")
    for number, attempt in enumerate(map(_object, tries if isinstance(tries, list) else ()), 1):
        yield f"  {f'try {number}':8} {attempt.get('code')}: {attempt.get('reason')}"
    for name, value in told.items():
        if name not in _FIRST:
            yield f"  {name:8} {_plainly(value)}"
    for line in str(told.get("stderr") or "").splitlines()[-10:]:
        yield f"  | {line}"


def _plainly(value: Any) -> str:
    """Return a value for people: `exit signal SIGSEGV`, `availableBytes 12.5 MiB, totalBytes 512.0 MiB`."""
    if isinstance(value, dict) and not any(isinstance(one, dict | list) for one in value.values()):
        return ", ".join(f"{key} {_figure(key, one)}" for key, one in sorted(value.items()))
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _figure(name: str, value: Any) -> str:
    if name.endswith("Bytes") and isinstance(value, int):
        return f"{value / 2**20:,.1f} MiB"
    return str(value)
