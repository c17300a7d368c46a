"""What waits to be told, what was lost, and when it was last delivered; and sending it now.

$ edgewright-agent telemetry
endpoint   https://otel.example
spool      4.0 MiB, 251 segments
delivered  2030-01-01T00:15:09Z; next try 2030-01-01T01:15:31Z

PRIORITY       WAITING  SEGMENTS  DELIVERED  DROPPED  REJECTED  CURSOR
update-status        0         0         12        0         0  1893456909000
error                0         0          3        0         0  1893456509000
aggregate            3         1        841        0         0  1893454200000
sample               0         0          0        0         0  0
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from edgewright_agent.config import load

_HEADINGS = ("PRIORITY", "WAITING", "SEGMENTS", "DELIVERED", "DROPPED", "REJECTED", "CURSOR")


def add(verb: Any) -> None:
    """Describe the verb."""
    added: argparse.ArgumentParser = verb("telemetry", "show what waits to be told and how delivery goes")
    added.add_argument("--json", action="store_true", help="as JSON")
    added.add_argument("--send", action="store_true", help="send it now, metered link or not")
    added.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show the spool, after a round of delivery if that was asked for."""
    from edgewright_agent.telemetry import spool_of

    config = load(options.config)
    code = 0
    sent: Mapping[str, Any] | None = None
    if options.send:
        from edgewright_agent.owner import become_owner
        from edgewright_agent.telemetry_delivery import send

        become_owner(config.state)
        delivery = send(config, metered=False)
        sent, code = delivery.document(), delivery.exit_code
        if code:
            print(f"edgewright-agent: {delivery.outcome}: {delivery.message}", file=sys.stderr)
    told = {
        "endpoint": config.telemetry.endpoint,
        "kept": config.telemetry.kept,
        **spool_of(config).look().document(),
        **({"sent": sent} if sent else {}),
    }
    print(json.dumps(told, indent=2) if options.json else in_words(told))
    return code


def in_words(told: Mapping[str, Any]) -> str:
    """Return what `--json` tells, for a terminal."""
    if not told["kept"]:
        return 'nothing is recorded; next: add "telemetry": {"endpoint": "https://…"} to the configuration'
    if told["bytes"]:
        spool = f"{told['bytes'] / 2**20:.1f} MiB, {told['segments']} segments"
    else:
        spool = "empty: nothing was recorded yet"
    if told["thinned"]:
        spool += f"; {told['thinned']} aggregates merged into others to make room"
    lines = [
        f"endpoint   {told['endpoint'] or 'none: what is recorded stays here'}",
        f"spool      {spool}",
        f"delivered  {_delivery(told['delivery'])}",
    ]
    if told.get("sent"):
        lines.append(f"sent       {told['sent']['message']}")
    rows = [_HEADINGS, *(_row(name, fill) for name, fill in told["classes"].items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    table = [
        "  ".join(
            cell.rjust(width) if 0 < column < len(row) - 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", *table])


def _row(name: str, fill: Mapping[str, Any]) -> tuple[str, ...]:
    keys = ("waiting", "segments", "delivered", "dropped", "rejected", "cursor")
    return (name, *(str(fill[key]) for key in keys))


def _delivery(told: Mapping[str, Any]) -> str:
    if not told["triedAt"]:
        return "never tried"
    words = told["succeededAt"] or "never"
    if told["outcome"] != "ok":
        words += f"; since {told['failures']} tries {told['outcome']}: {told['message']}"
    return words + (f"; next try {told['nextAt']}" if told["nextAt"] else "")
