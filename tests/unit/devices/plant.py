"""A small fleet on disk with its device authority, and devices that made their own keys.

>>> plant = Plant(tmp_path)                          # doctest: +SKIP
>>> pump = plant.device("pump-7")                    # doctest: +SKIP
>>> plant.enroll(pump); plant.certify()              # doctest: +SKIP
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from edgewright.devices import authority, enrolment
from edgewright.devices.certify import Certified, certify
from edgewright.publish.registry import Registry, open_registry
from edgewright.spec.load import load_fleet
from edgewright.spec.workspace import Workspace
from edgewright_agent.config import Config, Identity, parse
from edgewright_agent.contract import DEVICE_CERTIFICATES
from edgewright_agent.files import Disk
from edgewright_agent.identity import key as device_key
from edgewright_agent.record import Ledger, Record
from unit.spec.conftest import FLEET, Repository

START = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CLASS = "board"


@dataclass
class Device:
    """A device: its configuration and its files in a folder of its own."""

    id: str
    folder: Path
    source: str
    ca: Path
    labels: dict[str, str] = field(default_factory=dict)
    source_ca: Path | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("root.json", "signing.pub"):
            if not (self.folder / name).exists():
                (self.folder / name).write_text(name)
        if not self.identity.key.exists():
            device_key.create(self.identity.key, Disk())
        (self.folder / "agent.json").write_text(json.dumps(self.document))
        ledger = Ledger(self.config.state, Disk())
        if ledger.record.quarantined:
            ledger.reanchor(Record())  # as `edgewright-agent init` does

    @property
    def document(self) -> dict[str, Any]:
        return {
            "version": 1,
            "device": {"id": self.id, "class": CLASS, "labels": self.labels},
            "source": {"url": self.source, **({"caFile": str(self.source_ca)} if self.source_ca else {})},
            "state": "state",
            "trust": {"root": "root.json", "keys": ["signing.pub"]},
            "identity": {"key": "id/device.key", "certificate": "id/device.crt", "ca": str(self.ca)},
        }

    @property
    def config(self) -> Config:
        return parse(self.document, base=self.folder)

    @property
    def identity(self) -> Identity:
        return Identity(self.folder / "id/device.key", self.folder / "id/device.crt", self.ca)

    @property
    def key(self) -> device_key.DeviceKey:
        return device_key.load(self.identity.key)

    def request(self) -> bytes:
        return device_key.request(self.key, self.id)

    def install(self, pem: bytes) -> None:
        """Put a certificate in place without any check."""
        self.identity.certificate.write_bytes(pem)


class Plant:
    """A fleet's repository, its registry (OCI layouts unless told otherwise) and its clock."""

    def __init__(
        self, folder: Path, *, url: str = "oci:dist/registry", fleet: str = "edge", now: datetime = START
    ) -> None:
        self.folder = folder
        self.repository = Repository(folder / "repository")
        self.repository.write(
            "fleet.yaml", FLEET.replace("oci:dist/registry", url).replace("name: edge", f"name: {fleet}")
        )
        self.url = url
        self.now = now
        authority.create(self.workspace, now=self.now)

    @property
    def root(self) -> Path:
        return self.repository.root

    @property
    def workspace(self) -> Workspace:
        return load_fleet(self.root)

    @property
    def ca_file(self) -> Path:
        return self.root / "devices/ca.pem"

    @property
    def authority(self) -> authority.Authority:
        return authority.open_authority(self.workspace)

    @property
    def source(self) -> str:
        """What a device calls the registry."""
        return f"oci:{self.root / self.url.removeprefix('oci:')}" if self.url.startswith("oci:") else self.url

    def registry(self) -> Registry:
        spec = self.workspace.fleet.registry.model_dump(mode="json", by_alias=True, exclude_none=True)
        return open_registry(spec, self.root)(DEVICE_CERTIFICATES)

    def device(self, name: str, **options: Any) -> Device:
        """Make a device that has a key and nothing else."""
        return Device(name, self.folder / "devices" / name, self.source, self.ca_file, **options)

    def enroll(self, *devices: Device, replace: bool = False) -> None:
        for device in devices:
            request = enrolment.read_request(device.request())
            enrolment.enroll(
                self.workspace, request, hardware_class=CLASS, labels=device.labels, replace=replace
            )

    def certify(self, *names: str, registry: Registry | None = None) -> Certified:
        chosen: Sequence[str] = names
        return certify(
            self.workspace, self.authority, registry or self.registry(), now=self.now, device_ids=chosen
        )

    def revoke(self, name: str, reason: str = "key-compromise") -> None:
        enrolment.revoke(self.workspace, name, reason=reason, note=None, now=self.now)

    def certificate(self, name: str, **changes: Any) -> x509.Certificate:
        """Issue a certificate without writing anything down."""
        public = x509.load_pem_x509_csr(self.device(name).request()).public_key()
        options = {"fleet": "edge", "now": self.now, "lifetime_s": 90 * 86400.0, **changes}
        return self.authority.issue(name, public, **options)  # type: ignore[arg-type]
