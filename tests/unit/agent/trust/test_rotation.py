"""Stolen keys, fast-forward and recovery: a thief's numbers end with his key, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from edgewright_agent.errors import TransportError
from edgewright_agent.trust.tuf_client import MAX_ROOT_ROTATIONS
from unit.agent.trust.tuf_device import Device, freeze
from unit.agent.trust.tuf_fleet import NOW, PI, PI_ROLE, TufFleet, assignment

FAR = 2**31


@pytest.fixture(params=["with its cache", "with its cache lost"])
def forget(request: pytest.FixtureRequest, device: Device) -> object:
    """What a device does before each refresh: nothing, or losing its cache."""
    return (lambda: None) if request.param == "with its cache" else device.lose_cache


def forwarded(fleet: TufFleet, *roles: str) -> dict[str, int]:
    """A thief of online keys publishes versions that nothing will ever reach; returns the honest ones."""
    honest = {role: fleet.role(role).version for role in roles}
    for role in roles:
        fleet.role(role).version = FAR
    fleet.publish()
    return honest


def put_right(fleet: TufFleet, honest: dict[str, int]) -> None:
    for role, version in honest.items():
        fleet.role(role).version = version + 1
    fleet.publish()


def test_without_a_rotation_the_version_of_a_thief_stays(device: Device, fleet: TufFleet) -> None:
    device.refresh()
    honest = forwarded(fleet, "timestamp")
    assert device.refresh().versions["timestamp"] == FAR
    device.lose_cache()
    put_right(fleet, honest)
    device.refuses("metadata-rollback")


def test_a_fast_forwarded_timestamp_recovers_with_a_new_timestamp_key(
    device: Device, fleet: TufFleet, forget: object
) -> None:
    device.refresh()
    honest = forwarded(fleet, "timestamp")
    device.refresh()
    fleet.rotate_root("timestamp")
    put_right(fleet, honest)
    assert callable(forget)
    forget()
    desired = device.refresh()
    assert (desired.versions["timestamp"], desired.floor.versions["timestamp"]) == (2, 2)
    device.lose_cache()
    assert device.refresh().floor.versions["timestamp"] == 2


def test_everything_that_snapshots_list_recovers_with_a_new_snapshot_key(
    device: Device, fleet: TufFleet, forget: object
) -> None:
    device.refresh()
    honest = forwarded(fleet, "timestamp", "snapshot", "rollout", PI_ROLE)
    device.refresh()
    fleet.rotate_root("timestamp", "snapshot")
    fleet.rotate_delegated("rollout")
    fleet.rotate_delegated(PI_ROLE)
    put_right(fleet, honest)
    assert callable(forget)
    forget()
    floor = device.refresh().floor.versions
    assert floor == {"root": 2, "targets": 3, "timestamp": 2, "snapshot": 2, "rollout": 2, PI_ROLE: 2}


def test_a_new_timestamp_key_does_not_release_what_snapshots_list(
    device: Device, fleet: TufFleet, tmp_path: Path
) -> None:
    device.refresh()
    fleet.bump("targets", "rollout", "snapshot", "timestamp")
    fleet.publish()
    device.refresh()
    for role in ("targets", "rollout", "snapshot", "timestamp"):
        fleet.role(role).version = 1
    fleet.rotate_root("timestamp")
    fleet.publish()
    device.lose_cache()
    refusal = str(device.refuses("metadata-rollback"))
    assert refusal.startswith(("targets metadata", "rollout metadata")), refusal


def test_the_holder_of_online_keys_cannot_lower_a_floor(
    device: Device, fleet: TufFleet, tmp_path: Path
) -> None:
    """A root that only the thief has signed never counts, whatever keys it gives."""
    old = freeze(fleet, tmp_path / "old")
    fleet.release(assignment(2))
    device.refresh()
    device.lose_cache()
    honest = fleet.signers["root"]
    fleet.signers["root"] = CryptoSigner.generate_ed25519()
    fleet.rotate_root("timestamp", "snapshot")
    device.refuses("bad-signature")
    fleet.signers["root"] = honest
    device.source = old
    device.refuses("metadata-rollback")


def test_a_root_below_the_one_seen_is_never_accepted_again(
    device: Device, fleet: TufFleet, tmp_path: Path
) -> None:
    old = freeze(fleet, tmp_path / "old")
    fleet.rotate_root("timestamp", "snapshot")
    fleet.publish()
    device.refresh()
    for lose in (False, True):
        device.source = old
        if lose:
            device.lose_cache()
            assert "root metadata has version 1" in str(device.refuses("metadata-rollback"))
        else:
            device.refuses("bad-signature")


def test_the_old_timestamp_key_is_out_even_for_metadata_from_before_the_rotation(
    device: Device, fleet: TufFleet, tmp_path: Path
) -> None:
    before = fleet.read("timestamp.json")
    device.refresh()
    fleet.rotate_root("timestamp")
    fleet.bump("timestamp")
    fleet.publish()
    device.refresh()
    fleet.write("timestamp.json", before)
    device.lose_cache()
    device.refuses("bad-signature")


def test_a_time_that_a_stolen_timestamp_key_has_signed_ends_with_that_key(
    device: Device, fleet: TufFleet
) -> None:
    device.refresh()
    fleet.timestamp.expires = NOW + timedelta(days=20_000)
    fleet.issued(NOW + timedelta(days=19_000))
    fleet.bump("timestamp")
    fleet.publish()
    device.refuses("expired-metadata")  # by that time all else has ended: it does not become a floor
    assert device.floor.clock is None
    fleet.rotate_root("timestamp")
    fleet.timestamp.expires = NOW + timedelta(days=1)
    fleet.issued(NOW)
    fleet.bump("timestamp")
    fleet.publish()
    assert device.refresh().floor.clock == "2030-01-01T00:00:00Z"


def test_a_clock_floor_in_the_future_falls_with_the_timestamp_key(device: Device, fleet: TufFleet) -> None:
    for role in ("root", "targets", "snapshot", "rollout", PI_ROLE, "timestamp"):
        fleet.role(role).expires = NOW + timedelta(days=1000)
    fleet.root_bytes = device.root = fleet.signed(fleet.root, ["root"])
    fleet.issued(NOW + timedelta(days=900))
    fleet.publish()
    assert device.refresh().floor.clock == "2032-06-19T00:00:00Z"
    for role in ("root", "targets", "snapshot", "rollout", PI_ROLE, "timestamp"):
        fleet.role(role).expires = NOW + timedelta(days=300)
    fleet.rotate_root("timestamp")
    fleet.bump("targets", "snapshot", "rollout", PI_ROLE, "timestamp")
    fleet.issued(NOW)
    fleet.publish()
    assert device.refresh().floor.clock == "2030-01-01T00:00:00Z"


# --- thresholds and chains ----------------------------------------------------------------


def test_a_threshold_of_two_needs_two_different_keys(device: Device, fleet: TufFleet) -> None:
    second = CryptoSigner.generate_ed25519()
    fleet.signers["second"] = second
    fleet.root.add_key(second.public_key, "root")
    fleet.root.roles["root"].threshold = 2
    fleet.next_root()
    device.refuses("bad-signature")
    fleet.root.version = 1
    fleet.next_root(second)
    assert device.refresh().versions["root"] == 2


def test_a_chain_of_more_roots_than_one_refresh_takes_is_followed_over_several(
    device: Device, fleet: TufFleet
) -> None:
    for _ in range(MAX_ROOT_ROTATIONS + 3):
        fleet.next_root()
    assert device.refresh().versions["root"] == MAX_ROOT_ROTATIONS + 1
    assert device.refresh().versions["root"] == MAX_ROOT_ROTATIONS + 4
    fleet.rotate_root("timestamp")
    fleet.bump("timestamp")
    fleet.publish()
    assert device.refresh().versions["root"] == MAX_ROOT_ROTATIONS + 5


def test_a_chain_that_is_cut_short_leaves_the_device_where_it_was(device: Device, fleet: TufFleet) -> None:
    device.refresh()
    fleet.root.version += 1  # 3.root.json without 2.root.json
    fleet.rotate_root("timestamp")
    fleet.bump("timestamp")
    fleet.publish()
    device.refuses("bad-signature")


# --- a release that arrives in pieces -----------------------------------------------------


@pytest.mark.parametrize("missing", ["2.snapshot.json", f"2.{PI_ROLE}.json", "2.rollout.json"])
def test_a_timestamp_that_comes_before_the_rest_is_refused_and_the_next_poll_succeeds(
    device: Device, fleet: TufFleet, missing: str
) -> None:
    device.refresh()
    before = device.floor
    digest = fleet.approve("digit-reader", PI, b"manifest")
    fleet.bump(PI_ROLE)
    fleet.release(assignment(2, digest=digest, size=8))
    index = fleet.shelf.index("tuf")
    whole = list(index["manifests"])
    index["manifests"] = [entry for entry in whole if missing not in str(entry)]
    fleet.shelf.write_index("tuf", index)
    for _ in range(2):
        with pytest.raises(TransportError) as caught:
            device.refresh()
        assert (caught.value.code, device.floor) == ("not-found", before)
    fleet.shelf.write_index("tuf", {**index, "manifests": whole})
    desired = device.refresh()
    assert desired.assignment["sequence"] == 2
    assert desired.require_artifact("digit-reader", PI, digest).length == 8


# --- the cache ----------------------------------------------------------------------------


def test_a_refused_state_leaves_the_cache_as_it_was_and_costs_no_root_of_a_long_chain(
    device: Device, fleet: TufFleet
) -> None:
    """Anybody can have a state refused. Without its roots a device could not follow so long a chain at once."""
    for _ in range(MAX_ROOT_ROTATIONS + 3):
        fleet.next_root()
    for _ in range(2):
        device.refresh()
    good, cached = fleet.read("timestamp.json"), contents(device.cache)
    fleet.write("timestamp.json", fleet.signed(fleet.timestamp, ["snapshot"]))
    device.refuses("bad-signature")
    assert contents(device.cache) == cached
    fleet.write("timestamp.json", good)
    assert device.refresh().versions["root"] == MAX_ROOT_ROTATIONS + 4


def test_a_state_that_was_cached_and_never_accepted_hides_no_true_one(
    device: Device, fleet: TufFleet
) -> None:
    """Another fleet's of the same root, or one before a power cut: the cache was ahead of the record."""
    device.refresh()
    accepted = device.floor
    for role in ("timestamp", "snapshot", "targets", "rollout"):
        fleet.role(role).version = 900
    fleet.publish()
    device.refresh()
    device.floor = accepted
    for role in ("timestamp", "snapshot", "targets", "rollout"):
        fleet.role(role).version = 2
    fleet.publish()
    assert device.refresh().versions["timestamp"] == 2


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
