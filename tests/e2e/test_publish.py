"""What is published is what the rest of the world understands: real registry, real cosign, real oras."""

from __future__ import annotations

import base64
import json
import os
import shlex
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from authority import TokenServer
from edgewright.cli import cli
from edgewright.errors import NetworkError
from edgewright_agent.contract import (
    ATTESTATIONS,
    PREDICATE_BOM,
    PREDICATE_GATE_REPORT,
    PREDICATE_PROVENANCE,
    PREDICATE_SIGN,
)
from real import Registry, Tool
from unit.publish.lane import LaneFiles, run_index

OFFLINE = ("--insecure-ignore-tlog=true", "--allow-http-registry")


@pytest.fixture
def lane(tmp_path: Path, registry: Registry) -> LaneFiles:
    return LaneFiles(tmp_path / "fleet", {"url": f"{registry.url}/acme"})


def published(lane: LaneFiles) -> tuple[str, str]:
    """Publish a lane and its index; return the references of the manifest and of the index."""
    lane.all()
    index = run_index(lane).facts
    base = f"{lane.registry['url'].partition('//')[2]}/{lane.model}"
    return f"{base}@{lane.digest}", f"{base}@{index['digest']}"


def test_cosign_verifies_the_manifest_and_the_index(lane: LaneFiles, cosign: Tool) -> None:
    key = lane.root / "keys/signing.pub"
    for reference in published(lane):
        checked = cosign("verify", "--key", key, *OFFLINE, reference)
        assert checked.returncode == 0, checked.stderr


def test_cosign_finds_the_gate_report_as_an_attestation(lane: LaneFiles, cosign: Tool) -> None:
    manifest, index = published(lane)
    key = lane.root / "keys/signing.pub"
    checked = cosign("verify-attestation", "--key", key, "--type", PREDICATE_GATE_REPORT, *OFFLINE, manifest)
    assert checked.returncode == 0, checked.stderr
    checked = cosign("verify-attestation", "--key", key, "--type", PREDICATE_SIGN, *OFFLINE, index)
    assert checked.returncode == 0, checked.stderr


def test_cosign_refuses_another_key(lane: LaneFiles, cosign: Tool, tmp_path: Path) -> None:
    from unit.publish.lane import write_key

    manifest, _ = published(lane)
    write_key(tmp_path / "other")
    assert cosign("verify", "--key", tmp_path / "other/signing.pub", *OFFLINE, manifest).returncode != 0


def test_oras_pulls_every_file_by_digest(lane: LaneFiles, oras: Tool, tmp_path: Path) -> None:
    manifest, _ = published(lane)
    pulled = oras("pull", "--plain-http", "--output", tmp_path / "pulled", manifest)
    assert pulled.returncode == 0, pulled.stderr
    assert {path.name for path in (tmp_path / "pulled").iterdir()} == {
        "model.onnx", "runtime.json", "labels.json", "golden.json", "drift.json",
    }  # fmt: skip
    assert (tmp_path / "pulled/model.onnx").read_bytes() == lane.weights


def test_oras_pulls_one_platform_of_the_version(lane: LaneFiles, oras: Tool, tmp_path: Path) -> None:
    published(lane)
    version = f"{lane.registry['url'].partition('//')[2]}/{lane.model}:1.0.0"
    pulled = oras("pull", "--plain-http", "--platform", "linux/arm64", "-o", tmp_path / "pulled", version)
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "pulled/model.onnx").read_bytes() == lane.weights


@pytest.mark.parametrize(
    ("kind", "predicate_type"),
    [
        ("slsaprovenance1", PREDICATE_PROVENANCE),
        ("cyclonedx", PREDICATE_BOM),
        (PREDICATE_GATE_REPORT, PREDICATE_GATE_REPORT),
        (PREDICATE_SIGN, PREDICATE_SIGN),
    ],
)
def test_cosign_verifies_every_attestation_by_its_type(
    lane: LaneFiles, cosign: Tool, kind: str, predicate_type: str
) -> None:
    manifest, _ = published(lane)
    key = lane.root / "keys/signing.pub"
    checked = cosign("verify-attestation", "--key", key, "--type", kind, *OFFLINE, manifest)
    assert checked.returncode == 0, checked.stderr
    found = [
        json.loads(base64.b64decode(json.loads(line)["payload"])) for line in checked.stdout.splitlines()
    ]
    assert [statement["predicateType"] for statement in found] == [predicate_type]


def test_cosign_finds_no_attestation_of_a_type_that_is_not_there(lane: LaneFiles, cosign: Tool) -> None:
    manifest, _ = published(lane)
    key = lane.root / "keys/signing.pub"
    assert (
        cosign("verify-attestation", "--key", key, "--type", "spdxjson", *OFFLINE, manifest).returncode != 0
    )


def test_edgewright_verify_accepts_what_is_in_a_registry_and_prints_cosign_commands_that_work(
    lane: LaneFiles, cosign: Tool
) -> None:
    manifest, index = published(lane)
    policy = lane.root / "policy.json"
    signers = {"signing": {"publicKey": (lane.root / "keys/signing.pub").read_text()}}
    demands = [{"attestation": name, "signers": ["signing"]} for name in ATTESTATIONS]
    policy.write_text(json.dumps({"version": 1, "signers": signers, "demands": demands}))
    for reference in (manifest, index):
        ran = CliRunner().invoke(cli, ["verify", reference, "--policy", str(policy), "--plain-http"])
        assert ran.exit_code == 0, ran.output
    commands = [line.strip() for line in ran.output.splitlines() if line.strip().startswith("cosign ")]
    assert len(commands) == len(ATTESTATIONS)
    for command in commands:
        checked = cosign(*shlex.split(command)[1:], cwd=lane.root / "keys")
        assert checked.returncode == 0, checked.stderr


def test_oras_discovers_every_statement_of_a_manifest_and_the_signature_of_the_index(
    lane: LaneFiles, oras: Tool
) -> None:
    manifest, index = published(lane)
    for reference, count in ((manifest, 4), (index, 1)):
        found = oras("discover", "--plain-http", "--format", "json", reference)
        assert found.returncode == 0, found.stderr
        assert len(json.loads(found.stdout)["referrers"]) == count


def test_a_layout_copied_by_oras_into_a_registry_still_verifies(
    tmp_path: Path, registry: Registry, oras: Tool, cosign: Tool
) -> None:
    lane = LaneFiles(tmp_path / "fleet", {"url": "oci:out"})
    lane.all()
    run_index(lane)
    target = f"{registry.host}/copied/digit-reader:1.0.0"
    source = lane.root / "out/digit-reader"
    copied = oras("copy", "-r", "--from-oci-layout", f"{source}:1.0.0", "--to-plain-http", target)
    assert copied.returncode == 0, copied.stderr
    reference = f"{registry.host}/copied/digit-reader@{lane.digest}"
    checked = cosign("verify", "--key", lane.root / "keys/signing.pub", *OFFLINE, reference)
    assert checked.returncode == 0, checked.stderr


def test_a_registry_that_is_down_fails_at_once_with_advice(lane: LaneFiles, registry: Registry) -> None:
    lane.package()
    lane.sign()
    registry.stop()
    with pytest.raises(NetworkError, match="connection refused") as caught:
        lane.publish()
    assert "start the registry" in str(caught.value.hint)


def test_a_registry_that_asks_for_a_password_gets_it(
    tmp_path: Path, registry_with_basic_auth: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = logged_in(tmp_path, registry_with_basic_auth, monkeypatch)
    lane.all()
    run_index(lane)


def test_a_registry_behind_a_token_server_takes_pushes_for_the_least_rights(
    tmp_path: Path,
    registry_with_token_auth: Registry,
    token_server: TokenServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane = logged_in(tmp_path, registry_with_token_auth, monkeypatch)
    lane.all()
    asked = {scope for _, scopes, _ in token_server.granted for scope in scopes}
    assert asked == {f"repository:acme/{lane.model}:{actions}" for actions in ("pull", "pull,push")}
    run_index(lane)


def test_a_credential_helper_knows_the_password(
    tmp_path: Path, registry_with_token_auth: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-test"
    answer = {"Username": registry_with_token_auth.username, "Secret": registry_with_token_auth.password}
    helper.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    registry = {"url": f"{registry_with_token_auth.url}/acme", "credentials": {"helper": "test"}}
    LaneFiles(tmp_path / "fleet", registry).all()


@pytest.mark.parametrize("kind", ["registry_with_basic_auth", "registry_with_token_auth"])
def test_a_wrong_password_is_one_clear_sentence(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = logged_in(tmp_path, request.getfixturevalue(kind), monkeypatch)
    monkeypatch.setenv("REGISTRY_PASSWORD", "wrong")
    with pytest.raises(NetworkError, match="log-in") as caught:
        lane.all()
    assert "registry.credentials" in str(caught.value.hint)
    assert "wrong" not in str(caught.value)


def test_a_user_who_may_only_read_cannot_push(
    tmp_path: Path, registry_with_token_auth: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = logged_in(tmp_path, registry_with_token_auth, monkeypatch)
    monkeypatch.setenv("REGISTRY_USER", "device")
    monkeypatch.setenv("REGISTRY_PASSWORD", "reads-only")
    with pytest.raises(NetworkError, match="refuses the log-in"):
        lane.all()


def test_a_private_certificate_authority_is_named_in_the_yaml(tmp_path: Path, tls_registry: Registry) -> None:
    lane = LaneFiles(tmp_path / "fleet", {"url": f"{tls_registry.url}/acme"})
    with pytest.raises(NetworkError, match="certificate") as caught:
        lane.all()
    assert "registry.caFile" in str(caught.value.hint)
    lane.registry["caFile"] = str(tls_registry.ca_file)
    lane.publish()


def test_publishing_again_changes_nothing(lane: LaneFiles, registry: Registry) -> None:
    first = lane.all().facts
    index = run_index(lane).facts
    uploads = registry.log.read_text().count("POST /v2/")
    assert uploads > 0
    assert lane.publish().facts == {**first, "sent_bytes": 0}
    assert run_index(lane).facts == index
    assert registry.log.read_text().count("POST /v2/") == uploads


def test_a_second_signature_is_listed_beside_the_first(lane: LaneFiles, cosign: Tool) -> None:
    from unit.publish.lane import write_key

    first = published(lane)[0]
    (lane.root / "keys").rename(lane.root / "old-keys")
    write_key(lane.root / "keys")
    lane.sign()
    lane.publish()
    for folder in ("old-keys", "keys"):
        checked = cosign("verify", "--key", lane.root / folder / "signing.pub", *OFFLINE, first)
        assert checked.returncode == 0, checked.stderr


def test_what_cosign_signs_afterwards_is_kept(
    lane: LaneFiles, cosign: Tool, cosign_offline: list[str | Path], oras: Tool
) -> None:
    manifest, _ = published(lane)
    assert cosign("generate-key-pair").returncode == 0
    signed = cosign("sign", "-y", *cosign_offline, "--key", "cosign.key", "--allow-http-registry", manifest)
    assert signed.returncode == 0, signed.stderr
    lane.publish()
    for key in (cosign.home / "cosign.pub", lane.root / "keys/signing.pub"):
        checked = cosign("verify", "--key", key, *OFFLINE, manifest)
        assert checked.returncode == 0, checked.stderr


def test_many_signers_at_once_lose_nothing(lane: LaneFiles) -> None:
    """The fallback tag has no lock, and every one of them has looked before another wrote."""
    from edgewright.publish import oci, referrer
    from edgewright.publish.registry import open_registry
    from edgewright.publish.statement import sign_statement, statement
    from edgewright.trust.signing_key import load_signing_key

    lane.all()
    key = load_signing_key(lane.signing, lane.root)
    signers, rounds = 2, 12
    start = threading.Barrier(signers)
    subjects = [
        oci.manifest_descriptor(
            json.dumps({**json.loads(lane.manifest), "annotations": {"n": str(n)}}).encode()
        )
        for n in range(rounds)
    ]

    def sign(signer: int) -> list[set[str]]:
        registry = open_registry(lane.registry, lane.root)(lane.model)
        attached = []
        for subject in subjects:
            bundles = [
                sign_statement(statement("x", subject["digest"], f"https://example/{signer}/{n}", {}), key)
                for n in range(2)
            ]
            start.wait(60)
            attached.append({referrer.attach(registry, subject=subject, bundle=bundle) for bundle in bundles})
        return attached

    with ThreadPoolExecutor(signers) as pool:
        attached = list(pool.map(sign, range(signers)))
    registry = open_registry(lane.registry, lane.root)(lane.model)
    for subject, *digests in zip(subjects, *attached, strict=True):
        entries = [entry["digest"] for entry in referrer.listed(registry, subject["digest"])]
        assert sorted(entries) == sorted(set().union(*digests))


def test_an_entry_that_somebody_drops_during_a_push_is_there_at_its_end(
    lane: LaneFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgewright.publish import oci, push
    from edgewright.publish.referrer import attach, listed
    from edgewright.publish.registry import Registry as Repository
    from edgewright.publish.registry import open_registry
    from edgewright_agent.contract import OCI_INDEX, fallback_tag

    def dropped(registry: Repository, *, subject: oci.Descriptor, bundle: bytes) -> str:
        digest = attach(registry, subject=subject, bundle=bundle)
        # As cosign does that has read the list a moment before.
        registry.put_manifest(fallback_tag(lane.digest), oci.index([]), OCI_INDEX)
        return digest

    monkeypatch.setattr(push, "attach", dropped)
    facts = lane.all().facts
    entries = listed(open_registry(lane.registry, lane.root)(lane.model), lane.digest)
    assert {entry["digest"] for entry in entries} == set(facts["referrers"])


def test_a_bundle_too_many_signers_dropped_is_entered_again_by_publishing(lane: LaneFiles) -> None:
    from edgewright.publish import oci
    from edgewright.publish.referrer import listed
    from edgewright.publish.registry import open_registry
    from edgewright_agent.contract import OCI_INDEX, fallback_tag

    lane.all()
    registry = open_registry(lane.registry, lane.root)(lane.model)
    registry.put_manifest(fallback_tag(lane.digest), oci.index([]), OCI_INDEX)
    lane.publish()
    assert len(listed(registry, lane.digest)) == 4


def logged_in(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> LaneFiles:
    """Return a lane whose registry takes user name and password from the environment."""
    monkeypatch.setenv("REGISTRY_USER", str(registry.username))
    monkeypatch.setenv("REGISTRY_PASSWORD", str(registry.password))
    credentials = {"username": "env:REGISTRY_USER", "password": "env:REGISTRY_PASSWORD"}
    return LaneFiles(tmp_path / "fleet", {"url": f"{registry.url}/acme", "credentials": credentials})
