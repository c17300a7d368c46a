"""A release in every place a device can read it from, and a server that lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgewright_agent.transport import Source, open_source
from real import Registry, require
from unit.agent.transport.liar import Liar
from unit.agent.transport.shelf import Shelf

WEIGHTS = bytes(range(256)) * 3000  # 768,000 bytes: several chunks, no two offsets look alike within one


@dataclass
class Release:
    """An artifact with one referrer, on a shelf; `digest` is the artifact's."""

    shelf: Shelf
    digest: str
    weights: str
    referrer: str

    @classmethod
    def make(cls, root: Path) -> Release:
        shelf = Shelf(root)
        digest = shelf.artifact("digit-reader", [WEIGHTS], tag="1.0.0")
        referrer = shelf.refer("digit-reader", digest, b"{}")
        shelf.list_referrers("digit-reader", digest, [referrer])
        return cls(shelf, digest, shelf.blob("digit-reader", WEIGHTS), referrer)


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release.make(tmp_path / "release")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a real registry serves the release; for tests that only read, so one is enough for all."""
    folder = tmp_path_factory.mktemp("served")
    registry = Registry(require("docker-registry"), folder / "registry")
    registry.start()
    Release.make(folder / "release").shelf.push(f"{registry.url}/acme/edge")
    yield f"{registry.url}/acme/edge"
    registry.stop()


@pytest.fixture(params=["registry", "layout", "bundle"])
def source(request: pytest.FixtureRequest, release: Release, tmp_path: Path) -> Source:
    """The same release from each kind of source."""
    if request.param == "registry":
        return open_source(request.getfixturevalue("served"))
    if request.param == "layout":
        return open_source(f"oci:{release.shelf.root}")
    return open_source(f"bundle:{release.shelf.bundle(tmp_path / 'release.tar')}")


@pytest.fixture
def liar() -> Iterator[Liar]:
    with Liar() as made:
        yield made
