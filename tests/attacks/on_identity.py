"""Attacks on and with a device's own key: replayed reports, others' reports, one protocol's signature in another."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attacks.attestations import attach, bundles_of, predicate_type, statement_of
from attacks.fleet import POLICY
from attacks.scene import Scene
from attacks.table import attack
from edgewright.collect.report import Refused, accept
from edgewright.collect.store import Store
from edgewright.publish import oci
from edgewright_agent.contract import (
    DEVICE_CERTIFICATE,
    DEVICE_CERTIFICATES,
    DEVICE_REPORT_PAYLOAD,
    INTOTO_PAYLOAD,
    OCI_EMPTY_BYTES,
    OCI_MANIFEST,
    PEM_CHAIN,
    PREDICATE_SIGN,
    SIGSTORE_BUNDLE,
    canonical_json,
    digest_of,
    dsse_pae,
    key_hint,
)
from edgewright_agent.identity.command import fingerprint
from unit.devices.plant import Device, Plant

NETWORK = "the way to the collector"
DAY = timedelta(days=1)


def _plant(scene: Scene) -> tuple[Plant, Device]:
    """Enroll the device under attack: its key, and a certificate that is due for renewal."""
    now = datetime.now(UTC).replace(microsecond=0)
    plant = Plant(scene.folder / "plant", now=now - 100 * DAY)
    pump = plant.device("pump-7")
    plant.enroll(pump)
    plant.now = now
    pump.install(_pem(plant.certificate("pump-7", now=now - 80 * DAY)))
    scene.device.configure(
        identity={
            "key": str(pump.identity.key),
            "certificate": str(pump.identity.certificate),
            "ca": str(plant.ca_file),
        }
    )
    return plant, pump


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


# --- reports ---------------------------------------------------------
def _report(scene: Scene) -> bytes:
    out = scene.folder / "report.json"
    told = scene.device.agent("report", "--config", str(scene.device.config), "--out", str(out))
    assert told.exit_code == 0, told.text
    return out.read_bytes()


Forge = Callable[[Scene, Plant, Device, bytes], bytes]


def _collected(scene: Scene, *, forge: Forge, fleet: str = "edge") -> Iterator[None]:
    """The collector has accepted one report; then it is given something else."""
    plant, pump = _plant(scene)
    # Not due, so that the poll that follows has nothing to renew.
    pump.install(_pem(plant.certificate("pump-7", now=plant.now)))
    honest = _report(scene)
    with Store(scene.folder / "collect.sqlite") as store:
        accept(honest, plant.workspace.devices, store, fleet="edge")
        try:
            accept(forge(scene, plant, pump, honest), plant.workspace.devices, store, fleet=fleet)
        except Refused as refused:
            scene.collected = refused.reason
        # The device itself is still heard.
        accept(_report(scene), plant.workspace.devices, store, fleet="edge")
    yield


def _opened(envelope: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(envelope)
    return document


def _another_device(_scene: Scene, plant: Plant, pump: Device, honest: bytes) -> bytes:
    """A report that speaks of this device, signed by the key of another one."""
    spy = plant.device("spy-1")
    plant.enroll(spy)
    document = json.loads(base64.b64decode(_opened(honest)["payload"]))
    document["sequence"] += 1
    return _envelope(spy, canonical_json(document))


def _envelope(device: Device, payload: bytes, *, covers: bytes | None = None) -> bytes:
    signature = device.key.sign(covers if covers is not None else dsse_pae(DEVICE_REPORT_PAYLOAD, payload))
    return _with_signature(device, payload, signature)


def _with_signature(
    device: Device, payload: bytes, signature: bytes, kind: str = DEVICE_REPORT_PAYLOAD
) -> bytes:
    entry = {"keyid": fingerprint(device.key), "sig": base64.b64encode(signature).decode()}
    return canonical_json(
        {"payloadType": kind, "payload": base64.b64encode(payload).decode(), "signatures": [entry]}
    )


def _newer(honest: bytes) -> bytes:
    document = json.loads(base64.b64decode(_opened(honest)["payload"]))
    return canonical_json({**document, "sequence": document["sequence"] + 1})


def _another_key(_scene: Scene, _plant_: Plant, pump: Device, honest: bytes) -> bytes:
    stranger = Device("pump-7", pump.folder.parent / "stranger", pump.source, pump.ca)
    payload = _newer(honest)
    return _with_signature(pump, payload, stranger.key.sign(dsse_pae(DEVICE_REPORT_PAYLOAD, payload)))


def _artifact_statement(_scene: Scene, _plant_: Plant, pump: Device, honest: bytes) -> bytes:
    payload = _newer(honest)
    return _with_signature(pump, payload, pump.key.sign(dsse_pae(INTOTO_PAYLOAD, payload)), INTOTO_PAYLOAD)


def _artifact_signature(_scene: Scene, _plant_: Plant, pump: Device, honest: bytes) -> bytes:
    payload = _newer(honest)
    return _envelope(pump, payload, covers=dsse_pae(INTOTO_PAYLOAD, payload))


def _request_signature(_scene: Scene, _plant_: Plant, pump: Device, _honest: bytes) -> bytes:
    request = x509.load_pem_x509_csr(pump.request())
    return _with_signature(pump, request.tbs_certrequest_bytes, request.signature)


def _handshake_signature(_scene: Scene, _plant_: Plant, pump: Device, honest: bytes) -> bytes:
    """What a TLS 1.3 client signs (RFC 8446 4.4.3): 64 spaces, a context, a zero, a hash the server can choose from."""
    covered = b" " * 64 + b"TLS 1.3, client CertificateVerify\0" + bytes(32)
    return _envelope(pump, _newer(honest), covers=covered)


def _revoked(_scene: Scene, plant: Plant, pump: Device, honest: bytes) -> bytes:
    gone = plant.device("gone-1")
    plant.enroll(gone)
    plant.revoke("gone-1")
    return _envelope(gone, _newer(honest))


for _name, _has, _code, _forge in (
    ("replayed device report", NETWORK, "replayed", lambda _s, _p, _d, honest: honest),
    ("report of another device", "the key of another enrolled device", "wrong-device", _another_device),
    ("report of a device by a stranger's key", NETWORK, "bad-signature", _another_key),
    ("report by the key of a revoked device", "the key of a revoked device", "revoked", _revoked),
    ("cross-protocol: an artifact's statement as a report", "an envelope that the device signed", "wrong-type",
     _artifact_statement),
    ("cross-protocol: an artifact's signature on a report", "a statement that the device signed", "bad-signature",
     _artifact_signature),
    ("cross-protocol: a certificate request's signature on a report", "a request that the device signed",
     "bad-signature", _request_signature),
    ("cross-protocol: a TLS handshake's signature on a report", "a server that the device logged in to",
     "bad-signature", _handshake_signature),
):  # fmt: skip
    attack(_name, has=_has, collector=_code)(functools.partial(_collected, forge=_forge))

attack("report to another fleet's collector", has=NETWORK, collector="wrong-fleet")(
    functools.partial(_collected, forge=lambda _s, _p, _d, honest: honest, fleet="another")
)


# --- the device's key in the place of the release key ---------------------------------------------------------
def _device_signs(scene: Scene, *, offer: Callable[[Device, bytes], bytes]) -> Iterator[None]:
    """The policy allows this very device's key to sign artifacts, and the device pins nothing of its own."""
    plant, pump = _plant(scene)
    pump.install(_pem(plant.certificate("pump-7", now=plant.now)))
    owner = scene.owner()
    (owner.root / "pump.pub").write_bytes(
        x509.load_pem_x509_csr(pump.request())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    everybody = ["release", "pump"]
    owner.more = {
        "policy": {
            "signers": (*POLICY["signers"][:1], {"name": "pump", "publicKey": "pump.pub"}),
            "demands": tuple(
                {"attestation": name, "signers": tuple(everybody)} for name in ("signature", "gate-report")
            ),
        }
    }
    trust = json.loads(scene.device.config.read_bytes())["trust"]
    scene.device.configure(trust={"root": trust["root"]})
    scene.offer_artifacts(2)
    owner.release()
    digest = scene.fleet.releases[2].digest
    scene.keep()
    bundles = {predicate_type(one): one for one in bundles_of(scene, digest)}
    payload = canonical_json(statement_of(bundles.pop(PREDICATE_SIGN)))
    attach(scene, digest, offer(pump, payload), *bundles.values())
    yield


def _bundle(device: Device, envelope: Mapping[str, Any]) -> bytes:
    return canonical_json(
        {
            "mediaType": SIGSTORE_BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": key_hint(device.key.public_der)}},
            "dsseEnvelope": envelope,
        }
    )


def _dsse(payload: bytes, kind: str, signature: bytes) -> dict[str, Any]:
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": kind,
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }


for _name, _offer in {
    "a report of the device as an artifact's signature": lambda device, payload: _bundle(
        device,
        _dsse(payload, DEVICE_REPORT_PAYLOAD, device.key.sign(dsse_pae(DEVICE_REPORT_PAYLOAD, payload))),
    ),
    "a report's signature on an artifact's statement": lambda device, payload: _bundle(
        device, _dsse(payload, INTOTO_PAYLOAD, device.key.sign(dsse_pae(DEVICE_REPORT_PAYLOAD, payload)))
    ),
    "a certificate request's signature on an artifact's statement": lambda device, payload: _bundle(
        device, _dsse(payload, INTOTO_PAYLOAD, x509.load_pem_x509_csr(device.request()).signature)
    ),
}.items():
    attack(
        f"cross-protocol: {_name}",
        has="what the device signs for others; its key is one that the policy names",
        refused="unsigned",
        floor_kept=False,
    )(functools.partial(_device_signs, offer=_offer))


# --- renewal ---------------------------------------------------------
Offer = Callable[[Scene, Plant, Device], bytes]


def _renewed(scene: Scene, *, offer: Offer) -> Iterator[None]:
    plant, pump = _plant(scene)
    before = pump.identity.certificate.read_bytes()
    _publish(scene, "pump-7", offer(scene, plant, pump))
    yield
    assert pump.identity.certificate.read_bytes() == before, "the certificate was replaced"


def _publish(scene: Scene, name: str, pem: bytes) -> None:
    registry = scene.repository_of(DEVICE_CERTIFICATES)
    registry.put_blob(oci.EMPTY_CONFIG["digest"], OCI_EMPTY_BYTES)
    registry.put_blob(digest_of(pem), pem)
    manifest = oci.manifest(
        artifact_type=DEVICE_CERTIFICATE, config=oci.EMPTY_CONFIG, layers=[oci.descriptor(PEM_CHAIN, pem)]
    )
    registry.put_manifest(name, manifest, OCI_MANIFEST)


def _of_another_device(_scene: Scene, plant: Plant, _pump: Device) -> bytes:
    return _pem(plant.certificate("spy-1"))


def _for_another_key(_scene: Scene, plant: Plant, pump: Device) -> bytes:
    stranger = Device("pump-7", pump.folder.parent / "stranger", pump.source, pump.ca)
    public = x509.load_pem_x509_csr(stranger.request()).public_key()
    made = plant.authority.issue("pump-7", public, fleet="edge", now=plant.now, lifetime_s=90 * 86400.0)  # type: ignore[arg-type]
    return _pem(made)


def _of_another_authority(scene: Scene, plant: Plant, pump: Device) -> bytes:
    other = Plant(scene.folder / "other-plant", now=plant.now)
    public = x509.load_pem_x509_csr(pump.request()).public_key()
    made = other.authority.issue("pump-7", public, fleet="edge", now=plant.now, lifetime_s=90 * 86400.0)  # type: ignore[arg-type]
    return _pem(made)


def _older(_scene: Scene, plant: Plant, _pump: Device) -> bytes:
    return _pem(plant.certificate("pump-7", now=plant.now - 85 * DAY))


def _nonsense(_scene: Scene, plant: Plant, _pump: Device) -> bytes:
    """A PEM file that is read as far as its outer shape; the library stumbles when it is asked for the name."""
    der = plant.certificate("pump-7").public_bytes(Encoding.DER)
    spoilt = der.replace(bytes.fromhex("06035504030c"), bytes.fromhex("060355040330"))
    assert spoilt != der
    return b"-----BEGIN CERTIFICATE-----\n%b-----END CERTIFICATE-----\n" % base64.encodebytes(spoilt)


for _name, _code, _certificate in (
    ("that makes no sense", "bad-certificate", _nonsense),
    ("of another device", "bad-certificate", _of_another_device),
    ("for another key", "bad-certificate", _for_another_key),
    ("of another authority", "bad-certificate", _of_another_authority),
    ("that is older", "certificate-not-newer", _older),
):
    attack(
        f"renewal: a certificate {_name}",
        has="the registry: everything in it can be replaced, no key",
        noted=_code,
    )(functools.partial(_renewed, offer=_certificate))
