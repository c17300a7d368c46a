"""`edgewright-agent identity` and `report` as an integrator meets them."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgewright_agent import owner
from edgewright_agent.cli import main
from unit.devices.plant import Device, Plant


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """A fleet at the time that the commands see."""
    return Plant(tmp_path, now=datetime.now(timezone.utc).replace(microsecond=0))


@pytest.fixture
def pump(plant: Plant) -> Device:
    device = plant.device("pump-7", labels={"line": "inspection"})
    plant.enroll(device)
    return device


def agent(device: Device, *arguments: str | Path) -> int:
    return main([*map(str, arguments), "--config", str(device.folder / "agent.json")])


def test_the_way_from_a_key_to_a_certificate(
    plant: Plant, pump: Device, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pump.identity.key.unlink()
    (plant.root / "devices/pump-7.yaml").unlink()
    assert agent(pump, "identity", "create") == 0
    assert "identity request --out FILE" in capsys.readouterr().out
    assert agent(pump, "identity", "request", "--out", tmp_path / "pump-7.csr") == 0
    told = capsys.readouterr().out
    assert "edgewright devices enroll pump-7.csr --class board --label line=inspection" in told
    assert (tmp_path / "pump-7.csr").read_bytes().startswith(b"-----BEGIN CERTIFICATE REQUEST-----")
    plant.enroll(pump)
    (tmp_path / "pump-7.crt").write_bytes(plant.certify().issued[0].pem)
    assert agent(pump, "identity", "install", tmp_path / "pump-7.crt") == 0
    assert agent(pump, "identity", "show") == 0
    shown = capsys.readouterr().out
    assert "certificate  valid" in shown and "by itself" in shown


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_certificate_that_root_installs_is_the_agents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "_may_run", lambda: True)  # a Python of tests may be root's alone
    with tempfile.TemporaryDirectory(prefix="plant-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        plant = Plant(Path(folder), now=datetime.now(timezone.utc).replace(microsecond=0))
        pump = plant.device("pump-7")
        plant.enroll(pump)
        given = tmp_path / "pump-7.crt"  # which the agent's user may not read
        given.write_bytes(plant.certify().issued[0].pem)
        for path in (pump.folder, *pump.folder.rglob("*")):
            os.chown(path, 54321, 54321)
        before = os.umask(0o077)
        try:
            assert agent(pump, "identity", "install", given) == 0
        finally:
            os.umask(before)
        assert pump.identity.certificate.stat().st_uid == 54321


def test_show_says_what_is_there_for_people_and_programs(
    pump: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    assert agent(pump, "identity", "show", "--json") == 0
    assert json.loads(capsys.readouterr().out)["certificate"] is None
    pump.install(b"torn")
    assert agent(pump, "identity", "show") == 0
    assert "certificate  unusable: this is not a certificate" in capsys.readouterr().out


def test_an_expired_certificate_is_shown_as_such_and_not_installed(
    plant: Plant, pump: Device, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pem = plant.certificate("pump-7", lifetime_s=0.5).public_bytes(serialization.Encoding.PEM)
    (tmp_path / "old.crt").write_bytes(pem)
    assert agent(pump, "identity", "install", tmp_path / "old.crt") == 2
    assert "certificate-expired" in capsys.readouterr().err
    pump.install(pem)
    agent(pump, "identity", "show")
    assert "certificate  expired" in capsys.readouterr().out


def test_a_certificate_for_somebody_else_is_refused_with_exit_code_2(
    plant: Plant, pump: Device, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = plant.device("pump-8")
    plant.enroll(other)
    pem = next(entry.pem for entry in plant.certify().issued if entry.device_id == "pump-8")
    (tmp_path / "x.crt").write_bytes(pem)
    assert agent(pump, "identity", "install", tmp_path / "x.crt") == 2
    assert "bad-certificate" in capsys.readouterr().err
    assert not pump.identity.certificate.exists()


def test_a_report_is_written_or_printed(
    pump: Device, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert agent(pump, "report") == 0
    assert json.loads(capsys.readouterr().out)["payloadType"].startswith("application/vnd.edgewright")
    assert agent(pump, "report", "--out", tmp_path / "r.json") == 0
    assert "edgewright collect r.json" in capsys.readouterr().out


@pytest.mark.parametrize("verb", [("identity", "show"), ("report",), ("identity", "create")])
def test_without_an_identity_the_configuration_says_what_to_add(
    pump: Device, capsys: pytest.CaptureFixture[str], verb: tuple[str, ...]
) -> None:
    document = {key: value for key, value in pump.document.items() if key != "identity"}
    (pump.folder / "agent.json").write_text(json.dumps(document))
    assert agent(pump, *verb) == 1
    assert '"identity": {"key": FILE' in capsys.readouterr().err


def test_init_can_write_the_identity(
    tmp_path: Path, plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    public = tmp_path / "signing.pub"
    public.write_bytes(
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "root.json").write_text("{}")
    (tmp_path / "registry").mkdir()
    out = tmp_path / "agent.json"
    code = main(
        ["init", "--device-id", "pump-7", "--class", "board", "--source", f"oci:{tmp_path / 'registry'}"]
        + ["--root", str(tmp_path / "root.json"), "--key", str(public), "--out", str(out)]
        + ["--device-identity", str(tmp_path / "id"), "--device-ca", str(plant.ca_file)]
    )
    assert code == 0
    assert "next: edgewright-agent identity create" in capsys.readouterr().out
    assert json.loads(out.read_text())["identity"] == {
        "key": str(tmp_path / "id/device.key"),
        "certificate": str(tmp_path / "id/device.crt"),
        "ca": str(plant.ca_file),
    }
