"""A fleet's metadata before and after its root changed hands twice, as python-tuf signs and as python-tuf reads it.

>>> fleet = RotatingFleet([one, two])              # doctest: +SKIP
>>> fleet.serve(device, 2, rotated=True)           # doctest: +SKIP
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from crash.device import Device
from edgewright_agent.contract import ANNOTATION_REF_NAME, TUF_REPOSITORY, class_role
from edgewright_agent.files import Disk
from edgewright_agent.floor import Floor
from edgewright_agent.trust import tuf
from unit.agent.core.workbench import MODEL, NOW, PI, Made
from unit.agent.transport.shelf import Shelf
from unit.agent.trust.tuf_fleet import TufFleet, assignment


@dataclass
class RealTrust:
    """`trusted.DeviceTrust` without the artifact's own signatures, which touch no disk."""

    cache: Path
    root: bytes
    disk: Disk

    def refresh(self, source: Any, *, floor: Floor, now: datetime) -> tuf.Desired:
        return tuf.refresh(
            source, cache=self.cache, root=self.root, hardware_class=PI, floor=floor, now=now, disk=self.disk
        )

    def verify(self, *_: Any, **__: Any) -> None:
        pass


@dataclass(frozen=True)
class _Served:
    manifests: dict[tuple[str, str], bytes]
    blobs: dict[str, bytes]


class RotatingFleet:
    """What a source serves after each of some releases, and after the rotation that comes with the last."""

    def __init__(self, artifacts: Sequence[Made]) -> None:
        self._artifacts = artifacts
        with tempfile.TemporaryDirectory() as folder:
            fleet = TufFleet(Shelf(Path(folder)))
            self._root = fleet.root_bytes
            self._served = []
            for number, made in enumerate(artifacts, 1):
                self._served.append(_release(fleet, number, made))
            fleet.rotate_root("root")
            fleet.rotate_root("timestamp", "snapshot")
            self._rotated = _release(fleet, len(artifacts) + 1, artifacts[-1])
            self.root_version = fleet.root.version

    def serve(self, device: Device, count: int, *, rotated: bool) -> None:
        """Let a device see the first `count` releases."""
        served = self._rotated if rotated else self._served[count - 1] if count else _Served({}, {})
        device.shelf.manifests = dict(served.manifests)
        device.shelf.blobs = dict(served.blobs)
        for made in self._artifacts[:count]:
            device.shelf.put(made)
        device.trust = RealTrust(device.state / "tuf", self._root, device.disk)


def _release(fleet: TufFleet, number: int, made: Made) -> _Served:
    fleet.approve(MODEL, PI, made.body, sequence=number, modelVersion=made.version)
    fleet.bump(class_role(PI))
    fleet.issued(NOW)
    document = assignment(number, digest=made.digest, size=len(made.body), modelVersion=made.version)
    document["groups"][0]["models"][MODEL]["modelVersion"] = made.version
    fleet.bump("targets")
    fleet.release(document)
    index = fleet.shelf.index(TUF_REPOSITORY)["manifests"]
    manifests: dict[tuple[str, str], bytes] = {}
    blobs: dict[str, bytes] = {}
    for entry in index:
        body = fleet.shelf.body(TUF_REPOSITORY, entry["digest"])
        manifests[TUF_REPOSITORY, entry["digest"]] = body
        if tag := entry.get("annotations", {}).get(ANNOTATION_REF_NAME):
            manifests[TUF_REPOSITORY, tag] = body
        for layer in json.loads(body)["layers"]:
            blobs[layer["digest"]] = fleet.shelf.body(TUF_REPOSITORY, layer["digest"])
    return _Served(manifests, blobs)
