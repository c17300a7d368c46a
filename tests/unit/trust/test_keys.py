"""Keys: made all at once or not at all, never overwritten, private."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from edgewright.errors import EnvironmentFault, TrustError
from edgewright.trust import keys
from edgewright.trust.keys import PURPOSES, ROLES, create_keys, describe_keys, load_role_signer
from edgewright.trust.secret import read_line
from edgewright.trust.signing_key import load_signing_key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "fleet/.edgewright/keys"


def test_every_key_has_one_purpose_and_its_own_fingerprint(folder: Path) -> None:
    made = create_keys(folder)
    assert [key.name for key in made] == list(PURPOSES)
    assert len({key.fingerprint for key in made}) == len(PURPOSES)
    assert {key.algorithm for key in made if key.name != "signing"} == {"ed25519"}


def test_private_keys_are_readable_by_their_owner_only(folder: Path) -> None:
    create_keys(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.key")} == {0o600}


def test_keys_are_never_overwritten(folder: Path) -> None:
    before = create_keys(folder)
    with pytest.raises(TrustError, match="never overwritten"):
        create_keys(folder)
    assert describe_keys(folder) == before


def test_one_key_in_the_folder_is_enough_to_refuse(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "root.key").write_text("precious")
    with pytest.raises(TrustError, match="not empty"):
        create_keys(folder)
    assert [path.name for path in folder.iterdir()] == ["root.key"]


def test_a_failure_half_way_leaves_no_keys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = keys.write_file

    def full(path: Path, content: bytes, *, mode: int = 0o644) -> None:
        if path.name == "snapshot.key":
            raise OSError(28, "No space left on device")
        whole(path, content, mode=mode)

    monkeypatch.setattr(keys, "write_file", full)
    with pytest.raises(EnvironmentFault, match="no space left"):
        create_keys(folder)
    assert list(folder.parent.iterdir()) == []


def test_encrypted_keys_need_their_passphrase(folder: Path) -> None:
    made = create_keys(folder, signing_passphrase="one", role_passphrase="two")
    assert {key.private for key in made} == {"encrypted"}
    for role in ROLES:
        assert load_role_signer(folder, role, "two")
    with pytest.raises(TrustError, match="passphrase is wrong"):
        load_role_signer(folder, "targets", "one")
    with pytest.raises(TrustError, match="is encrypted") as caught:
        load_role_signer(folder, "targets", None)
    assert "trust.passphrase" in str(caught.value.hint)


def test_fingerprints_need_no_private_key(folder: Path) -> None:
    create_keys(folder)
    (folder / "root.key").unlink()
    assert {key.name: key.private for key in describe_keys(folder)}["root"] == "absent"


def test_no_keys_yet_says_how_to_make_them(folder: Path) -> None:
    with pytest.raises(TrustError, match="there are no keys") as caught:
        describe_keys(folder)
    assert caught.value.hint == "edgewright keys init"


SIGNING = {"privateKey": "file:signing.key", "publicKey": "signing.pub"}


def test_the_signing_key_signs_the_same_bytes_the_same_way(folder: Path) -> None:
    create_keys(folder)
    first, second = load_signing_key(SIGNING, folder), load_signing_key(SIGNING, folder)
    assert first.sign(b"artifact") == second.sign(b"artifact")


def test_the_signing_key_may_come_from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_keys(folder, signing_passphrase="secret")
    monkeypatch.setenv("SIGNING_KEY", (folder / "signing.key").read_text())
    monkeypatch.setenv("SIGNING_PASSPHRASE", "secret\n")
    settings = {**SIGNING, "privateKey": "env:SIGNING_KEY", "passphrase": "env:SIGNING_PASSPHRASE"}
    assert load_signing_key(settings, folder).public_der


def test_an_unset_variable_is_named(folder: Path) -> None:
    create_keys(folder)
    with pytest.raises(TrustError, match="EDGEWRIGHT_TEST_UNSET, which is not set"):
        load_signing_key({**SIGNING, "privateKey": "env:EDGEWRIGHT_TEST_UNSET"}, folder)


def test_a_signing_key_of_another_kind_is_refused(folder: Path) -> None:
    create_keys(folder)
    with pytest.raises(TrustError, match="not ECDSA P-256"):
        load_signing_key({**SIGNING, "privateKey": "file:root.key"}, folder)


def test_two_halves_that_do_not_belong_together_are_refused(folder: Path) -> None:
    create_keys(folder)
    with pytest.raises(TrustError, match=r"does not belong to root\.pub"):
        load_signing_key({**SIGNING, "publicKey": "root.pub"}, folder)


def test_a_passphrase_that_is_no_text_is_one_sentence_without_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "pw").write_bytes(b"hunter2\xff")
    with pytest.raises(TrustError, match="the passphrase is not one line of UTF-8 text") as caught:
        read_line("file:pw", tmp_path, what="the passphrase")
    assert caught.value.__context__ is None
