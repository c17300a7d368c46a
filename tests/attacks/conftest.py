"""The fleet under attack, made once per worker; every attack gets copies of a device and of what the registry holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks.device import Device
from attacks.fleet import Fleet
from attacks.scene import Scene
from real import Registry, require


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet with three releases on a real registry process."""
    folder = tmp_path_factory.mktemp("under-attack")
    registry = Registry(require("docker-registry"), folder / "registry", quiet=True)
    registry.start()
    yield Fleet.build(folder, registry)
    registry.stop()


@pytest.fixture(scope="session")
def devices(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Device]:
    """Release → a device that has installed it, by the real command as a process; they are copied, never used."""
    folder = tmp_path_factory.mktemp("devices")
    first = Device.enroll(folder / "1", fleet)
    scene = Scene(fleet, first, folder)
    scene.serve(1)
    told = first.once_as_a_process()
    assert told.exit_code == 0, told.text
    second = first.copy(folder / "2")
    scene.serve(2)
    told = second.once()
    assert told.exit_code == 0, told.text
    for number, device in ((1, first), (2, second)):
        active = device.record.model("digit-reader").active
        assert active is not None and active.digest == fleet.releases[number].digest
    return {1: first, 2: second}


@pytest.fixture
def scene_of(fleet: Fleet, tmp_path: Path) -> Iterator[list[Scene]]:
    """Scenes that end with the test."""
    made: list[Scene] = []
    yield made
    for scene in made:
        scene.close()
