"""Somebody who can write into `staged/` and holds no key gets no signature that a person did not give."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import Metadata, TargetFile, Targets

from edgewright.errors import TrustError
from edgewright.trust.delegation import Holders, with_delegated_role, with_root_role
from edgewright.trust.publication import refresh
from edgewright.trust.repository import Current, MetadataFolder
from edgewright.trust.rotation import rotate
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
