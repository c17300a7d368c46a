"""Counting many nets in one process: whose span is whose, who shares a process, what is kept."""

from __future__ import annotations

import pytest

from edgewright.bench.calibration.batch import NetCounts, by_net, shared_out
from edgewright.bench.calibration.nets import Net
from edgewright.bench.counting.spans import ClassCounts, Span
from edgewright.bench.target.probe import (
    MARK_ENGINE,
    MARK_IMPORTED,
    MARK_INFERENCE,
    MARK_INFERRED,
    MARK_LOADED,
)


def net(name: str, macs: int) -> Net:
    return Net(name, "fp32", b"", (1,), macs)


def span(mark: int | None, instructions: int) -> Span:
    return Span(mark, 1, ClassCounts(instructions, {}))


def test_spans_belong_to_the_net_whose_loading_began_before_them() -> None:
    one = [span(MARK_IMPORTED, 1), span(MARK_LOADED, 10), span(MARK_INFERENCE, 1), span(MARK_INFERRED, 5)]
    two = [span(MARK_IMPORTED, 2), span(MARK_LOADED, 20), span(MARK_INFERENCE, 1), span(MARK_INFERRED, 7)]
    assert by_net(iter([span(MARK_ENGINE, 99), *one, *two])) == [one, two]


def test_processes_get_about_equal_work_and_no_net_is_lost() -> None:
    nets = [net(f"net-{number}", 2**number) for number in range(20)]
    parts = list(shared_out(nets, 8))
    assert sorted(one.name for part in parts for one in part) == sorted(one.name for one in nets)
    assert all(len(part) <= 8 for part in parts)
    assert [part[0].macs for part in parts] == [2**19, 2**18, 2**17]  # the heavy ones are not together
    assert list(shared_out([], 8)) == []


@pytest.mark.parametrize(
    "counted",
    [ClassCounts(30, {"loads": 10, "calls": 20}, 80, 16, 3), ClassCounts(30, {})],
    ids=["kinds", "total"],
)
def test_counts_are_kept_and_found_as_they_were(counted: ClassCounts) -> None:
    counts = NetCounts(1_000_000, counted)
    assert NetCounts.from_json(counts.to_json()) == counts
