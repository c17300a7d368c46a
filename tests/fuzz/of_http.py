"""What a registry says over HTTP: whole answers, challenges, and the tokens that these lead to."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from edgewright_agent.contract import OCI_INDEX
from edgewright_agent.errors import TransportError
from edgewright_agent.transport import auth, registry
from fuzz.of_artifacts import oci_documents
from fuzz.sources import OneAnswer
from fuzz.target import DIGEST, target


class _TokenServer:
    """A wire whose every answer is the same body."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.status = 200

    def get(self, url: str, headers: Any, *, ceiling: int, form: bytes | None = None) -> Any:
        assert url.isascii() and "\n" not in url and urlsplit(url).hostname
        assert all("\n" not in value for value in headers.values())
        return contextlib.nullcontext(self)

    def header(self, _name: str) -> str | None:
        return None

    def body(self, *, limit: int) -> bytes:
        return self._body


def _challenge_seeds() -> list[bytes]:
    token = json.dumps({"token": "abc.def", "expires_in": 300, "issued_at": "2030-01-02T03:04:05Z"}).encode()
    return [
        b'Bearer realm="https://auth.example/token?x=1",service="registry",scope="repository:a:pull"\0'
        + token,
        b"Bearer realm=https://auth.example:444/token,error=invalid_token\0" + token,
        b'Basic realm="registry"\0',
        b'Digest realm="x"\0{}',
        b'Bearer realm="http://[::1]/token"\0{"access_token": "x"}',
        b'Bearer realm="https://user@auth.example/"\0',
    ]


@target(
    "challenge",
    "a WWW-Authenticate challenge and the token it leads to",
    TransportError,
    seeds=_challenge_seeds,
)
def _challenge(data: bytes) -> object:
    header, _, body = data.partition(b"\0")
    wire: Any = _TokenServer(body)
    authorization = auth.authorize(
        auth.parse_challenge(header.decode("latin-1")),
        registry=urlsplit("https://registry.example/acme"),
        repository="acme/tuf",
        credentials=auth.Credentials("device", "secret"),
        wire=wire,
        clock=lambda: 0.0,
    )
    assert authorization.header.isascii() and authorization.header.isprintable()
    return authorization


def _answer_seeds() -> list[bytes]:
    body = json.dumps(oci_documents()[0]).encode()
    head = f"Content-Type: {OCI_INDEX}\r\n".encode()
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return [
        b"HTTP/1.1 200 OK\r\n" + head + b'ETag: "x"\r\nContent-Length: %d\r\n\r\n' % len(body) + body,
        b"HTTP/1.1 200 OK\r\n" + head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 307 X\r\nLocation: https://cdn.example/x\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 401 X\r\nWWW-Authenticate: Bearer realm="http://registry.example/t"\r\nContent-Length: 0\r\n\r\n',
        b"HTTP/1.1 429 X\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 206 X\r\nContent-Range: bytes 2-9/10\r\nContent-Length: 8\r\n\r\n12345678",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 X\r\n\r\n",
    ]


@target("http-answer", "a registry's answer, from the first byte", TransportError, seeds=_answer_seeds)
def _http_answer(data: bytes) -> object:
    made = registry.RegistrySource("http://registry.example/acme")
    with mock.patch.object(made._wire, "_connect", lambda _parts: OneAnswer(data)):
        for ask in (
            lambda: made.manifest("tuf", "timestamp.json", etag='"x"'),
            lambda: made.referrers("tuf", DIGEST),
            lambda: b"".join(made.blob("tuf", DIGEST, size=10, offset=2)),
        ):
            with contextlib.suppress(TransportError):
                ask()
        return made.manifest("tuf", "1.root.json")
