"""What a session tells a daemon: small datagrams on a real socket, for which nothing ever waits."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.beat import Beat, Share, encode, parse
from edgewright_agent.contract import LIVE_SOCKET, MAX_LIVE_BYTES
from edgewright_agent.errors import AgentError
from edgewright_agent.runtime.beats import Beats
from edgewright_agent.runtime.change import Change
from real import ROOT
from unit.agent.core.sessions import (
    CPU,
    GPU,
    INPUTS,
    MODEL,
    ONE,
    THREE,
    TWO,
    Accelerated,
    Device,
    EPFail,
    until,
)

BEAT = Beat("0" * 16, "digit-reader", ONE, "beat", providers=(CPU,))


class Ear:
    """A daemon that listens."""

    def __init__(self, state: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(state / LIVE_SOCKET))
        self._socket.settimeout(20)

    def hear(self, event: str = "") -> dict[str, Any]:
        """Return the next datagram, or the next one of a kind."""
        while True:
            told: dict[str, Any] = json.loads(self._socket.recv(65536))
            if event in ("", told["event"]):
                return told

    def so_far(self) -> list[dict[str, Any]]:
        """Return every datagram that is there."""
        self._socket.setblocking(False)
        told = []
        with contextlib.suppress(BlockingIOError):
            while True:
                told.append(json.loads(self._socket.recv(65536)))
        self._socket.settimeout(20)
        return told

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def device(tmp_path: Path) -> Device:
    device = Device(tmp_path)
    device.install(ONE)
    device.install(TWO)
    device.activate(ONE)
    return device


@pytest.fixture
def ear(device: Device) -> Iterator[Ear]:
    ear = Ear(device.state)
    yield ear
    ear.close()


def test_a_session_tells_of_its_life(device: Device, ear: Ear) -> None:
    with device.session() as session:
        opened = ear.hear()
        session.run(INPUTS)
        device.activate(TWO, previous=ONE)
        session.refresh()
        swapped = ear.hear("swap")
        session.run(INPUTS)
    closed = ear.hear("close")
    assert (opened["event"], opened["digest"], opened["inferences"]) == ("open", ONE, 0)
    assert (swapped["digest"], swapped["inferences"], swapped["rung"], swapped["code"]) == (
        TWO,
        0,
        "normal",
        "",
    )
    assert (closed["digest"], closed["inferences"], sum(count for _, count in closed["latency"])) == (
        TWO,
        1,
        1,
    )
    assert closed["sinceSuccessS"] >= 0
    assert opened["pid"] == os.getpid()
    assert opened["session"] == closed["session"]
    assert len(bytes.fromhex(opened["session"])) == 8
    assert opened["providers"] == [CPU]
    assert set(opened) == {
        "version", "pid", "session", "model", "digest", "event", "rung", "code", "providers", "inferences",
        "errors", "inputErrors", "safeOutputs", "inFlightS", "sinceSuccessS", "latency", "confidence", "drift",
        "experiment",
    }  # fmt: skip


def test_a_step_down_the_ladder_is_told_at_once(device: Device, ear: Ear) -> None:
    device.install(THREE, providers=[GPU, CPU])
    device.activate(THREE)
    loader = Accelerated()
    with device.session(loader=loader) as session:
        loader.fails = EPFail("device reset")
        session.run(INPUTS)
        told = ear.hear("beat")
    assert (told["rung"], told["code"], told["errors"]) == ("next-provider", "inference-failed", 1)


def test_a_hanging_inference_is_seen_from_outside(device: Device, ear: Ear) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    class Hanging(Accelerated):
        def load(self, folder, *, variant, providers):  # type: ignore[no-untyped-def]
            engine = super().load(folder, variant=variant, providers=providers)
            infer = engine.infer

            def hang(inputs):  # type: ignore[no-untyped-def]
                hangs.set()
                assert goes_on.wait(20)
                return infer(inputs)

            engine.infer = hang
            return engine

    session = device.session(loader=Hanging())
    thread = threading.Thread(target=session.run, args=(INPUTS,))
    thread.start()
    assert hangs.wait(20)
    session.close()
    assert ear.hear("close")["inFlightS"] > 0
    goes_on.set()
    thread.join(20)


def test_without_a_daemon_nothing_is_lost_and_nothing_is_said(device: Device) -> None:
    beats = Beats(device.state)
    assert beats.send(BEAT) is False
    ear = Ear(device.state)
    assert beats.send(BEAT) is False  # it does not look again so soon
    assert beats.send(BEAT, anyway=True) is True
    assert beats.send(BEAT) is True
    ear.close()
    assert beats.send(BEAT) is False  # the socket of a daemon that has gone
    beats.close()


def test_a_daemon_that_does_not_read_holds_nobody_up(device: Device, ear: Ear) -> None:
    beats = Beats(device.state)
    sent = [beats.send(BEAT) for _ in range(5000)]
    assert sent[0] is True
    assert sent[-1] is False
    beats.close()


def test_the_last_word_waits_a_moment_for_a_daemon_that_is_busy(device: Device, ear: Ear) -> None:
    beats = Beats(device.state)
    while beats.send(BEAT):
        pass
    reader = threading.Timer(0.02, ear.hear)  # makes room for one
    reader.start()
    assert beats.send(replace(BEAT, event="close"), anyway=True) is True
    reader.join()
    assert ear.hear("close")["session"] == BEAT.session
    while beats.send(BEAT):
        pass
    assert beats.send(replace(BEAT, event="close"), anyway=True) is False  # nor does it wait for ever
    beats.close()


def test_the_garbage_collector_may_close_the_socket_first(device: Device, ear: Ear) -> None:
    session = device.session()
    sender = session._account._beats._socket
    assert sender is not None
    sender.close()  # as its own finalizer does, in whatever order
    del session
    until(lambda: gc.collect() >= 0 and "close" in [told["event"] for told in ear.so_far()])


def test_a_state_directory_with_a_long_name_is_reached(tmp_path: Path) -> None:
    state = tmp_path / ("a" * 60) / ("b" * 60)
    state.mkdir(parents=True)
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    here = Path.cwd()
    os.chdir(state)
    try:
        ear.bind(LIVE_SOCKET)
    finally:
        os.chdir(here)
    beats = Beats(state)
    assert beats.send(replace(BEAT, event="open")) is True
    assert json.loads(ear.recv(65536))["event"] == "open"
    beats.close()
    ear.close()


def test_a_datagram_is_never_too_long() -> None:
    sketch = {bucket: 10**9 for bucket in range(321)}
    beat = replace(
        BEAT,
        model="m" * 63,
        providers=(CPU,) * 100,
        inferences=10**12,
        latency=sketch,
        confidence=(10**9,) * 20,
        drift_confidence=0.123456,
        drift_inputs={"image": 0.1, "x" * 1000: 0.1, "": 0.1, "\n": 0.1},
        experiment=Share("e" * 63, "shadow", TWO, 10**9, 10**9, 1, 0, sketch),
    )
    body = encode(beat)
    assert len(body) <= MAX_LIVE_BYTES
    assert parse(body).inferences == 10**12
    assert parse(body).drift_inputs == {"image": 0.1}  # the others are no names to a daemon
    assert parse(body).latency == sketch
    names = {f"{number:0128}": 0.123456 for number in range(1000)}
    body = encode(replace(beat, drift_inputs=names))
    assert len(body) <= MAX_LIVE_BYTES
    assert parse(body).latency == sketch


def test_a_process_that_ends_says_so_and_a_forked_child_is_a_session_of_its_own(
    device: Device, ear: Ear
) -> None:
    program = (
        "import os, sys\n"
        "from edgewright_agent.runtime import open_model\n"
        "from unit.agent.core.onnx_artifact import PIXELS\n"
        "model = open_model('digit-reader', sys.argv[1])\n"
        "if os.fork() == 0:\n"
        "    model.run({'image': PIXELS})\n"
        "    sys.exit()\n"
        "os.wait()\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/tests:{ROOT}/agent"}
    command = [sys.executable, "-c", program, str(device.state)]
    subprocess.run(command, env=environment, timeout=60, check=True)
    told = [ear.hear() for _ in range(4)]
    assert [one["event"] for one in told] == ["open", "open", "close", "close"]
    parent, child = told[0], told[1]
    assert (told[2]["session"], told[3]["session"]) == (child["session"], parent["session"])
    assert (parent["session"] != child["session"], parent["pid"] != child["pid"]) == (True, True)
    assert told[2]["inferences"] == 1


# A worker of `multiprocessing` leaves by `os._exit`, behind the back of `atexit`.
_WORKERS = """
import multiprocessing, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from edgewright_agent.runtime import open_model
from unit.agent.core.onnx_artifact import PIXELS

def serve(where, _=None):
    global model
    model = globals().get("model") or open_model("digit-reader", where)
    model.run({"image": PIXELS})
    return multiprocessing.current_process().pid

def serve_on(where):
    serve(where)
    executor = ThreadPoolExecutor(1)  # its thread ends when the worker has come to its end
    executor.submit(time.sleep, 0.2)
    executor.submit(serve, where)

def fail(where):
    serve(where)
    sys.exit("the application's own mistake")

if __name__ == "__main__":
    method, what, where = sys.argv[1:]
    if what.startswith("inherited"):
        serve(where)
    context = multiprocessing.get_context(method)
    if what.endswith("pool"):
        with context.Pool(2) as pool:
            pool.starmap(serve, [(where, number) for number in range(20)], chunksize=1)
            pool.close()
            pool.join()
    else:
        worker = context.Process(target=globals()[what.split()[-1]], args=(where,))
        worker.start()
        worker.join()
"""


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("fork", "inherited pool"),
        ("fork", "inherited serve"),
        ("fork", "pool"),
        ("fork", "serve"),
        ("fork", "inherited serve_on"),
        ("fork", "inherited fail"),
        ("spawn", "serve"),
        ("forkserver", "serve"),
    ],
)
def test_a_worker_that_ends_has_not_crashed(
    device: Device, ear: Ear, tmp_path: Path, method: str, what: str
) -> None:
    program = tmp_path / "workers.py"
    program.write_text(_WORKERS)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/tests:{ROOT}/agent"}
    command = [sys.executable, str(program), method, what, str(device.state)]
    subprocess.run(command, env=environment, timeout=60, check=True, stderr=subprocess.PIPE)
    told = ear.so_far()
    opened = {one["session"] for one in told if one["event"] == "open"}
    closed = [one["session"] for one in told if one["event"] == "close"]
    assert opened
    assert sorted(closed) == sorted(opened)
    if what.endswith("serve_on"):
        assert max(one["inferences"] for one in told if one["event"] == "close") == 2


def test_after_its_close_a_session_says_nothing(device: Device, ear: Ear) -> None:
    """An update that is just being taken up tells of it late; the daemon would take the session for open again."""
    session = device.session()
    session.close()
    session._changed(Change(MODEL, TWO, "2", "normal", ONE))
    session._account.tick(session._seat_now(), None)
    assert [told["event"] for told in ear.so_far()] == ["open", "close"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_session_that_is_closed_while_a_forked_child_opens_it_is_closed(
    device: Device, ear: Ear, when: str
) -> None:
    others = set(threading.enumerate())
    session = device.session()
    session.close()
    ear.so_far()
    session._closed = False
    session._forget()  # as in the child
    tell = session._account.tell

    def closing(event: str, *told: Any) -> None:
        if (event, when) == ("open", "before"):
            session.close()
        tell(event, *told)
        if (event, when) == ("open", "after"):
            session.close()

    session._account.tell = closing  # type: ignore[method-assign]
    session._seat_now()
    with pytest.raises(AgentError, match="is closed"):
        session.run(INPUTS)
    assert [told["event"] for told in ear.so_far()][-1:] == ["close"]
    until(
        lambda: not {one for one in set(threading.enumerate()) - others if one.name == "edgewright-session"}
    )


def test_a_session_nobody_has_any_more_leaves_no_thread(device: Device) -> None:
    others = set(threading.enumerate())

    def ours() -> set[threading.Thread]:
        return {one for one in set(threading.enumerate()) - others if one.name.startswith("edgewright")}

    session = device.session()
    session.run(INPUTS)
    assert ours()
    session.close()
    until(lambda: not ours())
    session = device.session()
    assert ours()
    del session
    gc.collect()
    until(lambda: not ours())
