"""The record's beginning and its loss: nothing is installed without one, and no script begins it anew."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgewright_agent.cli import main
from edgewright_agent.errors import ConfigError, StorageError, TrustError
from edgewright_agent.files import Calls, Disk
from edgewright_agent.floor import Floor
from edgewright_agent.manual import anchor, floor_of, leave_mark, reanchor, unanchored
from edgewright_agent.record import Ledger, Record
from edgewright_agent.status import gather
from unit.agent.core.workbench import MODEL, NOW, PI, Bench, make_artifact

ONE, TWO = make_artifact("1.0.0"), make_artifact("2.0.0")


@pytest.fixture
def running(tmp_path: Path) -> Bench:
    """A device that runs 2.0.0."""
    bench = Bench(tmp_path)
    for made in (ONE, TWO):
        bench.publish(made)
        bench.once()
    return bench


def refuses(bench: Bench, code: str) -> str:
    with pytest.raises(StorageError) as caught:
        bench.once()
    assert caught.value.code == code
    return str(caught.value)


def lowest(bench: Bench) -> Floor:
    """What the record holds, at the moment it was written."""
    record = bench.ledger.record
    return Floor(record.floor, record.floor_keys, record.clock_floor)


def lose_record(bench: Bench) -> None:
    for name in ("state.0", "state.1"):
        (bench.state / name).unlink()


# --- loss ---------------------------------------------------------------------------------


def test_a_device_without_a_record_installs_nothing_and_says_what_to_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, anchored=False)
    bench.publish(ONE)
    assert "edgewright-agent anchor" in refuses(bench, "state-missing")
    assert (bench.running(), bench.shelf.asked) == (None, [])
    found = gather(bench.config, bench.ledger, bench.store, NOW)
    assert (found.state, found.next_command()) == ("missing", "edgewright-agent reanchor")
    assert (
        "state-missing: what runs keeps running, nothing is installed; next: edgewright-agent" in found.text()
    )
    assert found.document()["quarantine"] == "state-missing"


@pytest.mark.parametrize("left", ["everything else", "the models", "nothing"])
def test_a_state_that_a_power_cut_has_emptied_does_not_believe_a_replay(running: Bench, left: str) -> None:
    """Whatever survives: the old state is signed, and not yet expired; only the record knew that it is old."""
    if left == "nothing":
        shutil.rmtree(running.state)
    else:
        lose_record(running)
        if left == "the models":
            shutil.rmtree(running.state / "tuf", ignore_errors=True)
    running.trust.versions = dict.fromkeys(running.trust.versions, 1)
    running.publish(ONE)
    for _ in range(2):
        refuses(running, "state-missing")
        assert running.running() == (None if left == "nothing" else "2.0.0")
    assert not running.ledger.record.floor, "nothing was accepted"


@pytest.mark.parametrize("slot", ["state.0", "state.1"])
def test_one_lost_copy_of_the_record_costs_no_floor(running: Bench, slot: str) -> None:
    before = running.ledger.record
    (running.state / slot).unlink()
    after = running.ledger.record
    assert (after.floor, after.sequences, after.fleet) == (before.floor, before.sequences, before.fleet)


def test_the_copy_before_the_newest_does_not_take_old_metadata_for_unchanged(running: Bench) -> None:
    """An ETag beside a floor that its metadata is below would hold the device there."""
    old = running.shelf.manifests["tuf", "timestamp.json"]
    running.publish(make_artifact("3.0.0"))
    running.once()
    (running.state / f"state.{running.ledger.generation % 2}").write_bytes(b"torn")
    running.shelf.manifests["tuf", "timestamp.json"] = old
    running.trust.refusal = TrustError("metadata-rollback", "an old state is being replayed")
    assert running.once().poll.code == "metadata-rollback"


def test_a_state_directory_that_is_made_anew_with_empty_slots_is_damage(running: Bench) -> None:
    for name in ("state.0", "state.1"):
        (running.state / name).write_bytes(b"")
    refuses(running, "state-damaged")
    assert running.running() == "2.0.0"


# --- reanchoring --------------------------------------------------------------------------


def test_reanchoring_keeps_what_runs_and_takes_the_floor_from_a_person(running: Bench) -> None:
    lose_record(running)
    floor = floor_of({"timestamp": "40", "class-raspberry-pi-4": "7", "clock": "2030-01-01T00:00:00Z"})
    assert reanchor(running.ledger, running.store, now=NOW, floor=floor) == {MODEL: "2.0.0"}
    assert lowest(running) == Floor({"timestamp": 40, "class-raspberry-pi-4": 7}, {}, "2030-01-01T00:00:00Z")
    assert running.running() == "2.0.0"
    running.once()
    assert running.trust.floors[-1].versions["timestamp"] == 40


@pytest.mark.parametrize(
    ("least", "why"),
    [
        ({"timestam": "4"}, "timestam is no role: root, timestamp"),
        ({"timestamp": "0"}, "is not a version"),
        ({"timestamp": "four"}, "is not a version"),
        ({"timestamp": "9" * 40}, "is not a version"),
        ({"class-": "4"}, "class- is no role"),
        ({"clock": "yesterday"}, "is not a time like"),
    ],
)
def test_a_floor_that_makes_no_sense_is_refused(least: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        floor_of(least)
    assert caught.value.code == "bad-floor"


def test_a_renamed_fleet_is_followed_when_a_person_says_so_and_every_floor_stays(running: Bench) -> None:
    running.trust.assignment = {**running.trust.assignment, "fleet": "g"}
    running.publish(make_artifact("3.0.0"))
    assert running.once().poll.code == "wrong-fleet"
    before = running.ledger.record
    assert reanchor(running.ledger, running.store, now=NOW, fleet="g") == {}
    assert replace(running.ledger.record, fleet="f", seen=None) == replace(before, seen=None)
    assert running.codes() == ["installed"]
    with pytest.raises(ConfigError) as caught:
        reanchor(running.ledger, running.store, now=NOW, fleet="Not A Name")
    assert caught.value.code == "bad-fleet"


# --- images: the record begins on the device, once ------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A configuration as `init --no-state` leaves it."""
    leave_mark(tmp_path / "agent.json", {"timestamp": "40"})
    return tmp_path / "agent.json"


def ledger(image: Path) -> Ledger:
    return Ledger(image.parent / "state", Disk())


def test_an_image_is_anchored_once_and_a_start_script_may_ask_every_time(image: Path) -> None:
    assert anchor(ledger(image), image)
    assert ledger(image).record == Record(floor={"timestamp": 40})
    assert not anchor(ledger(image), image)
    assert [path.name for path in image.parent.iterdir()] == ["state"]


def test_a_start_script_does_not_anchor_a_device_that_has_lost_its_state(image: Path) -> None:
    anchor(ledger(image), image)
    shutil.rmtree(image.parent / "state")
    with pytest.raises(StorageError) as refused:
        anchor(ledger(image), image)
    assert refused.value.code == "state-missing"
    assert ledger(image).record.quarantined


def test_a_damaged_record_is_not_anchored_over(image: Path) -> None:
    (image.parent / "state").mkdir()
    (image.parent / "state" / "state.0").write_bytes(b"junk")
    with pytest.raises(StorageError) as refused:
        anchor(ledger(image), image)
    assert refused.value.code == "state-damaged"


def test_a_power_cut_between_mark_and_record_is_gone_on_from(image: Path) -> None:
    mark = unanchored(image)
    mark.rename(mark.with_name(mark.name + ".used"))
    assert anchor(ledger(image), image)
    assert not anchor(ledger(image), image)


def test_a_mark_that_cannot_be_removed_anchors_nothing(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Calls, "rename", read_only)
    with pytest.raises(StorageError) as refused:
        anchor(ledger(image), image)
    assert refused.value.code == "read-only"
    assert ledger(image).record.quarantined == "state-missing"


def test_a_mark_that_is_not_ours_is_refused(image: Path) -> None:
    unanchored(image).write_text("[]")
    with pytest.raises(ConfigError) as refused:
        anchor(ledger(image), image)
    assert refused.value.code == "bad-floor"


# --- the commands -------------------------------------------------------------------------


def init(bench: Bench, *more: str) -> int:
    from unit.agent.core.test_cli import provision

    provision(bench.folder)
    return main(
        [
            *("init", "--device-id", "pi-7", "--class", PI, "--source", f"oci:{bench.folder}"),
            *("--root", str(bench.folder / "root.json"), "--key", str(bench.folder / "signing.pub")),
            *("--state", str(bench.state), "--out", str(bench.folder / "agent.json"), *more),
        ]
    )


def agent(bench: Bench, verb: str, *words: str) -> int:
    return main([verb, "--config", str(bench.folder / "agent.json"), *words])


def test_init_begins_the_record_with_the_floor_it_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, anchored=False)
    assert init(bench, "--at-least", "root=3", "--at-least", "clock=2030-01-01T00:00:00Z") == 0
    assert "next: edgewright-agent once" in capsys.readouterr().out
    assert lowest(bench) == Floor({"root": 3}, {}, "2030-01-01T00:00:00Z")


@pytest.mark.parametrize("image", [False, True], ids=["here", "by way of an image"])
def test_a_device_may_be_told_from_the_start_whose_it_is(tmp_path: Path, image: bool) -> None:
    bench = Bench(tmp_path, anchored=False)
    assert init(bench, "--fleet", "ours", *(["--no-state"] if image else [])) == 0
    assert not image or agent(bench, "anchor") == 0
    assert bench.ledger.record.fleet == "ours"
    bench.publish(ONE)
    assert bench.once().poll.code == "wrong-fleet"


def test_a_fleet_that_is_no_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(Bench(tmp_path, anchored=False), "--fleet", "Not a name") == 1
    assert "bad-fleet" in capsys.readouterr().err


def test_init_keeps_the_record_of_a_device_that_has_one(running: Bench) -> None:
    before = running.ledger.record
    assert init(running, "--force") == 0
    assert running.ledger.record == before


@pytest.mark.parametrize("left", ["a configuration", "models"])
def test_init_does_not_begin_anew_where_a_device_has_lived(
    running: Bench, left: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if left == "a configuration":
        assert init(running) == 0
        shutil.rmtree(running.state)
    else:
        lose_record(running)
    capsys.readouterr()
    assert init(running, "--force") == 0
    assert "as state-missing says: edgewright-agent reanchor" in capsys.readouterr().out
    assert running.ledger.record.quarantined
    assert agent(running, "anchor") == 3
    assert agent(running, "reanchor", "--at-least", "timestamp=40") == 0
    assert running.ledger.record.floor == {"timestamp": 40}


def test_an_image_goes_from_init_through_anchor_to_its_first_poll(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, anchored=False)
    assert init(bench, "--no-state", "--at-least", "rollout=12") == 0
    assert "next, on the device: edgewright-agent anchor" in capsys.readouterr().out
    assert not bench.state.exists()
    assert agent(bench, "once") == 3
    capsys.readouterr()
    assert agent(bench, "status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["next"] == "edgewright-agent anchor"
    assert [agent(bench, "anchor") for _ in range(2)] == [0, 0]
    assert bench.ledger.record.floor == {"rollout": 12}
    bench.publish(ONE)
    assert bench.codes() == ["installed"]


def test_init_where_the_state_cannot_be_made_names_the_way_for_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, anchored=False)
    bench.state.write_text("a file where the directory should be")
    assert init(bench) == 3
    assert "`init --no-state`" in capsys.readouterr().err
    assert not (tmp_path / "agent.json").exists()


def test_a_wrong_configuration_is_told_before_a_missing_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, anchored=False)
    (tmp_path / "signing.pub").unlink()
    (tmp_path / "agent.json").write_text(json.dumps(bench.document))
    assert agent(bench, "once") == 1
    assert "signing.pub" in capsys.readouterr().err


def test_status_tells_how_far_the_clock_is_behind(running: Bench) -> None:
    record = running.ledger.record
    running.ledger.commit(replace(record, clock_floor="2030-01-04T00:00:00Z"))
    found = gather(running.config, running.ledger, running.store, NOW)
    assert "clock      behind the signed time by 3 days; taken to be 2030-01-04T00:00:00Z" in found.text()
    assert found.document()["clock"] == {"floor": "2030-01-04T00:00:00Z", "behindS": 3 * 86400}
    assert found.state == "ok"
