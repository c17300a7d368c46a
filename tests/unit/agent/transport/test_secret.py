"""Where a device finds a password: by reference, bounded, and never in a message."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from conftest import PASSWORD, USERNAME
from edgewright_agent.contract import OCI_MANIFEST
from edgewright_agent.errors import ConfigError, TransportError
from edgewright_agent.transport import open_source
from edgewright_agent.transport.auth import IDENTITY_TOKEN, Credentials
from edgewright_agent.transport.helper import ask
from edgewright_agent.transport.secret import MAX_SECRET_BYTES, Secret
from real import Registry
from unit.agent.transport.conftest import Release
from unit.agent.transport.liar import Liar, answer
from unit.agent.transport.test_sources import refuses

AT = "/v2/acme/model/manifests/1"
OK = answer(200, b'{"schemaVersion":2}', Content_Type=OCI_MANIFEST)


def secret(path: Path, data: bytes, mode: int = 0o600) -> Secret:
    path.write_bytes(data)
    path.chmod(mode)
    return Secret.parse(f"file:{path.name}", path.parent)


def complaint(reference: Secret) -> str:
    with pytest.raises(ConfigError) as refused:
        reference.read("source.password")
    assert refused.value.code == "bad-secret"
    assert "s3cret" not in str(refused.value)
    return str(refused.value)


# --- references ---------------------------------------------------------------------------------------------


def test_a_secret_comes_from_the_environment_a_file_or_a_systemd_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "from env")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "registry").write_text("from systemd\n")
    assert Secret.parse("env:TOKEN", tmp_path).read("x") == "from env"
    assert secret(tmp_path / "token", b"from file\r\n").read("x") == "from file"
    assert Secret.parse("credential:registry", tmp_path).read("x") == "from systemd"


@pytest.mark.parametrize(
    "reference",
    [
        "s3cret",
        "env:",
        "env:a b",
        "file:",
        "file: x",
        "file:a\nb",
        "credential:",
        "credential:../x",
        "vault:x",
    ],
)
def test_what_is_no_reference_is_refused_without_being_repeated(reference: str) -> None:
    with pytest.raises(ValueError, match=r"env:NAME, file:PATH or credential:NAME") as refused:
        Secret.parse(reference, Path("/"))
    assert "s3cret" not in str(refused.value)


def test_a_secret_that_is_missing_says_where_it_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert "env:NOWHERE is not set" in complaint(Secret("env", "NOWHERE"))
    assert "No such file" in complaint(Secret.parse("file:lost", tmp_path))
    assert "LoadCredential=" in complaint(Secret("credential", "registry"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert "No such file" in complaint(Secret("credential", "registry"))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"s3cret\nsecond line\n", "is not one line"),
        (b"s3cret\0", "is not one line"),
        (b"s3cret\xff", "is not one line"),
        (b"s3cret" * MAX_SECRET_BYTES, "has more than"),
    ],
)
def test_what_is_no_line_of_text_is_no_secret(tmp_path: Path, data: bytes, problem: str) -> None:
    assert problem in complaint(secret(tmp_path / "token", data))


def test_a_secret_without_an_end_is_not_read_to_it(tmp_path: Path) -> None:
    (tmp_path / "token").symlink_to("/dev/zero")
    assert "has more than" in complaint(Secret.parse("file:token", tmp_path))


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o666])
def test_a_password_that_every_user_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    made = secret(tmp_path / "token", b"s3cret", mode)
    assert "chmod o-rw" in complaint(made)
    assert made.read("source.username", private=False) == "s3cret"
    (tmp_path / "token").chmod(0o640)  # a group of the integrator's choice
    assert made.read("source.password") == "s3cret"


# --- credential helpers -------------------------------------------------------------------------------------


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in PATH; `write` puts the helper `test` there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def write(folder: Path, script: str) -> None:
    program = folder / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


GIVES = (
    """read -r host; [ "$1" = get ] && printf '{"ServerURL":"%%s","Username":"%s","Secret":"%s"}' "$host" """
)


def test_a_helper_is_told_the_host_and_tells_the_log_in(helper: Path) -> None:
    write(helper, f"tee {helper}/told | (" + GIVES % ("edge", "s3") + ")")
    assert ask("test", "registry.example:5000") == ("edge", "s3")
    assert (helper / "told").read_text() == "registry.example:5000"


def test_a_helper_that_knows_nothing_means_no_log_in(helper: Path) -> None:
    write(helper, "echo 'credentials not found in native keychain'; exit 1")
    assert ask("test", "registry.example") is None


@pytest.mark.parametrize(
    ("script", "error", "problem"),
    [
        ("echo 'vault is sealed'; exit 3", TransportError, "vault is sealed"),
        ("exec sleep 60", TransportError, "no answer within"),
        ("sleep 60 & exec sleep 60", TransportError, "no answer within"),
        ("exec yes s3cret", ConfigError, "writes more than"),
        ("echo s3cret", ConfigError, "has no Username and Secret"),
        ('echo \'{"Username":"u","Secret":""}\'', ConfigError, "has no Username and Secret"),
        ('echo \'{"Username":"u","Secret":"s3cret\\nx"}\'', ConfigError, "has no Username and Secret"),
        ("echo '[]'", ConfigError, "has no Username and Secret"),
    ],
)
def test_a_helper_that_fails_hangs_or_babbles_is_given_up(
    helper: Path, script: str, error: type[Exception], problem: str
) -> None:
    write(helper, script)
    with pytest.raises(error, match=problem) as refused:
        ask("test", "registry.example", timeout_s=0.4 if "sleep" in script else 20)
    assert "s3cret" not in str(refused.value)


def test_what_a_hanging_helper_started_ends_with_it(helper: Path, tmp_path: Path) -> None:
    write(helper, f"sleep 60 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(TransportError, match="no answer"):
        ask("test", "registry.example", timeout_s=1.0)
    child = (tmp_path / "child").read_text().strip()
    state = subprocess.run(["ps", "-o", "stat=", "-p", child], capture_output=True, text=True, check=False)
    assert state.stdout.strip()[:1] in ("", "Z")


def test_a_helper_that_is_not_installed_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(ConfigError, match="docker-credential-nowhere is not in PATH"):
        ask("nowhere", "registry.example")


def test_a_real_registry_is_read_with_a_helpers_password(
    registry_with_basic_auth: Registry, release: Release, helper: Path
) -> None:
    registry = registry_with_basic_auth
    release.shelf.push(registry.url, authorization=Credentials(USERNAME, PASSWORD).basic())
    write(helper, GIVES % (USERNAME, PASSWORD))
    made = open_source(registry.url, credential_helper="test")
    assert made.manifest("digit-reader", "1.0.0") is not None
    write(helper, GIVES % (USERNAME, "changed"))
    refuses(
        "denied", lambda: open_source(registry.url, credential_helper="test").manifest("digit-reader", "1")
    )


def test_a_helper_is_not_asked_by_a_registry_that_lets_everybody_read(liar: Liar, helper: Path) -> None:
    write(helper, "exit 9")
    liar.says(AT, OK)
    assert open_source(f"{liar.url}/acme", credential_helper="test").manifest("model", "1") is not None


def test_an_identity_token_is_exchanged_in_a_body_and_stands_in_no_url(liar: Liar, helper: Path) -> None:
    write(helper, GIVES % (IDENTITY_TOKEN, "refresh-me"))
    challenge = answer(401, WWW_Authenticate=f'Bearer realm="{liar.url}/token",service="s"')
    liar.says(AT, lambda headers: [OK if headers.get("Authorization") == "Bearer short" else challenge])
    liar.says("/token", answer(200, b'{"access_token":"short"}'))
    assert open_source(f"{liar.url}/acme", credential_helper="test").manifest("model", "1") is not None
    assert not any("refresh-me" in path for path, _ in liar.requests)
    (body,) = liar.bodies
    assert parse_qs(body.decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["refresh-me"],
        "client_id": ["edgewright-agent"],
        "service": ["s"],
        "scope": ["repository:acme/model:pull"],
    }


def test_an_identity_token_is_no_password(liar: Liar, helper: Path) -> None:
    write(helper, GIVES % (IDENTITY_TOKEN, "refresh-me"))
    liar.says(AT, answer(401, WWW_Authenticate='Basic realm="x"'))
    refuses(
        "denied", lambda: open_source(f"{liar.url}/acme", credential_helper="test").manifest("model", "1")
    )
    assert all("Authorization" not in headers for _, headers in liar.requests)


def test_a_password_over_plain_http_leaves_no_device() -> None:
    with pytest.raises(ConfigError, match="over https only"):
        open_source("http://registry.example/acme", username="edge", password="secret")
    with pytest.raises(ConfigError, match="over https only"):
        open_source("http://registry.example/acme", credential_helper="test")


def test_the_proxies_of_the_environment_are_not_used(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    with Liar() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        asks = answer(401, WWW_Authenticate='Basic realm="x"')
        basic = "Basic " + base64.b64encode(b"edge:secret").decode()
        liar.says(AT, lambda headers: [OK if headers.get("Authorization") == basic else asks])
        made = open_source(f"{liar.url}/acme", username="edge", password="secret")
        assert made.manifest("model", "1") is not None
        assert proxy.connections == 0
