"""What a device pays for the agent while nothing is new: memory, CPU per poll, start-up. Prints; asserts no time.

$ .venv/bin/pytest tests/benchmarks/test_idle.py -s
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import signal
import ssl
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from authority import Authority
from benchmarks.meter import Meter
from benchmarks.test_costs import ACCOUNTED, ROUNDS, say
from unit.agent.core.beats import beat
from unit.agent.core.idle import Unchanged, settled
from unit.agent.core.running import Running
from unit.agent.core.workbench import MODEL, Bench, make_artifact

POLLS = 50
MAX_IDLE_MIB, MAX_POLL_BYTES = 20.0, 1000
ONE, MANY = "one authority", "the system's authorities beside it"
IDLE = "import sys; from edgewright_agent import idle; idle.spare(); import edgewright_agent.daemon"


@dataclass(frozen=True)
class Idle:
    """An idle agent: memory in MiB before its first request, after one, after many; CPU and bytes per poll."""

    before: float
    first: float
    last: float
    cpu_ms: float
    sent: float
    received: float

    def row(self, name: str) -> tuple[str, str, str]:
        return (
            name,
            f"{self.last:.1f} MiB RSS",
            f"{self.before:.1f} before, {self.first:.1f} after one of {POLLS} polls; each {self.cpu_ms:.1f} ms CPU, "
            f"{self.sent:.0f} B sent and {self.received:.0f} B received above TCP",
        )


class Started(Running):
    """The agent as a device has it: the command itself, children and all."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.config = bench, bench.folder / "agent.json"
        self.config.write_text(json.dumps(bench.document))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgewright_agent", "run", "--config", str(self.config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def rss_mib(self) -> float:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found
        return int(found[1]) / 1024

    def cpu_s(self) -> float:
        """Of the process and of its children that have ended: those that ask, above all."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")

    def poll(self) -> None:
        self.signal(signal.SIGHUP)
        self.until("not-modified")
        self.until("sleep")


@dataclass(frozen=True)
class Quiet:
    """A registry without news: its URL, and what crosses on the way to it."""

    url: str
    meter: Meter


@contextlib.contextmanager
def registry(tls: Authority | None) -> Iterator[Quiet]:
    """Start one."""
    handler = type("Handler", (Unchanged,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls.server)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with Meter(server.server_port) as meter:
            yield Quiet(f"http{'s' if tls else ''}://{meter.host}/acme", meter)
        server.shutdown()


def device(folder: Path, url: str, ca_file: Path | None = None) -> Bench:
    """A device that runs a model and has nothing to do."""
    bench = Bench(folder)
    bench.publish(make_artifact("1.0.0"))
    assert bench.codes() == ["installed"]
    if ca_file:
        bench.document["source"]["caFile"] = str(ca_file)
    settled(bench, url)
    return bench


def measured(bench: Bench, meter: Meter) -> tuple[Started, Idle]:
    """Let it poll, and look."""
    agent = Started(bench)
    agent.until("sleep")
    before = agent.rss_mib()
    agent.poll()
    first, spent_s, sent, received = agent.rss_mib(), agent.cpu_s(), meter.sent, meter.received
    for _ in range(POLLS):
        agent.poll()
    cpu_ms = (agent.cpu_s() - spent_s) / POLLS * 1000
    crossed = ((meter.sent - sent) / POLLS, (meter.received - received) / POLLS)
    return agent, Idle(before, first, agent.rss_mib(), cpu_ms, *crossed)


def test_an_idle_agent_over_http(tmp_path: Path) -> None:
    with registry(None) as quiet:
        agent, idle = measured(device(tmp_path, quiet.url), quiet.meter)
        try:
            digest = agent.status()["models"][MODEL]["active"]
            for number in range(8):
                agent.hears(beat("open", session=f"{number:016x}", digest=digest))
            for _ in range(20):
                agent.get("/v1/health")
                agent.get("/metrics")
            agent.eventually("agent.sessions", 8)
            watched = agent.rss_mib()
        finally:
            agent.end()
    bare = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    asleep = subprocess.run(["sleep", "0.2"], check=True)
    assert asleep.returncode == 0
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{bare.pid}/status").read_text())
    bare.communicate(b"\n")
    assert found
    python = int(found[1]) / 1024
    say(
        "An idle agent, plain HTTP",
        [
            ("python that waits", f"{python:.1f} MiB RSS", "1.0 ×"),
            idle.row(f"edgewright-agent run ({idle.last / python:.2f} ×)"),
            ("… with 8 sessions, probes and metrics", f"{watched:.1f} MiB RSS", f"{watched / python:.2f} ×"),
        ],
    )
    assert watched <= MAX_IDLE_MIB
    assert idle.sent + idle.received <= MAX_POLL_BYTES
    assert idle.last <= idle.first + 0.5, "it grows"


def trusting(folder: Path, authority: Authority, trusted: str) -> Path:
    """Write a CA file."""
    system = Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt")
    if trusted != ONE and not system.is_file():
        pytest.skip("this machine has no authorities of its own")
    ca_file = folder / "trusted.pem"
    ca_file.write_bytes(authority.ca_file.read_bytes() + (system.read_bytes() if trusted != ONE else b""))
    return ca_file


@pytest.mark.parametrize("trusted", [ONE, MANY])
def test_an_idle_agent_over_tls(tmp_path: Path, trusted: str) -> None:
    authority = Authority.create(tmp_path)
    with registry(authority) as quiet:
        ca_file = trusting(tmp_path, authority, trusted)
        agent, idle = measured(device(tmp_path / "device", quiet.url, ca_file), quiet.meter)
        agent.end()
    say(f"An idle agent, TLS, {trusted}", [idle.row("edgewright-agent run")])
    assert idle.last <= MAX_IDLE_MIB
    assert idle.last <= idle.first + 0.5, "it grows"


def test_an_idle_agent_over_tls_with_all_that_it_can_be_asked_to_do(tmp_path: Path) -> None:
    """Telemetry that nobody takes, eight sessions that infer, a probe, a scraper and a person who looks."""
    authority = Authority.create(tmp_path)
    with registry(authority) as quiet:
        bench = device(tmp_path / "device", quiet.url, trusting(tmp_path, authority, MANY))
        bench.document["telemetry"] = {"endpoint": "http://127.0.0.1:9", "aggregateS": 10}
        settled(bench, quiet.url)
        agent, idle = measured(bench, quiet.meter)
        try:
            digest = agent.status()["models"][MODEL]["active"]
            latency = [[bucket, 3] for bucket in range(80, 140)]
            for number in range(8):
                name, sums = f"{number:016x}", {"latency": latency, "inferences": 180}
                agent.hears(
                    beat("open", session=name, digest=digest), beat(session=name, digest=digest, **sums)
                )
            agent.eventually("agent.sessions", 8)
            while not (spool := agent.status()["spool"]) or not spool["classes"]["aggregate"]["waiting"]:
                agent.poll()
            for _ in range(20):
                agent.get("/v1/health")
                agent.get("/metrics")
                agent.poll()
            last = agent.rss_mib()
        finally:
            agent.end()
    rows = [idle.row("edgewright-agent run"), ("… with all of it", f"{last:.1f} MiB RSS", "")]
    say("An idle agent, TLS, telemetry, 8 sessions, probed and scraped", rows)
    assert last <= MAX_IDLE_MIB


def test_the_start_of_a_daemon() -> None:
    def cpu_s(program: str) -> float:
        spent = []
        for _ in range(ROUNDS):
            ran = subprocess.run(
                [sys.executable, "-S", ACCOUNTED, sys.executable, "-c", program],
                capture_output=True,
                text=True,
                check=True,
            )
            spent.append(float(json.loads(ran.stdout)["cpu_s"]))
        return statistics.median(spent)

    bare, daemon = cpu_s("pass"), cpu_s(IDLE)
    times = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", IDLE], capture_output=True, text=True, check=True
    ).stderr
    own = [line for line in times.splitlines() if "edgewright_agent" in line]
    slowest = sorted(own, key=lambda line: int(line.split("|")[0].split(":")[1]))[-3:]
    say(
        "The start of a daemon, to its last import",
        [
            ("python, nothing", f"{bare:.3f} CPU-s", "1.0 ×"),
            ("the daemon", f"{daemon:.3f} CPU-s", f"{daemon - bare:.3f} CPU-s more"),
            *(
                (
                    line.split("|")[2].strip(),
                    f"{int(line.split('|')[0].split(':')[1]) / 1000:.1f} ms",
                    "by itself",
                )
                for line in slowest
            ),
        ],
    )
