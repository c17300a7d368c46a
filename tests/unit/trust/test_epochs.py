"""The sequence of a lane: an approval epoch, so that what is no longer assigned cannot be assigned by a thief."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgewright.trust.repository import MetadataFolder
from unit.trust.fleet import SmallFleet

PI = "raspberry-pi-4"
CLINIC: dict[str, Any] = {
    "name": "clinic",
    "selector": {"matchLabels": {"site": "clinic"}},
    "models": ({"model": "digit-reader", "pin": "1.0.0"},),
}


@pytest.fixture
def fleet(tmp_path: Path) -> SmallFleet:
    fleet = SmallFleet(tmp_path / "fleet")
    fleet.publish_all("1.0.0")
    fleet.release()
    return fleet


def signed(fleet: SmallFleet, hardware_class: str = PI) -> dict[str, dict[str, Any]]:
    """Return version → custom data of what is signed for a class."""
    current = MetadataFolder(fleet.metadata).read()
    assert current is not None
    customs = [target.custom or {} for target in current.artifacts()]
    return {custom["modelVersion"]: custom for custom in customs if custom["hardwareClass"] == hardware_class}


def sequences(fleet: SmallFleet) -> dict[str, int]:
    return {version: int(custom["sequence"]) for version, custom in signed(fleet).items()}


def test_a_newer_build_is_a_later_epoch_and_the_older_keeps_its_own(fleet: SmallFleet) -> None:
    fleet.publish("digit-reader", PI, "1.1.0")
    fleet.release()
    assert sequences(fleet) == {"1.0.0": 1, "1.1.0": 2}


def test_an_intentional_rollback_is_a_higher_sequence_on_an_older_digest(fleet: SmallFleet) -> None:
    old = fleet.lanes["digit-reader"][PI].digest
    fleet.publish("digit-reader", PI, "2.0.0")
    fleet.release()
    fleet.groups = ({"name": "all", "models": ({"model": "digit-reader", "pin": "1.0.0"},)},)
    outcome = fleet.release()
    assert [change.new for change in outcome.changes if change.hardware_class == PI] == [old]
    assert sequences(fleet) == {"1.0.0": 3, "2.0.0": 2}
    assert (signed(fleet)["1.0.0"]["build"], signed(fleet)["2.0.0"]["build"]) == (1, 2)


def test_devices_move_between_a_pinned_and_an_unpinned_group(fleet: SmallFleet) -> None:
    fleet.groups = (CLINIC, *fleet.groups)
    fleet.publish("digit-reader", PI, "2.0.0")
    fleet.release()
    assert sequences(fleet) == {"1.0.0": 2, "2.0.0": 2}, "whatever a device had, the other is no step back"


def test_when_a_pin_is_lifted_what_it_held_is_left_behind(fleet: SmallFleet) -> None:
    fleet.groups = (CLINIC, *fleet.groups)
    fleet.publish("digit-reader", PI, "2.0.0")
    fleet.release()
    fleet.groups = fleet.groups[1:]
    fleet.release()
    assert sequences(fleet) == {"1.0.0": 2, "2.0.0": 3}


def test_a_release_that_leaves_a_lane_alone_leaves_its_epoch_alone(fleet: SmallFleet) -> None:
    fleet.publish("digit-reader", "medical-cart-cpu", "1.1.0")
    outcome = fleet.release()
    assert sequences(fleet) == {"1.0.0": 1}
    assert outcome.versions[f"class-{PI}"] == 1 and outcome.versions["class-medical-cart-cpu"] == 2
    fleet.groups = ({**fleet.groups[0], "selector": {"matchLabels": {"site": "lab"}}},)
    assert fleet.release().versions[f"class-{PI}"] == 1


def test_what_was_never_assigned_has_epoch_zero(fleet: SmallFleet) -> None:
    fleet.groups = ({"name": "all", "models": ({"model": "digit-reader", "pin": "1.0.0"},)},)
    fleet.publish("digit-reader", PI, "2.0.0")
    fleet.release()
    assert sequences(fleet) == {"1.0.0": 1, "2.0.0": 0}


def test_epochs_go_on_after_a_model_was_assigned_to_nobody(fleet: SmallFleet) -> None:
    assigned = fleet.groups
    fleet.publish("digit-reader", PI, "1.0.0", b"the second build")
    fleet.release()
    fleet.groups = ()
    for number in range(5):
        fleet.publish("digit-reader", PI, "1.0.0", f"unassigned {number}".encode())
        fleet.release()
    fleet.groups = assigned
    fleet.release()
    current = MetadataFolder(fleet.metadata).read()
    assert current is not None
    epochs = [
        target.custom["sequence"] for target in current.artifacts() if PI in target.path and target.custom
    ]
    assert max(epochs) == 3, "the numbers go on, although five builds nobody had came between"


def test_targets_say_which_engine_and_agent_they_need(fleet: SmallFleet) -> None:
    custom = signed(fleet)["1.0.0"]
    assert custom["runtime"] == {"engine": "onnxruntime", "version": ">=1.20,<2"}
    assert custom["minAgent"] == "0.1.0"
