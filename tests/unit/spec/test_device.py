"""`devices/*.yaml`: what a review can rely on."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from edgewright.spec.device import Device, text_of
from edgewright.spec.load import load_fleet

from .conftest import Repository, only, problems_of

FILE = "devices/pump-7.yaml"


def public_pem(private: object | None = None) -> str:
    key = private or ec.generate_private_key(ec.SECP256R1())
    return (
        key.public_key()  # type: ignore[attr-defined]
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def enrolled(repository: Repository, key: str | None = None, name: str = "pump-7") -> None:
    repository.write(
        f"devices/{name}.yaml", text_of(name, "board", {"line": "inspection"}, key or public_pem())
    )


def test_what_is_written_is_read_as_a_part_of_the_fleet(repository: Repository) -> None:
    key = public_pem()
    enrolled(repository, key)
    device = load_fleet(repository.root).devices["pump-7"]
    assert device == Device.model_validate(
        {"version": 1, "hardwareClass": "board", "labels": {"line": "inspection"}, "publicKey": key}
    )


def test_a_fleet_without_devices_has_none(repository: Repository) -> None:
    assert load_fleet(repository.root).devices == {}


def test_the_authoritys_certificate_may_lie_beside_the_devices(repository: Repository) -> None:
    enrolled(repository)
    repository.write("devices/ca.pem", "-----BEGIN CERTIFICATE-----\n")
    assert list(load_fleet(repository.root).devices) == ["pump-7"]


@pytest.mark.parametrize("value", ["yes", "0x1F", "1e3", "null", "010", "a: b"[:1]])
def test_a_label_that_looks_like_something_else_stays_text(repository: Repository, value: str) -> None:
    repository.write(FILE, text_of("pump-7", "board", {"x": value}, public_pem()))
    assert load_fleet(repository.root).devices["pump-7"].labels == {"x": value}


def test_every_p_256_key_fits_the_form(repository: Repository) -> None:
    for index in range(20):
        enrolled(repository, name=f"d{index}")
    assert len(load_fleet(repository.root).devices) == 20


def test_other_keys_and_private_keys_are_refused_and_not_repeated(repository: Repository) -> None:
    private = (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        .decode()
    )
    others = [
        public_pem(ec.generate_private_key(ec.SECP384R1())),
        public_pem(rsa.generate_private_key(65537, 2048)),
        private,
    ]
    for key in others:
        enrolled(repository, key)
        told = only(repository)
        assert "publicKey" not in told and "must be an ECDSA P-256 public key (PEM)" in told
        assert key.splitlines()[1] not in told


def test_a_class_that_does_not_exist_is_told_with_what_was_meant(repository: Repository) -> None:
    repository.write(FILE, text_of("pump-7", "bord", {}, public_pem()))
    assert only(repository).startswith(f"{FILE}:3:16: there is no hardware class 'bord' (hardware/bord.yaml)")


def test_two_devices_with_one_key_are_told(repository: Repository) -> None:
    key = public_pem()
    enrolled(repository, key, "a")
    enrolled(repository, key, "b")
    assert "devices/b.yaml:6:1: this is the key of devices/a.yaml" in only(repository)


@pytest.mark.parametrize("name", ["Pump_7", "pump 7", "pump.7"])
def test_an_id_is_a_name(repository: Repository, name: str) -> None:
    repository.write(f"devices/{name}.yaml", text_of(name, "board", {}, public_pem()))
    assert "must be a name of lower-case letters, digits and single dashes" in only(repository)


def test_a_revocation_says_when_and_why_in_known_words(repository: Repository) -> None:
    enrolled(repository)
    repository.append(FILE, "revoked: {at: yesterday, reason: lost}\n")
    told = problems_of(repository)
    assert len(told) == 2
    assert "a time in UTC" in told[0]
    assert "key-compromise" in told[1]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("devices: {lifetime: 5m}", "between an hour and two years"),
        ("devices: {crlLifetime: 900d}", "between an hour and two years"),
        ("devices: {ca: {key: secret}}", "a reference to a secret"),
    ],
)
def test_a_wrong_authority_is_told(repository: Repository, setting: str, told: str) -> None:
    repository.append("fleet.yaml", setting + "\n")
    assert told in only(repository)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("clientCertificate: ci.crt", "clientCertificate needs clientKey"),
        ("clientKey: file:ci.key", "clientKey needs clientCertificate"),
        ("clientCertificate: ci.crt\n  clientKey: env:KEY", "TLS reads this key from a file"),
    ],
)
def test_a_client_certificate_comes_with_the_file_of_its_key(
    repository: Repository, settings: str, told: str
) -> None:
    repository.edit(
        "fleet.yaml", "  url: oci:dist/registry", f"  url: https://registry.example\n  {settings}"
    )
    assert told in only(repository)


def test_a_key_that_is_no_point_of_the_curve_is_told(repository: Repository) -> None:
    key = public_pem()
    place = len(key) - len("xxxx==\n-----END PUBLIC KEY-----\n")
    enrolled(repository, key[:place] + ("A" if key[place] != "A" else "B") + key[place + 1 :])
    assert "has the form of a key and is none" in only(repository)
