"""The whole path once per test run, and a second release of it; tests take copies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.journey import PI, Journey
from real import Registry, require
from shared import made_once


@pytest.fixture(scope="session")
def built_once(run_folder: Path) -> Journey:
    """A fleet that was built, gated, signed, published to OCI layouts and released."""

    def build(folder: Path) -> None:
        journey = Journey.start(folder)
        assert journey.edgewright("keys", "init").returncode == 0
        journey.release()

    return Journey(made_once(run_folder / "journey", build))


@pytest.fixture
def built(built_once: Journey, tmp_path: Path) -> Journey:
    """A copy of the built fleet that the test may change."""
    return built_once.copy(tmp_path / "journey")


@pytest.fixture(scope="session")
def second_release(run_folder: Path, built_once: Journey) -> Journey:
    """The same fleet after its next release, with another artifact for the devices' class."""

    def build(folder: Path) -> None:
        journey = built_once.copy(folder)
        journey.edit(f"hardware/{PI}.yaml", r"^(\s+threads:) \d+", r"\1 1")
        journey.release()
        assert journey.digest(PI) != built_once.digest(PI)

    return Journey(made_once(run_folder / "second-release", build))


@pytest.fixture(scope="session")
def _on_registry_once(
    built_once: Journey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Journey, Registry]]:
    # Each worker has its own: a process ends with the worker that started it.
    folder = tmp_path_factory.mktemp("on-registry")
    registry = Registry(require("docker-registry"), folder / "registry")
    registry.start()
    journey = built_once.copy(folder / "journey")
    journey.edit("fleet.yaml", r"url: .*$", f"url: {registry.url}/acme")
    journey.release()
    yield journey, registry
    registry.stop()


@pytest.fixture
def on_registry(_on_registry_once: tuple[Journey, Registry], tmp_path: Path) -> tuple[Journey, Registry]:
    """A copy of the built fleet, published and released on a real registry that tests only read from."""
    journey, registry = _on_registry_once
    return journey.copy(tmp_path / "journey"), registry
