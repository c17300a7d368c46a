"""An OTLP receiver for tests: real sockets, the real protobuf messages, and failures on demand.

>>> with Collector() as collector:                                    # doctest: +SKIP
...     collector.fails(503, Retry_After="7")
...     send(config)
...     collector.taken
"""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from edgewright_agent.contract import TELEMETRY_BATCH
from servers import Serving

MESSAGES = {"/v1/logs": ExportLogsServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}


@dataclass(frozen=True)
class Request:
    """One request as it came; `message` is what protobuf makes of its body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def batch(self) -> str:
        return self.headers[TELEMETRY_BATCH]

    @property
    def text(self) -> bytes:
        return gzip.decompress(self.body)

    @property
    def document(self) -> Any:
        return json.loads(self.text)

    @property
    def message(self) -> Any:
        return Parse(self.text, MESSAGES[self.path]())

    def sequences(self) -> list[int]:
        """Numbers of the events in a request for logs, in order."""
        found = []
        for record in self.message.resource_logs[0].scope_logs[0].log_records:
            values = {entry.key: entry.value for entry in record.attributes}
            found.append(values["edgewright.sequence"].int_value)
        return sorted(set(found))


@dataclass(frozen=True)
class Answer:
    """What is said instead of taking a batch; status 0 hangs up without a word."""

    status: int
    body: bytes
    headers: dict[str, str]
    taken: bool = False


class Collector(Serving):
    """Takes batches unless it was told otherwise; `asked` has every request, `taken` those it took.

    Args:
        certificate: PEM files of a certificate and its key: then it speaks TLS.
    """

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.asked: list[Request] = []
        self.taken: list[Request] = []
        self.refuses: Callable[[Request], bool] = lambda _request: False
        """Batches that it will never take (400)."""
        self.answers: dict[str, int] = {}
        """Statuses of paths on which it takes nothing."""
        self._answers: list[Answer] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # noqa: N802
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = outer._answer(Request(self.path, dict(self.headers), body))
                if not answer.status:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_arguments: object) -> None:
                pass

        tls = None
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*map(str, certificate))
        super().__init__(Handler, tls)

    def fails(self, status: int, body: bytes = b"", *, times: int = 1, **headers: str) -> None:
        """Answer the next requests so, and take nothing."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        self._answers += [Answer(status, body, told)] * times

    def takes(self, status: int = 200, body: bytes = b"{}") -> None:
        """Take the next request, and answer so; status 0 is an answer that never arrives."""
        self._answers.append(Answer(status, body, {}, taken=True))

    def _answer(self, request: Request) -> Answer:
        self.asked.append(request)
        answer = self._answers.pop(0) if self._answers else Answer(200, b"{}", {}, taken=True)
        if request.path in self.answers:
            answer = Answer(self.answers[request.path], b"{}", {})
        elif answer.taken and self.refuses(request):
            answer = Answer(400, b"{}", {})
        if answer.taken:
            self.taken.append(request)
        return answer
