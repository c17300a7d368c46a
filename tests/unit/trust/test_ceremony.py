"""Keys in several hands: what is staged, who signs it where, and when devices see it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from edgewright.errors import TrustError
from edgewright.trust.ceremony import Review, exported_root, initialise, renew, sign
from edgewright.trust.keys import create_key, create_keys
from edgewright.trust.publication import refresh
from edgewright.trust.rotation import rotate
from edgewright.trust.status import inspect
from edgewright_agent.contract import artifact_target
from unit.trust.fleet import DAY, Device, SmallFleet

PI = "raspberry-pi-4"
ROOTS = ("root-a", "root-b", "root-c")
TWO_OF_THREE = {"roles": {"root": {"threshold": 2, "keys": ROOTS}}}


class Site:
    """One fleet, several machines: keys are moved between a drawer and the machine that runs."""

    def __init__(self, folder: Path, trust: dict[str, Any]) -> None:
        self.drawer = folder / "drawer"
        self.drawer.mkdir()
        self.fleet = SmallFleet(folder / "fleet", trust=trust)
        self.keys = self.fleet.keys

    def only(self, *names: str) -> None:
        """Become the machine that has just these private halves."""
        for path in self.keys.glob("*.key"):
            path.rename(self.drawer / path.name)
        for name in names:
            (self.drawer / f"{name}.key").rename(self.keys / f"{name}.key")


ONLINE = ("artifacts", "rollout", "snapshot", "timestamp")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path, TWO_OF_THREE)
    site.fleet.publish_all("1.0.0")
    return site


@pytest.fixture
def fleet(tmp_path: Path) -> SmallFleet:
    fleet = SmallFleet(tmp_path / "fleet")
    fleet.publish_all("1.0.0")
    return fleet


def staged_names(fleet: SmallFleet) -> list[str]:
    return sorted(path.name for path in (fleet.metadata / "staged").glob("*.json"))


def published(fleet: SmallFleet) -> list[str]:
    index = json.loads((fleet.root / "registry/tuf/index.json").read_bytes())
    return [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]]


def ceremony(fleet: SmallFleet) -> dict[str, tuple[str, ...]]:
    _, added = sign(fleet.workspace, now=fleet.now)
    return dict(added)


def test_a_threshold_of_two_is_met_on_two_machines(site: Site, tmp_path: Path) -> None:
    site.only("root-a", "targets")
    first = initialise(site.fleet.workspace, now=site.fleet.now)
    assert [(one.role, one.complete, one.missing) for one in first.signing] == [
        ("root", False, 1),
        ("targets", True, 0),
    ]
    site.only("root-c")
    assert ceremony(site.fleet) == {"root": ("root-c",)}
    site.only(*ONLINE)
    assert site.fleet.release().versions["root"] == 1
    assert staged_names(site.fleet) == []
    assert Device(site.fleet, tmp_path / "device").assignment()["release"] == "r1"


def test_below_its_threshold_nothing_is_published(site: Site) -> None:
    site.only("root-a", "targets")
    initialise(site.fleet.workspace, now=site.fleet.now)
    site.only("root-a", *ONLINE)
    with pytest.raises(TrustError, match=r"root 1 needs 1 more signature of root-b \(.*root-c \(") as caught:
        site.fleet.release()
    assert "edgewright trust sign" in str(caught.value.hint)
    assert not (site.fleet.metadata / "timestamp.json").exists()
    assert not (site.fleet.root / "registry/tuf").exists()
    with pytest.raises(TrustError, match="no root with all its signatures"):
        exported_root(site.fleet.workspace)


def test_the_same_key_does_not_count_twice(site: Site) -> None:
    site.only("root-a", "targets")
    initialise(site.fleet.workspace, now=site.fleet.now)
    with pytest.raises(
        TrustError, match="no key here is asked: the signatures of root-b, root-c are missing"
    ):
        ceremony(site.fleet)


def test_one_key_under_two_names_does_not_count_twice_either(site: Site) -> None:
    for kind in ("key", "pub"):
        shutil.copy(site.keys / f"root-a.{kind}", site.keys / f"root-b.{kind}")
    with pytest.raises(TrustError, match="root-a and root-b are one key"):
        site.fleet.release()


def test_what_is_staged_travels_as_a_folder(site: Site, tmp_path: Path) -> None:
    site.only("root-a", "targets")
    initialise(site.fleet.workspace, now=site.fleet.now)
    stick = tmp_path / "stick"
    shutil.move(site.fleet.metadata / "staged", stick)
    site.only("root-b")
    done, added = sign(site.fleet.workspace, folder=stick, now=site.fleet.now)
    assert (done.folder, dict(added)) == (stick, {"root": ("root-b",)})
    shutil.move(stick, site.fleet.metadata / "staged")
    site.only(*ONLINE)
    assert site.fleet.release().is_new


def test_with_every_key_at_hand_a_release_needs_no_ceremony(site: Site, tmp_path: Path) -> None:
    site.fleet.release()
    root = Metadata.from_file(str(site.fleet.metadata / "1.root.json"))
    assert root.signed.roles["root"].threshold == 2
    assert Device(site.fleet, tmp_path / "device").assignment()["release"] == "r1"


def test_root_can_be_exported_as_soon_as_it_has_its_signatures(site: Site) -> None:
    initialise(site.fleet.workspace, now=site.fleet.now)
    version, body = exported_root(site.fleet.workspace)
    site.fleet.release()
    assert version == 1 and body == (site.fleet.metadata / "1.root.json").read_bytes()


def test_signing_shows_old_and_new_keys_before(fleet: SmallFleet) -> None:
    fleet.release()
    rotate(fleet.workspace, ["timestamp"], now=fleet.now)
    root = fleet.metadata / "staged/root.json"
    unsigned = Metadata.from_file(str(root))
    unsigned.signatures.clear()
    unsigned.to_file(str(root))
    seen: list[Review] = []

    def refuse(reviews: Any) -> bool:
        seen.extend(reviews)
        return False

    _, added = sign(fleet.workspace, confirm=refuse, now=fleet.now)
    assert added == {} and Metadata.from_file(str(root)).signatures == {}
    assert [review.signers for review in seen] == [("root",)]
    assert any(line.startswith("timestamp: 1 of timestamp (") and "→ 1 of timestamp-2 (" in line
               for line in seen[0].changes)  # fmt: skip
    assert "believed until 2027-01-01 → 2027-01-01" in seen[0].changes


# --- what release needs, and what it does not ---------------------------------------------------------------------


def test_a_release_needs_neither_root_nor_targets(fleet: SmallFleet, tmp_path: Path) -> None:
    fleet.release()
    device = Device(fleet, tmp_path / "device")
    for name in ("root", "targets"):
        (fleet.root / f".edgewright/keys/{name}.key").unlink()
    fleet.publish("digit-reader", PI, "1.1.0")
    assert fleet.release().is_new
    assert device.assignment()["release"] == "r2"


def test_a_new_class_is_staged_for_the_holder_of_targets(site: Site, tmp_path: Path) -> None:
    site.fleet.release()
    device = Device(site.fleet, tmp_path / "device")
    site.only(*ONLINE)
    before = published(site.fleet)
    site.fleet.classes = (*site.fleet.classes, "jetson")
    site.fleet.publish("digit-reader", "jetson", "1.0.0")
    with pytest.raises(
        TrustError, match=r"nothing is published: targets 2 needs 1 more signature of targets"
    ):
        site.fleet.release()
    assert staged_names(site.fleet) == ["targets.json"] and published(site.fleet) == before
    site.only("targets")
    assert ceremony(site.fleet) == {"targets": ("targets",)}
    site.only(*ONLINE)
    outcome = site.fleet.release()
    assert outcome.versions["targets"] == 2 and outcome.versions["class-jetson"] == 1
    lane = site.fleet.lanes["digit-reader"]["jetson"]
    assert device.artifact(artifact_target("digit-reader", "jetson", lane.digest)) is not None


def test_a_changed_policy_is_staged_for_the_holder_of_targets(site: Site) -> None:
    site.fleet.release()
    site.only(*ONLINE)
    replacement = site.fleet.root / ".edgewright/keys/replacement"
    create_keys(replacement)
    (replacement / "signing.pub").replace(site.keys / "signing.pub")
    with pytest.raises(TrustError, match="targets 2 needs"):
        site.fleet.release()
    seen: list[Review] = []
    site.only("targets")
    sign(site.fleet.workspace, confirm=lambda reviews: not seen.extend(reviews), now=site.fleet.now)
    assert any(line.startswith("document trust/policy.json: ") for line in seen[0].changes)
    site.only(*ONLINE)
    assert site.fleet.release().versions["targets"] == 2


def test_a_staged_change_does_not_hold_up_releases_that_do_not_need_it(site: Site) -> None:
    site.fleet.release()
    site.only("root-a", *ONLINE)
    rotate(site.fleet.workspace, ["timestamp"], now=site.fleet.now)
    site.fleet.publish("digit-reader", PI, "1.1.0")
    outcome = site.fleet.release()
    assert outcome.is_new and outcome.versions["root"] == 1
    assert any("root 2 is staged and waits for 1 more signature" in note for note in outcome.notes)
    site.only("root-b")
    ceremony(site.fleet)
    site.only("timestamp-2", *ONLINE)
    assert site.fleet.release().versions["root"] == 2


def test_what_waits_for_a_signature_does_not_let_the_rest_go_stale(site: Site, tmp_path: Path) -> None:
    site.fleet.release()
    device = Device(site.fleet, tmp_path / "device")
    site.only(*ONLINE)
    site.fleet.classes = (*site.fleet.classes, "jetson")
    site.fleet.now += 6 * DAY
    with pytest.raises(TrustError, match="targets 2 needs"):
        site.fleet.release()
    refresh(site.fleet.workspace, now=site.fleet.now)
    site.fleet.now += 6 * DAY
    assert device.assignment()["release"] == "r1"
    assert staged_names(site.fleet) == ["targets.json"]


def test_rollouts_can_need_two_people(tmp_path: Path) -> None:
    site = Site(tmp_path, {"roles": {"rollout": {"threshold": 2, "keys": ("alice", "bob")}}})
    site.fleet.publish_all("1.0.0")
    site.fleet.release()
    device = Device(site.fleet, tmp_path / "device")
    site.only("alice", "artifacts", "snapshot", "timestamp")
    site.fleet.publish("digit-reader", PI, "1.1.0")
    with pytest.raises(TrustError, match="rollout 2 needs 1 more signature of bob"):
        site.fleet.release()
    assert device.assignment()["release"] == "r1"
    site.only("bob")
    seen: list[Review] = []
    sign(site.fleet.workspace, confirm=lambda reviews: not seen.extend(reviews), now=site.fleet.now)
    assert "release r1 → r2" in seen[0].changes
    assert any(line.startswith(f"all: digit-reader on {PI}: ") for line in seen[0].changes)
    site.only("alice", "artifacts", "snapshot", "timestamp")
    assert site.fleet.release().release == "r2"
    assert device.assignment()["release"] == "r2"


# --- rotation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp", "rollout", "artifacts"])
def test_every_role_can_get_a_new_key_and_devices_follow(
    fleet: SmallFleet, tmp_path: Path, role: str
) -> None:
    fleet.release()
    device = Device(fleet, tmp_path / "device")
    device.assignment()
    assert rotate(fleet.workspace, [role], now=fleet.now).made == (f"{role}-2",)
    if role != "root":
        (fleet.root / f".edgewright/keys/{role}.key").unlink()
    refresh(fleet.workspace, now=fleet.now)
    if role == "root":
        (fleet.root / ".edgewright/keys/root.key").unlink()
    fleet.publish("digit-reader", PI, "1.1.0")
    fleet.release()
    assert device.assignment()["release"] == "r2"
    lane = fleet.lanes["digit-reader"][PI]
    assert device.artifact(artifact_target("digit-reader", PI, lane.digest)) is not None


def test_a_new_root_is_signed_by_the_old_keys_and_the_new_ones(fleet: SmallFleet, tmp_path: Path) -> None:
    fleet.release()
    device = Device(fleet, tmp_path / "device")
    rotate(fleet.workspace, ["root"], add=["spare"], threshold=2, now=fleet.now)
    refresh(fleet.workspace, now=fleet.now)
    rotate(fleet.workspace, ["root"], remove=["root"], add=["third"], now=fleet.now)
    refresh(fleet.workspace, now=fleet.now)
    newest = Metadata.from_file(str(fleet.metadata / "3.root.json"))
    assert newest.signed.roles["root"].threshold == 2 and len(newest.signatures) == 3
    device.assignment()
    assert "3.root.json" in device.fetched


def test_a_root_that_only_its_new_keys_signed_is_not_taken_over(fleet: SmallFleet) -> None:
    fleet.release()
    (fleet.root / ".edgewright/keys/root.key").unlink()
    done = rotate(fleet.workspace, ["root"], now=fleet.now)
    assert [(one.complete, one.missing) for one in done.signing] == [(False, 1)]
    assert refresh(fleet.workspace, now=fleet.now).current.versions["root"] == 1


def test_a_key_that_signs_for_another_role_as_well_is_not_forgotten(tmp_path: Path) -> None:
    online = {"keys": ("online",)}
    fleet = SmallFleet(tmp_path / "fleet", trust={"roles": {"snapshot": online, "timestamp": online}})
    fleet.publish_all("1.0.0")
    fleet.release()
    fleet.trust = {}
    done = rotate(fleet.workspace, ["timestamp"], now=fleet.now)
    assert done.notes == ("online still signs snapshot",)
    assert rotate(fleet.workspace, ["snapshot"], now=fleet.now).notes == ()


def test_a_revoked_key_signs_nothing_any_more(fleet: SmallFleet) -> None:
    fleet.release()
    keys = fleet.root / ".edgewright/keys"
    rotate(fleet.workspace, ["rollout", "artifacts"], now=fleet.now)
    refresh(fleet.workspace, now=fleet.now)
    (keys / "rollout-2.key").unlink()
    fleet.publish("digit-reader", PI, "1.1.0")
    with pytest.raises(TrustError, match="rollout 3 needs 1 more signature of rollout-2"):
        fleet.release()


def test_a_new_class_does_not_bring_a_revoked_key_back(fleet: SmallFleet, tmp_path: Path) -> None:
    fleet.release()
    rotate(fleet.workspace, ["artifacts"], now=fleet.now)
    refresh(fleet.workspace, now=fleet.now)  # `artifacts` stays in the folder: it was stolen, not lost
    fleet.classes = (*fleet.classes, "jetson")
    lane = fleet.publish("digit-reader", "jetson", "1.0.0")
    fleet.release()
    assert {
        one.role: [key.name for key in one.keys] for one in inspect(fleet.workspace, now=fleet.now).roles
    }["class-jetson"] == ["artifacts-2"]
    device = Device(fleet, tmp_path / "device")
    assert device.artifact(artifact_target("digit-reader", "jetson", lane)) is not None


def test_a_new_class_gets_no_key_when_nobody_can_say_which_is_shared(fleet: SmallFleet) -> None:
    create_key(fleet.root / ".edgewright/keys", "pi-line", None)
    fleet.trust = {"roles": {"classes": {PI: {"keys": ("pi-line",)}}}}
    fleet.release()
    fleet.trust, fleet.classes = {}, (*fleet.classes, "jetson")
    fleet.publish("digit-reader", "jetson", "1.0.0")
    with pytest.raises(TrustError, match="signed by different ones"):
        fleet.release()
    rotate(fleet.workspace, ["artifacts"], now=fleet.now)
    assert fleet.release().is_new


def test_keys_that_fleet_yaml_names_are_changed_there(fleet: SmallFleet) -> None:
    fleet.trust = {"roles": {"timestamp": {"keys": ("timestamp",)}}}
    fleet.release()
    with pytest.raises(TrustError, match="are the ones that sign it already"):
        rotate(fleet.workspace, ["timestamp"], now=fleet.now)
    with pytest.raises(TrustError, match="fleet.yaml says who signs timestamp"):
        rotate(fleet.workspace, ["timestamp"], add=["clock"], now=fleet.now)
    create_key(fleet.root / ".edgewright/keys", "clock", None)
    fleet.trust = {"roles": {"timestamp": {"keys": ("clock",)}}}
    rotate(fleet.workspace, ["timestamp"], now=fleet.now)
    (fleet.root / ".edgewright/keys/timestamp.key").unlink()
    assert refresh(fleet.workspace, now=fleet.now).current.versions["root"] == 2


def test_a_class_can_have_its_own_keys(fleet: SmallFleet, tmp_path: Path) -> None:
    create_key(fleet.root / ".edgewright/keys", "pi-line", None)
    fleet.trust = {"roles": {"classes": {PI: {"keys": ("pi-line",)}}}}
    fleet.release()
    (fleet.root / ".edgewright/keys/artifacts.key").unlink()
    fleet.publish("digit-reader", PI, "1.1.0")
    fleet.release()
    assert Device(fleet, tmp_path / "device").assignment()["release"] == "r2"
    fleet.publish("digit-reader", "medical-cart-cpu", "1.1.0")
    with pytest.raises(TrustError, match="class-medical-cart-cpu 2 needs 1 more signature of artifacts"):
        fleet.release()


@pytest.mark.parametrize(
    ("roles", "options", "said"),
    [
        (["nonsense"], {}, "there is no role 'nonsense'"),
        ([f"class-{PI}"], {}, "signed by the keys that sign for every class"),
        (["timestamp", "snapshot"], {"add": ["x"]}, "are about one role"),
        (["timestamp"], {"remove": ["root"]}, "root is none of the keys of timestamp"),
        (["timestamp"], {"remove": ["timestamp"]}, "timestamp would have 0 of the 1 keys"),
        (["timestamp"], {"add": ["timestamp"]}, "timestamp signs timestamp already"),
        (["timestamp"], {"threshold": 2}, "would have 1 of the 2 keys"),
    ],
)
def test_a_rotation_that_makes_no_sense_changes_nothing(
    fleet: SmallFleet, roles: list[str], options: dict[str, Any], said: str
) -> None:
    fleet.release()
    keys = sorted((fleet.root / ".edgewright/keys").iterdir())
    with pytest.raises(TrustError, match=said):
        rotate(fleet.workspace, roles, now=fleet.now, **options)
    assert staged_names(fleet) == [] and sorted((fleet.root / ".edgewright/keys").iterdir()) == keys


def test_offline_roles_are_renewed_where_their_keys_are(site: Site, tmp_path: Path) -> None:
    site.fleet.release()
    device = Device(site.fleet, tmp_path / "device")
    site.fleet.now += 200 * DAY
    site.only("root-a", "root-b")
    renew(site.fleet.workspace, "root", now=site.fleet.now)
    site.only("targets")
    renew(site.fleet.workspace, "targets", now=site.fleet.now)
    site.only(*ONLINE)
    outcome = refresh(site.fleet.workspace, now=site.fleet.now)
    assert (outcome.current.versions["root"], outcome.current.versions["targets"]) == (2, 2)
    assert device.assignment()["release"] == "r1"
    with pytest.raises(TrustError, match="edgewright trust refresh|not a role that is renewed"):
        renew(site.fleet.workspace, "timestamp", now=site.fleet.now)


def test_refresh_changes_no_content(fleet: SmallFleet) -> None:
    first = fleet.release()
    outcome = refresh(fleet.workspace, now=fleet.now + DAY)
    assert outcome.written == ("2.snapshot.json", "timestamp.json")
    unchanged = {
        role: version for role, version in first.versions.items() if role not in ("snapshot", "timestamp")
    }
    assert {role: outcome.current.versions[role] for role in unchanged} == unchanged


def test_timestamp_says_when_it_was_signed(fleet: SmallFleet) -> None:
    fleet.release()
    refresh(fleet.workspace, now=fleet.now + DAY)
    signed = json.loads((fleet.metadata / "timestamp.json").read_bytes())["signed"]
    assert signed["x-edgewright-issued"] == "2026-01-02T00:00:00Z"


def test_before_the_first_release_there_is_nothing_to_refresh_or_rotate(fleet: SmallFleet) -> None:
    for action in (refresh, lambda workspace: rotate(workspace, ["root"])):
        with pytest.raises(TrustError, match="nothing has been released yet"):
            action(fleet.workspace)


def test_init_begins_once(fleet: SmallFleet) -> None:
    initialise(fleet.workspace, now=fleet.now)
    with pytest.raises(TrustError, match="staged already"):
        initialise(fleet.workspace, now=fleet.now)
    fleet.release()
    with pytest.raises(TrustError, match="has its metadata already"):
        initialise(fleet.workspace, now=fleet.now)
