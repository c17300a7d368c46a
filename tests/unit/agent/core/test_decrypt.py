"""Encrypted layers on a device: opened by its own key only, believed only when everything authenticates."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright_agent import decrypt
from edgewright_agent.artifact import Layer, parse
from edgewright_agent.contract import MAX_RECIPIENTS, digest_of
from edgewright_agent.decrypt import decrypted, load_keys, unwrap
from edgewright_agent.download import fetch
from edgewright_agent.errors import AgentError, ConfigError, StorageError, TrustError
from edgewright_agent.files import Calls, Disk, Free
from unit.agent.core.sealing import (
    Key,
    encode,
    make_key,
    rsa_key,
    seal,
    wrapped,
    write_private,
)
from unit.agent.core.test_unpack import tarred
from unit.agent.core.workbench import DyingCalls, PowerCut, Shelf, make_artifact

DATA = b"weights of a model, " * 5000
EC = make_key()
OTHER = make_key()


def install(folder: Path, layer: Layer, blob: bytes, *keys: Key, disk: Disk | None = None) -> Shelf:
    """Fetch and open one layer into a folder as the update does."""
    shelf = Shelf(blobs={layer.digest: blob})
    fetch(
        shelf, "digit-reader", layer, folder, disk or Disk(), reserve_bytes=0, key=unwrap(layer, list(keys))
    )
    return shelf


def refused(layer: Layer, *keys: Key) -> TrustError:
    with pytest.raises(TrustError) as caught:
        unwrap(layer, list(keys))
    return caught.value


def with_jwe(change: Callable[[dict[str, Any]], Any], *keys: Key) -> Layer:
    """A layer whose JWE was changed by somebody."""

    def spoil(text: str) -> str:
        document = json.loads(base64.b64decode(text))
        change(document)
        return encode(json.dumps(document).encode())

    return seal(DATA, keys or (EC,), jwe=spoil)[0]


def url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


# --- what opens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [EC, rsa_key()], ids=["ec", "rsa"])
def test_the_holder_of_the_key_gets_the_file_and_nothing_else_is_left(tmp_path: Path, key: Key) -> None:
    layer, blob = seal(DATA, [key])
    install(tmp_path, layer, blob, key)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("model.onnx", DATA)]


def test_each_of_several_recipients_opens_it_whatever_other_keys_it_has(tmp_path: Path) -> None:
    keys = [EC, rsa_key(), OTHER, rsa_key(1)]
    layer, blob = seal(DATA, keys)
    for number, key in enumerate(keys):
        folder = tmp_path / str(number)
        folder.mkdir()
        install(folder, layer, blob, make_key(), key)
        assert (folder / "model.onnx").read_bytes() == DATA


def test_a_recipient_added_later_stands_in_a_second_jwe(tmp_path: Path) -> None:
    layer, blob = seal(DATA, [OTHER])
    private = {
        "symkey": encode(bytes(range(32))),
        "digest": digest_of(DATA),
        "cipheroptions": {"nonce": encode(bytes(range(16)))},
    }
    layer = seal(DATA, [OTHER], jwe=lambda first: f"{first},{wrapped(private, [EC])}")[0]
    install(tmp_path, layer, blob, EC)
    assert (tmp_path / "model.onnx").read_bytes() == DATA


def test_a_compressed_layer_is_decrypted_and_unpacked_in_one_go(tmp_path: Path) -> None:
    layer, blob = seal(DATA, [EC], packed=gzip.compress(tarred(DATA), mtime=0))
    assert layer.size < len(DATA) / 10
    install(tmp_path, layer, blob, EC)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("model.onnx", DATA)]


def test_memory_is_bounded_however_large_the_layer(tmp_path: Path) -> None:
    data = bytes(20_000_000)
    layer, blob = seal(data, [EC])
    (tmp_path / "part").write_bytes(blob)
    pieces = [len(piece) for piece in decrypted(tmp_path / "part", layer, unwrap(layer, [EC]))]
    assert max(pieces) <= decrypt.READ_BYTES
    assert sum(pieces) == len(data)


def test_the_ciphertext_is_resumed_like_any_blob(tmp_path: Path) -> None:
    layer, blob = seal(DATA, [EC])
    (tmp_path / "model.onnx.part").write_bytes(blob[:70_000])
    assert install(tmp_path, layer, blob, EC).bytes_received == len(blob) - 70_000
    assert (tmp_path / "model.onnx").read_bytes() == DATA


def test_the_key_is_in_no_representation_of_anything() -> None:
    shown = repr(unwrap(seal(DATA, [EC])[0], [EC]))
    assert shown == "ContentKey()"


# --- who does not get in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [(), (OTHER,), (rsa_key(1),), (OTHER, rsa_key(1))],
    ids=["none", "ec", "rsa", "two"],
)
def test_a_device_without_a_fitting_key_is_told_so(keys: tuple[Key, ...]) -> None:
    error = refused(seal(DATA, [EC, rsa_key()])[0], *keys)
    assert error.code == "no-decryption-key"
    assert ("decryption.keys" in str(error)) == (not keys)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(ciphertext=url(b"x" * 200)), "content was changed"),
        (lambda d: d.update(ciphertext=url(b"x" * 5000)), "wrong size"),
        (lambda d: d.update(ciphertext=5), "not base64url"),
        (lambda d: d.update(ciphertext="é"), "not base64url"),
        (lambda d: d.update(ciphertext="a+b/"), "not base64url"),
        (lambda d: d.pop("ciphertext"), "not base64url"),
        (lambda d: d.update(tag=url(bytes(16))), "content was changed"),
        (lambda d: d.update(tag=url(bytes(15))), "wrong size"),
        (lambda d: d.update(tag=""), "wrong size"),
        (lambda d: d.update(iv=url(bytes(12))), "content was changed"),
        (lambda d: d.update(iv=url(bytes(16))), "wrong size"),
        (lambda d: d.update(protected=url(b'{"enc":"A256GCM" }')), "content was changed"),
        (lambda d: d.update(protected=url(b'{"enc":"A128GCM"}')), "A256GCM"),
        (lambda d: d.update(protected=url(b'{"enc":"A256GCM","zip":"DEF"}')), "A256GCM alone"),
        (lambda d: d.update(protected=url(b'{"enc":"A256GCM","crit":["b64"]}')), "A256GCM alone"),
        (lambda d: d.update(protected=url(b'{"enc":"A128GCM","enc":"A256GCM"}')), "a key appears twice"),
        (lambda d: d.update(protected=url(b"[" * 5000)), "makes no sense"),
        (lambda d: d.update(protected=url(b"[]")), "no object"),
        (lambda d: d.update(protected=None), "without a protected header"),
        (lambda d: d.update(aad="x"), "does not write"),
        (lambda d: d.update(unprotected={"alg": "dir"}), "does not write"),
        (lambda d: d.update(recipients=[]), "1 to 64"),
        (lambda d: d.update(recipients={}), "1 to 64"),
        (lambda d: d.update(recipients=[5]), "contradictory"),
        (lambda d: d.update(recipients=[{"header": {"enc": "A256GCM"}}]), "contradictory"),
        (lambda d: d.update(recipients=[{"header": {}, "encrypted_key": 1}]), "not base64url"),
        (lambda d: d.update(recipients=[{"header": {}, "encrypted_key": ""}] * 65), "1 to 64"),
    ],
)
def test_a_jwe_that_somebody_changed_is_refused(change: Callable[[dict[str, Any]], Any], says: str) -> None:
    error = refused(with_jwe(change), EC)
    assert error.code == "bad-manifest"
    assert says in str(error)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "dir"},
        {"alg": "none"},
        {"alg": "RSA1_5"},
        {"alg": "RSA-OAEP"},
        {"alg": "ECDH-ES"},
        {"alg": 5},
        {"alg": "ECDH-ES+A256KW"},
        {"alg": "ECDH-ES+A256KW", "epk": {"kty": "EC", "crv": "P-521", "x": "", "y": ""}},
        {
            "alg": "ECDH-ES+A256KW",
            "epk": {"kty": "EC", "crv": "P-256", "x": url(bytes(32)), "y": url(b"1" * 32)},
        },
        {"alg": "ECDH-ES+A256KW", "epk": {"kty": "EC", "crv": "P-256", "x": url(bytes(33)), "y": 5}},
    ],
    ids=lambda header: str(header.get("alg")),
)
def test_a_recipient_of_an_algorithm_or_a_curve_we_do_not_take_is_somebody_else(
    header: dict[str, Any],
) -> None:
    entry = {"header": header, "encrypted_key": url(bytes(40))}
    for keys in ((EC,), (rsa_key(),)):
        error = refused(with_jwe(lambda d: d.update(recipients=[entry])), *keys)
        assert error.code == "no-decryption-key"


def test_a_wrapped_key_that_was_changed_opens_nothing() -> None:
    def flip(document: dict[str, Any]) -> None:
        key = bytearray(base64.urlsafe_b64decode(document["encrypted_key"] + "=="))
        key[3] ^= 1
        document["encrypted_key"] = url(bytes(key))

    for key in (EC, rsa_key()):
        assert refused(with_jwe(flip, key), key).code == "no-decryption-key"


@pytest.mark.parametrize(
    ("private", "says"),
    [
        (lambda o: {**o, "symkey": encode(bytes(16))}, "wrong size"),
        (lambda o: {**o, "symkey": "not base64!"}, "not base64"),
        (lambda o: {**o, "cipheroptions": {"nonce": encode(bytes(12))}}, "wrong size"),
        (lambda o: {**o, "cipheroptions": {}}, "not base64"),
        (lambda o: {**o, "cipheroptions": None}, "no nonce"),
        (lambda o: {**o, "digest": digest_of(b"another file")}, "another file"),
        (lambda o: {**o, "digest": 5}, "another file"),
        (lambda _: [], "no object"),
        (lambda _: b"{", "not valid JSON"),
        (lambda _: b"\xff", "not valid JSON"),
    ],
)
def test_content_of_a_jwe_that_makes_no_sense_is_refused(
    private: Callable[[dict[str, Any]], Any], says: str
) -> None:
    error = refused(seal(DATA, [EC], private=private)[0], EC)
    assert error.code == "bad-manifest"
    assert says in str(error)


@pytest.mark.parametrize(
    ("public", "says"),
    [
        (lambda o: {**o, "cipher": "AES_256_GCM"}, "AES_256_CTR_HMAC_SHA256"),
        (lambda o: {**o, "cipher": None}, "AES_256_CTR_HMAC_SHA256"),
        (lambda o: {**o, "hmac": encode(bytes(16))}, "HMAC of a wrong size"),
        (lambda o: {**o, "hmac": None}, "not base64"),
        (lambda o: {**o, "cipheroptions": {"nonce": encode(bytes(16))}}, "take the place of"),
        (lambda _: [], "no object"),
    ],
)
def test_public_options_that_make_no_sense_are_refused_before_a_key_is_used(
    public: Callable[[dict[str, Any]], Any], says: str
) -> None:
    error = refused(seal(DATA, [EC], public=public)[0])
    assert error.code == "bad-manifest"
    assert says in str(error)


def test_the_number_of_tries_is_bounded() -> None:
    assert "wrapped keys" in str(refused(seal(DATA, [EC], jwe=lambda text: ",".join([text] * 9))[0], EC))
    entry = {"header": {"alg": "RSA-OAEP"}, "encrypted_key": url(bytes(256))}
    half = encode(
        base64.b64decode(
            with_jwe(lambda d: d.update(recipients=[entry] * (MAX_RECIPIENTS // 2 + 1))).sealed.keys  # type: ignore[union-attr]
        )
    )
    layer = seal(DATA, [EC], jwe=lambda _: f"{half},{half}")[0]
    assert f"more than {MAX_RECIPIENTS} recipients" in str(refused(layer, rsa_key()))


@settings(max_examples=150)
@given(at=st.integers(0, 10**6), put=st.integers(0, 255), where=st.sampled_from(["keys", "options"]))
def test_any_changed_byte_of_the_annotations_is_refused_or_changes_nothing(
    at: int, put: int, where: str
) -> None:
    layer, _ = seal(DATA, [EC])
    good = unwrap(layer, [EC])
    assert layer.sealed is not None
    text = base64.b64decode(getattr(layer.sealed, where))
    at %= len(text)
    spoilt = encode(text[:at] + bytes([put]) + text[at + 1 :])
    changed = {"keys": layer.sealed.keys, "options": layer.sealed.options, where: spoilt}
    try:
        found = unwrap(
            Layer(
                layer.file,
                layer.digest,
                layer.size,
                layer.content,
                type(layer.sealed)(**changed, packed=False),
            ),
            [EC],
        )
    except TrustError as error:
        assert error.code in ("bad-manifest", "no-decryption-key")
    else:  # the HMAC itself is checked against the ciphertext, not before
        assert found == good or where == "options"


@settings(max_examples=300)
@given(keys=st.text(max_size=300) | st.binary(max_size=300).map(encode), options=st.text(max_size=100))
def test_whatever_stands_in_the_annotations_is_no_crash(keys: str, options: str) -> None:
    layer, _ = seal(DATA, [EC])
    assert layer.sealed is not None
    for spoilt in ((keys, layer.sealed.options), (layer.sealed.keys, options)):
        with pytest.raises(TrustError):
            unwrap(Layer("m", layer.digest, 5, layer.content, type(layer.sealed)(*spoilt)), [EC])


# --- ciphertext and plaintext -----------------------------------------------------------------------------------


def spoilt_blob(folder: Path, code: str, says: str, **changes: Any) -> None:
    layer, blob = seal(DATA, [EC], **changes)
    with pytest.raises(TrustError, match=says) as caught:
        install(folder, layer, blob, EC)
    assert caught.value.code == code
    assert list(folder.iterdir()) == [], "nothing is left of it"


def test_a_ciphertext_with_another_hmac_is_refused(tmp_path: Path) -> None:
    def other(options: dict[str, Any]) -> dict[str, Any]:
        return {**options, "hmac": encode(bytes(32))}

    spoilt_blob(tmp_path, "digest-mismatch", "HMAC", public=other)


@pytest.mark.parametrize("field", ["symkey", "nonce"])
def test_a_wrong_key_or_nonce_gives_no_file(tmp_path: Path, field: str) -> None:
    def other(options: dict[str, Any]) -> dict[str, Any]:
        if field == "symkey":
            return {**options, "symkey": encode(bytes(32))}
        return {**options, "cipheroptions": {"nonce": encode(bytes(16))}}

    spoilt_blob(tmp_path, "digest-mismatch", "HMAC|decrypt", private=other)


def test_an_archive_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    spoilt_blob(tmp_path, "bad-manifest", "no gzip stream", packed=b"no archive")
    spoilt_blob(tmp_path, "bad-manifest", "of 3 bytes", packed=gzip.compress(tarred(b"abc")))
    bomb = gzip.compress(tarred(DATA) + bytes(10**6))
    spoilt_blob(tmp_path, "bad-manifest", "more than the one file", packed=bomb)


def test_a_truncated_or_altered_ciphertext_never_comes_as_far_as_a_key(tmp_path: Path) -> None:
    layer, blob = seal(DATA, [EC])
    for spoilt in (blob[:-1], b"?" + blob[1:]):
        with pytest.raises(AgentError) as caught:
            install(tmp_path, layer, spoilt, EC)
        assert caught.value.code in ("truncated", "digest-mismatch")
        assert not list(tmp_path.glob("*unpacked*"))
        assert not (tmp_path / "model.onnx").exists()
        for left in tmp_path.iterdir():
            left.unlink()


class Watching(Calls):
    """Knows every file that plaintext was written to, and with which mode."""

    def __init__(self) -> None:
        self.plain: set[tuple[str, int]] = set()

    def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
        if b"weights of a model" in data:
            self.plain.add((path.name, os.fstat(fd).st_mode & 0o777))
        super().write(path, fd, data, offset)


def test_plaintext_is_written_to_one_file_that_nobody_else_can_read(tmp_path: Path) -> None:
    calls = Watching()
    layer, blob = seal(DATA, [EC])
    install(tmp_path, layer, blob, EC, disk=Disk(calls))
    assert calls.plain == {("model.onnx.unpacked.part", 0o600)}
    assert (tmp_path / "model.onnx").stat().st_mode & 0o777 == 0o640


def test_a_disk_that_fills_up_while_decrypting_keeps_no_plaintext(tmp_path: Path) -> None:
    class Shrinking(Calls):
        def free(self, path: Path) -> Free:
            return Free(0 if list(tmp_path.glob("*.unpacked.part")) else 10**9, None)

    layer, blob = seal(bytes(9 * 2**20), [EC])
    shelf = Shelf(blobs={layer.digest: blob})
    with pytest.raises(StorageError, match="reserve"):
        fetch(shelf, "m", layer, tmp_path, Disk(Shrinking()), reserve_bytes=11, key=unwrap(layer, [EC]))
    assert list(tmp_path.iterdir()) == []


def test_power_may_go_at_any_operation_and_nothing_is_usable_by_accident(tmp_path: Path) -> None:
    layer, blob = seal(DATA, [EC])
    counting = DyingCalls()
    (tmp_path / "0").mkdir()
    install(tmp_path / "0", layer, blob, EC, disk=Disk(counting))
    assert counting.count > 8
    for turn in range(1, counting.count + 1):
        folder = tmp_path / str(turn)
        folder.mkdir()
        with pytest.raises(PowerCut):
            install(folder, layer, blob, EC, disk=Disk(DyingCalls(turn)))
        whole = folder / "model.onnx"
        assert not whole.exists() or whole.read_bytes() == DATA
        for left in folder.iterdir():
            if left.read_bytes()[:7] == DATA[:7]:
                assert left.stat().st_mode & 0o007 == 0
        install(folder, layer, blob, EC)
        # A ciphertext may still lie beside it: the store takes away what is no file of the artifact.
        assert {p.name for p in folder.iterdir()} <= {"model.onnx", "model.onnx.part"}
        assert (whole.read_bytes(), whole.stat().st_mode & 0o777) == (DATA, 0o640)


# --- the manifest -----------------------------------------------------------------------------------------------


def encrypted(document: dict[str, Any], media_type: str = "raw+encrypted", **notes: str | None) -> None:
    entry = document["layers"][0]
    entry["mediaType"] = f"application/vnd.cncf.model.weight.v1.{media_type}"
    annotations = {
        "org.opencontainers.image.title": "model.onnx",
        "org.cncf.model.filepath": "model.onnx",
        "dev.edgewright.file-digest": digest_of(DATA),
        "dev.edgewright.file-size": str(entry["size"]),
        "org.opencontainers.image.enc.keys.jwe": "e30=",
        "org.opencontainers.image.enc.pubopts": "e30=",
        **notes,
    }
    entry["annotations"] = {name: value for name, value in annotations.items() if value is not None}


def test_a_manifest_tells_ciphertext_and_file_apart() -> None:
    artifact = parse(make_artifact("1.0.0", edit=encrypted).body)
    layer = artifact.layers[0]
    assert artifact.sealed
    assert not layer.packed
    assert (layer.file, layer.file_digest) == ("model.onnx", digest_of(DATA))
    assert layer.digest != layer.file_digest
    assert not parse(make_artifact("1.0.0").body).sealed


def test_a_compressed_and_encrypted_layer_has_a_file_of_another_size() -> None:
    def edit(document: dict[str, Any]) -> None:
        encrypted(document, "tar+gzip+encrypted", **{"dev.edgewright.file-size": "999"})

    layer = parse(make_artifact("1.0.0", edit=edit).body).layers[0]
    assert layer.packed
    assert layer.file_size == 999


@pytest.mark.parametrize(
    ("media_type", "notes"),
    [
        ("raw+encrypted", {"org.opencontainers.image.enc.keys.jwe": None}),
        ("raw+encrypted", {"org.opencontainers.image.enc.keys.jwe": ""}),
        ("raw+encrypted", {"org.opencontainers.image.enc.pubopts": None}),
        ("raw+encrypted", {"dev.edgewright.file-digest": None}),
        ("raw+encrypted", {"dev.edgewright.file-size": "5"}),
        ("raw+encrypted", {"org.cncf.model.filepath": "../model.onnx"}),
        ("tar+zstd+encrypted", {}),
        ("tar+encrypted", {}),
    ],
)
def test_a_manifest_that_does_not_say_how_to_open_a_layer_is_refused(
    media_type: str, notes: dict[str, str | None]
) -> None:
    with pytest.raises(TrustError) as caught:
        parse(make_artifact("1.0.0", edit=lambda document: encrypted(document, media_type, **notes)).body)
    assert caught.value.code == "bad-manifest"


# --- key files --------------------------------------------------------------------------------------------------


def bad_key(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_keys([path])
    assert caught.value.code == "bad-key"
    return str(caught.value)


def test_key_files_of_both_kinds_are_read(tmp_path: Path) -> None:
    paths = [
        write_private(tmp_path / "ec.key", EC),
        write_private(tmp_path / "rsa.key", rsa_key(), mode=0o400),
    ]
    layer, _ = seal(DATA, [rsa_key()])
    unwrap(layer, load_keys(paths))


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o601, 0o666])
def test_a_key_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    assert "chmod 600" in bad_key(write_private(tmp_path / "device.key", EC, mode=mode))


def test_a_group_may_read_only_what_root_lends() -> None:
    assert decrypt._is_private(0o100440, 0), "systemd's LoadCredential"
    assert not decrypt._is_private(0o100440, 1000)
    assert not decrypt._is_private(0o100460, 0)
    assert not decrypt._is_private(0o100444, 0)


def test_what_is_no_usable_key_is_refused_and_never_shown(tmp_path: Path) -> None:
    write_private(tmp_path / "locked", EC, passphrase=b"secret")
    assert "has a passphrase" in bad_key(tmp_path / "locked")
    assert "cannot be read" in bad_key(tmp_path / "absent")
    for name, key in (
        ("weak", rsa_key(0, 1024)),
        ("p384", ec.generate_private_key(ec.SECP384R1())),
        ("ed", ed25519.Ed25519PrivateKey.generate()),
    ):
        assert "neither an EC P-256 key nor" in bad_key(write_private(tmp_path / name, key))
    for name, content in (("text", b"hunter2"), ("empty", b""), ("large", b"x" * 20_000)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
        assert "hunter2" not in bad_key(tmp_path / name)
