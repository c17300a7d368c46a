"""Bytes that nobody honest would send: the device answers with a documented refusal, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from edgewright_agent.contract import POLICY_TARGET, digest_of
from edgewright_agent.errors import TransportError, TrustError
from edgewright_agent.files import Calls
from edgewright_agent.transport import open_source
from edgewright_agent.trust.assignment import assigned, parse_assignment
from edgewright_agent.trust.tuf import refresh
from unit.agent.transport.shelf import Shelf
from unit.agent.trust.tuf_fleet import NOW, PI, PI_ROLE, TufFleet, assignment

FILES = {
    "2.root.json": "root",
    "timestamp.json": "timestamp",
    "1.snapshot.json": "snapshot",
    "1.targets.json": "targets",
    "1.rollout.json": "rollout",
    f"1.{PI_ROLE}.json": "artifacts",
}
MANIFEST = b'{"mediaType":"application/vnd.oci.image.manifest.v1+json"}'
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(max_size=8)
    | st.sampled_from(["root", "rollout/assignment.json", "2030-01-02T00:00:00Z", "sha256:" + "0" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a JSON document."""
    inner = document.items() if isinstance(document, dict) else enumerate(document)
    found = [path] if path else []
    for key, value in inner:
        found += places(value, (*path, key)) if isinstance(value, (dict, list)) else [(*path, key)]
    return found


@st.composite
def bent(draw: st.DrawFn, document: Any) -> Any:
    """A document with one or two of its values replaced, removed or added to."""
    made = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(places(made) or [()]))
        if not path:
            return draw(JSON)
        holder = made
        for key in path[:-1]:
            holder = holder[key]
        if draw(st.booleans()):
            holder[path[-1]] = draw(JSON)
        elif isinstance(holder, dict):
            del holder[path[-1]]
            holder[draw(st.text(max_size=8))] = draw(JSON)
    return made


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """Bytes with a piece cut out, changed or doubled."""
    start = draw(st.integers(0, len(body)))
    end = draw(st.integers(start, min(len(body), start + 40)))
    return body[:start] + draw(st.binary(max_size=40)) + body[end:]


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TufFleet:
    monkeypatch.setattr(Calls, "sync", lambda *_: None)  # thousands of caches that nobody will read again
    monkeypatch.setattr(Calls, "sync_dir", lambda *_: None)
    made = TufFleet(Shelf(tmp_path / "release"))
    made.hashes = False  # else all but the timestamp would be refused before it is read
    made.approve("digit-reader", PI, MANIFEST)
    made.document(POLICY_TARGET, b"{}")
    made.issued(NOW)
    made.publish()
    made.root.version = 2
    made.write("2.root.json", made.signed(made.root, ["root"]))
    return made


def offer(fleet: TufFleet, folder: Path, name: str, body: bytes) -> None:
    """Publish `body` under `name` and refresh a device that has never seen anything."""
    kept = fleet.read(name)
    fleet.write(name, body)
    try:
        desired = refresh(
            open_source(f"oci:{fleet.shelf.root}"),
            cache=folder,
            root=fleet.root_bytes,
            hardware_class=PI,
            now=NOW,
        )
        desired.require_artifact("digit-reader", PI, digest_of(MANIFEST))
    except (TrustError, TransportError):
        pass
    finally:
        fleet.write(name, kept)


@pytest.mark.parametrize("name", FILES)
@FUZZ
@given(data=st.data())
def test_damaged_metadata_is_refused(fleet: TufFleet, tmp_path: Path, name: str, data: st.DataObject) -> None:
    offer(fleet, tmp_path / "cache", name, data.draw(damaged(fleet.read(name))))


@pytest.mark.parametrize("name", FILES)
@FUZZ
@given(data=st.data())
def test_absurd_metadata_with_a_valid_signature_is_refused(
    fleet: TufFleet, tmp_path: Path, name: str, data: st.DataObject
) -> None:
    """A stolen key can sign anything."""
    content = data.draw(bent(json.loads(fleet.read(name))["signed"]))
    signature = fleet.signers[FILES[name]].sign((encode_canonical(content) or "").encode(errors="replace"))
    document = {"signatures": [signature.to_dict()], "signed": content}
    offer(fleet, tmp_path / "cache", name, json.dumps(document).encode())


@settings(FUZZ, max_examples=400)
@given(document=bent(assignment()) | JSON)
def test_an_absurd_assignment_is_refused_or_understood(document: Any) -> None:
    try:
        parsed = parse_assignment(json.dumps(document).encode())
    except TrustError as refusal:
        assert refusal.code == "bad-metadata"
    else:
        assigned(parsed, hardware_class="raspberry-pi-4", labels={"ring": "canary"})


@settings(FUZZ, max_examples=200)
@given(body=st.binary(max_size=60) | damaged(json.dumps(assignment()).encode()))
def test_bytes_that_are_no_assignment_are_refused(body: bytes) -> None:
    try:
        parse_assignment(body)
    except TrustError as refusal:
        assert refusal.code == "bad-metadata"
