"""A small fleet with a registry in a folder, and a device's view of what it publishes.

>>> fleet = SmallFleet(tmp_path)                     # doctest: +SKIP
>>> fleet.publish("digit-reader", "pi-4", "1.0.0")   # doctest: +SKIP
>>> fleet.release()                                  # doctest: +SKIP
>>> Device(fleet, tmp_path / "device").assignment()  # doctest: +SKIP
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater

from edgewright.publish import oci
from edgewright.publish.registry import Registry, open_registry
from edgewright.spec.fleet import Fleet
from edgewright.spec.hardware import HardwareClass
from edgewright.spec.workspace import Workspace
from edgewright.trust.assignment import PublishedLane
from edgewright.trust.keys import create_keys
from edgewright.trust.release import ReleaseOutcome, release
from edgewright.trust.roles import addresses, purposes
from edgewright_agent.contract import (
    ANNOTATION_CLASS,
    ANNOTATION_MODEL,
    ANNOTATION_TITLE,
    ANNOTATION_VERSION,
    ASSIGNMENT_TARGET,
    MODEL_ARTIFACT,
    OCI_EMPTY_BYTES,
    OCI_MANIFEST,
    TUF_REPOSITORY,
    digest_of,
    tuf_tag,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def hardware(arch: str = "arm64", **more: Any) -> HardwareClass:
    """Return a valid hardware sheet; `more` are further sections of it, or others in place of those here."""
    return HardwareClass.model_validate(
        {
            "version": 1,
            "description": "A board",
            "cpu": {"arch": arch, "model": "cortex-a72", "cores": 4, "clock": "1500MHz"},
            "memory": {"total": "4GiB", "forModels": "1GiB"},
            "storage": {"kind": "sd", "capacity": "32GB", "read": "40MB/s", "write": "20MB/s"},
            "power": {"budget": "6W", "source": "mains"},
            "thermal": {"cooling": "passive", "ambientMax": "40°C", "throttleAt": "80°C"},
            "connectivity": {"mode": "always"},
            "runtime": {"versions": ">=1.20,<2", "providers": ("CPUExecutionProvider",)},
            "precisions": ("fp32", "int8"),
            "limits": {
                "artifactSize": "20MiB",
                "loadTime": "500ms",
                "latency": {"p95": "20ms", "p99": "30ms"},
                "peakMemory": "64MiB",
            },
            "emulation": {"method": "native"},
            "updatePolicy": {
                "poll": {"interval": "15m", "maxBackoff": "6h"},
                "diskReserve": "256MiB",
            },
            **more,
        }
    )


@dataclass
class SmallFleet:
    """Two classes, one model, one group; change `groups` as a test needs.

    Attributes:
        root: The fleet's repository.
        url: Registry.
        groups: `groups` of fleet.yaml.
        lanes: What `edgewright run` published for the current specs.
        more: Further keys of fleet.yaml, or other values of those that are given here.
        sheet: The same of every class's sheet.
    """

    root: Path
    url: str = "oci:registry"
    groups: tuple[dict[str, Any], ...] = ({"name": "all", "models": ({"model": "digit-reader"},)},)
    classes: tuple[str, ...] = ("medical-cart-cpu", "raspberry-pi-4")
    models: tuple[str, ...] = ("digit-reader",)
    trust: dict[str, Any] = field(default_factory=dict)
    lanes: dict[str, dict[str, PublishedLane]] = field(default_factory=dict)
    now: datetime = START
    more: dict[str, Any] = field(default_factory=dict)
    sheet: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.root / ".edgewright/keys").exists():
            trust = self.workspace.fleet.trust
            create_keys(self.keys, purposes=purposes(trust), addresses=addresses(trust))

    @property
    def keys(self) -> Path:
        """Folder of the keys."""
        return self.root / ".edgewright/keys"

    @property
    def metadata(self) -> Path:
        """Folder of the metadata files."""
        return self.root / ".edgewright/tuf"

    @property
    def workspace(self) -> Workspace:
        """The specs."""
        fleet = Fleet.model_validate(
            {
                "version": 1,
                "name": "small",
                "registry": {"url": self.url},
                "groups": self.groups,
                "trust": self.trust,
                **self.more,
            }
        )
        models: dict[str, Any] = {
            name: SimpleNamespace(classes=None, model_version="1.0.0") for name in self.models
        }
        return Workspace(
            self.root, fleet, {name: hardware(**self.sheet) for name in self.classes}, models, {}
        )

    def open(self, repository: str) -> Registry:
        """Open one repository of the registry."""
        return open_registry({"url": self.url}, self.root)(repository)

    def publish(self, model: str, hardware_class: str, version: str, content: bytes = b"") -> str:
        """Put an artifact into the registry, as `edgewright run` would; return its digest."""
        layer = content or f"{model} {hardware_class} {version}".encode()
        body = oci.manifest(
            artifact_type=MODEL_ARTIFACT,
            config=oci.EMPTY_CONFIG,
            layers=[
                oci.descriptor(
                    "application/octet-stream", layer, annotations={ANNOTATION_TITLE: "model.onnx"}
                )
            ],
            annotations={
                ANNOTATION_MODEL: model,
                ANNOTATION_CLASS: hardware_class,
                ANNOTATION_VERSION: version,
            },
        )
        registry = self.open(model)
        registry.put_blob(oci.EMPTY_CONFIG["digest"], OCI_EMPTY_BYTES)
        registry.put_blob(digest_of(layer), layer)
        registry.put_manifest(digest_of(body), body, OCI_MANIFEST)
        lane = PublishedLane(digest_of(body), len(body), version, model)
        self.lanes.setdefault(model, {})[hardware_class] = lane
        return lane.digest

    def publish_all(self, version: str) -> None:
        """Publish every lane."""
        for model in self.models:
            for name in self.classes:
                self.publish(model, name, version)

    def release(self, **options: Any) -> ReleaseOutcome:
        """Run `edgewright release` at `now`."""
        return release(self.workspace, self.lanes, now=self.now, **options)


class RegistryFetcher(FetcherInterface):
    """Feeds python-tuf's own client from a metadata repository, tag by tag."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.fetched: list[str] = []

    def _fetch(self, url: str) -> Any:
        path = urlsplit(url).path.lstrip("/")
        self.fetched.append(path)
        manifest = self._registry.get_manifest(tuf_tag(path))
        if manifest is None:
            raise DownloadHTTPError(f"{path} is not there", 404)
        body = self._registry.get_blob(json.loads(manifest)["layers"][0]["digest"], limit=1 << 20)
        assert body is not None
        yield body


class Device:
    """python-tuf's client with nothing but root version 1 to start from."""

    def __init__(self, fleet: SmallFleet, cache: Path) -> None:
        self.fleet = fleet
        self.cache = cache
        self.fetched: list[str] = []
        cache.mkdir()
        (cache / "root.json").write_bytes((fleet.metadata / "1.root.json").read_bytes())

    def updater(self) -> Updater:
        """Return a refreshed client; the clock is the fleet's."""
        fetcher = RegistryFetcher(self.fleet.open(TUF_REPOSITORY))
        self.fetched = fetcher.fetched
        base = "http://registry/"
        with mock.patch("tuf.ngclient._internal.trusted_metadata_set.datetime") as clock:
            clock.datetime.now.return_value = self.fleet.now
            updater = Updater(
                metadata_dir=str(self.cache),
                metadata_base_url=base,
                target_base_url=base,
                target_dir=str(self.cache),
                fetcher=fetcher,
                bootstrap=None,
            )
            updater.refresh()
            updater.get_targetinfo(ASSIGNMENT_TARGET)  # loads the delegated role under the same clock
        return updater

    def assignment(self) -> dict[str, Any]:
        """Return the verified assignment document."""
        updater = self.updater()
        info = updater.get_targetinfo(ASSIGNMENT_TARGET)
        assert info is not None
        path = Path(updater.download_target(info))
        document: dict[str, Any] = json.loads(path.read_bytes())
        return document

    def artifact(self, path: str) -> TargetFile | None:
        """Return what the `targets` role signed under a target path."""
        found: TargetFile | None = self.updater().get_targetinfo(path)
        return found
