"""Enrolment: what a request must prove, what a review sees, and what is never overwritten."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from edgewright.devices.enrolment import enroll, read_request, revoke
from edgewright.errors import EdgewrightError, SpecError, TrustError
from edgewright.spec.load import load_fleet
from edgewright.spec.problem import InvalidSpec
from real import require
from unit.devices.plant import CLASS, START, Plant

PEM = serialization.Encoding.PEM


def csr(
    name: str = "pump-7", uri: str | None = "urn:edgewright:device:pump-7", *, key: object | None = None
) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    if uri is not None:
        alternative = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(alternative, critical=False)
    private = key or ec.generate_private_key(ec.SECP256R1())
    return builder.sign(private, hashes.SHA256()).public_bytes(PEM)  # type: ignore[arg-type]


def refusal(data: bytes) -> str:
    with pytest.raises(TrustError) as refused:
        read_request(data)
    return str(refused.value)


def test_an_enrolled_device_is_a_part_of_the_fleet(plant: Plant) -> None:
    pump = plant.device("pump-7", labels={"line": "inspection"})
    plant.enroll(pump)
    device = plant.workspace.devices["pump-7"]
    assert device.hardware_class == CLASS
    assert device.labels == {"line": "inspection"}
    assert device.public_key.encode() == x509.load_pem_x509_csr(pump.request()).public_key().public_bytes(
        PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert device.revoked is None


def test_the_file_holds_no_secret(plant: Plant) -> None:
    plant.enroll(plant.device("pump-7"))
    assert "PRIVATE" not in (plant.root / "devices/pump-7.yaml").read_text()


def test_openssls_own_requests_are_taken(tmp_path: Path) -> None:
    openssl = require("openssl")
    key, out = tmp_path / "k.pem", tmp_path / "r.csr"
    subprocess.run(
        [openssl, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-keyout", key, "-out", out, "-subj", "/CN=pump-7"]
        + ["-addext", "subjectAltName=URI:urn:edgewright:device:pump-7"],
        check=True,
        capture_output=True,
    )
    assert read_request(out.read_bytes()).device_id == "pump-7"


def test_a_request_signed_by_another_key_is_refused() -> None:
    """Somebody who copied a public key cannot enroll it."""
    der = bytearray(x509.load_pem_x509_csr(csr()).public_bytes(serialization.Encoding.DER))
    other = x509.load_pem_x509_csr(csr()).public_bytes(serialization.Encoding.DER)
    start = der.find(b"\x03\x42\x00\x04")  # the public key's bit string
    there = other.find(b"\x03\x42\x00\x04")
    der[start : start + 68] = other[there : there + 68]
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(PEM)
    assert "does not hold its key" in refusal(forged)


@pytest.mark.parametrize(
    "name", ["Pump 7", "../../etc/passwd", "pump_7", "a" * 64, "pump-7/../x", "-", "PUMP"]
)
def test_a_name_that_is_no_file_name_everywhere_is_refused(name: str) -> None:
    assert "common name is not" in refusal(csr(name, f"urn:edgewright:device:{name.replace(' ', '')}"))


@pytest.mark.parametrize(
    "uri", [None, "urn:edgewright:device:pump-8", "urn:edgewright:device:pump-7/", "https://pump-7"]
)
def test_the_two_names_of_a_request_must_agree(uri: str | None) -> None:
    assert "urn:edgewright:device:pump-7" in refusal(csr(uri=uri))


def test_other_kinds_of_keys_are_refused() -> None:
    assert "not ECDSA P-256" in refusal(csr(key=ec.generate_private_key(ec.SECP384R1())))
    assert "not ECDSA P-256" in refusal(csr(key=rsa.generate_private_key(65537, 2048)))


@pytest.mark.parametrize("data", [b"", b"x", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", b"x" * 70_000])
def test_what_is_no_request_is_refused_in_one_sentence(data: bytes) -> None:
    assert refusal(data)


def test_a_key_is_enrolled_once(plant: Plant) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    first = read_request(csr("a", "urn:edgewright:device:a", key=key))
    second = read_request(csr("b", "urn:edgewright:device:b", key=key))
    enroll(plant.workspace, first, hardware_class=CLASS, labels={})
    with pytest.raises(TrustError, match="this key is enrolled already, as a"):
        enroll(plant.workspace, second, hardware_class=CLASS, labels={})


def test_the_key_of_a_revoked_device_never_comes_back(plant: Plant) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    enroll(
        plant.workspace,
        read_request(csr("a", "urn:edgewright:device:a", key=key)),
        hardware_class=CLASS,
        labels={},
    )
    plant.revoke("a")
    again = read_request(csr("b", "urn:edgewright:device:b", key=key))
    with pytest.raises(TrustError, match=r"as a \(revoked\)"):
        enroll(plant.workspace, again, hardware_class=CLASS, labels={}, replace=True)


def test_an_id_is_enrolled_once(plant: Plant) -> None:
    plant.enroll(plant.device("pump-7"))
    before = (plant.root / "devices/pump-7.yaml").read_bytes()
    with pytest.raises(TrustError, match="enrolled already, with another key"):
        enroll(plant.workspace, read_request(csr()), hardware_class=CLASS, labels={})
    assert (plant.root / "devices/pump-7.yaml").read_bytes() == before


def test_a_device_that_lost_its_key_gets_a_new_one_when_told(plant: Plant) -> None:
    plant.enroll(plant.device("pump-7"))
    fresh = read_request(csr())
    enroll(plant.workspace, fresh, hardware_class=CLASS, labels={}, replace=True)
    assert plant.workspace.devices["pump-7"].public_key == fresh.public_key


def test_a_revoked_device_is_not_enrolled_again_by_replacing_its_key(plant: Plant) -> None:
    plant.enroll(plant.device("pump-7"))
    plant.revoke("pump-7")
    with pytest.raises(TrustError, match="was revoked 2030-01-01T00:00:00Z"):
        enroll(plant.workspace, read_request(csr()), hardware_class=CLASS, labels={}, replace=True)


def test_an_unknown_class_is_told_with_what_was_meant(plant: Plant) -> None:
    with pytest.raises(SpecError) as refused:
        enroll(plant.workspace, read_request(csr()), hardware_class="bord", labels={})
    assert refused.value.hint and "board" in refused.value.hint


def test_a_wrong_label_leaves_everything_as_it_was(plant: Plant) -> None:
    with pytest.raises(InvalidSpec):
        enroll(plant.workspace, read_request(csr()), hardware_class=CLASS, labels={"a b": "c"})
    assert not (plant.root / "devices/pump-7.yaml").exists()
    plant.enroll(plant.device("pump-7"))
    before = (plant.root / "devices/pump-7.yaml").read_bytes()
    with pytest.raises(InvalidSpec):
        enroll(plant.workspace, read_request(csr()), hardware_class=CLASS, labels={"a b": "c"}, replace=True)
    assert (plant.root / "devices/pump-7.yaml").read_bytes() == before


@pytest.mark.parametrize("note", ["stolen: from a van # 7", 'she said "no"', "- x", "äöü", "true"])
def test_a_revocation_is_written_beside_what_was_there(plant: Plant, note: str) -> None:
    plant.enroll(plant.device("pump-7"))
    before = (plant.root / "devices/pump-7.yaml").read_text()
    revoke(plant.workspace, "pump-7", reason="key-compromise", note=note, now=START)
    assert (plant.root / "devices/pump-7.yaml").read_text().startswith(before)
    revoked = load_fleet(plant.root).devices["pump-7"].revoked
    assert revoked is not None
    assert (revoked.at, revoked.reason, revoked.note) == ("2030-01-01T00:00:00Z", "key-compromise", note)


def test_a_note_of_several_lines_changes_nothing(plant: Plant) -> None:
    plant.enroll(plant.device("pump-7"))
    with pytest.raises(InvalidSpec):
        revoke(plant.workspace, "pump-7", reason="superseded", note="two\nlines", now=START)
    assert plant.workspace.devices["pump-7"].revoked is None


def test_who_is_not_enrolled_or_revoked_already_cannot_be_revoked(plant: Plant) -> None:
    with pytest.raises(EdgewrightError, match="'pump-7' is not enrolled"):
        plant.revoke("pump-7")
    plant.enroll(plant.device("pump-7"))
    plant.revoke("pump-7")
    with pytest.raises(TrustError, match="was revoked"):
        plant.revoke("pump-7")


@pytest.mark.parametrize(
    ("old", "new"),
    [("020100", "020142"), ("06035504030c", "060355040330"), ("06035504030c", "060355040303")],
    ids=["version", "name", "kind of name"],
)
def test_a_request_that_the_library_stumbles_over_is_refused(plant: Plant, old: str, new: str) -> None:
    der = x509.load_pem_x509_csr(plant.device("pump-7").request()).public_bytes(serialization.Encoding.DER)
    spoilt = der.replace(bytes.fromhex(old), bytes.fromhex(new), 1)
    assert spoilt != der
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n%b-----END CERTIFICATE REQUEST-----\n"
    with pytest.raises(TrustError, match="not a certificate request"):
        read_request(pem % base64.encodebytes(spoilt))
