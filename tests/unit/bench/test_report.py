from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.bench.report import HEADINGS, Check, Direction, GateReport, table
from edgewright.errors import BuildError

DIGEST = "sha256:" + "a" * 64


def check(measured: float | None, limit: float, direction: Direction = "max", unit: str = "ms") -> Check:
    return Check("latency-p95", measured, limit, unit, direction, "hardware/x.yaml#limits.latency.p95")


def report(*checks: Check, **figures: Any) -> GateReport:
    return GateReport("m", "some-class", "1.0.0", DIGEST, "none, this host", checks, figures)


@pytest.mark.parametrize(
    ("measured", "limit", "direction", "verdict"),
    [
        (20.0, 20.0, "max", "pass"),
        (math.nextafter(20.0, 21), 20.0, "max", "fail"),
        (0.95, 0.95, "min", "pass"),
        (math.nextafter(0.95, 0), 0.95, "min", "fail"),
        (0.0, 0.0, "max", "pass"),
        (-0.01, 0.0, "max", "pass"),
        (1.0, 1.0, "min", "pass"),
    ],
)
def test_exactly_at_the_limit_passes_and_the_next_number_fails(
    measured: float, limit: float, direction: Direction, verdict: str
) -> None:
    assert check(measured, limit, direction).verdict == verdict


@pytest.mark.parametrize("measured", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("direction", ["max", "min"])
def test_a_figure_that_is_missing_or_not_finite_fails(measured: float | None, direction: Direction) -> None:
    blind = check(measured, 0.5, direction)
    assert (blind.verdict, blind.headroom) == ("fail", None)
    document = json.loads(report(blind).to_json())
    assert document["checks"][0]["measured"] is None
    assert document["verdict"] == "fail"


def test_a_report_without_checks_is_no_pass() -> None:
    assert report().verdict == "fail"


def test_one_failing_check_fails_the_report() -> None:
    assert report(check(1, 2), check(1, 2)).verdict == "pass"
    assert report(check(1, 2), check(3, 2), check(1, 2)).verdict == "fail"


@pytest.mark.parametrize(
    ("made", "headroom"),
    [
        (check(12.0, 20.0), 0.4),
        (check(20.0, 20.0), 0.0),
        (check(30.0, 20.0), -0.5),
        (check(0.98, 0.95, "min", "ratio"), 0.6),
        (check(0.90, 0.95, "min", "ratio"), -1.0),
        (check(-0.01, 0.01, "max", "ratio"), 2.0),
        (check(0.0, 0.0), 0.0),
        (check(0.1, 0.0), -1.0),
        (check(-0.1, 0.0), 1.0),
    ],
)
def test_headroom_is_the_share_of_the_budget_left(made: Check, headroom: float) -> None:
    assert made.headroom == pytest.approx(headroom)


@given(st.floats(-10, 10, allow_nan=False), st.floats(0, 1, allow_nan=False), st.sampled_from(["max", "min"]))
def test_a_failing_check_never_shows_headroom(measured: float, limit: float, direction: Direction) -> None:
    made = check(measured, limit, direction)
    assert made.headroom is not None
    if made.verdict == "fail":
        assert made.headroom <= 0
    else:
        assert made.headroom >= 0


def test_a_report_reads_back_as_it_was_written() -> None:
    original = report(check(1.5, 2), check(None, 2), benchmark={"p95Ms": 1.5})
    again = GateReport.from_json(original.to_json())
    assert again == original
    assert again.to_json() == original.to_json()


def test_figures_that_json_cannot_say_become_null() -> None:
    document = json.loads(report(check(1, 2), evaluation={"value": math.nan, "list": [math.inf]}).to_json())
    assert document["figures"]["evaluation"] == {"value": None, "list": [None]}


@pytest.mark.parametrize("where", ["report", "check"])
def test_a_verdict_that_contradicts_its_figures_is_refused(where: str) -> None:
    document = json.loads(report(check(3, 2)).to_json())
    (document if where == "report" else document["checks"][0])["verdict"] = "pass"
    with pytest.raises(BuildError, match="contradict"):
        GateReport.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"version": 1}'])
def test_what_is_not_a_report_is_refused(data: bytes) -> None:
    with pytest.raises(BuildError, match="not a gate report"):
        GateReport.from_json(data)


def test_a_report_of_another_version_is_refused() -> None:
    document = json.loads(report(check(1, 2)).to_json())
    document["version"] = 2
    with pytest.raises(BuildError, match="version 1"):
        GateReport.from_json(json.dumps(document).encode())


def test_the_table_has_one_row_per_check_under_its_headings() -> None:
    rows = table(report(check(12, 20), check(None, 20)))
    assert all(len(row) == len(HEADINGS) for row in rows)
    assert rows[0][0] == "latency-p95"
    assert rows[0][3:] == ("+40 %", "pass", "hardware/x.yaml#limits.latency.p95", "")
    assert (rows[1][1], rows[1][3], rows[1][4]) == ("not measured", "–", "fail")
