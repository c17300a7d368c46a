"""What a person does by hand, and what `status` tells them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from edgewright_agent.cli import main
from edgewright_agent.clock import to_text
from edgewright_agent.degrade import stand
from edgewright_agent.engine import EngineError
from edgewright_agent.errors import ConfigError, HealthError, StorageError
from edgewright_agent.evidence import Archive
from edgewright_agent.files import Disk
from edgewright_agent.manual import pin, reanchor, retry, rollback, unpin
from edgewright_agent.model_state import Slot
from edgewright_agent.status import ModelStatus, Status, gather
from unit.agent.core.workbench import MODEL, NOW, Bench, make_artifact

ONE, TWO = make_artifact("1.0.0"), make_artifact("2.0.0")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A device that runs 2.0.0 and has run 1.0.0 before."""
    bench = Bench(tmp_path)
    for made in (ONE, TWO):
        bench.publish(made)
        assert bench.codes() == ["installed"]
    return bench


def status(bench: Bench) -> Status:
    return gather(bench.config, bench.ledger, bench.store, bench.now)


def model(bench: Bench) -> ModelStatus:
    (only,) = status(bench).models
    return only


def test_going_back_makes_the_previous_version_active_and_gives_the_bad_one_up(bench: Bench) -> None:
    assert rollback(bench.ledger, bench.store, MODEL, now=NOW).version == "1.0.0"
    assert bench.running() == "1.0.0"
    assert bench.codes() == ["tombstoned"]
    assert bench.running() == "1.0.0"
    assert (model(bench).state, model(bench).version) == ("rolled-back", "1.0.0")


def test_there_is_no_going_back_twice(bench: Bench) -> None:
    rollback(bench.ledger, bench.store, MODEL, now=NOW)
    with pytest.raises(ConfigError) as refused:
        rollback(bench.ledger, bench.store, MODEL, now=NOW)
    assert refused.value.code == "no-previous"
    with pytest.raises(ConfigError, match="no nonsense is active"):
        rollback(bench.ledger, bench.store, "nonsense", now=NOW)


def test_going_back_to_damaged_files_is_refused(bench: Bench) -> None:
    (bench.store.path(ONE.digest) / "model.onnx").write_bytes(b"x" * len(ONE.files["model.onnx"]))
    with pytest.raises(StorageError) as refused:
        rollback(bench.ledger, bench.store, MODEL, now=NOW)
    assert refused.value.code == "damaged"
    assert bench.running() == "2.0.0"


def slots(bench: Bench) -> tuple[str | None, str | None]:
    state = bench.ledger.record.model(MODEL)
    return state.active and state.active.version, state.previous and state.previous.version


def with_factory(bench: Bench) -> None:
    """Keep 0.9.0 as the factory model."""
    old = bench.obtained(make_artifact("0.9.0"))
    slot = Slot(old.digest, "0.9.0", "2029-01-01T00:00:00Z")
    state = replace(bench.ledger.record.model(MODEL), factory=slot)
    ledger = bench.ledger
    ledger.commit(ledger.record.with_model(MODEL, state))


@pytest.mark.parametrize("to", ["1.0.0", ONE.digest, ONE.digest[7:19]])
def test_going_back_to_a_version_or_a_digest_that_is_here(bench: Bench, to: str) -> None:
    assert rollback(bench.ledger, bench.store, MODEL, now=NOW, to=to).version == "1.0.0"
    assert bench.running() == "1.0.0"
    assert bench.ledger.record.counters["manual_rollbacks"] == 1


def test_going_back_to_the_factory_keeps_the_previous_version(bench: Bench) -> None:
    with_factory(bench)
    rollback(bench.ledger, bench.store, MODEL, now=NOW, to="factory")
    assert (bench.running(), slots(bench)) == ("0.9.0", ("0.9.0", "1.0.0"))
    assert [stone.version for stone in bench.ledger.record.model(MODEL).tombstones] == ["2.0.0"]


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("factory", "no other factory version here"),
        ("2.0.0", "here are: 2.0.0"),
        ("3.0.0", "here are: 2.0.0"),
        (ONE.digest[7:12], "1.0.0 sha256:"),
    ],
)
def test_going_back_to_what_is_not_here_says_what_is(bench: Bench, to: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        rollback(bench.ledger, bench.store, MODEL, now=NOW, to=to)
    assert refused.value.code == "no-previous"
    assert words in str(refused.value)
    assert bench.running() == "2.0.0"


def test_a_pinned_model_stays_while_what_is_assigned_is_still_verified(bench: Bench) -> None:
    pin(bench.ledger, bench.store, MODEL, now=NOW)
    three = make_artifact("3.0.0")
    bench.publish(three)
    report = bench.once()
    assert ([outcome.code for outcome in report.outcomes], report.exit_code) == (["pinned"], 0)
    assert bench.running() == "2.0.0"
    assert bench.shelf.blob_requests()[-1].split()[2] != three.digest
    assert not bench.store.intact(three.digest)
    found = model(bench)
    assert (found.state, found.version) == ("pinned", "2.0.0")
    assert (found.reason or "").startswith("pinned (3.0.0): stays with 2.0.0")
    assert json.loads(json.dumps(found.document()))["pin"]["version"] == "2.0.0"
    assert bench.codes() == []
    assert bench.ledger.record.floor["timestamp"] == bench.trust.versions["timestamp"]
    assert unpin(bench.ledger, MODEL).version == "2.0.0"
    assert bench.codes() == ["installed"]
    assert bench.running() == "3.0.0"
    counters = bench.ledger.record.counters
    assert (counters["pins"], counters["unpins"]) == (1, 1)


def test_a_pin_does_not_let_what_nobody_signed_pass_unnoticed(bench: Bench) -> None:
    pin(bench.ledger, bench.store, MODEL, now=NOW)
    three = make_artifact("3.0.0")
    bench.publish(three)
    del bench.trust.targets[MODEL, "raspberry-pi-4", three.digest]
    assert bench.codes() == ["not-a-target"]


def test_what_is_pinned_and_assigned_is_current(bench: Bench) -> None:
    pin(bench.ledger, bench.store, MODEL, now=NOW, version="2.0.0")
    assert bench.codes() == ["current"]
    assert (model(bench).state, status(bench).state) == ("running", "ok")
    assert "pinned by hand since 2030-01-01T00:00:00Z" in status(bench).text()


def test_pinning_the_previous_version_goes_back_without_giving_the_newer_one_up(bench: Bench) -> None:
    pin(bench.ledger, bench.store, MODEL, now=NOW, version="1.0.0")
    assert (bench.running(), slots(bench)) == ("1.0.0", ("1.0.0", "2.0.0"))
    assert bench.codes() == ["pinned"]
    assert bench.ledger.record.model(MODEL).tombstones == ()
    unpin(bench.ledger, MODEL)
    assert bench.codes() == ["installed"]
    assert (bench.running(), slots(bench)) == ("2.0.0", ("2.0.0", "1.0.0"))


def test_a_pinned_model_that_a_bad_disk_took_is_not_waited_for(bench: Bench) -> None:
    pin(bench.ledger, bench.store, MODEL, now=NOW)
    (bench.store.path(TWO.digest) / "model.onnx").write_bytes(b"")
    three = make_artifact("3.0.0")
    bench.publish(three)
    assert bench.codes() == ["installed"]
    assert bench.running() == "3.0.0"
    assert bench.ledger.record.model(MODEL).pin is None


def test_a_trial_that_waits_for_its_engine_ends_with_a_pin(bench: Bench) -> None:
    bench.publish(make_artifact("3.0.0"))
    bench.doctor.verdicts["3.0.0"] = EngineError("runtime-missing", "no engine")
    bench.once()
    pin(bench.ledger, bench.store, MODEL, now=NOW)
    bench.doctor.verdicts.clear()
    assert bench.codes() == ["pinned"]
    assert bench.running() == "2.0.0"


def test_rolling_back_by_hand_ends_a_pin(bench: Bench) -> None:
    pin(bench.ledger, bench.store, MODEL, now=NOW)
    rollback(bench.ledger, bench.store, MODEL, now=NOW)
    assert bench.ledger.record.model(MODEL).pin is None
    assert bench.codes() == ["tombstoned"]


def test_what_cannot_be_pinned_is_told_with_what_can(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="3.0.0 is not on this device; here are: 2.0.0 sha256:") as refused:
        pin(bench.ledger, bench.store, MODEL, now=NOW, version="3.0.0")
    assert refused.value.code == "no-version"
    with pytest.raises(ConfigError, match="no nonsense is active here"):
        pin(bench.ledger, bench.store, "nonsense", now=NOW)
    with pytest.raises(ConfigError, match="is not pinned here"):
        unpin(bench.ledger, MODEL)


def test_pinning_damaged_files_is_refused(bench: Bench) -> None:
    (bench.store.path(ONE.digest) / "model.onnx").write_bytes(b"x" * len(ONE.files["model.onnx"]))
    with pytest.raises(StorageError):
        pin(bench.ledger, bench.store, MODEL, now=NOW, version="1.0.0")
    assert (bench.running(), bench.ledger.record.model(MODEL).pin) == ("2.0.0", None)


def test_pinning_again_does_not_begin_again(bench: Bench) -> None:
    pin(bench.ledger, bench.store, MODEL, now=NOW)
    pin(bench.ledger, bench.store, MODEL, now=NOW + timedelta(days=1))
    held = bench.ledger.record.model(MODEL).pin
    assert held
    assert held.at == "2030-01-01T00:00:00Z"


def test_pins_do_not_survive_a_lost_record(bench: Bench) -> None:
    pin(bench.ledger, bench.store, MODEL, now=NOW)
    for slot in ("state.0", "state.1"):
        (bench.state / slot).write_bytes(b"junk")
    reanchor(bench.ledger, bench.store, now=NOW)
    assert bench.ledger.record.model(MODEL).pin is None


def test_the_verbs_say_what_comes_next(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    config = bench.folder / "agent.json"
    config.write_text(json.dumps(bench.document))
    for verb, told in (
        (["pin", MODEL], "stays with 2.0.0 until `edgewright-agent unpin digit-reader`"),
        (["unpin", MODEL], "was pinned to 2.0.0; the next poll installs what is assigned"),
        (["rollback", MODEL, "--to", "1.0.0"], "1.0.0 is active again"),
        (["retry", MODEL], "1 failed version(s) forgotten"),
    ):
        assert main([*verb, "--config", str(config)]) == 0
        assert told in capsys.readouterr().out
    assert (
        bench.ledger.record.counters.items()
        >= {
            "pins": 1,
            "unpins": 1,
            "manual_rollbacks": 1,
            "retries": 1,
        }.items()
    )


def test_retry_lets_the_next_poll_try_again(bench: Bench) -> None:
    rollback(bench.ledger, bench.store, MODEL, now=NOW)
    bench.once()
    bench.once()
    assert retry(bench.ledger, MODEL) == 1
    assert bench.codes() == ["installed"]
    assert bench.running() == "2.0.0"
    with pytest.raises(ConfigError, match="no tombstones"):
        retry(bench.ledger, MODEL)


def test_reanchoring_begins_a_new_record_from_what_runs(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="the record is whole"):
        reanchor(bench.ledger, bench.store, now=NOW)
    for slot in ("state.0", "state.1"):
        (bench.state / slot).write_bytes(b"junk")
    assert (status(bench).state, model(bench).version) == ("damaged", "2.0.0")
    for by_hand in (
        lambda: rollback(bench.ledger, bench.store, MODEL, now=NOW),
        lambda: retry(bench.ledger, MODEL),
    ):
        with pytest.raises(StorageError, match="both copies of the agent's record are damaged"):
            by_hand()
    assert reanchor(bench.ledger, bench.store, now=NOW) == {MODEL: "2.0.0"}
    assert bench.codes() == ["current"]
    assert bench.running() == "2.0.0"


def test_status_names_what_runs_not_what_was_downloaded(bench: Bench) -> None:
    three = make_artifact("3.0.0")
    bench.publish(three)
    bench.doctor.verdicts["3.0.0"] = EngineError("runtime-missing", "no engine")
    bench.once()
    found = model(bench)
    assert (found.state, found.active, found.version) == ("trial", TWO.digest, "2.0.0")
    assert found.reason
    assert found.reason.startswith("runtime-missing (3.0.0)")
    assert bench.store.intact(three.digest)


def test_a_link_that_a_power_cut_left_half_made_is_no_model(bench: Bench) -> None:
    (bench.state / "current" / f".{MODEL}.new").symlink_to(f"../store/{TWO.digest.removeprefix('sha256:')}")
    assert model(bench).name == MODEL
    assert list(bench.store.links()) == [MODEL]


def test_status_of_a_new_device(tmp_path: Path) -> None:
    found = status(Bench(tmp_path))
    assert (found.state, found.models, found.poll) == ("new", (), None)
    assert "never" in found.text()


def test_status_of_a_running_model_has_its_trials_figures(bench: Bench) -> None:
    found = status(bench)
    assert (found.state, model(bench).state, model(bench).reason) == ("ok", "running", None)
    entry = json.loads(json.dumps(found.document()))["models"][MODEL]
    assert (entry["active"], entry["version"], entry["previous"]) == (TWO.digest, "2.0.0", "1.0.0")
    assert entry["health"]["peakMemoryBytes"] == 4 * 2**20
    assert "digit-reader" in found.text()
    assert TWO.digest[:19] in found.text()


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (HealthError("health-wrong-output", "off by 3"), "rolled-back"),
        (EngineError("runtime-version", "too old"), "trial"),
    ],
)
def test_status_of_a_model_that_did_not_pass(bench: Bench, error: HealthError, state: str) -> None:
    bench.publish(make_artifact("3.0.0"))
    bench.doctor.verdicts["3.0.0"] = error
    bench.once()
    assert model(bench).state == state
    assert (model(bench).reason or "").startswith(error.code)
    assert model(bench).version == "2.0.0"


def test_status_of_a_refused_model_and_of_a_first_one_that_was_refused(bench: Bench, tmp_path: Path) -> None:
    first = Bench(tmp_path / "first")
    for device in (bench, first):
        three = make_artifact("3.0.0")
        device.publish(three)
        device.trust.untrusted[three.digest] = "unsigned"
        device.once()
        assert model(device).state == "held"
        assert (model(device).reason or "").startswith("unsigned (3.0.0)")
    assert model(first).active is None
    assert model(bench).version == "2.0.0"


def test_status_of_damaged_files(bench: Bench) -> None:
    (bench.store.path(TWO.digest) / "model.onnx").write_bytes(b"")
    assert (model(bench).state, model(bench).active) == ("damaged", None)


def test_status_tells_stale_metadata_by_role(bench: Bench) -> None:
    bench.now = NOW + timedelta(days=8)
    assert (status(bench).state, status(bench).stale) == ("stale", ("root", "timestamp"))
    assert "stale: root, timestamp ended" in status(bench).text()


def test_status_of_a_device_that_cannot_reach_its_source(bench: Bench) -> None:
    bench.shelf.down = True
    bench.once()
    assert (status(bench).state, model(bench).state) == ("failing", "running")


def test_after_a_rollback_the_model_stands_where_its_own_trial_found_it(bench: Bench) -> None:
    ledger, state = bench.ledger, bench.ledger.record.model(MODEL)
    down = stand(state, "next-provider", "CUDAExecutionProvider did not start", to_text(NOW))
    ledger.commit(ledger.record.with_model(MODEL, down))
    rollback(bench.ledger, bench.store, MODEL, now=NOW)
    assert bench.ledger.record.model(MODEL).rung is None, "that was about the other version"


def test_status_sends_people_to_the_evidence_until_somebody_has_seen_it(bench: Bench) -> None:
    bench.doctor.verdicts["3.0.0"] = HealthError("health-crash", "died of SIGSEGV " + "far from here " * 10)
    bench.publish(make_artifact("3.0.0"), attempts=1)
    bench.once()
    found = status(bench)
    assert found.document()["next"] == f"edgewright-agent evidence {MODEL}"
    assert max(map(len, found.text().splitlines())) <= 120
    archive = Archive(bench.state, Disk())
    archive.acknowledge(archive.entries())
    assert status(bench).document()["next"] is None
