"""The idle loop: how long it waits, what it does per poll, and how it stops. Real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from edgewright_agent.clock import to_text, utc_now
from edgewright_agent.errors import StorageError
from edgewright_agent.identity.validity import TRIED
from edgewright_agent.lock import exclusive
from edgewright_agent.model_state import ModelState, Trial
from edgewright_agent.poll import conditional
from edgewright_agent.record import Poll, Record, Seen
from unit.agent.core.idle import settled
from unit.agent.core.running import Running
from unit.agent.core.workbench import NOW, Bench

RECORD = Record(seen=Seen("e", "f"), expires={"timestamp": to_text(NOW + timedelta(days=7))})


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (replace(RECORD, seen=None), "there was no successful update"),
        (replace(RECORD, seen=Seen("e", "other")), "the configuration has changed"),
        (replace(RECORD, expires={}), "nothing is known about the metadata"),
        (
            replace(RECORD, expires={"root": to_text(NOW + timedelta(seconds=899))}),
            "it ends before the next poll",
        ),
        (replace(RECORD, clock_floor=to_text(NOW + timedelta(days=8))), "the clock has gone back"),
        (
            RECORD.with_model("m", ModelState(trial=Trial("sha256:" + "a" * 64, "1", 1, to_text(NOW), 60))),
            "a trial is left over",
        ),
    ],
)
def test_a_conditional_poll_is_not_enough_when(record: Record, why: str) -> None:
    assert conditional(RECORD, "f", now=NOW, margin_s=900) == "e"
    assert conditional(record, "f", now=NOW, margin_s=900) is None, why


def test_two_agents_never_work_on_one_state(tmp_path: Path) -> None:
    with exclusive(tmp_path / "state" / "lock"):
        with pytest.raises(StorageError) as refused, exclusive(tmp_path / "state" / "lock"):
            pass
        assert refused.value.code == "busy"
    with exclusive(tmp_path / "state" / "lock"):
        pass


def test_it_polls_on_sighup_with_one_conditional_request_and_stops_on_sigterm(
    tmp_path: Path, unchanged: tuple[str, list[str | None]], daemons: list[Running]
) -> None:
    url, asked = unchanged
    bench = Bench(tmp_path)
    settled(bench, url)
    daemons.append(running := Running(bench, url))
    running.until("sleep")
    assert asked == [], "the first poll is the child's, which also recovers"
    for number in (1, 2):
        running.signal(signal.SIGHUP)
        running.until("not-modified")
        running.until("sleep")
        assert asked == ['"known"'] * number
    record = bench.ledger.record
    assert (record.counters["polls"], record.poll and record.poll.code) == (2, "not-modified")
    running.signal(signal.SIGTERM)
    running.until("stop")
    assert running.process.wait() == 0


def test_news_start_the_updating_child(
    tmp_path: Path, unchanged: tuple[str, list[str | None]], daemons: list[Running]
) -> None:
    url, asked = unchanged
    bench = Bench(tmp_path)
    settled(bench, url, etag='"old"')
    daemons.append(running := Running(bench, url))
    running.until("sleep")
    running.signal(signal.SIGHUP)
    assert running.until("update")["exit_code"] == 0
    assert asked == ['"old"']


def test_a_certificate_that_is_due_starts_the_child_and_one_tried_just_now_does_not(
    tmp_path: Path, unchanged: tuple[str, list[str | None]], daemons: list[Running]
) -> None:
    url, asked = unchanged
    bench = Bench(tmp_path)
    bench.document["identity"] = {"key": "device.key", "certificate": "device.crt", "ca": "ca.pem"}
    (tmp_path / "device.key").touch()  # and no certificate yet: the first one is due
    settled(bench, url)
    daemons.append(running := Running(bench, url))
    running.until("sleep")
    running.signal(signal.SIGHUP)
    assert running.until("update")["exit_code"] == 0
    assert asked == []
    running.until("sleep")
    (bench.state / TRIED).write_text(to_text(utc_now()))
    running.signal(signal.SIGHUP)
    running.until("not-modified")
    assert asked == ['"known"']


def test_asking_whether_a_certificate_is_due_costs_an_idle_device_no_cryptography() -> None:
    program = (
        "import sys; import edgewright_agent.identity.validity; "
        "raise SystemExit(any(name in sys.modules for name in ('cryptography', 'ssl', 'tuf')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_unreachable_registry_is_recorded_and_backed_off_from(
    tmp_path: Path, daemons: list[Running]
) -> None:
    bench = Bench(tmp_path)
    url = "http://127.0.0.1:9/acme"
    settled(bench, url)
    daemons.append(running := Running(bench, url))
    assert running.until("sleep")["failures"] == 0
    for failures in (1, 2):
        running.signal(signal.SIGHUP)
        assert running.until("failed")["code"] == "network"
        assert running.until("sleep")["failures"] == failures
    poll = bench.ledger.record.poll
    assert poll
    assert poll.code == "network"


def test_a_stop_during_an_update_ends_the_child_too(tmp_path: Path, daemons: list[Running]) -> None:
    bench = Bench(tmp_path)
    mark = tmp_path / "child-runs"
    nap = f"open({str(mark)!r}, 'w').close(); time.sleep(600)"
    os.mkfifo(mark)
    daemons.append(running := Running(bench, "http://127.0.0.1:9/acme", nap=nap))
    mark.open().close()  # returns once the child has opened its end
    running.signal(signal.SIGTERM)
    assert running.until("update")["exit_code"] == -signal.SIGTERM
    running.until("stop")
    assert running.process.wait() == 0


def test_a_broken_configuration_does_not_stop_a_running_daemon(
    tmp_path: Path, daemons: list[Running]
) -> None:
    bench = Bench(tmp_path)
    daemons.append(running := Running(bench, "http://127.0.0.1:9/acme"))
    running.until("sleep")
    running.config.write_text("{")
    running.signal(signal.SIGHUP)
    assert running.until("failed")["code"] == "bad-config"
    running.until("sleep")


def warnings(running: Running, code: str) -> list[tuple[str, str]]:
    """What the health endpoint warns of, once that is how the last poll went: it is asked anew every second."""
    running.eventually("poll.code", code)
    status, body = running.get("/v1/health")
    assert status == 200
    return [(entry["code"], entry["message"]) for entry in json.loads(body)["warnings"]]


def test_while_the_configuration_is_wrong_nothing_is_polled_and_health_says_so(
    tmp_path: Path, unchanged: tuple[str, list[str | None]], daemons: list[Running]
) -> None:
    url, asked = unchanged
    bench = Bench(tmp_path)
    settled(bench, url)
    daemons.append(running := Running(bench, url))
    running.until("sleep")
    elsewhere = json.dumps({**bench.document, "state": "elsewhere"})
    for broken, told in (("{", "is not JSON"), (elsewhere, "restart the agent to move there")):
        running.config.write_text(broken)
        running.signal(signal.SIGHUP)
        failed = running.until("failed")
        assert (failed["code"], told in failed["message"]) == ("bad-config", True)
        running.until("sleep")
        running.eventually("poll.message", failed["message"])
        assert warnings(running, "bad-config") == [("bad-config", failed["message"])]
    assert asked == [], "an update would read the file that is wrong"
    running.config.write_text(json.dumps(bench.document))
    running.signal(signal.SIGHUP)
    running.until("not-modified")
    assert (asked, warnings(running, "not-modified")) == (['"known"'], [])


def test_a_configuration_behind_a_link_is_followed_to_where_the_link_leads(
    tmp_path: Path, unchanged: tuple[str, list[str | None]], daemons: list[Running]
) -> None:
    url, asked = unchanged
    bench = Bench(tmp_path)
    settled(bench, url)
    first, link = tmp_path / "1.json", tmp_path / "agent.json"
    first.write_text(json.dumps(bench.document))
    link.symlink_to(first)
    daemons.append(running := Running(bench, url))
    running.until("sleep")
    (tmp_path / "2.json").write_text("{")
    link.unlink()
    link.symlink_to("2.json")
    running.signal(signal.SIGHUP)
    assert running.until("failed")["code"] == "bad-config"
    assert asked == []


@pytest.mark.parametrize(
    ("nap", "exit_code", "told"),
    [
        ("import os; os.kill(os.getpid(), 9)", 0, "was ended by signal 9"),
        ("pass", 1, "ended with exit code 1"),
        ("pass", 70, "ended with exit code 70"),
    ],
)
def test_an_update_that_ends_without_recording_anything_is_a_poll_that_failed(
    tmp_path: Path, daemons: list[Running], nap: str, exit_code: int, told: str
) -> None:
    bench = Bench(tmp_path)
    settled(bench, "http://127.0.0.1:9/acme")
    before = Poll(to_text(utc_now()), "busy", "503", 21600.0)
    bench.ledger.commit(replace(bench.ledger.record, poll=before))
    daemons.append(running := Running(bench, "http://127.0.0.1:9/acme", exit_code, nap))
    failed = running.until("failed")
    assert (failed["code"], told in failed["message"]) == ("interrupted", True)
    assert running.until("sleep")["seconds"] < 2000, "the Retry-After is that of another poll"
    assert warnings(running, "interrupted") == [("interrupted", failed["message"])]
    assert bench.ledger.record.counters["polls"] == 1


def test_what_an_update_has_recorded_itself_stays(tmp_path: Path, daemons: list[Running]) -> None:
    bench = Bench(tmp_path)
    settled(bench, "http://127.0.0.1:9/acme")
    nap = (
        "from dataclasses import replace; from pathlib import Path; from edgewright_agent.files import Disk; "
        "from edgewright_agent.record import Ledger, Poll; "
        f"ledger = Ledger(Path({str(bench.state)!r}), Disk()); "
        "poll = Poll('2030-01-01T00:00:00Z', 'busy', '503 from far away', 9000.0); "
        "ledger.commit(replace(ledger.record.counted(polls=1), poll=poll))"
    )
    daemons.append(running := Running(bench, "http://127.0.0.1:9/acme", 3, nap))
    assert running.until("sleep")["seconds"] >= 9000
    record = bench.ledger.record
    assert (record.poll and record.poll.message, record.counters["polls"]) == ("503 from far away", 1)


def test_a_configuration_that_breaks_under_an_update_is_what_is_recorded(
    tmp_path: Path, daemons: list[Running]
) -> None:
    bench = Bench(tmp_path)
    settled(bench, "http://127.0.0.1:9/acme")
    nap = f"open({str(tmp_path / 'agent.json')!r}, 'w').write('{{')"
    daemons.append(running := Running(bench, "http://127.0.0.1:9/acme", 1, nap))
    assert running.until("failed")["code"] == "bad-config"
    running.until("sleep")
    assert len(warnings(running, "bad-config")) == 1


def test_a_sighup_during_a_poll_asks_for_another_one(tmp_path: Path, daemons: list[Running]) -> None:
    runs, may_end = tmp_path / "child-runs", tmp_path / "child-may-end"
    os.mkfifo(runs)
    os.mkfifo(may_end)
    nap = f"open({str(runs)!r}, 'w').close(); open({str(may_end)!r}).close()"
    daemons.append(running := Running(Bench(tmp_path), "http://127.0.0.1:9/acme", nap=nap))
    runs.open().close()  # returns once the child has opened its end
    running.signal(signal.SIGHUP)
    may_end.open("w").close()
    running.until("update")
    runs.open().close()
    may_end.open("w").close()
    running.until("update")
    running.until("sleep")


def test_no_more_processes_and_a_full_log_do_not_end_it(tmp_path: Path, daemons: list[Running]) -> None:
    bench = Bench(tmp_path)
    daemons.append(running := Running(bench, "http://127.0.0.1:9/acme", interpreter="/nowhere/python"))
    assert running.until("failed")["code"] == "no-process"
    assert running.until("sleep")["failures"] == 1
    assert len(warnings(running, "no-process")) == 1
    running.signal(signal.SIGTERM)
    assert running.process.wait() == 0
    program = "from edgewright_agent.daemon import log; log('start'); log('stop')"
    with Path("/dev/full").open("w") as full:
        subprocess.run([sys.executable, "-c", program], stderr=full, check=True)


def test_a_password_that_is_no_text_and_a_lost_key_do_not_end_it(
    tmp_path: Path, daemons: list[Running]
) -> None:
    bench = Bench(tmp_path)
    bench.document["source"].update(username="file:user", password="file:password")
    (tmp_path / "user").write_text("pi-7")
    (tmp_path / "password").write_bytes(b"\xff\xfe")
    for name in ("user", "password"):
        (tmp_path / name).chmod(0o600)
    settled(bench, "http://127.0.0.1:9/acme")
    daemons.append(running := Running(bench, "http://127.0.0.1:9/acme"))
    running.until("sleep")
    running.signal(signal.SIGHUP)
    failed = running.until("failed")
    assert (failed["code"], "is not one line of UTF-8 text" in failed["message"]) == ("bad-secret", True)
    running.until("sleep")
    bench.config.trust.keys[0].unlink()
    running.signal(signal.SIGHUP)
    running.until("failed")
    poll = bench.ledger.record.poll
    assert poll
    assert "signing.pub" in poll.message


def test_a_second_daemon_on_the_same_state_is_refused(tmp_path: Path, daemons: list[Running]) -> None:
    bench = Bench(tmp_path)
    daemons.append(running := Running(bench, "http://127.0.0.1:9/acme"))
    running.until("sleep")
    second = subprocess.run(
        [sys.executable, "-m", "edgewright_agent", "run", "--config", str(running.config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 3
    assert "busy" in second.stderr


def test_no_module_is_taken_from_the_directory_it_was_started_in(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (tmp_path / "agent.json").write_text(json.dumps(bench.document))
    (tmp_path / "random.py").write_text("raise SystemExit('a stranger runs')")
    run = "import sys; from edgewright_agent.cli import main; sys.path.remove(''); main(sys.argv[1:])"
    command = [sys.executable, "-c", run, "run", "--config", "agent.json"]
    with exclusive(bench.state / "daemon.lock"):  # so that it ends by itself
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr.partition(" at work")[0]) == (
        3,
        "edgewright-agent: busy: another agent is",
    )


def test_the_idle_process_carries_no_argparse_and_what_it_puts_off_still_works() -> None:
    program = (
        "import sys\n"
        "from edgewright_agent import idle\n"
        "assert idle.main(['/nowhere/agent.json']) == 1\n"
        "import edgewright_agent.transport.registry\n"
        "import edgewright_agent.probe, edgewright_agent.metrics, edgewright_agent.status, edgewright_agent.store\n"
        "late = ('argparse', 'ast', 'tokenize', 'subprocess', '_ssl', '_hashlib', 'edgewright_agent.health')\n"
        "print([name for name in late if sys.modules.get(name)])\n"
        "import inspect; print(inspect.signature(len))\n"
        "import hashlib, ssl; print(hashlib.sha256(b'').hexdigest()[:8], ssl.create_default_context().check_hostname)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["[]", "(obj, /)", "e3b0c442 True"]
    assert "bad-config" in ran.stderr
