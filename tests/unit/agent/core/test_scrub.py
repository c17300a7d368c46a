"""Damage to what is active: found although the lengths are right, mended in place, and never a reason to stop early."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgewright_agent.files import Calls
from edgewright_agent.manual import pin, rollback
from unit.agent.core.workbench import MODEL, NOW, Bench, make_artifact

ONE, TWO = (make_artifact(f"{number}.0.0", size=20_000) for number in (1, 2))


@pytest.fixture
def device(tmp_path: Path) -> Bench:
    """A device that runs 1.0.0, its only version."""
    bench = Bench(tmp_path / "device")
    bench.publish(ONE)
    assert bench.codes() == ["installed"]
    return bench


def refresh(device: Bench) -> list[str]:
    """A forced update that assigns nothing new."""
    return device.codes(force=True)


def rot(device: Bench, file: str, *, at: int = 3, length: int | None = None) -> None:
    """Damage a file of what is active; its length stays unless one is given."""
    path = device.state / "current" / MODEL / file
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data[:length]))


@pytest.mark.parametrize("file", ["model.onnx", "runtime.json", "golden.json"])
def test_damage_that_keeps_the_length_is_found_by_a_forced_update_and_mended(
    device: Bench, file: str
) -> None:
    rot(device, file)
    asked = len(device.shelf.blob_requests())
    assert refresh(device) == ["repaired"]
    assert device.running() == "1.0.0"
    assert len(device.shelf.blob_requests()) == asked + 1, "only the damaged file is fetched"
    assert device.doctor.seen == ["1.0.0"], "the same bytes need no second trial"
    assert refresh(device) == ["current"]


def test_a_model_whose_damage_cannot_be_mended_gives_way_to_the_previous_one(device: Bench) -> None:
    device.publish(TWO)
    device.once()
    rot(device, "model.onnx")
    device.trust.untrusted[TWO.digest] = "bad-signature"
    assert refresh(device) == ["damaged"]
    assert device.running() == "1.0.0"
    device.trust.untrusted.clear()
    device.shelf.put(TWO)
    assert device.codes() == ["installed"]
    assert device.running() == "2.0.0"


def test_the_only_version_goes_on_while_what_it_runs_from_is_whole(device: Bench) -> None:
    rot(device, "golden.json", length=5)
    device.shelf.down = True
    report = device.once()
    assert [(o.code, o.exit_code) for o in report.outcomes] == [("damaged", 3)]
    assert "goes on" in report.outcomes[0].message
    assert device.store.linked(MODEL) == ONE.digest
    assert device.ledger.record.model(MODEL).active is not None
    device.shelf.down = False
    assert device.codes() == ["repaired"]
    assert device.running() == "1.0.0"
    assert device.once().poll.code == "not-modified"


def test_what_one_failed_try_did_not_mend_is_tried_again_and_not_left_behind_not_modified(
    device: Bench,
) -> None:
    rot(device, "golden.json")
    device.trust.untrusted[ONE.digest] = "bad-signature"
    assert refresh(device) == ["damaged"]
    device.trust.untrusted.clear()
    device.shelf.down = True
    assert device.codes() == ["damaged"], "the length is right, and still it is remembered"
    device.shelf.down = False
    assert device.codes() == ["repaired"]
    assert device.running() == "1.0.0"
    assert device.once().poll.code == "not-modified"


def test_a_pinned_version_that_is_damaged_is_mended_although_another_is_assigned(device: Bench) -> None:
    pin(device.ledger, device.store, MODEL, now=NOW)
    device.publish(TWO)
    assert device.codes() == ["pinned"]
    rot(device, "golden.json", length=5)
    device.shelf.cut_after = 0
    assert device.codes() == ["pinned"]
    assert not device.store.intact(ONE.digest), "the line dropped"
    assert device.codes() == ["pinned"]
    assert device.running() == "1.0.0"
    assert device.once().poll.code == "not-modified"


def test_what_runs_in_place_of_a_version_that_failed_here_is_mended_as_well(device: Bench) -> None:
    device.publish(TWO)
    device.once()
    rollback(device.ledger, device.store, MODEL, now=NOW)
    rot(device, "golden.json", length=5)
    assert device.codes() == ["tombstoned"]
    assert device.running() == "1.0.0"
    assert device.once().poll.code == "not-modified"


def test_a_previous_version_that_is_damaged_is_not_kept_when_it_becomes_one(device: Bench) -> None:
    device.publish(TWO)
    rot(device, "golden.json", length=5)
    device.shelf.down = False
    device.once()
    assert device.running() == "2.0.0"
    assert device.ledger.record.model(MODEL).previous is None
    assert not device.store.path(ONE.digest).exists()
    assert device.once().poll.code == "not-modified"


def test_the_only_version_stops_when_what_it_runs_from_is_damaged(device: Bench) -> None:
    rot(device, "model.onnx", length=5)
    device.shelf.down = True
    assert device.codes() == ["damaged"]
    assert device.store.linked(MODEL) is None
    device.shelf.down = False
    assert device.codes() == ["installed"]


def test_without_a_whole_manifest_nothing_can_be_trusted_and_all_is_fetched_again(device: Bench) -> None:
    rot(device, "manifest.json")
    device.shelf.down = True
    assert device.codes() == ["damaged"]
    assert device.store.linked(MODEL) is None
    device.shelf.down = False
    assert device.codes() == ["installed"]
    assert device.running() == "1.0.0"


def test_while_a_file_is_mended_the_entry_is_never_without_it(device: Bench) -> None:
    rot(device, "model.onnx")
    path = device.store.path(ONE.digest) / "model.onnx"

    class Watching(Calls):
        def __getattribute__(self, name: str) -> object:
            assert os.path.exists(path), f"before {name}"  # noqa: PTH110
            return super().__getattribute__(name)

    device.calls = Watching()
    assert refresh(device) == ["repaired"]
    assert device.running() == "1.0.0"
