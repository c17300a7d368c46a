"""Encrypted layers: the content key out of a JWE with this device's private key, and the plaintext as a stream.

>>> key = unwrap(layer, load_keys(config.decryption))               # doctest: +SKIP
>>> for piece in decrypted(part, layer, key): file.write(piece)     # doctest: +SKIP

The form is that of containers/ocicrypt (`keywrap/jwe`, `blockcipher/blockcipher_aes_ctr.go`): one or more JWE in JSON
serialization (RFC 7516) whose content is `{symkey, digest, cipheroptions: {nonce}}`, and AES-256-CTR with HMAC-SHA256
over the ciphertext. Of JOSE what ocicrypt writes is read and no more: RSA-OAEP and ECDH-ES+A256KW around A256GCM.

By the time anything here runs, the annotations have been signed by the fleet and the ciphertext has its signed digest.
All the same every field is bounded before it is decoded, and nothing is decrypted that is not authenticated.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent.artifact import Layer
from edgewright_agent.contract import ENCRYPTION_CIPHER, MAX_RECIPIENTS, is_digest
from edgewright_agent.errors import ConfigError, TrustError
from edgewright_agent.files import faults
from edgewright_agent.transport.document import parse_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    PrivateKey = EllipticCurvePrivateKey | RSAPrivateKey

READ_BYTES = 64 * 1024
KEY_BYTES = 32  # AES-256
NONCE_BYTES = 16  # the first counter block of AES-CTR
MAX_KEY_FILE_BYTES = 16 * 1024
MAX_TOKENS = 8  # JWEs of one layer; ocicrypt appends one when recipients are added later
MAX_CONTENT_BYTES = 4096  # of a JWE; ocicrypt's has 160
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
_RSA, _EC = "RSA-OAEP", "ECDH-ES+A256KW"
_FOREIGN = frozenset({"zip", "crit", "b64"})  # header fields that change the meaning of the rest


@dataclass(frozen=True)
class ContentKey:
    """What opens one layer; never shown.

    Attributes:
        key: AES-256 key, also that of the HMAC.
        nonce: First counter block.
        authentication: HMAC-SHA256 that the ciphertext must have.
    """

    key: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    authentication: bytes = field(repr=False)


@dataclass(frozen=True)
class _Recipient:
    header: Mapping[str, Any]
    encrypted_key: bytes


@dataclass(frozen=True)
class _Token:
    """A JWE: recipients, and what AES-GCM needs."""

    recipients: tuple[_Recipient, ...]
    protected: bytes
    iv: bytes
    ciphertext: bytes
    tag: bytes


# --- this device's keys -----------------------------------------------------------------------------------------


def load_keys(paths: Sequence[Path]) -> tuple[PrivateKey, ...]:
    """Read this device's private keys: EC P-256 or RSA, PEM without passphrase, readable by nobody else.

    Raises:
        ConfigError: `bad-key`, naming the file and what to do; nothing of the key is shown.
    """
    return tuple(_load_key(path) for path in paths)


def _load_key(path: Path) -> PrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    try:
        with path.open("rb") as file:
            state = os.fstat(
                file.fileno()
            )  # of the file that is read, whatever its name means a moment later
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise _bad_key(path, f"cannot be read: {error.strerror}") from error
    if not _is_private(state.st_mode, state.st_uid):
        mode = stat.S_IMODE(state.st_mode)
        raise _bad_key(path, f"can be read or changed by others (mode {mode:04o}): chmod 600 {path}")
    if len(data) > MAX_KEY_FILE_BYTES:
        raise _bad_key(path, f"has more than {MAX_KEY_FILE_BYTES} bytes, so it is no key")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError:
        raise _bad_key(path, "has a passphrase, and nobody is there to type it: take it off") from None
    except Exception:  # noqa: BLE001  cryptography has errors of its own; their text may quote the file
        raise _bad_key(path, "is not a private key in PEM form") from None
    if isinstance(key, rsa.RSAPrivateKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise _bad_key(path, f"is neither an EC P-256 key nor an RSA key of {MIN_RSA_BITS} bits and more")


def _is_private(mode: int, owner: int) -> bool:
    """Whether only this user can read a file; or root's, lent for reading (systemd's LoadCredential shows 0440)."""
    return not mode & 0o077 or (owner == 0 and not mode & 0o037)


def _bad_key(path: Path, what: str) -> ConfigError:
    return ConfigError("bad-key", f"decryption.keys: {path} {what}")


# --- the content key --------------------------------------------------------------------------------------------


def unwrap(layer: Layer, keys: Sequence[PrivateKey]) -> ContentKey:
    """Return what opens an encrypted layer.

    Raises:
        TrustError: `no-decryption-key`: it is encrypted for others; `bad-manifest`: not as ocicrypt encrypts.
    """
    if layer.sealed is None:
        raise ValueError(f"{layer.file} is not encrypted")
    authentication = _public_options(layer)
    written = layer.sealed.keys.split(",")
    if len(written) > MAX_TOKENS:
        raise _bad(layer, f"has more than {MAX_TOKENS} wrapped keys")
    tokens = [_token(layer, text) for text in written]
    if sum(len(token.recipients) for token in tokens) > MAX_RECIPIENTS:
        raise _bad(layer, f"is for more than {MAX_RECIPIENTS} recipients")
    for token in tokens:
        for recipient in token.recipients:
            for key in keys:
                if (opener := _content_encryption_key(recipient, key)) is not None:
                    return _private_options(layer, _open(layer, token, opener), authentication)
    raise TrustError(
        "no-decryption-key",
        f"{layer.file} is encrypted, and this device has none of the keys that open it"
        + ("" if keys else ": name its private key under decryption.keys"),
    )


def _token(layer: Layer, text: str) -> _Token:
    """Parse a JWE: general or flattened JSON serialization (RFC 7516, 7.2)."""
    document = _object(layer, _standard(layer, text, "the wrapped key"), "the wrapped key")
    if "aad" in document or "unprotected" in document:
        raise _bad(layer, "has a JWE with fields that ocicrypt does not write")
    protected = document.get("protected")
    if not isinstance(protected, str):
        raise _bad(layer, "has a JWE without a protected header")
    header = _object(layer, _url(layer, protected), "a JWE header")
    if header.get("enc") != "A256GCM" or _FOREIGN & header.keys():
        raise _bad(layer, "has a JWE that is not under A256GCM alone")
    # go-jose repeats the first recipient's key at the top, so its presence beside "recipients" says nothing.
    entries = document.get("recipients", [document])
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_RECIPIENTS:
        raise _bad(layer, f"has a JWE without 1 to {MAX_RECIPIENTS} recipients")
    token = _Token(
        tuple(_recipient(layer, entry, header) for entry in entries),
        protected.encode("ascii"),
        *(_url(layer, document.get(name)) for name in ("iv", "ciphertext", "tag")),
    )
    if len(token.iv) != 12 or len(token.tag) != 16 or len(token.ciphertext) > MAX_CONTENT_BYTES:
        raise _bad(layer, "has a JWE with an initialization vector, tag or content of a wrong size")
    return token


def _recipient(layer: Layer, entry: Any, protected: Mapping[str, Any]) -> _Recipient:
    own = entry.get("header", {}) if isinstance(entry, dict) else None
    # RFC 7516, 4: a name may stand in one header only, or two readers may read two algorithms.
    if not isinstance(own, dict) or own.keys() & protected.keys() or _FOREIGN & own.keys():
        raise _bad(layer, "has a JWE with a contradictory header")
    return _Recipient({**protected, **own}, _url(layer, entry.get("encrypted_key")))


def _content_encryption_key(recipient: _Recipient, key: PrivateKey) -> bytes | None:
    """Return the key of the JWE's content; None when this recipient is somebody else."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    algorithm = recipient.header.get("alg")
    if isinstance(key, RSAPrivateKey):
        return _rsa_oaep(recipient, key) if algorithm == _RSA else None
    return _ecdh_es(recipient, key) if algorithm == _EC else None


def _rsa_oaep(recipient: _Recipient, key: RSAPrivateKey) -> bytes | None:
    """RFC 7518, 4.3: RSAES-OAEP with its default parameters, SHA-1 and MGF1 with SHA-1."""
    from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
    from cryptography.hazmat.primitives.hashes import SHA1

    if len(recipient.encrypted_key) * 8 != key.key_size:
        return None
    try:
        # SHA-1's collisions do not matter in OAEP; it is the form that every ocicrypt reads and writes.
        found = key.decrypt(recipient.encrypted_key, OAEP(MGF1(SHA1()), SHA1(), None))  # noqa: S303
    except ValueError:
        return None
    return found if len(found) == KEY_BYTES else None


def _ecdh_es(recipient: _Recipient, key: EllipticCurvePrivateKey) -> bytes | None:
    """RFC 7518, 4.6: ECDH-ES with Concat KDF, then AES key wrap (RFC 3394)."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    header = recipient.header
    ephemeral = header.get("epk")
    if not isinstance(ephemeral, dict) or (ephemeral.get("kty"), ephemeral.get("crv")) != ("EC", "P-256"):
        return None
    if len(recipient.encrypted_key) != KEY_BYTES + 8:
        return None
    try:
        x, y, apu, apv = (
            _decode_url(text)
            for text in (ephemeral.get("x"), ephemeral.get("y"), header.get("apu", ""), header.get("apv", ""))
        )
        if len(x) != 32 or len(y) != 32:
            return None
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), key.curve)
        shared = key.exchange(ec.ECDH(), numbers.public_key())  # a point off the curve is a ValueError
        parties = b"".join(len(part).to_bytes(4, "big") + part for part in (_EC.encode(), apu, apv))
        information = parties + (8 * KEY_BYTES).to_bytes(4, "big")
        wrapping = ConcatKDFHash(SHA256(), KEY_BYTES, information).derive(shared)
        return aes_key_unwrap(wrapping, recipient.encrypted_key)
    except (ValueError, InvalidUnwrap):
        return None


def _open(layer: Layer, token: _Token, key: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(token.iv, token.ciphertext + token.tag, token.protected)
    except InvalidTag:
        raise _bad(layer, "has a JWE whose content was changed") from None


def _private_options(layer: Layer, content: bytes, authentication: bytes) -> ContentKey:
    options = _object(layer, content, "the content of a JWE")
    cipher_options = options.get("cipheroptions")
    if not isinstance(cipher_options, dict):
        raise _bad(layer, "has no nonce")
    key = _standard(layer, options.get("symkey"), "its key")
    nonce = _standard(layer, cipher_options.get("nonce"), "its nonce")
    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise _bad(layer, "has a key or a nonce of a wrong size")
    digest = options.get("digest")
    if not is_digest(digest) or not (layer.packed or digest == layer.file_digest):
        raise _bad(layer, "was made from another file than the manifest names")
    return ContentKey(key, nonce, authentication)


def _public_options(layer: Layer) -> bytes:
    """Return the HMAC of the ciphertext."""
    assert layer.sealed is not None  # noqa: S101  the caller asked
    what = "the cipher options"
    options = _object(layer, _standard(layer, layer.sealed.options, what), what)
    if options.get("cipher") != ENCRYPTION_CIPHER:
        raise _bad(layer, f"is not encrypted with {ENCRYPTION_CIPHER}, which is all this agent knows")
    if options.get("cipheroptions"):
        raise _bad(layer, "has public cipher options, which would take the place of the private ones")
    authentication = _standard(layer, options.get("hmac"), "its HMAC")
    if len(authentication) != hashlib.sha256().digest_size:
        raise _bad(layer, "has an HMAC of a wrong size")
    return authentication


# --- the plaintext ----------------------------------------------------------------------------------------------


def decrypted(part: Path, layer: Layer, key: ContentKey) -> Iterator[bytes]:
    """Yield the plaintext of a downloaded layer in pieces of bounded size; whoever takes them must wait for the end.

    Raises:
        TrustError: `digest-mismatch`, after the last piece: the ciphertext has not the HMAC that was signed.
        StorageError: the file cannot be read.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CTR

    stream = Cipher(AES(key.key), CTR(key.nonce)).decryptor()
    authentication = hmac.new(key.key, digestmod=hashlib.sha256)
    with faults(part, "read"), part.open("rb") as file:
        while data := file.read(READ_BYTES):
            authentication.update(data)
            yield stream.update(data)
    if not hmac.compare_digest(authentication.digest(), key.authentication):
        raise TrustError(
            "digest-mismatch", f"the ciphertext of {layer.file} has not the HMAC that was signed"
        )


# --- encodings --------------------------------------------------------------------------------------------------


def _object(layer: Layer, data: bytes, what: str) -> dict[str, Any]:
    try:
        document = parse_json(data, what)
    except ValueError as error:
        raise _bad(layer, f"is encrypted in a form that makes no sense: {error}") from None
    if not isinstance(document, dict):
        raise _bad(layer, f"is encrypted in a form that makes no sense: {what} is no object")
    return document


def _standard(layer: Layer, text: object, what: str) -> bytes:
    """Decode base64 as Go's encoding/json writes bytes (RFC 4648, 4)."""
    try:
        if not isinstance(text, str):
            raise ValueError("no text")
        return base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        raise _bad(layer, f"is encrypted in a form that makes no sense: {what} is not base64") from None


def _url(layer: Layer, text: object) -> bytes:
    try:
        return _decode_url(text)
    except ValueError:
        raise _bad(layer, "has a JWE with a field that is not base64url") from None


def _decode_url(text: object) -> bytes:
    """Decode base64url without padding (RFC 7515, 2)."""
    if not isinstance(text, str) or "=" in text or "+" in text or "/" in text:
        raise ValueError("not base64url")
    plain = text.encode("ascii") + b"=" * (-len(text) % 4)
    try:
        return base64.b64decode(plain, altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error


def _bad(layer: Layer, what: str) -> TrustError:
    return TrustError("bad-manifest", f"the layer of {layer.file} {what}")
