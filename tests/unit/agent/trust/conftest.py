"""Fixtures of the trust tests: a fleet's metadata, and a device that reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.agent.transport.shelf import Shelf
from unit.agent.trust.tuf_device import Device
from unit.agent.trust.tuf_fleet import TufFleet


@pytest.fixture
def fleet(tmp_path: Path) -> TufFleet:
    """A fleet that has published its first release."""
    made = TufFleet(Shelf(tmp_path / "release"))
    made.publish()
    return made


@pytest.fixture
def device(tmp_path: Path, fleet: TufFleet) -> Device:
    """A device of its class `raspberry-pi-4` that has seen nothing yet."""
    return Device(tmp_path / "state" / "tuf", fleet.root_bytes, f"oci:{fleet.shelf.root}")
