"""What makes a certificate this device's: every reason to refuse one, and when it renews."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from edgewright_agent.clock import to_text
from edgewright_agent.errors import ConfigError, TrustError
from edgewright_agent.identity.certificate import Certificate, check
from edgewright_agent.identity.validity import TRIED, renewal_due, validity
from unit.devices.plant import DAY, START, Device, Plant

PEM = serialization.Encoding.PEM


def certificate(plant: Plant, name: str = "pump-7", **changes: Any) -> bytes:
    return plant.certificate(name, **changes).public_bytes(PEM)


def checked(
    plant: Plant, pem: bytes, *, current: bytes | None = None, anchors: bytes | None = None
) -> Certificate:
    pump = plant.device("pump-7")
    return check(
        pem,
        key=pump.key,
        device_id="pump-7",
        authorities=anchors or plant.ca_file.read_bytes(),
        current=current,
    )


def refusal(plant: Plant, pem: bytes, **options: Any) -> str:
    with pytest.raises(TrustError) as refused:
        checked(plant, pem, **options)
    return f"{refused.value.code}: {refused.value}"


def test_the_fleets_own_certificate_is_accepted(plant: Plant) -> None:
    found = checked(plant, certificate(plant))
    assert (found.fleet, found.end) == ("edge", plant.now + 90 * DAY)


def test_one_of_several_pinned_authorities_is_enough(plant: Plant, tmp_path: Path) -> None:
    """An authority that is about to be replaced and its successor are pinned together."""
    other = Plant(tmp_path / "other")
    checked(plant, certificate(plant), anchors=other.ca_file.read_bytes() + plant.ca_file.read_bytes())


def test_another_authoritys_certificate_is_refused(plant: Plant, tmp_path: Path) -> None:
    other = Plant(tmp_path / "other")
    forged = certificate(plant)
    pem = other.authority.issue(
        "pump-7",
        x509.load_pem_x509_certificate(forged).public_key(),  # type: ignore[arg-type]
        fleet="edge",
        now=plant.now,
        lifetime_s=1e6,
    ).public_bytes(PEM)
    assert "not issued by an authority in identity.ca" in refusal(plant, pem)


def test_a_device_certificate_cannot_issue_another(plant: Plant) -> None:
    """Even pinned by mistake, it is no authority."""
    pump = plant.device("pump-7")
    leaf = plant.certificate("pump-8")
    private = serialization.load_pem_private_key(plant.device("pump-8").identity.key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    own = custom(pump, issuer=leaf.subject, signer=private)
    anchors = leaf.public_bytes(PEM) + plant.ca_file.read_bytes()
    assert "not issued by an authority" in refusal(plant, own, anchors=anchors)


def custom(pump: Device, *, issuer: x509.Name, signer: ec.EllipticCurvePrivateKey, **changes: Any) -> bytes:
    """A certificate for a device's key with one thing different."""
    public = serialization.load_der_public_key(pump.key.public_der)
    usage = changes.get("usage", [ExtendedKeyUsageOID.CLIENT_AUTH])
    names = changes.get("names", ["urn:edgewright:device:pump-7"])
    builder = (
        x509.CertificateBuilder()
        .subject_name(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, changes.get("common_name", "pump-7"))])
        )
        .issuer_name(issuer)
        .public_key(public)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(changes.get("end", START + 90 * DAY))
        .add_extension(x509.BasicConstraints(ca=changes.get("ca", False), path_length=None), critical=True)
    )
    if names is not None:
        alternative = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name) for name in names])
        builder = builder.add_extension(alternative, critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(PEM)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"usage": [ExtendedKeyUsageOID.SERVER_AUTH]}, "not one for a TLS client"),
        ({"usage": None}, "does not say what it is for"),
        ({"ca": True}, "not one for a TLS client"),
        ({"names": None}, "the certificate is for None"),
        ({"names": ["urn:edgewright:device:pump-8"]}, "the certificate is for None"),
        ({"names": ["urn:edgewright:device:pump-7", "urn:edgewright:device:pump-8"]}, "for None"),
        ({"end": START + 20 * 365 * DAY}, "not issued by an authority"),
    ],
)
def test_a_certificate_with_one_thing_wrong_is_refused(
    plant: Plant, changes: dict[str, Any], told: str
) -> None:
    authority = plant.authority
    pem = custom(
        plant.device("pump-7"), issuer=authority.certificate.subject, signer=authority.private, **changes
    )
    assert told in refusal(plant, pem)


def test_another_devices_certificate_or_another_keys_is_refused(plant: Plant) -> None:
    assert "for another key" in refusal(plant, certificate(plant, "pump-8"))
    pump = plant.device("pump-7")
    same_key = plant.authority.issue(
        "pump-9",
        serialization.load_der_public_key(pump.key.public_der),  # type: ignore[arg-type]
        fleet="edge",
        now=plant.now,
        lifetime_s=1e6,
    ).public_bytes(PEM)
    assert "for 'pump-9'; this device is 'pump-7'" in refusal(plant, same_key)


def test_an_older_or_equal_certificate_never_replaces_the_present_one(plant: Plant) -> None:
    present = certificate(plant)
    for days in (0, -1):
        older = certificate(plant, lifetime_s=(90 + days) * 86400.0)
        assert refusal(plant, older, current=present).startswith("certificate-not-newer")
    checked(plant, certificate(plant, lifetime_s=91 * 86400.0), current=present)


def test_what_stands_in_its_place_and_cannot_be_read_is_no_reason_to_refuse_a_good_one(plant: Plant) -> None:
    checked(plant, certificate(plant), current=b"torn")


def test_a_certificate_of_an_earlier_key_may_end_later(plant: Plant) -> None:
    """The device has a new key: its first certificate replaces the last one of the old key, whenever that ends."""
    older_key = certificate(plant, lifetime_s=200 * 86400.0)
    plant.device("pump-7").identity.key.unlink()
    checked(plant, certificate(plant), current=older_key)


@pytest.mark.parametrize("pem", [b"", b"x", b"-----BEGIN CERTIFICATE-----\n", b"x" * 70_000])
def test_what_is_no_certificate_is_refused_in_one_sentence(plant: Plant, pem: bytes) -> None:
    assert refusal(plant, pem).startswith("bad-certificate")


def test_a_strangers_certificate_for_this_key_is_refused_however_odd_it_is(plant: Plant) -> None:
    """The key is public and the registry is anybody: an odd name ended the update before it had begun."""
    stranger = ec.generate_private_key(ec.SECP256R1())
    odd = custom(
        plant.device("pump-7"),
        issuer=x509.Name([]),
        signer=stranger,
        common_name="p\u00fcmp",
        names=["urn:x"],
    )
    assert refusal(plant, odd).startswith("bad-certificate")
    der = x509.load_pem_x509_certificate(
        custom(plant.device("pump-7"), issuer=x509.Name([]), signer=stranger)
    ).public_bytes(serialization.Encoding.DER)
    for old, new in ((b"pump-7", b"pum\xff-7"), (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x4d")):
        assert old in der
        body = base64.encodebytes(der.replace(old, new))
        pem = b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"
        assert refusal(plant, pem).startswith("bad-certificate")


def test_a_certificate_of_an_authority_that_is_gone_holds_no_new_one_back(
    plant: Plant, tmp_path: Path
) -> None:
    former = Plant(tmp_path / "former")
    old = former.authority.issue(
        "pump-7",
        serialization.load_der_public_key(plant.device("pump-7").key.public_der),  # type: ignore[arg-type]
        fleet="edge",
        now=plant.now,
        lifetime_s=200 * 86400.0,
    ).public_bytes(PEM)
    checked(plant, certificate(plant), current=old)
    both = former.ca_file.read_bytes() + plant.ca_file.read_bytes()
    assert refusal(plant, certificate(plant), current=old, anchors=both).startswith("certificate-not-newer")


NONSENSE = {
    "no version that there is": (bytes.fromhex("a003020102"), bytes.fromhex("a003020142")),
    "a common name that is a sequence": (bytes.fromhex("06035504030c"), bytes.fromhex("060355040330")),
    "a common name that is a string of bits": (bytes.fromhex("06035504030c"), bytes.fromhex("060355040303")),
    "a common name that is no text": (bytes.fromhex("06035504030c06"), bytes.fromhex("06035504030cff")),
}


@pytest.mark.parametrize("wrong", NONSENSE)
def test_bytes_that_the_library_stumbles_over_only_later_are_refused(plant: Plant, wrong: str) -> None:
    """Whoever answers for the registry may offer them, and the poll must go on."""
    old, new = NONSENSE[wrong]
    der = x509.load_pem_x509_certificate(certificate(plant)).public_bytes(serialization.Encoding.DER)
    assert old in der
    pem = b"-----BEGIN CERTIFICATE-----\n%b-----END CERTIFICATE-----\n"
    spoilt = pem % base64.encodebytes(der.replace(old, new))
    assert refusal(plant, spoilt).startswith("bad-certificate: ")
    later = certificate(plant, now=plant.now + DAY)
    assert checked(plant, later, current=spoilt).fleet == "edge"


def test_two_certificates_in_one_file_are_refused(plant: Plant) -> None:
    assert "2 certificates" in refusal(plant, certificate(plant) * 2)


def test_anchors_that_are_none_are_a_configuration_error(plant: Plant) -> None:
    with pytest.raises(ConfigError):
        checked(plant, certificate(plant), anchors=b"nothing")


# --- when it renews: read with the standard library -----------------------------------------------------------------


@pytest.mark.parametrize("lifetime_s", [3600.0, 90 * 86400.0, 9 * 365 * 86400.0])
def test_the_validity_read_without_cryptography_is_that_of_cryptography(
    plant: Plant, lifetime_s: float
) -> None:
    made = plant.certificate("pump-7", lifetime_s=lifetime_s)
    found = validity(made.public_bytes(PEM))
    assert (found.start, found.end) == (made.not_valid_before_utc, made.not_valid_after_utc)


def test_years_from_2050_on_are_read_too(plant: Plant) -> None:
    """RFC 5280 4.1.2.5: UTCTime until 2049, GeneralizedTime from then on."""
    end = datetime(2051, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
    authority = plant.authority
    pem = custom(
        plant.device("pump-7"), issuer=authority.certificate.subject, signer=authority.private, end=end
    )
    assert validity(pem).end == end


@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_without_a_crash(data: bytes) -> None:
    import base64

    with pytest.raises(ValueError):
        validity(b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(data) + b"\n-----END CERTIFICATE-----\n")


def test_every_cut_of_a_certificate_is_refused_or_read_alike(plant: Plant) -> None:
    import base64

    der = plant.certificate("pump-7").public_bytes(serialization.Encoding.DER)
    for cut in range(0, len(der) - 1, 3):
        pem = (
            b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(der[:cut]) + b"\n-----END CERTIFICATE-----\n"
        )
        with pytest.raises(ValueError):
            validity(pem)


def due(pump: Device, now: datetime) -> bool:
    return renewal_due(pump.identity, pump.config.state, now)


def test_it_renews_when_a_third_of_its_life_is_left(plant: Plant) -> None:
    pump = plant.device("pump-7")
    pump.install(certificate(plant))
    assert not due(pump, plant.now + 59 * DAY)
    assert due(pump, plant.now + 61 * DAY)
    assert due(pump, plant.now + 100 * DAY)


def test_a_device_without_a_certificate_asks_for_its_first(plant: Plant) -> None:
    assert due(plant.device("pump-7"), plant.now)


def test_it_does_not_ask_again_at_once_and_asks_again_a_day_later(plant: Plant) -> None:
    pump = plant.device("pump-7")
    pump.install(certificate(plant))
    pump.config.state.mkdir(parents=True, exist_ok=True)
    tried = plant.now + 61 * DAY
    (pump.config.state / TRIED).write_text(to_text(tried))
    assert not due(pump, tried)
    assert not due(pump, tried + timedelta(hours=20))
    assert due(pump, tried + timedelta(hours=28))


def test_a_try_noted_under_a_wrong_clock_or_torn_hinders_nothing(plant: Plant) -> None:
    pump = plant.device("pump-7")
    pump.config.state.mkdir(parents=True, exist_ok=True)
    for text in (to_text(plant.now + 1000 * DAY), "torn", ""):
        (pump.config.state / TRIED).write_text(text)
        assert due(pump, plant.now)


def test_without_a_pinned_authority_or_a_key_nothing_is_asked_for(plant: Plant) -> None:
    from dataclasses import replace

    pump = plant.device("pump-7")
    assert not renewal_due(replace(pump.identity, ca=None), pump.config.state, plant.now)
    pump.identity.key.unlink()
    assert not due(pump, plant.now)
