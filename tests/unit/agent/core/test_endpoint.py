"""The small HTTP server: what it takes for a request, whom it waits for, what it never does. Real sockets."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgewright_agent import sockets
from edgewright_agent.endpoint import (
    MAX_CONNECTIONS,
    MAX_REQUEST_BYTES,
    Answer,
    Endpoint,
    RefusedError,
    parse,
)
from edgewright_agent.errors import StorageError
from edgewright_agent.loop import Loop
from edgewright_agent.sockets import MAX_PATH_BYTES, Bound, connect
from edgewright_agent.timers import Timers

GET = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = b"x" * 4_000_000


class Hand:
    """A clock moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Server:
    """An endpoint on a real socket; the test turns its loop."""

    def __init__(self, folder: Path, loop: Loop, clock: Hand) -> None:
        self.path, self.loop, self.clock = folder / "agent.sock", loop, clock
        self.bound = Bound(self.path, socket.SOCK_STREAM)
        self.endpoint = Endpoint(self.bound.channel, self.answer, loop, clock)

    @staticmethod
    def answer(path: str) -> Answer | None:
        return {
            "/v1/health": Answer.of(200, {"status": "ok"}),
            "/large": Answer(200, LARGE, "text/plain"),
        }.get(path)

    def client(self, sent: bytes = b"") -> socket.socket:
        made = connect(self.path, socket.SOCK_STREAM, timeout_s=10)
        if sent:
            made.sendall(sent)
        return made

    def turn(self) -> None:
        self.loop.timers.after("soon", 0)
        self.loop.turn()
        self.loop.timers.take()

    def turn_until(self, done: Callable[[], bool]) -> None:
        for _ in range(10_000):
            if done():
                return
            self.turn()
        raise AssertionError("it never came to that")

    def ask(self, sent: bytes) -> bytes:
        """Everything that one client gets."""
        received = bytearray()
        with self.client(sent) as client:
            client.setblocking(False)

            def ended() -> bool:
                try:
                    data = client.recv(1 << 16)
                except BlockingIOError:
                    return False
                except ConnectionResetError:  # it had more to say than was read
                    return True
                received.extend(data)
                return not data

            self.turn_until(ended)
        return bytes(received)


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def server(tmp_path: Path, clock: Hand) -> Iterator[Server]:
    with Loop((), Timers(clock)) as loop:
        made = Server(tmp_path, loop, clock)
        yield made
        made.endpoint.close()
        made.bound.close()


def test_a_socket_is_reached_where_longs_have_32_bits_and_times_64(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack(layout: str, *values: int) -> bytes:
        return struct.pack(layout.replace("@ll", "=ii"), *values)

    monkeypatch.setattr(socket, "SO_SNDTIMEO", 67)  # this kernel takes it, too
    monkeypatch.setattr(sockets, "struct", SimpleNamespace(pack=pack))
    server.client().close()


def test_without_a_descriptor_left_it_pauses_and_goes_on_when_there_is_one(
    server: Server, clock: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    class Exhausted:
        def accept(self) -> None:
            tried.append(1)
            raise OSError(errno.ENFILE, "Too many open files in system")

    with server.client(GET) as client:
        monkeypatch.setattr(server.endpoint, "_listener", Exhausted())
        monkeypatch.setattr(Exhausted, "fileno", lambda _self: server.bound.channel.fileno(), raising=False)
        for _ in range(20):
            server.turn()
        assert len(tried) == 1, "whoever waits would turn the loop for ever"
        monkeypatch.undo()
        left_s = server.endpoint.left_s()
        assert left_s is not None
        clock.now += left_s
        server.endpoint.expire()
        server.turn_until(lambda: len(server.endpoint) == 1)
        server.turn_until(lambda: len(server.endpoint) == 0)
        assert client.recv(12) == b"HTTP/1.1 200"


def test_a_page_is_answered_as_http_says(server: Server) -> None:
    head, _, body = server.ask(GET).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n")
    assert b"Connection: close" in head
    assert body == b'{"status": "ok"}\n'
    assert server.ask(GET.replace(b"GET", b"HEAD")).endswith(b"\r\n\r\n")
    assert server.ask(
        GET.replace(b"/v1", b"http://localhost/v1").replace(b"health", b"health?full")
    ).endswith(b'{"status": "ok"}\n')
    assert len(server.endpoint) == 0


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"POST /v1/health HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET /v1/health HTTP/1.1\r\n\r\n", 400),
        (b"GET /v1/health HTTP/1.0\r\n\r\n", 200),
        (b"GET /v1/health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /v1/health HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET /v1/health HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET /v1/health HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        (b"GET /v1/health HTTP/1.1\r\nHost: a\x00\r\n\r\n", 400),
        (b"GET /v1/health HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"GET /v1/health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /v1/health HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET  /v1/health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET /" + b"a" * MAX_REQUEST_BYTES + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET /v1/health HTTP/1.1\r\n" + b"X: y\r\n" * 2000, 431),
    ],
    ids=lambda value: repr(value[:50]) if isinstance(value, bytes) else str(value),
)
def test_what_is_no_request_is_refused_with_the_status_that_says_why(
    server: Server, request_bytes: bytes, status: int
) -> None:
    assert server.ask(request_bytes).startswith(b"HTTP/1.1 %d " % status)


def test_a_request_may_come_byte_by_byte(server: Server) -> None:
    assert [parse(GET[:end]) for end in range(len(GET))] == [None] * len(GET)
    with server.client() as client:
        for byte in GET:
            client.sendall(bytes([byte]))
            server.turn()
        server.turn_until(lambda: len(server.endpoint) == 0)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_who_reads_slowly_gets_all_and_holds_up_nobody(server: Server) -> None:
    with server.client(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n") as slow:
        server.turn_until(lambda: len(server.endpoint) == 1)
        for _ in range(5):
            server.turn()
        assert server.ask(GET).startswith(b"HTTP/1.1 200")
        slow.setblocking(False)
        received = bytearray()

        def whole() -> bool:
            try:
                data = slow.recv(1 << 20)
            except BlockingIOError:
                return False
            received.extend(data)
            return not data

        server.turn_until(whole)
    assert bytes(received).endswith(LARGE)


def test_who_says_nothing_is_cut_off_and_never_keeps_the_others_out(server: Server, clock: Hand) -> None:
    idle = [server.client() for _ in range(MAX_CONNECTIONS)]
    server.turn_until(lambda: len(server.endpoint) == MAX_CONNECTIONS)
    with server.client(GET) as patient:
        server.turn()
        assert len(server.endpoint) == MAX_CONNECTIONS
        assert server.endpoint.left_s() == 10
        clock.now += 10
        server.endpoint.expire()
        assert idle[0].recv(4096).startswith(b"HTTP/1.1 408 ")
        server.turn_until(lambda: len(server.endpoint) == 1)
        server.turn_until(lambda: len(server.endpoint) == 0)
        assert patient.recv(4096).startswith(b"HTTP/1.1 200")
    for client in idle:
        client.close()


def test_clients_that_leave_in_the_middle_leave_nothing_behind(server: Server) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  the list itself needs one
    for sent in (b"", b"GET ", GET, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"):
        for _ in range(20):
            server.client(sent).close()
            server.turn()
    server.turn_until(lambda: len(server.endpoint) == 0)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_what_a_header_says_is_never_part_of_an_answer(server: Server) -> None:
    assert b"secret" not in server.ask(b"GET /secret HTTP/1.1\r\nHost: secret\r\n\r\n")


def test_a_refusal_is_one_sentence() -> None:
    with pytest.raises(RefusedError, match="only GET and HEAD"):
        parse(GET.replace(b"GET", b"PUT"))


def test_a_socket_is_open_to_owner_and_group_whatever_the_umask(tmp_path: Path) -> None:
    for mask in (0o000, 0o077, 0o777):
        before = os.umask(mask)
        try:
            with Bound(tmp_path / "a.sock", socket.SOCK_STREAM) as bound:
                assert bound.path.stat().st_mode & 0o777 == 0o660
                assert bound.path.stat().st_gid == tmp_path.stat().st_gid
        finally:
            os.umask(before)
    assert not (tmp_path / "a.sock").exists()


def test_what_a_killed_process_left_is_replaced_and_what_is_no_socket_is_not(tmp_path: Path) -> None:
    stale = tmp_path / "a.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(stale))
    left.close()
    with pytest.raises(ConnectionRefusedError):
        connect(stale, socket.SOCK_STREAM, timeout_s=1)
    with Bound(stale, socket.SOCK_STREAM) as bound:
        bound.channel.listen()
        connect(stale, socket.SOCK_STREAM, timeout_s=1).close()
        assert bound.there
        stale.unlink()
        assert not bound.there
    stale.write_text("a person's notes")
    with pytest.raises(StorageError) as refused:
        Bound(stale, socket.SOCK_STREAM)
    assert refused.value.code == "not-a-socket"
    assert stale.read_text() == "a person's notes"


def test_a_state_directory_too_deep_for_a_socket_address_has_sockets_all_the_same(tmp_path: Path) -> None:
    deep = tmp_path
    while len(os.fsencode(deep)) <= MAX_PATH_BYTES:
        deep /= "a-directory-with-a-long-name"
    deep.mkdir(parents=True)
    with Bound(deep / "a.sock", socket.SOCK_STREAM) as bound:
        bound.channel.listen()
        connect(deep / "a.sock", socket.SOCK_STREAM, timeout_s=1).close()
    assert list(deep.iterdir()) == []
    with pytest.raises(StorageError, match="File name too long"):
        Bound(deep / ("a" * 120), socket.SOCK_STREAM)


def test_a_standard_client_understands_it(server: Server) -> None:
    answer = http.client.HTTPResponse(server.client(GET))
    server.turn_until(lambda: len(server.endpoint) == 1)
    server.turn_until(lambda: len(server.endpoint) == 0)
    answer.begin()
    assert (answer.status, answer.read()) == (200, b'{"status": "ok"}\n')
    answer.close()


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t"])
def test_a_header_of_nothing_but_spaces_is_read_once_and_not_in_every_split(space: bytes) -> None:
    """It took minutes, in which the daemon did nothing else: this test would not end."""
    row = space * (2500 // len(space))
    found = parse(b"GET / HTTP/1.1\r\nHost:" + row + b"\r\nX:" + row + b"x" + row + b"\r\n\r\n")
    assert found is not None and found.path == "/"
    with pytest.raises(RefusedError, match="malformed"):
        parse(b"GET / HTTP/1.1\r\nHost: localhost\r\nX:" + row * 3 + b"\x01\r\n\r\n")


def test_spaces_around_a_value_are_none_of_it() -> None:
    with pytest.raises(RefusedError, match="no body"):
        parse(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length:  \t7 \t\r\n\r\n")
    assert parse(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length:  0\t\r\n\r\n") is not None
