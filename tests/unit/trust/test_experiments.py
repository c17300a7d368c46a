"""Experiments in fleet.yaml: what is compared with what, and what becomes of it in a release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgewright.cli.release import render
from edgewright.errors import GateError
from edgewright_agent.contract import artifact_target
from unit.trust.fleet import Device, SmallFleet

PI, CART = "raspberry-pi-4", "medical-cart-cpu"


def groups(**experiment: Any) -> tuple[dict[str, Any], ...]:
    told = {"name": "wider", "kind": "shadow", "share": "25%", **experiment}
    return ({"name": "all", "models": ({"model": "digit-reader", "pin": "1.0.0", "experiment": told},)},)


@pytest.fixture
def fleet(tmp_path: Path) -> SmallFleet:
    fleet = SmallFleet(tmp_path / "fleet")
    fleet.publish_all("1.0.0")
    fleet.release()
    fleet.publish("digit-reader", PI, "1.1.0")
    return fleet


def test_devices_learn_what_runs_beside_the_pinned_version(fleet: SmallFleet, tmp_path: Path) -> None:
    fleet.groups = groups()
    outcome = fleet.release()
    device = Device(fleet, tmp_path / "device")
    artifacts = device.assignment()["groups"][0]["models"]["digit-reader"]["artifacts"]
    assert artifacts[PI]["modelVersion"] == "1.0.0"
    newest = fleet.lanes["digit-reader"][PI]
    assert artifacts[PI]["experiment"] == {
        "name": "wider",
        "kind": "shadow",
        "share": 0.25,
        "digest": newest.digest,
        "size": newest.size,
        "modelVersion": "1.1.0",
    }
    assert "experiment" not in artifacts[CART], "it has no other version to compare with"
    assert "wider: 1.1.0" in render(outcome) and "shadow on 0.25 of the requests" in render(outcome)


def test_both_versions_are_approved_together_so_that_neither_is_a_rollback(
    fleet: SmallFleet, tmp_path: Path
) -> None:
    fleet.groups = groups(kind="ab")
    fleet.release()
    device = Device(fleet, tmp_path / "device")
    artifact = device.assignment()["groups"][0]["models"]["digit-reader"]["artifacts"][PI]
    sequences = set()
    for digest in (artifact["digest"], artifact["experiment"]["digest"]):
        target = device.artifact(artifact_target("digit-reader", PI, digest))
        assert target is not None and target.custom is not None
        sequences.add(target.custom["sequence"])
    assert len(sequences) == 1


def test_a_version_that_was_never_released_cannot_be_compared(fleet: SmallFleet) -> None:
    fleet.groups = groups(version="9.9.9")
    with pytest.raises(GateError, match=r"compares digit-reader with 9\.9\.9, which was never released"):
        fleet.release()


def test_a_version_that_only_a_former_class_has_cannot_be_compared(fleet: SmallFleet) -> None:
    fleet.publish("digit-reader", CART, "1.2.0")
    fleet.release()
    fleet.classes = (PI,)
    del fleet.lanes["digit-reader"][CART]
    fleet.groups = groups(version="1.2.0")
    with pytest.raises(GateError, match=f"which was released for {CART} and not for {PI}$") as caught:
        fleet.release()
    assert caught.value.hint == f"released for {PI}: 1.0.0, 1.1.0"


def test_an_experiment_that_is_over_is_gone_from_the_next_release(fleet: SmallFleet) -> None:
    fleet.groups = groups()
    assert len(fleet.release().experiments) == 1
    fleet.groups = ({"name": "all", "models": ({"model": "digit-reader", "pin": "1.0.0"},)},)
    outcome = fleet.release()
    assert outcome.is_new and outcome.experiments == ()
