"""A second version beside the assigned one: fetched, tried, told to applications, and gone when it is over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent import experiments
from edgewright_agent.engine import EngineError
from edgewright_agent.errors import HealthError
from edgewright_agent.model_state import Candidate
from unit.agent.core.workbench import MODEL, PI, Bench, Made, make_artifact

ONE, TWO, THREE = (make_artifact(f"{number}.0.0", size=40_000) for number in (1, 2, 3))


@pytest.fixture
def device(tmp_path: Path) -> Bench:
    """A device that runs 1.0.0."""
    bench = Bench(tmp_path)
    bench.publish(ONE)
    assert bench.codes() == ["installed"]
    return bench


def compare(device: Bench, made: Made = TWO, *, main: Made = ONE, **changes: Any) -> None:
    """Sign an assignment that has `made` run beside `main`, both in one epoch."""
    device.publish(main)
    device.shelf.put(made)
    device.trust.targets[MODEL, PI, made.digest] = len(made.body)
    device.trust.sequences[MODEL, PI, made.digest] = device.trust.sequences[MODEL, PI, main.digest]
    groups = device.trust.assignment["groups"]
    told = {"name": "wider", "kind": "shadow", "share": 0.5, "digest": made.digest, "size": len(made.body)}
    groups[0]["models"][MODEL]["artifacts"][PI]["experiment"] = {
        **told,
        "modelVersion": made.version,
        **changes,
    }
    device.assign(groups)


def candidate(device: Bench) -> Candidate | None:
    return device.ledger.record.model(MODEL).candidate


def found(device: Bench) -> experiments.Experiment | None:
    return experiments.read(device.state, MODEL)


def test_what_is_compared_is_fetched_tried_and_told_to_applications(device: Bench) -> None:
    compare(device)
    (outcome,) = device.once().outcomes
    assert (outcome.code, outcome.exit_code) == ("current", 0)
    assert "experiment wider: installed (2.0.0: loads in" in outcome.message
    assert device.running() == "1.0.0", "it runs beside, not in the place"
    told = found(device)
    assert told is not None
    assert (told.digest, told.active, told.kind, told.share) == (TWO.digest, ONE.digest, "shadow", 0.5)
    assert device.doctor.seen == ["1.0.0", "2.0.0"], "it has passed its own trial"
    assert device.store.verify(TWO.digest).version == "2.0.0"
    assert device.once().poll.code == "not-modified"


def test_another_share_or_kind_needs_no_new_trial(device: Bench) -> None:
    compare(device)
    device.once()
    compare(device, kind="ab", share=0.1)
    assert device.codes() == ["current"]
    told = found(device)
    assert told is not None and (told.kind, told.share) == ("ab", 0.1)
    assert device.doctor.seen == ["1.0.0", "2.0.0"]


def test_an_experiment_that_is_over_leaves_neither_file_nor_model(device: Bench) -> None:
    compare(device)
    device.once()
    device.publish(ONE)
    assert device.codes() == ["current"]
    assert found(device) is None and candidate(device) is None
    assert not device.store.path(TWO.digest).exists()


def test_what_was_compared_becomes_active_without_another_download(device: Bench) -> None:
    compare(device)
    device.once()
    asked = len(device.shelf.blob_requests())
    device.publish(TWO)
    assert device.codes() == ["installed"]
    assert device.running() == "2.0.0" and found(device) is None
    assert len(device.shelf.blob_requests()) == asked


def test_one_that_fails_its_trial_ends_the_experiment_and_nothing_else(device: Bench) -> None:
    device.doctor.verdicts["2.0.0"] = HealthError("health-wrong-output", "other winners")
    compare(device)
    report = device.once()
    (outcome,) = report.outcomes
    assert (outcome.code, report.exit_code) == ("current", 2)
    assert "experiment wider: health-wrong-output" in outcome.message
    state = device.ledger.record.model(MODEL)
    assert device.running() == "1.0.0" and state.candidate is None and found(device) is None
    assert [stone.version for stone in state.tombstones] == ["2.0.0"]
    assert state.last is None or state.last.code in ("installed", "current"), "the model itself is well"
    report = device.once()
    assert report.exit_code == 0
    assert "no experiment wider: 2.0.0 failed here" in report.outcomes[0].message
    assert device.once().poll.code == "not-modified"


def test_one_that_cannot_be_fetched_is_tried_again_and_what_has_arrived_stays(device: Bench) -> None:
    compare(device)
    device.shelf.cut_after = 20_000
    report = device.once()
    assert report.exit_code == 3 or candidate(device) is not None
    device.once()
    assert candidate(device) is not None
    assert device.running() == "1.0.0"


def test_one_that_waits_for_its_engine_goes_on_when_that_is_there(device: Bench) -> None:
    device.doctor.verdicts["2.0.0"] = EngineError("runtime-missing", "no onnxruntime")
    compare(device)
    report = device.once()
    assert report.exit_code == 3 and candidate(device) is None
    device.doctor.verdicts.clear()
    device.once()
    assert candidate(device) is not None and device.running() == "1.0.0"


def test_nothing_is_compared_with_what_a_device_has_fallen_back_to(device: Bench) -> None:
    compare(device)
    device.once()
    device.doctor.verdicts["3.0.0"] = HealthError("health-wrong-output", "other winners")
    compare(device, main=THREE)
    device.once()
    assert device.running() == "1.0.0"
    assert candidate(device) is None and found(device) is None


def test_a_cut_between_record_and_file_is_put_right_at_the_next_start(device: Bench) -> None:
    compare(device)
    device.once()
    path = experiments.path_of(device.state, MODEL)
    path.unlink()
    device.shelf.down = True
    device.once()
    assert found(device) is not None
    path.write_bytes(b"torn")
    device.once()
    assert found(device) is not None


def test_an_activation_window_holds_for_experiments_too(device: Bench) -> None:
    device.document["network"] = {"windows": {"activation": ["02:00-03:00"], "timeZone": "utc"}}
    device.now = device.now.replace(hour=12)
    compare(device)
    (outcome,) = device.once().outcomes
    assert outcome.exit_code == 0 and "waits" in outcome.message
    assert candidate(device) is None and device.store.verify(TWO.digest)
    device.now = device.now.replace(hour=2, minute=30)
    device.shelf.down = True
    device.once()
    assert candidate(device) is not None, "without network, from what is stored"
    assert found(device) is not None


def test_status_tells_of_an_experiment(device: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    from edgewright_agent import cli

    compare(device)
    device.once()
    config = device.folder / "agent.json"
    config.write_text(json.dumps(device.document))
    assert cli.main(["status", "--json", "--config", str(config)]) == 0
    told = json.loads(capsys.readouterr().out)["models"][MODEL]["experiment"]
    assert (told["name"], told["version"], told["kind"]) == ("wider", "2.0.0", "shadow")
