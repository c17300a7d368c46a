"""Somebody who can write into `staged/` and holds no key gets no signature that a person did not give."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, GPGKey, Key
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, TargetFile, Targets

from edgewright.errors import TrustError
from edgewright.trust.ceremony import Review, initialise, sign
from edgewright.trust.delegation import Holders, with_delegated_role, with_root_role
from edgewright.trust.publication import refresh
from edgewright.trust.repository import Current, MetadataFolder, target_file
from edgewright.trust.rotation import rotate
from edgewright.trust.signers import key_fingerprint
from edgewright_agent.contract import KEY_NAME_FIELD
from unit.trust.fleet import SmallFleet

PI = "raspberry-pi-4"


@pytest.fixture
def fleet(tmp_path: Path) -> SmallFleet:
    fleet = SmallFleet(tmp_path / "fleet")
    fleet.publish_all("1.0.0")
    fleet.release()
    return fleet


@pytest.fixture
def stranger() -> Key:
    return CryptoSigner.generate_ed25519().public_key


def current(fleet: SmallFleet) -> Current:
    found = MetadataFolder(fleet.metadata).read()
    assert found is not None
    return found


def plant(fleet: SmallFleet, role: str, signed: Any) -> None:
    """Write an unsigned next version of a role."""
    signed.version = current(fleet).versions.get(role, 0) + 1
    path = fleet.metadata / f"staged/{role}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(Metadata(signed).to_bytes())


def keys_of(fleet: SmallFleet, parent: str, role: str) -> list[str]:
    return list(current(fleet).metadata[parent].signed.get_delegated_role(role).keyids)


def test_a_release_signs_no_delegation_that_it_did_not_make(fleet: SmallFleet, stranger: Key) -> None:
    planted = with_delegated_role(copy.deepcopy(current(fleet).targets), "rollout", Holders(1, [stranger]))
    plant(fleet, "targets", planted)
    fleet.classes = (*fleet.classes, "jetson")  # targets has something to say of its own
    fleet.publish("digit-reader", "jetson", "1.0.0")
    with pytest.raises(TrustError, match="targets 2 needs 1 more signature of targets"):
        fleet.release()
    assert stranger.keyid not in keys_of(fleet, "targets", "rollout")
    staged = Metadata.from_file(str(fleet.metadata / "staged/targets.json"))
    assert not staged.signatures


def test_a_refresh_signs_no_artifact_that_it_did_not_make(fleet: SmallFleet) -> None:
    rotate(fleet.workspace, ["artifacts"], now=fleet.now)
    signed: Targets = copy.deepcopy(current(fleet).metadata[f"class-{PI}"].signed)
    path = f"artifacts/digit-reader/{PI}/{'0' * 64}"
    custom = copy.deepcopy(next(iter(signed.targets.values())).unrecognized_fields)
    signed.targets[path] = TargetFile(1, {"sha256": "0" * 64}, path, custom)
    plant(fleet, f"class-{PI}", signed)
    with pytest.raises(TrustError, match=f"class-{PI} 2 needs 1 more signature of artifacts-2"):
        refresh(fleet.workspace, now=fleet.now)
    assert path not in {target.path for target in current(fleet).artifacts()}


def test_a_rotation_signs_no_other_change_that_waits(fleet: SmallFleet, stranger: Key) -> None:
    plant(
        fleet, "root", with_root_role(copy.deepcopy(current(fleet).root), "targets", Holders(1, [stranger]))
    )
    rotate(fleet.workspace, ["timestamp"], now=fleet.now)
    refresh(fleet.workspace, now=fleet.now)
    assert stranger.keyid not in keys_of(fleet, "root", "targets")


def test_a_release_gives_nothing_a_longer_life_than_fleet_yaml_says(
    fleet: SmallFleet, tmp_path: Path
) -> None:
    fleet.publish("digit-reader", PI, "1.1.0")
    twin = tmp_path / "twin"
    shutil.copytree(fleet.root, twin)
    other = SmallFleet(twin, lanes=fleet.lanes)
    other.release()
    expected = current(other).metadata["rollout"].signed
    expected.expires = expected.expires.replace(year=2099)
    plant(fleet, "rollout", expected)
    (other.metadata / "rollout").rename(fleet.metadata / "staged/rollout")
    fleet.release()
    assert current(fleet).metadata["rollout"].signed.expires.year == 2026


# --- `trust sign` shows all that it signs ---------------------------------------------------------------------------


def shown(fleet: SmallFleet) -> list[str]:
    reviews: list[Review] = []
    sign(fleet.workspace, confirm=lambda found: bool(reviews.extend(found)), now=fleet.now)
    return [line for review in reviews for line in review.changes]


def stage_document(fleet: SmallFleet, role: str, path: str, document: Any) -> None:
    signed = copy.deepcopy(current(fleet).metadata[role].signed)
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    signed.targets[path] = TargetFile.from_data(path, body, ["sha256"])
    plant(fleet, role, signed)
    file = fleet.metadata / "staged" / target_file(signed.targets[path])
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_bytes(body)


def test_a_changed_policy_is_shown_with_what_it_says(fleet: SmallFleet) -> None:
    policy = json.loads(current(fleet).files["trust/policy.json"])
    policy["signers"]["mallory"] = {"issuer": "https://evil.example", "identityPattern": ".*"}
    policy["demands"][0]["signers"].append("mallory")
    stage_document(fleet, "targets", "trust/policy.json", policy)
    lines = shown(fleet)
    assert 'policy.json signers.mallory.issuer: nothing → "https://evil.example"' in lines
    assert 'policy.json demands[0].signers[1]: nothing → "mallory"' in lines


def test_a_changed_selector_is_shown(tmp_path: Path) -> None:
    canary = {
        "name": "canary",
        "selector": {"matchLabels": {"ring": "canary"}},
        "models": ({"model": "digit-reader"},),
    }
    fleet = SmallFleet(tmp_path / "fleet", groups=(canary,))
    fleet.publish_all("1.0.0")
    fleet.release()
    assignment = json.loads(current(fleet).assignment)
    assignment["groups"][0]["selector"]["matchLabels"] = {}
    stage_document(fleet, "rollout", "rollout/assignment.json", assignment)
    lines = shown(fleet)
    assert 'assignment.json groups[0].selector.matchLabels.ring: "canary" → nothing' in lines
    assert "assignment.json groups[0].selector.matchLabels: nothing → {}" in lines


def test_a_new_artifact_is_shown_with_its_sequence(fleet: SmallFleet) -> None:
    signed: Targets = copy.deepcopy(current(fleet).metadata[f"class-{PI}"].signed)
    path = f"artifacts/digit-reader/{PI}/{'0' * 64}"
    custom = {**next(iter(signed.targets.values())).custom, "sequence": 2**53 - 1}
    signed.targets[path] = TargetFile(1, {"sha256": "0" * 64}, path, {"custom": custom})
    plant(fleet, f"class-{PI}", signed)
    assert any(path in line and f'"sequence": {2**53 - 1}' in line for line in shown(fleet))


def test_nothing_that_is_staged_can_steer_a_terminal(fleet: SmallFleet) -> None:
    assignment = json.loads(current(fleet).assignment)
    assignment["release"] = "r2\x1b[2K\r"
    assignment["groups"][0]["name"] = "all\x1b[8m"
    stage_document(fleet, "rollout", "rollout/assignment.json", assignment)
    assert all(line.isprintable() for line in shown(fleet))


@pytest.mark.parametrize("body", [b"[]", b"{}", b"{", b'{"groups": [1], "release": "r2"}', b"\xff"])
def test_an_assignment_that_is_none_is_one_sentence(fleet: SmallFleet, body: bytes) -> None:
    stage_document(fleet, "rollout", "rollout/assignment.json", body)
    with pytest.raises(TrustError, match="an assignment that is none"):
        shown(fleet)


def test_a_key_cannot_pass_for_another_one(fleet: SmallFleet) -> None:
    root: Root = copy.deepcopy(current(fleet).root)
    (keyid,) = root.roles["timestamp"].keyids
    genuine = root.keys[keyid]
    impostor = GPGKey(key_fingerprint(genuine), "eddsa", "pgp+eddsa-ed25519", {"public": {}})
    impostor.unrecognized_fields[KEY_NAME_FIELD] = "timestamp"
    del root.keys[keyid]
    root.keys[impostor.keyid] = impostor
    root.roles["timestamp"].keyids = [impostor.keyid]
    plant(fleet, "root", root)
    with pytest.raises(TrustError, match="a key of a kind that is not made here"):
        shown(fleet)


def test_a_key_cannot_count_twice_under_two_names(fleet: SmallFleet) -> None:
    root: Root = copy.deepcopy(current(fleet).root)
    (keyid,) = root.roles["root"].keyids
    twin = copy.deepcopy(root.keys[keyid])
    twin.keyid = "0" * 64
    root.keys[twin.keyid] = twin
    root.roles["root"].keyids.append(twin.keyid)
    root.roles["root"].threshold = 2
    plant(fleet, "root", root)
    with pytest.raises(TrustError, match="a key of a kind that is not made here"):
        shown(fleet)


def test_a_class_role_delegates_nothing(fleet: SmallFleet, stranger: Key) -> None:
    signed: Targets = copy.deepcopy(current(fleet).metadata[f"class-{PI}"].signed)
    helper = DelegatedRole("helper", [stranger.keyid], 1, terminating=False, paths=["artifacts/*"])
    signed.delegations = Delegations({stranger.keyid: stranger}, {"helper": helper})
    plant(fleet, f"class-{PI}", signed)
    with pytest.raises(TrustError, match="delegate what is theirs to others"):
        shown(fleet)


@pytest.mark.parametrize("role", ["root", "targets", "rollout"])
def test_fields_nobody_knows_are_not_signed(fleet: SmallFleet, role: str) -> None:
    signed = copy.deepcopy(current(fleet).metadata[role].signed)
    signed.unrecognized_fields["x-more"] = "power"
    plant(fleet, role, signed)
    with pytest.raises(TrustError, match="say 'x-more', which is not ours to sign"):
        shown(fleet)


def test_a_role_that_nobody_delegates_to_is_one_sentence(fleet: SmallFleet) -> None:
    plant(fleet, "class-nobody", Targets())
    with pytest.raises(TrustError, match="targets delegates nothing to"):
        shown(fleet)


@pytest.mark.parametrize(
    ("role", "path"),
    [
        ("targets", "trust/../../escaped/policy.json"),
        ("rollout", "/tmp/assignment.json"),
        ("rollout", "rollout/other.json"),
    ],
)
def test_a_staged_file_has_one_of_our_names(fleet: SmallFleet, role: str, path: str) -> None:
    signed = copy.deepcopy(current(fleet).metadata[role].signed)
    signed.targets[path] = TargetFile.from_data(path, b"x", ["sha256"])
    plant(fleet, role, signed)
    with pytest.raises(TrustError, match=f"no fleet's {role} do"):
        shown(fleet)


def test_signing_on_a_memory_stick_removes_nothing_of_its_owner(fleet: SmallFleet, tmp_path: Path) -> None:
    (fleet.keys / "root.key").rename(tmp_path / "root.key")
    rotate(fleet.workspace, ["timestamp"], now=fleet.now)
    stick = fleet.metadata / "staged"
    kept = [stick / "photo.jpg", stick / "trust/notes.txt", stick / "thesis/chapter.json"]
    for file in kept:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"mine")
    (tmp_path / "root.key").rename(fleet.keys / "root.key")
    sign(fleet.workspace, folder=stick, now=fleet.now)
    refresh(fleet.workspace, now=fleet.now)
    assert [file.read_bytes() for file in kept] == [b"mine"] * 3
    assert not (stick / "root.json").exists()


def test_a_signature_under_the_name_of_our_key_does_not_vouch_for_anything(fleet: SmallFleet) -> None:
    signer = CryptoSigner.generate_ed25519()
    signer.public_key.unrecognized_fields[KEY_NAME_FIELD] = "root"
    planted = with_root_role(copy.deepcopy(current(fleet).root), "root", Holders(1, [signer.public_key]))
    planted.version = 2
    metadata = Metadata(planted)
    metadata.sign(signer)
    (fleet.metadata / "staged").mkdir()
    (fleet.metadata / "staged/root.json").write_bytes(metadata.to_bytes())
    rotate(fleet.workspace, ["timestamp"], now=fleet.now)
    staged = Metadata.from_file(str(fleet.metadata / "staged/root.json"))
    assert keys_of(fleet, "root", "root")[0] not in staged.signatures


def test_a_class_can_be_added_while_other_keys_of_targets_wait_for_root(
    fleet: SmallFleet, tmp_path: Path
) -> None:
    (fleet.keys / "root.key").rename(tmp_path / "root.key")
    rotate(fleet.workspace, ["targets"], now=fleet.now)
    fleet.classes = (*fleet.classes, "jetson")
    fleet.publish("digit-reader", "jetson", "1.0.0")
    assert fleet.release().versions["class-jetson"] == 1


def test_the_first_root_names_the_keys_that_fleet_yaml_names(tmp_path: Path) -> None:
    """It is signed by keys it names itself: whoever plants one would hold the fleet for ever."""
    fleet = SmallFleet(tmp_path / "fleet")
    fleet.publish_all("1.0.0")
    initialise(fleet.workspace, now=fleet.now)
    path = fleet.metadata / "staged/root.json"
    signer = CryptoSigner.generate_ed25519()
    planted = with_root_role(Metadata.from_file(str(path)).signed, "root", Holders(1, [signer.public_key]))
    metadata = Metadata(planted)
    metadata.sign(signer)
    path.write_bytes(metadata.to_bytes())
    with pytest.raises(TrustError, match="the staged root names other keys for root than fleet.yaml"):
        fleet.release()
    assert not (fleet.root / "registry/tuf").exists()
