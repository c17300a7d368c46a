"""Who may say what: documents by targets, artifacts by the device's own class role, the assignment by rollout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, SuccinctRoles, Targets

from edgewright_agent.contract import (
    MAX_POLICY_BYTES,
    MAX_TRUSTED_ROOT_BYTES,
    POLICY_TARGET,
    ROLE_ROLLOUT,
    TRUSTED_ROOT_TARGET,
    class_role,
    digest_of,
)
from edgewright_agent.errors import TransportError, TrustError
from edgewright_agent.trust.tuf_client import LIMITS, MAX_DELEGATIONS
from unit.agent.transport.shelf import Shelf
from unit.agent.trust.tuf_device import Device
from unit.agent.trust.tuf_fleet import PI, PI_ROLE, SOON, TufFleet, assignment

JETSON = "jetson-vision-standard"
MANIFEST = b'{"mediaType":"application/vnd.oci.image.manifest.v1+json"}'


def refuses_artifact(device: Device, hardware_class: str = PI) -> None:
    with pytest.raises(TrustError) as caught:
        device.refresh().require_artifact("digit-reader", hardware_class, digest_of(MANIFEST))
    assert caught.value.code == "not-a-target"


# --- documents ----------------------------------------------------------------------------


def test_the_documents_that_targets_signs_come_with_the_desired_state(
    device: Device, fleet: TufFleet
) -> None:
    assert (device.refresh().policy, device.refresh().trusted_root) == (None, None)
    fleet.document(POLICY_TARGET, b'{"version":1}')
    fleet.document(TRUSTED_ROOT_TARGET, b'{"tlogs":[]}')
    fleet.bump("targets", "snapshot", "timestamp")
    fleet.publish()
    desired = device.refresh()
    assert (desired.policy, desired.trusted_root) == (b'{"version":1}', b'{"tlogs":[]}')


def test_a_document_is_fetched_once_and_again_when_the_cached_one_is_not_what_is_signed(
    device: Device, fleet: TufFleet
) -> None:
    fleet.document(POLICY_TARGET, b'{"version":1}')
    fleet.publish()
    device.refresh()
    (device.cache / "policy.json").write_bytes(b'{"version":2}')
    assert device.refresh().policy == b'{"version":1}'
    fleet.shelf.blob_path("tuf", digest_of(b'{"version":1}')).unlink()
    assert device.refresh().policy == b'{"version":1}', "from the cache"
    device.lose_cache()
    with pytest.raises(TransportError):
        device.refresh()


@pytest.mark.parametrize("path", [POLICY_TARGET, TRUSTED_ROOT_TARGET])
def test_an_altered_document_is_refused(device: Device, fleet: TufFleet, path: str) -> None:
    fleet.document(path, b'{"version":1}')
    fleet.publish()
    folder, _, name = path.rpartition("/")
    fleet.write(f"{folder}/{fleet.targets.targets[path].hashes['sha256']}.{name}", b'{"version":2}')
    device.refuses("bad-metadata")


@pytest.mark.parametrize(
    ("path", "limit"), [(POLICY_TARGET, MAX_POLICY_BYTES), (TRUSTED_ROOT_TARGET, MAX_TRUSTED_ROOT_BYTES)]
)
def test_an_endless_document_is_not_asked_for(device: Device, fleet: TufFleet, path: str, limit: int) -> None:
    fleet.document(path, b" " * (limit + 1))
    fleet.publish()
    device.refuses("bad-metadata")


@pytest.mark.parametrize("role", ["rollout", PI_ROLE])
def test_a_policy_by_another_role_than_targets_is_no_policy(
    device: Device, fleet: TufFleet, role: str
) -> None:
    fleet.document(POLICY_TARGET, b'{"version":1}', fleet.role(role))
    fleet.publish()
    assert device.refresh().policy is None


# --- artifacts ----------------------------------------------------------------------------


def test_another_class_is_neither_loaded_nor_believed(device: Device, tmp_path: Path) -> None:
    fleet = TufFleet(Shelf(tmp_path / "two"), JETSON)
    device.source, device.root = f"oci:{fleet.shelf.root}", fleet.root_bytes
    fleet.approve("digit-reader", PI, MANIFEST)
    fleet.approve("digit-reader", JETSON, MANIFEST)
    fleet.publish()
    fleet.write(f"1.{class_role(JETSON)}.json", b"this would be refused if anybody asked for it")
    desired = device.refresh()
    assert class_role(JETSON) not in desired.versions
    assert desired.require_artifact("digit-reader", PI, digest_of(MANIFEST)).sequence == 1
    refuses_artifact(device, JETSON)


@pytest.mark.parametrize("where", ["targets", ROLE_ROLLOUT, "another class"])
def test_only_the_role_of_the_class_approves(device: Device, tmp_path: Path, where: str) -> None:
    fleet = TufFleet(Shelf(tmp_path / "two"), JETSON)
    device.source, device.root = f"oci:{fleet.shelf.root}", fleet.root_bytes
    fleet.approve("digit-reader", PI, MANIFEST)
    listed = fleet.classes[PI_ROLE].targets
    role = fleet.classes[class_role(JETSON)] if where == "another class" else fleet.role(where)
    role.targets.update(listed)
    listed.clear()
    fleet.publish()
    refuses_artifact(device)


def test_a_class_role_cannot_leave_the_paths_that_targets_gave_it(device: Device, fleet: TufFleet) -> None:
    fleet.delegate(PI_ROLE, f"artifacts/vibration-monitor/{PI}/*")
    fleet.approve("digit-reader", PI, MANIFEST)
    fleet.publish()
    refuses_artifact(device)


def test_a_class_role_cannot_pass_its_right_on(device: Device, fleet: TufFleet) -> None:
    fleet.signers["friend"] = CryptoSigner.generate_ed25519()
    fleet.approve("digit-reader", PI, MANIFEST)
    own = fleet.classes[PI_ROLE]
    friend = Targets(version=1, expires=SOON, targets=dict(own.targets))
    own.targets.clear()
    own.delegations = Delegations(
        keys={}, roles={"friend": DelegatedRole("friend", [], 1, True, paths=["artifacts/*"])}
    )
    own.add_key(fleet.signers["friend"].public_key, "friend")
    fleet.publish(friend=friend)
    refuses_artifact(device)


def test_a_class_without_a_role_has_nothing_to_install_and_no_error(device: Device, fleet: TufFleet) -> None:
    desired = device.refresh(hardware_class="brand-new-board")
    assert desired.assignment == assignment()
    assert class_role("brand-new-board") not in desired.versions
    with pytest.raises(TrustError, match="class-brand-new-board has not approved"):
        desired.require_artifact("digit-reader", "brand-new-board", digest_of(MANIFEST))


def test_a_class_role_that_is_delegated_and_not_in_the_snapshot_is_refused(
    device: Device, fleet: TufFleet
) -> None:
    role = fleet.classes.pop(PI_ROLE)
    fleet.publish()
    device.refuses("bad-metadata")
    fleet.classes[PI_ROLE] = role
    fleet.bump("snapshot", "timestamp")
    fleet.publish()
    assert device.refresh().versions[PI_ROLE] == 1


# --- counts and sizes ---------------------------------------------------------------------


def test_a_fleet_of_many_classes_costs_a_device_its_own_role_only(device: Device, tmp_path: Path) -> None:
    fleet = TufFleet(Shelf(tmp_path / "many"), *(f"class-number-{number}" for number in range(150)))
    device.source, device.root = f"oci:{fleet.shelf.root}", fleet.root_bytes
    fleet.approve("digit-reader", PI, MANIFEST)
    fleet.publish()
    assert device.refresh().require_artifact("digit-reader", PI, digest_of(MANIFEST)).length == len(MANIFEST)
    assert sum(path.name.startswith("class-") for path in device.cache.iterdir()) == 1


def test_delegations_without_end_are_refused(device: Device, fleet: TufFleet) -> None:
    assert fleet.targets.delegations is not None
    assert fleet.targets.delegations.roles is not None
    keyids = fleet.targets.delegations.roles[PI_ROLE].keyids
    for number in range(MAX_DELEGATIONS):
        name = f"class-{number}"
        fleet.targets.delegations.roles[name] = DelegatedRole(name, keyids, 1, True, paths=["a/*"])
    fleet.publish()
    assert f"{MAX_DELEGATIONS} are allowed" in str(device.refuses("bad-metadata"))


def test_delegations_by_hash_bins_are_not_a_fleets(device: Device, fleet: TufFleet) -> None:
    assert fleet.targets.delegations is not None
    keyids = fleet.targets.delegations.roles[PI_ROLE].keyids if fleet.targets.delegations.roles else []
    fleet.targets.delegations.roles = None
    fleet.targets.delegations.succinct_roles = SuccinctRoles(keyids, 1, 2, "bin")
    fleet.publish()
    device.refuses("bad-metadata")


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "rollout", PI_ROLE])
def test_every_role_has_a_bound_of_its_own_whatever_length_a_snapshot_claims(
    device: Device, fleet: TufFleet, role: str
) -> None:
    """A stolen snapshot key may claim any length; python-tuf would read so much."""
    fleet.role(role).unrecognized_fields["x-filling"] = "x" * (LIMITS.get(role, 512 * 1024) + 1)
    if role == "root":
        fleet.next_root()
    fleet.publish()
    with pytest.raises(TransportError) as caught:
        device.refresh()
    assert caught.value.code == "too-large"


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "rollout", PI_ROLE])
def test_a_version_beyond_what_a_record_can_hold_is_refused(
    device: Device, fleet: TufFleet, role: str
) -> None:
    fleet.role(role).version = 2**53
    fleet.publish()
    assert role in str(device.refuses("bad-metadata"))


def test_a_key_that_appears_twice_is_refused_before_the_signature_is_looked_at(
    device: Device, fleet: TufFleet
) -> None:
    body = fleet.read("timestamp.json")
    fleet.write("timestamp.json", body.replace(b'{"signatures"', b'{"signed":{},"signatures"', 1))
    assert "appears twice" in str(device.refuses("bad-metadata"))
    assert json.loads(body)["signed"]["version"] == 1
