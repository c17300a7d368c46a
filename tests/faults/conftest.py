"""A fleet on a real registry, and a device that runs its first release: what the weather is let loose on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks.fleet import Fleet
from faults.journey import Grounds
from real import Registry, require


@pytest.fixture(scope="session")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grounds]:
    """Made once per worker; devices are copied."""
    folder = tmp_path_factory.mktemp("faults")
    registry = Registry(require("docker-registry"), folder / "registry", quiet=True)
    registry.start()
    yield Grounds.build(Fleet.build(folder, registry), folder / "grounds")
    registry.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where devices of a test live."""
    return tmp_path
