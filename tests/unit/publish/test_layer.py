"""Compressed layers: a plain tar.gz for everybody, the same bytes for the same file, and only where it pays."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from edgewright.bench.gate import artifact_bytes, storage_notes
from edgewright.publish.layer import SUFFIX, make_layer, pack
from edgewright_agent.artifact import parse
from edgewright_agent.contract import LAYER_WEIGHT, LAYER_WEIGHT_CONFIG, digest_of, file_of_layer
from edgewright_agent.download import fetch
from edgewright_agent.files import Disk
from edgewright_agent.transport.layout import DirectoryFiles, LayoutSource
from unit.publish.lane import LaneFiles

COMPRESSIBLE = b"weights " * 10_000


def written(folder: Path, data: bytes) -> Path:
    path = folder / "input"
    path.write_bytes(data)
    return path


def test_a_compressed_layer_is_a_tar_archive_of_the_one_file(tmp_path: Path) -> None:
    layer = make_layer(
        LAYER_WEIGHT, written(tmp_path, COMPRESSIBLE), tmp_path, "model.onnx", compression="gzip"
    )
    assert layer.path.name == "model.onnx.tar.gz"
    with tarfile.open(layer.path) as archive:
        [entry] = archive.getmembers()
        assert (entry.name, entry.mtime, entry.uid, entry.mode) == ("model.onnx", 0, 0, 0o644)
        found = archive.extractfile(entry)
        assert found is not None
        assert found.read() == COMPRESSIBLE


def test_other_tools_and_devices_each_find_what_they_look_for(tmp_path: Path) -> None:
    layer = make_layer(
        LAYER_WEIGHT, written(tmp_path, COMPRESSIBLE), tmp_path, "model.onnx", compression="gzip"
    )
    assert layer.descriptor["mediaType"] == "application/vnd.cncf.model.weight.v1.tar+gzip"
    assert layer.descriptor["annotations"] == {
        "org.opencontainers.image.title": "model.onnx.tar.gz",
        "org.cncf.model.filepath": "model.onnx",
        "dev.edgewright.file-digest": digest_of(COMPRESSIBLE),
        "dev.edgewright.file-size": str(len(COMPRESSIBLE)),
    }
    assert file_of_layer(layer.descriptor) == ("model.onnx", digest_of(COMPRESSIBLE), len(COMPRESSIBLE))


def test_the_diff_id_is_that_of_the_uncompressed_archive(tmp_path: Path) -> None:
    layer = make_layer(
        LAYER_WEIGHT, written(tmp_path, COMPRESSIBLE), tmp_path, "model.onnx", compression="gzip"
    )
    import gzip

    assert layer.diff_id == digest_of(gzip.decompress(layer.path.read_bytes()))


def test_the_same_file_gives_the_same_archive_at_any_time_and_place(tmp_path: Path) -> None:
    source = written(tmp_path, COMPRESSIBLE)
    pack(source, tmp_path / "one", "model.onnx")
    os.utime(source, (1, 1))
    source.chmod(0o600)
    pack(source.rename(tmp_path / "elsewhere"), tmp_path / "two", "model.onnx")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    "data",
    [np.random.default_rng(0).bytes(40_000), b"x" * 4095],
    ids=["does-not-shrink-by-a-tenth", "small"],
)
def test_what_compression_does_not_pay_for_stays_as_it_is(tmp_path: Path, data: bytes) -> None:
    layer = make_layer(LAYER_WEIGHT_CONFIG, written(tmp_path, data), tmp_path, "a.json", compression="gzip")
    assert layer.descriptor["mediaType"] == LAYER_WEIGHT_CONFIG
    assert layer.descriptor["digest"] == layer.diff_id == digest_of(data)
    assert not list(tmp_path.glob("*" + SUFFIX))


def test_without_a_wish_nothing_is_compressed(tmp_path: Path) -> None:
    layer = make_layer(LAYER_WEIGHT, written(tmp_path, COMPRESSIBLE), tmp_path, "model.onnx")
    assert layer.path.read_bytes() == COMPRESSIBLE


def test_a_lane_with_compression_goes_through_a_registry_to_a_device(tmp_path: Path) -> None:
    lane = LaneFiles(tmp_path, weights=COMPRESSIBLE, compression="gzip")
    facts = lane.package().facts
    assert facts["size_bytes"] < facts["stored_bytes"] / 10
    lane.sign()
    lane.publish()
    artifact = parse(lane.manifest)
    staging = tmp_path / "staging"
    staging.mkdir()
    source = LayoutSource(DirectoryFiles(str(tmp_path / "registry")))
    for layer in artifact.layers:
        fetch(source, lane.model, layer, staging, Disk(), reserve_bytes=0)
    assert (staging / "model.onnx").read_bytes() == COMPRESSIBLE
    assert sorted(path.name for path in staging.iterdir()) == sorted(layer.file for layer in artifact.layers)
    config = json.loads(lane.inputs["packaged/config.json"].read_bytes())
    first = json.loads(lane.manifest)["layers"][0]
    assert config["modelfs"]["diffIds"][0] not in (first["digest"], digest_of(COMPRESSIBLE))


def test_the_gate_counts_what_is_transferred_and_tells_what_is_stored(tmp_path: Path) -> None:
    lane = LaneFiles(tmp_path, weights=COMPRESSIBLE, compression="gzip")
    facts = lane.package().facts
    manifest = json.loads(lane.manifest)
    assert artifact_bytes(manifest) == facts["size_bytes"]
    [note] = storage_notes(manifest)
    assert note.startswith("artifact-size is what is transferred, ")
    plain = LaneFiles(tmp_path / "plain", weights=COMPRESSIBLE)
    plain.package()
    assert storage_notes(json.loads(plain.manifest)) == ()


def test_pruned_weights_shrink_only_on_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dice = np.random.default_rng(7)
    dense = dice.standard_normal(200_000).astype(np.float32)
    sparse = np.where(np.abs(dense) > np.quantile(np.abs(dense), 0.9), dense, 0).astype(np.float32)
    scale = np.abs(dense).max() / 127
    ratios = {}
    for name, array in {
        "fp32": dense,
        "fp32, 90 % zeros": sparse,
        "int8": np.rint(dense / scale).astype(np.int8),
        "int8, 90 % zeros": np.rint(sparse / scale).astype(np.int8),
    }.items():
        source = written(tmp_path, array.tobytes())
        pack(source, tmp_path / "packed", "w")
        ratios[name] = (tmp_path / "packed").stat().st_size / source.stat().st_size
    with capsys.disabled():
        print("\n  gzip of 200,000 normal weights: " + ", ".join(f"{k} {v:.2f}" for k, v in ratios.items()))
    assert ratios["fp32, 90 % zeros"] < 0.25
    assert ratios["int8, 90 % zeros"] < 0.35 < ratios["int8"] < 0.9
    assert ratios["fp32"] > 0.9  # left alone: it saves less than a tenth


def test_the_header_is_one_that_tar_reads() -> None:
    from edgewright.publish.layer import header

    entry = tarfile.TarInfo.frombuf(header("model.onnx", 5), "utf-8", "strict")
    assert (entry.name, entry.size, entry.isreg()) == ("model.onnx", 5, True)
    with tarfile.open(fileobj=io.BytesIO(header("a", 0) + bytes(1024))) as archive:
        assert archive.getnames() == ["a"]
