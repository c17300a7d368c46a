"""The keys at hand: what can sign here and now, from files, hardware tokens and key services.

>>> ring = KeyRing.of(workspace)                       # doctest: +SKIP
>>> ring.absence("root")                               # doctest: +SKIP
'root.key is not in .edgewright/keys'
>>> ring.signer(ring.public("timestamp"))              # doctest: +SKIP

Keys that are no files are reached through securesystemslib's signers by their address: `hsm:` is PKCS #11 (the
module is named by the environment variable PYKCS11LIB, the PIN by `trust.pin`), tried with SoftHSM in this
project's tests. `gcpkms:`, `awskms:`, `azurekms:` and `hv:` are cloud and Vault key services: they go the same
way, but no such service can run beside the tests, so nobody has tried them here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from securesystemslib.exceptions import UnsupportedAlgorithmError, UnsupportedLibraryError
from securesystemslib.signer import CryptoSigner, HSMSigner, Key, Signature, Signer, SSlibKey

from edgewright.errors import TrustError
from edgewright.trust.keys import load_role_signer
from edgewright.trust.roles import addresses
from edgewright.trust.secret import read_line
from edgewright.trust.signing_key import KEYS_HINT, fingerprint, load_public_key, spki_der
from edgewright_agent.contract import KEY_NAME_FIELD, is_name

if TYPE_CHECKING:
    from edgewright.spec.workspace import Workspace

MODULE_VARIABLE = "PYKCS11LIB"
"""Names the PKCS #11 module (a shared library) of the token."""

_INSTALL = {"hsm": "hsm", "gcpkms": "gcp", "awskms": "aws", "azurekms": "azure"}


@dataclass(frozen=True)
class KeyRing:
    """The key folder and the addresses in fleet.yaml.

    Attributes:
        folder: Folder of `<name>.key` and `<name>.pub`.
        uris: Name → address of keys that are no files.
        passphrase: Returns the passphrase of key files, None when they have none; asked only to sign.
        pin: Returns the PIN of the token; asked only to sign.
    """

    folder: Path
    uris: Mapping[str, str]
    passphrase: Callable[[], str | None]
    pin: Callable[[], str]
    _names: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, workspace: Workspace) -> KeyRing:
        """Return the ring of a fleet."""
        trust, root = workspace.fleet.trust, workspace.root

        def passphrase() -> str | None:
            if trust.passphrase is None:
                return None
            return read_line(trust.passphrase, root, what="the passphrase of the role keys")

        def pin() -> str:
            if trust.pin is None:
                raise TrustError(
                    "the token that holds a role key asks for its PIN",
                    hint="name it in fleet.yaml, by reference: trust.pin: env:HSM_PIN",
                )
            return read_line(trust.pin, root, what="the PIN of the token")

        return cls(root / trust.keys, addresses(trust), passphrase, pin)

    def public(self, name: str) -> SSlibKey:
        """Return the public half of a key, as metadata names it.

        Raises:
            TrustError: the file is missing or broken.
        """
        try:
            key = SSlibKey.from_crypto(load_public_key(self.folder / f"{name}.pub"))
        except (ValueError, UnsupportedAlgorithmError) as error:
            raise TrustError(f"{self.folder / name}.pub is not a key TUF can use: {error}") from error
        key.unrecognized_fields[KEY_NAME_FIELD] = name
        return key

    def name_of(self, key: Key) -> str:
        """Return what people call a key: its file's name here, else the name metadata gives it, else its id."""
        named = key.unrecognized_fields.get(KEY_NAME_FIELD)
        return self._known().get(key.keyid) or (str(named) if is_name(named) else key.keyid[:12])

    def absence(self, name: str) -> str | None:
        """Return why a key cannot sign here; None when it can."""
        uri = self.uris.get(name)
        if uri is None:
            there = (self.folder / f"{name}.key").is_file()
            return None if there else f"{name}.key is not in {self.folder.name}"
        return _token_absence(uri) if uri.startswith("hsm:") else None

    def has(self, key: Key) -> bool:
        """Whether a key can sign here."""
        return self.absence(self.name_of(key)) is None

    def owns(self, keyid: str) -> bool:
        """Whether a key can sign here, told by its id: the name that metadata gives it is anybody's choice."""
        name = self._known().get(keyid)
        return name is not None and self.absence(name) is None

    def signer(self, key: Key, role: str) -> Signer:
        """Return what signs with `key`.

        Args:
            key: As metadata names it.
            role: The role it signs, for errors.

        Raises:
            TrustError: the key is missing or locked, or is another one.
        """
        name = self.name_of(key)
        uri = self.uris.get(name)
        if uri is not None:
            return _Remote(name, uri, key, self.pin)
        signer: CryptoSigner = load_role_signer(self.folder, name, self.passphrase(), role=role)
        if signer.public_key.keyid != key.keyid:
            raise TrustError(
                f"the key in {name}.key is not the one the metadata names for {role}",
                hint="use the keys this repository was created with; `edgewright keys show` lists them",
            )
        return signer

    def _known(self) -> Mapping[str, str]:
        """Return the id of every public half in the folder → its name."""
        if not self._names:
            for path in sorted(self.folder.glob("*.pub")):
                try:
                    self._names.setdefault(self.public(path.stem).keyid, path.stem)
                except TrustError:  # another kind of file is no role's key
                    continue
        return self._names


class _Remote(Signer):
    """A key in a token or a service; whatever its library meets becomes one sentence."""

    def __init__(self, name: str, uri: str, key: Key, pin: Callable[[], str]) -> None:
        self._name, self._uri, self._key, self._pin = name, uri, key, pin

    @property
    def public_key(self) -> Key:
        return self._key

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: object = None) -> Signer:
        raise NotImplementedError

    def sign(self, payload: bytes) -> Signature:
        pin = self._pin() if self._uri.startswith("hsm:") else ""
        try:
            signer = Signer.from_priv_key_uri(self._uri, self._key, lambda _what: pin)
            signature = signer.sign(payload)
        except UnsupportedLibraryError as error:
            raise TrustError(f"the key {self._name} needs {error}", hint=_install(self._uri)) from error
        except Exception as error:  # noqa: BLE001 - each service has its own errors, and no user wants their tracebacks
            raise TrustError(
                f"the key {self._name} ({self._uri}) cannot sign: {_said(error)}", hint=_look(self._uri)
            ) from error
        try:
            self._key.verify_signature(signature, payload)
        except Exception as error:  # noqa: BLE001 - as above
            raise TrustError(
                f"what signs at {self._uri} is not the key in {self._name}.pub: its signature does not verify"
            ) from error
        return signature


def import_token_key(name: str, uri: str, folder: Path, pin: Callable[[], str]) -> Path:
    """Write the public half of a key in a PKCS #11 token as `<name>.pub`.

    Raises:
        TrustError: the address is no `hsm:` one, the token or the key is not there, or `<name>.pub` is another key.
    """
    from edgewright.publish.durable import write_file

    path = folder / f"{name}.pub"
    if not uri.startswith("hsm:"):
        raise TrustError(
            f"the public half of {name} has to be fetched with the tools of its service",
            hint=f"save it as PEM: {path}",
        )
    if why := _token_absence(uri):
        raise TrustError(f"the key {name} cannot be read from its token: {why}")
    number, label = _token(uri)
    try:
        _, key = HSMSigner.import_(number, label, lambda _what: pin())
    except TrustError:
        raise
    except Exception as error:  # noqa: BLE001 - tokens have their own errors
        raise TrustError(
            f"the key {name} cannot be read from {uri}: {_said(error)}",
            hint="it has to be an ECDSA P-256 or P-384 pair with that id; `pkcs11-tool -O` lists what is there",
        ) from error
    pem = str(key.keyval["public"]).encode()
    if path.exists() and spki_der(load_public_key(path)) != _der(pem):
        raise TrustError(f"{path} is another key than the one at {uri}, and keys are never overwritten")
    write_file(path, pem if pem.endswith(b"\n") else pem + b"\n")
    return path


def key_fingerprint(key: Key) -> str:
    """Return how people compare a key of metadata: sha256 of its SubjectPublicKeyInfo, hex (as `keys show`)."""
    if not isinstance(key, SSlibKey):
        return str(key.keyid)
    return fingerprint(spki_der(key._crypto_key()))


def _der(pem: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    return spki_der(load_pem_public_key(pem))


def _token(uri: str) -> tuple[int | None, str | None]:
    parts = urlsplit(uri)
    if parts.path and not parts.path.isdigit():
        raise TrustError(f"{uri} is not hsm:[ID][?label=TOKEN], with a number as ID")
    return (int(parts.path) if parts.path else None), dict(parse_qsl(parts.query)).get("label")


def _token_absence(uri: str) -> str | None:
    module = os.environ.get(MODULE_VARIABLE)
    if not module:
        return f"{MODULE_VARIABLE} names no PKCS #11 module"
    if not Path(module).is_file():
        return f"{MODULE_VARIABLE} names {module}, which is not there"
    try:
        import pkcs11
    except ImportError:
        return f"python-pkcs11 is not installed ({_install(uri)})"
    label = _token(uri)[1]
    try:
        pkcs11.lib(module).get_token(token_label=label, token_flags=pkcs11.TokenFlag.TOKEN_INITIALIZED)
    except Exception as error:  # noqa: BLE001 - whatever a module meets, the token is not at hand
        return f"no token{f' {label}' if label else ''} at {module} ({_said(error)})"
    return None


def _install(uri: str) -> str:
    extra = _INSTALL.get(uri.partition(":")[0])
    return f'pip install "edgewright[{extra}]"' if extra else KEYS_HINT


def _look(uri: str) -> str:
    if uri.startswith("hsm:"):
        return "is the right token plugged in, trust.pin its PIN, and the number its key's id?"
    return "may this machine's account use that key?"


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
