"""What doing nothing costs, on both sides, and what an update costs beside the usual tools. Prints; asserts no time.

$ make bench
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.conftest import built_once  # noqa: F401 - a fixture
from e2e.journey import MODEL, PROGRAMS, Journey
from real import Registry, Tool, require

ROUNDS = 7
ACCOUNTED = str(Path(__file__).with_name("accounted.py"))


@dataclass(frozen=True)
class Cost:
    """Medians over `ROUNDS` runs of one command: CPU seconds, and the largest process's peak memory in MiB."""

    cpu_s: float
    peak_mib: float


@dataclass(frozen=True)
class Traffic:
    """What went over a link."""

    sent: int
    received: int
    requests: int


class Meter:
    """A TCP forwarder to a local port that counts what passes."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sent = self._received = self._requests = 0

    def __enter__(self) -> Meter:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def read(self) -> Traffic:
        """Return what has passed since the last call."""
        counted = Traffic(self._sent, self._received, self._requests)
        self._sent = self._received = self._requests = 0
        return counted

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                for source, sink, outgoing in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pump, args=(source, sink, outgoing), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, outgoing: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if outgoing:
                    self._sent += len(data)
                    self._requests += data.count(b" HTTP/1.1\r\n")
                else:
                    self._received += len(data)
                sink.sendall(data)
        sink.close()


def cost(run: Callable[[], list[str]], cwd: Path) -> Cost:
    """Run a command several times as a process of its own and let the kernel account for it."""
    cpu, peak = [], []
    for _ in range(ROUNDS):
        launched = subprocess.run(
            [sys.executable, "-S", ACCOUNTED, *run()], cwd=cwd, capture_output=True, text=True, check=True
        )
        found = json.loads(launched.stdout)
        assert found["exit_code"] == 0, launched.stderr
        cpu.append(found["cpu_s"])
        peak.append(found["peak_mib"])
    return Cost(statistics.median(cpu), statistics.median(peak))


def say(title: str, rows: list[tuple[str, str, str]]) -> None:
    width = max(len(name) for name, _, _ in rows)
    print(f"\n\n{title}")
    for name, figure, ratio in rows:
        print(f"  {name:<{width}}  {figure:>22}  {ratio}")


@pytest.fixture
def online(built_once: Journey, registry: Registry, tmp_path: Path) -> Journey:  # noqa: F811
    """A copy of the built fleet, published to a real registry."""
    journey = built_once.copy(tmp_path / "journey")
    journey.edit("fleet.yaml", r"url: .*$", f"url: {registry.url}/acme")
    journey.release()
    return journey


def test_a_run_with_nothing_to_do(built_once: Journey) -> None:  # noqa: F811
    program = str(PROGRAMS / "edgewright")
    bare = cost(lambda: [sys.executable, "-c", "pass"], built_once.fleet)
    dagster = cost(lambda: [sys.executable, "-c", "import dagster"], built_once.fleet)
    rows = [("python, nothing", f"{bare.cpu_s:.3f} CPU-s", "1.0 ×")]
    for name, words in (("edgewright run, nothing to do", ["run"]), ("edgewright plan", ["plan"])):
        mine = cost(lambda words=words: [program, *words], built_once.fleet)  # type: ignore[misc]
        rows.append((name, f"{mine.cpu_s:.3f} CPU-s", f"{mine.cpu_s / bare.cpu_s:.1f} ×"))
    rows.append(("import dagster", f"{dagster.cpu_s:.3f} CPU-s", f"{dagster.cpu_s / bare.cpu_s:.1f} ×"))
    say("Nothing changed: CPU time against a Python that starts and ends", rows)


def test_a_poll_without_news(online: Journey, registry: Registry) -> None:
    with Meter(registry.port) as meter:
        device = online.enroll("bench", source=f"http://127.0.0.1:{meter.port}/acme")
        assert online.agent(device, "once").returncode == 0
        first = meter.read()
        done = online.agent(device, "once")
        assert "not modified" in done.stdout, done.stdout + done.stderr
        second = meter.read()
    device = online.enroll("bench-direct", source=f"{registry.url}/acme")
    assert online.agent(device, "once").returncode == 0
    agent = str(PROGRAMS / "edgewright-agent")
    poll = cost(lambda: [agent, "once", "--config", str(online.config(device))], online.fleet)
    bare = cost(lambda: [sys.executable, "-c", "pass"], online.fleet)
    say(
        "A poll without news (bytes as the link carries them, HTTP headers included)",
        [
            (
                "sent + received",
                f"{second.sent} + {second.received} B",
                f"{second.requests} request, answered 304",
            ),
            ("first install", f"{first.sent} + {first.received} B", f"{first.requests} requests"),
            (
                "CPU, as a process of its own",
                f"{poll.cpu_s:.3f} s",
                f"{poll.cpu_s / bare.cpu_s:.1f} × bare Python",
            ),
        ],
    )


def test_an_update_beside_cosign_and_oras(
    online: Journey, registry: Registry, cosign: Tool, oras: Tool, tmp_path: Path
) -> None:
    agent = str(PROGRAMS / "edgewright-agent")
    devices = iter(
        [online.enroll(f"bench-{number}", source=f"{registry.url}/acme") for number in range(ROUNDS)]
    )
    reference = f"{registry.host}/acme/{MODEL}@{online.digest()}"
    key = str(online.fleet / ".edgewright/keys/signing.pub")
    os.environ["HOME"] = str(tmp_path)  # cosign keeps a cache in its home
    update = cost(lambda: [agent, "once", "--config", str(online.config(next(devices)))], online.fleet)
    verify = cost(
        lambda: [
            *(str(require("cosign")), "verify", "--key", key),
            *("--insecure-ignore-tlog=true", "--allow-http-registry", reference),
        ],
        online.fleet,
    )
    pull = cost(
        lambda: [str(require("oras")), "pull", "--plain-http", "-o", str(tmp_path / "pulled"), reference],
        online.fleet,
    )
    theirs = Cost(verify.cpu_s + pull.cpu_s, max(verify.peak_mib, pull.peak_mib))
    say(
        "A first install: metadata, signature, gate, download, store, golden inference, commit",
        [
            (
                "cosign verify + oras pull",
                f"{theirs.cpu_s:.2f} s  {theirs.peak_mib:.0f} MiB",
                "no freshness, store or trial",
            ),
            (
                "edgewright-agent once",
                f"{update.cpu_s:.2f} s  {update.peak_mib:.0f} MiB",
                f"{update.cpu_s / theirs.cpu_s:.2f} × CPU, {update.peak_mib / theirs.peak_mib:.2f} × peak",
            ),
        ],
    )
