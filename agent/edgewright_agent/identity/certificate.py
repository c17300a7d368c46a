"""The device's certificate: what makes one acceptable, and putting it in place.

>>> accepted = check(pem, key=key, device_id="pi-7", authorities=ca_pem, current=None)   # doctest: +SKIP
>>> install(identity.certificate, accepted, Disk())                                      # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgewright_agent.clock import to_text
from edgewright_agent.contract import DEVICE_URI, MAX_CERTIFICATE_BYTES
from edgewright_agent.errors import ConfigError, TrustError
from edgewright_agent.files import Disk
from edgewright_agent.identity.key import DeviceKey

_UNREADABLE = (ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension, UnsupportedAlgorithm)
"""What `cryptography` raises over bytes that are no certificate, sooner or later."""


@dataclass(frozen=True)
class Certificate:
    """A certificate for this device's key.

    Attributes:
        pem: The certificate and nothing else.
        serial: Serial number, hex.
        fleet: The fleet that issued it, by its own word; None when it names none.
    """

    pem: bytes
    serial: str
    issuer: str
    fleet: str | None
    start: datetime
    end: datetime


def check(
    pem: bytes, *, key: DeviceKey, device_id: str, authorities: bytes | None, current: bytes | None
) -> Certificate:
    """Return the certificate in `pem` if it may become this device's.

    Args:
        authorities: PEM of the authorities that may have issued it; None: anybody may.
        current: PEM of the present certificate, which the new one must outlive.

    Raises:
        TrustError: `bad-certificate` (not one, not for clients, not for this key, device or authority),
            `certificate-not-newer`.
        ConfigError: `bad-ca-file`: `authorities` cannot be read.
    """
    found = _one(pem)
    try:
        return _checked(found, key, device_id, authorities, current)
    except _UNREADABLE as error:
        # The library reads most of a certificate only when it is asked for it, and a registry can offer any bytes.
        reason = "".join(one if one.isprintable() else "?" for one in str(error)[:120])
        raise TrustError("bad-certificate", f"the certificate makes no sense: {reason}") from None


def _checked(
    found: x509.Certificate, key: DeviceKey, device_id: str, authorities: bytes | None, current: bytes | None
) -> Certificate:
    if _spki(found) != key.public_der:
        raise TrustError("bad-certificate", "the certificate is for another key than this device's")
    if (said := device_of(found)) != device_id:
        raise TrustError("bad-certificate", f"the certificate is for {said!r}; this device is {device_id!r}")
    _check_purpose(found)
    if authorities is not None:
        _check_issuer(found, authorities)
    if current is not None and (present := _readable(current)) is not None:
        same_key = present.spki == key.public_der
        if same_key and found.not_valid_after_utc <= present.end:
            raise TrustError(
                "certificate-not-newer",
                f"the certificate ends {to_text(found.not_valid_after_utc)}, not later than the present one",
            )
    fleet = found.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return Certificate(
        pem=found.public_bytes(serialization.Encoding.PEM),
        serial=f"{found.serial_number:x}",
        issuer=found.issuer.rfc4514_string(),
        fleet=str(fleet[0].value) if fleet else None,
        start=found.not_valid_before_utc,
        end=found.not_valid_after_utc,
    )


def install(path: Path, certificate: Certificate, disk: Disk) -> None:
    """Put a checked certificate in place, whole or not at all; the next connection uses it.

    Raises:
        StorageError: the disk refuses; the present one stays.
    """
    disk.make_dir(path.parent)
    disk.replace_file(path, certificate.pem)


def device_of(certificate: x509.Certificate) -> str | None:
    """Return the device a certificate names twice, as common name and as URI; None unless both agree."""
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        other = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *_UNREADABLE):
        return None
    device_id = str(names[0].value) if len(names) == 1 else ""
    return device_id if list(other) == [x509.UniformResourceIdentifier(DEVICE_URI + device_id)] else None


def _one(pem: bytes) -> x509.Certificate:
    if len(pem) > MAX_CERTIFICATE_BYTES:
        raise TrustError("bad-certificate", f"the certificate has more than {MAX_CERTIFICATE_BYTES} bytes")
    try:
        found = x509.load_pem_x509_certificates(pem)
    except _UNREADABLE:
        raise TrustError("bad-certificate", "this is not a certificate (PEM)") from None
    if len(found) != 1:
        raise TrustError("bad-certificate", f"this holds {len(found)} certificates instead of one")
    return found[0]


@dataclass(frozen=True)
class _Present:
    spki: bytes
    end: datetime


def _readable(pem: bytes) -> _Present | None:
    """Whatever stands in the certificate's place: what cannot be read is no reason to refuse a good one."""
    try:
        found = _one(pem)
        return _Present(_spki(found), found.not_valid_after_utc)
    except (TrustError, *_UNREADABLE):
        return None


def _spki(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except _UNREADABLE:
        raise TrustError("bad-certificate", "the certificate is for a key of an unknown kind") from None


def _check_purpose(found: x509.Certificate) -> None:
    try:
        usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        basic = found.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, *_UNREADABLE):
        raise TrustError("bad-certificate", "the certificate does not say what it is for") from None
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage or basic.ca:
        raise TrustError("bad-certificate", "the certificate is not one for a TLS client")


def _check_issuer(found: x509.Certificate, authorities: bytes) -> None:
    try:
        trusted = x509.load_pem_x509_certificates(authorities)
    except ValueError:
        raise ConfigError("bad-ca-file", "identity.ca holds no certificates (PEM)") from None
    for authority in trusted:
        try:
            basic = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
            found.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
            continue
        if basic.ca and found.not_valid_after_utc <= authority.not_valid_after_utc:
            return
    raise TrustError("bad-certificate", "the certificate was not issued by an authority in identity.ca")
