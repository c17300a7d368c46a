"""The factory model: marked by a person, kept for good, read back now and then, found again when the record is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from edgewright_agent.errors import ConfigError, HealthError, StorageError, TransportError
from edgewright_agent.factory import SCRUB_EVERY, clear, mark
from edgewright_agent.manual import reanchor, rollback
from edgewright_agent.model_state import Soak, Tombstone
from edgewright_agent.status import Status, gather
from unit.agent.core.workbench import MODEL, NOW, BadSectors, Bench, Made, make_artifact

ONE, TWO, THREE, FOUR = (make_artifact(f"{number}.0.0", size=5000) for number in (1, 2, 3, 4))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A device with 1.0.0 as its factory model, that runs 3.0.0 and has 2.0.0 to go back to.

    Its metadata holds for years: what ends would make every poll a whole one.
    """
    bench = Bench(tmp_path)
    bench.trust.expires = dict.fromkeys(bench.trust.expires, "2035-01-01T00:00:00Z")
    for made in (ONE, TWO, THREE):
        bench.publish(made)
        assert bench.codes() == ["installed"]
        if made is ONE:
            mark(bench.ledger, bench.store, MODEL, now=NOW)
    return bench


def rot(bench: Bench, made: Made) -> None:
    """Change a byte of an installed model, not its size."""
    path = bench.store.path(made.digest) / "model.onnx"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def status(bench: Bench) -> Status:
    return gather(bench.config, bench.ledger, bench.store, bench.now)


def later(bench: Bench) -> None:
    """Let the time pass after which everything is read back."""
    bench.now += SCRUB_EVERY


def test_it_outlives_any_number_of_updates(bench: Bench) -> None:
    bench.publish(FOUR)
    bench.once()
    bench.once(force=True)
    bench.store.verify(ONE.digest)
    assert not bench.store.path(TWO.digest).exists()
    assert status(bench).document()["models"][MODEL]["factory"] == "1.0.0"


def test_it_runs_when_active_and_previous_are_damaged_and_that_is_the_factory_step(bench: Bench) -> None:
    for made in (TWO, THREE):
        (bench.store.path(made.digest) / "model.onnx").write_bytes(b"")
    bench.shelf.down = True
    assert bench.codes() == ["damaged"]
    assert bench.running() == "1.0.0"
    rung = bench.ledger.record.model(MODEL).rung
    assert rung and (rung.name, rung.code) == ("factory", "previous-damaged")
    told = status(bench)
    assert (told.state, told.document()["rung"]) == ("failing", "factory")
    assert (
        "ladder     digit-reader factory since 2030-01-01T00:00:00Z, previous-damaged: 3.0.0 is"
        in told.text()
    )
    bench.shelf.down = False
    assert bench.codes() == ["installed"]
    assert bench.running() == "3.0.0"
    assert bench.ledger.record.model(MODEL).rung is None


def test_a_damaged_active_model_is_the_previous_step_and_without_any_other_the_last(bench: Bench) -> None:
    (bench.store.path(THREE.digest) / "model.onnx").write_bytes(b"")
    bench.shelf.down = True
    bench.once()
    rung = bench.ledger.record.model(MODEL).rung
    assert rung and rung.name == "previous"
    for made in (ONE, TWO):
        (bench.store.path(made.digest) / "model.onnx").write_bytes(b"")
    bench.once()
    rung = bench.ledger.record.model(MODEL).rung
    assert rung and (rung.name, rung.code) == ("safe-output", "no-model")
    assert bench.running() is None


def test_the_step_is_left_when_what_runs_is_what_is_assigned(bench: Bench) -> None:
    (bench.store.path(THREE.digest) / "model.onnx").write_bytes(b"")
    bench.shelf.down = True
    bench.once()
    bench.shelf.down = False
    bench.publish(TWO)
    bench.once()
    assert bench.running() == "2.0.0"
    assert bench.ledger.record.model(MODEL).rung is None


@pytest.mark.parametrize("slot", ["active", "previous", "factory"])
def test_what_rots_unseen_is_found_by_reading_it_back_once_a_week(bench: Bench, slot: str) -> None:
    made = {"active": THREE, "previous": TWO, "factory": ONE}[slot]
    rot(bench, made)
    assert bench.once().poll.code == "not-modified", "sizes tell nothing"
    later(bench)
    bench.once()
    assert bench.running() == "3.0.0"
    if slot != "previous":
        assert bench.store.verify(made.digest), "fetched again"
    assert bench.once().poll.code == "not-modified", "not before the next week"
    state = bench.ledger.record.model(MODEL)
    assert state.factory
    assert state.factory.version == "1.0.0"
    assert (state.previous is None) == (slot == "previous")


@pytest.mark.parametrize("slot", ["active", "factory"])
def test_a_bad_sector_is_found_once_a_week_like_changed_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, slot: str
) -> None:
    made = {"active": THREE, "factory": ONE}[slot]
    bad = BadSectors(monkeypatch)
    bad.under(bench.store.path(made.digest) / "model.onnx")
    later(bench)
    bench.shelf.down = True
    bench.once()
    told = status(bench).document()
    assert told["state"] != "ok"
    assert told["models"][MODEL]["factoryWhole"] is (slot == "active")
    assert bench.running() == ("2.0.0" if slot == "active" else "3.0.0")
    bench.shelf.down = False
    bad.files.clear()  # the new file lies elsewhere on the disk
    bench.once()
    bench.store.verify(made.digest)
    assert bench.running() == "3.0.0"
    assert status(bench).state == "ok"


def test_one_that_has_gone_missing_is_fetched_again_though_nothing_is_new(bench: Bench) -> None:
    shutil.rmtree(bench.store.path(ONE.digest))
    assert bench.once().poll.code == "ok"
    assert bench.store.verify(ONE.digest)
    assert bench.once().poll.code == "not-modified"


def test_a_line_that_is_down_when_it_is_found_damaged_does_not_hide_it_behind_not_modified(
    bench: Bench,
) -> None:
    rot(bench, ONE)
    later(bench)
    bench.shelf.down = True
    assert bench.once().poll.code == "network"
    bench.shelf.down = False
    assert bench.once().poll.code == "ok"
    assert bench.store.verify(ONE.digest)


def test_one_that_nobody_signs_for_any_more_does_not_make_every_poll_a_whole_one(bench: Bench) -> None:
    rot(bench, ONE)
    del bench.trust.targets[MODEL, "raspberry-pi-4", ONE.digest]
    later(bench)
    assert bench.once().poll.code == "ok"
    assert bench.once().poll.code == "not-modified"
    bench.publish(THREE)
    bench.trust.targets[MODEL, "raspberry-pi-4", ONE.digest] = len(ONE.body)
    assert bench.once().poll.code == "ok"
    assert bench.store.verify(ONE.digest), "signed for again"


def test_one_that_is_damaged_and_cannot_be_fetched_again_is_told_with_what_to_do(bench: Bench) -> None:
    rot(bench, ONE)
    del bench.trust.targets[MODEL, "raspberry-pi-4", ONE.digest]
    later(bench)
    bench.once()
    told = status(bench)
    assert told.state == "degraded"
    assert told.document()["models"][MODEL]["factoryWhole"] is False
    assert "1.0.0 is damaged" in told.text()
    assert told.next_command() == f"edgewright-agent factory {MODEL}"
    mark(bench.ledger, bench.store, MODEL, now=NOW)
    assert status(bench).state == "ok"


def test_forcing_an_update_reads_the_spares_back_too(bench: Bench) -> None:
    rot(bench, ONE)
    bench.once(force=True)
    bench.store.verify(ONE.digest)


def test_a_new_record_finds_it_again(bench: Bench) -> None:
    for slot in ("state.0", "state.1"):
        (bench.state / slot).write_bytes(b"\xff" * 65536)
    reanchor(bench.ledger, bench.store, now=NOW)
    state = bench.ledger.record.model(MODEL)
    assert state.active and state.factory
    assert (state.active.version, state.factory.version) == ("3.0.0", "1.0.0")
    (bench.store.path(THREE.digest) / "model.onnx").write_bytes(b"")
    bench.shelf.down = True
    bench.once()
    assert bench.running() == "1.0.0"


def test_its_link_is_derived_from_the_record(bench: Bench) -> None:
    link = bench.state / "factory" / MODEL
    link.unlink()
    bench.once()
    assert bench.store.factories() == {MODEL: ONE.digest}
    clear(bench.ledger, bench.store, MODEL)
    assert not os.path.lexists(link)
    bench.once()
    assert not bench.store.path(ONE.digest).exists()


def test_going_back_by_hand_reaches_it_in_the_end(bench: Bench) -> None:
    rollback(bench.ledger, bench.store, MODEL, now=NOW)
    rollback(bench.ledger, bench.store, MODEL, now=NOW)
    assert bench.running() == "1.0.0"


def test_only_what_is_active_proved_and_whole_can_be_marked(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="no stranger is active") as refused:
        mark(bench.ledger, bench.store, "stranger", now=NOW)
    assert refused.value.code == "no-model"
    with pytest.raises(ConfigError) as refused:
        clear(bench.ledger, bench.store, "stranger")
    assert refused.value.code == "no-factory"
    ledger = bench.ledger
    state = ledger.record.model(MODEL)
    ledger.commit(ledger.record.with_model(MODEL, replace(state, soak=Soak(THREE.digest, 60, 3))))
    with pytest.raises(ConfigError) as refused:
        mark(bench.ledger, bench.store, MODEL, now=NOW)
    assert refused.value.code == "not-proved"
    ledger.commit(ledger.record.with_model(MODEL, state))
    rot(bench, THREE)
    with pytest.raises(StorageError) as damaged:
        mark(bench.ledger, bench.store, MODEL, now=NOW)
    assert damaged.value.code == "damaged"
    assert status(bench).models[0].factory == "1.0.0"


def test_the_command_marks_and_clears(bench: Bench) -> None:
    config = bench.folder / "agent.json"
    config.write_text(json.dumps(bench.document))

    def agent(*arguments: str) -> tuple[int, str]:
        command = [
            sys.executable,
            "-m",
            "edgewright_agent",
            "factory",
            MODEL,
            "--config",
            str(config),
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    code, told = agent()
    assert (code, told) == (
        0,
        "digit-reader  3.0.0 is the factory model: it stays, and runs when nothing newer is whole\n",
    )
    assert agent("--clear")[0] == 0
    code, told = agent("--clear")
    assert code == 1
    assert "no-factory" in told


def test_a_clock_that_was_ahead_does_not_put_it_off_for_years(bench: Bench) -> None:
    ledger = bench.ledger
    ledger.commit(replace(ledger.record, scrubbed="2040-01-01T00:00:00Z"))
    rot(bench, TWO)
    bench.now += timedelta(hours=1)
    bench.once()
    assert bench.ledger.record.model(MODEL).previous is None


def only_the_factory_model(tmp_path: Path) -> Bench:
    """A device whose only version is its factory model, and damaged; it assigns one that failed here."""
    bench = Bench(tmp_path)
    bench.publish(ONE)
    bench.once()
    mark(bench.ledger, bench.store, MODEL, now=NOW)
    bench.doctor.verdicts["2.0.0"] = HealthError("health-wrong-output", "7 instead of 3")
    bench.publish(TWO)
    assert bench.codes() == ["health-wrong-output"]
    (bench.store.path(ONE.digest) / "model.onnx").write_bytes(b"")
    return bench


def test_fetched_again_it_runs_at_once_where_nothing_else_does(tmp_path: Path) -> None:
    bench = only_the_factory_model(tmp_path)
    report = bench.once()
    assert [outcome.code for outcome in report.outcomes] == ["tombstoned"]
    assert bench.running() == "1.0.0"
    rung = bench.ledger.record.model(MODEL).rung
    assert rung and rung.name == "factory"


def test_a_line_that_drops_while_it_is_fetched_again_is_gone_on_from_and_not_forgotten(
    tmp_path: Path,
) -> None:
    bench = only_the_factory_model(tmp_path)
    bench.shelf.chunk, bench.shelf.cut_after = 1000, 2500
    real, drops = bench.shelf.blob, iter((True,))

    def blob(repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        if offset and next(drops, False):
            raise TransportError("network", "no route to host")
        return real(repository, digest, size=size, offset=offset)

    bench.shelf.blob = blob  # type: ignore[method-assign]
    bench.once()
    assert bench.running() is None
    bench.shelf.asked.clear()
    assert bench.once().poll.code == "ok", "there is something left to fetch"
    assert bench.shelf.blob_requests()[0].endswith(" 2500"), bench.shelf.blob_requests()
    assert bench.running() == "1.0.0"
    assert bench.once().poll.code == "not-modified"


def test_one_that_was_given_up_here_is_no_fallback(bench: Bench) -> None:
    stone = Tombstone(ONE.digest, "1.0.0", "soak-crash", "crashed", "2030-01-01T00:00:00Z")
    state = replace(bench.ledger.record.model(MODEL).entomb(stone), previous=None)
    bench.ledger.commit(bench.ledger.record.with_model(MODEL, state))
    (bench.store.path(THREE.digest) / "model.onnx").write_bytes(b"")
    bench.shelf.down = True
    assert bench.codes() == ["damaged"]
    assert bench.running() is None, "a safe output is better than a model known to be bad"


def test_one_that_failed_its_soak_cannot_be_marked_and_is_said_to_have_failed(bench: Bench) -> None:
    state = bench.ledger.record.model(MODEL)
    soak = Soak(THREE.digest, 0, 3, failed="soak-crash")
    bench.ledger.commit(bench.ledger.record.with_model(MODEL, replace(state, soak=soak)))
    with pytest.raises(ConfigError, match=r"has failed its live soak \(soak-crash\)"):
        mark(bench.ledger, bench.store, MODEL, now=NOW)
