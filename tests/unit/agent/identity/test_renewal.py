"""Renewal from an untrusted registry: what is put in place, what never is, and what it costs a poll."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from edgewright.devices.certify import _publish
from edgewright.devices.issued import Entry
from edgewright_agent.contract import DEVICE_CERTIFICATES, MAX_CERTIFICATE_BYTES
from edgewright_agent.files import Calls, Disk
from edgewright_agent.identity.renewal import Renewal, renew
from edgewright_agent.identity.validity import renewal_due
from edgewright_agent.metered import Metered, Traffic
from edgewright_agent.transport import open_source
from unit.agent.transport.shelf import Shelf
from unit.devices.plant import DAY, Device, Plant

PEM = serialization.Encoding.PEM


@pytest.fixture
def pump(plant: Plant) -> Device:
    """An enrolled device with a certificate that is due, and a newer one waiting for it."""
    device = plant.device("pump-7")
    plant.enroll(device)
    device.install(plant.certify().issued[0].pem)
    plant.now += 61 * DAY
    return device


def ask(plant: Plant, pump: Device, disk: Disk | None = None) -> Renewal:
    source = open_source(pump.source)
    return renew(pump.config, pump.identity, source, disk or Disk(), now=plant.now)


def test_a_device_takes_what_the_fleet_published_for_it(plant: Plant, pump: Device) -> None:
    fresh = plant.certify().issued[0]
    assert ask(plant, pump).code == "renewed"
    assert pump.identity.certificate.read_bytes() == fresh.pem
    assert not renewal_due(pump.identity, pump.config.state, plant.now)


def test_a_device_fetches_even_its_first_certificate(plant: Plant) -> None:
    device = plant.device("pump-8")
    plant.enroll(device)
    plant.certify()
    assert ask(plant, device).code == "renewed"


def test_whoever_knows_that_a_certificate_is_there_need_not_wait(plant: Plant) -> None:
    device = plant.device("pump-8")
    assert ask(plant, device).code == "not-found"  # asked before the fleet had issued it
    assert not renewal_due(device.identity, device.config.state, plant.now)
    assert renewal_due(device.identity, device.config.state, plant.now, again=True)
    plant.enroll(device)
    device.install(plant.certify().issued[0].pem)
    assert not renewal_due(device.identity, device.config.state, plant.now, again=True)


def test_nothing_newer_changes_nothing_and_costs_two_requests_a_day(plant: Plant, pump: Device) -> None:
    before = pump.identity.certificate.read_bytes()
    traffic = Traffic()
    source = Metered(open_source(pump.source), traffic)
    done = renew(pump.config, pump.identity, source, Disk(), now=plant.now)
    assert done.code == "certificate-not-newer"
    assert traffic.document()["requests"] == 2
    assert pump.identity.certificate.read_bytes() == before
    assert not renewal_due(pump.identity, pump.config.state, plant.now)


@pytest.mark.parametrize("lie", ["stranger", "other-device", "nothing", "garbage", "huge", "two-layers"])
def test_a_lying_registry_changes_nothing(plant: Plant, pump: Device, tmp_path: Path, lie: str) -> None:
    before = pump.identity.certificate.read_bytes()
    shelf = Shelf(tmp_path / "lies")
    other = Plant(tmp_path / "other")
    layers = {
        "stranger": [
            other.authority.issue(
                "pump-7",
                serialization.load_der_public_key(pump.key.public_der),  # type: ignore[arg-type]
                fleet="edge",
                now=plant.now,
                lifetime_s=9e6,
            ).public_bytes(PEM)
        ],
        "other-device": [plant.certificate("pump-8").public_bytes(PEM)],
        "nothing": None,
        "garbage": [b"\0" * 1000],
        "huge": [b"x" * (MAX_CERTIFICATE_BYTES + 1)],
        "two-layers": [plant.certificate("pump-7").public_bytes(PEM)] * 2,
    }[lie]
    if layers is not None:
        shelf.artifact(DEVICE_CERTIFICATES, layers, tag="pump-7")
    done = renew(pump.config, pump.identity, open_source(f"oci:{shelf.root}"), Disk(), now=plant.now)
    assert done.code in {"bad-certificate", "not-found", "too-large", "bad-response"}
    assert pump.identity.certificate.read_bytes() == before


def test_a_replayed_older_certificate_changes_nothing(plant: Plant, pump: Device) -> None:
    old = plant.certificate("pump-7", lifetime_s=3600.0)
    _publish(plant.registry(), Entry("pump-7", old))
    assert ask(plant, pump).code == "certificate-not-newer"


def test_a_power_cut_leaves_the_old_certificate_or_the_new_one(plant: Plant, pump: Device) -> None:
    class Cut(BaseException):
        """The power is gone."""

    class Failing(Calls):
        def __init__(self, left: int) -> None:
            self.left = left

        def _step(self) -> None:
            if self.left == 0:
                raise Cut
            self.left -= 1

        def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
            if self.left == 0:
                super().write(path, fd, data[: len(data) // 2], offset)
            self._step()
            super().write(path, fd, data, offset)

        def rename(self, old: Path, new: Path) -> None:
            self._step()
            super().rename(old, new)

    old = pump.identity.certificate.read_bytes()
    fresh = plant.certify().issued[0].pem
    seen = set()
    for left in range(6):
        pump.install(old)
        with contextlib.suppress(Cut):
            ask(plant, pump, Disk(Failing(left)))
        found = pump.identity.certificate.read_bytes()
        assert found in (old, fresh)
        seen.add(found)
    assert seen == {old, fresh}


def once(pump: Device, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "edgewright_agent",
            "once",
            "--config",
            pump.folder / "agent.json",
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_poll_renews_and_then_goes_on(plant: Plant) -> None:
    """Here the poll itself fails, for want of metadata: renewal came first and stays."""
    device = plant.device("pump-8")
    plant.enroll(device)
    plant.certify()
    events = [json.loads(line) for line in once(device, "--json").stdout.splitlines()]
    assert [(event["event"], event["code"]) for event in events] == [
        ("identity", "renewed"),
        ("poll", "not-found"),
    ]
    assert device.identity.certificate.exists()


def test_a_renewal_that_fails_does_not_disturb_the_poll(plant: Plant) -> None:
    with_identity, without = plant.device("pump-8"), plant.device("pump-9")
    without.identity.key.unlink()
    answers = [once(device) for device in (with_identity, without)]
    assert answers[0].stdout.startswith("identity  not-found")
    assert answers[0].stdout.splitlines()[1:] == answers[1].stdout.splitlines()
    assert answers[0].returncode == answers[1].returncode
