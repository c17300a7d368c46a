"""What needs keys of the device or of strangers: keyless bundles, wrapped content keys, certificates, reports."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
from dataclasses import replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edgewright.collect.report import Refused, verify
from edgewright.spec.device import Device as Enrolled
from edgewright_agent import report_signing
from edgewright_agent.contract import DEVICE_REPORT_PAYLOAD, canonical_json, dsse_pae
from edgewright_agent.decrypt import unwrap
from edgewright_agent.errors import TrustError
from edgewright_agent.identity import certificate, validity
from edgewright_agent.identity.command import fingerprint
from edgewright_agent.trust import keyless_child
from fuzz.mutation import EDITS, RAW, document_of, seeds_of
from fuzz.target import scratch, target
from private_sigstore.instance import PrivateSigstore
from unit.agent.core.sealing import make_key, rsa_key, seal
from unit.devices.plant import CLASS, Plant


# --- keyless, in the child's own words: its functions, without the process and its limits ------------------------
@functools.cache
def _sigstore() -> PrivateSigstore:
    return PrivateSigstore()  # it need not listen


@functools.cache
def _keyless_bundles() -> list[Any]:
    made = [
        _sigstore().bundle(b'{"_type":"https://in-toto.io/Statement/v1"}', who)
        for who in ("a@b.example", "o/r/x@m")
    ]
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


@functools.cache
def _verifier() -> Any:
    problem, verifier = keyless_child._open(json.dumps(_sigstore().trusted_root()).encode())
    assert verifier is not None, problem
    return verifier


@target(
    "keyless-bundle",
    "a Sigstore bundle under a certificate",
    TrustError,
    seeds=lambda: seeds_of(_keyless_bundles(), rounds=32),
)
def _keyless_bundle(data: bytes) -> object:
    answer = keyless_child._check(_verifier(), document_of(data, _keyless_bundles()))
    return _told(answer)


def _told(answer: dict[str, Any]) -> str:
    """Read an answer as the parent does: a line of JSON; a refusal is an error."""
    line = json.dumps(answer)
    if "refused" in answer or "code" in answer:
        raise TrustError(str(answer.get("code", "bad-signature")), line)
    return line


@target(
    "trusted-root",
    "a Sigstore trusted root",
    TrustError,
    seeds=lambda: seeds_of([_sigstore().trusted_root()], rounds=64),
)
def _trusted_root(data: bytes) -> object:
    problem, verifier = keyless_child._open(document_of(data, [_sigstore().trusted_root()]))
    if verifier is None:
        return _told(problem)
    return _told(keyless_child._check(verifier, json.dumps(_keyless_bundles()[0]).encode()))


# --- encrypted layers ------------------------
@functools.cache
def _keys() -> tuple[Any, ...]:
    return make_key(), rsa_key()


@functools.cache
def _layers() -> Any:
    return seal(b"weights", _keys())[0]


@functools.cache
def _annotations() -> list[Any]:
    """Return what the two annotations hold, as JSON, so that edits keep it well-formed."""
    sealed = _layers().sealed
    return [[json.loads(base64.b64decode(text)) for text in (sealed.keys, sealed.options)]]


@target(
    "encrypted-layer",
    "the annotations of an encrypted layer: JWE and cipher options",
    TrustError,
    seeds=lambda: [*seeds_of(_annotations(), rounds=128), b"\2" + _layers().sealed.keys.encode()],
)
def _encrypted_layer(data: bytes) -> object:
    sealed = _layers().sealed
    if data[:1] == b"\2":
        changed = replace(sealed, keys=data[1:].decode("latin-1"))
    else:
        try:
            found = json.loads(document_of(data, _annotations()))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, list) or len(found) != 2:
            found = [found, found]
        texts = [base64.b64encode(json.dumps(one).encode()).decode() for one in found]
        changed = replace(sealed, keys=texts[0], options=texts[1])
    return unwrap(replace(_layers(), sealed=changed), _keys())


# --- the device's certificate and reports ------------------------
@functools.cache
def _plant() -> Plant:
    plant = Plant(scratch() / "plant")
    plant.enroll(plant.device("pump-7"))
    return plant


@functools.cache
def _pump() -> Any:
    return _plant().device("pump-7")


@functools.cache
def _pem() -> bytes:
    made: x509.Certificate = _plant().certificate("pump-7")
    return made.public_bytes(Encoding.PEM)


def _certificate_seeds() -> list[bytes]:
    pem = _pem()
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    return [RAW + pem, RAW + pem * 2, RAW + pem[:200], EDITS + der, EDITS + der[:40], RAW]


@target("device-certificate", "a device's next certificate", TrustError, seeds=_certificate_seeds)
def _device_certificate(data: bytes) -> object:
    """A file, or the DER inside one: bytes that are changed there still are a PEM file."""
    pem = data[1:]
    if data[:1] == EDITS:
        body = base64.encodebytes(data[1:])
        pem = b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"
    with contextlib.suppress(ValueError):
        validity.validity(pem)
    ca = _plant().ca_file.read_bytes()
    return certificate.check(pem, key=_pump().key, device_id="pump-7", authorities=ca, current=_pem()[:-30])


@functools.cache
def _reports() -> list[Any]:
    return [
        {
            "version": 1,
            "device": "pump-7",
            "class": CLASS,
            "fleet": "edge",
            "sequence": 7,
            "time": "2030-01-01T00:00:00Z",
            "status": {"state": "ok", "models": {}},
        }
    ]


@functools.cache
def _enrolled() -> dict[str, Enrolled]:
    return dict(_plant().workspace.devices)


def _report_seeds() -> list[bytes]:
    honest = report_signing.sign(_pump().key, _reports()[0])
    return [*seeds_of(_reports(), rounds=64), b"\2" + honest, b"\2" + honest[:50]]


@target("device-report", "a device's report, at the collector", Refused, seeds=_report_seeds)
def _device_report(data: bytes) -> object:
    """An envelope, or a payload that the device's own key signed."""
    if data[:1] == b"\2":
        return verify(data[1:], _enrolled(), fleet="edge")
    payload = document_of(data, _reports())
    entry = {
        "keyid": fingerprint(_pump().key),
        "sig": base64.b64encode(_pump().key.sign(dsse_pae(DEVICE_REPORT_PAYLOAD, payload))).decode(),
    }
    envelope = {
        "payloadType": DEVICE_REPORT_PAYLOAD,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [entry],
    }
    return verify(canonical_json(envelope), _enrolled(), fleet="edge")
