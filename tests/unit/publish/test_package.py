"""Packaging: the same files give the same digest anywhere, in a form other tools read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgewright.errors import BuildError, EnvironmentFault
from edgewright.publish import oci
from unit.publish.lane import LaneFiles


def test_two_folders_give_one_digest(tmp_path: Path) -> None:
    first, second = LaneFiles(tmp_path / "here"), LaneFiles(tmp_path / "some/where/else")
    assert first.package().facts == second.package().facts
    assert first.manifest == second.manifest


def test_one_changed_byte_of_the_weights_gives_another_digest(tmp_path: Path) -> None:
    first, second = LaneFiles(tmp_path / "a"), LaneFiles(tmp_path / "b", weights=b"other")
    assert first.package().facts["digest"] != second.package().facts["digest"]


def test_the_config_is_model_pack_and_holds_no_keys_of_our_own(tmp_path: Path) -> None:
    lane = LaneFiles(tmp_path)
    lane.package()
    config = json.loads(lane.inputs["packaged/config.json"].read_bytes())
    assert set(config) == {"descriptor", "config", "modelfs"}
    assert set(config["descriptor"]) == {"name", "version", "description", "licenses"}
    assert config["config"] == {"format": "onnx", "precision": "int8", "quantization": "int8"}
    layers = json.loads(lane.manifest)["layers"]
    assert config["modelfs"] == {"type": "layers", "diffIds": [layer["digest"] for layer in layers]}


def test_layers_come_in_the_order_a_device_needs_them(tmp_path: Path) -> None:
    lane = LaneFiles(tmp_path)
    facts = lane.package().facts
    names = [layer["file"] for layer in facts["layers"]]
    assert names == ["model.onnx", "runtime.json", "labels.json", "golden.json", "drift.json"]
    assert facts["size_bytes"] == sum(layer["size_bytes"] for layer in facts["layers"])


def test_a_model_without_labels_has_one_layer_less(tmp_path: Path) -> None:
    lane = LaneFiles(tmp_path)
    del lane.inputs["evaluated/labels.json"]
    assert "labels.json" not in [layer["file"] for layer in lane.package().facts["layers"]]


def test_a_missing_file_names_the_stage_that_left_it_out(tmp_path: Path) -> None:
    lane = LaneFiles(tmp_path)
    del lane.inputs["evaluated/golden.json"]
    with pytest.raises(BuildError, match=r"evaluated left no golden\.json"):
        lane.package()


def test_a_full_disk_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_paths: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(EnvironmentFault, match="no space left") as caught:
        LaneFiles(tmp_path).package()
    assert "free some space" in str(caught.value.hint)


def test_32_bit_arm_is_named_as_oci_names_it() -> None:
    assert oci.platform("armv7") == {"os": "linux", "architecture": "arm", "variant": "v7"}
    assert oci.platform("riscv64") == {"os": "linux", "architecture": "riscv64"}
