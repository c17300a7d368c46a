"""What a device believes about the desired state, and what it refuses whoever offers it."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Key, Targets

from edgewright_agent.contract import (
    ASSIGNMENT_TARGET,
    MAX_ASSIGNMENT_BYTES,
    MAX_TUF_BYTES,
    TUF_REPOSITORY,
    artifact_target,
)
from edgewright_agent.errors import StorageError, TransportError, TrustError
from edgewright_agent.floor import Floor
from edgewright_agent.trust.approval import Approval, Runtime
from edgewright_agent.trust.tuf import Desired
from real import Registry
from unit.agent.trust.tuf_device import Device, freeze
from unit.agent.trust.tuf_fleet import DIGEST, NOW, PI, PI_ROLE, SOON, TOP, TufFleet, assignment

ROLES = (*TOP, "rollout", PI_ROLE)
ARTIFACT = b'{"mediaType":"application/vnd.oci.image.manifest.v1+json"}'


def test_a_refresh_tells_what_to_run_every_version_and_when_it_expires(device: Device) -> None:
    desired = device.refresh()
    assert desired.assignment == assignment()
    assert desired.versions == dict.fromkeys(ROLES, 1)
    assert desired.expires == dict.fromkeys(ROLES, "2030-01-02T00:00:00Z") | {"root": "2031-01-01T00:00:00Z"}


def test_a_second_refresh_follows_to_the_newest_release(device: Device, fleet: TufFleet) -> None:
    device.refresh()
    for sequence in (2, 3, 4):
        fleet.release(assignment(sequence))
    desired = device.refresh()
    assert desired.assignment["sequence"] == 4
    assert desired.versions == {
        "root": 1,
        "targets": 1,
        PI_ROLE: 1,
        "rollout": 4,
        "snapshot": 4,
        "timestamp": 4,
    }


def test_an_unchanged_assignment_is_not_fetched_again(device: Device, fleet: TufFleet) -> None:
    device.refresh()
    fleet.shelf.blob_path(
        TUF_REPOSITORY, "sha256:" + fleet.rollout.targets[ASSIGNMENT_TARGET].hashes["sha256"]
    ).unlink()
    fleet.bump("timestamp")
    fleet.publish()
    assert device.refresh().assignment == assignment()


def test_a_real_registry_serves_the_same_state(device: Device, fleet: TufFleet, registry: Registry) -> None:
    fleet.shelf.push(f"{registry.url}/acme")
    device.source = f"{registry.url}/acme"
    assert device.refresh().assignment == assignment()
    device.source = f"oci:{fleet.shelf.root}"
    fleet.release(assignment(2))
    assert device.refresh().assignment["sequence"] == 2


def test_a_bundle_file_serves_the_same_state(device: Device, fleet: TufFleet, tmp_path: Path) -> None:
    device.source = f"bundle:{fleet.shelf.bundle(tmp_path / 'release.tar')}"
    assert device.refresh().assignment == assignment()


# --- freshness ----------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_expired_metadata_is_refused_by_role_and_date(device: Device, fleet: TufFleet, role: str) -> None:
    fleet.role(role).expires = NOW - timedelta(days=3)
    fleet.root_bytes = device.root = fleet.signed(fleet.root, ["root"])
    fleet.publish()
    refusal = device.refuses("expired-metadata")
    assert f"{role} metadata expired at 2029-12-29T00:00:00Z" in str(refusal)


def test_metadata_that_was_good_when_it_was_cached_expires_all_the_same(device: Device) -> None:
    device.refresh()
    refusal = device.refuses("expired-metadata", now=SOON)
    assert "timestamp metadata expired at 2030-01-02T00:00:00Z" in str(refusal)


def test_an_unset_clock_is_replaced_by_the_system_clock(device: Device) -> None:
    assert device.refresh(now=None).versions["root"] == 1


# --- rollback and replay ------------------------------------------------------------------


def test_an_older_repository_is_refused_by_the_cache(device: Device, fleet: TufFleet, tmp_path: Path) -> None:
    old = freeze(fleet, tmp_path / "old")
    fleet.release(assignment(2))
    device.refresh()
    device.source = old
    device.floor = Floor()
    device.refuses("metadata-rollback")


def test_a_replay_after_the_cache_was_lost_is_refused_by_the_floor(
    device: Device, fleet: TufFleet, tmp_path: Path
) -> None:
    old = freeze(fleet, tmp_path / "old")
    fleet.release(assignment(2))
    device.refresh()
    device.lose_cache()
    device.source = old
    refusal = device.refuses("metadata-rollback")
    assert "this device has seen 2" in str(refusal)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_may_fall_below_its_own_floor(device: Device, role: str) -> None:
    device.floor = Floor({role: 2})
    assert role in str(device.refuses("metadata-rollback"))


def test_the_refused_replay_does_not_stop_a_later_true_state(
    device: Device, fleet: TufFleet, tmp_path: Path
) -> None:
    old, new = freeze(fleet, tmp_path / "old"), device.source
    fleet.release(assignment(2))
    device.refresh()
    device.lose_cache()
    device.source = old
    device.refuses("metadata-rollback")
    device.source = new
    assert device.refresh().assignment["sequence"] == 2


def test_a_chain_of_roots_that_ends_early_is_refused_after_the_cache_was_lost(
    device: Device, fleet: TufFleet, tmp_path: Path
) -> None:
    old = freeze(fleet, tmp_path / "old")
    fleet.rotate_root("timestamp")
    fleet.publish()
    assert device.refresh().versions["root"] == 2
    device.lose_cache()
    device.source = old
    assert "root metadata has version 1" in str(device.refuses("metadata-rollback"))


@pytest.mark.parametrize("role", ["targets", "rollout", PI_ROLE])
def test_a_snapshot_with_an_older_role_is_refused(device: Device, fleet: TufFleet, role: str) -> None:
    fleet.bump(role)
    fleet.publish()
    device.refresh()
    fleet.role(role).version -= 1
    fleet.bump("snapshot", "timestamp")
    fleet.publish()
    device.floor = Floor()
    device.refuses("metadata-rollback")


def test_metadata_of_two_releases_does_not_mix(device: Device, fleet: TufFleet) -> None:
    first = fleet.read("1.snapshot.json")
    fleet.release(assignment(2))
    fleet.write("2.snapshot.json", first)
    device.refuses("bad-metadata")


# --- signatures ---------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "rollout", "artifacts"])
def test_metadata_signed_with_another_key_is_refused(device: Device, fleet: TufFleet, role: str) -> None:
    fleet.signers[role] = CryptoSigner.generate_ed25519()
    fleet.publish()
    device.refuses("bad-signature")


def test_a_new_root_needs_the_signature_of_the_old_one(device: Device, fleet: TufFleet) -> None:
    fleet.signers["root"] = CryptoSigner.generate_ed25519()
    fleet.root.version = 2
    fleet.write("2.root.json", fleet.signed(fleet.root, ["root"]))
    device.refuses("bad-signature")


def test_a_rotated_key_is_followed_and_the_old_one_is_out(device: Device, fleet: TufFleet) -> None:
    device.refresh()
    stolen = fleet.signers["timestamp"]
    fleet.rotate_root("timestamp")
    fleet.bump("timestamp")
    fleet.publish()
    assert device.refresh().versions["root"] == 2
    fleet.signers["timestamp"] = stolen
    fleet.bump("timestamp")
    fleet.publish()
    device.refuses("bad-signature")


def test_two_of_three_root_keys_have_to_sign_where_the_threshold_is_two(
    device: Device, fleet: TufFleet
) -> None:
    second = CryptoSigner.generate_ed25519()
    fleet.root.add_key(second.public_key, "root")
    fleet.root.roles["root"].threshold = 2
    device.root = fleet.signed(fleet.root, ["root"])
    device.refuses("bad-signature")


@pytest.mark.parametrize("name", ["timestamp", "1.snapshot", "1.targets", "1.rollout", f"1.{PI_ROLE}"])
def test_one_changed_byte_is_refused(device: Device, fleet: TufFleet, name: str) -> None:
    body = fleet.read(f"{name}.json")
    assert body.count(b"2030-01-02") == 1
    fleet.write(f"{name}.json", body.replace(b"2030-01-02", b"2031-01-02"))
    # The timestamp has only its signature; every other file also the hash that the one above it gives.
    device.refuses("bad-signature" if name == "timestamp" else "bad-metadata")


def test_a_changed_assignment_is_refused(device: Device, fleet: TufFleet) -> None:
    digest = fleet.rollout.targets[ASSIGNMENT_TARGET].hashes["sha256"]
    body = fleet.read(f"rollout/{digest}.assignment.json")
    fleet.write(f"rollout/{digest}.assignment.json", body.replace(b'"r1"', b'"r9"'))
    device.refuses("bad-metadata")


# --- who may say what ---------------------------------------------------------------------


def test_an_artifact_is_what_its_class_role_signed(device: Device, fleet: TufFleet) -> None:
    digest = fleet.approve("digit-reader", PI, ARTIFACT, sequence=7)
    fleet.publish()
    assert device.refresh().require_artifact("digit-reader", PI, digest) == Approval(
        len(ARTIFACT), 7, Runtime("onnxruntime", ">=1.0,<100"), "0.1.0"
    )


def refuses_artifact(desired: Desired, model: str, hardware_class: str, digest: str) -> None:
    with pytest.raises(TrustError) as caught:
        desired.require_artifact(model, hardware_class, digest)
    assert caught.value.code == "not-a-target"


def test_the_rollout_key_cannot_add_an_artifact(device: Device, fleet: TufFleet) -> None:
    digest = fleet.approve("digit-reader", "raspberry-pi-4", ARTIFACT)
    fleet.rollout.targets.update(fleet.classes[PI_ROLE].targets)
    fleet.classes[PI_ROLE].targets.clear()
    fleet.release(assignment(2, digest=digest, size=len(ARTIFACT)))
    refuses_artifact(device.refresh(), "digit-reader", "raspberry-pi-4", digest)


@pytest.mark.parametrize(
    ("model", "hardware_class"),
    [("other-model", "raspberry-pi-4"), ("digit-reader", "jetson-vision-standard"), ("digit-reader", "")],
)
def test_an_approved_artifact_is_approved_for_its_own_model_and_class_only(
    device: Device, fleet: TufFleet, model: str, hardware_class: str
) -> None:
    digest = fleet.approve("digit-reader", "raspberry-pi-4", ARTIFACT)
    fleet.publish()
    refuses_artifact(device.refresh(), model, hardware_class, digest)


@pytest.mark.parametrize("digest", [DIGEST, "sha256:../../x", "", "sha512:" + "0" * 128])
def test_what_nobody_approved_is_not_a_target(device: Device, digest: str) -> None:
    refuses_artifact(device.refresh(), "digit-reader", "raspberry-pi-4", digest)


@pytest.mark.parametrize("bend", ["custom", "hash"])
def test_a_target_that_contradicts_its_own_path_is_refused(
    device: Device, fleet: TufFleet, bend: str
) -> None:
    digest = fleet.approve("digit-reader", "raspberry-pi-4", ARTIFACT)
    target = fleet.classes[PI_ROLE].targets[artifact_target("digit-reader", "raspberry-pi-4", digest)]
    if bend == "custom":
        target.unrecognized_fields["custom"]["hardwareClass"] = "jetson-vision-standard"
    else:
        target.hashes["sha256"] = "0" * 64
    fleet.publish()
    refuses_artifact(device.refresh(), "digit-reader", "raspberry-pi-4", digest)


def delegation(name: str, key: Key, delegator: Targets, paths: list[str]) -> None:
    assert delegator.delegations is None
    delegator.delegations = Delegations(keys={}, roles={name: DelegatedRole(name, [], 1, False, paths=paths)})
    delegator.add_key(key, name)


def test_an_assignment_below_another_delegation_is_refused(device: Device, fleet: TufFleet) -> None:
    fleet.signers["insider"] = CryptoSigner.generate_ed25519()
    fleet.targets.delegations = None
    delegation("insider", fleet.signers["insider"].public_key, fleet.targets, ["rollout/*"])
    insider = Targets(version=1, expires=SOON, targets=dict(fleet.rollout.targets))
    fleet.publish(insider=insider)
    device.refuses("bad-metadata")


def test_rollout_cannot_pass_its_right_on(device: Device, fleet: TufFleet) -> None:
    fleet.signers["friend"] = CryptoSigner.generate_ed25519()
    delegation("friend", fleet.signers["friend"].public_key, fleet.rollout, ["rollout/*"])
    friend = Targets(version=1, expires=SOON, targets=dict(fleet.rollout.targets))
    fleet.rollout.targets.clear()
    fleet.publish(friend=friend)
    device.refuses("bad-metadata")


def test_a_role_of_the_right_name_below_another_delegation_is_not_the_rollout_role(
    device: Device, fleet: TufFleet
) -> None:
    fleet.signers["insider"] = CryptoSigner.generate_ed25519()
    fleet.targets.delegations = None
    delegation("insider", fleet.signers["insider"].public_key, fleet.targets, ["rollout/*"])
    insider = Targets(version=1, expires=SOON)
    delegation("rollout", fleet.signers["rollout"].public_key, insider, ["rollout/*"])
    fleet.publish(insider=insider)
    device.refuses("bad-metadata")


def test_without_an_assignment_there_is_no_desired_state(device: Device, fleet: TufFleet) -> None:
    fleet.rollout.targets.clear()
    fleet.publish()
    device.refuses("bad-metadata")


# --- sizes and shapes ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["timestamp.json", "2.root.json", "1.snapshot.json", "1.targets.json"])
def test_endless_metadata_is_not_read(device: Device, fleet: TufFleet, name: str) -> None:
    fleet.write(name, b" " * (MAX_TUF_BYTES + 1))
    with pytest.raises(TransportError) as caught:
        device.refresh()
    assert caught.value.code == "too-large"


def test_an_endless_assignment_is_not_read(device: Device, fleet: TufFleet) -> None:
    fleet.assign(b" " * (MAX_ASSIGNMENT_BYTES + 1))
    fleet.publish()
    device.refuses("bad-metadata")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"{", b"\xff", b"[" * 10_000, b'{"signed":{"_type":"timestamp"}}']
)
def test_something_that_is_not_metadata_is_refused(device: Device, fleet: TufFleet, body: bytes) -> None:
    fleet.write("timestamp.json", body)
    device.refuses("bad-metadata")


def test_a_metadata_manifest_with_two_layers_is_refused(device: Device, fleet: TufFleet) -> None:
    fleet.shelf.artifact(TUF_REPOSITORY, [b"{}", b"[]"], tag="timestamp.json")
    with pytest.raises(TransportError) as caught:
        device.refresh()
    assert caught.value.code == "bad-response"


def test_a_signed_assignment_of_the_wrong_shape_is_refused(device: Device, fleet: TufFleet) -> None:
    fleet.release(assignment(2, size="1000"))
    assert "artifacts.raspberry-pi-4.size" in str(device.refuses("bad-metadata"))


def test_a_release_that_is_only_half_there_is_a_transport_problem(device: Device, fleet: TufFleet) -> None:
    fleet.release(assignment(2))
    index = fleet.shelf.index(TUF_REPOSITORY)
    index["manifests"] = [e for e in index["manifests"] if "2.rollout.json" not in str(e)]
    fleet.shelf.write_index(TUF_REPOSITORY, index)
    with pytest.raises(TransportError) as caught:
        device.refresh()
    assert caught.value.code == "not-found"
    assert "2.rollout.json" in str(caught.value)


def test_an_absent_source_is_a_transport_problem(device: Device, registry: Registry) -> None:
    registry.stop()
    device.source = registry.url
    with pytest.raises(TransportError) as caught:
        device.refresh()
    assert caught.value.code == "network"


# --- the cache ----------------------------------------------------------------------------


def _truncate(path: Path) -> None:
    path.write_bytes(b"")


def _garble(path: Path) -> None:
    path.write_bytes(b'{"signed": {"version": "\xff' * 50)


def _swap_for_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [_truncate, _garble, _swap_for_a_folder, Path.unlink])
def test_a_damaged_cache_heals(device: Device, fleet: TufFleet, damage: Callable[[Path], None]) -> None:
    fleet.rotate_root("snapshot")
    fleet.publish()
    device.refresh()
    for path in [path for path in device.cache.rglob("*") if path.is_file()]:
        damage(path)
    assert device.refresh().assignment == assignment()
    assert device.refresh().versions["root"] == 2


@pytest.mark.parametrize("damage", [_truncate, _garble, _swap_for_a_folder])
def test_a_damaged_cache_does_not_open_the_door_to_a_replay(
    device: Device, fleet: TufFleet, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    device.source, new = freeze(fleet, tmp_path / "old"), device.source
    fleet.release(assignment(2))
    old, device.source = device.source, new
    device.refresh()
    for path in [path for path in device.cache.rglob("*") if path.is_file()]:
        damage(path)
    device.source = old
    device.refuses("metadata-rollback")


def test_a_cache_that_is_a_file_is_replaced(device: Device) -> None:
    device.cache.parent.mkdir()
    device.cache.write_bytes(b"what is this?")
    assert device.refresh().versions["root"] == 1


def test_a_cache_that_cannot_be_made_is_a_storage_problem(device: Device) -> None:
    device.cache.parent.write_bytes(b"a file where the state directory should be")
    with pytest.raises(StorageError):
        device.refresh()


def test_the_whole_cache_is_durable_before_anybody_acts_on_it(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, int] = {}
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_size
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    device.refresh()
    files = [device.cache, device.cache.parent, *device.cache.rglob("*")]
    assert {path.name for path in files if path.is_file()} >= {"timestamp.json", "assignment.json"}
    assert {path.stat().st_ino for path in files} <= set(synced)
    assert all(synced[path.stat().st_ino] == path.stat().st_size for path in files if path.is_file())


def test_the_cache_needs_no_symbolic_links_because_vfat_has_none(device: Device) -> None:
    device.refresh()
    assert not [path for path in device.cache.rglob("*") if path.is_symlink()]


def test_what_a_power_cut_left_in_the_middle_of_a_write_is_cleared(device: Device) -> None:
    device.refresh()
    (device.cache / "tmpa1b2c3").write_bytes(b"half")
    device.refresh()
    assert not list(device.cache.glob("tmp*"))


def test_a_version_has_to_be_a_number(device: Device, fleet: TufFleet) -> None:
    fleet.timestamp.version = True  # equal to 1 for Python
    fleet.publish()
    device.refuses("bad-metadata")
