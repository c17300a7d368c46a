"""Updates under a session: loaded in the background, taken up between two requests, and no request is lost."""

from __future__ import annotations

import gc
import json
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgewright_agent import memory
from edgewright_agent.engine import Engine, load
from edgewright_agent.runtime import Change
from edgewright_agent.runtime.ladder import Step
from edgewright_agent.runtime.resident import OnnxRuntime, Resident
from edgewright_agent.runtime.room import Room
from unit.agent.core.sessions import INPUTS, MODEL, ONE, TWO, Device, until, who


@pytest.fixture
def device(tmp_path: Path) -> Device:
    device = Device(tmp_path)
    device.install(ONE)
    device.install(TWO)
    device.activate(ONE)
    return device


class Watched(OnnxRuntime):
    """The real engine; remembers what is in memory, and holds loads or inferences up where a test wants it."""

    def __init__(self) -> None:
        self.alive: weakref.WeakValueDictionary[int, Engine] = weakref.WeakValueDictionary()
        self.most_at_once = 0
        self.may_load = threading.Event()
        self.may_load.set()
        self.loading = threading.Event()
        self.may_infer = threading.Event()
        self.may_infer.set()
        self.inferring = threading.Event()

    def load(self, folder: Path, *, variant: str, providers: tuple[str, ...] | None) -> Engine:
        self.loading.set()
        assert self.may_load.wait(20)
        engine = load(folder, variant=variant, providers=providers)
        infer = engine.infer

        def held_up(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            self.inferring.set()
            assert self.may_infer.wait(20)
            return infer(inputs)

        engine.infer = held_up  # type: ignore[method-assign]
        self.alive[id(engine)] = engine
        gc.collect()
        self.most_at_once = max(self.most_at_once, len(self.alive))
        return engine

    def in_memory(self) -> int:
        gc.collect()
        return len(self.alive)


def test_an_update_takes_over_without_anybody_asking_for_it(device: Device) -> None:
    changes: list[Change] = []
    with device.session(on_swap=changes.append) as session:
        assert who(session.run(INPUTS)) == ONE
        device.activate(TWO, previous=ONE)
        until(lambda: who(session.run(INPUTS)) == TWO)
        assert (session.digest, session.version, session.rung) == (TWO, "2.0.0", "normal")
        until(lambda: bool(changes))
    assert [(change.before, change.digest, change.rung, change.code) for change in changes] == [
        (ONE, TWO, "normal", "")
    ]


def test_a_rollback_is_a_swap_like_any_other(device: Device) -> None:
    device.activate(TWO, previous=ONE)
    with device.session() as session:
        device.give_up(TWO)
        device.activate(ONE)
        assert session.refresh() == ONE
        assert who(session.run(INPUTS)) == ONE


def test_the_old_model_answers_while_the_new_one_loads(device: Device) -> None:
    loader = Watched()
    with device.session(loader=loader) as session:
        loader.may_load.clear()
        loader.loading.clear()
        device.activate(TWO, previous=ONE)
        until(lambda: who(session.run(INPUTS)) == ONE and loader.loading.is_set())
        assert [who(session.run(INPUTS)) for _ in range(50)] == [ONE] * 50
        loader.may_load.set()
        until(lambda: who(session.run(INPUTS)) == TWO)
    assert loader.most_at_once == 2


def test_the_old_engine_is_released_after_its_last_request_and_not_before(device: Device) -> None:
    loader = Watched()
    answers: list[str | None] = []
    with device.session(loader=loader) as session:
        device.activate(TWO, previous=ONE)
        loader.may_infer.clear()
        thread = threading.Thread(target=lambda: answers.append(who(session.run(INPUTS))))
        thread.start()
        assert loader.inferring.wait(20)
        # The new one warms up: it may not be held up by what holds up the old one.
        loader.inferring.clear()
        settling = threading.Thread(target=session.refresh)
        settling.start()
        assert loader.inferring.wait(20)
        assert loader.in_memory() == 2
        loader.may_infer.set()
        settling.join(20)
        thread.join(20)
        until(lambda: loader.in_memory() == 1)
    assert answers == [ONE]
    until(lambda: loader.in_memory() == 0)


def test_no_request_is_dropped_while_threads_hammer_through_many_swaps(device: Device) -> None:
    done = threading.Event()
    wrong: list[object] = []
    answered = [0] * 4

    with device.session() as session:

        def work(mine: int) -> None:
            while not done.is_set():
                try:
                    answer = session.answer(INPUTS)
                except Exception as error:  # noqa: BLE001  whatever it is, it is a dropped request
                    wrong.append(error)
                    return
                if who(answer.outputs) != answer.digest:
                    wrong.append(answer)
                answered[mine] += 1

        threads = [threading.Thread(target=work, args=(mine,)) for mine in range(4)]
        for thread in threads:
            thread.start()
        for turn in range(20):
            new, old = (TWO, ONE) if turn % 2 == 0 else (ONE, TWO)
            device.activate(new, previous=old)
            assert session.refresh() == new
        done.set()
        for thread in threads:
            thread.join(20)
    assert wrong == []
    assert min(answered) > 0


def test_a_model_that_cannot_be_loaded_is_not_swapped_in_and_tried_again_later(device: Device) -> None:
    model = device.folder(TWO) / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(b"junk")
    now = [0.0]
    with device.session(clock=lambda: now[0]) as session:
        device.activate(TWO, previous=ONE)
        session.refresh()
        assert (who(session.run(INPUTS)), session.rung, session.code) == (ONE, "previous", "health-crash")
        model.write_bytes(whole)
        now[0] = 29.0
        session.refresh()
        assert session.digest == ONE
        now[0] = 31.0
        until(lambda: who(session.run(INPUTS)) == TWO)
        assert (session.rung, session.code) == ("normal", "")


def test_where_memory_is_short_the_old_model_goes_first_and_requests_wait(device: Device) -> None:
    loader = Watched()
    with device.session(loader=loader, swap="after-release") as session:
        loader.may_load.clear()
        loader.loading.clear()
        device.activate(TWO, previous=ONE)
        settling = threading.Thread(target=session.refresh)
        settling.start()
        assert loader.loading.wait(20)
        assert loader.in_memory() == 0
        answers: list[str | None] = []
        waiting = threading.Thread(target=lambda: answers.append(who(session.run(INPUTS))))
        waiting.start()
        loader.may_load.set()
        waiting.join(20)
        settling.join(20)
    assert answers == [TWO]
    assert loader.most_at_once == 1


def test_a_request_meets_the_model_that_is_seated_as_it_looks(device: Device) -> None:
    class Door(threading.Event):
        """Between a request's glance at the seat and its glance at the door, the loader is done."""

        def is_set(self) -> bool:
            room.seat(new)
            return super().is_set()

        def wait(self, timeout: float | None = None) -> bool:
            room.seat(new)
            return super().wait(timeout)

    engine: Any = SimpleNamespace(inputs=(), outputs=(), providers=())
    old, new = (Resident(Step("normal", digest), engine, ()) for digest in (ONE, TWO))
    room = Room(MODEL)
    room.seat(old)
    room._door = Door()
    room.drain()
    taken = room.take()
    assert taken is not None
    assert taken[0] is new
    room.seat(None)
    assert room.take() is None


def test_a_model_let_go_of_comes_back_when_the_new_one_cannot_be_loaded(device: Device) -> None:
    (device.folder(TWO) / "model.onnx").write_bytes(b"junk")
    with device.session(swap="after-release") as session:
        device.activate(TWO, previous=ONE)
        session.refresh()
        assert (who(session.run(INPUTS)), session.rung) == (ONE, "previous")


@pytest.mark.parametrize(
    ("asks", "most_at_once"),
    [
        ({"swap": "after-release"}, 1),
        ({"expected": {"memoryBytes": 2**50}}, 1),  # more than is free: it waits for that of the old one
        ({"expected": {"memoryBytes": 2**50}, "swap": "beside"}, 2),
    ],
)
def test_a_manifest_says_whether_both_models_may_be_in_memory(
    tmp_path: Path, asks: dict[str, Any], most_at_once: int
) -> None:
    device = Device(tmp_path)
    device.install(ONE)
    device.install(TWO, **asks)
    device.activate(ONE)
    loader = Watched()
    with device.session(loader=loader) as session:
        device.activate(TWO, previous=ONE)
        assert session.refresh() == TWO
    assert loader.most_at_once == most_at_once


def test_memory_that_can_be_had_is_what_the_device_and_every_control_group_leave(tmp_path: Path) -> None:
    def tell(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    assert memory.available_bytes(tmp_path) is None
    tell("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    assert memory.available_bytes(tmp_path) == 8000 * 1024
    tell("proc/self/cgroup", "0::/system.slice/app.service\n")
    for group, limit in (("", "max"), ("system.slice/", "7000000"), ("system.slice/app.service/", "max")):
        tell(f"sys/fs/cgroup/{group}memory.max", f"{limit}\n")
        tell(f"sys/fs/cgroup/{group}memory.current", "5000000\n")
        tell(f"sys/fs/cgroup/{group}memory.stat", "anon 4000000\ninactive_file 1000000\n")
    assert memory.available_bytes(tmp_path) == 7_000_000 - 5_000_000 + 1_000_000


def test_a_session_keeps_its_model_when_its_files_and_the_link_are_gone(device: Device) -> None:
    with device.session() as session:
        for file in device.folder(ONE).iterdir():
            file.unlink()
        (device.state / "current" / MODEL).unlink()
        session.refresh()
        assert who(session.run(INPUTS)) == ONE


def test_a_lost_link_is_read_from_the_record(device: Device) -> None:
    (device.state / "current" / MODEL).unlink()
    with device.session() as session:
        assert session.digest == ONE


def test_who_listens_for_swaps_may_use_the_session_and_may_fail(device: Device) -> None:
    heard: list[str | None] = []

    def listen(_change: Change) -> None:
        heard.append(who(session.run(INPUTS)))
        raise ValueError("the application's own mistake")

    with device.session(on_swap=listen) as session:
        device.activate(TWO, previous=ONE)
        assert session.refresh() == TWO
        assert heard == [TWO]
        assert who(session.run(INPUTS)) == TWO


def test_the_figures_begin_anew_with_the_model(device: Device) -> None:
    with device.session() as session:
        session.run(INPUTS)
        assert session.figures.inferences == 1
        device.activate(TWO, previous=ONE)
        session.refresh()
        assert session.figures.inferences == 0
        session.run(INPUTS)
        assert json.loads(json.dumps(session.figures.latency))[0][1] == 1


def test_closing_does_not_wait_for_a_load_and_what_it_brings_is_let_go_of(device: Device) -> None:
    loader = Watched()
    session = device.session(loader=loader)
    loader.may_load.clear()
    loader.loading.clear()
    device.activate(TWO, previous=ONE)
    until(lambda: session.run(INPUTS) is not None and loader.loading.is_set())
    session.close()
    loader.may_load.set()
    until(lambda: loader.in_memory() == 0)
