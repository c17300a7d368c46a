"""Releases: what devices see, what gets a new version, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tuf.api.exceptions import ExpiredMetadataError

from edgewright.errors import BuildError, GateError, TrustError
from edgewright.trust.assignment import PublishedLane
from edgewright_agent.contract import artifact_target, canonical_json
from edgewright_agent.trust.assignment import parse_assignment
from unit.trust.fleet import DAY, Device, SmallFleet

PI = "raspberry-pi-4"
CART = "medical-cart-cpu"


@pytest.fixture
def fleet(tmp_path: Path) -> SmallFleet:
    fleet = SmallFleet(tmp_path / "fleet")
    fleet.publish_all("1.0.0")
    return fleet


@pytest.fixture
def device(fleet: SmallFleet, tmp_path: Path) -> Device:
    fleet.release()
    return Device(fleet, tmp_path / "device")


def digest_for(device: Device, hardware_class: str, group: int = 0) -> str:
    models = device.assignment()["groups"][group]["models"]
    return str(models["digit-reader"]["artifacts"][hardware_class]["digest"])


def test_the_tuf_client_verifies_a_first_release(fleet: SmallFleet, device: Device) -> None:
    assignment = device.assignment()
    assert assignment["release"] == "r1"
    assert digest_for(device, PI) == fleet.lanes["digit-reader"][PI].digest


def test_a_targets_bytes_are_the_oci_manifest(fleet: SmallFleet, device: Device) -> None:
    lane = fleet.lanes["digit-reader"][PI]
    target = device.artifact(artifact_target("digit-reader", PI, lane.digest))
    body = fleet.open("digit-reader").get_manifest(lane.digest)
    assert target is not None and body is not None
    target.verify_length_and_hashes(body)
    assert target.custom == {
        "model": "digit-reader", "hardwareClass": PI, "modelVersion": "1.0.0", "build": 1, "sequence": 1,
        "runtime": {"engine": "onnxruntime", "version": ">=1.20,<2"}, "minAgent": "0.1.0",
    }  # fmt: skip


def test_an_artifact_nobody_signed_is_not_a_target(device: Device) -> None:
    assert device.artifact(artifact_target("digit-reader", PI, "sha256:" + "0" * 64)) is None


def test_devices_get_the_policies_of_their_hardware_sheet(device: Device) -> None:
    artifact = device.assignment()["groups"][0]["models"]["digit-reader"]["artifacts"][PI]
    assert artifact["rollbackPolicy"] == {"attempts": 3, "healthTimeoutS": 60}
    assert artifact["updatePolicy"]["poll"] == {"intervalS": 900, "jitter": 0.2, "maxBackoffS": 21600}


def test_a_new_build_is_followed_and_bumps_only_what_changed(fleet: SmallFleet, device: Device) -> None:
    fleet.publish("digit-reader", PI, "1.1.0")
    outcome = fleet.release()
    assert outcome.versions == {
        "root": 1, "targets": 1, f"class-{CART}": 1, f"class-{PI}": 2, "rollout": 2, "snapshot": 2, "timestamp": 2,
    }  # fmt: skip
    assert [
        (change.hardware_class, change.old_version, change.new_version) for change in outcome.changes
    ] == [(PI, "1.0.0", "1.1.0")]
    assert digest_for(device, PI) == fleet.lanes["digit-reader"][PI].digest


def test_nothing_changed_signs_nothing_and_pushes_nothing(fleet: SmallFleet) -> None:
    first = fleet.release()
    second = fleet.release()
    assert (second.written, second.pushed, second.changes) == ((), (), ())
    assert second.versions == first.versions


def test_refresh_signs_rollout_snapshot_and_timestamp_again(fleet: SmallFleet) -> None:
    fleet.release()
    outcome = fleet.release(refresh=True)
    assert outcome.versions == {
        "root": 1, "targets": 1, f"class-{CART}": 1, f"class-{PI}": 1, "rollout": 2, "snapshot": 2, "timestamp": 2,
    }  # fmt: skip
    assert outcome.release == "r1"


def test_timestamp_is_renewed_when_half_of_its_life_is_over(fleet: SmallFleet) -> None:
    fleet.release()
    fleet.now += 3 * DAY
    assert fleet.release().written == ()
    fleet.now += DAY
    assert fleet.release().written == ("timestamp.json",)


def test_rollout_and_snapshot_are_renewed_before_they_expire(fleet: SmallFleet, device: Device) -> None:
    fleet.now += 8 * DAY
    with pytest.raises(ExpiredMetadataError):
        device.assignment()
    outcome = fleet.release()
    assert outcome.written == ("2.rollout.json", "2.snapshot.json", "timestamp.json")
    assert device.assignment()["release"] == "r1"


def test_root_is_renewed_with_its_key_and_devices_follow(fleet: SmallFleet, device: Device) -> None:
    fleet.now += 200 * DAY
    outcome = fleet.release()
    assert outcome.versions["root"] == 2
    assert "2.root.json" in outcome.written and outcome.notes == ()
    device.assignment()
    assert "2.root.json" in device.fetched


def test_an_offline_root_key_is_asked_for_in_time(fleet: SmallFleet) -> None:
    fleet.release()
    (fleet.root / ".edgewright/keys/root.key").unlink()
    fleet.now += 200 * DAY
    outcome = fleet.release()
    assert outcome.versions["root"] == 1
    assert "edgewright trust renew root" in outcome.notes[0]


def test_a_blocked_class_keeps_what_it_has_and_is_named(fleet: SmallFleet, device: Device) -> None:
    old = fleet.lanes["digit-reader"].pop(PI).digest
    fleet.publish("digit-reader", CART, "1.1.0")
    outcome = fleet.release()
    assert [(fact.hardware_class, fact.digest) for fact in outcome.held_back] == [(PI, old)]
    assert digest_for(device, PI) == old
    assert digest_for(device, CART) == fleet.lanes["digit-reader"][CART].digest


def test_a_class_that_never_passed_gets_nothing_and_is_named(fleet: SmallFleet) -> None:
    fleet.lanes["digit-reader"].pop(PI)
    outcome = fleet.release()
    assert [(fact.hardware_class, fact.digest) for fact in outcome.held_back] == [(PI, None)]


def test_a_pinned_group_stays_on_its_version(fleet: SmallFleet, device: Device) -> None:
    fleet.groups = (
        {
            "name": "clinic",
            "selector": {"matchLabels": {"site": "clinic"}},
            "models": ({"model": "digit-reader", "pin": "1.0.0"},),
        },
        *fleet.groups,
    )
    old = fleet.lanes["digit-reader"][PI].digest
    fleet.publish_all("2.0.0")
    fleet.release()
    assert digest_for(device, PI, group=0) == old
    assert digest_for(device, PI, group=1) == fleet.lanes["digit-reader"][PI].digest


def test_a_pin_takes_the_newest_build_of_its_version(fleet: SmallFleet, device: Device) -> None:
    rebuilt = fleet.publish("digit-reader", PI, "1.0.0", b"another build")
    fleet.release()
    fleet.publish_all("2.0.0")
    fleet.groups = ({"name": "all", "models": ({"model": "digit-reader", "pin": "1.0.0"},)},)
    fleet.release()
    assert digest_for(device, PI) == rebuilt


def test_a_pin_on_a_version_never_released_is_refused(fleet: SmallFleet) -> None:
    fleet.groups = ({"name": "all", "models": ({"model": "digit-reader", "pin": "9.0.0"},)},)
    with pytest.raises(GateError, match=r"pins digit-reader to 9\.0\.0") as caught:
        fleet.release()
    assert "1.0.0" in str(caught.value.hint)
    assert not (fleet.metadata / "timestamp.json").exists()


def test_a_pin_on_a_version_that_only_a_former_class_has_says_so(fleet: SmallFleet) -> None:
    fleet.publish("digit-reader", CART, "1.5.0")
    fleet.release()
    fleet.classes = (PI,)
    del fleet.lanes["digit-reader"][CART]
    fleet.groups = ({"name": "all", "models": ({"model": "digit-reader", "pin": "1.5.0"},)},)
    with pytest.raises(GateError, match=f"which was released for {CART} and not for {PI}$") as caught:
        fleet.release()
    assert caught.value.hint == f"released for {PI}: 1.0.0"


def test_taking_a_change_back_is_a_new_step_forward(fleet: SmallFleet, device: Device) -> None:
    old = fleet.lanes["digit-reader"][PI]
    fleet.publish("digit-reader", PI, "1.0.0", b"worse")
    fleet.release()
    fleet.lanes["digit-reader"][PI] = old
    outcome = fleet.release()
    assert outcome.sequence == 3
    assert digest_for(device, PI) == old.digest
    target = device.artifact(artifact_target("digit-reader", PI, old.digest))
    assert target is not None and target.custom is not None and target.custom["sequence"] == 3


def test_old_builds_leave_the_metadata_but_assigned_ones_stay(fleet: SmallFleet, device: Device) -> None:
    first = fleet.lanes["digit-reader"][PI].digest
    for build in range(5):
        fleet.publish("digit-reader", PI, "1.0.0", f"build {build}".encode())
        fleet.release()
    assert device.artifact(artifact_target("digit-reader", PI, first)) is None
    assert device.artifact(artifact_target("digit-reader", PI, fleet.lanes["digit-reader"][PI].digest))


def test_an_artifact_missing_from_the_registry_is_not_promised(fleet: SmallFleet) -> None:
    fleet.lanes["digit-reader"][PI] = PublishedLane("sha256:" + "a" * 64, 500, "1.0.0", "digit-reader")
    with pytest.raises(BuildError, match="not in the registry"):
        fleet.release()
    assert not (fleet.metadata / "timestamp.json").exists()


def test_before_anything_is_published_there_is_nothing_to_release(fleet: SmallFleet) -> None:
    fleet.lanes.clear()
    with pytest.raises(GateError, match="nothing is published yet"):
        fleet.release()


def test_a_changed_group_is_a_new_release_even_if_no_artifact_moves(fleet: SmallFleet) -> None:
    fleet.release()
    fleet.groups = ({**fleet.groups[0], "selector": {"matchLabels": {"site": "lab"}}},)
    outcome = fleet.release()
    assert (outcome.release, outcome.is_new, outcome.changes) == ("r2", True, ())


def test_devices_accept_an_assignment_in_which_a_model_has_no_artifact_yet(
    fleet: SmallFleet, tmp_path: Path
) -> None:
    fleet.models = ("digit-reader", "vibration-monitor")
    fleet.groups = ({"name": "all", "models": ({"model": "digit-reader"}, {"model": "vibration-monitor"})},)
    fleet.release()
    document = Device(fleet, tmp_path / "device").assignment()
    assert parse_assignment(canonical_json(document))["groups"][0]["models"]["vibration-monitor"] == {
        "repository": "vibration-monitor", "modelVersion": "1.0.0", "artifacts": {},
    }  # fmt: skip


def test_an_artifact_of_another_class_is_not_promised(fleet: SmallFleet) -> None:
    fleet.lanes["digit-reader"][PI] = fleet.lanes["digit-reader"][CART]
    with pytest.raises(BuildError, match=CART):
        fleet.release()


def test_lost_metadata_does_not_restart_at_version_one(fleet: SmallFleet) -> None:
    fleet.release()
    fleet.metadata.rename(fleet.root / "elsewhere")
    with pytest.raises(TrustError, match="starting again at version 1"):
        fleet.release()


def test_a_registry_that_is_ahead_is_not_overwritten(fleet: SmallFleet, tmp_path: Path) -> None:
    import shutil

    fleet.release()
    shutil.copytree(fleet.metadata, tmp_path / "old")
    fleet.publish("digit-reader", PI, "1.1.0")
    fleet.release()
    shutil.rmtree(fleet.metadata)
    shutil.copytree(tmp_path / "old", fleet.metadata)
    with pytest.raises(TrustError, match="released from another copy"):
        fleet.release()


def test_an_interrupted_push_is_completed_by_the_next_release(
    fleet: SmallFleet, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgewright.errors import NetworkError
    from edgewright.publish.layout_registry import LayoutRegistry

    fleet.publish("digit-reader", PI, "1.1.0")
    whole = LayoutRegistry.put_manifest

    def breaks(self: LayoutRegistry, reference: str, body: bytes, media_type: str) -> bool:
        if reference == "2.snapshot.json":
            raise NetworkError("the connection broke")
        return whole(self, reference, body, media_type)

    with monkeypatch.context() as patch:
        patch.setattr(LayoutRegistry, "put_manifest", breaks)
        with pytest.raises(NetworkError):
            fleet.release()
    assert device.assignment()["release"] == "r1"
    outcome = fleet.release()
    assert outcome.written == ()
    assert outcome.pushed == ("2.snapshot.json", "timestamp.json")
    assert device.assignment()["release"] == "r2"


def test_a_key_the_metadata_does_not_name_cannot_sign(fleet: SmallFleet) -> None:
    fleet.release()
    keys = fleet.root / ".edgewright/keys"
    (keys / "timestamp.key").write_bytes((keys / "snapshot.key").read_bytes())
    with pytest.raises(TrustError, match=r"timestamp\.key is not the one"):
        fleet.release(refresh=True)


def test_without_the_timestamps_key_nothing_is_written_at_all(fleet: SmallFleet) -> None:
    fleet.release()
    (fleet.root / ".edgewright/keys/timestamp.key").unlink()
    before = sorted(path for path in fleet.metadata.rglob("*"))
    fleet.publish("digit-reader", PI, "1.1.0")
    with pytest.raises(TrustError, match=r"timestamp cannot be signed here: timestamp\.key is not in keys"):
        fleet.release()
    assert sorted(path for path in fleet.metadata.rglob("*")) == before


def test_a_missing_role_key_is_named_and_nothing_is_published(fleet: SmallFleet) -> None:
    fleet.release()
    (fleet.root / ".edgewright/keys/rollout.key").unlink()
    before = sorted(path.name for path in fleet.metadata.glob("*.json"))
    fleet.publish("digit-reader", PI, "1.1.0")
    with pytest.raises(
        TrustError, match=r"rollout 2 needs 1 more signature of rollout \(rollout\.key is not in"
    ):
        fleet.release()
    assert sorted(path.name for path in fleet.metadata.glob("*.json")) == before


def test_edited_metadata_is_noticed(fleet: SmallFleet) -> None:
    fleet.release()
    path = fleet.metadata / "1.targets.json"
    document = json.loads(path.read_bytes())
    document["signed"]["expires"] = "2030-01-01T00:00:00Z"
    path.write_text(json.dumps(document))
    with pytest.raises(TrustError, match="damaged"):
        fleet.release()


def test_the_same_specs_keys_and_clock_give_the_same_metadata(fleet: SmallFleet, tmp_path: Path) -> None:
    import shutil

    twin = SmallFleet.__new__(SmallFleet)
    twin.__dict__.update(fleet.__dict__)
    twin.root = tmp_path / "twin"
    shutil.copytree(fleet.root, twin.root)
    fleet.release()
    twin.release()
    names = sorted(path.name for path in fleet.metadata.glob("*.json"))
    assert names and all(
        (fleet.metadata / name).read_bytes() == (twin.metadata / name).read_bytes() for name in names
    )


def test_two_fleets_do_not_mix_in_one_registry(fleet: SmallFleet, tmp_path: Path) -> None:
    fleet.release()
    other = SmallFleet(tmp_path / "other", url=f"oci:{fleet.root / 'registry'}")
    with pytest.raises(TrustError, match="starting again"):
        other.release()
