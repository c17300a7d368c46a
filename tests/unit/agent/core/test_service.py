"""The daemon beside its polls: sockets, sessions, children, the watchdog. Real processes, real sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgewright_agent.beat import Beat
from edgewright_agent.clock import uptime
from edgewright_agent.lock import exclusive
from edgewright_agent.model_state import Soak
from edgewright_agent.runtime.beats import Beats
from unit.agent.core.beats import DIGEST, beat
from unit.agent.core.idle import settled
from unit.agent.core.running import Running
from unit.agent.core.workbench import MODEL, Bench, make_artifact

NOWHERE = "http://127.0.0.1:9/acme"
QUICK = "d.WINDOW_PAUSE_S = s.PAUSE_S = s.CHECK_S = w.SOCKETS_S = w.SESSIONS_S = w.RETRY_S = 0.02"


@pytest.fixture
def silent() -> Iterator[str]:
    """URL of a registry that takes a connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/acme"


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def running_model(folder: Path) -> tuple[Bench, str]:
    """A device with a model that runs."""
    bench = Bench(folder)
    made = make_artifact("1.0.0")
    bench.publish(made)
    assert bench.codes() == ["installed"]
    return bench, made.digest


def test_sockets_are_served_while_an_update_runs_and_a_stop_ends_both(
    tmp_path: Path, daemons: list[Running]
) -> None:
    mark = tmp_path / "child-runs"
    os.mkfifo(mark)
    nap = f"open({str(mark)!r}, 'w').close(); time.sleep(600)"
    daemons.append(running := Running(Bench(tmp_path), NOWHERE, nap=nap))
    mark.open().close()
    assert running.status()["agent"]["doing"] == "updating"
    running.hears(beat("open"))
    running.eventually("agent.sessions", 1)
    running.signal(signal.SIGHUP)
    assert running.get("/v1/health")[0] == 200
    running.signal(signal.SIGTERM)
    assert running.until("update")["exit_code"] == -signal.SIGTERM
    running.until("stop")
    assert running.process.wait() == 0
    assert not list(running.bench.state.glob("*.sock"))


def test_a_registry_that_hangs_keeps_neither_the_watchdog_nor_the_sockets_nor_a_stop_waiting(
    tmp_path: Path, daemons: list[Running], silent: str
) -> None:
    bench = Bench(tmp_path)
    settled(bench, silent)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        supervised = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
        daemons.append(running := Running(bench, silent, environment=supervised))
        running.until("sleep")
        running.signal(signal.SIGHUP)
        running.eventually("agent.doing", "polling")
        systemd.setblocking(False)
        while True:
            try:
                systemd.recv(4096)
            except BlockingIOError:
                break
        systemd.settimeout(30)
        assert [systemd.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        assert running.status()["agent"]["doing"] == "polling"
        running.signal(signal.SIGTERM)
        running.until("stop")
        assert running.process.wait() == 0


def test_a_request_that_never_ends_is_ended_with_its_process_and_asked_again(
    tmp_path: Path, daemons: list[Running], silent: str
) -> None:
    bench = Bench(tmp_path)
    settled(bench, silent)
    daemons.append(running := Running(bench, silent, setup="d.ASKING_LIMIT_S = 0.05"))
    running.until("sleep")
    for failures in (1, 2):
        running.signal(signal.SIGHUP)
        failed = running.until("failed")
        assert (failed["code"], "the request is ended" in failed["message"]) == ("network", True)
        assert running.until("sleep")["failures"] == failures
        deadline = time.monotonic() + 60
        while children_of(running.process.pid):  # a poll beside a copy that still ends is an update's
            assert time.monotonic() < deadline, "the ended request is never reaped"
            time.sleep(0.01)
    running.eventually("agent.doing", "waiting")


def asks(tmp_path: Path, daemons: list[Running], silent: str) -> tuple[Running, str]:
    """Return a daemon that waits for an answer, and the process that asks."""
    bench = Bench(tmp_path)
    settled(bench, silent)
    daemons.append(running := Running(bench, silent))
    running.until("sleep")
    running.signal(signal.SIGHUP)
    running.eventually("agent.doing", "polling")
    (asking,) = children_of(running.process.pid)
    return running, asking


def test_what_asks_holds_neither_lock_nor_socket_of_a_daemon_that_is_killed(
    tmp_path: Path, daemons: list[Running], silent: str
) -> None:
    running, asking = asks(tmp_path, daemons, silent)
    running.process.kill()
    running.process.wait()
    try:
        assert Path(f"/proc/{asking}").exists()
        with exclusive(running.bench.state / "daemon.lock"):
            pass
        held = [str(fd.readlink()) for fd in Path(f"/proc/{asking}/fd").iterdir()]
        assert not [name for name in held if str(running.bench.state) in name or "eventpoll" in name]
    finally:
        os.kill(int(asking), signal.SIGKILL)


def test_what_asks_and_is_killed_is_a_poll_that_failed(
    tmp_path: Path, daemons: list[Running], silent: str
) -> None:
    running, asking = asks(tmp_path, daemons, silent)
    os.kill(int(asking), signal.SIGKILL)
    failed = running.until("failed")
    assert (failed["code"], "ended by signal 9" in failed["message"]) == ("interrupted", True)
    assert running.until("sleep")["failures"] == 1


def test_health_is_503_when_a_model_does_not_run_as_it_should_and_says_why(
    tmp_path: Path, daemons: list[Running]
) -> None:
    bench, digest = running_model(tmp_path)
    daemons.append(running := Running(bench, NOWHERE))
    running.until("sleep")
    status, body = running.get("/v1/health")
    assert (status, json.loads(body)["status"]) == (200, "ok")
    running.hears(beat("open", digest=digest), beat(digest=digest, rung="cpu-model", code="provider-failed"))
    running.eventually(f"models.{MODEL}.rung", "cpu-model")
    status, body = running.get("/v1/health")
    document = json.loads(body)
    assert (status, document["status"]) == (503, "failing")
    assert document["reasons"] == [{"model": MODEL, "code": "cpu-model", "message": "provider-failed"}]
    running.hears(beat(digest=digest, inferences=3, latency=[[80, 3]], inFlightS=61.0))
    running.eventually(f"models.{MODEL}.live.hung", 1)
    assert {reason["code"] for reason in json.loads(running.get("/v1/health")[1])["reasons"]} == {"hung"}


def test_prometheus_reads_what_models_and_sessions_do(tmp_path: Path, daemons: list[Running]) -> None:
    bench, digest = running_model(tmp_path)
    daemons.append(running := Running(bench, NOWHERE))
    running.until("sleep")
    running.hears(
        beat("open", digest=digest), beat(digest=digest, inferences=4, latency=[[80, 3], [400 // 2, 1]])
    )
    running.eventually(f"models.{MODEL}.live.inferences", 4)
    status, body = running.get("/metrics")
    lines = body.decode().splitlines()
    labels = f'{{model="{MODEL}",digest="{digest}"}}'
    assert status == 200
    assert f"edgewright_model_inferences_total{labels} 4" in lines
    assert f"edgewright_model_latency_seconds_count{labels} 4" in lines
    assert f'edgewright_model_latency_seconds_bucket{labels[:-1]},le="0.002048"}} 3' in lines
    assert f'edgewright_model_healthy{{model="{MODEL}"}} 1' in lines
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(families) == len(set(families))


def test_a_flood_of_nonsense_ends_nothing_and_is_counted(tmp_path: Path, daemons: list[Running]) -> None:
    daemons.append(running := Running(Bench(tmp_path), NOWHERE, setup="w._PAUSE_S = 0.001"))
    running.until("sleep")
    hostile = [b"", b"\0" * 100, b"[" * 16000, b"x" * 60_000, b'{"version":1}', beat(digest="sha256:0")]
    running.hears(*hostile * 50, beat("open"))
    running.eventually("agent.sessions", 1)
    assert running.status()["agent"]["datagrams"]["refused"] == 300


def test_an_application_that_dies_in_the_middle_is_noticed_at_once(
    tmp_path: Path, daemons: list[Running]
) -> None:
    daemons.append(running := Running(Bench(tmp_path), NOWHERE))
    running.until("sleep")
    program = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(sys.argv[1])\n"
        "s.send(sys.argv[2].encode()); input(); os.kill(os.getpid(), 11)"
    )
    path = running.bench.state / "live.sock"
    words = [sys.executable, "-c", program, str(path), beat("open", inFlightS=0.1).decode()]
    application = subprocess.Popen(words, stdin=subprocess.PIPE)
    running.eventually("agent.sessions", 1)
    application.communicate(b"\n")
    lost = running.until("session")
    assert (lost["code"], lost["pid"]) == ("crashed", application.pid)
    assert running.status()["models"][MODEL]["live"]["crashed"] == 1


def test_sessions_that_outlive_a_daemon_are_heard_by_the_next_and_counted_once(
    tmp_path: Path, daemons: list[Running]
) -> None:
    bench = Bench(tmp_path)
    daemons.append(running := Running(bench, NOWHERE))
    running.until("sleep")
    running.hears(beat("open"), beat(inferences=100))
    running.eventually(f"models.{MODEL}.live.inferences", 100)
    running.process.kill()  # its sockets stay behind
    running.process.wait()
    daemons.append(following := Running(bench, NOWHERE))
    following.until("sleep")
    following.hears(beat(inferences=110), beat(inferences=117))
    following.eventually(f"models.{MODEL}.live.inferences", 7)


def test_a_crash_of_a_model_that_has_to_prove_itself_is_judged_at_once_and_again_when_that_was_busy(
    tmp_path: Path, daemons: list[Running]
) -> None:
    bench, digest = running_model(tmp_path)
    record = bench.ledger.record
    soaking = replace(record.model(MODEL), soak=Soak(digest, 3600.0, 3))
    bench.ledger.commit(record.with_model(MODEL, soaking))
    setup = (
        f"{QUICK}\n"
        "w.WATCHED_S = w.SOAK_S = 0.05\n"
        "from edgewright_agent.errors import StorageError\n"
        "from edgewright_agent.duties import Judgement\n"
        "calls = []\n"
        "def judge(config, seen):\n"
        "    if not seen: d.log('nothing'); return Judgement()\n"
        "    d.log('judged', crashes=[one.crashes for one in seen.values()])\n"
        "    calls.append(seen)\n"
        "    if len(calls) == 1: raise StorageError('busy', 'an update is at work')\n"
        "    fallen = (('digit-reader', 'soak-crash', 'it crashed'),)\n"
        "    return Judgement(frozenset(seen) if len(calls) == 3 else frozenset(), fallen)"
    )
    daemons.append(
        running := Running(bench, NOWHERE, setup=setup, arguments="duties=Duties(judge_soak=judge)")
    )
    running.until("sleep")
    program = (
        "import socket, sys; s = socket.socket(1, 2); s.connect(sys.argv[1]); s.send(sys.argv[2].encode())"
    )
    path = str(bench.state / "live.sock")
    subprocess.run([sys.executable, "-c", program, path, beat("open", digest=digest).decode()], check=True)
    assert [running.until("judged")["crashes"] for _ in range(3)] == [[1], [1], [1]], (
        "until somebody takes it"
    )
    assert running.until("soak-failed")["code"] == "soak-crash"
    running.until("nothing")


def test_a_model_under_which_applications_keep_crashing_is_rolled_back_while_it_soaks(
    tmp_path: Path, daemons: list[Running]
) -> None:
    bench, _digest = running_model(tmp_path)
    newer = make_artifact("2.0.0")
    bench.publish(newer)
    assert bench.codes() == ["installed"]
    record = bench.ledger.record
    state = replace(record.model(MODEL), soak=Soak(newer.digest, 3600.0, 9, since=uptime()))
    bench.ledger.commit(record.with_model(MODEL, state))
    daemons.append(running := Running(bench, NOWHERE))
    running.until("sleep")
    program = (
        "import socket, sys; s = socket.socket(1, 2); s.connect(sys.argv[1]); s.send(sys.argv[2].encode())"
    )
    words = [sys.executable, "-c", program, str(bench.state / "live.sock")]
    for number in range(3):
        opened = beat("open", session=f"{number:016x}", digest=newer.digest)
        subprocess.run([*words, opened.decode()], check=True)
    failed = running.until("soak-failed")
    assert (failed["model"], failed["code"]) == (MODEL, "soak-crash")
    assert bench.running() == "1.0.0"
    running.eventually(f"models.{MODEL}.version", "1.0.0")


def test_an_update_at_work_gives_way_to_the_judgement_of_a_model_that_crashes(
    tmp_path: Path, daemons: list[Running]
) -> None:
    bench, _digest = running_model(tmp_path)
    newer = make_artifact("2.0.0")
    bench.publish(newer)
    assert bench.codes() == ["installed"]
    record = bench.ledger.record
    state = replace(record.model(MODEL), soak=Soak(newer.digest, 3600.0, 9, since=uptime()))
    bench.ledger.commit(record.with_model(MODEL, state))
    held = tmp_path / "held"
    downloads = (
        "from pathlib import Path; from edgewright_agent.lock import exclusive; "
        f"lock = exclusive(Path({str(bench.state / 'lock')!r}), patience_s=9); lock.__enter__(); "
        f"Path({str(held)!r}).touch(); time.sleep(600)"
    )
    daemons.append(running := Running(bench, NOWHERE, nap=downloads))
    while not held.exists():
        time.sleep(0.01)
    (first,) = children_of(running.process.pid)
    program = (
        "import socket, sys; s = socket.socket(1, 2); s.connect(sys.argv[1]); s.send(sys.argv[2].encode())"
    )
    words = [sys.executable, "-c", program, str(bench.state / "live.sock")]
    for number in range(3):
        opened = beat("open", session=f"{number:016x}", digest=newer.digest)
        subprocess.run([*words, opened.decode()], check=True)
    running.until("gives-way")
    assert running.until("update")["exit_code"] == -signal.SIGTERM
    assert running.until("soak-failed")["code"] == "soak-crash"
    assert bench.running() == "1.0.0"
    running.eventually("agent.doing", "updating")
    assert children_of(running.process.pid) not in ([], [first]), "what was interrupted goes on"
    running.eventually("agent.failures", 0)


def test_where_a_session_stands_on_the_ladder_is_recorded_and_told(
    tmp_path: Path, daemons: list[Running]
) -> None:
    bench, digest = running_model(tmp_path)
    daemons.append(running := Running(bench, NOWHERE, setup=QUICK))
    running.until("sleep")

    def recorded(code: str | None) -> bool:
        for _ in range(500):
            running.status()  # a turn of its loop
            rung = bench.ledger.record.model(MODEL).rung
            if (rung.code if rung else None) == code:
                return True
        return False

    running.hears(beat("open", digest=digest, rung="cpu-model", code="inference-failed"))
    running.eventually(f"models.{MODEL}.rung", "cpu-model")
    assert recorded("accelerator-down")
    running.hears(beat("beat", digest=digest, inferences=1))
    assert recorded(None), "it has stood better for several looks"


def test_a_session_as_applications_have_it_is_heard_below_a_deep_directory_too(
    tmp_path: Path, daemons: list[Running]
) -> None:
    deep = tmp_path / "a-directory-with-a-long-name-in-the-way-of-sockets" / "and-one-below-it-to-be-sure"
    daemons.append(running := Running(Bench(deep), NOWHERE))
    running.until("sleep")
    assert len(str(running.bench.state / "live.sock")) > 107
    beats = Beats(running.bench.state)
    told = Beat(beats.session, MODEL, DIGEST, "open")
    assert beats.send(told)
    assert beats.send(replace(told, event="beat", inferences=3))
    running.eventually(f"models.{MODEL}.live.inferences", 3)
    assert beats.send(replace(told, event="close"))
    running.eventually("agent.sessions", 0)
    beats.close()


def test_what_waits_for_a_window_is_tried_when_it_opens(tmp_path: Path, daemons: list[Running]) -> None:
    setup = f"{QUICK}\nopens = [0.0, None]"
    arguments = "duties=Duties(window_s=lambda config, record: opens.pop(0) if opens else None)"
    daemons.append(running := Running(Bench(tmp_path), NOWHERE, setup=setup, arguments=arguments))
    running.until("update")
    running.until("window")
    running.until("update")
    running.until("sleep")


def test_telemetry_is_sent_by_a_child_that_is_ended_when_it_takes_too_long(
    tmp_path: Path, daemons: list[Running]
) -> None:
    setup = f"{QUICK}\ns.LIMIT_S = 0.05\ndue = [0.0, 0.0, None]"
    sender = "import os, sys, time; time.sleep(600 if os.path.exists(sys.argv[1]) else 0)"
    mark = tmp_path / "slow"
    mark.touch()
    arguments = (
        "duties=Duties(send_due_s=lambda config: due.pop(0) if due else None), "
        f"sender=(sys.executable, '-c', {sender!r}, {str(mark)!r})"
    )
    daemons.append(running := Running(Bench(tmp_path), NOWHERE, setup=setup, arguments=arguments))
    assert running.until("failed")["code"] == "timeout"
    assert running.until("telemetry")["exit_code"] == -signal.SIGKILL
    mark.unlink()
    assert running.until("telemetry")["exit_code"] in (0, -signal.SIGKILL)
    running.eventually("agent.sessions", 0)
    assert children_of(running.process.pid) == []


def test_sums_over_the_sessions_go_where_they_should_by_and_by(
    tmp_path: Path, daemons: list[Running]
) -> None:
    setup = "note = lambda config, live: d.log('noted', inferences=live.get('digit-reader', {}).get('inferences', 0))"
    arguments = "duties=Duties(aggregate_s=lambda config: 0.05, note_aggregate=note)"
    daemons.append(running := Running(Bench(tmp_path), NOWHERE, setup=setup, arguments=arguments))
    running.until("sleep")
    running.hears(beat("open"), beat(inferences=5))
    total = 0
    while total < 5:
        total += running.until("noted")["inferences"]
    assert total == 5


def test_telemetry_that_a_running_agent_is_told_to_keep_is_kept_from_then_on(
    tmp_path: Path, unchanged: tuple[str, list[str | None]], daemons: list[Running]
) -> None:
    url, _asked = unchanged
    bench = Bench(tmp_path)
    settled(bench, url)
    setup = "note = lambda config, live: d.log('noted', inferences=live.get('digit-reader', {}).get('inferences', 0))"
    arguments = (
        "duties=Duties(aggregate_s=lambda config: 0.2 if config.reserve_bytes else None, note_aggregate=note)"
    )
    bench.document["reserveBytes"] = 0
    daemons.append(running := Running(bench, url, setup=setup, arguments=arguments))
    running.until("sleep")
    running.hears(beat("open"), beat(inferences=100))
    running.eventually(f"models.{MODEL}.live.inferences", 100)
    running.config.write_text(json.dumps({**bench.document, "reserveBytes": 1}))
    running.signal(signal.SIGHUP)
    running.until("not-modified")
    assert running.until("noted")["inferences"] == 0, "it was not to be kept then"
    running.hears(beat(inferences=105))
    total = 0
    while total < 5:
        total += running.until("noted")["inferences"]
    assert total == 5


def test_sockets_come_back_after_somebody_has_emptied_the_state_directory(
    tmp_path: Path, daemons: list[Running]
) -> None:
    daemons.append(running := Running(Bench(tmp_path), NOWHERE, setup=QUICK))
    running.until("sleep")
    for path in running.bench.state.glob("*.sock"):
        path.unlink()
    while not (running.bench.state / "live.sock").exists():
        assert running.process.poll() is None
    running.hears(beat("open"))
    running.eventually("agent.sessions", 1)


def test_a_state_directory_that_is_away_for_a_while_ends_nothing(
    tmp_path: Path, unchanged: tuple[str, list[str | None]], daemons: list[Running]
) -> None:
    url, _asked = unchanged
    bench = Bench(tmp_path)
    settled(bench, url)
    daemons.append(running := Running(bench, url))
    running.until("sleep")
    bench.state.rename(tmp_path / "away")
    bench.state.write_text("not even a directory")
    running.signal(signal.SIGHUP)
    running.until("update")  # the child's: it knows what to say
    running.until("sleep")
    bench.state.unlink()
    (tmp_path / "away").rename(bench.state)
    assert running.status()["agent"]["pid"] == running.process.pid
    running.signal(signal.SIGHUP)
    running.until("not-modified")


def test_something_in_the_way_of_a_socket_is_said_and_left_alone(
    tmp_path: Path, daemons: list[Running]
) -> None:
    bench = Bench(tmp_path)
    (bench.state / "live.sock").write_text("a person's notes")
    daemons.append(running := Running(bench, NOWHERE))
    assert running.until("not-listening")["code"] == "not-a-socket"
    running.until("sleep")
    assert running.status()["agent"]["sessions"] == 0
    assert (bench.state / "live.sock").read_text() == "a person's notes"


def test_a_log_that_nobody_reads_stops_nothing_and_what_was_lost_is_counted(
    tmp_path: Path, daemons: list[Running]
) -> None:
    setup = "for _ in range(100): d.log('noise', pad='x' * 3000)"  # a pipe takes 64 KiB
    daemons.append(running := Running(Bench(tmp_path), NOWHERE, setup=setup))
    for _ in range(500):
        if (running.bench.state / "agent.sock").exists():
            break
        signal.sigtimedwait([], 0.02)
    assert running.status()["agent"]["pid"] == running.process.pid
    running.signal(signal.SIGTERM)
    assert running.process.wait() == 0


def test_a_closed_standard_error_stops_nothing(tmp_path: Path) -> None:
    program = "from edgewright_agent.journal import log; log('start'); log('stop'); print('alive')"
    words = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", program]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "alive\n"


def test_a_clock_that_is_set_right_ends_the_waiting_after_failures(
    tmp_path: Path, daemons: list[Running]
) -> None:
    mark = tmp_path / "set"
    setup = (
        f"real = d.boottime_s; d.boottime_s = lambda: real() - (9000 if os.path.exists({str(mark)!r}) else 0)"
    )
    bench = Bench(tmp_path)
    settled(bench, NOWHERE)
    daemons.append(running := Running(bench, NOWHERE, exit_code=3, setup=setup))
    assert running.until("sleep")["failures"] == 1
    mark.touch()
    running.get("/v1/health")
    assert running.until("clock-set")["seconds"] == 9000
    assert running.until("failed")["code"] == "network"
    assert running.until("sleep")["failures"] == 2


def test_polls_sessions_and_probes_leave_no_descriptor_behind(
    tmp_path: Path, unchanged: tuple[str, list[str | None]], daemons: list[Running]
) -> None:
    url, _asked = unchanged
    bench = Bench(tmp_path)
    settled(bench, url)
    daemons.append(running := Running(bench, url))
    running.until("sleep")
    counts = []
    for round_ in range(3):
        running.signal(signal.SIGHUP)
        running.until("not-modified")
        running.until("sleep")
        for number in range(10):
            name = f"{number:016x}"
            running.hears(beat("open", session=name), beat("close", session=name))
            running.get("/v1/health")
        running.eventually("agent.datagrams.heard", 20 * (round_ + 1))
        running.eventually("agent.sessions", 0)
        counts.append(len(list(Path(f"/proc/{running.process.pid}/fd").iterdir())))
    assert len(set(counts)) == 1
