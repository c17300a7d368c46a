"""`edgewright-agent top`: what people see on wide and narrow terminals, with and without a daemon; pseudo-terminals."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from datetime import datetime, timezone
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.top import frame
from unit.agent.core.beats import beat
from unit.agent.core.running import Running
from unit.agent.core.workbench import MODEL, Bench, make_artifact

NOW = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)
LIVE = {
    "digest": "sha256:" + "a" * 64,
    "rung": "cpu-model",
    "codes": ["provider-failed"],
    "sessions": 2,
    "hung": 1,
    "crashed": 1,
    "errors": 3,
    "sinceSuccessS": 4.2,
    "drift": {"confidence": 0.02, "inputs": {"image": 0.31}},
    "recent": {"perS": 12.5, "p50Ms": 1.07, "p95Ms": 4.28, "errors": 1, "confidence": 0.96},
}
DOCUMENT: dict[str, Any] = {
    "device": {"id": "pump-7", "class": "raspberry-pi-4", "labels": {}},
    "state": "ok",
    "agent": {"doing": "waiting", "nextPollS": 750.0, "failures": 0, "sessions": 2},
    "poll": {"at": "2030-01-01T11:58:00Z", "code": "not-modified", "message": "up to date"},
    "metadata": {"expires": {"timestamp": "2030-01-07T12:00:00Z", "root": "2031-01-01T00:00:00Z"}},
    "vitals": {
        "memory": {"availableBytes": 431_000_000, "totalBytes": 1_000_000_000},
        "disk": {"freeBytes": 1_300_000_000, "totalBytes": 8_000_000_000, "freeInodes": 10_000},
        "temperatureC": 48.2,
        "load": 0.41,
    },
    "spool": {
        "bytes": 80,
        "segments": 8,
        "classes": {"error": {"segments": 1, "dropped": 2}, "sample": {"segments": 0, "dropped": 0}},
    },
    "next": None,
    "models": {
        "digit-reader": {
            "state": "running",
            "active": "sha256:" + "a" * 64,
            "version": "1.2.0",
            "rung": "cpu-model",
            "reason": None,
            "live": LIVE,
        },
        "keyword": {
            "state": "absent",
            "active": None,
            "version": None,
            "rung": "normal",
            "reason": "network (1.0.0): unreachable",
            "live": None,
        },
    },
}


def test_a_wide_terminal_shows_everything() -> None:
    lines = frame(DOCUMENT, NOW, width=140, clock="12:00:00")
    assert lines[:5] == [
        "pump-7  raspberry-pi-4  ok  next poll in 12 min" + " " * 85 + "12:00:00",
        "poll      2 min ago  not-modified: up to date",
        "metadata  timestamp ends first, in 6 d",
        "machine   memory 411 MiB of 954 MiB free · disk 1.2 GiB of 7.5 GiB free · 48 °C · load 0.41 · "
        "spool 12 % full, 2 dropped · 2 sessions",
        "",
    ]
    heads, reader, keyword = (re.split(r" {2,}", line) for line in lines[5:8])
    assert dict(zip(heads, reader, strict=True)) == {
        "MODEL": "digit-reader",
        "VERSION": "1.2.0",
        "DIGEST": "a" * 12,
        "STATE": "running",
        "RUNG": "cpu-model",
        "REQ/S": "12.5",
        "P50 MS": "1.07",
        "P95 MS": "4.28",
        "ERRORS": "3",
        "CONF": "0.96",
        "DRIFT": "0.31",
        "SESSIONS": "2, 1 hung",
        "LAST OK": "4 s ago",
    }
    assert keyword == ["keyword", "-", "-", "absent", "normal", *"--------"]
    assert len(lines[5]) == len(lines[6]) == len(lines[7])
    assert lines[8:] == [
        "",
        "digit-reader: sessions say provider-failed",
        "digit-reader: 1 session ended in a crash since the agent started",
        "keyword: network (1.0.0): unreachable",
    ]


def test_after_a_rollback_no_figures_of_the_other_version_stand_beside_the_one_that_runs() -> None:
    reader = DOCUMENT["models"]["digit-reader"]
    other = {**DOCUMENT, "models": {"digit-reader": {**reader, "active": "sha256:" + "b" * 64}}}
    heads, told = (re.split(r" {2,}", line) for line in frame(other, NOW, width=140)[5:7])
    row = dict(zip(heads, told, strict=True))
    assert {row[name] for name in ("REQ/S", "P50 MS", "P95 MS", "ERRORS", "CONF", "DRIFT")} == {"-"}
    assert row["SESSIONS"] == "2, 1 hung", "they are there all the same"


@pytest.mark.parametrize("width", [40, 60, 80, 100, 132, 200])
def test_no_line_is_wider_than_the_terminal_and_what_matters_most_stays(width: int) -> None:
    lines = frame(DOCUMENT, NOW, width=width)
    assert max(map(len, lines)) <= width
    table = next(line for line in lines if line.startswith("MODEL"))
    assert {"MODEL", "VERSION", "STATE"} <= set(table.split())


def test_colours_change_no_text_and_say_what_is_bad() -> None:
    plain = frame(DOCUMENT, NOW, width=120)
    coloured = frame(DOCUMENT, NOW, width=120, colours=True)
    assert [re.sub(r"\x1b\[[0-9]*m", "", line).rstrip() for line in coloured] == plain
    assert "\x1b[31m2, 1 hung\x1b[0m" in "".join(coloured).replace("\x1b[31m  ", "\x1b[31m")


def test_ended_metadata_failed_polls_and_a_new_device_are_told() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["metadata"]["expires"]["timestamp"] = "2029-12-31T12:00:00Z"
    document["agent"] = {**document["agent"], "failures": 3}
    lines = frame(document, NOW, width=100)
    assert "next poll in 12 min after 3 failures" in lines[0]
    assert lines[2] == "metadata  timestamp ended 24 h ago"
    document |= {"poll": None, "models": {}, "next": "edgewright-agent anchor"}
    document["metadata"]["expires"] = {}
    lines = frame(document, NOW, width=100)
    assert lines[1:3] == ["poll      never", "metadata  none yet"]
    assert "no model is installed here yet" in lines
    assert lines[-1] == "next: edgewright-agent anchor"


def top(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgewright_agent", "top", "--config", str(config), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_without_a_daemon_it_says_so_and_shows_what_is_on_disk(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish(make_artifact("1.0.0"))
    bench.once()
    config = tmp_path / "agent.json"
    config.write_text(json.dumps(bench.document))
    ran = top(config, "--once")
    assert ran.returncode == 3
    assert ran.stderr.startswith(
        f"edgewright-agent: no-daemon: no agent runs on {bench.state}; start it with "
    )
    assert re.search(r"digit-reader +sha256:\w+ +1\.0\.0", ran.stdout)
    document = json.loads(top(config, "--json").stdout)
    assert (document["agent"], document["models"][MODEL]["version"]) == (None, "1.0.0")


def test_once_and_json_are_for_scripts(tmp_path: Path, daemons: list[Running]) -> None:
    daemons.append(running := Running(Bench(tmp_path), "http://127.0.0.1:9/acme"))
    running.until("sleep")
    running.hears(beat("open"))
    running.eventually("agent.sessions", 1)
    assert json.loads(top(running.config, "--once", "--json").stdout)["agent"]["pid"] == running.process.pid
    ran = top(running.config, "--once")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\x1b" not in ran.stdout
    assert ran.stdout.startswith("pi-7  raspberry-pi-4  ")
    assert top(running.config, "--interval", "0").returncode == 1


def test_on_a_terminal_it_redraws_fits_and_gives_the_terminal_back(
    tmp_path: Path, daemons: list[Running]
) -> None:
    daemons.append(running := Running(Bench(tmp_path), "http://127.0.0.1:9/acme"))
    running.until("sleep")
    for end in (b"q", b"\x03", None):
        pid, terminal = pty.fork()
        if pid == 0:
            words = ["-m", "edgewright_agent", "top", "--config", str(running.config), "--interval", "0.1"]
            os.execve(sys.executable, [sys.executable, *words], {**os.environ, "TERM": "xterm"})
        ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
        seen = b""
        while seen.count(b"q ends") < 3:
            assert select.select([terminal], [], [], 30)[0], seen
            seen += os.read(terminal, 65536)
        if end:
            os.write(terminal, end)
        else:
            os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(OSError):  # EIO: its other end is closed
            while data := os.read(terminal, 65536):
                seen += data
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        os.close(terminal)
        assert seen.startswith(b"\x1b[?1049h\x1b[?25l")
        assert seen.rstrip().endswith(b"\x1b[?25h\x1b[?1049l")
        last = seen.rpartition(b"\x1b[H")[2].decode()
        lines = re.sub(r"\x1b\[[0-9?]*[A-Za-z]", "", last).splitlines()
        assert max(map(len, lines)) <= 60
