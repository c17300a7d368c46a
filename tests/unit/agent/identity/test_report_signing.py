"""Reports: numbered without repetition, whatever happens to the clock and the disk."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgewright_agent.contract import DEVICE_REPORT_PAYLOAD, canonical_json, dsse_pae
from edgewright_agent.errors import StorageError
from edgewright_agent.files import Calls, Disk
from edgewright_agent.identity.command import fingerprint, report
from edgewright_agent.report_signing import SEQUENCE, boot_id, clock_quality, next_sequence, sign
from unit.devices.plant import DAY, START, Plant


def test_numbers_grow_under_any_clock(tmp_path: Path) -> None:
    numbers = [
        next_sequence(tmp_path, Disk(), START + timedelta(days=days)) for days in (0, 0, 9, -400, 0, 9)
    ]
    assert numbers == sorted(set(numbers))


def test_a_number_is_durable_before_it_is_used(tmp_path: Path) -> None:
    class Failing(Calls):
        def rename(self, old: Path, new: Path) -> None:
            raise OSError(5, "Input/output error")

    with pytest.raises(StorageError):
        next_sequence(tmp_path, Disk(Failing()), START)
    first = next_sequence(tmp_path, Disk(), START)
    assert int((tmp_path / SEQUENCE).read_text()) == first


def test_a_device_that_lost_its_state_goes_on_above_its_past(tmp_path: Path) -> None:
    before = [next_sequence(tmp_path, Disk(), START) for _ in range(5)]
    (tmp_path / SEQUENCE).unlink()
    assert next_sequence(tmp_path, Disk(), START + DAY) > before[-1]


@pytest.mark.parametrize("torn", ["", "x", "7\x00"])
def test_a_torn_number_is_like_a_lost_one(tmp_path: Path, torn: str) -> None:
    (tmp_path / SEQUENCE).write_text(torn)
    assert next_sequence(tmp_path, Disk(), START) == int(START.timestamp())


def test_a_report_is_dsse_over_canonical_json_and_names_its_key(plant: Plant) -> None:
    pump = plant.device("pump-7", labels={"line": "inspection"})
    envelope = json.loads(report(pump.config, plant.now))
    payload = base64.b64decode(envelope["payload"])
    document = json.loads(payload)
    assert payload == canonical_json(document)
    assert envelope["payloadType"] == DEVICE_REPORT_PAYLOAD
    (signature,) = envelope["signatures"]
    assert signature["keyid"] == fingerprint(pump.key)
    public = serialization.load_der_public_key(pump.key.public_der)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(
        base64.b64decode(signature["sig"]),
        dsse_pae(DEVICE_REPORT_PAYLOAD, payload),
        ec.ECDSA(hashes.SHA256()),
    )
    assert document["device"] == "pump-7" and document["class"] == "board"
    assert document["time"] == "2030-01-01T00:00:00Z"
    assert document["boot"] == boot_id()
    assert document["status"]["device"]["labels"] == {"line": "inspection"}


def test_fleet_and_end_are_those_of_a_certificate_that_is_good(plant: Plant) -> None:
    pump = plant.device("pump-7")

    def told() -> tuple[object, object]:
        document = json.loads(base64.b64decode(json.loads(report(pump.config, plant.now))["payload"]))
        return document["fleet"], document["certificate"]

    assert told() == (None, None)
    plant.enroll(pump)
    entry = plant.certify().issued[0]
    pump.install(entry.pem)
    serial = f"{entry.certificate.serial_number:x}"
    assert told() == ("edge", {"serial": serial, "until": "2030-04-01T00:00:00Z"})
    pump.install(b"torn")
    assert told() == (None, None)


def test_the_clock_says_how_good_it_is() -> None:
    assert clock_quality(None, START)["behindSignedTime"] is False
    assert clock_quality("2030-01-02T00:00:00Z", START)["behindSignedTime"] is True
    assert clock_quality("2029-12-31T00:00:00Z", START)["behindSignedTime"] is False
    assert clock_quality(None, START)["synchronized"] in (True, False, None)


def test_a_report_too_large_to_be_taken_is_not_made(plant: Plant) -> None:
    with pytest.raises(StorageError) as refused:
        sign(plant.device("pump-7").key, {"x": "y" * 300_000})
    assert refused.value.code == "too-large"
