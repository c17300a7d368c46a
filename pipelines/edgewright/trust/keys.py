"""The keys of a fleet: one that signs artifacts, and one per TUF role, each with one purpose.

>>> create_keys(Path(".edgewright/keys"))           # doctest: +SKIP
>>> load_role_signer(Path(".edgewright/keys"), "targets", None)   # doctest: +SKIP

Keys that a token or a key service holds have only their public half here (see `edgewright.trust.signers`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from securesystemslib.signer import CryptoSigner

from edgewright.errors import TrustError
from edgewright.publish.durable import storage, sync_folder, write_file
from edgewright.trust.roles import PURPOSES, SIGNING
from edgewright.trust.signing_key import (
    KEYS_HINT,
    fingerprint,
    load_public_key,
    parse_private_key,
    spki_der,
)

MAX_PASSPHRASE_BYTES = 1023
ROLES = tuple(name for name in PURPOSES if name != SIGNING)


@dataclass(frozen=True)
class KeySummary:
    """A key as people compare it.

    Attributes:
        name: `signing`, or the name of a role's key (by default the role's).
        purpose: What it may do.
        algorithm: `ecdsa-p256`, `ed25519`, …
        fingerprint: sha256 of the SubjectPublicKeyInfo, hex.
        path: Private key file.
        private: `encrypted`, `plain`, `absent` (kept elsewhere) or the address of its token or service.
    """

    name: str
    purpose: str
    algorithm: str
    fingerprint: str
    path: str
    private: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def create_keys(
    folder: Path,
    *,
    signing_passphrase: str | None = None,
    role_passphrase: str | None = None,
    purposes: Mapping[str, str] = PURPOSES,
    addresses: Mapping[str, str] | None = None,
) -> tuple[KeySummary, ...]:
    """Create every key of a fleet, or none: the folder appears by one rename when all are written.

    Private keys are PKCS#8 PEM, mode 0600, in a folder of mode 0700. Artifacts are signed with ECDSA P-256,
    which cosign takes; TUF roles with Ed25519, whose signatures are deterministic.

    Args:
        folder: Where; empty or not there.
        signing_passphrase: Encrypts the signing key.
        role_passphrase: Encrypts the keys of the roles.
        purposes: Names of the keys, and what each is for.
        addresses: Keys that are somewhere else, which are not made.

    Raises:
        TrustError: the folder holds something already; keys are never overwritten.
        EnvironmentFault: the folder cannot be written.
    """
    elsewhere = addresses or {}
    with storage("create", folder):
        if folder.exists() and any(folder.iterdir()):
            raise TrustError(
                f"{folder} is not empty, and keys are never overwritten",
                hint="`edgewright keys show` says what is there, `edgewright keys new NAME` adds one; to start anew,"
                " move that folder away first",
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name in purposes:
                if name not in elsewhere:
                    _write_pair(made, name, signing_passphrase if name == SIGNING else role_passphrase)
            made.replace(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        sync_folder(folder.parent)
    here = {name: purpose for name, purpose in purposes.items() if name not in elsewhere}
    return describe_keys(folder, here)


def is_signing(name: str) -> bool:
    """Whether a key of this name signs artifacts: `signing`, and what comes in its place (`signing-2`)."""
    return name == SIGNING or name.startswith(f"{SIGNING}-")


def create_key(folder: Path, name: str, passphrase: str | None, *, purpose: str | None = None) -> KeySummary:
    """Add one key to a folder, which is created when it is not there.

    Args:
        folder: Where.
        name: Its name; one that signs artifacts (see `is_signing`) is ECDSA P-256, any other Ed25519.
        passphrase: Encrypts it.
        purpose: What it is for, as people are told.

    Raises:
        TrustError: there is such a key already.
        EnvironmentFault: the folder cannot be written.
    """
    with storage("create", folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for kind in ("key", "pub"):
            if (folder / f"{name}.{kind}").exists():
                raise TrustError(
                    f"{folder / name}.{kind} is there already, and keys are never overwritten",
                    hint="choose another name: a new key is another key, and devices are told so",
                )
        _write_pair(folder, name, passphrase)
    return _summary(folder, name, purpose or PURPOSES.get(name, "new"), None)


def next_name(folder: Path, name: str) -> str:
    """Return the name of a key that follows `name`: `timestamp` → `timestamp-2` → `timestamp-3`."""
    base, _, number = name.rpartition("-")
    stem = base if base and number.isdigit() else name
    count = 2
    while any((folder / f"{stem}-{count}.{kind}").exists() for kind in ("key", "pub")):
        count += 1
    return f"{stem}-{count}"


def describe_keys(
    folder: Path, purposes: Mapping[str, str] = PURPOSES, addresses: Mapping[str, str] | None = None
) -> tuple[KeySummary, ...]:
    """Return what is known about the keys in `folder` from their public halves; asks for no passphrase.

    Raises:
        TrustError: there are no keys, or a public half is missing or broken.
    """
    if not folder.is_dir():
        raise TrustError(f"there are no keys in {folder}", hint=KEYS_HINT)
    elsewhere = addresses or {}
    return tuple(_summary(folder, name, what, elsewhere.get(name)) for name, what in purposes.items())


def describe_folder(
    folder: Path, purposes: Mapping[str, str], addresses: Mapping[str, str] | None = None
) -> tuple[tuple[KeySummary, ...], tuple[str, ...]]:
    """Return every key whose public half is in `folder`, those with a purpose first, and which of those are missing.

    Whoever holds one key of several has only some of the others, and a key that was replaced stays in the folder.

    Raises:
        TrustError: there are no keys, or a public half is broken.
    """
    there = {path.stem for path in folder.glob("*.pub")} if folder.is_dir() else set()
    named = {name: what for name, what in purposes.items() if name in there}
    others = {name: "nothing signs with it now" for name in sorted(there - named.keys())}
    keys = describe_keys(folder, {**named, **others}, addresses)
    if not keys:
        raise TrustError(f"there are no keys in {folder}", hint=KEYS_HINT)
    return keys, tuple(name for name in purposes if name not in there)


def load_role_signer(
    folder: Path, name: str, passphrase: str | None, *, role: str | None = None
) -> CryptoSigner:
    """Return what signs metadata with a key file.

    Args:
        folder: Where keys are.
        name: Name of the key.
        passphrase: None for a key in the clear.
        role: The role it signs, for errors; the key's name when absent.

    Raises:
        TrustError: the key is missing, locked or not usable for TUF.
    """
    path = folder / f"{name}.key"
    what = f"the key of the TUF role {role or name}"
    if not path.is_file():
        hint = f"put {path.name} back into {folder}" if folder.is_dir() else KEYS_HINT
        raise TrustError(f"{what} is missing: {path}", hint=hint)
    with storage("read", path):
        pem = path.read_bytes()
    private = parse_private_key(pem, passphrase, what=what, setting="trust.passphrase")
    try:
        return CryptoSigner(private)
    except ValueError as error:
        raise TrustError(f"{path} is not a key TUF can use: {error}") from error


def _write_pair(folder: Path, name: str, passphrase: str | None) -> None:
    private = (
        ec.generate_private_key(ec.SECP256R1()) if is_signing(name) else ed25519.Ed25519PrivateKey.generate()
    )
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        if len(passphrase.encode()) > MAX_PASSPHRASE_BYTES:
            raise TrustError(
                f"the passphrase is longer than {MAX_PASSPHRASE_BYTES} bytes, the most PKCS #8 tools take"
            )
        lock = serialization.BestAvailableEncryption(passphrase.encode())
    pem = serialization.Encoding.PEM
    write_file(
        folder / f"{name}.key",
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, lock),
        mode=0o600,
    )
    public = private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_file(folder / f"{name}.pub", public)


def _summary(folder: Path, name: str, purpose: str, address: str | None) -> KeySummary:
    public = load_public_key(folder / f"{name}.pub")
    path = folder / f"{name}.key"
    private = address or "absent"
    if address is None and path.is_file() and os.access(path, os.R_OK):
        private = "encrypted" if b"ENCRYPTED" in path.read_bytes() else "plain"
    print_ = fingerprint(spki_der(public))
    return KeySummary(name, purpose, _algorithm(public), print_, str(path), private)


def _algorithm(public: Any) -> str:
    if isinstance(public, ec.EllipticCurvePublicKey):
        return {"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384"}.get(public.curve.name, "ecdsa")
    return "ed25519" if isinstance(public, ed25519.Ed25519PublicKey) else "rsa"
