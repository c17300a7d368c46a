"""Attacks by an account of the device that is in the agent's group: what it may do is talk, and no talk is an order."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attacks.device import Device, Told
from attacks.fleet import MODEL
from attacks.scene import Scene
from attacks.table import attack
from edgewright_agent import sockets
from edgewright_agent.contract import HEALTH_SOCKET, LIVE_SOCKET
from unit.agent.core.beats import beat

GROUP = "an account of the device, in the agent's group"
WHO = "the daemon"
NOWHERE = "http://127.0.0.1:9/acme"  # discard: nobody listens


@contextlib.contextmanager
def _daemon(device: Device) -> Iterator[int]:
    """Run the agent as a service does, with nobody to poll; the number of its process."""
    config = json.loads(device.config.read_bytes())
    device.configure(source={"url": NOWHERE})
    process = subprocess.Popen(
        [sys.executable, "-m", "edgewright_agent", "run", "--config", str(device.config)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr
        for line in process.stderr:
            if json.loads(line)["event"] == "sleep":
                break
        yield process.pid
    finally:
        process.kill()
        process.stderr and process.stderr.close()
        process.wait()
        device.configure(source=config["source"])


def _asks(device: Device, path: str) -> tuple[int, dict[str, Any]]:
    with sockets.connect(device.state / HEALTH_SOCKET, socket.SOCK_STREAM, timeout_s=30) as channel:
        channel.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        received = bytearray()
        while data := channel.recv(65536):
            received += data
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def _is_asked(scene: Scene) -> Told:
    """Let an honest probe ask how things are."""
    status, document = _asks(scene.device, "/v1/models")
    assert status == 200, document
    return Told(0, (document["models"][MODEL]["state"],), json.dumps(document))


def _played(scene: Scene, do: Callable[[int], None]) -> Iterator[None]:
    """Do something to a daemon, given its process; then it is asked."""
    with _daemon(scene.device) as pid:
        do(pid)
        scene.instead = lambda: _is_asked(scene)
        yield


def _sends(device: Device, *datagrams: bytes, descriptors: tuple[int, ...] = ()) -> None:
    with sockets.connect(device.state / LIVE_SOCKET, socket.SOCK_DGRAM, timeout_s=10) as channel:
        for datagram in datagrams:
            if descriptors:
                socket.send_fds(channel, [datagram], list(descriptors))
            else:
                channel.send(datagram)


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@attack("agent.sock: a request of spaces", has=GROUP, noted="running", who=WHO)
def spaces(scene: Scene) -> Iterator[None]:
    """Read in every split of the row, it would take minutes, and the watchdog would end the daemon."""

    def do(_pid: int) -> None:
        with sockets.connect(scene.device.state / HEALTH_SOCKET, socket.SOCK_STREAM, timeout_s=30) as channel:
            channel.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX:" + b" " * 8000 + b"\x01\r\n\r\n")
            assert channel.recv(100).startswith(b"HTTP/1.1 400")

    yield from _played(scene, do)


@attack("agent.sock: a request that does not end", has=GROUP, noted="running", who=WHO)
def endless_request(scene: Scene) -> Iterator[None]:
    def do(_pid: int) -> None:
        with (
            sockets.connect(scene.device.state / HEALTH_SOCKET, socket.SOCK_STREAM, timeout_s=30) as channel,
            contextlib.suppress(BrokenPipeError, ConnectionResetError),
        ):
            channel.sendall(b"GET / HTTP/1.1\r\n")
            for _ in range(100_000):
                channel.sendall(b"X: y\r\n" * 100)
            raise AssertionError("it listens for ever")

    yield from _played(scene, do)


@attack(
    "live.sock: crashes that never were, of a model that has proved itself",
    has=GROUP,
    noted="running",
    who=WHO,
)
def crashes(scene: Scene) -> Iterator[None]:
    """Whoever may load a model may also say that it crashes: it is told, and it is no reason to go back."""
    digest = scene.fleet.releases[1].digest

    def do(_pid: int) -> None:
        for _ in range(5):  # each from a process that then ends, in the middle of an inference
            with contextlib.suppress(ChildProcessError):
                child = os.fork()
                if child == 0:
                    try:
                        _sends(scene.device, beat("open", digest=digest), beat(digest=digest, inFlightS=1.0))
                    finally:
                        os._exit(0)
                os.waitpid(child, 0)

    yield from _played(scene, do)
    state = scene.device.record.model(MODEL)
    assert state.active is not None and state.active.digest == digest
    assert not state.tombstones


@attack(
    "live.sock: in the name of another process, with numbers beyond any", has=GROUP, noted="running", who=WHO
)
def another_name(scene: Scene) -> Iterator[None]:
    most = 2**53 - 1

    def do(pid: int) -> None:
        _sends(
            scene.device,
            beat("open", pid=pid),
            beat(pid=pid, inferences=most, errors=most, latency=[[320, most]]),
            beat(pid=pid, inferences=2**53),
            beat(pid=pid, inFlightS=-1),
            b'{"version":1,"inferences":1e999}',
        )
        _status, document = _asks(scene.device, "/v1/status")
        agent = document["agent"]
        assert agent["sessions"] == 1
        assert agent["datagrams"] == {"heard": 2, "refused": 3, "dropped": 0}

    yield from _played(scene, do)


@attack("live.sock: datagrams that carry descriptors", has=GROUP, noted="running", who=WHO)
def descriptors(scene: Scene) -> Iterator[None]:
    """A daemon that took them would run out of its own."""

    def do(pid: int) -> None:
        _asks(scene.device, "/v1/health")
        before = _open_files(pid)
        with Path(os.devnull).open() as file:
            _sends(scene.device, *[b"{}"] * 64, descriptors=(file.fileno(),) * 16)
        _asks(scene.device, "/v1/health")
        assert _open_files(pid) <= before + 1, "they are open in the daemon"

    yield from _played(scene, do)
