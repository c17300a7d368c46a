"""The part of a device that reads metadata: its cache, its provisioned root, and what it must not fall below.

>>> device = Device(tmp_path / "tuf", fleet.root_bytes, f"oci:{fleet.shelf.root}")     # doctest: +SKIP
>>> device.refresh().assignment["sequence"]                                            # doctest: +SKIP
1
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.errors import TrustError
from edgewright_agent.floor import Floor
from edgewright_agent.transport import open_source
from edgewright_agent.trust.tuf import Desired, refresh
from unit.agent.trust.tuf_fleet import NOW, PI, TufFleet


@dataclass
class Device:
    """What `refresh` needs; the floor is kept from one to the next, as in a device's record."""

    cache: Path
    root: bytes
    source: str
    floor: Floor = field(default_factory=Floor)

    def refresh(self, **more: Any) -> Desired:
        given = {
            "cache": self.cache,
            "root": self.root,
            "floor": self.floor,
            "now": NOW,
            "hardware_class": PI,
        }
        desired = refresh(open_source(self.source), **{**given, **more})
        self.floor = desired.floor
        return desired

    def refuses(self, code: str, **more: Any) -> TrustError:
        with pytest.raises(TrustError) as caught:
            self.refresh(**more)
        assert caught.value.code == code, caught.value
        return caught.value

    def lose_cache(self) -> None:
        shutil.rmtree(self.cache, ignore_errors=True)


def freeze(fleet: TufFleet, place: Path) -> str:
    """Keep today's repository for a replay."""
    shutil.copytree(fleet.shelf.root, place)
    return f"oci:{place}"
