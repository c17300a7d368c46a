"""What somebody put into `staged/` is looked at before anybody signs it, and a metadata folder before it is used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Metadata, TargetFile

from edgewright.errors import TrustError
from edgewright.trust.ceremony import renew, sign
from edgewright.trust.publication import refresh
from edgewright.trust.repository import MetadataFolder
from edgewright.trust.rotation import rotate
from unit.trust.fleet import DAY, Device, SmallFleet

PI = "raspberry-pi-4"


@pytest.fixture
def fleet(tmp_path: Path) -> SmallFleet:
    """A fleet whose targets role waits for the signature of a key that is away."""
    fleet = SmallFleet(tmp_path / "fleet")
    fleet.publish_all("1.0.0")
    fleet.release()
    (fleet.keys / "targets.key").rename(tmp_path / "targets.key")
    renew(fleet.workspace, "targets", now=fleet.now + DAY)
    (tmp_path / "targets.key").rename(fleet.keys / "targets.key")
    return fleet


def tamper(fleet: SmallFleet, change: Callable[[Metadata[Any]], object], role: str = "targets") -> None:
    path = str(fleet.metadata / f"staged/{role}.json")
    metadata: Metadata[Any] = Metadata.from_file(path)
    change(metadata)
    metadata.to_file(path)


def wider(metadata: Metadata[Any]) -> None:
    metadata.signed.delegations.roles[f"class-{PI}"].paths = ["artifacts/*"]


def stranger(metadata: Metadata[Any]) -> None:
    signer = CryptoSigner.generate_ed25519()
    role = DelegatedRole("helper", [], 1, terminating=False, paths=["*"])
    metadata.signed.delegations.roles["helper"] = role
    metadata.signed.add_key(signer.public_key, "helper")


def not_terminating(metadata: Metadata[Any]) -> None:
    metadata.signed.delegations.roles["rollout"].terminating = False


def artifact(metadata: Metadata[Any]) -> None:
    path = f"artifacts/digit-reader/{PI}/{'0' * 64}"
    metadata.signed.targets[path] = TargetFile(1, {"sha256": "0" * 64}, path)


def foreign_signature(metadata: Metadata[Any]) -> None:
    metadata.sign(CryptoSigner.generate_ed25519(), append=True)


def version(number: int) -> Callable[[Metadata[Any]], None]:
    def change(metadata: Metadata[Any]) -> None:
        metadata.signed.version = number

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (wider, r"delegate \['artifacts/\*'\] to 'class-raspberry-pi-4'"),
        (stranger, r"delegate \['\*'\] to 'helper'"),
        (not_terminating, "to 'rollout', which is not ours to sign"),
        (artifact, "which no fleet's targets do"),
        (foreign_signature, "carries a signature of"),
        (version(1), "is version 1, but what is current is version 1"),
        (version(3), "is version 3, but what is current is version 1"),
    ],
)
def test_nobody_signs_what_a_fleet_would_not_say(
    fleet: SmallFleet, change: Callable[[Metadata[Any]], object], said: str
) -> None:
    tamper(fleet, change)
    for action in (sign, refresh):
        with pytest.raises(TrustError, match=said):
            action(fleet.workspace, now=fleet.now)
    assert MetadataFolder(fleet.metadata).read()


def test_a_signature_for_another_text_does_not_count(fleet: SmallFleet) -> None:
    sign(fleet.workspace, now=fleet.now)
    tamper(
        fleet,
        lambda metadata: setattr(metadata.signed, "expires", metadata.signed.expires.replace(year=2099)),
    )
    with pytest.raises(TrustError, match="or not for this text"):
        refresh(fleet.workspace, now=fleet.now)


@pytest.mark.parametrize("name", ["timestamp", "snapshot", "mirrors"])
def test_only_what_may_wait_is_read_from_there(fleet: SmallFleet, name: str) -> None:
    shutil.copy(fleet.metadata / "timestamp.json", fleet.metadata / f"staged/{name}.json")
    with pytest.raises(TrustError, match=f"{name}.json is not something that waits for signatures"):
        sign(fleet.workspace, now=fleet.now)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"signed": {}, "signatures": []}', b"{" * 100000, b"\xff"]
)
def test_rubbish_is_one_sentence(fleet: SmallFleet, body: bytes) -> None:
    (fleet.metadata / "staged/targets.json").write_bytes(body)
    with pytest.raises(TrustError, match=r"targets\.json is not TUF metadata"):
        sign(fleet.workspace, now=fleet.now)


def test_root_metadata_is_no_targets_metadata(fleet: SmallFleet) -> None:
    shutil.copy(fleet.metadata / "1.root.json", fleet.metadata / "staged/targets.json")
    with pytest.raises(TrustError, match="holds root metadata"):
        sign(fleet.workspace, now=fleet.now)


def test_a_document_comes_with_what_is_to_be_signed(fleet: SmallFleet, tmp_path: Path) -> None:
    other = SmallFleet(tmp_path / "other")
    (other.keys / "signing.pub").replace(fleet.keys / "signing.pub")
    shutil.rmtree(fleet.metadata / "staged")
    (fleet.keys / "targets.key").rename(tmp_path / "targets.key")
    with pytest.raises(TrustError, match="targets 2 needs"):
        fleet.release()
    (document,) = (fleet.metadata / "staged/trust").iterdir()
    whole = document.read_bytes()
    document.write_bytes(whole + b" ")
    with pytest.raises(TrustError, match="is not the file that is to be signed"):
        sign(fleet.workspace, now=fleet.now)
    document.unlink()
    with pytest.raises(TrustError, match="came without it"):
        sign(fleet.workspace, now=fleet.now)


def test_a_crash_before_clearing_away_leaves_nothing_to_repair(fleet: SmallFleet, tmp_path: Path) -> None:
    sign(fleet.workspace, now=fleet.now)
    shutil.copytree(fleet.metadata / "staged", tmp_path / "staged")
    refresh(fleet.workspace, now=fleet.now)
    shutil.copytree(tmp_path / "staged", fleet.metadata / "staged")
    assert refresh(fleet.workspace, now=fleet.now).current.versions["targets"] == 2


def test_a_crash_before_the_timestamp_leaves_the_former_root_in_force(
    fleet: SmallFleet, tmp_path: Path
) -> None:
    shutil.rmtree(fleet.metadata / "staged")
    rotate(fleet.workspace, ["snapshot"], now=fleet.now)
    before = (fleet.metadata / "timestamp.json").read_bytes()
    shutil.copytree(fleet.metadata / "staged", tmp_path / "staged")
    shutil.copytree(fleet.root / "registry", tmp_path / "registry")
    refresh(fleet.workspace, now=fleet.now)
    shutil.rmtree(fleet.root / "registry")
    shutil.copytree(tmp_path / "registry", fleet.root / "registry")
    (fleet.metadata / "timestamp.json").write_bytes(before)
    shutil.copytree(tmp_path / "staged", fleet.metadata / "staged")
    current = MetadataFolder(fleet.metadata).read()
    assert current is not None and current.root.version == 1
    refresh(fleet.workspace, now=fleet.now)
    assert Device(fleet, tmp_path / "device").assignment()["release"] == "r1"


@pytest.mark.parametrize(
    "name",
    [
        "1.root.json",
        "1.targets.json",
        f"1.class-{PI}.json",
        "1.rollout.json",
        "1.snapshot.json",
        "timestamp.json",
    ],
)
def test_every_file_of_the_folder_is_verified(fleet: SmallFleet, name: str) -> None:
    path = fleet.metadata / name
    document = json.loads(path.read_bytes())
    document["signed"]["expires"] = "2030-01-01T00:00:00Z"
    path.write_text(json.dumps(document))
    with pytest.raises(TrustError, match="is damaged"):
        fleet.release()


@pytest.mark.parametrize("kind", ["trust", "rollout"])
def test_every_document_of_the_folder_is_verified(fleet: SmallFleet, kind: str) -> None:
    (path,) = (fleet.metadata / kind).iterdir()
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(TrustError, match="is damaged"):
        fleet.release()


def test_a_role_below_its_threshold_is_damage(tmp_path: Path) -> None:
    fleet = SmallFleet(
        tmp_path / "fleet", trust={"roles": {"targets": {"threshold": 2, "keys": ("one", "two")}}}
    )
    fleet.publish_all("1.0.0")
    fleet.release()
    path = fleet.metadata / "1.targets.json"
    document = json.loads(path.read_bytes())
    document["signatures"].pop()
    path.write_text(json.dumps(document))
    with pytest.raises(TrustError, match="1/2"):
        fleet.release()


def test_the_layout_of_before_the_class_roles_says_what_to_do(fleet: SmallFleet) -> None:
    current = MetadataFolder(fleet.metadata).read()
    assert current is not None
    from edgewright.trust.keys import load_role_signer

    signers = {
        role: load_role_signer(fleet.keys, role, None) for role in ("targets", "snapshot", "timestamp")
    }
    targets, snapshot, timestamp = (current.metadata[role].signed for role in signers)
    targets.targets = {target.path: target for target in current.artifacts()}

    def put(role: str, signed: Any) -> bytes:
        metadata = Metadata(signed)
        metadata.sign(signers[role])
        name = "timestamp.json" if role == "timestamp" else f"1.{role}.json"
        (fleet.metadata / name).write_bytes(metadata.to_bytes())
        return metadata.to_bytes()

    from tuf.api.metadata import MetaFile

    snapshot.meta["targets.json"] = MetaFile.from_data(1, put("targets", targets), ["sha256"])
    timestamp.snapshot_meta = MetaFile.from_data(1, put("snapshot", snapshot), ["sha256"])
    put("timestamp", timestamp)
    with pytest.raises(TrustError, match="layout of an earlier Edgewright") as caught:
        fleet.release()
    assert "move that folder" in str(caught.value.hint)
