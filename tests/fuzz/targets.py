"""Every parser of the agent that reads bytes from strangers, each with real documents to begin from and its oracle.

>>> target = by_name("policy")
>>> target.run(target.seeds()[0])

`run` returns, whatever the input: the only errors it lets a parser raise are those that its documentation names, each
with a message that can be printed and recorded. Anything else is a crash.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import json
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Metadata
from tuf.api.serialization import DeserializationError

from edgewright_agent import artifact, config, record, settings, slots, unpack
from edgewright_agent.contract import (
    INTOTO_PAYLOAD,
    INTOTO_STATEMENT,
    OCI_INDEX,
    OCI_MANIFEST,
    PREDICATE_GATE_REPORT,
    PREDICATE_SIGN,
    SIGSTORE_BUNDLE,
    digest_of,
    dsse_pae,
)
from edgewright_agent.errors import AgentError, ConfigError, StorageError, TransportError, TrustError
from edgewright_agent.files import Disk
from edgewright_agent.transport import Manifest, auth, bundle, document, registry
from edgewright_agent.trust import assignment, policy, sigstore, tuf
from fuzz.mutation import EDITS, MAX_DOCUMENT_BYTES, RAW, document_of, edited, seeds_of
from fuzz.sources import Files, OneAnswer
from unit.agent.core.workbench import make_artifact
from unit.agent.trust.tuf_fleet import NOW, TufFleet
from unit.agent.trust.tuf_fleet import assignment as an_assignment

DIGEST = "sha256:" + "ab" * 32


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        name: As the command line and the table call it.
        reads: What it reads, for people.
        seeds: Returns inputs to begin from, made of real documents.
        parse: The parser; given an input.
        errors: What it may raise.
    """

    name: str
    reads: str
    seeds: Callable[[], list[bytes]]
    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]

    def run(self, data: bytes) -> None:
        """Parse an input; whatever comes out but a documented error goes on to the caller."""
        try:
            self.parse(data)
        except self.errors as error:
            str(error).encode()  # it is printed, and stored in the record
            if isinstance(error, AgentError):
                assert error.code


TARGETS: list[Target] = []


def by_name(name: str) -> Target:
    """Return one target."""
    return next(target for target in TARGETS if target.name == name)


def _target(
    name: str, reads: str, *errors: type[Exception], seeds: Callable[[], list[bytes]]
) -> Callable[[Callable[[bytes], object]], Callable[[bytes], object]]:
    def enter(parse: Callable[[bytes], object]) -> Callable[[bytes], object]:
        TARGETS.append(Target(name, reads, seeds, parse, errors))
        return parse

    return enter


@functools.cache
def scratch() -> Path:
    """Return a folder of this process, in memory where the machine has such a place: nothing here must last."""
    memory = Path("/dev/shm")  # noqa: S108
    return Path(tempfile.mkdtemp(prefix="edgewright-fuzz-", dir=memory if memory.is_dir() else None))


def tidy() -> None:
    """Remove the scratch folder."""
    if scratch.cache_info().currsize:
        shutil.rmtree(scratch(), ignore_errors=True)
        scratch.cache_clear()


# --- TUF ---------------------------------------------------------------------------------------------------------

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


def _bodies() -> dict[str, bytes]:
    files = _fleet().shelf
    assert isinstance(files, Files)
    return files.bodies


def _tuf_seeds() -> list[bytes]:
    """An input's first byte chooses the file; then it is bytes, or edits that the right key signs."""
    made = []
    for which, name in enumerate(ROLE_FILES):
        made.append(bytes([which]) + RAW + _bodies()[name])
        made += [
            bytes([which]) + EDITS + bytes([place, how, place * 7 % 256, 3])
            for place in range(0, 40, 3)
            for how in range(8)
        ]
    return made


@_target(
    "tuf-refresh",
    "TUF metadata of every role, in a whole refresh",
    TrustError,
    TransportError,
    seeds=_tuf_seeds,
)
def _refresh(data: bytes) -> object:
    name = list(ROLE_FILES)[(data[0] if data else 0) % len(ROLE_FILES)]
    if data[1:2] == EDITS:
        content = edited(json.loads(_bodies()[name])["signed"], data[2:])
        body = _signed_by(ROLE_FILES[name], content)
    else:
        body = data[2:]
    source = Files()
    source.bodies = {**_bodies(), name: body}
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
    return [json.loads(_bodies()[name]) for name in ROLE_FILES]


@_target("tuf-document", "one TUF document", DeserializationError, seeds=lambda: seeds_of(_documents()))
def _tuf_document(data: bytes) -> object:
    return Metadata.from_bytes(document_of(data, _documents()))


# --- Sigstore ----------------------------------------------------------------------------------------------------


@functools.cache
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(0x1234567890ABCDEF, ec.SECP256R1())  # the same in every run


def _statement(kind: str, predicate: Any) -> dict[str, Any]:
    return {
        "_type": INTOTO_STATEMENT,
        "subject": [{"name": "digit-reader", "digest": {"sha256": DIGEST[7:]}}],
        "predicateType": kind,
        "predicate": predicate,
    }


@functools.cache
def _statements() -> list[Any]:
    report = {
        "version": 1,
        "model": "digit-reader",
        "hardwareClass": "raspberry-pi-4",
        "artifact": DIGEST,
        "verdict": "pass",
        "checks": [{"name": "latency-p95", "measured": 1.5, "limit": 2, "verdict": "pass"}],
    }
    return [_statement(PREDICATE_SIGN, {}), _statement(PREDICATE_GATE_REPORT, report)]


def _bundle(payload: bytes) -> dict[str, Any]:
    signature = _key().sign(dsse_pae(INTOTO_PAYLOAD, payload), ec.ECDSA(hashes.SHA256()))
    return {
        "mediaType": SIGSTORE_BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "aGludA=="}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": INTOTO_PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }


@functools.cache
def _bundles() -> list[Any]:
    return [_bundle(json.dumps(statement).encode()) for statement in _statements()]


@_target("sigstore-bundle", "a Sigstore bundle", TrustError, seeds=lambda: seeds_of(_bundles()))
def _sigstore_bundle(data: bytes) -> object:
    body = document_of(data, _bundles())
    return sigstore.verify_bundle(body, [_key().public_key()], subject_digest=DIGEST)


class _Referrers:
    """A source with one artifact and two referrers: an honest signature, and a bundle whose signature is good."""

    def __init__(self, payload: bytes) -> None:
        self.bundles = [json.dumps(document).encode() for document in (_bundles()[0], _bundle(payload))]

    def manifest(self, _repository: str, reference: str, **_: Any) -> Manifest:
        body = self.bundles[reference == digest_of(b"1")]
        layer = {"mediaType": SIGSTORE_BUNDLE, "digest": digest_of(body), "size": len(body)}
        made = {"mediaType": OCI_MANIFEST, "layers": [layer], "subject": {"digest": DIGEST}}
        return Manifest(reference, OCI_MANIFEST, json.dumps(made).encode(), None)

    def blob(self, _repository: str, digest: str, **_: Any) -> Iterator[bytes]:
        yield next(body for body in self.bundles if digest_of(body) == digest)

    def referrers(self, _repository: str, _digest: str) -> list[dict[str, Any]]:
        return [{"digest": digest_of(n), "size": 1, "mediaType": OCI_MANIFEST} for n in (b"0", b"1")]


@_target(
    "statement",
    "a statement inside a correctly signed bundle",
    TrustError,
    TransportError,
    seeds=lambda: seeds_of(_statements()),
)
def _signed_statement(data: bytes) -> object:
    source: Any = _Referrers(document_of(data, _statements()))
    keys = [_key().public_key()]
    return sigstore.verify_artifact(
        source, "digit-reader", DIGEST, keys, model="digit-reader", hardware_class="raspberry-pi-4"
    )


# --- signed documents --------------------------------------------------------------------------------------------


@functools.cache
def _manifests() -> list[Any]:
    plain = json.loads(make_artifact("1.0.0").body)
    packed = json.loads(make_artifact("1.0.1").body)
    packed["layers"][0] |= {"mediaType": "application/vnd.cncf.model.weight.v1.tar+gzip"}
    packed["layers"][0]["annotations"] |= {
        "org.cncf.model.filepath": "model.onnx",
        "dev.edgewright.file-digest": DIGEST,
        "dev.edgewright.file-size": "300000",
    }
    return [plain, packed]


@_target("artifact-manifest", "an artifact's manifest", TrustError, seeds=lambda: seeds_of(_manifests()))
def _artifact_manifest(data: bytes) -> object:
    parsed = artifact.parse(document_of(data, _manifests()))
    artifact.check_purpose(parsed, model="digit-reader", hardware_class="raspberry-pi-4")
    return parsed.size, [(layer.file_digest, layer.file_size) for layer in parsed.layers]


def _assignments() -> list[Any]:
    return [an_assignment(rollbackPolicy={"attempts": 3, "healthTimeoutS": 60}, updatePolicy={"poll": {}})]


@_target("assignment", "the assignment", TrustError, seeds=lambda: seeds_of(_assignments(), rounds=64))
def _assignment(data: bytes) -> object:
    parsed = assignment.parse_assignment(document_of(data, _assignments()))
    return assignment.assigned(parsed, hardware_class="raspberry-pi-4", labels={"ring": "canary"})


@functools.cache
def _policies() -> list[Any]:
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


@_target("policy", "the policy", TrustError, seeds=lambda: seeds_of(_policies(), rounds=64))
def _policy(data: bytes) -> object:
    parsed = policy.parse_policy(document_of(data, _policies()))
    return [
        signer.accepts("https://id.example", "somebody@example.org")
        for signers in parsed.demands_for("raspberry-pi-4").values()
        for signer in signers
        if isinstance(signer, policy.IdentitySigner)
    ]


@functools.cache
def _runtimes() -> list[Any]:
    return [
        {
            "version": 1,
            "versions": ">=1.20,<2",
            "providers": ["OpenVINOExecutionProvider", "CPUExecutionProvider"],
            "providerOptions": {"OpenVINOExecutionProvider": {"device_type": "CPU"}},
            "threads": 4,
            "arena": False,
            "memoryPattern": True,
            "graphOptimization": "extended",
            "sessionConfig": {"session.intra_op.allow_spinning": "0"},
            "externalData": ["model.onnx.data"],
            "expected": {"loadMs": 9, "memoryBytes": 4194304},
        }
    ]


@_target(
    "runtime-json", "an artifact's runtime.json", ValueError, seeds=lambda: seeds_of(_runtimes(), rounds=64)
)
def _runtime(data: bytes) -> object:
    parsed = document.parse_json(document_of(data, _runtimes()), "runtime.json")
    return settings.parse(parsed) if isinstance(parsed, dict) else None


# --- OCI documents and files -------------------------------------------------------------------------------------


def _descriptor(**more: Any) -> dict[str, Any]:
    return {"mediaType": OCI_MANIFEST, "digest": DIGEST, "size": 700, **more}


@functools.cache
def _oci() -> list[Any]:
    layer = _descriptor(mediaType=SIGSTORE_BUNDLE, annotations={"org.opencontainers.image.title": "x"})
    return [
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [_descriptor(), _descriptor(artifactType="x")],
        },
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [layer], "subject": _descriptor()},
    ]


@_target(
    "oci-document", "referrer lists, indexes and manifests", TransportError, seeds=lambda: seeds_of(_oci())
)
def _oci_document(data: bytes) -> object:
    body = document_of(data, _oci())
    parsed = document.parse_manifest(body, "a manifest")
    document.media_type_of(parsed)
    with contextlib.suppress(TransportError):
        document.only_layer(Manifest(digest_of(body), OCI_MANIFEST, body, None), "a manifest")
    return document.referrer_list(body, "the referrers")


@functools.cache
def _tar() -> bytes:
    held = io.BytesIO()
    manifest = json.dumps(_oci()[1]).encode()
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": OCI_MANIFEST,
                "digest": digest_of(manifest),
                "size": len(manifest),
                "annotations": {"org.opencontainers.image.ref.name": "timestamp.json"},
            }
        ],
    }
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in (
            ("./tuf/index.json", json.dumps(index).encode()),
            (f"./tuf/blobs/sha256/{digest_of(manifest)[7:]}", manifest),
            ("./tuf/" + "long" * 40, b"x"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return held.getvalue()


def _tar_seeds() -> list[bytes]:
    whole = _tar()
    gnu = io.BytesIO()
    with tarfile.open(fileobj=gnu, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("./tuf/" + "long" * 60))
        link = tarfile.TarInfo("tuf/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return [whole, whole[:1536], whole[: len(whole) // 2], gnu.getvalue(), b"\x1f\x8b", bytes(1024), b""]


@_target("bundle-file", "a bundle file (tar of OCI layouts)", TransportError, seeds=_tar_seeds)
def _bundle_file(data: bytes) -> object:
    path = scratch() / "bundle.tar"
    path.write_bytes(data)
    with contextlib.closing(bundle.open_bundle(str(path))) as source:
        found = source.manifest("tuf", "timestamp.json")
        source.referrers("tuf", DIGEST)
        return found


_CONTENT = bytes(range(256)) * 8
_LAYER = artifact.Layer("model.onnx", DIGEST, 100, (digest_of(_CONTENT), len(_CONTENT)))


@functools.cache
def _archive() -> bytes:
    info = tarfile.TarInfo("model.onnx")
    info.size = len(_CONTENT)
    return info.tobuf(tarfile.USTAR_FORMAT) + _CONTENT + bytes(-len(_CONTENT) % 512 + 1024)


def _gzip(data: bytes) -> bytes:
    stream = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def _layer_seeds() -> list[bytes]:
    archive = _archive()
    return [
        RAW + _gzip(archive),
        EDITS + archive,
        EDITS + archive + bytes(512),
        EDITS + archive[:512],
        RAW + _gzip(archive) * 2,
        RAW + _gzip(bytes(200_000)),
        RAW,
    ]


@_target("compressed-layer", "a compressed layer", TrustError, StorageError, seeds=_layer_seeds)
def _compressed_layer(data: bytes) -> object:
    part, whole = scratch() / "layer.part", scratch() / "layer"
    part.write_bytes(_gzip(data[1:]) if data[:1] == EDITS else data[1:])
    try:
        return unpack.unpack(part, whole, _LAYER, _unsynced(), reserve_bytes=0)
    finally:
        size = whole.stat().st_size if whole.exists() else 0
        assert size <= len(_CONTENT), "more was written than was signed"


@functools.cache
def _unsynced() -> Disk:
    disk = Disk()
    disk.calls.sync = lambda path, fd: None  # type: ignore[method-assign]  nothing here must last
    return disk


# --- HTTP --------------------------------------------------------------------------------------------------------


class _TokenServer:
    """A wire whose every answer is the same body."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.status = 200

    def get(self, url: str, headers: Any, *, ceiling: int) -> Any:
        assert url.isascii() and "\n" not in url and urlsplit(url).hostname
        assert all("\n" not in value for value in headers.values())
        return contextlib.nullcontext(self)

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


@_target(
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
    body = json.dumps(_oci()[0]).encode()
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


@_target("http-answer", "a registry's answer, from the first byte", TransportError, seeds=_answer_seeds)
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


# --- this device's own files -------------------------------------------------------------------------------------


@functools.cache
def _configs() -> list[Any]:
    return [
        {
            "version": 1,
            "device": {"id": "pump-7", "class": "raspberry-pi-4", "labels": {"ring": "canary"}},
            "source": {"url": "https://registry.example/acme", "caFile": "ca.pem"},
            "state": "state",
            "trust": {"root": "1.root.json", "keys": ["signing.pub"]},
            "poll": {"intervalS": 900, "jitter": 0.2, "maxBackoffS": 21600},
            "reserveBytes": 1,
            "budget": {"loadMs": 5, "latencyMs": 1.5, "peakMemoryBytes": 4096},
        }
    ]


@_target("config", "the agent's configuration", ConfigError, seeds=lambda: seeds_of(_configs(), rounds=64))
def _config(data: bytes) -> object:
    path = scratch() / "agent.json"
    path.write_bytes(document_of(data, _configs()))
    return config.load(path)


@functools.cache
def _records() -> list[Any]:
    slot = record.Slot(DIGEST, "1.0.0", "2030-01-01T00:00:00Z", {"loadMs": 9.0})
    state = record.ModelState(
        active=slot,
        previous=slot,
        trial=record.Trial(DIGEST, "1.0.1", 3, "2030-01-01T00:00:00Z", 60.0),
        tombstones=(record.Tombstone(DIGEST, "0.9.0", "health-crash", "died", "2030-01-01T00:00:00Z"),),
        last=record.Verdict("installed", "1.0.0", "2030-01-01T00:00:00Z", DIGEST, "1.0.0"),
    )
    made = record.Record(
        models={"digit-reader": state},
        floor={"root": 1, "timestamp": 7},
        expires={"timestamp": "2030-01-01T00:00:00Z"},
        seen=record.Seen('"x"', "ab"),
        poll=record.Poll("2030-01-01T00:00:00Z", "ok", "verified"),
        counters={"polls": 3},
        clock_floor="2030-01-01T00:00:00Z",
    )
    return [json.loads(record.to_bytes(made))]


def _record_seeds() -> list[bytes]:
    whole = slots.encode(7, record.to_bytes(record.Record()))
    return [*seeds_of(_records(), rounds=64), b"\2" + whole, b"\2" + whole[:60]]


@_target("record", "the agent's record, and a slot of it", StorageError, seeds=_record_seeds)
def _record(data: bytes) -> object:
    if data[:1] == b"\2":
        return slots.decode(data[1:])
    return record.to_bytes(record.from_bytes(document_of(data, _records())))
