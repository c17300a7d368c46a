"""Encrypted weights: ciphertext in the place of the layer, both digests in the manifest, plaintext nowhere."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from edgewright.bench.gate import artifact_bytes, check_binding, storage_notes
from edgewright.errors import BuildError
from edgewright_agent.artifact import parse
from edgewright_agent.contract import digest_of, file_of_layer
from edgewright_agent.decrypt import unwrap
from edgewright_agent.download import fetch
from edgewright_agent.files import Disk
from edgewright_agent.transport.layout import DirectoryFiles, LayoutSource
from unit.agent.core.sealing import make_key, rsa_key, write_private, write_public
from unit.publish.lane import LaneFiles

WEIGHTS = b"secret weights, " * 5000
DEVICE = make_key()


def lane_of(root: Path, **options: Any) -> LaneFiles:
    """A lane whose weights are for one EC and one RSA key."""
    write_public(root / "recipients/pi.pub", DEVICE)
    write_public(root / "recipients/spare.pub", rsa_key())
    names = ("recipients/pi.pub", "recipients/spare.pub")
    return LaneFiles(root, weights=WEIGHTS, recipients=names, **options)


@pytest.fixture
def lane(tmp_path: Path) -> LaneFiles:
    made = lane_of(tmp_path)
    made.give("optimized", "model.onnx.data", WEIGHTS[::-1])
    made.package()
    return made


def layers_of(lane: LaneFiles) -> dict[str, dict[str, Any]]:
    return {file_of_layer(layer)[0]: layer for layer in json.loads(lane.manifest)["layers"]}


def test_weights_are_encrypted_and_documents_are_not(lane: LaneFiles) -> None:
    types = {name: layer["mediaType"].rpartition(".v1.")[2] for name, layer in layers_of(lane).items()}
    assert types == {
        "model.onnx": "raw+encrypted",
        "model.onnx.data": "raw+encrypted",
        "runtime.json": "raw",
        "labels.json": "raw",
        "golden.json": "raw",
        "drift.json": "raw",
    }


def test_digest_and_size_of_ciphertext_and_of_file_are_both_in_the_manifest(lane: LaneFiles) -> None:
    layer = layers_of(lane)["model.onnx"]
    blob = lane.inputs["packaged/model.onnx"].read_bytes()
    assert (layer["digest"], layer["size"]) == (digest_of(blob), len(blob))
    assert file_of_layer(layer) == ("model.onnx", digest_of(WEIGHTS), len(WEIGHTS))
    assert layer["annotations"]["org.opencontainers.image.title"] == "model.onnx"


def test_nothing_that_the_stage_leaves_holds_a_piece_of_the_weights(lane: LaneFiles) -> None:
    for path in lane.folder("packaged").iterdir():
        assert b"secret" not in path.read_bytes(), path.name
        assert b"terces" not in path.read_bytes(), path.name


def test_any_jose_library_opens_the_content_key_with_either_private_key(lane: LaneFiles) -> None:
    notes = layers_of(lane)["model.onnx"]["annotations"]
    text = base64.b64decode(notes["org.opencontainers.image.enc.keys.jwe"]).decode()
    for key in (DEVICE, rsa_key()):
        token = JWE()
        token.deserialize(text, JWK.from_pyca(key))
        options = json.loads(token.payload)
        assert set(options) == {"symkey", "digest", "cipheroptions"}
        assert options["digest"] == digest_of(WEIGHTS)
        assert len(base64.b64decode(options["symkey"])) == 32
        assert len(base64.b64decode(options["cipheroptions"]["nonce"])) == 16


def test_every_layer_has_a_key_of_its_own(lane: LaneFiles) -> None:
    layers = [layer for layer in parse(lane.manifest).layers if layer.sealed]
    first, second = (unwrap(layer, [DEVICE]) for layer in layers)
    assert first.key != second.key
    assert first.nonce != second.nonce


def test_the_same_weights_are_another_artifact_each_time(tmp_path: Path) -> None:
    first, second = lane_of(tmp_path / "a"), lane_of(tmp_path / "b")
    first.package()
    second.package()
    assert first.digest != second.digest
    assert [file_of_layer(layer) for layer in json.loads(first.manifest)["layers"]] == [
        file_of_layer(layer) for layer in json.loads(second.manifest)["layers"]
    ]


def test_one_recipient_is_enough(tmp_path: Path) -> None:
    lane = lane_of(tmp_path)
    lane.recipients = ("recipients/spare.pub",)
    lane.package()
    unwrap(parse(lane.manifest).layers[0], [rsa_key()])


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_lane_goes_through_a_registry_to_the_holder_of_the_key(tmp_path: Path, compression: str) -> None:
    lane = lane_of(tmp_path, compression=compression)
    lane.all()
    source = LayoutSource(DirectoryFiles(str(tmp_path / "registry")))
    staging = tmp_path / "staging"
    staging.mkdir()
    for layer in parse(lane.manifest).layers:
        key = unwrap(layer, [DEVICE]) if layer.sealed else None
        fetch(source, lane.model, layer, staging, Disk(), reserve_bytes=0, key=key)
    assert (staging / "model.onnx").read_bytes() == WEIGHTS
    assert not [
        p for p in (tmp_path / "registry").rglob("*") if p.is_file() and b"secret w" in p.read_bytes()
    ]


def test_compression_comes_before_encryption(tmp_path: Path) -> None:
    lane = lane_of(tmp_path, compression="gzip")
    facts = lane.package().facts
    layer = layers_of(lane)["model.onnx"]
    assert layer["mediaType"] == "application/vnd.cncf.model.weight.v1.tar+gzip+encrypted"
    assert layer["size"] < len(WEIGHTS) / 10
    assert facts["stored_bytes"] > len(WEIGHTS)
    [note] = storage_notes(json.loads(lane.manifest))
    assert note.startswith("artifact-size is what is transferred")


def test_the_gate_binds_its_figures_to_the_plaintext(lane: LaneFiles) -> None:
    manifest = json.loads(lane.manifest)
    figures = {"model": digest_of(WEIGHTS), "data": digest_of(WEIGHTS[::-1])}
    runtime = digest_of(lane.inputs["optimized/runtime.json"].read_bytes())
    check_binding(manifest, figures, {**figures, "runtime": runtime}, figures)
    with pytest.raises(BuildError):
        check_binding(manifest, figures, {**figures, "runtime": runtime}, {"model": digest_of(b"other")})
    plain = LaneFiles(lane.root / "plain", weights=WEIGHTS)
    plain.give("optimized", "model.onnx.data", WEIGHTS[::-1])
    plain.package()
    assert artifact_bytes(manifest) == artifact_bytes(json.loads(plain.manifest))


def test_a_recipient_replaced_after_the_plan_stops_the_stage(tmp_path: Path) -> None:
    from edgewright.publish import package

    lane = lane_of(tmp_path)
    spec = {
        "modelVersion": "1.0.0",
        "description": "Reads digits",
        "license": "Apache-2.0",
        "hardwareClass": lane.hardware_class,
        "encryption": {"recipients": [{"name": "recipients/pi.pub", "sha256": "0" * 64}]},
    }
    with pytest.raises(BuildError, match=r"recipients/pi\.pub has changed"):
        lane.run("packaged", package.run, spec)
    write_private(tmp_path / "recipients/pi.pub", DEVICE)
    with pytest.raises(BuildError, match="is a private key"):
        lane.run("packaged", package.run, spec)


def test_so_many_recipients_that_no_device_reads_the_manifest_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgewright.publish.package.MAX_MANIFEST_BYTES", 2000)
    with pytest.raises(BuildError, match="more than devices read") as caught:
        lane_of(tmp_path).package()
    assert "fewer recipients" in str(caught.value.hint)
