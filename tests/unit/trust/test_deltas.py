"""Which deltas a release makes legal, and that it makes none twice."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.cli.release import render
from edgewright.errors import EnvironmentFault, NetworkError, TrustError
from edgewright.plan.slices import published
from edgewright.publish import delta
from edgewright.publish.artifact_files import ArtifactFiles
from edgewright.publish.delta import Made, make_delta
from edgewright.publish.delta_file import write_delta
from edgewright.trust import deltas
from edgewright.trust.assignment import Candidate
from edgewright.trust.ceremony import sign
from edgewright.trust.deltas import bases_of
from edgewright.trust.release import ReleaseOutcome
from edgewright_agent.contract import DELTA_ARTIFACT, DELTAS_FIELD, artifact_target, digest_of
from edgewright_agent.trust.approval import parse_approval
from unit.trust.fleet import Device, SmallFleet

MODEL, PI, CART = "digit-reader", "raspberry-pi-4", "medical-cart-cpu"


def weights(number: int) -> bytes:
    """Noise of 60 kB in which a few bytes differ from version to version."""
    data = np.frombuffer(np.random.default_rng(0).bytes(60_000), np.uint8).copy()
    data[number * 40 : number * 40 + 20] += 1
    return data.tobytes()


@pytest.fixture
def fleet(tmp_path: Path) -> SmallFleet:
    """A fleet whose one class runs 1.0.0."""
    fleet = SmallFleet(tmp_path / "fleet", classes=(PI,))
    fleet.publish(MODEL, PI, "1.0.0", weights(0))
    fleet.release()
    return fleet


def custom_of(fleet: SmallFleet, digest: str) -> dict[str, Any]:
    """What the class's role signed about an artifact."""
    version = json.loads((fleet.metadata / "timestamp.json").read_bytes())["signed"]["version"]
    assert version
    newest = max(fleet.metadata.glob(f"*.class-{PI}.json"), key=lambda path: int(path.name.split(".")[0]))
    targets = json.loads(newest.read_bytes())["signed"]["targets"]
    custom: dict[str, Any] = targets[artifact_target(MODEL, PI, digest)]["custom"]
    return custom


def bases(fleet: SmallFleet, digest: str) -> list[str]:
    return [one["base"] for one in custom_of(fleet, digest)[DELTAS_FIELD]]


def test_a_new_version_gets_a_delta_from_the_one_that_devices_run(fleet: SmallFleet, tmp_path: Path) -> None:
    old = fleet.lanes[MODEL][PI].digest
    new = fleet.publish(MODEL, PI, "1.1.0", weights(1))
    outcome = fleet.release()
    (made,) = outcome.deltas
    assert (made.base, made.target, made.base_version, made.target_version) == (old, new, "1.0.0", "1.1.0")
    assert made.bytes < 1000 and made.full_bytes == 60_000
    (listed,) = custom_of(fleet, new)[DELTAS_FIELD]
    body = fleet.open(MODEL).get_manifest(listed["digest"])
    assert body is not None and len(body) == listed["size"]
    assert json.loads(body)["artifactType"] == DELTA_ARTIFACT
    layers = json.loads(body)["layers"]
    assert sum(layer["size"] for layer in layers) == listed["bytes"]
    assert all(fleet.open(MODEL).has_blob(layer["digest"]) for layer in layers)
    (agreed,) = parse_approval(1, custom_of(fleet, new), what="it").deltas
    assert (agreed.base, agreed.digest) == (old, listed["digest"])
    Device(fleet, tmp_path / "device").assignment()


def test_a_release_that_changes_nothing_makes_nothing_and_signs_nothing(fleet: SmallFleet) -> None:
    fleet.publish(MODEL, PI, "1.1.0", weights(1))
    fleet.release()
    again = fleet.release()
    assert (again.deltas, again.written, again.pushed) == ((), (), ())


def test_a_look_that_found_nothing_is_signed_and_not_repeated(fleet: SmallFleet) -> None:
    new = fleet.publish(MODEL, PI, "1.1.0", np.random.default_rng(9).bytes(60_000))
    assert fleet.release().deltas == ()
    assert custom_of(fleet, new)[DELTAS_FIELD] == []
    lines: list[str] = []
    assert fleet.release(progress=lines.append).written == ()
    assert not any("delta" in line for line in lines)


def test_the_first_artifact_of_a_lane_says_nothing_of_deltas(fleet: SmallFleet) -> None:
    assert DELTAS_FIELD not in custom_of(fleet, fleet.lanes[MODEL][PI].digest)


def test_at_most_three_bases_the_most_recently_assigned_first(fleet: SmallFleet) -> None:
    digests = [fleet.lanes[MODEL][PI].digest]
    for number in range(1, 5):
        digests.append(fleet.publish(MODEL, PI, f"1.{number}.0", weights(number)))
        fleet.release()
    assert bases(fleet, digests[4]) == digests[3:0:-1]


def test_an_artifact_that_was_never_assigned_is_no_base() -> None:
    def entry(number: int, sequence: int) -> Candidate:
        return Candidate(f"sha256:{number:064x}", 1, "1.0.0", MODEL, number, sequence)

    entries = tuple(entry(number, sequence) for number, sequence in ((1, 4), (2, 0), (3, 2), (4, 5)))
    assert [one.build for one in bases_of(entries[3], entries)] == [1, 3]


def test_an_intentional_rollback_gets_deltas_from_what_devices_run(fleet: SmallFleet) -> None:
    old = fleet.lanes[MODEL][PI].digest
    new = fleet.publish(MODEL, PI, "1.1.0", weights(1))
    fleet.release()
    fleet.groups = ({"name": "all", "models": ({"model": MODEL, "pin": "1.0.0"},)},)
    assert [(made.base, made.target) for made in fleet.release().deltas] == [(new, old)]
    assert bases(fleet, old) == [new]


def test_a_base_that_is_gone_from_the_registry_is_a_note_and_no_failure(fleet: SmallFleet) -> None:
    blobs = fleet.root / "registry" / MODEL / "blobs/sha256"
    (blobs / digest_of(weights(0)).removeprefix("sha256:")).unlink()
    new = fleet.publish(MODEL, PI, "1.1.0", weights(1))
    outcome = fleet.release()
    assert outcome.deltas == () and outcome.is_new
    (note,) = [note for note in outcome.notes if "delta" in note]
    assert "from 1.0.0" in note and "not in the registry any more" in note
    assert custom_of(fleet, new)[DELTAS_FIELD] == []


def test_a_base_whose_manifest_is_gone_is_a_note_too(fleet: SmallFleet) -> None:
    layout = fleet.root / "registry" / MODEL
    shutil.rmtree(layout)
    fleet.publish(MODEL, PI, "1.1.0", weights(1))
    outcome = fleet.release()
    assert outcome.deltas == () and any("no delta" in note for note in outcome.notes)


def note_of(outcome: ReleaseOutcome) -> str:
    (note,) = [note for note in outcome.notes if "delta" in note]
    return note


def test_a_registry_that_was_away_is_a_note_and_the_next_release_looks_again(
    fleet: SmallFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_arguments: object) -> Made:
        raise NetworkError("registry.example: connection reset")

    new = fleet.publish(MODEL, PI, "1.1.0", weights(1))
    with monkeypatch.context() as patched:
        patched.setattr(deltas, "make_delta", away)
        outcome = fleet.release()
        assert outcome.is_new and "from 1.0.0" in note_of(outcome) and "connection reset" in note_of(outcome)
        assert DELTAS_FIELD not in custom_of(fleet, new)
        again = fleet.release()
        assert "connection reset" in note_of(again) and again.written == ()
    assert [made.target for made in fleet.release().deltas] == [new]
    assert len(bases(fleet, new)) == 1
    assert fleet.release().written == ()


def test_no_room_for_a_delta_ends_no_release(fleet: SmallFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    new = fleet.publish(MODEL, PI, "1.1.0", weights(1))
    with monkeypatch.context() as patched:
        patched.setattr(delta, "write_delta", lambda _path, *more: write_delta(Path("/dev/full"), *more))
        outcome = fleet.release()
    assert outcome.is_new and "no space left" in note_of(outcome)
    assert [made.target for made in fleet.release().deltas] == [new]


@pytest.mark.parametrize("place", ["nowhere", "a-file"])
def test_no_temporary_folder_ends_no_release(
    fleet: SmallFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    new = fleet.publish(MODEL, PI, "1.1.0", weights(1))
    (tmp_path / "a-file").touch()
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path / place))
        outcome = fleet.release()
    assert outcome.is_new and "no delta" in note_of(outcome)
    assert [made.target for made in fleet.release().deltas] == [new]


def test_one_base_that_cannot_be_read_takes_no_delta_from_the_others(
    fleet: SmallFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fleet.lanes[MODEL][PI].digest
    second = fleet.publish(MODEL, PI, "1.1.0", weights(1))
    fleet.release()

    def away_for_one(base: ArtifactFiles, target: ArtifactFiles, folder: Path) -> Made | str:
        if base.digest == first:
            raise EnvironmentFault("too many open files")
        return make_delta(base, target, folder)

    third = fleet.publish(MODEL, PI, "1.2.0", weights(2))
    monkeypatch.setattr(deltas, "make_delta", away_for_one)
    outcome = fleet.release()
    assert "from 1.0.0" in note_of(outcome)
    assert bases(fleet, third) == [second]


def test_a_fleet_can_do_without_and_begin_again(fleet: SmallFleet) -> None:
    new = fleet.publish(MODEL, PI, "1.1.0", weights(1))
    fleet.release()
    fleet.more = {"registry": {"url": fleet.url, "deltas": False}}
    outcome = fleet.release()
    assert DELTAS_FIELD not in custom_of(fleet, new) and f"3.class-{PI}.json" in outcome.written
    assert fleet.release().written == ()
    fleet.more = {}
    assert len(fleet.release().deltas) == 1
    assert len(bases(fleet, new)) == 1


def test_switching_deltas_off_publishes_no_artifact_again(fleet: SmallFleet) -> None:
    with_deltas = published(fleet.workspace, None)  # type: ignore[arg-type]
    fleet.more = {"registry": {"url": fleet.url, "deltas": False}}
    assert published(fleet.workspace, None) == with_deltas  # type: ignore[arg-type]


def test_a_release_that_waits_for_a_signature_says_the_same_deltas_when_it_is_completed(
    fleet: SmallFleet, tmp_path: Path
) -> None:
    key = fleet.keys / "artifacts.key"
    key.rename(tmp_path / "away.key")
    new = fleet.publish(MODEL, PI, "1.1.0", weights(1))
    with pytest.raises(TrustError, match="waits|nothing is published"):
        fleet.release()
    (tmp_path / "away.key").rename(key)
    sign(fleet.workspace, now=fleet.now)
    key.rename(tmp_path / "away.key")
    assert len(fleet.release().deltas) == 1
    assert len(bases(fleet, new)) == 1


def test_people_and_programs_are_told_what_was_made(fleet: SmallFleet) -> None:
    fleet.publish(MODEL, PI, "1.1.0", weights(1))
    outcome = fleet.release()
    assert outcome.to_json()["deltas"][0]["base_version"] == "1.0.0"
    (line,) = [line for line in render(outcome).splitlines() if "of what changed" in line]
    assert "1.0.0 (" in line and "→ 1.1.0 (" in line and " bytes, 0." in line
