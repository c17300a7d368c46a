"""The device's key: born here, kept here, and only P-256."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from edgewright_agent.contract import DEVICE_URI
from edgewright_agent.errors import AgentError, ConfigError, StorageError
from edgewright_agent.files import Calls, Disk
from edgewright_agent.identity.key import DeviceKey, FileKey, ProviderKey, create, load, request
from real import require

PEM = serialization.Encoding.PEM


def verifies(key: DeviceKey, data: bytes) -> None:
    public = serialization.load_der_public_key(key.public_der)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(key.sign(data), data, ec.ECDSA(hashes.SHA256()))


def test_a_key_is_made_for_its_owner_alone_and_signs(tmp_path: Path) -> None:
    path = tmp_path / "new" / "device.key"
    old = os.umask(0)
    try:
        made = create(path, Disk())
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    verifies(made, b"data")
    assert load(path).public_der == made.public_der
    assert [file.name for file in path.parent.iterdir()] == ["device.key"]


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    create(path, Disk())
    before = path.read_bytes()
    with pytest.raises(ConfigError) as refused:
        create(path, Disk())
    assert refused.value.code == "exists"
    assert path.read_bytes() == before


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "device.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        create(tmp_path / "device.key", Disk())
    assert not (tmp_path / "elsewhere").exists()


def test_of_two_that_make_one_at_once_the_second_gives_way(tmp_path: Path) -> None:
    class Slow(Calls):
        """Somebody else's key appears while ours is written."""

        def link(self, old: Path, new: Path) -> None:
            new.write_text("theirs")
            super().link(old, new)

    with pytest.raises(ConfigError):
        create(tmp_path / "device.key", Disk(Slow()))
    assert (tmp_path / "device.key").read_text() == "theirs"
    assert [file.name for file in tmp_path.iterdir()] == ["device.key"]


def test_a_full_disk_leaves_no_part_of_a_key(tmp_path: Path) -> None:
    class Full(Calls):
        def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
            super().write(path, fd, data[:20], offset)
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError) as failed:
        create(tmp_path / "device.key", Disk(Full()))
    assert failed.value.code == "no-space"
    assert not (tmp_path / "device.key").exists()
    create(tmp_path / "device.key", Disk())


def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    create(tmp_path / "device.key", Disk())
    (tmp_path / "device.key").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load(tmp_path / "device.key")


@pytest.mark.parametrize("kind", ["ed25519", "p384", "encrypted", "cut off"])
def test_other_keys_are_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    private: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey = ec.generate_private_key(ec.SECP256R1())
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if kind == "ed25519":
        private = ed25519.Ed25519PrivateKey.generate()
    if kind == "p384":
        private = ec.generate_private_key(ec.SECP384R1())
    if kind == "encrypted":
        lock = serialization.BestAvailableEncryption(b"secret")
    pem = private.private_bytes(PEM, serialization.PrivateFormat.PKCS8, lock)
    path = tmp_path / "device.key"
    path.write_bytes(pem[:60] if kind == "cut off" else pem)
    path.chmod(0o600)
    with pytest.raises(AgentError) as refused:
        load(path)
    assert refused.value.code == "bad-key"
    assert "\n" not in str(refused.value)


def test_a_missing_key_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="edgewright-agent identity create"):
        load(tmp_path / "device.key")


def test_a_request_names_the_device_twice_and_proves_the_key(tmp_path: Path) -> None:
    key = create(tmp_path / "device.key", Disk())
    check_request(request(key, "pi-7"), key)


def check_request(pem: bytes, key: DeviceKey) -> None:
    found = x509.load_pem_x509_csr(pem)
    assert found.is_signature_valid
    assert found.subject.rfc4514_string() == "CN=pi-7"
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(DEVICE_URI + "pi-7")]
    assert (
        found.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        == key.public_der
    )


@pytest.mark.parametrize("name", ["Pi 7", "pi_7", "../pi", "a" * 64, "", "pi\nCN=x"])
def test_an_id_that_cannot_be_a_file_name_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        request(create(tmp_path / "device.key", Disk()), name)
    assert refused.value.code == "bad-device-id"


# --- a key that only OpenSSL can use: the same program signs whether a provider or a file in another form keeps it ---


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A key in a form that is left to OpenSSL (SEC 1)."""
    path = tmp_path / "foreign.key"
    subprocess.run(
        [require("openssl"), "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path],
        check=True,
        capture_output=True,
    )
    path.chmod(0o600)
    return path


def test_a_key_that_only_openssl_reads_signs_and_requests_all_the_same(foreign: Path) -> None:
    key = load(foreign)
    assert isinstance(key, ProviderKey)
    verifies(key, b"data")
    check_request(request(key, "pi-7"), key)


def test_a_provider_makes_a_key_that_is_kept_like_any_other(tmp_path: Path) -> None:
    require("openssl")
    made = create(tmp_path / "device.key", Disk(), provider="default")
    assert isinstance(made, FileKey)
    assert (tmp_path / "device.key").stat().st_mode & 0o777 == 0o600


def test_a_provider_that_is_not_there_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    require("openssl")
    with pytest.raises(StorageError, match="OPENSSL_CONF"):
        create(tmp_path / "device.key", Disk(), provider="no-such-provider")
    assert list(tmp_path.iterdir()) == []


def test_a_key_whose_provider_is_gone_is_told(tmp_path: Path) -> None:
    require("openssl")
    path = tmp_path / "device.key"
    path.write_text("-----BEGIN TSS2 PRIVATE KEY-----\nMIHw\n-----END TSS2 PRIVATE KEY-----\n")
    path.chmod(0o600)
    with pytest.raises(StorageError) as failed:
        load(path)
    assert failed.value.code == "bad-key" and "provider" in str(failed.value)


def test_without_openssl_that_is_said(foreign: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StorageError, match="openssl is not installed"):
        load(foreign)
