"""What is published is what the rest of the world understands: real registry, real cosign, real oras."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgewright.errors import NetworkError
from real import Registry, Tool
from unit.publish.lane import LaneFiles, run_index

GATE_REPORT = "https://edgewright.dev/gate-report/v1"
SIGN = "https://sigstore.dev/cosign/sign/v1"
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
    checked = cosign("verify-attestation", "--key", key, "--type", GATE_REPORT, *OFFLINE, manifest)
    assert checked.returncode == 0, checked.stderr
    checked = cosign("verify-attestation", "--key", key, "--type", SIGN, *OFFLINE, index)
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


def test_oras_discovers_both_statements_of_a_manifest_and_one_of_the_index(
    lane: LaneFiles, oras: Tool
) -> None:
    manifest, index = published(lane)
    for reference, count in ((manifest, 2), (index, 1)):
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
