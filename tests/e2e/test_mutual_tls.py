"""Devices and the pipeline at a registry that asks for a certificate: a real docker-registry, a real TLS terminator."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from authority import Authority
from edgewright.errors import NetworkError
from edgewright.publish.registry import open_registry
from edgewright_agent.contract import DEVICE_CERTIFICATES, digest_of
from edgewright_agent.errors import ConfigError, TransportError
from real import Registry, Tool, require
from terminator import Terminator
from unit.devices.plant import Device, Plant
from unit.trust.fleet import SmallFleet

PEM = serialization.Encoding.PEM


@dataclass
class Site:
    """A plant whose registry asks for certificates, after a release that assigns nothing to its devices."""

    plant: Plant
    registry: Registry
    root: Path
    """First root metadata."""
    signer: Path

    def device(self, name: str, *, url: str | None = None) -> Device:
        device = Device(
            name,
            self.plant.folder / "devices" / name,
            f"{url or self.registry.url}/acme",
            self.plant.ca_file,
            source_ca=self.registry.ca_file,
        )
        (device.folder / "root.json").write_bytes(self.root.read_bytes())
        (device.folder / "signing.pub").write_bytes(self.signer.read_bytes())
        return device

    def issue(self, device: Device, *, by: Plant | None = None, **changes: Any) -> x509.Certificate:
        """Issue a certificate for a device's key, by the plant's own authority or another's."""
        public: Any = serialization.load_der_public_key(device.key.public_der)
        options = {"fleet": "edge", "now": self.plant.now, "lifetime_s": 86400.0 * 90, **changes}
        return (by or self.plant).authority.issue(device.id, public, **options)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    plain = Registry(require("docker-registry"), folder / "registry")
    plain.start()
    fleet = SmallFleet(folder / "fleet", url=f"{plain.url}/acme", groups=ELSEWHERE)
    fleet.now = datetime.now(UTC).replace(microsecond=0)
    fleet.publish_all("1.0.0")
    fleet.release()
    plain.stop()
    plant = Plant(folder / "plant", now=fleet.now)
    registry = Registry(
        plain.program,
        plain.folder,
        tls=authority.server,
        ca_file=authority.ca_file,
        client_cas=plant.ca_file,
    )
    registry.start()
    yield Site(plant, registry, fleet.metadata / "1.root.json", fleet.root / ".edgewright/keys/signing.pub")
    registry.stop()


ELSEWHERE: tuple[dict[str, Any], ...] = (
    {
        "name": "elsewhere",
        "selector": {"matchLabels": {"site": "elsewhere"}},
        "models": ({"model": "digit-reader"},),
    },
)


def once(device: Device) -> dict[str, Any]:
    """One poll of a real agent process; the last event, with its exit code."""
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "edgewright_agent",
            "once",
            "--json",
            "--config",
            device.folder / "agent.json",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    event: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return event


def refused(device: Device) -> str:
    """Assert that the registry turns a device away; returns what it is told."""
    event = once(device)
    assert event["exit_code"] == 3
    # A server closes right after its alert; where the reset overtakes it, only that is seen.
    assert event["code"] in {"denied", "network"}, event
    return str(event["message"])


def test_without_a_certificate_a_device_is_refused(site: Site) -> None:
    refused(site.device("nobody"))


def test_with_its_certificate_a_device_polls(site: Site) -> None:
    device = site.device("pump-1")
    device.install(site.issue(device).public_bytes(PEM))
    first, second = once(device), once(device)
    assert (first["code"], second["code"]) == ("ok", "not-modified")
    assert second["requests"] == 1


def test_another_authoritys_certificate_is_refused(site: Site, tmp_path: Path) -> None:
    device = site.device("pump-2")
    other = Plant(tmp_path / "other", now=site.plant.now)
    device.install(site.issue(device, by=other).public_bytes(PEM))
    refused(device)


def test_an_expired_certificate_is_refused_and_a_newer_one_put_in_place_works(site: Site) -> None:
    device = site.device("pump-3")
    now = site.plant.now
    old = site.issue(device, now=now + timedelta(seconds=1), lifetime_s=1.0)
    expired = x509.CertificateBuilder(
        issuer_name=old.issuer,
        subject_name=old.subject,
        public_key=old.public_key(),  # type: ignore[arg-type]
        serial_number=old.serial_number,
        not_valid_before=now - timedelta(days=2),
        not_valid_after=now - timedelta(days=1),
        extensions=list(old.extensions),
    ).sign(site.plant.authority.private, old.signature_hash_algorithm)  # type: ignore[arg-type]
    device.install(expired.public_bytes(PEM))
    refused(device)
    device.install(site.issue(device).public_bytes(PEM))
    assert once(device)["code"] == "ok"


def test_a_certificate_without_its_key_opens_nothing(site: Site) -> None:
    """Certificates lie in the registry for everybody; only the key makes one worth something."""
    device, thief = site.device("pump-4"), site.device("thief")
    thief.install(site.issue(device).public_bytes(PEM))
    with pytest.raises(ConfigError) as unusable:
        thief.config.origin.open()
    assert unusable.value.code == "bad-identity"


def test_the_pipeline_publishes_with_a_certificate_of_its_own_and_devices_renew_from_there(
    site: Site,
) -> None:
    plant = site.plant
    pipeline = site.device("release-ci")
    pipeline.install(site.issue(pipeline).public_bytes(PEM))
    spec = {
        "url": f"{site.registry.url}/acme",
        "caFile": str(site.registry.ca_file),
        "clientCertificate": str(pipeline.identity.certificate),
        "clientKey": f"file:{pipeline.identity.key}",
    }
    repository = open_registry(spec, plant.root)(DEVICE_CERTIFICATES)
    device = site.device("pump-5")
    plant.enroll(device)
    device.install(site.issue(device, lifetime_s=1800.0).public_bytes(PEM))
    issued = plant.certify("pump-5", registry=repository).issued[0]
    plant.now = site.plant.now
    # Two thirds of the half hour would have to pass; a certificate that began long ago is as old.
    began = site.issue(device, now=plant.now, lifetime_s=1800.0)
    device.install(aged(began, plant))
    ran = subprocess.run(
        [sys.executable, "-m", "edgewright_agent", "once", "--config", device.folder / "agent.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.startswith("identity  renewed"), ran.stdout + ran.stderr
    assert device.identity.certificate.read_bytes() == issued.pem
    assert once(device)["code"] == "not-modified"


def aged(certificate: x509.Certificate, plant: Plant) -> bytes:
    """The same certificate, as if most of its life were over."""
    return (
        x509.CertificateBuilder(
            issuer_name=certificate.issuer,
            subject_name=certificate.subject,
            public_key=certificate.public_key(),  # type: ignore[arg-type]
            serial_number=certificate.serial_number,
            not_valid_before=plant.now - timedelta(minutes=30),
            not_valid_after=plant.now + timedelta(minutes=30) - timedelta(minutes=20),
            extensions=list(certificate.extensions),
        )
        .sign(plant.authority.private, certificate.signature_hash_algorithm)  # type: ignore[arg-type]
        .public_bytes(PEM)
    )


def test_the_pipeline_without_a_certificate_is_told_what_to_set(site: Site) -> None:
    spec = {"url": f"{site.registry.url}/acme", "caFile": str(site.registry.ca_file)}
    with pytest.raises(NetworkError):
        open_registry(spec, site.plant.root)("x").has_blob(digest_of(b""))


def test_a_revoked_device_is_refused_by_a_terminator_that_reads_the_list(
    site: Site, authority: Authority, tmp_path: Path
) -> None:
    plant = Plant(tmp_path, now=site.plant.now)
    plain = Registry(site.registry.program, site.registry.folder.with_name("plain"))
    plain.start()
    with contextlib.ExitStack() as stack:
        stack.callback(plain.stop)
        crl = plant.root / ".edgewright/devices/ca.crl"
        behind = Site(
            plant, Registry(plain.program, tmp_path, ca_file=authority.ca_file), site.root, site.signer
        )
        plant.enroll(*(behind.device(name, url="https://127.0.0.1:1") for name in ("good", "bad")))
        entries = {entry.device_id: entry.pem for entry in plant.certify().issued}
        terminator = stack.enter_context(
            Terminator(authority, clients=plant.ca_file, revoked=crl, port=plain.port)
        )
        devices = {name: behind.device(name, url=terminator.url) for name in ("good", "bad")}
        for name, device in devices.items():
            device.install(entries[name])
            with pytest.raises(TransportError) as absent:
                device.config.origin.open().manifest("tuf", "timestamp.json")
            assert absent.value.code == "not-found"  # both get as far as the registry, which is empty
        plant.revoke("bad")
        plant.certify()
        refused(devices["bad"])
        assert once(devices["good"])["code"] == "not-found"


def test_real_oras_fetches_the_revocation_list(registry: Registry, oras: Tool, tmp_path: Path) -> None:
    plant = Plant(tmp_path / "plant", url=f"{registry.url}/acme")
    plant.certify()
    pulled = oras("pull", "--plain-http", f"{registry.host}/acme/devices:ca.crl", "-o", tmp_path)
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "ca.crl").read_bytes() == (plant.root / ".edgewright/devices/ca.crl").read_bytes()
