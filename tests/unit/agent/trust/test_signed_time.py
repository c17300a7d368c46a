"""The clock: what signed metadata proves, what a wrong clock does, and that it ends when the clock is set right."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from edgewright_agent.clock import to_text
from unit.agent.trust.tuf_device import Device, freeze
from unit.agent.trust.tuf_fleet import NOW, SOON, TufFleet, assignment

WITHOUT_A_CLOCK = datetime(1970, 1, 1, 0, 0, 9, tzinfo=timezone.utc)


def sign_at(fleet: TufFleet, moment: datetime) -> None:
    """Publish a timestamp that says when it was signed, and ends a day later."""
    fleet.issued(moment)
    fleet.timestamp.expires = moment + timedelta(days=1)
    fleet.bump("timestamp")
    fleet.publish()


def test_the_floor_is_the_time_of_signing_and_not_the_devices_clock(device: Device, fleet: TufFleet) -> None:
    sign_at(fleet, NOW - timedelta(hours=2))
    assert device.refresh(now=NOW + timedelta(hours=3)).floor.clock == to_text(NOW - timedelta(hours=2))


def test_without_a_time_of_signing_nothing_is_raised(device: Device) -> None:
    assert device.refresh().floor.clock is None


def test_a_clock_set_forward_refuses_and_works_again_when_it_is_set_right(
    device: Device, fleet: TufFleet
) -> None:
    sign_at(fleet, NOW)
    device.refresh()
    before = device.floor
    device.refuses("expired-metadata", now=NOW + timedelta(days=4000))
    assert device.floor == before
    fleet.release(assignment(2))
    assert device.refresh(now=NOW + timedelta(hours=1)).assignment["sequence"] == 2


def test_a_clock_a_little_ahead_at_first_boot_leaves_no_trace(device: Device, fleet: TufFleet) -> None:
    sign_at(fleet, NOW)
    assert device.refresh(now=NOW + timedelta(hours=23)).floor.clock == to_text(NOW)


def test_a_clock_set_back_is_held_up_by_the_floor(device: Device, fleet: TufFleet, tmp_path: Path) -> None:
    stale = freeze(fleet, tmp_path / "stale")
    fleet.timestamp.expires = fleet.snapshot.expires = fleet.targets.expires = NOW + timedelta(days=99)
    for role in fleet.classes.values():
        role.expires = NOW + timedelta(days=99)
    fleet.rollout.expires = NOW + timedelta(days=99)
    fleet.issued(SOON + timedelta(days=1))
    fleet.bump("timestamp", "snapshot", "rollout", "targets", *fleet.classes)
    fleet.publish()
    device.refresh(now=SOON + timedelta(days=1))
    device.source = stale
    device.lose_cache()
    device.refuses("expired-metadata", now=NOW)


def test_a_device_without_a_clock_installs_at_its_first_boot_and_has_the_signed_time_from_then_on(
    device: Device, fleet: TufFleet
) -> None:
    sign_at(fleet, NOW)
    desired = device.refresh(now=WITHOUT_A_CLOCK)
    assert (desired.assignment, desired.floor.clock) == (assignment(), to_text(NOW))
    fleet.release(assignment(2))
    assert device.refresh(now=WITHOUT_A_CLOCK).assignment["sequence"] == 2


@pytest.mark.parametrize("role", ["root", "snapshot", "targets", "rollout"])
def test_a_device_without_a_clock_sees_by_the_signed_time_that_something_has_ended(
    device: Device, fleet: TufFleet, role: str
) -> None:
    fleet.role(role).expires = NOW - timedelta(days=1)
    fleet.root_bytes = device.root = fleet.signed(fleet.root, ["root"])
    sign_at(fleet, NOW)
    assert f"{role} metadata expired" in str(device.refuses("expired-metadata", now=WITHOUT_A_CLOCK))


def test_a_floor_that_a_person_gave_counts_at_the_first_boot_without_a_clock(
    device: Device, fleet: TufFleet
) -> None:
    device.floor = device.floor.raised({}, clock=SOON)
    device.refuses("expired-metadata", now=WITHOUT_A_CLOCK)


@pytest.mark.parametrize(
    "text", ["yesterday", "", "2030-13-01T00:00:00Z", "0001-01-01T00:00:00+23:00", "2030-01-03T00:00:00Z"]
)
def test_a_time_that_makes_no_sense_or_is_after_its_own_expiry_is_refused(
    device: Device, fleet: TufFleet, text: str
) -> None:
    fleet.issued(text)
    fleet.publish()
    device.refuses("bad-metadata")
    assert device.floor.clock is None


def test_the_offset_of_a_signed_time_counts(device: Device, fleet: TufFleet) -> None:
    fleet.issued("2030-01-01T02:00:00+02:00")
    fleet.publish()
    assert device.refresh().floor.clock == to_text(NOW)
