"""`edgewright devices` as people and scripts meet it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgewright.cli import devices
from edgewright.errors import EdgewrightError, TrustError
from unit.devices.plant import CLASS, Plant


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """A fleet at the time that the commands see."""
    return Plant(tmp_path, now=datetime.now(UTC).replace(microsecond=0))


def run(plant: Plant, *arguments: str | Path) -> Result:
    verb, *rest = map(str, arguments)
    return CliRunner().invoke(devices.command, [verb, "--root", str(plant.root), *rest])


def enroll(plant: Plant, name: str = "pump-7") -> Result:
    file = plant.folder / f"{name}.csr"
    file.write_bytes(plant.device(name).request())
    return run(plant, "enroll", file, "--class", CLASS, "--label", "line=inspection")


def test_enrolling_shows_the_key_to_compare_and_what_comes_next(plant: Plant) -> None:
    done = enroll(plant)
    assert done.exit_code == 0, done.output
    assert "wrote devices/pump-7.yaml" in done.output
    from edgewright_agent.identity.command import fingerprint

    assert fingerprint(plant.device("pump-7").key) in done.output
    assert "edgewright devices certify" in done.output


def test_the_way_from_a_request_to_the_list(plant: Plant) -> None:
    enroll(plant)
    certified = json.loads(run(plant, "certify", "--json").stdout)
    assert [entry["id"] for entry in certified["issued"]] == ["pump-7"]
    assert certified["address"] == "oci:dist/registry/devices:ca.crl"
    listed = json.loads(run(plant, "list", "--json").output)["devices"]
    assert [(line["id"], line["class"], line["labels"], line["state"]) for line in listed] == [
        ("pump-7", CLASS, {"line": "inspection"}, "certified")
    ]
    shown = run(plant, "list").output
    assert "pump-7" in shown and "certified  line=inspection" in shown


def test_the_list_works_where_certificates_are_not_issued(plant: Plant) -> None:
    """A laptop has Git and the registry, and not the folder that CI keeps."""
    enroll(plant)
    run(plant, "certify")
    (plant.root / ".edgewright/devices").rename(plant.root / "elsewhere")
    assert json.loads(run(plant, "list", "--json").output)["devices"][0]["state"] == "certified"


def test_a_list_of_nothing_names_the_next_command(plant: Plant) -> None:
    assert "edgewright devices enroll CSR" in run(plant, "list").output


def test_revoking_names_the_next_command(plant: Plant) -> None:
    enroll(plant)
    done = run(plant, "revoke", "pump-7", "--reason", "superseded", "--note", "moved to another plant")
    assert done.exit_code == 0 and "edgewright devices certify" in done.output
    assert "revoked: superseded" in run(plant, "list").output


def test_an_authority_is_not_made_twice(plant: Plant) -> None:
    assert isinstance(run(plant, "ca").exception, TrustError)


def test_an_authority_whose_key_lives_elsewhere_is_written_where_told(plant: Plant, tmp_path: Path) -> None:
    plant.ca_file.unlink()
    plant.repository.append("fleet.yaml", "devices: {ca: {key: env:DEVICE_CA}}\n")
    assert "--key-out" in str(getattr(run(plant, "ca").exception, "hint", ""))
    done = run(plant, "ca", "--key-out", tmp_path / "new.key")
    assert done.exit_code == 0 and "env:DEVICE_CA: put it there" in done.output
    assert "PRIVATE KEY" in (tmp_path / "new.key").read_text()


@pytest.mark.parametrize("arguments", [("certify", "nobody"), ("revoke", "nobody", "--reason", "superseded")])
def test_a_device_nobody_enrolled_is_one_sentence(plant: Plant, arguments: tuple[str, ...]) -> None:
    failed = run(plant, *arguments)
    assert isinstance(failed.exception, EdgewrightError)
    assert "'nobody' is not enrolled" in str(failed.exception)
