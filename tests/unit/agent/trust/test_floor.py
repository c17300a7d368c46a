"""What a device must not fall below, and what a root may release it from."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright_agent.clock import to_text
from edgewright_agent.floor import Floor, keys_of, rotated
from unit.agent.trust.tuf_fleet import NOW

ROLES = ("root", "timestamp", "snapshot", "targets", "rollout", "class-raspberry-pi-4")
OLD, NEW = keys_of(["a"], 1), keys_of(["b"], 1)
FLOOR = Floor(dict.fromkeys(ROLES, 9), {"timestamp": OLD, "snapshot": OLD}, to_text(NOW))
versions = st.dictionaries(st.sampled_from(ROLES), st.integers(1, 99))


@given(start=versions, seen=versions)
def test_a_floor_only_rises(start: dict[str, int], seen: dict[str, int]) -> None:
    raised = Floor(start).raised(seen).versions
    assert raised == {role: max(start.get(role, 0), seen.get(role, 0)) for role in {*start, *seen}}


@given(start=versions, root=st.integers(1, 99), keys=st.sampled_from([OLD, NEW]))
def test_nothing_lowers_the_floor_of_root(start: dict[str, int], root: int, keys: str) -> None:
    floor = Floor(start, {"timestamp": OLD, "snapshot": OLD})
    released = floor.released(root=root, keys={"timestamp": keys, "snapshot": keys})
    assert released.versions.get("root") == start.get("root")


@pytest.mark.parametrize(
    ("timestamp", "snapshot", "kept", "clock"),
    [
        (OLD, OLD, set(ROLES), True),
        (NEW, OLD, set(ROLES) - {"timestamp", "snapshot"}, False),
        (OLD, NEW, {"root"}, True),
        (NEW, NEW, {"root"}, False),
    ],
)
def test_other_keys_in_a_higher_root_release_what_the_old_ones_could_set(
    timestamp: str, snapshot: str, kept: set[str], clock: bool
) -> None:
    keys = {"timestamp": timestamp, "snapshot": snapshot}
    released = FLOOR.released(root=10, keys=keys)
    assert (set(released.versions), released.clock is not None) == (kept, clock)
    assert FLOOR.released(root=9, keys=keys) == FLOOR, "a root that is not higher releases nothing"
    assert FLOOR.released(root=8, keys=keys) == FLOOR


def test_a_key_that_is_only_added_releases_nothing_and_one_that_is_taken_away_does() -> None:
    both = keys_of(["a", "b"], 1)
    assert not rotated(OLD, both)
    assert rotated(both, OLD)
    assert rotated(OLD, NEW)
    assert not rotated(None, NEW), "who set the floor is not known: it stays"


def test_a_higher_threshold_releases_and_a_lower_one_does_not() -> None:
    one, two = keys_of(["a", "b"], 1), keys_of(["b", "a"], 2)
    assert rotated(one, two)
    assert not rotated(two, one)


def test_the_clock_floor_holds_up_a_clock_that_is_behind_and_never_holds_one_back() -> None:
    assert FLOOR.time(NOW - timedelta(days=9000)) == NOW
    assert FLOOR.time(NOW + timedelta(days=1)) == NOW + timedelta(days=1)
    assert FLOOR.raised({}, clock=NOW - timedelta(days=1)).clock == to_text(NOW)
    assert FLOOR.raised({}, clock=NOW + timedelta(days=1)).clock == to_text(NOW + timedelta(days=1))
