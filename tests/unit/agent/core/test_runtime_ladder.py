"""The way down and up again: the request that failed is answered by the next rung, and nothing flickers."""

from __future__ import annotations

import gc
import json
import logging
import shutil
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright_agent.engine import Engine, InferenceError, InputError
from edgewright_agent.errors import AgentError, HealthError
from edgewright_agent.files import Disk
from edgewright_agent.record import Ledger
from edgewright_agent.runtime import Change, NoDecisionError
from edgewright_agent.runtime.ladder import (
    FIRST_BACKOFF_S,
    LOAD,
    MAX_BACKOFF_S,
    Standing,
    Step,
    failed,
    risen,
)
from edgewright_agent.runtime.standings import Standings
from edgewright_agent.runtime.steps import steps_of
from edgewright_agent.slots import Slots
from unit.agent.core.onnx_artifact import PIXELS, encoded, scores
from unit.agent.core.sessions import (
    BY_DIGEST,
    CPU,
    GPU,
    INPUTS,
    ONE,
    THREE,
    TWO,
    Accelerated,
    Clock,
    Device,
    EPFail,
    Fail,
    until,
    who,
)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """TWO is active, ONE was before it, and THREE came with the device."""
    device = Device(tmp_path)
    for digest in (ONE, TWO, THREE):
        device.install(digest, providers=[GPU, CPU])
    device.activate(TWO, previous=ONE, factory=THREE)
    return device


@pytest.fixture
def loader() -> Accelerated:
    return Accelerated()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ship_cpu_model(device: Device, digest: str, *, right: bool = True, code: str = "") -> None:
    """Ship one, as its trial on this device found it."""
    folder = device.folder(digest)
    golden = json.loads((folder / "golden.json").read_text())
    answers = encoded(scores(PIXELS, BY_DIGEST[digest if right else ONE]))
    golden["fallback"] = {"atol": 1e-4, "rtol": 1e-4, "outputs": {"scores": answers}}
    (folder / "golden.json").write_text(json.dumps(golden))
    shutil.copy(folder / "model.onnx", folder / "model.cpu.onnx")
    text = (folder / "runtime.json").read_text()
    (folder / "runtime.cpu.json").write_text(text.replace(f'"{GPU}", ', ""))
    device.activate(digest, previous=ONE, factory=THREE, health={"fallback": {"code": code, "message": ""}})


class Remembering(Accelerated):
    """Knows which engines are still in memory, and which were when another was loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.engines: list[weakref.ref[Engine]] = []
        self.beside: list[int] = []

    def load(self, folder: Path, *, variant: str, providers: tuple[str, ...] | None) -> Engine:
        self.beside.append(self.in_memory())
        engine = super().load(folder, variant=variant, providers=providers)
        self.engines.append(weakref.ref(engine))
        return engine

    def in_memory(self) -> int:
        gc.collect()
        return sum(engine() is not None for engine in self.engines)


class Picky(Accelerated):
    """Cannot run a batch of three: not on the accelerator, or nowhere."""

    def __init__(self, *, nowhere: bool, cause: Exception | None = None) -> None:
        super().__init__()
        self.nowhere, self.cause = nowhere, cause or Fail("not three")

    def load(self, folder: Path, *, variant: str, providers: tuple[str, ...] | None) -> Engine:
        engine = super().load(folder, variant=variant, providers=providers)
        infer, on_gpu = engine.infer, providers == (GPU, CPU)

        def picky(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
            if len(inputs["image"]) == 3 and (on_gpu or self.nowhere):
                cause = self.cause if on_gpu else Fail("not three")
                raise InferenceError("inference-failed", str(cause)) from cause
            return infer(inputs)

        engine.infer = picky  # type: ignore[method-assign]
        return engine


class Mortal(Accelerated):
    """The engines that it has loaded are dead when it dies, and so many more; those loaded after them work."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: set[int] = set()

    def die(self, *, more: int = 0) -> None:
        self.dead = set(range(1, len(self.loaded) + more + 1))

    def load(self, folder: Path, *, variant: str, providers: tuple[str, ...] | None) -> Engine:
        engine = super().load(folder, variant=variant, providers=providers)
        infer, number = engine.infer, len(self.loaded)

        def mortal(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
            if number in self.dead:
                raise InferenceError("inference-failed", "device lost")
            return infer(inputs)

        engine.infer = mortal  # type: ignore[method-assign]
        return engine


THREE_OF_THEM = {"image": PIXELS[:3]}


# --- which steps there are ----------------------------------------------------------------------------------


def test_the_ladder_of_a_device_is_providers_then_previous_then_factory(device: Device) -> None:
    steps = steps_of(device.state, "digit-reader", (GPU, CPU))
    assert [(step.rung, step.digest, step.providers) for step in steps] == [
        ("normal", TWO, (GPU, CPU)),
        ("next-provider", TWO, (CPU,)),
        ("previous", ONE, (GPU, CPU)),
        ("previous", ONE, (CPU,)),
        ("factory", THREE, (GPU, CPU)),
        ("factory", THREE, (CPU,)),
    ]


def test_a_cpu_model_shipped_beside_stands_for_the_cpu(device: Device) -> None:
    ship_cpu_model(device, TWO)
    steps = steps_of(device.state, "digit-reader", (GPU, CPU))[:2]
    assert [(step.rung, step.variant, step.providers) for step in steps] == [
        ("normal", "", (GPU, CPU)),
        ("cpu-model", "cpu", None),
    ]


def test_a_cpu_model_that_failed_its_trial_is_no_step(device: Device) -> None:
    ship_cpu_model(device, TWO, code="health-wrong-output")
    steps = steps_of(device.state, "digit-reader", (GPU, CPU))[:2]
    assert [(step.rung, step.variant, step.providers) for step in steps] == [
        ("normal", "", (GPU, CPU)),
        ("next-provider", "", (CPU,)),
    ]


def test_where_the_record_cannot_be_read_the_cpu_model_is_judged_as_it_is_loaded(
    device: Device, loader: Accelerated
) -> None:
    ship_cpu_model(device, TWO)
    Slots(device.state, Disk()).set_aside()
    loader.starts = False
    with device.session(loader=loader) as session:
        assert (session.rung, who(session.run(INPUTS))) == ("cpu-model", TWO)


def test_where_the_engine_has_not_got_the_first_provider_the_best_step_is_the_next_provider(
    device: Device,
) -> None:
    first = steps_of(device.state, "digit-reader", (CPU,))[0]
    assert (first.rung, first.digest, first.providers) == ("next-provider", TWO, (CPU,))
    ship_cpu_model(device, TWO)
    first = steps_of(device.state, "digit-reader", (CPU,))[0]
    assert (first.rung, first.variant) == ("cpu-model", "cpu"), "it was made for that, the other was not"


@pytest.mark.parametrize(
    ("fallback", "rungs"),
    [
        ({"code": "", "message": ""}, ("normal", "cpu-model")),
        ({"code": "health-wrong-output", "message": "no"}, ("normal", "next-provider")),
        (None, ("normal", "cpu-model")),
    ],
)
def test_a_cpu_model_that_failed_its_trial_here_is_no_step(
    device: Device, fallback: dict[str, str] | None, rungs: tuple[str, ...]
) -> None:
    ship_cpu_model(device, TWO)
    ledger = Ledger(device.state, Disk())
    state = ledger.record.model("digit-reader")
    assert state.active
    health = {"fallback": fallback} if fallback else None
    active = replace(state.active, health=health)
    ledger.commit(ledger.record.with_model("digit-reader", replace(state, active=active)))
    steps = steps_of(device.state, "digit-reader", (GPU, CPU))
    assert tuple(step.rung for step in steps if step.digest == TWO) == rungs


def test_what_was_given_up_here_is_no_way_down(device: Device) -> None:
    device.give_up(ONE)
    assert {step.digest for step in steps_of(device.state, "digit-reader", (CPU,))} == {TWO, THREE}


# --- loading --------------------------------------------------------------------------------------------------


def test_an_accelerator_that_does_not_start_leaves_the_next_provider(
    device: Device, loader: Accelerated, caplog: pytest.LogCaptureFixture
) -> None:
    loader.starts = False
    with caplog.at_level(logging.WARNING), device.session(loader=loader) as session:
        assert (session.rung, session.code, session.providers) == ("next-provider", "health-crash", (CPU,))
        assert who(session.run(INPUTS)) == TWO
    assert "no CUDA-capable device is detected" in caplog.text


def test_a_provider_left_out_without_a_word_is_noticed(device: Device) -> None:
    class Silent(Accelerated):
        """Like onnxruntime when a library of CUDA is missing: it logs, and uses what is left."""

        def load(self, folder, *, variant, providers):  # type: ignore[no-untyped-def]
            return super().load(folder, variant=variant, providers=(CPU,))

    with device.session(loader=Silent()) as session:
        assert (session.rung, session.code) == ("next-provider", "provider-down")


def test_the_cpu_model_beside_runs_when_no_accelerator_does(device: Device, loader: Accelerated) -> None:
    ship_cpu_model(device, TWO)
    loader.starts = False
    with device.session(loader=loader) as session:
        assert (session.rung, session.digest) == ("cpu-model", TWO)
        assert loader.loaded[-1] == (TWO, "cpu", None)
        assert who(session.run(INPUTS)) == TWO


@pytest.mark.parametrize(
    ("damaged", "rung", "answers"), [([TWO], "previous", ONE), ([TWO, ONE], "factory", THREE)]
)
def test_a_damaged_model_leaves_the_one_before_it(
    device: Device, damaged: list[str], rung: str, answers: str
) -> None:
    for digest in damaged:
        (device.folder(digest) / "model.onnx").write_bytes(b"junk")
    with device.session() as session:
        assert (session.rung, session.code) == (rung, "health-crash")
        answer = session.answer(INPUTS)
    assert (answer.digest, answer.rung, who(answer.outputs)) == (answers, rung, answers)


def test_nothing_that_can_be_loaded_is_an_error_about_the_active_model(device: Device) -> None:
    for digest in (ONE, TWO, THREE):
        (device.folder(digest) / "model.onnx").write_bytes(b"junk")
    with pytest.raises(HealthError, match="2222"):
        device.session()


def test_nothing_in_memory_is_counted_told_and_tried_again(
    device: Device, loader: Accelerated, clock: Clock
) -> None:
    """An update that cannot be loaded, and the one before does not come back."""
    changes: list[Change] = []
    device.activate(ONE)
    with device.session(loader=loader, clock=clock, swap="after-release", on_swap=changes.append) as session:
        loader.before_load = _no_memory
        device.activate(TWO, previous=ONE)
        session.refresh()
        assert (session.digest, session.rung, session.code) == (TWO, "safe-output", "health-crash")
        errors = []
        for _ in range(3):
            with pytest.raises(HealthError, match="out of memory") as refused:
                session.run(INPUTS)
            errors.append(refused.value)
        assert len(set(map(id, errors))) == 3
        assert len({len(refused) for refused in map(_frames, errors)}) == 1, "its traceback grows"
        with pytest.raises(InputError):
            session.run({"image": PIXELS[0]})
        assert (session.figures.errors, session.figures.input_errors) == (3, 1)
        assert [(change.digest, change.rung, change.code) for change in changes] == [
            (TWO, "safe-output", "health-crash")
        ]
        loader.before_load = lambda _digest: None
        clock.now += FIRST_BACKOFF_S + 1
        session.refresh()
        assert (session.rung, session.code, who(session.run(INPUTS))) == ("normal", "", TWO)


def test_what_was_in_use_is_a_way_down_also_when_nothing_is_in_memory_and_nobody_names_it(
    device: Device, loader: Accelerated, clock: Clock
) -> None:
    device.activate(ONE)
    with device.session(loader=loader, clock=clock, swap="after-release") as session:
        loader.before_load = _no_memory
        device.activate(TWO)
        session.refresh()
        loader.before_load = lambda digest: _no_memory(digest) if digest == TWO else None
        clock.now += FIRST_BACKOFF_S + 1
        session.refresh()
        assert (session.rung, who(session.run(INPUTS))) == ("previous", ONE)


def _no_memory(_digest: str) -> None:
    raise HealthError("health-crash", "out of memory")


def _frames(error: BaseException) -> list[object]:
    found, frame = [], error.__traceback__
    while frame is not None:
        found.append(frame)
        frame = frame.tb_next
    return found


# --- inference ------------------------------------------------------------------------------------------------


def test_the_request_that_failed_is_answered_by_the_next_rung_in_the_same_call(
    device: Device, loader: Accelerated
) -> None:
    with device.session(loader=loader) as session:
        loader.fails = Fail("CUDNN_STATUS_EXECUTION_FAILED")
        answer = session.answer(INPUTS)
        assert (answer.rung, answer.decided, who(answer.outputs)) == ("next-provider", True, TWO)
        assert (session.rung, session.figures.errors) == ("normal", 1)


def test_three_failures_in_a_row_move_the_session_down(device: Device, loader: Accelerated) -> None:
    changes: list[Change] = []
    with device.session(loader=loader, on_swap=changes.append) as session:
        loader.fails = Fail("CUDNN_STATUS_EXECUTION_FAILED")
        for _ in range(3):
            assert who(session.run(INPUTS)) == TWO
        assert (session.rung, session.code, session.providers) == (
            "next-provider",
            "inference-failed",
            (CPU,),
        )
        session.run(INPUTS)
        assert session.figures.errors == 3
    assert [(change.rung, change.code) for change in changes] == [("next-provider", "inference-failed")]


def test_failures_with_successes_between_them_do_not(device: Device, loader: Accelerated) -> None:
    with device.session(loader=loader) as session:
        for _ in range(5):
            loader.fails = Fail("once in a while")
            session.run(INPUTS)
            loader.fails = None
            session.run(INPUTS)
        assert (session.rung, session.figures.errors) == ("normal", 5)


@pytest.mark.parametrize("lost", [EPFail("device reset"), Fail("CUDA error: out of memory")])
def test_a_lost_device_moves_it_at_once(device: Device, loader: Accelerated, lost: Exception) -> None:
    with device.session(loader=loader) as session:
        loader.fails = lost
        assert who(session.run(INPUTS)) == TWO
        assert session.rung == "next-provider"


def test_an_answer_that_is_no_number_is_no_answer(device: Device, loader: Accelerated) -> None:
    with device.session(loader=loader) as session:
        loader.nonsense = True
        for _ in range(3):
            assert np.isfinite(session.run(INPUTS)["scores"]).all()
        assert (session.rung, session.code) == ("next-provider", "non-finite-output")


def test_a_model_that_fails_everywhere_hands_over_to_the_previous(
    device: Device, loader: Accelerated
) -> None:
    with device.session(loader=loader) as session:
        loader.broken = {TWO}
        for _ in range(6):
            assert who(session.run(INPUTS)) == ONE
        until(lambda: session.rung == "previous")
        loader.broken = {TWO, ONE}
        assert who(session.run(INPUTS)) == THREE


def test_the_callers_mistakes_never_move_it(device: Device, loader: Accelerated) -> None:
    with device.session(loader=loader) as session:
        for _ in range(10):
            with pytest.raises(InputError):
                session.run({"image": INPUTS["image"].astype("float64")})
        assert (session.rung, session.figures.input_errors, session.figures.errors) == ("normal", 10, 0)


def test_inputs_that_no_model_can_answer_move_nothing_and_load_nothing_again(
    device: Device, loader: Accelerated, clock: Clock
) -> None:
    poison = {"image": np.full((1, 4), np.nan, np.float32)}
    with device.session(loader=loader, clock=clock) as session:
        with pytest.raises(InferenceError):
            session.run(poison)
        loads = len(loader.loaded)
        for _ in range(8):
            with pytest.raises(InferenceError) as refused:
                session.run(poison)
            assert refused.value.code == "non-finite-output"
        session.refresh()
        assert len(loader.loaded) == loads
        assert (session.rung, who(session.run(INPUTS))) == ("normal", TWO)


def test_without_room_for_two_models_the_failed_one_goes_at_once(device: Device, loader: Accelerated) -> None:
    with device.session(loader=loader, swap="after-release") as session:
        loader.fails = Fail("once")
        assert who(session.run(INPUTS)) == TWO
        assert session.rung == "next-provider"


def test_without_room_for_two_models_the_failed_engine_is_gone_before_the_next_is_loaded(
    device: Device,
) -> None:
    loader = Remembering()
    with device.session(loader=loader, swap="after-release") as session:
        loader.fails = EPFail("device lost")
        assert who(session.run(INPUTS)) == TWO
        loader.broken = {TWO}
        assert who(session.run(INPUTS)) == ONE
    assert set(loader.beside) == {0}


def test_without_room_for_two_models_one_request_that_nothing_can_run_moves_nothing(device: Device) -> None:
    loader = Picky(nowhere=True)
    with device.session(loader=loader, swap="after-release") as session:
        for _ in range(9):
            with pytest.raises(InferenceError, match="not three"):
                session.run(THREE_OF_THEM)
            assert (session.rung, who(session.run(INPUTS))) == ("normal", TWO)
        assert session.figures.errors == 9
    assert len(loader.loaded) == 1


def test_without_room_for_two_models_three_failures_in_a_row_move_it_though_the_golden_inputs_are_right(
    device: Device,
) -> None:
    loader = Picky(nowhere=False)
    with device.session(loader=loader, swap="after-release") as session:
        for _ in range(2):
            with pytest.raises(InferenceError, match="not three"):
                session.run(THREE_OF_THEM)
            assert session.rung == "normal"
        session.run(THREE_OF_THEM)
        session.refresh()
        assert (session.rung, session.code) == ("next-provider", "inference-failed")


def test_without_room_for_two_models_it_comes_back_where_the_next_one_cannot_run_the_request_either(
    device: Device, clock: Clock
) -> None:
    loader = Picky(nowhere=True)
    with device.session(loader=loader, clock=clock, swap="after-release") as session:
        for turn in range(1, 4):
            for _ in range(3):
                with pytest.raises(InferenceError, match="not three"):
                    session.run(THREE_OF_THEM)
            until(lambda: session.rung == "normal")
            assert len(loader.loaded) == 1 + 2 * turn
            for _ in range(9):  # nor is it tried again for each of them
                with pytest.raises(InferenceError, match="not three"):
                    session.run(THREE_OF_THEM)
            session.refresh()
            assert (session.rung, len(loader.loaded)) == ("normal", 1 + 2 * turn)
            assert who(session.run(INPUTS)) == TWO
            clock.now += 11


def test_who_listens_hears_of_a_way_down_that_did_not_help_the_request(device: Device) -> None:
    loader, changes = Picky(nowhere=True, cause=EPFail("device lost")), list[Change]()
    with device.session(loader=loader, swap="after-release", on_swap=changes.append) as session:
        with pytest.raises(InferenceError, match="device lost"):
            session.run(THREE_OF_THEM)
        assert [(change.rung, change.code) for change in changes] == [("next-provider", "inference-failed")]


@pytest.mark.parametrize("swap", ["beside", "after-release"])
def test_a_dead_engine_that_nothing_can_stand_in_for_is_loaded_anew_and_judged(
    tmp_path: Path, clock: Clock, swap: str
) -> None:
    device, loader = Device(tmp_path), Mortal()
    device.install(ONE)
    device.activate(ONE)
    changes: list[str] = []
    with device.session(
        loader=loader, clock=clock, swap=swap, on_swap=lambda change: changes.append(change.rung)
    ) as session:
        loader.die()
        with pytest.raises(InferenceError, match="device lost"):
            session.run(INPUTS)
        until(lambda: session.rung == "safe-output")
        assert (session.code, len(loader.loaded)) == ("inference-failed", 1)
        loader.die(more=1)
        clock.now += FIRST_BACKOFF_S + 1
        session.refresh()
        assert (session.rung, len(loader.loaded)) == ("safe-output", 2)
        clock.now += FIRST_BACKOFF_S + 1  # it stays down twice as long now
        with pytest.raises(AgentError, match="device lost"):
            session.run(INPUTS)
        session.refresh()
        assert len(loader.loaded) == 2
        clock.now += FIRST_BACKOFF_S
        session._look_at = 0
        with pytest.raises(AgentError, match="device lost"):
            session.run(INPUTS)  # which looks, and need not know that it is time
        until(lambda: session.rung == "normal")
        assert (who(session.run(INPUTS)), session.code, len(loader.loaded)) == (ONE, "", 3)
        assert session.figures.errors == 3
        until(lambda: len(changes) == 2)
    assert changes == ["safe-output", "normal"]


def test_an_engine_that_comes_back_by_itself_is_found_right_by_the_golden_inputs(
    tmp_path: Path, clock: Clock
) -> None:
    device, loader = Device(tmp_path), Mortal()
    device.install(ONE)
    device.activate(ONE)
    with device.session(loader=loader, clock=clock) as session:
        loader.die()
        with pytest.raises(InferenceError, match="device lost"):
            session.run(INPUTS)
        until(lambda: session.rung == "safe-output")
        loader.dead = set()
        clock.now += 11
        assert who(session.run(INPUTS)) == ONE
        until(lambda: session.rung == "normal")
        assert len(loader.loaded) == 1


@pytest.mark.parametrize("swap", ["beside", "after-release"])
def test_what_failed_is_not_kept_in_memory_nor_what_it_failed_at(
    device: Device, clock: Clock, swap: str
) -> None:
    loader = Remembering()
    with device.session(loader=loader, clock=clock, swap=swap) as session:
        loader.fails = EPFail("device lost")
        inputs = {"image": INPUTS["image"].copy()}
        seen = weakref.ref(inputs["image"])
        session.run(inputs)
        del inputs
        session.refresh()
        assert (loader.in_memory(), seen()) == (1, None)
        loader.fails, loader.nonsense = None, True
        for _ in range(2):  # in vain
            clock.now += MAX_BACKOFF_S
            session.refresh()
            assert (loader.in_memory(), session.rung) == (1, "next-provider")
    assert loader.in_memory() == 0


def test_an_engine_that_comes_back_with_wrong_answers_is_loaded_anew_when_it_is_time(
    tmp_path: Path, clock: Clock
) -> None:
    class Confused(Mortal):
        """Its first engine gives wrong answers."""

        def load(self, folder: Path, *, variant: str, providers: tuple[str, ...] | None) -> Engine:
            engine = super().load(folder, variant=variant, providers=providers)
            if len(self.loaded) == 1:
                infer = engine.infer
                engine.infer = lambda inputs: {name: -array for name, array in infer(inputs).items()}  # type: ignore[method-assign]
            return engine

    device, loader = Device(tmp_path), Confused()
    device.install(ONE)
    device.activate(ONE)
    with device.session(loader=loader, clock=clock) as session:
        loader.die()
        with pytest.raises(InferenceError, match="device lost"):
            session.run(INPUTS)
        until(lambda: session.rung == "safe-output")
        loader.dead = set()
        answer = session.answer(INPUTS)
        assert (answer.rung, answer.decided) == ("safe-output", True), "no model stands for it"
        for _ in range(3):
            clock.now += FIRST_BACKOFF_S + 1
            session.answer(INPUTS)
            session.refresh()
        assert (session.rung, len(loader.loaded)) == ("normal", 2)
        answer = session.answer(INPUTS)
        assert (who(answer.outputs), answer.rung) == (ONE, "normal")


def test_why_a_step_is_held_back_is_told_anew_to_everybody() -> None:
    standings, step = Standings(Clock()), Step("normal", ONE)
    standings.fell(step, InferenceError("inference-failed", "device lost"))
    first, second = standings.why([step]), standings.why([step])
    assert first is not second
    assert isinstance(second, InferenceError)
    assert (second.code, str(second)) == ("inference-failed", "device lost")


def test_why_a_step_is_held_back_may_be_asked_while_it_is_taken() -> None:
    class Taken(dict[Any, Any]):
        """Another thread takes the step between two looks."""

        def __contains__(self, way: object) -> bool:
            found = super().__contains__(way)
            self.pop(way, None)
            return found

    standings, step = Standings(Clock()), Step("normal", ONE)
    standings.fell(step, InferenceError("inference-failed", "device lost"))
    standings._reasons = Taken(standings._reasons)
    assert str(standings.why([step])) == "device lost"


def test_no_request_is_dropped_while_an_accelerator_comes_and_goes_under_threads(
    device: Device, loader: Accelerated, clock: Clock
) -> None:
    done = threading.Event()
    wrong: list[object] = []

    with device.session(loader=loader, clock=clock) as session:

        def work() -> None:
            while not done.is_set():
                try:
                    outputs = session.run(INPUTS)
                except AgentError as error:
                    wrong.append(error)
                    return
                if who(outputs) != TWO:
                    wrong.append(outputs)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            loader.fails = EPFail("device reset")
            until(lambda: session.rung == "next-provider")
            loader.fails = None
            clock.now += MAX_BACKOFF_S + 1
            session.refresh()
            assert session.rung == "normal"
        done.set()
        for thread in threads:
            thread.join(20)
    assert wrong == []


# --- up again -------------------------------------------------------------------------------------------------


def test_it_climbs_when_the_golden_inputs_are_right_again(
    device: Device, loader: Accelerated, clock: Clock
) -> None:
    with device.session(loader=loader, clock=clock) as session:
        loader.fails = EPFail("device reset")
        session.run(INPUTS)
        clock.now += FIRST_BACKOFF_S - 1
        loader.fails = None
        session.refresh()
        assert session.rung == "next-provider"
        clock.now += 2
        until(lambda: session.run(INPUTS) is not None and session.rung == "normal")
        assert (session.code, session.providers) == ("", (GPU, CPU))


def test_an_accelerator_that_answers_nonsense_is_not_climbed_to(
    device: Device, loader: Accelerated, clock: Clock
) -> None:
    with device.session(loader=loader, clock=clock) as session:
        loader.fails = EPFail("device reset")
        session.run(INPUTS)
        loader.fails, loader.nonsense = None, True
        clock.now += FIRST_BACKOFF_S + 1
        session.refresh()
        assert session.rung == "next-provider"
        loads = len(loader.loaded)
        clock.now += FIRST_BACKOFF_S + 1  # it stays down twice as long now
        session.refresh()
        assert len(loader.loaded) == loads


def test_requests_cause_no_tries_while_it_is_down(device: Device, loader: Accelerated, clock: Clock) -> None:
    with device.session(loader=loader, clock=clock) as session:
        loader.fails = EPFail("device reset")
        session.run(INPUTS)
        session.refresh()
        loads = len(loader.loaded)
        for _ in range(100):
            session.run(INPUTS)
        session.refresh()
        assert len(loader.loaded) == loads


def test_the_time_down_doubles_up_to_an_hour_and_begins_anew_after_proof() -> None:
    standing, now, waits = Standing(), 0.0, []
    for _ in range(10):
        standing = failed(standing, LOAD, now)
        waits.append(standing.down_until - now)
        now = standing.down_until
    assert waits[:3] == [30.0, 60.0, 120.0]
    assert waits[-1] == MAX_BACKOFF_S
    soon = failed(risen(standing, now), LOAD, now + 1)
    assert soon.backoff_s == MAX_BACKOFF_S
    late = failed(risen(standing, now), LOAD, now + MAX_BACKOFF_S + 1)
    assert late.backoff_s == FIRST_BACKOFF_S


def test_only_failures_of_one_kind_in_a_row_add_up() -> None:
    standing = Standing()
    for kind in (
        "inference-failed Fail",
        "non-finite-output",
        "inference-failed Fail",
        "inference-failed Fail",
    ):
        standing = failed(standing, kind, 5.0)
    assert not standing.is_down(5.0)
    assert failed(standing, "inference-failed Fail", 5.0).is_down(5.0)


# --- the safe output ------------------------------------------------------------------------------------------


def lonely(tmp_path: Path, safe: dict[str, object]) -> Device:
    device = Device(tmp_path)
    device.install(ONE, safeOutput=safe)
    device.activate(ONE)
    return device


def test_no_decision_is_an_error_that_says_why(tmp_path: Path) -> None:
    device = lonely(tmp_path, {"kind": "no-decision"})
    (device.folder(ONE) / "model.onnx").write_bytes(b"junk")
    with device.session() as session:
        assert (session.rung, session.code, session.digest) == ("safe-output", "health-crash", ONE)
        with pytest.raises(NoDecisionError, match="onnxruntime rejects the model") as decided:
            session.run(INPUTS)
        assert decided.value.code == "no-decision"
        assert session.figures.safe_outputs == 1


def test_a_constant_is_given_to_every_sample_and_marked_as_none_of_a_model(tmp_path: Path) -> None:
    device = lonely(tmp_path, {"kind": "constant", "outputs": {"scores": [0, 0, 1]}})
    (device.folder(ONE) / "model.onnx").write_bytes(b"junk")
    with device.session() as session:
        answer = session.answer(INPUTS)
        assert answer.outputs["scores"].dtype == np.float32
        assert answer.outputs["scores"].tolist() == [[0, 0, 1]] * 8
        assert (answer.decided, answer.rung, answer.labels) == (False, "safe-output", ())
        assert [port.name for port in session.inputs] == ["image"]
        with pytest.raises(InputError):
            session.run({"image": INPUTS["image"][:, :2]})


def test_the_last_answer_is_held_for_a_while(tmp_path: Path, loader: Accelerated) -> None:
    device = lonely(tmp_path, {"kind": "hold-last", "maxAgeS": 60})
    with device.session(loader=loader) as session:
        session.run(INPUTS)
        loader.broken = {ONE}
        answer = session.answer(INPUTS)
        assert (who(answer.outputs), answer.decided) == (ONE, False)
        one = session.run({"image": INPUTS["image"][:1]})["scores"]
        assert one.shape == (1, 3)


def test_nothing_to_hold_is_no_decision(tmp_path: Path, loader: Accelerated) -> None:
    device = lonely(tmp_path, {"kind": "hold-last", "maxAgeS": 1e-9})
    with device.session(loader=loader) as session:
        session.run(INPUTS)
        loader.broken = {ONE}
        with pytest.raises(NoDecisionError):
            session.run(INPUTS)


def test_the_golden_inputs_send_a_broken_model_to_the_safe_output_and_back(
    tmp_path: Path, loader: Accelerated, clock: Clock
) -> None:
    device = lonely(tmp_path, {"kind": "constant", "outputs": {"scores": [1, 0, 0]}})
    with device.session(loader=loader, clock=clock) as session:
        loader.broken = {ONE}
        for _ in range(8):
            assert session.answer(INPUTS).decided is False
            session.refresh()
        assert session.rung == "safe-output"
        loader.broken = set()
        clock.now += MAX_BACKOFF_S
        until(lambda: session.answer(INPUTS).decided)
        assert session.rung == "normal"


def test_a_model_without_a_safe_output_stays_where_it_is_and_says_what_is_wrong(
    tmp_path: Path, loader: Accelerated
) -> None:
    device = Device(tmp_path)
    device.install(ONE)
    device.activate(ONE)
    with device.session(loader=loader) as session:
        loader.broken = {ONE}
        for _ in range(8):
            with pytest.raises(InferenceError, match="it does not run"):
                session.run(INPUTS)
            session.refresh()
        loader.broken = set()
        assert who(session.run(INPUTS)) == ONE


@pytest.mark.parametrize(
    "outputs", [{"scores": [0, 1]}, {"scores": [[0, 0, 1]]}, {"other": [0, 0, 1]}, {"scores": ["x"] * 3}]
)
def test_a_constant_that_is_no_output_of_the_model_does_not_count(
    tmp_path: Path, outputs: dict[str, object]
) -> None:
    device = lonely(tmp_path, {"kind": "constant", "outputs": outputs})
    (device.folder(ONE) / "model.onnx").write_bytes(b"junk")
    with pytest.raises(AgentError, match="safeOutput"):
        device.session()
