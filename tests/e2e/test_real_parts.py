"""The real parts that other tests rely on behave as those tests assume."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from authority import TokenServer
from edgewright_agent.contract import digest_of
from real import ROOT, Registry, Tool


def _push(oras: Tool, registry: Registry, *options: str | Path) -> str:
    """Push one small file and return the manifest's digest."""
    (oras.home / "greeting.txt").write_text("hello\n")
    pushed = oras("push", *options, f"{registry.host}/demo:1", "greeting.txt:text/plain")
    assert pushed.returncode == 0, pushed.stderr
    digest = [word for word in pushed.stdout.split() if word.startswith("sha256:")]
    return digest[-1]


def _pull(oras: Tool, registry: Registry, *options: str | Path) -> subprocess.CompletedProcess[str]:
    return oras("pull", *options, "--output", "pulled", f"{registry.host}/demo:1")


def test_what_is_pushed_to_the_registry_can_be_pulled(registry: Registry, oras: Tool) -> None:
    _push(oras, registry, "--plain-http")
    assert _pull(oras, registry, "--plain-http").returncode == 0
    assert (oras.home / "pulled" / "greeting.txt").read_text() == "hello\n"


def test_a_stopped_registry_is_gone_and_comes_back_with_its_content(registry: Registry, oras: Tool) -> None:
    _push(oras, registry, "--plain-http")
    registry.stop()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(registry.url + "/v2/", timeout=5)
    registry.start()
    assert _pull(oras, registry, "--plain-http").returncode == 0


def test_a_blob_corrupted_on_disk_is_served_corrupted(registry: Registry, oras: Tool) -> None:
    digest = _push(oras, registry, "--plain-http")
    manifest = json.loads(registry.blob_path(digest).read_bytes())
    blob = manifest["layers"][0]["digest"]
    registry.blob_path(blob).write_bytes(b"HELLO\n")
    with urllib.request.urlopen(f"{registry.url}/v2/demo/blobs/{blob}", timeout=5) as response:
        assert response.read() == b"HELLO\n"


def test_basic_auth_registry_takes_the_right_password_only(
    registry_with_basic_auth: Registry, oras: Tool
) -> None:
    registry = registry_with_basic_auth
    assert registry.username and registry.password
    _push(oras, registry, "--plain-http", "--username", registry.username, "--password", registry.password)
    assert _pull(oras, registry, "--plain-http").returncode != 0
    wrong = _pull(oras, registry, "--plain-http", "--username", registry.username, "--password", "guess")
    assert wrong.returncode != 0


def test_token_registry_gives_a_reader_pull_but_not_push(
    registry_with_token_auth: Registry, token_server: TokenServer, oras: Tool
) -> None:
    registry = registry_with_token_auth
    assert registry.username and registry.password
    _push(oras, registry, "--plain-http", "--username", registry.username, "--password", registry.password)
    reader = ["--plain-http", "--username", "device", "--password", "reads-only"]
    assert _pull(oras, registry, *reader).returncode == 0
    assert oras("push", *reader, f"{registry.host}/demo:2", "greeting.txt").returncode != 0
    assert {user for user, _, _ in token_server.granted} == {"publisher", "device"}
    assert ("device", ["repository:demo:pull"], ["repository:demo:pull"]) in token_server.granted


def test_token_server_refuses_a_wrong_password(token_server: TokenServer) -> None:
    request = urllib.request.Request(token_server.realm + "?service=edgewright-tests")
    request.add_header("Authorization", "Basic " + base64.b64encode(b"publisher:guess").decode())
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request, timeout=5)


def test_tls_registry_is_believed_only_with_its_authority(tls_registry: Registry, oras: Tool) -> None:
    assert tls_registry.url.startswith("https://")
    assert tls_registry.ca_file
    _push(oras, tls_registry, "--ca-file", tls_registry.ca_file)
    stranger = _pull(oras, tls_registry)
    assert "certificate" in stranger.stderr


def test_cosign_signs_and_verifies_with_the_network_cut_off(
    registry: Registry, oras: Tool, cosign: Tool, cosign_offline: list[str | Path]
) -> None:
    digest = _push(oras, registry, "--plain-http")
    reference = f"{registry.host}/demo@{digest}"
    assert cosign("generate-key-pair").returncode == 0
    signed = cosign("sign", *cosign_offline, "--allow-http-registry", "--key", "cosign.key", reference)
    assert signed.returncode == 0, signed.stderr
    flags = ["--allow-http-registry", "--insecure-ignore-tlog=true", "--key", "cosign.pub"]
    verified = cosign("verify", *flags, reference)
    assert verified.returncode == 0, verified.stderr


def test_skopeo_reads_the_registry_without_any_file_in_etc(
    registry: Registry, oras: Tool, skopeo: Tool
) -> None:
    digest = _push(oras, registry, "--plain-http")
    shown = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/demo:1")
    assert shown.returncode == 0, shown.stderr
    assert digest_of(shown.stdout.encode()) == digest


def test_cosign_refuses_what_nobody_signed(registry: Registry, oras: Tool, cosign: Tool) -> None:
    digest = _push(oras, registry, "--plain-http")
    assert cosign("generate-key-pair").returncode == 0
    flags = ["--allow-http-registry", "--insecure-ignore-tlog=true", "--key", "cosign.pub"]
    assert cosign("verify", *flags, f"{registry.host}/demo@{digest}").returncode != 0


@pytest.mark.parametrize(
    ("required", "workers", "counts"),
    [
        ("0", 0, "1 passed, 0 failed, 2 skipped\n"),
        ("1", 0, "0 passed, 1 failed, 0 skipped\n"),  # the module that skips itself ends the run
        ("1", 2, "1 passed, 2 failed, 0 skipped\n"),
    ],
    ids=["allowed", "forbidden", "forbidden to every worker"],
)
def test_a_skip_is_a_failure_exactly_where_real_parts_are_required(
    tmp_path: Path, required: str, workers: int, counts: str
) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "test_one.py").write_text(
        "import pytest\n\ndef test_passes(): pass\n\ndef test_skips(): pytest.skip('no such part')\n"
    )
    (tmp_path / "test_two.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    summary = tmp_path / "summary"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(workers)]
    ran = subprocess.run(
        [*command, "--rootdir", tmp_path, tmp_path],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "tests"),
            "EDGEWRIGHT_REQUIRE_REAL": required,
            "EDGEWRIGHT_TEST_SUMMARY": str(summary),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert summary.read_text() == counts, ran.stdout
    assert (ran.returncode != 0) == (required == "1")
