"""Shadow and A/B: a candidate sees a share of requests, is compared, and never harms an answer."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright_agent.engine import InferenceError
from edgewright_agent.experiments import Experiment, read
from edgewright_agent.runtime import Comparison, ExperimentFigures, Session
from edgewright_agent.runtime.experiment import agree, takes, winning
from edgewright_agent.runtime.ladder import FIRST_BACKOFF_S
from unit.agent.core.onnx_artifact import LABELS, PIXELS, WEIGHTS
from unit.agent.core.sessions import INPUTS, MODEL, ONE, TWO, Accelerated, Device, until, who


@pytest.fixture
def device(tmp_path: Path) -> Device:
    device = Device(tmp_path)
    device.install(ONE)
    device.install(TWO)
    device.activate(ONE)
    return device


def ready(session: Session) -> None:
    until(lambda: (candidate := session._lookout.candidate) is not None and candidate.wait_idle(10))


def tried(session: Session) -> ExperimentFigures:
    figures = session.experiment
    assert figures is not None
    return figures


def share(**changes: Any) -> Experiment:
    return Experiment(
        **{
            "model": MODEL,
            "name": "bigger",
            "kind": "ab",
            "share": 0.3,
            "digest": TWO,
            "active": ONE,
            "device": "a",
            **changes,
        }
    )


# --- who sees what ----------------------------------------------------------------------------------------------


def test_a_share_of_requests_is_that_share() -> None:
    seen = sum(takes(share(), str(number)) for number in range(10_000))
    assert 2800 < seen < 3200
    assert not any(takes(share(share=0), str(number)) for number in range(1000))
    assert all(takes(share(share=1), str(number)) for number in range(1000))


def test_a_key_always_meets_the_same_model_and_each_device_has_keys_of_its_own() -> None:
    keys = [f"camera-{number}" for number in range(500)]
    first = [takes(share(), key) for key in keys]
    assert first == [takes(share(), key) for key in keys]
    assert first != [takes(share(device="b"), key) for key in keys]
    assert first != [takes(share(name="other"), key) for key in keys]
    more = [takes(share(share=0.6), key) for key in keys]
    assert all(
        later for before, later in zip(first, more, strict=True) if before
    )  # nobody leaves when it grows


# --- in the shadow ----------------------------------------------------------------------------------------------


def test_a_shadow_sees_requests_and_its_answers_are_never_returned(device: Device) -> None:
    device.experiment()
    seen: list[Comparison] = []
    with device.session(on_comparison=seen.append) as session:
        ready(session)
        answers = [session.answer(INPUTS, key="camera-2") for _ in range(5)]
        ready(session)
        figures = tried(session)
    assert {(answer.digest, who(answer.outputs)) for answer in answers} == {(ONE, ONE)}
    assert (figures.name, figures.kind, figures.digest) == ("bigger", "shadow", TWO)
    assert (figures.requests, figures.agree, figures.errors, figures.dropped) == (5, 0, 0, 0)
    assert sum(count for _, count in figures.latency) == 5
    assert [(one.active, one.candidate, one.key, one.agree) for one in seen] == [
        (ONE, TWO, "camera-2", False)
    ] * 5
    candidate = seen[0].candidate_outputs
    assert candidate is not None
    assert (who(seen[0].active_outputs), who(candidate)) == (ONE, TWO)


def test_a_shadow_that_says_the_same_agrees(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.install(ONE)
    device.install(TWO, weights=WEIGHTS * 1.01)
    device.activate(ONE)
    device.experiment()
    with device.session() as session:
        ready(session)
        session.run(INPUTS)
        ready(session)
        assert (tried(session).requests, tried(session).agree) == (1, 1)


def test_a_shadow_that_fails_is_counted_and_never_seen(device: Device) -> None:
    device.experiment()
    loader = Accelerated()
    with device.session(loader=loader) as session:
        ready(session)
        loader.broken = {TWO}
        for _ in range(2):
            assert who(session.run(INPUTS)) == ONE
            ready(session)
        assert (tried(session).requests, tried(session).errors) == (2, 2)
        assert (session.rung, session.figures.errors) == ("normal", 0)
        session.run(INPUTS)
        ready(session)
        for _ in range(5):  # three in a row: it rests
            session.run(INPUTS)
        ready(session)
        assert tried(session).requests == 3


def test_a_slow_shadow_delays_nobody_and_drops_are_counted(device: Device) -> None:
    goes_on = threading.Event()

    class Slow(Accelerated):
        def load(self, folder: Path, *, variant: str, providers: tuple[str, ...] | None) -> Any:
            engine = super().load(folder, variant=variant, providers=providers)
            if folder.name == TWO.removeprefix("sha256:"):
                engine.infer = slow(engine.infer)  # type: ignore[method-assign]
            return engine

    def slow(infer: Callable[[Any], Any]) -> Callable[[Any], Any]:
        warm = []

        def wait(inputs: Any) -> Any:
            assert not warm or goes_on.wait(20)
            warm.append(True)
            return infer(inputs)

        return wait

    device.experiment()
    with device.session(loader=Slow()) as session:
        ready(session)
        for _ in range(50):
            assert who(session.run(INPUTS)) == ONE
        assert tried(session).dropped >= 40
        goes_on.set()
        ready(session)
        figures = tried(session)
        assert figures.requests + figures.dropped == 50


def test_a_caller_may_use_its_arrays_again(device: Device) -> None:
    device.experiment()
    seen: list[Comparison] = []
    with device.session(on_comparison=seen.append) as session:
        ready(session)
        pixels = PIXELS.copy()
        outputs = session.run({"image": pixels})
        pixels[:] = 0
        outputs["scores"][:] = 0
        ready(session)
    assert seen[0].candidate_outputs is not None
    assert (who(seen[0].active_outputs), who(seen[0].candidate_outputs)) == (ONE, TWO)


def test_both_answers_are_logged_for_comparison(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device.experiment()
    with caplog.at_level(logging.INFO, "edgewright.experiment"), device.session() as session:
        ready(session)
        session.answer({"image": PIXELS[:1]}, key="camera-2")
        ready(session)
    (line,) = [
        json.loads(record.message) for record in caplog.records if record.name == "edgewright.experiment"
    ]
    assert (line["experiment"], line["key"], line["agree"]) == ("bigger", "camera-2", False)
    assert line["active_answer"] != line["candidate_answer"]
    assert {*line["active_answer"], *line["candidate_answer"]} <= set(LABELS)
    assert "image" not in line  # what was asked is nobody's business


def test_a_key_may_be_whatever_an_application_has(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device.experiment()
    key: Any = uuid.uuid4()
    with caplog.at_level(logging.INFO, "edgewright.experiment"), device.session() as session:
        ready(session)
        for number in range(2):
            session.answer(INPUTS, key=key)
            until(lambda wanted=number + 1: tried(session).requests == wanted)  # type: ignore[misc]
        ready(session)
    assert [json.loads(line)["key"] for line in caplog.messages if line.startswith("{")] == [str(key)] * 2


@pytest.mark.parametrize("mistake", [ValueError("the application's own mistake"), SystemExit()])
def test_a_listener_that_fails_ends_nothing(device: Device, mistake: BaseException) -> None:
    device.experiment()

    def fail(_comparison: Comparison) -> None:
        raise mistake

    with device.session(on_comparison=fail) as session:
        ready(session)
        for _ in range(3):
            session.run(INPUTS)
            ready(session)
        assert tried(session).requests == 3


# --- A/B --------------------------------------------------------------------------------------------------------


def test_ab_answers_a_share_of_keys_with_the_candidate(device: Device) -> None:
    device.experiment(kind="ab", share=0.5)
    with device.session() as session:
        ready(session)
        answers = {key: session.answer(INPUTS, key=key) for key in map(str, range(40))}
        assert {answer.digest for answer in answers.values()} == {ONE, TWO}
        assert all(who(answer.outputs) == answer.digest for answer in answers.values())
        again = {key: session.answer(INPUTS, key=key).digest for key in answers}
        assert again == {key: answer.digest for key, answer in answers.items()}
        by_candidate = sum(digest == TWO for digest in again.values())
        assert tried(session).requests == 2 * by_candidate
        assert session.figures.inferences == 2 * (40 - by_candidate)


def test_the_active_model_answers_when_the_candidate_cannot(device: Device) -> None:
    device.experiment(kind="ab")
    loader = Accelerated()
    with device.session(loader=loader) as session:
        ready(session)
        assert session.answer(INPUTS).digest == TWO
        loader.broken = {TWO}
        for _ in range(10):
            answer = session.answer(INPUTS)
            assert (answer.digest, who(answer.outputs)) == (ONE, ONE)
        assert tried(session).errors == 3  # then it rests
        assert (session.rung, session.figures.errors) == ("normal", 0)


def test_a_sensor_without_numbers_is_nothing_against_the_candidate(device: Device) -> None:
    device.experiment(kind="ab")
    with device.session() as session:
        ready(session)
        for _ in range(5):
            with pytest.raises(InferenceError, match="nor is its input image"):
                session.answer({"image": np.full_like(PIXELS, np.nan)})
        assert (tried(session).requests, tried(session).errors) == (0, 0)
        assert (session.figures.errors, session.figures.input_errors) == (0, 5)
        assert session.answer(INPUTS).digest == TWO


def test_a_candidate_that_has_worked_for_long_begins_anew_when_it_falls(device: Device) -> None:
    device.experiment(kind="ab")
    loader = Accelerated()
    with device.session(loader=loader) as session:
        ready(session)
        candidate = session._lookout.candidate
        assert candidate is not None

        def falls() -> float:
            loader.broken = {TWO}
            for _ in range(3):
                session.run(INPUTS)
            loader.broken = set()
            assert session.answer(INPUTS).digest == ONE
            return candidate._standing.backoff_s

        def rises(before_s: float) -> None:
            candidate._standing = replace(candidate._standing, down_until=time.monotonic())
            assert session.answer(INPUTS).digest == TWO
            assert session.answer(INPUTS).digest == TWO
            risen_at = candidate._standing.risen_at - before_s
            candidate._standing = replace(candidate._standing, risen_at=risen_at)

        assert falls() == FIRST_BACKOFF_S
        rises(before_s=1)
        loader.broken = {TWO}
        session.run(INPUTS)
        loader.broken = set()
        session.run(INPUTS)  # a single failure says nothing
        assert falls() == 2 * FIRST_BACKOFF_S, "it has only just come back"
        rises(before_s=2 * FIRST_BACKOFF_S + 1)
        assert falls() == FIRST_BACKOFF_S


# --- beginning and end ------------------------------------------------------------------------------------------


def test_an_experiment_begins_and_ends_with_its_file(device: Device) -> None:
    with device.session() as session:
        assert session.experiment is None
        device.experiment(kind="ab")
        session.refresh()
        ready(session)
        assert session.answer(INPUTS).digest == TWO
        device.experiment(kind="shadow")
        session.refresh()
        ready(session)
        assert session.answer(INPUTS).digest == ONE
        device.end_experiment()
        session.refresh()
        assert session.experiment is None
        assert session.answer(INPUTS).digest == ONE


def test_an_experiment_beside_another_model_waits(device: Device) -> None:
    device.experiment(kind="ab", active="sha256:" + "9" * 64)
    with device.session() as session:
        ready(session)
        assert session.answer(INPUTS).digest == ONE
        assert tried(session).requests == 0


def test_a_candidate_that_memory_has_no_room_for_is_not_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device(tmp_path)
    device.install(ONE)
    device.install(TWO, expected={"memoryBytes": 2**50})
    device.activate(ONE)
    device.experiment(kind="ab")
    loader = Accelerated()
    with device.session(loader=loader) as session:
        until(lambda: "MiB are missing for it" in caplog.text)
        assert who(session.run(INPUTS)) == ONE
    assert {digest for digest, _variant, _providers in loader.loaded} == {ONE}


def test_a_candidate_that_is_not_there_or_cannot_be_loaded_changes_nothing(device: Device) -> None:
    (device.folder(TWO) / "model.onnx").write_bytes(b"junk")
    for digest in (TWO, "sha256:" + "8" * 64):
        device.experiment(kind="ab", digest=digest)
        with device.session() as session:
            assert [who(session.run(INPUTS)) for _ in range(5)] == [ONE] * 5
            assert tried(session).requests == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"{" * 20_000,
        b" " * 20_000,
        json.dumps(
            {
                "version": 1,
                "model": MODEL,
                "name": "e",
                "kind": "ab",
                "share": 2,
                "digest": TWO,
                "active": ONE,
                "device": "a",
            }
        ).encode(),
        json.dumps(
            {
                "version": 2,
                "model": MODEL,
                "name": "e",
                "kind": "ab",
                "share": 1,
                "digest": TWO,
                "active": ONE,
                "device": "a",
            }
        ).encode(),
        json.dumps(
            {
                "version": 1,
                "model": MODEL,
                "name": "e",
                "kind": "ab",
                "share": 1,
                "digest": "../x",
                "active": ONE,
                "device": "a",
            }
        ).encode(),
    ],
)
def test_a_file_that_makes_no_sense_is_no_experiment(device: Device, content: bytes) -> None:
    path = device.state / "experiments" / f"{MODEL}.json"
    path.parent.mkdir()
    path.write_bytes(content)
    assert read(device.state, MODEL) is None
    with device.session() as session:
        assert session.experiment is None
        assert who(session.run(INPUTS)) == ONE


def test_models_agree_in_their_winners_or_in_their_values() -> None:
    one = {"scores": np.array([[0.1, 0.9]])}
    assert agree(one, {"scores": np.array([[0.4, 0.6]])}, winners=True)
    assert not agree(one, {"scores": np.array([[0.4, 0.6]])}, winners=False)
    assert agree(one, {"scores": np.array([[0.1001, 0.9001]])}, winners=False)
    assert not agree(one, {"scores": np.array([[0.1, 0.9, 0.0]])}, winners=True)
    assert not agree(one, {"logits": np.array([[0.1, 0.9]])}, winners=True)


def test_labels_are_those_of_the_first_output() -> None:
    """As the pipeline means them: it judges, and makes the reference of confidences, by the first output."""
    outputs = {"scores": np.array([[0.1, 0.9], [0.8, 0.2]]), "auxiliary": np.array([[0.7, 0.3], [0.7, 0.3]])}
    assert winning(outputs, ("zero", "one")) == ("one", "zero")
    other = {"auxiliary": outputs["scores"], "scores": np.array([[0.4, 0.6], [0.6, 0.4]])}
    assert agree(outputs, other, winners=True), "each by its name, whatever the order"
    assert not agree(outputs, {**outputs, "scores": outputs["auxiliary"]}, winners=True)
    assert winning({"box": np.zeros((2, 4)), **outputs}, ("zero", "one")) == ()
