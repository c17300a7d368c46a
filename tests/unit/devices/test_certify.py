"""Certificates and the revocation list: who gets one, when, and what a lost folder or a cut-off run changes."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from edgewright.devices import authority
from edgewright.devices.certify import Certified, published
from edgewright.devices.issued import Issued
from edgewright.devices.listing import listing
from edgewright.errors import NetworkError, TrustError
from real import require
from unit.devices.plant import DAY, Plant


class Broken:
    """A registry that stops answering after some manifests."""

    def __init__(self, plant: Plant, after: int) -> None:
        self._real, self._left = plant.registry(), after

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def put_manifest(self, reference: str, body: bytes, media_type: str) -> bool:
        if self._left == 0:
            raise NetworkError("the registry is gone")
        self._left -= 1
        return self._real.put_manifest(reference, body, media_type)


def names(outcome: Certified) -> list[str]:
    return [entry.device_id for entry in outcome.issued]


def serials(outcome: Certified) -> set[int]:
    return {entry.serial for entry in outcome.revoked}


def crl_of(plant: Plant) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl((plant.root / ".edgewright/devices/ca.crl").read_bytes())


def test_every_enrolled_device_gets_one_and_the_registry_has_it(plant: Plant) -> None:
    plant.enroll(plant.device("a"), plant.device("b"))
    outcome = plant.certify()
    assert names(outcome) == ["a", "b"]
    for entry in outcome.issued:
        found = published(plant.registry(), entry.device_id, plant.authority.certificate)
        assert found is not None and found.pem == entry.pem


def test_a_certificate_is_for_a_tls_client_of_this_name_and_nothing_else(plant: Plant) -> None:
    certificate = plant.certificate("pump-7")
    extensions = certificate.extensions
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature and not usage.value.key_cert_sign
    assert [name.value for name in extensions.get_extension_for_class(x509.SubjectAlternativeName).value] == [
        "urn:edgewright:device:pump-7"
    ]
    assert certificate.subject.rfc4514_string() == "CN=pump-7,O=edge"
    assert certificate.not_valid_after_utc == plant.now + 90 * DAY


def test_serial_numbers_are_random_and_long(plant: Plant) -> None:
    found = {plant.certificate("pump-7").serial_number for _ in range(16)}
    assert len(found) == 16
    assert max(found) > 2**140  # RFC 5280 4.1.2.2: at most 20 octets; CA/Browser Forum: 64 random bits
    assert max(found) < 2**159


def test_openssl_accepts_the_chain_and_refuses_what_the_list_names(tmp_path: Path) -> None:
    openssl = require("openssl")
    plant = Plant(tmp_path / "now", now=datetime.now(UTC).replace(microsecond=0))
    plant.enroll(plant.device("a"), plant.device("b"))
    outcome = plant.certify()
    plant.revoke("b")
    plant.certify()
    for entry in outcome.issued:
        (tmp_path / f"{entry.device_id}.crt").write_bytes(entry.pem)

    def verify(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [openssl, "verify", "-x509_strict", "-purpose", "sslclient", "-crl_check"]
            + ["-CAfile", plant.ca_file, "-CRLfile", plant.root / ".edgewright/devices/ca.crl"]
            + [tmp_path / f"{name}.crt"],
            capture_output=True,
            text=True,
            check=False,
        )

    assert verify("a").returncode == 0, verify("a").stderr
    refused = verify("b")
    assert refused.returncode != 0 and "certificate revoked" in refused.stderr


def test_a_certificate_is_issued_anew_with_half_of_its_life_left_and_not_before(plant: Plant) -> None:
    plant.enroll(plant.device("a"))
    plant.certify()
    plant.now += 44 * DAY
    assert names(plant.certify()) == []
    plant.now += 2 * DAY
    outcome = plant.certify()
    assert names(outcome) == ["a"]
    assert outcome.issued[0].until == plant.now + 90 * DAY


def test_a_named_device_gets_one_due_or_not(plant: Plant) -> None:
    plant.enroll(plant.device("a"), plant.device("b"))
    plant.certify()
    assert names(plant.certify("b")) == ["b"]


def test_no_certificate_outlives_its_authority(plant: Plant) -> None:
    plant.now += authority.CA_LIFETIME - 10 * DAY
    certificate = plant.certificate("a")
    assert certificate.not_valid_after_utc == plant.authority.certificate.not_valid_after_utc
    plant.now += 11 * DAY
    with pytest.raises(TrustError, match="has ended"):
        plant.certificate("a")


def test_a_clock_before_the_authority_began_issues_nothing(plant: Plant) -> None:
    plant.now -= DAY
    with pytest.raises(TrustError, match="not valid yet"):
        plant.certificate("a")


def test_a_revoked_device_gets_no_certificate_and_all_of_its_own_are_listed(plant: Plant) -> None:
    plant.enroll(plant.device("a"), plant.device("b"))
    first = plant.certify().issued[0]
    second = plant.certify("a").issued[0]
    plant.revoke("a")
    plant.now += DAY
    outcome = plant.certify()
    assert names(outcome) == []
    assert serials(outcome) == {first.certificate.serial_number, second.certificate.serial_number}
    crl = crl_of(plant)
    entry = crl.get_revoked_certificate_by_serial_number(first.certificate.serial_number)
    assert entry is not None
    reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.key_compromise
    with pytest.raises(TrustError, match="was revoked"):
        plant.certify("a")


def test_a_device_taken_out_of_git_and_a_replaced_key_are_listed_too(plant: Plant) -> None:
    plant.enroll(plant.device("a"), plant.device("b"))
    outcome = plant.certify()
    (plant.root / "devices/a.yaml").unlink()
    lost = plant.device("b")
    lost.identity.key.unlink()
    plant.enroll(plant.device("b"), replace=True)
    again = plant.certify()
    assert names(again) == ["b"]
    assert {entry.reason for entry in again.revoked} == {"cessation-of-operation", "superseded"}
    assert serials(again) == {entry.certificate.serial_number for entry in outcome.issued}


def test_what_was_revoked_once_stays_so_when_the_folder_is_lost(plant: Plant) -> None:
    """A job of CI that does not keep the folder must not give a stolen certificate back its worth."""
    plant.enroll(plant.device("a"), plant.device("b"))
    first = {entry.device_id: entry.certificate.serial_number for entry in plant.certify().issued}
    plant.device("b").identity.key.unlink()
    plant.enroll(plant.device("b"), replace=True)
    (plant.root / "devices/a.yaml").unlink()
    before = serials(plant.certify())
    assert before == set(first.values())
    for _ in range(2):
        shutil.rmtree(plant.root / ".edgewright/devices")
        plant.now += DAY
        assert serials(plant.certify()) == before
    reasons = {entry.reason for entry in plant.certify().revoked}
    assert reasons == {"cessation-of-operation", "superseded"}


def test_a_list_that_the_authority_did_not_sign_revokes_nobody(plant: Plant, tmp_path: Path) -> None:
    other = Plant(tmp_path / "other")
    other.enroll(other.device("a"))
    other.certify()
    other.revoke("a")
    other.certify()
    plant.enroll(plant.device("a"))
    plant.certify()
    shutil.rmtree(plant.root / ".edgewright/devices")
    shutil.copytree(other.root / "dist", plant.root / "dist", dirs_exist_ok=True)
    assert serials(plant.certify()) == set()


def test_certificates_that_have_ended_leave_the_list(plant: Plant) -> None:
    plant.enroll(plant.device("a"))
    plant.certify()
    plant.revoke("a")
    assert len(serials(plant.certify())) == 1
    plant.now += 91 * DAY
    assert serials(plant.certify()) == set()


def test_the_revocation_list_is_signed_numbered_and_short_lived(plant: Plant) -> None:
    numbers = []
    for _ in range(2):
        plant.certify()
        crl = crl_of(plant)
        assert crl.is_signature_valid(plant.authority.certificate.public_key())  # type: ignore[arg-type]
        assert crl.next_update_utc == plant.now + 30 * DAY
        numbers.append(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
        plant.now += DAY
    assert numbers[1] > numbers[0]


@pytest.mark.parametrize("after", range(4))
def test_a_run_that_was_cut_off_is_finished_by_the_next_one(plant: Plant, after: int) -> None:
    plant.enroll(plant.device("a"), plant.device("b"), plant.device("c"))
    with pytest.raises(NetworkError):
        plant.certify(registry=Broken(plant, after))  # type: ignore[arg-type]
    written = {entry.device_id: entry.pem for entry in issued(plant).all()}
    assert list(written) == ["a", "b", "c"]
    outcome = plant.certify()
    assert names(outcome) == []
    for name, pem in written.items():
        found = published(plant.registry(), name, plant.authority.certificate)
        assert found is not None and found.pem == pem
    assert not any(entry.pending for entry in issued(plant).all())


def issued(plant: Plant) -> Issued:
    return Issued(plant.root / ".edgewright/devices", plant.authority.certificate)


def test_when_the_folder_was_lost_the_newest_certificates_come_back_from_the_registry(plant: Plant) -> None:
    plant.enroll(plant.device("a"), plant.device("b"))
    outcome = plant.certify()
    shutil.rmtree(plant.root / ".edgewright/devices")
    plant.revoke("a")
    again = plant.certify()
    assert names(again) == []
    assert serials(again) == {outcome.issued[0].certificate.serial_number}


def test_what_another_authority_signed_is_passed_over(plant: Plant, tmp_path: Path) -> None:
    other = Plant(tmp_path / "other")
    other.enroll(other.device("a"))
    other.certify()
    shutil.copytree(other.root / ".edgewright/devices", plant.root / ".edgewright/devices")
    shutil.copytree(other.root / "dist", plant.root / "dist")
    plant.enroll(plant.device("a"))
    assert published(plant.registry(), "a", plant.authority.certificate) is None
    assert names(plant.certify()) == ["a"]


def test_the_authority_is_made_once(plant: Plant) -> None:
    before = plant.ca_file.read_bytes()
    with pytest.raises(TrustError, match="never replaced"):
        authority.create(plant.workspace, now=plant.now)
    assert plant.ca_file.read_bytes() == before
    assert (plant.root / ".edgewright/device-ca.key").stat().st_mode & 0o777 == 0o600


def test_the_authoritys_key_may_come_from_the_environment(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = plant.root / ".edgewright/device-ca.key"
    monkeypatch.setenv("DEVICE_CA", key.read_text())
    key.unlink()
    plant.repository.append("fleet.yaml", "devices: {ca: {key: env:DEVICE_CA}}\n")
    plant.enroll(plant.device("a"))
    assert names(plant.certify()) == ["a"]


def test_a_key_of_another_authority_is_noticed(plant: Plant, tmp_path: Path) -> None:
    other = Plant(tmp_path / "other")
    shutil.copy(other.root / ".edgewright/device-ca.key", plant.root / ".edgewright/device-ca.key")
    with pytest.raises(TrustError, match="does not belong to devices/ca.pem"):
        plant.certify()


def test_the_list_says_what_is_next_for_every_device(plant: Plant) -> None:
    plant.enroll(plant.device("a"), plant.device("b"), plant.device("c"), plant.device("d"))
    plant.certify("a")
    plant.certify("b")
    plant.certify("d")
    plant.revoke("b")
    first, second, third = (states(plant, plant.now + days * DAY) for days in (0, 46, 92))
    assert first == {
        "a": "certified",
        "b": "revoked: key-compromise",
        "c": "no certificate",
        "d": "certified",
    }
    assert second["a"] == "due"
    assert third["a"] == "expired"


def states(plant: Plant, now: datetime) -> dict[str, str]:
    return {line.device_id: line.state for line in listing(plant.workspace, issued(plant).all(), now=now)}
