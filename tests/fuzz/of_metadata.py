"""What TUF signs: metadata of every role in a whole refresh, single documents, the assignment, the policy."""

from __future__ import annotations

import functools
import json
import shutil
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Metadata
from tuf.api.serialization import DeserializationError

from edgewright_agent.acceptance import accepted
from edgewright_agent.clock import Uptime
from edgewright_agent.config import Device
from edgewright_agent.contract import ISSUED_FIELD, POLICY_TARGET, TRUSTED_ROOT_TARGET, digest_of
from edgewright_agent.errors import TransportError, TrustError
from edgewright_agent.record import Record
from edgewright_agent.transport.document import parse_json
from edgewright_agent.trust import assignment, policy, tuf
from fuzz.mutation import EDITS, MAX_DOCUMENT_BYTES, RAW, document_of, edited, seeds_of
from fuzz.sources import Files
from fuzz.target import scratch, target
from unit.agent.trust.tuf_fleet import NOW, PI, PI_ROLE, TufFleet
from unit.agent.trust.tuf_fleet import assignment as an_assignment

ROLE_FILES = {
    "2.root.json": "root",
    "timestamp.json": "timestamp",
    "1.snapshot.json": "snapshot",
    "1.targets.json": "targets",
    "1.rollout.json": "rollout",
    f"1.{PI_ROLE}.json": PI_ROLE,
}

_ROLLBACK = {
    "attempts": 3,
    "healthTimeoutS": 60,
    "budget": {"loadMs": 900, "latencyMs": 20, "peakMemoryBytes": 10**8},
    "trialSoakS": 20,
    "soakS": 3600,
    "inferenceTimeoutS": 5,
}


@functools.cache
def _fleet() -> TufFleet:
    fleet = TufFleet(Files())  # type: ignore[arg-type]
    fleet.hashes = False  # or nothing but what was signed would get past the snapshot
    fleet.approve("digit-reader", PI, b"{}")
    fleet.issued(NOW)
    fleet.document(POLICY_TARGET, json.dumps(policies()[0]).encode())
    fleet.document(TRUSTED_ROOT_TARGET, b"{}")
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
    desired = tuf.refresh(source, cache=cache, root=_fleet().root_bytes, hardware_class=PI, now=NOW)
    record = accepted(Record(), desired, Device("pump-7", PI, {}), Uptime("", 1))
    approval = desired.require_artifact("digit-reader", PI, digest_of(b"{}"))
    approval.require_fit(what="it")
    return record, approval, desired.highest_sequence("digit-reader")


def _signed_by(role: str, content: Any) -> bytes:
    if len(body := json.dumps(content).encode()) > MAX_DOCUMENT_BYTES:
        return body  # refused before anybody looks at a signature
    try:
        canonical = (encode_canonical(content) or "").encode(errors="replace")
    except Exception:  # noqa: BLE001  a fraction has no canonical form: nobody could have signed it
        canonical = b""
    signature = _fleet().signer(role).sign(canonical)
    return json.dumps({"signatures": [signature.to_dict()], "signed": content}).encode()


@functools.cache
def _times() -> list[Any]:
    return ["2030-01-01T00:00:00Z", "2030-01-01T00:00:00+02:00", "2030-01-01", "2030-01-01T00:00:00.5Z"]


@target(
    "tuf-issued",
    "the time of signing in a timestamp that the right key signed",
    TrustError,
    TransportError,
    seeds=lambda: seeds_of(_times(), rounds=64),
)
def _issued(data: bytes) -> object:
    try:
        value = parse_json(document_of(data, _times()), "it")
    except ValueError:
        return None  # no signed metadata holds it
    content = json.loads(bodies()["timestamp.json"])["signed"]
    body = _signed_by("timestamp", {**content, ISSUED_FIELD: value})
    source = Files()
    source.bodies = {**bodies(), "timestamp.json": body}
    cache = scratch() / "issued"
    shutil.rmtree(cache, ignore_errors=True)
    desired = tuf.refresh(source, cache=cache, root=_fleet().root_bytes, hardware_class=PI, now=NOW)
    return desired.floor.time(NOW)


def _documents() -> list[Any]:
    return [json.loads(bodies()[name]) for name in ROLE_FILES]


@target("tuf-document", "one TUF document", DeserializationError, seeds=lambda: seeds_of(_documents()))
def _tuf_document(data: bytes) -> object:
    return Metadata.from_bytes(document_of(data, _documents()))


def assignments() -> list[Any]:
    return [an_assignment(rollbackPolicy=_ROLLBACK, updatePolicy={"poll": {}})]


@target("assignment", "the assignment", TrustError, seeds=lambda: seeds_of(assignments(), rounds=64))
def _assignment(data: bytes) -> object:
    parsed = assignment.parse_assignment(document_of(data, assignments()))
    return assignment.assigned(parsed, hardware_class="raspberry-pi-4", labels={"ring": "canary"})


@functools.cache
def policies() -> list[Any]:
    key = ec.derive_private_key(0x1234567890ABCDEF, ec.SECP256R1())  # the same in every run
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signers = {
        "release-ci": {"issuer": "https://ci.example", "identity": "https://ci.example/fleet@main"},
        "people": {"issuer": "https://id.example", "identityPattern": r"[a-z]+@example\.org"},
        "release-key": {"publicKey": public.decode()},
    }
    demands = [
        {"attestation": "signature", "signers": ["release-key"]},
        {
            "attestation": "provenance",
            "signers": ["release-ci", "people"],
            "classes": ["raspberry-pi-4"],
            "builder": "https://ci.example",
        },
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
