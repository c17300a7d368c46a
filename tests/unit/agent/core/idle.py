"""A registry without news, and a device that has nothing to do.

>>> settled(bench, "http://127.0.0.1:5000/acme")   # doctest: +SKIP
"""

from __future__ import annotations

import http.server
from dataclasses import replace
from datetime import timedelta
from typing import Any

from edgewright_agent.clock import to_text, utc_now
from edgewright_agent.contract import OCI_MANIFEST
from edgewright_agent.record import Seen
from unit.agent.core.workbench import Bench


class Unchanged(http.server.BaseHTTPRequestHandler):
    """Answers "not modified" to whoever sends the right ETag, and keeps the requests."""

    asked: list[str | None]

    def do_GET(self) -> None:
        known = self.headers.get("If-None-Match")
        self.asked.append(known)
        if known == '"known"':
            self.send_response(304)
            self.end_headers()
            return
        body = b"{}"
        self.send_response(200)
        self.send_header("Content-Type", OCI_MANIFEST)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"new"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def settled(bench: Bench, url: str, etag: str = '"known"') -> None:
    """Give the device a record as after a successful update from `url`."""
    bench.document["source"]["url"] = url
    expires = {"timestamp": to_text(utc_now() + timedelta(days=7))}
    seen = Seen(etag, bench.config.fingerprint())
    bench.ledger.commit(replace(bench.ledger.record, seen=seen, expires=expires))
