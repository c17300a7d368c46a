"""What is believed of a device's report, and every reason not to."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from edgewright.collect.fleet_table import fleet_table
from edgewright.collect.report import Refused, accept, verify
from edgewright.collect.store import Store
from edgewright.devices.certify import public_key_of
from edgewright.errors import TrustError
from edgewright_agent import report_signing
from edgewright_agent.contract import (
    DEVICE_REPORT_PAYLOAD,
    INTOTO_PAYLOAD,
    MAX_REPORT_BYTES,
    SIGSTORE_BUNDLE,
    canonical_json,
    dsse_pae,
    key_hint,
)
from edgewright_agent.errors import TrustError as AgentTrustError
from edgewright_agent.identity.command import fingerprint, report
from edgewright_agent.trust import sigstore
from unit.devices.plant import CLASS, Device, Plant


@pytest.fixture
def pump(plant: Plant) -> Device:
    device = plant.device("pump-7", labels={"line": "inspection"})
    plant.enroll(device)
    return device


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "collect.sqlite")


def document(device: Device, **changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "device": device.id,
        "class": CLASS,
        "fleet": "edge",
        "boot": "b",
        "sequence": 7,
        "time": "2030-01-01T00:00:00Z",
        "clock": {"synchronized": True, "behindSignedTime": False},
        "status": {"state": "ok", "device": {"labels": device.labels}, "models": {}},
        **changes,
    }


def signed(device: Device, **changes: Any) -> bytes:
    return report_signing.sign(device.key, document(device, **changes))


def envelope(key: Any, payload: bytes, *, covers: bytes, kind: str = DEVICE_REPORT_PAYLOAD) -> bytes:
    """An envelope whose one signature covers `covers`."""
    return canonical_json(
        {
            "payloadType": kind,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": fingerprint(key), "sig": base64.b64encode(key.sign(covers)).decode()}],
        }
    )


def reason(plant: Plant, data: bytes, store: Store, *, fleet: str = "edge") -> str:
    with pytest.raises(Refused) as refused:
        accept(data, plant.workspace.devices, store, fleet=fleet)
    return refused.value.reason


def test_what_an_enrolled_device_signed_is_accepted_once(plant: Plant, pump: Device, store: Store) -> None:
    data = signed(pump)
    accepted = accept(data, plant.workspace.devices, store, fleet="edge")
    assert (accepted.device, accepted.sequence, accepted.key) == ("pump-7", 7, fingerprint(pump.key))
    assert reason(plant, data, store) == "replayed"


def test_a_real_agents_report_is_accepted_and_shown(plant: Plant, pump: Device, store: Store) -> None:
    pump.install(plant.certify().issued[0].pem)
    accept(report(pump.config, plant.now), plant.workspace.devices, store, fleet="edge")
    (line,) = fleet_table(plant.workspace.devices, store)
    assert (line.device, line.state, line.differs) == ("pump-7", "new", ())
    assert line.until == "2030-04-01T00:00:00Z"


@pytest.mark.parametrize("sequence", [6, 7])
def test_an_older_number_is_a_replay_whatever_it_says(
    plant: Plant, pump: Device, store: Store, sequence: int
) -> None:
    accept(signed(pump), plant.workspace.devices, store, fleet="edge")
    later = signed(pump, sequence=sequence, time="2031-01-01T00:00:00Z")
    assert reason(plant, later, store) == "replayed"
    accept(signed(pump, sequence=8), plant.workspace.devices, store, fleet="edge")


def test_a_replay_is_known_after_the_collector_was_started_again(
    plant: Plant, pump: Device, tmp_path: Path
) -> None:
    data = signed(pump)
    with Store(tmp_path / "c.sqlite") as first:
        accept(data, plant.workspace.devices, first, fleet="edge")
    with Store(tmp_path / "c.sqlite") as second:
        assert reason(plant, data, second) == "replayed"


def test_a_refused_report_moves_no_number(plant: Plant, pump: Device, store: Store) -> None:
    forged = json.loads(signed(pump, sequence=2**40))
    forged["signatures"][0]["sig"] = json.loads(signed(pump))["signatures"][0]["sig"]
    assert reason(plant, canonical_json(forged), store) == "bad-signature"
    accept(signed(pump), plant.workspace.devices, store, fleet="edge")


def test_a_device_nobody_enrolled_is_unknown(plant: Plant, store: Store) -> None:
    assert reason(plant, signed(plant.device("stranger")), store) == "unknown-device"


def test_a_key_that_is_no_point_of_the_curve_signs_nothing(plant: Plant, pump: Device) -> None:
    body = base64.b64encode(pump.key.public_der[:-64] + b"\x01" * 64).decode()
    pem = f"-----BEGIN PUBLIC KEY-----\n{body[:64]}\n{body[64:]}\n-----END PUBLIC KEY-----\n"
    devices = {"pump-7": plant.workspace.devices["pump-7"].model_copy(update={"public_key": pem})}
    forged = json.loads(signed(pump))
    forged["signatures"][0]["keyid"] = devices["pump-7"].key_fingerprint
    with pytest.raises(Refused) as caught:
        verify(canonical_json(forged), devices, fleet="edge")
    assert caught.value.reason == "bad-signature"
    with pytest.raises(TrustError, match=r"devices/pump-7\.yaml: publicKey is not a key"):
        public_key_of("pump-7", devices["pump-7"])


def test_a_stranger_who_names_an_enrolled_devices_key_is_found_out(
    plant: Plant, pump: Device, store: Store
) -> None:
    forged = json.loads(report_signing.sign(plant.device("stranger").key, document(pump)))
    forged["signatures"][0]["keyid"] = fingerprint(pump.key)
    assert reason(plant, canonical_json(forged), store) == "bad-signature"


def test_one_device_cannot_speak_for_another(plant: Plant, pump: Device, store: Store) -> None:
    other = plant.device("pump-8")
    plant.enroll(other)
    assert reason(plant, report_signing.sign(other.key, document(pump)), store) == "wrong-device"


def test_the_device_id_is_compared_exactly(plant: Plant, pump: Device, store: Store) -> None:
    for name in ("Pump-7", "pump-7 ", "pump-7\0", "pump-70", ["pump-7"], None):
        data = report_signing.sign(pump.key, {**document(pump), "device": name})
        assert reason(plant, data, store) == "wrong-device"


def test_a_revoked_device_is_not_believed(plant: Plant, pump: Device, store: Store) -> None:
    plant.revoke("pump-7")
    assert reason(plant, signed(pump), store) == "revoked"


def test_a_replaced_key_is_unknown_and_its_numbers_do_not_hinder_the_new_one(
    plant: Plant, pump: Device, store: Store
) -> None:
    old = signed(pump, sequence=2**50)
    accept(old, plant.workspace.devices, store, fleet="edge")
    pump.identity.key.unlink()
    fresh = plant.device("pump-7", labels=pump.labels)
    plant.enroll(fresh, replace=True)
    assert reason(plant, old, store) == "unknown-device"
    accept(signed(fresh, sequence=1), plant.workspace.devices, store, fleet="edge")


def test_a_report_of_another_fleet_is_refused(plant: Plant, pump: Device, store: Store) -> None:
    assert reason(plant, signed(pump), store, fleet="other") == "wrong-fleet"


@pytest.mark.parametrize("sequence", [0, -1, 2**53, 1.5, "7", True, None])
def test_a_number_that_is_none_is_refused(plant: Plant, pump: Device, store: Store, sequence: object) -> None:
    assert reason(plant, signed(pump, sequence=sequence), store) == "malformed"


Spoil = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda e: e.update(signatures=[]),
        lambda e: e.update(signatures=[*e["signatures"], *e["signatures"]]),
        lambda e: e.update(signatures="x"),
        lambda e: e.update(payload="not base64!"),
        lambda e: e.pop("payload"),
        lambda e: e["signatures"][0].pop("keyid"),
        lambda e: e["signatures"][0].update(sig=7),
        lambda e: e["signatures"][0].update(sig="A" * 4000),
    ],
)
def test_a_damaged_envelope_is_malformed(plant: Plant, pump: Device, store: Store, spoil: Spoil) -> None:
    changed = json.loads(signed(pump))
    spoil(changed)
    assert reason(plant, canonical_json(changed), store) == "malformed"


def test_two_readings_of_one_envelope_are_refused(plant: Plant, pump: Device, store: Store) -> None:
    data = signed(pump)
    assert reason(plant, data[:-1] + b',"payload":"e30="}', store) == "malformed"


def test_a_huge_report_is_refused_before_it_is_parsed(plant: Plant, store: Store) -> None:
    assert reason(plant, b"[" * (MAX_REPORT_BYTES + 1), store) == "too-large"


@given(
    data=st.binary(max_size=300)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(canonical_json)
)
def test_any_bytes_are_refused_and_never_crash(data: bytes) -> None:
    with pytest.raises(Refused):
        verify(data, {}, fleet="edge")


# --- cross-protocol use of a device key ---------------------------------------------------------------------------


def test_a_signature_over_an_artifact_is_no_report(plant: Plant, pump: Device, store: Store) -> None:
    payload = canonical_json(document(pump))
    over_artifact = dsse_pae(INTOTO_PAYLOAD, payload)
    assert reason(plant, envelope(pump.key, payload, covers=over_artifact), store) == "bad-signature"
    honest = envelope(pump.key, payload, covers=over_artifact, kind=INTOTO_PAYLOAD)
    assert reason(plant, honest, store) == "wrong-type"


def test_a_signature_over_the_bare_payload_is_no_report(plant: Plant, pump: Device, store: Store) -> None:
    payload = canonical_json(document(pump))
    assert reason(plant, envelope(pump.key, payload, covers=payload), store) == "bad-signature"


def test_the_signature_of_a_certificate_request_is_no_report(
    plant: Plant, pump: Device, store: Store
) -> None:
    request = x509.load_pem_x509_csr(pump.request())
    forged = json.loads(signed(pump))
    forged["signatures"][0]["sig"] = base64.b64encode(request.signature).decode()
    for payload in (request.tbs_certrequest_bytes, canonical_json(document(pump))):
        forged["payload"] = base64.b64encode(payload).decode()
        assert reason(plant, canonical_json(forged), store) == "bad-signature"


def test_the_signature_of_a_tls_handshake_is_no_report(plant: Plant, pump: Device, store: Store) -> None:
    """RFC 8446 4.4.3: 64 spaces, a context, a zero byte and a hash; no DSSE encoding begins like that."""
    transcript = b"\x20" * 64 + b"TLS 1.3, client CertificateVerify" + b"\0" + bytes(32)
    payload = canonical_json(document(pump))
    assert reason(plant, envelope(pump.key, payload, covers=transcript), store) == "bad-signature"
    assert reason(plant, envelope(pump.key, transcript, covers=transcript), store) == "bad-signature"
    assert not dsse_pae(DEVICE_REPORT_PAYLOAD, payload).startswith(b"\x20")


def test_a_report_is_no_signature_over_an_artifact(pump: Device) -> None:
    """Even if a device's key were pinned as a signer's: the agent asks for in-toto and verifies that type."""
    public = pump.key.public_der
    pem = serialization.load_der_public_key(public).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    statement = canonical_json(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "x", "digest": {"sha256": "ab" * 32}}],
            "predicateType": "https://sigstore.dev/cosign/sign/v1",
            "predicate": {},
        }
    )

    def verified(covers: str, kind: str) -> None:
        envelope_of_it = envelope(pump.key, statement, covers=dsse_pae(covers, statement), kind=kind)
        bundle = {
            "mediaType": SIGSTORE_BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": key_hint(public)}, "tlogEntries": []},
            "dsseEnvelope": json.loads(envelope_of_it),
        }
        keys = [sigstore.load_key(pem)]
        sigstore.verify_bundle(canonical_json(bundle), keys, subject_digest="sha256:" + "ab" * 32)

    verified(INTOTO_PAYLOAD, INTOTO_PAYLOAD)  # so that nothing but the type can be what is refused below
    for kind in (DEVICE_REPORT_PAYLOAD, INTOTO_PAYLOAD):
        with pytest.raises(AgentTrustError):
            verified(DEVICE_REPORT_PAYLOAD, kind)


def test_the_encoding_keeps_payload_types_apart_for_any_payload() -> None:
    """DSSE's lengths make the encoding injective: no payload of one type encodes as one of another."""
    reports = {dsse_pae(DEVICE_REPORT_PAYLOAD, payload) for payload in (b"", b"{}", b" 2 {}", b"28 ")}
    artifacts = {dsse_pae(INTOTO_PAYLOAD, payload) for payload in (b"", b"{}", b" 2 {}", b"28 ")}
    assert len(reports) == len(artifacts) == 4 and not reports & artifacts


def test_an_ecdsa_signature_in_its_other_form_is_still_one_report(
    plant: Plant, pump: Device, store: Store
) -> None:
    """ECDSA signatures are malleable; what counts is the number inside, so the twin is a replay."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    data = json.loads(signed(pump))
    r, s = decode_dss_signature(base64.b64decode(data["signatures"][0]["sig"]))
    accept(canonical_json(data), plant.workspace.devices, store, fleet="edge")
    data["signatures"][0]["sig"] = base64.b64encode(encode_dss_signature(r, order - s)).decode()
    assert reason(plant, canonical_json(data), store) == "replayed"


def test_a_signature_of_another_hash_is_refused(plant: Plant, pump: Device, store: Store) -> None:
    payload = canonical_json(document(pump))
    private = serialization.load_pem_private_key(pump.identity.key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    sha512 = private.sign(dsse_pae(DEVICE_REPORT_PAYLOAD, payload), ec.ECDSA(hashes.SHA512()))
    forged = json.loads(signed(pump))
    forged["signatures"][0]["sig"] = base64.b64encode(sha512).decode()
    assert reason(plant, canonical_json(forged), store) == "bad-signature"
