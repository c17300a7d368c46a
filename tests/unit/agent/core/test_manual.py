"""What a person does by hand, and what `status` tells them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from edgewright_agent.engine import EngineError
from edgewright_agent.errors import ConfigError, HealthError, StorageError
from edgewright_agent.manual import reanchor, retry, rollback
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
