"""The keys of a fleet: one that signs artifacts, and one per TUF role, each with one purpose.

>>> create_keys(Path(".edgewright/keys"))           # doctest: +SKIP
>>> load_role_signer(Path(".edgewright/keys"), "targets", None)   # doctest: +SKIP
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
from securesystemslib.signer import CryptoSigner, SSlibKey

from edgewright.errors import TrustError
from edgewright.publish.durable import storage, sync_folder, write_file
from edgewright.trust.signing_key import (
    KEYS_HINT,
    fingerprint,
    load_public_key,
    parse_private_key,
    spki_der,
)
from edgewright_agent.contract import ROLE_ROLLOUT

MAX_PASSPHRASE_BYTES = 1023
SIGNING = "signing"
PURPOSES: Mapping[str, str] = {
    SIGNING: "signs artifacts and gate reports; devices and cosign pin it",
    "root": "names the other TUF keys; keep it offline after the first release",
    "targets": "says which artifacts exist",
    ROLE_ROLLOUT: "says which devices should run which of them",
    "snapshot": "ties the versions of all metadata together",
    "timestamp": "says how fresh that is; used most often",
}
ROLES = tuple(name for name in PURPOSES if name != SIGNING)


@dataclass(frozen=True)
class KeySummary:
    """A key as people compare it.

    Attributes:
        name: `signing` or a TUF role.
        purpose: What it may do.
        algorithm: `ecdsa-p256` or `ed25519`.
        fingerprint: sha256 of the SubjectPublicKeyInfo, hex.
        path: Private key file.
        private: `encrypted`, `plain` or `absent` (kept elsewhere).
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
    folder: Path, *, signing_passphrase: str | None = None, role_passphrase: str | None = None
) -> tuple[KeySummary, ...]:
    """Create every key of a fleet, or none: the folder appears by one rename when all are written.

    Private keys are PKCS#8 PEM, mode 0600, in a folder of mode 0700. Artifacts are signed with ECDSA P-256,
    which cosign takes; TUF roles with Ed25519, whose signatures are deterministic.

    Raises:
        TrustError: the folder holds something already; keys are never overwritten.
        EnvironmentFault: the folder cannot be written.
    """
    with storage("create", folder):
        if folder.exists() and any(folder.iterdir()):
            raise TrustError(
                f"{folder} is not empty, and keys are never overwritten",
                hint="`edgewright keys show` says what is there; to start anew, move that folder away first",
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name in PURPOSES:
                passphrase = signing_passphrase if name == SIGNING else role_passphrase
                _write_pair(made, name, passphrase)
            made.replace(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        sync_folder(folder.parent)
    return describe_keys(folder)


def describe_keys(folder: Path) -> tuple[KeySummary, ...]:
    """Return what is known about the keys in `folder` from their public halves; asks for no passphrase.

    Raises:
        TrustError: there are no keys, or a public half is missing or broken.
    """
    if not folder.is_dir():
        raise TrustError(f"there are no keys in {folder}", hint=KEYS_HINT)
    return tuple(_summary(folder, name) for name in PURPOSES)


def load_role_signer(folder: Path, role: str, passphrase: str | None) -> CryptoSigner:
    """Return what signs metadata of one TUF role.

    Raises:
        TrustError: the key is missing, locked or not usable for TUF.
    """
    path = folder / f"{role}.key"
    if not path.is_file():
        hint = f"put {path.name} back into {folder}" if folder.is_dir() else KEYS_HINT
        raise TrustError(f"the key of the TUF role {role} is missing: {path}", hint=hint)
    with storage("read", path):
        pem = path.read_bytes()
    private = parse_private_key(
        pem, passphrase, what=f"the key of the TUF role {role}", setting="trust.passphrase"
    )
    try:
        return CryptoSigner(private)
    except ValueError as error:
        raise TrustError(f"{path} is not a key TUF can use: {error}") from error


def role_public_key(folder: Path, role: str) -> SSlibKey:
    """Return the public half of a TUF role's key, as metadata names it.

    Raises:
        TrustError: the file is missing or broken.
    """
    return SSlibKey.from_crypto(load_public_key(folder / f"{role}.pub"))


def _write_pair(folder: Path, name: str, passphrase: str | None) -> None:
    private = (
        ec.generate_private_key(ec.SECP256R1()) if name == SIGNING else ed25519.Ed25519PrivateKey.generate()
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


def _summary(folder: Path, name: str) -> KeySummary:
    public = load_public_key(folder / f"{name}.pub")
    path = folder / f"{name}.key"
    private = "absent"
    if path.is_file() and os.access(path, os.R_OK):
        private = "encrypted" if b"ENCRYPTED" in path.read_bytes() else "plain"
    algorithm = "ecdsa-p256" if isinstance(public, ec.EllipticCurvePublicKey) else "ed25519"
    return KeySummary(name, PURPOSES[name], algorithm, fingerprint(spki_der(public)), str(path), private)
