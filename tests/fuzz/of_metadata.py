"""What TUF signs: metadata of every role in a whole refresh, single documents, the assignment, the policy."""

from __future__ import annotations

import functools
import json
import shutil
from typing import Any

from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Metadata
from tuf.api.serialization import DeserializationError

from edgewright_agent.errors import TransportError, TrustError
from edgewright_agent.trust import assignment, policy, tuf
from fuzz.mutation import EDITS, MAX_DOCUMENT_BYTES, RAW, document_of, edited, seeds_of
from fuzz.sources import Files
from fuzz.target import scratch, target
from unit.agent.trust.tuf_fleet import NOW, TufFleet
from unit.agent.trust.tuf_fleet import assignment as an_assignment

ROLE_FILES = {
    "2.root.json": "root",
    "timestamp.json": "timestamp",
    "1.snapshot.json": "snapshot",
    "1.targets.json": "targets",
    "1.rollout.json": "rollout",
}


@functools.cache
def _fleet() -> TufFleet:
    fleet = TufFleet(Files())  # type: ignore[arg-type]
    fleet.publish()
    fleet.root.version = 2
    fleet.write("2.root.json", fleet.signed(fleet.root, ["root"]))
    return fleet


def bodies() -> dict[str, bytes]:
    files = _fleet().shelf
    assert isinstance(files, Files)
    return files.bodies


def _tuf_seeds() -> list[bytes]:
    """An input's first byte chooses the file; then it is bytes, or edits that the right key signs."""
    made = []
    for which, name in enumerate(ROLE_FILES):
        made.append(bytes([which]) + RAW + bodies()[name])
        made += [
            bytes([which]) + EDITS + bytes([place, how, place * 7 % 256, 3])
            for place in range(0, 40, 3)
            for how in range(8)
        ]
    return made


@target(
    "tuf-refresh",
    "TUF metadata of every role, in a whole refresh",
    TrustError,
    TransportError,
    seeds=_tuf_seeds,
)
def _refresh(data: bytes) -> object:
    name = list(ROLE_FILES)[(data[0] if data else 0) % len(ROLE_FILES)]
    if data[1:2] == EDITS:
        content = edited(json.loads(bodies()[name])["signed"], data[2:])
        body = _signed_by(ROLE_FILES[name], content)
    else:
        body = data[2:]
    source = Files()
    source.bodies = {**bodies(), name: body}
    cache = scratch() / "tuf"
    shutil.rmtree(cache, ignore_errors=True)
    return tuf.refresh(source, cache=cache, root=_fleet().root_bytes, floor={}, now=NOW)


def _signed_by(role: str, content: Any) -> bytes:
    if len(body := json.dumps(content).encode()) > MAX_DOCUMENT_BYTES:
        return body  # refused before anybody looks at a signature
    try:
        canonical = (encode_canonical(content) or "").encode(errors="replace")
    except Exception:  # noqa: BLE001  a fraction has no canonical form: nobody could have signed it
        canonical = b""
    signature = _fleet().signers[role].sign(canonical)
    return json.dumps({"signatures": [signature.to_dict()], "signed": content}).encode()


def _documents() -> list[Any]:
    return [json.loads(bodies()[name]) for name in ROLE_FILES]


@target("tuf-document", "one TUF document", DeserializationError, seeds=lambda: seeds_of(_documents()))
def _tuf_document(data: bytes) -> object:
    return Metadata.from_bytes(document_of(data, _documents()))


def assignments() -> list[Any]:
    return [an_assignment(rollbackPolicy={"attempts": 3, "healthTimeoutS": 60}, updatePolicy={"poll": {}})]


@target("assignment", "the assignment", TrustError, seeds=lambda: seeds_of(assignments(), rounds=64))
def _assignment(data: bytes) -> object:
    parsed = assignment.parse_assignment(document_of(data, assignments()))
    return assignment.assigned(parsed, hardware_class="raspberry-pi-4", labels={"ring": "canary"})


@functools.cache
def policies() -> list[Any]:
    signers = {
        "release-ci": {"issuer": "https://ci.example", "identity": "https://ci.example/fleet@main"},
        "people": {"issuer": "https://id.example", "identityPattern": r"[a-z]+@example\.org"},
        "release-key": {"publicKey": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"},
    }
    demands = [
        {"attestation": "signature", "signers": ["release-key"]},
        {"attestation": "provenance", "signers": ["release-ci", "people"], "classes": ["raspberry-pi-4"]},
    ]
    return [{"version": 1, "signers": signers, "demands": demands}]


@target("policy", "the policy", TrustError, seeds=lambda: seeds_of(policies(), rounds=64))
def _policy(data: bytes) -> object:
    parsed = policy.parse_policy(document_of(data, policies()))
    return [
        signer.accepts("https://id.example", "somebody@example.org")
        for signers in parsed.demands_for("raspberry-pi-4").values()
        for signer in signers
        if isinstance(signer, policy.IdentitySigner)
    ]
