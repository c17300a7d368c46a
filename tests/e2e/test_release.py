"""The device's own code accepts what is published and released, over every kind of registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.trust.assignment import PublishedLane
from edgewright_agent.errors import TrustError
from edgewright_agent.transport import Source, open_source
from edgewright_agent.trust.assignment import assigned
from edgewright_agent.trust.policy import demands_of
from edgewright_agent.trust.sigstore import key_signer, verify_artifact
from edgewright_agent.trust.tuf import Desired, refresh
from real import Registry, Tool
from unit.publish.lane import LaneFiles
from unit.trust.fleet import SmallFleet

PI = "raspberry-pi-4"


@pytest.fixture(params=["http", "layout"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> SmallFleet:
    if request.param == "http":
        registry: Registry = request.getfixturevalue("registry")
        return SmallFleet(tmp_path / "fleet", url=f"{registry.url}/acme")
    return SmallFleet(tmp_path / "fleet", url=f"oci:{tmp_path}/registry")


def publish(fleet: SmallFleet, weights: bytes = b"weights") -> LaneFiles:
    """Package, sign and publish one lane for real."""
    keys = ".edgewright/keys"
    lane = LaneFiles(
        fleet.root,
        {"url": fleet.url},
        weights=weights,
        signing={"privateKey": f"file:{keys}/signing.key", "publicKey": f"{keys}/signing.pub"},
    )
    lane.all()
    size = len(lane.manifest)
    fleet.lanes[lane.model] = {PI: PublishedLane(lane.digest, size, lane.model_version, lane.model)}
    return lane


def poll(fleet: SmallFleet, tmp_path: Path) -> tuple[Source, Desired]:
    """Do what a device does at a poll, with its own code."""
    source = open_source(fleet.url)
    root = (fleet.metadata / "1.root.json").read_bytes()
    cache = tmp_path / "cache"
    cache.mkdir(exist_ok=True)
    return source, refresh(source, cache=cache, root=root, hardware_class=PI, now=fleet.now)


def test_a_device_finds_verifies_and_would_install_the_release(fleet: SmallFleet, tmp_path: Path) -> None:
    lane = publish(fleet)
    fleet.release()
    source, desired = poll(fleet, tmp_path)
    mine = assigned(desired.assignment, hardware_class=PI, labels={})[lane.model]
    assert mine.digest == lane.digest
    assert desired.require_artifact(lane.model, PI, mine.digest).length == len(lane.manifest)
    pins = [key_signer("signing", (fleet.root / ".edgewright/keys/signing.pub").read_bytes())]
    demands = demands_of(None, pins=pins, hardware_class=PI)
    report = verify_artifact(
        source, mine.repository, mine.digest, demands, model=lane.model, hardware_class=PI
    )
    assert report["artifact"] == lane.digest


def test_a_device_follows_the_next_release(fleet: SmallFleet, tmp_path: Path) -> None:
    publish(fleet)
    fleet.release()
    poll(fleet, tmp_path)
    newer = publish(fleet, b"better weights")
    fleet.release()
    _, desired = poll(fleet, tmp_path)
    assert assigned(desired.assignment, hardware_class=PI, labels={})[newer.model].digest == newer.digest


def test_an_artifact_no_release_names_is_not_for_the_device(fleet: SmallFleet, tmp_path: Path) -> None:
    publish(fleet)
    fleet.release()
    unreleased = publish(fleet, b"never released")
    _, desired = poll(fleet, tmp_path)
    with pytest.raises(TrustError) as caught:
        desired.require_artifact(unreleased.model, PI, unreleased.digest)
    assert caught.value.code == "not-a-target"


def test_a_poll_without_news_is_one_304(tmp_path: Path, registry: Registry) -> None:
    fleet = SmallFleet(tmp_path / "fleet", url=f"{registry.url}/acme")
    publish(fleet)
    fleet.release()
    source = open_source(fleet.url)
    first = source.manifest("tuf", "timestamp.json")
    assert first is not None
    assert source.manifest("tuf", "timestamp.json", etag=first.etag) is None
    fleet.release()  # nothing changed: nothing is published
    assert source.manifest("tuf", "timestamp.json", etag=first.etag) is None
    fleet.release(refresh=True)
    assert source.manifest("tuf", "timestamp.json", etag=first.etag) is not None


def test_oras_shows_the_metadata_to_people(tmp_path: Path, registry: Registry, oras: Tool) -> None:
    fleet = SmallFleet(tmp_path / "fleet", url=f"{registry.url}/acme")
    publish(fleet)
    fleet.release()
    pulled = oras(
        "pull", "--plain-http", "-o", tmp_path / "pulled", f"{registry.host}/acme/tuf:timestamp.json"
    )
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "pulled/timestamp.json").read_bytes() == (
        fleet.metadata / "timestamp.json"
    ).read_bytes()
