"""What applications do to sessions: fork, exit, interrupt, drop, listen badly, send what is no number."""

from __future__ import annotations

import gc
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright_agent.beat import Beat, parse
from edgewright_agent.contract import LIVE_SOCKET
from edgewright_agent.engine import InferenceError, InputError
from edgewright_agent.errors import AgentError, ConfigError, HealthError
from edgewright_agent.runtime import NoDecisionError, open_model, resident, room, seat, walk
from edgewright_agent.runtime.change import Change, Changes
from edgewright_agent.runtime.errand import Errand, begin, join_all
from unit.agent.core.onnx_artifact import PIXELS
from unit.agent.core.sessions import (
    CPU,
    GPU,
    INPUTS,
    MODEL,
    ONE,
    THREE,
    TWO,
    Accelerated,
    Clock,
    Device,
    EPFail,
    until,
    who,
)

ROOT = Path(__file__).parents[4]
NANS = {"image": np.full_like(PIXELS, np.nan)}

BOTH = ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    device = Device(tmp_path)
    device.install(ONE, providers=BOTH)
    device.install(TWO, providers=BOTH)
    device.activate(ONE)
    return device


@pytest.fixture
def heard(device: Device) -> Iterator[Any]:
    """Return what a daemon has heard so far."""
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ear.bind(str(device.state / LIVE_SOCKET))
    ear.setblocking(False)

    def beats() -> list[Beat]:
        found = []
        while True:
            try:
                found.append(parse(ear.recv(65536)))
            except BlockingIOError:
                return found

    yield beats
    ear.close()


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/tests:{ROOT}/agent"}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        timeout=60,
        capture_output=True,
        text=True,
    )


# --- processes ------------------------------------------------------------------------------------------------


_SLOW_ENGINE = """
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
N = 400
nodes, last = [], "x"
for index in range(120):
    nodes.append(helper.make_node("MatMul", [last, "w"], [f"x{index}"])); last = f"x{index}"
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [N, N])
weights = [numpy_helper.from_array(np.full((N, N), 1 / N, np.float32), "w")]
model = helper.make_model(helper.make_graph(nodes, "slow", [value("x")], [value(last)], weights),
                          opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
def run(): session.run(None, {"x": np.ones((N, N), np.float32)})
"""


def test_a_process_that_ends_while_its_threads_infer_and_load_ends_well(device: Device) -> None:
    """The interpreter would abort it: it unwinds threads through the C++ of the engine."""
    program = """
import sys, threading, time
import numpy
from edgewright_agent.engine import Engine
from edgewright_agent.runtime.session import Session
from pathlib import Path
from unit.agent.core.sessions import CPU, INPUTS, MODEL, ONE, TWO, Device, OnnxRuntime
import slow_engine

device = Device.__new__(Device); device.state = Path(sys.argv[1])
device.experiment()
entered = threading.Semaphore(0)

class Slow(OnnxRuntime):
    def load(self, folder, *, variant, providers):
        engine = super().load(folder, variant=variant, providers=providers)
        infer = engine.infer
        def slow(inputs):
            entered.release()
            slow_engine.run()  # in C++, without the interpreter's lock
            return infer(inputs)
        if folder.name[0] == "2" or requests:
            engine.infer = slow
        else:
            engine.infer = lambda inputs: (slow(inputs) if len(inputs["image"]) == 1 else infer(inputs))
        return engine

requests = []
session = Session(MODEL, device.state, loader=Slow())
session._lookout.candidate.wait_idle(20)
session.run(INPUTS)                      # the shadow sees it, in its own thread
threading.Thread(target=lambda: session.run({"image": INPUTS["image"][:1]}), daemon=True).start()
entered.acquire(); entered.acquire()
"""
    (device.state / "slow_engine.py").write_text(_SLOW_ENGINE)
    ended = run(f"import sys; sys.path.insert(0, sys.argv[1])\n{program}", str(device.state))
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("ended_before", [False, True])
def test_a_process_that_ends_while_its_threads_ask_a_candidate_ends_well(
    device: Device, ended_before: bool
) -> None:
    program = """
import atexit, sys, threading
over = threading.Event()
atexit.register(lambda: print(over.is_set()))  # the first to be registered is the last to be called
from edgewright_agent.runtime.session import Session
from pathlib import Path
from unit.agent.core.sessions import INPUTS, MODEL, Device, OnnxRuntime
import slow_engine

device = Device.__new__(Device); device.state = Path(sys.argv[1])
device.experiment(kind="ab")
entered = threading.Event()

class Slow(OnnxRuntime):
    def load(self, folder, *, variant, providers):
        engine = super().load(folder, variant=variant, providers=providers)
        infer = engine.infer
        def slow(inputs):
            entered.set()
            slow_engine.run()
            over.set()
            return infer(inputs)
        if folder.name[0] == "2":
            engine.infer = lambda inputs: slow(inputs) if len(inputs["image"]) > 1 else infer(inputs)
        return engine

session = Session(MODEL, device.state, loader=Slow())
assert session._lookout.candidate.wait_idle(20)
threading.Thread(target=lambda: session.run(INPUTS), daemon=True).start()
assert entered.wait(20)
if sys.argv[2] == "True":  # the experiment is over before the process is
    device.end_experiment()
    session.refresh()
"""
    (device.state / "slow_engine.py").write_text(_SLOW_ENGINE)
    ended = run(
        f"import sys; sys.path.insert(0, sys.argv[1])\n{program}", str(device.state), str(ended_before)
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")


def test_a_closed_session_stays_closed_in_a_forked_child(device: Device) -> None:
    session = device.session()
    session.close()
    child = os.fork()
    if child == 0:
        try:
            session.run(INPUTS)
        except AgentError as error:
            os._exit(7 if error.code == "closed" else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("closed", ["", "store", f"store/{ONE.removeprefix('sha256:')}"])
def test_a_user_outside_the_agents_group_is_told_how_to_come_in(closed: str, tmp_path: Path) -> None:
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.name.startswith(("test_", "pytest-", "popen-")):
            folder.chmod(0o755)
    device = Device(tmp_path / "state")
    device.install(ONE, providers=BOTH)
    device.activate(ONE)
    (device.state / closed).chmod(0o750)
    program = (
        "import os, sys\n"
        "import numpy, onnxruntime  # while the interpreter itself may be read\n"
        "from edgewright_agent.runtime import ConfigError, open_model\n"
        "os.setgroups([]); os.setgid(54321); os.setuid(54321)\n"
        "try:\n    open_model('digit-reader', sys.argv[1])\n"
        "except ConfigError as error:\n    print(error.code, error)\n"
    )
    ended = run(program, str(device.state))
    told = f"not-permitted {device.state / closed} may not be read by 54321: let it into the agent's group"
    assert told in ended.stdout, ended


def test_a_session_nobody_holds_any_more_is_closed_and_has_not_crashed(device: Device, heard: Any) -> None:
    session = device.session()
    del session
    events: list[str] = []

    def both() -> bool:
        gc.collect()  # a thread of its own may have held it until just now
        events.extend(beat.event for beat in heard())
        return events[-1:] == ["close"]

    until(both)
    assert events[0] == "open"


def test_fifty_swaps_leave_one_engine(device: Device) -> None:
    engines: list[weakref.ref[Any]] = []

    class Remembering(Accelerated):
        def load(self, folder, *, variant, providers):  # type: ignore[no-untyped-def]
            engine = super().load(folder, variant=variant, providers=providers)
            engines.append(weakref.ref(engine))
            return engine

    with device.session(loader=Remembering()) as session:
        for number in range(50):
            device.activate((TWO, ONE)[number % 2])
            session.refresh()
            session.run(INPUTS)
        gc.collect()
        assert len(engines) == 51
        assert sum(engine() is not None for engine in engines) == 1
    del session
    gc.collect()
    assert not any(engine() for engine in engines)


# --- threads and listeners ------------------------------------------------------------------------------------


def test_an_interrupted_request_leaves_nothing_in_flight(device: Device) -> None:
    loader = Accelerated()
    with device.session(loader=loader) as session:
        loader.fails = None
        current = session._seat_now().current
        assert current is not None
        current.engine.infer = _interrupted  # type: ignore[union-attr, method-assign]
        with pytest.raises(KeyboardInterrupt):
            session.run(INPUTS)
        assert current.oldest_s() == 0
        device.activate(TWO)
        session.refresh()
        assert current.released


def _interrupted(_inputs: Any) -> Any:
    raise KeyboardInterrupt


def test_a_listener_that_ends_its_thread_does_not_end_updates(device: Device) -> None:
    def leave(_change: Change) -> None:
        raise SystemExit

    with device.session(on_swap=leave) as session:
        for digest in (TWO, ONE, TWO):
            device.activate(digest)
            until(lambda digest=digest: who(session.run(INPUTS)) == digest)  # type: ignore[misc]


def test_changes_are_told_one_at_a_time_and_in_order() -> None:
    told: list[str] = []
    first, goes_on = threading.Event(), threading.Event()

    def listen(change: Change) -> None:
        first.set()
        assert goes_on.wait(20)
        told.append(change.digest)

    changes = Changes(listen)
    changes.note(Change(MODEL, "1", "", "normal", ""))
    thread = threading.Thread(target=changes.announce)
    thread.start()
    assert first.wait(20)
    changes.note(Change(MODEL, "2", "", "normal", "1"))
    changes.announce()  # returns: the thread goes on with it
    assert told == []
    goes_on.set()
    thread.join(20)
    assert told == ["1", "2"]


def test_where_no_thread_can_be_had_requests_go_on_and_updates_come_later(
    device: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with device.session() as session:
        with monkeypatch.context() as none:
            none.setattr("edgewright_agent.runtime.errand.begin", _no_threads)
            device.activate(TWO)
            until(lambda: who(session.run(INPUTS)) == ONE and "cannot start" in caplog.text)
        until(lambda: who(session.run(INPUTS)) == TWO)


def test_where_no_thread_can_be_had_an_experiment_begins_later(
    device: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device.experiment(kind="shadow")
    with device.session() as session:
        before = session._lookout.candidate
        assert before is not None
        with monkeypatch.context() as none:
            none.setattr(threading.Thread, "start", _no_threads)
            device.experiment(kind="ab")
            session._lookout.due = 0
            until(lambda: who(session.run(INPUTS)) == ONE and "cannot begin yet" in caplog.text)
        assert session.experiment is None, "the one before is over all the same"
        assert join_all(20.0), "nobody waits for a thread that never began"
        until(lambda: not before.sees("a"))
        session.refresh()
        until(lambda: session.answer(INPUTS).digest == TWO)


def _no_threads(*_: Any) -> threading.Thread:
    raise RuntimeError("can't start new thread")


def test_an_errand_that_fails_is_done_again_when_it_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []

    def work() -> None:
        done.append(1)
        if len(done) == 1:
            raise ValueError("not yet")

    errand = Errand(work, "edgewright-test")
    errand.want()
    until(lambda: len(done) == 1)
    errand.want()
    until(lambda: len(done) == 2)
    errand.end()
    errand.want()
    assert join_all(20.0)
    assert len(done) == 2
    assert "edgewright-test failed" in caplog.text


def test_threads_that_do_not_end_are_told_of() -> None:
    goes_on = threading.Event()
    begin(goes_on.wait, "edgewright-test")  # type: ignore[arg-type]
    assert join_all(0.01) is False
    goes_on.set()
    assert join_all(20.0) is True


# --- requests -------------------------------------------------------------------------------------------------


def test_a_request_that_fails_does_not_wait_for_a_load_that_hangs(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat, "PATIENCE_S", 0.05)
    hangs, goes_on = threading.Event(), threading.Event()
    loader = Accelerated()

    def hang(digest: str) -> None:
        if digest == TWO:
            hangs.set()
            assert goes_on.wait(20)

    with device.session(loader=loader) as session:
        loader.before_load = hang
        device.activate(TWO)
        until(lambda: bool(session.run(INPUTS)) and hangs.is_set())
        loader.fails = EPFail("device lost")
        with pytest.raises(InferenceError, match="device lost"):
            session.run(INPUTS)
        goes_on.set()


def test_a_request_does_not_wait_for_ever_where_the_old_model_was_let_go_of(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "WAIT_S", 0.05)
    hangs, goes_on = threading.Event(), threading.Event()
    loader = Accelerated()

    def hang(digest: str) -> None:
        if digest == TWO:
            hangs.set()
            assert goes_on.wait(20)

    with device.session(loader=loader, swap="after-release") as session:
        loader.before_load = hang
        device.activate(TWO)
        session._seat_now().start()
        assert hangs.wait(20)
        with pytest.raises(InferenceError, match="another has been loading"):
            session.run(INPUTS)
        with pytest.raises(InputError):
            session.run({"image": PIXELS[0]})
        assert (session.figures.errors, session.figures.input_errors) == (1, 1)
        goes_on.set()
        until(lambda: session.digest == TWO)
        assert who(session.run(INPUTS)) == TWO


def test_a_request_that_has_waited_too_long_for_a_model_gets_the_safe_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "WAIT_S", 0.05)
    device = Device(tmp_path)
    for digest in (ONE, TWO):
        safe = {"kind": "constant", "outputs": {"scores": [0, 0, 1]}}
        device.install(digest, providers=BOTH, safeOutput=safe)
    device.activate(ONE)
    hangs, goes_on = threading.Event(), threading.Event()
    loader = Accelerated()

    def hang(_digest: str) -> None:
        hangs.set()
        assert goes_on.wait(20)

    with device.session(loader=loader, swap="after-release") as session:
        loader.before_load = hang
        device.activate(TWO)
        session._seat_now().start()
        assert hangs.wait(20)
        answer = session.answer(INPUTS)
        assert (answer.rung, answer.decided) == ("safe-output", False)
        assert answer.outputs["scores"].tolist() == [[0, 0, 1]] * len(PIXELS)
        assert (session.figures.errors, session.figures.safe_outputs) == (0, 1)
        goes_on.set()


def test_a_request_that_fails_where_memory_is_short_takes_nobody_elses_model_away(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was room when it began, and there is none when the next step down is to be loaded."""
    free = iter([True])
    monkeypatch.setattr(walk, "fits_beside", lambda _folder: next(free, False))
    loader = Accelerated()
    with device.session(loader=loader) as session:
        loader.fails = RuntimeError("one bad request")
        with pytest.raises(InferenceError):
            session.run(INPUTS)
        loader.fails = None
        assert who(session.run(INPUTS)) == ONE


def test_a_model_let_go_of_in_vain_comes_back(device: Device) -> None:
    """A request the accelerator is lost at, where there is room for one model only and no other can be loaded."""
    loads: list[tuple[str, ...]] = []

    class Alone(Accelerated):
        def load(self, folder, *, variant, providers):  # type: ignore[no-untyped-def]
            loads.append(providers)
            if providers == (CPU,):
                raise HealthError("health-crash", "out of memory")
            engine = super().load(folder, variant=variant, providers=providers)
            infer = engine.infer

            def picky(inputs: Any) -> Any:
                if len(inputs["image"]) == 3:
                    raise InferenceError("inference-failed", "device lost")
                return infer(inputs)

            engine.infer = picky  # type: ignore[method-assign]
            return engine

    with device.session(loader=Alone(), swap="after-release") as session:
        with pytest.raises(InferenceError, match="device lost"):
            session.run({"image": PIXELS[:3]})
        assert (who(session.run(INPUTS)), session.rung) == (ONE, "normal")
        assert loads == [(GPU, CPU), (CPU,), (GPU, CPU)]


def test_inputs_that_are_no_numbers_are_nothing_against_the_model(device: Device) -> None:
    loader = Accelerated()
    with device.session(loader=loader) as session:
        for _ in range(10):
            with pytest.raises(InferenceError, match="not a finite number, nor is its input image"):
                session.run(NANS)
        assert (session.rung, session.figures.errors, session.figures.input_errors) == ("normal", 0, 10)
        assert len(loader.loaded) == 1


def test_a_sensor_without_numbers_gets_the_safe_output(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.install(ONE, providers=BOTH, safeOutput={"kind": "no-decision"})
    device.activate(ONE)
    with device.session() as session, pytest.raises(NoDecisionError, match="nor is its input image"):
        session.run(NANS)


def test_a_thousand_failures_are_not_a_thousand_lines(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), device.session() as session:
        for _ in range(1000):
            with pytest.raises(InferenceError):
                session.run(NANS)
    assert len([line for line in caplog.messages if "finite" in line]) == 1


def test_what_answered_for_a_failed_one_is_counted(device: Device) -> None:
    loader = Accelerated()
    with device.session(loader=loader) as session:
        loader.fails = RuntimeError("now and then")
        session.run(INPUTS)
        figures = session.figures
        assert (figures.inferences, figures.errors, len(figures.latency)) == (1, 1, 1)


# --- what is told ---------------------------------------------------------------------------------------------


def test_what_a_model_did_last_is_told_before_the_next_one_begins(device: Device, heard: Any) -> None:
    with device.session() as session:
        session.run(INPUTS)
        session.run(INPUTS)
        device.activate(TWO)
        session.refresh()
        session.run(INPUTS)
    assert [(beat.event, beat.digest, beat.inferences) for beat in heard()] == [
        ("open", ONE, 0),
        ("beat", ONE, 2),
        ("swap", TWO, 0),
        ("close", TWO, 1),
    ]


def test_an_inference_the_model_before_hangs_in_is_not_held_against_the_new_one(device: Device) -> None:
    with device.session() as session:
        old = session._seat_now().current
        assert old is not None
        ticket = old.enter()
        assert ticket is not None
        assert session._seat_now().oldest_s() > 0
        device.activate(TWO)
        session.refresh()
        assert session._seat_now().oldest_s() == 0
        assert old.oldest_s() > 0
        old.leave(ticket)


def test_the_safe_output_holds_when_the_files_that_declare_it_are_gone(tmp_path: Path) -> None:
    device = Device(tmp_path)
    folder = device.install(ONE, providers=BOTH, safeOutput={"kind": "no-decision"})
    device.activate(ONE)
    loader, clock = Accelerated(), Clock()
    with device.session(loader=loader, clock=clock) as session:
        (folder / "runtime.json").unlink()
        session.refresh()
        loader.broken = {ONE}
        with pytest.raises(NoDecisionError):
            session.run(INPUTS)


def test_a_model_without_golden_inputs_and_with_free_dimensions_is_taken(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros of the smallest shape may be what no model can run: they prove nothing."""
    assert resident.stand_ins((resident.Port("image", "float32", (None, 3, None, None)),)) is None
    assert resident.stand_ins((resident.Port("text", "tensor(string)", (None,)),)) is None
    found = resident.stand_ins((resident.Port("image", "uint8", (None, 4)),))
    assert found is not None
    assert found["image"].shape == (1, 4)


def test_golden_inputs_that_cannot_be_replayed_keep_a_model_out_and_the_session_going(device: Device) -> None:
    clock, loader = Clock(), Accelerated()
    device.install(THREE, providers=BOTH)
    device.activate(ONE, previous=TWO)
    with device.session(clock=clock, loader=loader) as session:
        loader.fails = EPFail("device lost")
        session.run(INPUTS)
        path = device.folder(ONE) / "golden.json"
        golden = json.loads(path.read_text())
        golden["outputs"] = {"scores": {"dtype": "float32", "shape": [0, 3], "data": ""}}
        golden["inputs"] = {"image": {"dtype": "float32", "shape": [0, 4], "data": ""}}
        path.write_text(json.dumps(golden))
        loader.fails = None
        clock.now += 31
        session.refresh()
        assert who(session.run(INPUTS)) == ONE


def test_a_name_that_is_none_is_refused(device: Device) -> None:
    with pytest.raises(ConfigError, match="not a model name"):
        open_model("../digit-reader", device.state)
