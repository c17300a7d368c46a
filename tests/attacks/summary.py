"""The last lines of a test run that played attacks: how many, how many were refused, how often a model stopped.

    34 attacks, 34 refused, 0 interruptions of the active model

Every attack's test records what the device said; this reads the reports, whichever worker ran the test.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

PROPERTY = "attack"


def summarize(terminal: pytest.TerminalReporter) -> None:
    """Write the table, if any attack was played."""
    played = [
        (report, dict(report.user_properties))
        for outcome in ("passed", "failed")
        for report in terminal.stats.get(outcome, [])
        if isinstance(report, pytest.TestReport) and report.when == "call"
    ]
    rows = [
        (json.loads(str(properties[PROPERTY])), report.passed)
        for report, properties in played
        if PROPERTY in properties
    ]
    if not rows:
        return
    terminal.section("attacks")
    width = max(len(row["name"]) for row, _ in rows)
    for row, passed in sorted(rows, key=lambda entry: str(entry[0]["name"])):
        terminal.line(f"{'refused' if passed else 'FAILED '}  {row['name']:{width}}  {_said(row)}")
    refused = sum(passed for _, passed in rows)
    interruptions = sum(row["interrupted"] for row, _ in rows)
    terminal.line(
        f"{len(rows)} attacks, {refused} refused, {interruptions} interruptions of the active model"
    )


def _said(row: dict[str, Any]) -> str:
    reasons = [code for code in row["codes"] if code not in ("ok", "not-modified")] or row["codes"]
    return f"exit {row['exit']}  {', '.join(dict.fromkeys(reasons))}"
