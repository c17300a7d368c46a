"""The whole path once per test run, and a second release of it; tests take copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.journey import PI, Journey
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
