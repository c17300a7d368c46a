"""The whole path once per test session; tests take copies of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.journey import Journey


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    """A fleet that was built, gated, signed, published to OCI layouts and released."""
    journey = Journey.start(tmp_path_factory.mktemp("journey"))
    assert journey.edgewright("keys", "init").returncode == 0
    journey.release()
    return journey


@pytest.fixture
def built(built_once: Journey, tmp_path: Path) -> Journey:
    """A copy of the built fleet that the test may change."""
    return built_once.copy(tmp_path / "journey")
