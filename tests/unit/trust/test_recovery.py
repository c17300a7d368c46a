"""After a theft: python-tuf's own client, which has believed the thief, comes back to us and to nobody else."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
from tuf.api.exceptions import BadVersionNumberError, RepositoryError
from tuf.api.metadata import Metadata

from edgewright.errors import NetworkError, TrustError
from edgewright.publish.layout_registry import LayoutRegistry
from edgewright.trust.ceremony import renew, sign
from edgewright.trust.keys import load_role_signer
from edgewright.trust.publication import refresh
from edgewright.trust.rotation import rotate
from edgewright_agent.contract import OCI_MANIFEST, TUF_REPOSITORY, digest_of
from unit.trust.fleet import Device, SmallFleet
from unit.trust.thief import FAR, Thief

PI = "raspberry-pi-4"


@pytest.fixture
def fleet(tmp_path: Path) -> SmallFleet:
    fleet = SmallFleet(tmp_path / "fleet")
    fleet.publish_all("1.0.0")
    fleet.release()
    return fleet


@pytest.fixture
def device(fleet: SmallFleet, tmp_path: Path) -> Device:
    device = Device(fleet, tmp_path / "device")
    device.assignment()
    return device


def seen_by(device: Device, role: str) -> int:
    return int(Metadata.from_file(str(device.cache / f"{role}.json")).signed.version)


def test_devices_that_believed_a_fast_forward_refuse_us_until_the_keys_are_replaced(
    fleet: SmallFleet, device: Device
) -> None:
    thief = Thief(fleet, "timestamp", "snapshot")
    thief.fast_forward()
    device.assignment()
    assert (seen_by(device, "timestamp"), seen_by(device, "snapshot")) == (FAR, FAR)
    with pytest.raises(TrustError, match="somebody released from another copy"):
        fleet.release(refresh=True)
    honest = (fleet.metadata / "timestamp.json").read_bytes()
    thief.put("timestamp.json", honest)
    with pytest.raises(BadVersionNumberError):
        device.assignment()


def test_after_recovery_they_follow_us_again(fleet: SmallFleet, device: Device) -> None:
    thief = Thief(fleet, "timestamp", "snapshot")
    thief.fast_forward()
    device.assignment()
    rotate(fleet.workspace, ["timestamp", "snapshot"], now=fleet.now)
    with pytest.raises(TrustError, match="somebody released from another copy"):
        refresh(fleet.workspace, now=fleet.now)  # never by accident
    outcome = refresh(fleet.workspace, now=fleet.now, recover=True)
    assert outcome.current.versions["timestamp"] == 2
    assert device.assignment()["release"] == "r1"
    assert (seen_by(device, "timestamp"), seen_by(device, "snapshot")) == (2, 2)
    fleet.publish("digit-reader", PI, "1.1.0")
    fleet.release()
    assert device.assignment()["release"] == "r2"


def test_what_the_thief_signs_afterwards_is_worth_nothing(fleet: SmallFleet, device: Device) -> None:
    thief = Thief(fleet, "timestamp", "snapshot")
    rotate(fleet.workspace, ["timestamp", "snapshot"], now=fleet.now)
    refresh(fleet.workspace, now=fleet.now)
    device.assignment()
    thief.fast_forward()
    with pytest.raises(RepositoryError):
        device.assignment()
    assert seen_by(device, "timestamp") == 2


def test_a_fast_forward_of_rollout_and_artifacts_is_recovered_from_as_well(
    fleet: SmallFleet, device: Device
) -> None:
    thief = Thief(fleet, "timestamp", "snapshot", "rollout")
    thief.fast_forward("rollout")
    device.assignment()
    assert seen_by(device, "rollout") == FAR
    rotate(fleet.workspace, ["timestamp", "snapshot", "rollout"], now=fleet.now)
    refresh(fleet.workspace, now=fleet.now, recover=True)
    assert device.assignment()["release"] == "r1"
    assert seen_by(device, "rollout") == 2


def test_a_stolen_timestamp_key_alone_needs_only_a_new_timestamp_key(
    fleet: SmallFleet, device: Device
) -> None:
    Thief(fleet, "timestamp").fast_forward_timestamp()
    device.assignment()
    rotate(fleet.workspace, ["timestamp"], now=fleet.now)
    refresh(fleet.workspace, now=fleet.now, recover=True)
    assert device.assignment()["release"] == "r1"


@pytest.mark.parametrize("forgotten", ["timestamp", "snapshot"])
def test_a_recovery_that_devices_would_not_follow_is_refused(fleet: SmallFleet, forgotten: str) -> None:
    Thief(fleet, "timestamp", "snapshot").fast_forward()
    rotate(fleet.workspace, [role for role in ("timestamp", "snapshot") if role != forgotten], now=fleet.now)
    before = (fleet.metadata / "timestamp.json").read_bytes()
    with pytest.raises(
        TrustError, match=f"the registry's {forgotten} .* keys that root still names"
    ) as caught:
        refresh(fleet.workspace, now=fleet.now, recover=True)
    assert f"edgewright trust rotate {forgotten}" in str(caught.value.hint)
    assert (fleet.metadata / "timestamp.json").read_bytes() == before


def test_a_longer_chain_of_roots_than_ours_is_never_recovered_over(fleet: SmallFleet, tmp_path: Path) -> None:
    shutil.copytree(fleet.metadata, tmp_path / "older")
    rotate(fleet.workspace, ["timestamp"], now=fleet.now)
    refresh(fleet.workspace, now=fleet.now)
    shutil.rmtree(fleet.metadata)
    shutil.copytree(tmp_path / "older", fleet.metadata)
    with pytest.raises(TrustError, match=r"2\.root\.json is beyond the root of this folder"):
        refresh(fleet.workspace, now=fleet.now, recover=True)


def test_a_recovery_can_need_two_root_keys_on_two_machines(tmp_path: Path) -> None:
    fleet = SmallFleet(
        tmp_path / "fleet", trust={"roles": {"root": {"threshold": 2, "keys": ("one", "two")}}}
    )
    fleet.publish_all("1.0.0")
    fleet.release()
    device = Device(fleet, tmp_path / "device")
    Thief(fleet, "timestamp", "snapshot").fast_forward()
    device.assignment()
    (fleet.keys / "two.key").rename(tmp_path / "two.key")
    rotate(fleet.workspace, ["timestamp", "snapshot"], now=fleet.now)
    with pytest.raises(TrustError, match="keys that root still names"):
        refresh(fleet.workspace, now=fleet.now, recover=True)  # root 2 lacks a signature, so root 1 goes on
    (tmp_path / "two.key").rename(fleet.keys / "two.key")
    sign(fleet.workspace, now=fleet.now)
    refresh(fleet.workspace, now=fleet.now, recover=True)
    assert device.assignment()["release"] == "r1"


def test_files_the_thief_left_under_our_next_names_are_written_over(
    fleet: SmallFleet, device: Device
) -> None:
    thief = Thief(fleet, "timestamp", "snapshot")
    thief.fast_forward()
    thief.put("2.snapshot.json", b'{"not": "ours"}')
    rotate(fleet.workspace, ["timestamp", "snapshot"], now=fleet.now)
    refresh(fleet.workspace, now=fleet.now, recover=True)
    assert device.assignment()["release"] == "r1"


@pytest.mark.parametrize("rubbish", [b"rubbish", b'{"signed": {}, "signatures": []}'])
def test_rubbish_in_place_of_the_timestamp_is_written_over(
    fleet: SmallFleet, device: Device, rubbish: bytes
) -> None:
    Thief(fleet).put("timestamp.json", rubbish)
    with pytest.raises(TrustError, match="is not TUF metadata"):
        refresh(fleet.workspace, now=fleet.now)  # never by accident
    refresh(fleet.workspace, now=fleet.now, recover=True)
    assert device.assignment()["release"] == "r1"


@pytest.mark.parametrize(
    "manifest",
    [
        b'{"mediaType":"application/x"}',
        json.dumps({"layers": [{"digest": digest_of(b"endless"), "size": 10**12}]}).encode(),
    ],
)
def test_a_manifest_of_something_else_in_place_of_the_timestamp_is_written_over(
    fleet: SmallFleet, device: Device, manifest: bytes
) -> None:
    registry = fleet.open(TUF_REPOSITORY)
    registry.put_blob(digest_of(b"endless"), b"endless")
    registry.put_manifest("timestamp.json", manifest, OCI_MANIFEST)
    with pytest.raises(TrustError, match="is not TUF metadata"):
        refresh(fleet.workspace, now=fleet.now)
    refresh(fleet.workspace, now=fleet.now, recover=True)
    assert device.assignment()["release"] == "r1"


@pytest.mark.parametrize("name", ["2.root.json", "3.root.json"])
def test_a_root_that_no_device_believes_is_written_over(
    fleet: SmallFleet, device: Device, name: str, tmp_path: Path
) -> None:
    """Whoever can write to the registry could otherwise end every rotation, and make it look like stolen root keys."""
    other = SmallFleet(tmp_path / "other")
    other.publish_all("1.0.0")
    other.release()
    forged = copy.deepcopy(Metadata.from_file(str(other.metadata / "1.root.json")))
    forged.signed.version = int(name[0])
    forged.sign(load_role_signer(other.keys, "root", None))
    thief = Thief(fleet, "timestamp", "snapshot")
    thief.fast_forward()
    device.assignment()
    thief.put(name, forged.to_bytes())
    rotate(fleet.workspace, ["timestamp", "snapshot"], now=fleet.now)
    outcome = refresh(fleet.workspace, now=fleet.now, recover=True)
    if name == "3.root.json":  # devices still meet it: our next root takes its place
        assert "3.root.json is none of ours" in outcome.notes[0] and "renew root" in outcome.notes[0]
        renew(fleet.workspace, "root", now=fleet.now)
        refresh(fleet.workspace, now=fleet.now, recover=True)
    assert device.assignment()["release"] == "r1"


def test_a_rotation_that_is_cut_off_before_its_root_holds_no_device_up(
    fleet: SmallFleet, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root and timestamp are the last to be pushed; whatever is cut off, the next run ends it."""
    rotate(fleet.workspace, ["timestamp", "snapshot", "targets", "artifacts", "rollout"], now=fleet.now)
    real, left = LayoutRegistry.put_manifest, [0]

    def put(self: LayoutRegistry, reference: str, body: bytes, media_type: str) -> bool:
        left[0] -= 1
        if left[0] < 0:
            raise NetworkError("the registry is gone")
        return real(self, reference, body, media_type)

    monkeypatch.setattr(LayoutRegistry, "put_manifest", put)
    for _ in range(5):  # targets, two classes, rollout, snapshot
        left[0] = 1
        with pytest.raises(NetworkError):
            refresh(fleet.workspace, now=fleet.now)
        assert device.assignment()["release"] == "r1"
        assert seen_by(device, "root") == 1
    left[0] = 10
    refresh(fleet.workspace, now=fleet.now)
    assert device.assignment()["release"] == "r1"
    assert seen_by(device, "root") == 2


@pytest.mark.parametrize("name", ["1.root.json", "2.root.json"])
def test_our_own_root_with_a_signature_too_many_is_written_over(
    fleet: SmallFleet, device: Device, name: str
) -> None:
    rotate(fleet.workspace, ["timestamp"], now=fleet.now)
    refresh(fleet.workspace, now=fleet.now)
    document = json.loads((fleet.metadata / name).read_bytes())
    document["signatures"].append({"keyid": "0" * 64, "sig": "00"})
    Thief(fleet).put(name, json.dumps(document).encode())
    with pytest.raises(TrustError, match="holds other content"):
        refresh(fleet.workspace, now=fleet.now)
    refresh(fleet.workspace, now=fleet.now, recover=True)
    assert device.assignment()["release"] == "r1"
