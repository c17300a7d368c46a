"""Where the pipeline finds a secret: by reference, bounded, and never in a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.errors import TrustError
from edgewright.trust.secret import MAX_SECRET_BYTES, read_line, read_secret


def refused(reference: str, root: Path) -> str:
    with pytest.raises(TrustError) as caught:
        read_line(reference, root, what="the password")
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"
    return f"{caught.value} {caught.value.hint}"


def test_a_secret_comes_from_the_environment_a_file_or_a_systemd_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "from env")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "passed"))
    (tmp_path / "passed").mkdir()
    (tmp_path / "passed/registry").write_text("from systemd\n")
    (tmp_path / "token").write_bytes(b"from file\r\n")
    assert read_line("env:TOKEN", tmp_path, what="x") == "from env"
    assert read_line("file:token", tmp_path, what="x") == "from file"
    assert read_line("credential:registry", tmp_path, what="x") == "from systemd"
    assert read_secret("file:token", tmp_path, what="x") == b"from file\r\n"


def test_a_secret_that_is_missing_says_where_it_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert "environment variable NOWHERE, which is not set" in refused("env:NOWHERE", tmp_path)
    assert "No such file" in refused("file:lost", tmp_path)
    assert "LoadCredential=registry:PATH" in refused("credential:registry", tmp_path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert "No such file" in refused("credential:registry", tmp_path)
    assert "env:NAME, file:PATH or credential:NAME" in refused("credential:../registry", tmp_path)


@pytest.mark.parametrize("reference", ["s3cret", "vault:s3cret", "env:", ""])
def test_what_is_no_reference_is_refused_without_being_repeated(reference: str, tmp_path: Path) -> None:
    assert "is not given as env:NAME" in refused(reference, tmp_path)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "nothing in it"),
        (b"\n", "not one line"),
        (b"s3cret\nsecond\n", "not one line"),
        (b"s3cret\0", "not one line"),
        (b"s3cret\xff", "not one line"),
        (b"s3cret" * MAX_SECRET_BYTES, "more than"),
    ],
)
def test_what_is_no_line_of_text_is_no_password(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "token").write_bytes(data)
    assert problem in refused("file:token", tmp_path)


def test_a_secret_without_an_end_is_not_read_to_it(tmp_path: Path) -> None:
    (tmp_path / "token").symlink_to("/dev/zero")
    assert "more than" in refused("file:token", tmp_path)
