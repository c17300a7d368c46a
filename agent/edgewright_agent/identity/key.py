"""The device's own key: ECDSA P-256, in a file or behind an OpenSSL provider (TPM 2.0, PKCS#11).

>>> key = create(Path("/etc/edgewright/device.key"), Disk())   # doctest: +SKIP
>>> load(Path("/etc/edgewright/device.key")).sign(b"bytes")    # doctest: +SKIP

A file with anything but a PKCS#8 key in it is left to OpenSSL: tpm2-openssl writes `TSS2 PRIVATE KEY`,
pkcs11-provider `PKCS#11 PROVIDER URI`. Python's `ssl` then uses it for TLS as any other; signing goes through
the program `openssl`. Both need the provider in the configuration `OPENSSL_CONF` names.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgewright_agent.contract import DEVICE_URI, is_name
from edgewright_agent.errors import ConfigError, StorageError
from edgewright_agent.files import Disk

_PKCS8 = b"-----BEGIN PRIVATE KEY-----"
_MAX_KEY_BYTES = 64 * 1024
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")  # AlgorithmIdentifier (RFC 5758 3.2)
_OPENSSL_DEADLINE_S = (
    60.0  # a TPM on a slow bus signs in under a second; a hanging one must not hang the agent
)


class DeviceKey(Protocol):
    """A private key that can be used and not read."""

    @property
    def public_der(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""

    def sign(self, data: bytes) -> bytes:
        """Return the ECDSA signature (SHA-256, DER) of `data`."""

    def request(self, device_id: str) -> bytes:
        """Return a certificate request (PKCS#10, PEM)."""


@dataclass(frozen=True)
class FileKey:
    """A key in a PKCS#8 file."""

    private: ec.EllipticCurvePrivateKey

    @property
    def public_der(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, data: bytes) -> bytes:
        """Return the ECDSA signature (SHA-256, DER) of `data`."""
        return self.private.sign(data, ec.ECDSA(hashes.SHA256()))

    def request(self, device_id: str) -> bytes:
        """Return a certificate request (PKCS#10, PEM)."""
        return (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)]))
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(DEVICE_URI + device_id)]),
                critical=False,
            )
            .sign(self.private, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )


@dataclass(frozen=True)
class ProviderKey:
    """A key that only OpenSSL can use: the file says where it is."""

    path: Path
    public_der: bytes

    def sign(self, data: bytes) -> bytes:
        """Return the ECDSA signature (SHA-256, DER) of `data`."""
        signature = _openssl(["dgst", "-sha256", "-sign", str(self.path)], data, doing="sign with it")
        try:
            _p256(self.public_der, self.path).verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise StorageError("bad-key", f"{self.path}: the signature it gave is wrong") from None
        return signature

    def request(self, device_id: str) -> bytes:
        """Return a certificate request (PKCS#10, PEM)."""
        # Not by `openssl req`: tpm2-openssl 1.1 writes parameters into the signature's algorithm, where RFC 5758 3.2
        # allows none, and strict readers refuse that. So a request of a key made for the moment lends its form; the
        # public keys of one curve have one length, and only the bytes of the key differ.
        form = FileKey(ec.generate_private_key(ec.SECP256R1()))
        body = x509.load_pem_x509_csr(form.request(device_id)).tbs_certrequest_bytes
        body = body.replace(form.public_der, self.public_der)
        signature = b"\0" + self.sign(body)  # a bit string says how many bits of its last byte do not count
        der = _element(0x30, body + _ECDSA_SHA256 + _element(0x03, signature))
        return x509.load_der_x509_csr(der).public_bytes(serialization.Encoding.PEM)


def create(path: Path, disk: Disk, *, provider: str | None = None) -> DeviceKey:
    """Make a key and keep it at `path`, readable by its owner alone.

    Args:
        provider: OpenSSL provider that makes and keeps it (`tpm2`); the file then holds what only it can use.

    Raises:
        ConfigError: `exists`: there is a file already; a key is never replaced.
        StorageError: the disk or the provider refuses.
    """
    if path.exists() or path.is_symlink():
        raise _exists(path)
    if provider is None:
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    else:
        which = [argument for name in (provider, "default") for argument in ("-provider", name)]
        pem = _openssl(
            ["genpkey", *which, "-algorithm", "EC", "-pkeyopt", "group:P-256"], b"", doing="make a key"
        )
    disk.make_dir(path.parent)
    if not disk.create_private(path, pem):
        raise _exists(path)
    return load(path)


def load(path: Path) -> DeviceKey:
    """Return the key at `path`.

    Raises:
        ConfigError: `bad-key`: it is missing, encrypted, readable by others, or no ECDSA P-256 key.
        StorageError: `bad-key`: the provider that keeps it does not answer.
    """
    try:
        others = path.stat().st_mode & 0o077
        with path.open("rb") as file:
            pem = file.read(_MAX_KEY_BYTES)
    except OSError as error:
        hint = "; edgewright-agent identity create makes one" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError("bad-key", f"cannot read {path}: {error.strerror}{hint}") from error
    if others:
        raise ConfigError("bad-key", f"{path} can be read by others; chmod 600 {path}")
    if _PKCS8 not in pem:
        der = _openssl(["pkey", "-in", str(path), "-pubout", "-outform", "DER"], b"", doing="open it")
        _p256(der, path)
        return ProviderKey(path, der)
    try:
        private = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError("bad-key", f"{path} is not a PKCS#8 key without passphrase") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise ConfigError("bad-key", f"{path} is not an ECDSA P-256 key")
    return FileKey(private)


def request(key: DeviceKey, device_id: str) -> bytes:
    """Return a certificate request (PKCS#10, PEM): common name `device_id`, and a URI that says the same.

    Raises:
        ConfigError: `bad-device-id`: it cannot be a file name and a name in a certificate.
        StorageError: `bad-key`: the provider that keeps the key does not answer.
    """
    if not is_name(device_id):
        raise ConfigError(
            "bad-device-id",
            f"device.id {device_id!r} must be lower-case letters, digits and single dashes, at most 63: it becomes "
            "a file name in the fleet's repository and a name in certificates",
        )
    return key.request(device_id)


def _element(tag: int, content: bytes) -> bytes:
    """Return a DER element (X.690 8.1)."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _exists(path: Path) -> ConfigError:
    return ConfigError("exists", f"{path} exists and is never replaced; move it away to begin a new identity")


def _p256(der: bytes, path: Path) -> ec.EllipticCurvePublicKey:
    try:
        public = serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        public = None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise ConfigError("bad-key", f"{path} is not an ECDSA P-256 key")
    return public


def _openssl(arguments: Sequence[str], data: bytes, *, doing: str) -> bytes:
    try:
        ran = subprocess.run(
            ["openssl", *arguments], input=data, capture_output=True, timeout=_OPENSSL_DEADLINE_S, check=False
        )
    except FileNotFoundError:
        raise StorageError("bad-key", f"cannot {doing}: the program openssl is not installed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StorageError("bad-key", f"cannot {doing}: openssl: {error}") from error
    if ran.returncode != 0 or not ran.stdout:
        said = ran.stderr.decode(errors="replace").strip().splitlines()
        raise StorageError(
            "bad-key",
            f"cannot {doing}: openssl says {said[-1] if said else 'nothing'!r}; does OPENSSL_CONF name a configuration "
            "with the key's provider?",
        )
    return ran.stdout
