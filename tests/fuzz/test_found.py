"""Inputs that once ended in something else than a documented error, smallest form; none may again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgewright_agent.transport.document import parse_json
from fuzz.mutation import EDITS, RAW, VALUES, places
from fuzz.of_attestations import statements
from fuzz.of_metadata import ROLE_FILES, assignments, bodies, policies
from fuzz.of_own_files import records
from fuzz.targets import by_name


def _changed(document: Any, *path: Any, to: Any) -> bytes:
    made = json.loads(json.dumps(document))
    place = made
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return RAW + json.dumps(made).encode()


def _nameless_role() -> bytes:
    """Return edits to targets' metadata after which its delegated role is called -2**63."""
    content = json.loads(bodies()["1.targets.json"])["signed"]
    where = next(n for n, (_, key) in enumerate(places(content)) if key == "name")
    return (
        bytes([list(ROLE_FILES).index("1.targets.json")])
        + EDITS
        + bytes([where, 0, VALUES.index(-(2**63)), 0])
    )


FOUND = {
    "policy: an attestation that is no text": (
        "policy",
        _changed(policies()[0], "demands", 0, "attestation", to=["signature"]),
    ),
    "policy: a key with half a surrogate pair": (
        "policy",
        _changed(policies()[0], "signers", "release-key", "publicKey", to="\ud800"),
    ),
    "statement: a failed check whose name cannot be printed": (
        "statement",
        _changed(statements()[1], "predicate", "checks", 0, to={"name": "\ud800", "verdict": "fail"}),
    ),
    "assignment: a key that cannot be printed": (
        "assignment",
        _changed(assignments()[0], "groups", 0, "models", "digit-reader", "artifacts", to={"\ud800": {}}),
    ),
    "TUF: a delegated role whose name is a number": ("tuf-refresh", _nameless_role()),
    "artifact manifest: nested without end": ("artifact-manifest", RAW + b"[" * 100_000),
    "configuration: nested without end": ("config", RAW + b"[" * 100_000),
    "configuration: a key that cannot be printed": ("config", RAW + rb'{"\ud800": 1}'),
    "answer: a time to wait that ends in a separator": (
        "http-answer",
        b"HTTP/1.1 503 Busy\r\nRetry-After: 30\x1d\r\nContent-Length: 0\r\n\r\n",
    ),
    "answer: a chunk of negative length": (
        "http-answer",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    ),
    "record: what a poll's place holds is no object": ("record", _changed(records()[0], "seen", to=1.5)),
    "record: a key of nobody's": ("record", _changed(records()[0], "wings", to=2)),
    "record: no models": ("record", RAW + b'{"version": 1}'),
    "record: nested without end": ("record", RAW + b"[" * 100_000),
}


@pytest.mark.parametrize("found", FOUND)
def test_what_once_crashed_is_refused(found: str) -> None:
    name, data = FOUND[found]
    target = by_name(name)
    target.run(data)
    with pytest.raises(target.errors):
        target.parse(data)


@pytest.mark.parametrize(
    "body",
    [
        rb'"\ud800"',
        rb'{"\uDFFF": 1}',
        b"1e999",
        b"-1e999",
        b"9" * 33,
        b"-" + b"9" * 100_000,
        b"NaN",
        b"[" * 100_000,
    ],
    ids=lambda body: body[:12].decode(),
)
def test_json_that_no_one_could_store_or_print_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="the thing"):
        parse_json(body, "the thing")


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert parse_json(rb'"\ud83d\ude00"', "the thing") == "\U0001f600"
