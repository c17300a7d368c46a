"""Deltas: what is made of two versions leads a device from the one to the other, byte for byte, or is not published."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgewright.build.layout import Layout, apply
from edgewright.errors import EnvironmentFault, NetworkError
from edgewright.publish import oci
from edgewright.publish.artifact_files import ArtifactFiles
from edgewright.publish.delta import Made, make_delta, mapped
from edgewright.publish.delta_file import Operation, planes, rebuilt, write_delta
from edgewright.publish.delta_plan import pair_up, plan
from edgewright.publish.delta_tensors import tensors
from edgewright.publish.layer import make_layer
from edgewright.publish.layout_registry import LayoutRegistry
from edgewright_agent import delta as device
from edgewright_agent.artifact import Layer
from edgewright_agent.contract import (
    ANNOTATION_TITLE,
    DELTA_ADD,
    DELTA_COPY,
    DELTA_REPLACE,
    DELTA_WINDOW_BYTES,
    FILE_CPU_MODEL,
    FILE_DATA,
    LAYER_WEIGHT,
    MAX_DELTA_OPERATIONS,
    MODEL_ARTIFACT,
    OCI_MANIFEST,
    digest_of,
)
from edgewright_agent.files import Disk

Weights = Mapping[str, np.ndarray]


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Made-up weights of several types and sizes."""
    dice = np.random.default_rng(seed)
    return {
        "backbone": dice.standard_normal((256, 300), dtype=np.float32),
        "bias": dice.standard_normal(7, dtype=np.float32),
        "codes": dice.integers(-128, 127, (64, 333), dtype=np.int8),
        "head": dice.standard_normal((300, 10), dtype=np.float32),
    }


def model(tensors_: Weights) -> bytes:
    """An ONNX file with these initializers; deltas do not ask what the graph computes."""
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in tensors_],
        "made-up",
        [],
        [helper.make_tensor_value_info("head_out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in tensors_.items()],
    )
    return helper.make_model(graph).SerializeToString()


def tuned(tensors_: Weights, scale: float) -> dict[str, np.ndarray]:
    """Change every fp32 weight by about `scale` of itself."""
    dice = np.random.default_rng(1)
    return {
        name: value * (1 + scale * dice.standard_normal(value.shape)).astype(value.dtype)
        if value.dtype == np.float32
        else value
        for name, value in tensors_.items()
    }


class Lane:
    """A repository of artifacts in a layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = LayoutRegistry(folder / "registry", "oci:registry")

    def publish(
        self, files: Mapping[str, bytes], compression: str = "none", media_type: str = LAYER_WEIGHT
    ) -> bytes:
        """Publish an artifact; return its manifest."""
        work = self.folder / f"work-{len(list(self.folder.iterdir()))}"
        work.mkdir()
        layers = []
        for name, data in files.items():
            (work / f"{name}.in").write_bytes(data)
            layers.append(make_layer(media_type, work / f"{name}.in", work, name, compression=compression))
            self.registry.put_blob(str(layers[-1].descriptor["digest"]), layers[-1].path)
        self.registry.put_blob(str(oci.EMPTY_CONFIG["digest"]), b"{}")
        body = oci.manifest(
            artifact_type=MODEL_ARTIFACT,
            config=oci.EMPTY_CONFIG,
            layers=[layer.descriptor for layer in layers],
        )
        self.registry.put_manifest(digest_of(body), body, OCI_MANIFEST)
        return body

    def open(self, manifest: bytes) -> ArtifactFiles:
        """Look at an artifact as a release does."""
        folder = self.folder / f"open-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        return ArtifactFiles(self.registry, manifest, folder)

    def delta(self, base: Mapping[str, bytes], target: Mapping[str, bytes], **options: str) -> Made | str:
        """Make the delta between two artifacts with these files."""
        folder = self.folder / f"made-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        return make_delta(
            self.open(self.publish(base, **options)), self.open(self.publish(target, **options)), folder
        )


@pytest.fixture
def lane(tmp_path: Path) -> Lane:
    return Lane(tmp_path)


def carried_out(made: Path, base: bytes, target: bytes, folder: Path) -> bytes:
    """What a device makes of a delta."""
    (folder / "base").write_bytes(base)
    layer = Layer("model.onnx", digest_of(target), len(target))
    device.apply(made, folder / "base", layer, folder / "whole", Disk(), reserve_bytes=0)
    return (folder / "whole").read_bytes()


def layer_of(made: Made | str, name: str) -> Path:
    assert isinstance(made, Made), made
    return next(
        path for descriptor, path in made.layers if descriptor["annotations"][ANNOTATION_TITLE] == name
    )


def operations_of(base: bytes, target: bytes) -> list[Operation]:
    return plan(base, target, pair_up(tensors(base), tensors(target)))


# --- what is made -----------------------------------------------------------------------------------------------


def test_a_new_head_travels_alone(lane: Lane, tmp_path: Path) -> None:
    before, after = weights(), weights() | {"head": weights(9)["head"]}
    made = lane.delta({"model.onnx": model(before)}, {"model.onnx": model(after)})
    assert isinstance(made, Made)
    assert made.bytes < 1.1 * before["head"].nbytes
    assert (
        carried_out(layer_of(made, "model.onnx"), model(before), model(after), tmp_path)
    ) == model(after)  # fmt: skip


def test_a_fine_tuned_tensor_travels_as_its_difference(lane: Lane, tmp_path: Path) -> None:
    before = weights()
    after = tuned(before, 1e-5)
    made = lane.delta({"model.onnx": model(before)}, {"model.onnx": model(after)}, compression="gzip")
    assert isinstance(made, Made)
    assert made.share < 0.4
    assert carried_out(
        layer_of(made, "model.onnx"), model(before), model(after), tmp_path
    ) == model(after)  # fmt: skip


def test_a_difference_goes_by_name_wherever_the_tensor_lies(tmp_path: Path) -> None:
    before = weights()
    after = dict(reversed(tuned(before, 1e-5).items()))
    kinds = {one.kind for one in operations_of(model(before), model(after))}
    assert DELTA_ADD in kinds
    write_delta(tmp_path / "made", model(before), model(after), operations_of(model(before), model(after)))
    assert (tmp_path / "made").stat().st_size < 0.4 * len(model(after))


def test_a_renamed_tensor_is_found_by_its_type_and_shape() -> None:
    before = weights()
    after = {f"new.{name}": value for name, value in before.items()}
    copied = sum(one.length for one in operations_of(model(before), model(after)) if one.kind == DELTA_COPY)
    assert copied > 0.95 * len(model(before))


def test_weights_of_a_file_of_their_own_are_aligned_by_the_graph(lane: Lane, tmp_path: Path) -> None:
    layout = Layout((FILE_DATA,))
    before, after = apply(layout, model(weights())), apply(layout, model(tuned(weights(), 1e-5)))
    made = lane.delta(before, after)
    assert (
        carried_out(layer_of(made, FILE_DATA), before[FILE_DATA], after[FILE_DATA], tmp_path)
        == after[FILE_DATA]
    )


def test_weights_that_moved_into_a_file_of_their_own_are_found_where_they_were(lane: Lane) -> None:
    before, after = model(weights()), apply(Layout((FILE_DATA,)), model(weights()))
    made = lane.delta({"model.onnx": before}, after)
    assert device.read_header(layer_of(made, FILE_DATA)).base_digest == digest_of(before)
    assert isinstance(made, Made)
    assert made.share < 0.05


def test_what_runs_on_the_processor_is_aligned_by_its_own_graph(lane: Lane, tmp_path: Path) -> None:
    before, after = model(weights()), model(tuned(weights(), 1e-5))
    other = model(weights(4))
    made = lane.delta(
        {"model.onnx": other, FILE_CPU_MODEL: before}, {"model.onnx": other, FILE_CPU_MODEL: after}
    )
    assert isinstance(made, Made)
    assert made.share < 0.4
    assert carried_out(layer_of(made, FILE_CPU_MODEL), before, after, tmp_path) == after


def test_an_added_class_costs_the_head(lane: Lane, tmp_path: Path) -> None:
    before = weights()
    after = before | {"head": np.concatenate([before["head"], before["head"][:, :1]], axis=1)}
    made = lane.delta({"model.onnx": model(before)}, {"model.onnx": model(after)})
    assert isinstance(made, Made)
    assert made.bytes < 1.1 * after["head"].nbytes
    assert carried_out(
        layer_of(made, "model.onnx"), model(before), model(after), tmp_path
    ) == model(after)  # fmt: skip


def test_files_that_are_the_same_are_in_no_delta_and_compressed_ones_are_read(lane: Lane) -> None:
    labels, golden = b'["zero"]' * 600, b'{"a":1}' * 700
    before = {"model.onnx": model(weights()), "labels.json": labels, "golden.json": golden}
    made = lane.delta(
        before,
        before
        | {"golden.json": golden + b"\n", "model.onnx": model(weights() | {"bias": weights(3)["bias"]})},
        compression="gzip",
    )
    assert isinstance(made, Made)
    assert {layer["annotations"][ANNOTATION_TITLE] for layer, _ in made.layers} <= {
        "model.onnx",
        "golden.json",
    }
    assert json.loads(made.manifest)["artifactType"].startswith("application/vnd.dev.edgewright.delta")


def test_the_same_two_versions_give_the_same_delta(lane: Lane) -> None:
    before, after = {"model.onnx": model(weights())}, {"model.onnx": model(tuned(weights(), 1e-5))}
    one, other = lane.delta(before, after), lane.delta(before, after)
    assert isinstance(one, Made) and isinstance(other, Made)
    assert one.digest == other.digest


# --- what is not -------------------------------------------------------------------------------------------------


def test_what_takes_as_much_as_the_whole_is_not_made(lane: Lane) -> None:
    made = lane.delta({"model.onnx": model(weights())}, {"model.onnx": model(weights(5))})
    assert isinstance(made, str)


def scattered(operations: int) -> tuple[bytes, bytes]:
    """Two files; to make one of the other takes so many operations: a byte replaced, 67 copied, and so on."""
    before = np.frombuffer(np.random.default_rng(0).bytes(34 * operations), np.uint8)
    after = before.copy()
    after[::68] += 1
    return before.tobytes(), after.tobytes()


def test_what_takes_more_operations_than_devices_carry_out_is_not_made(lane: Lane) -> None:
    before, after = scattered(MAX_DELTA_OPERATIONS + 2)
    made = lane.delta({"labels.json": before}, {"labels.json": after})
    assert made == "nothing is alike, or in too many pieces"


def test_what_takes_as_many_operations_as_they_carry_out_is_made(lane: Lane, tmp_path: Path) -> None:
    before, after = scattered(MAX_DELTA_OPERATIONS)
    made = lane.delta({"labels.json": before}, {"labels.json": after})
    assert carried_out(layer_of(made, "labels.json"), before, after, tmp_path) == after


def test_what_is_tiny_is_not_made(lane: Lane) -> None:
    assert lane.delta({"a.json": b"1" * 900}, {"a.json": b"1" * 901}) == "what changes is as small as a delta"


def test_nothing_is_made_of_encrypted_weights(lane: Lane) -> None:
    names = ("sealed", "+encrypted")
    files = lane.open(lane.publish({"model.onnx": model(weights())}))
    sealed = lane.open(lane.publish({"model.onnx": model(tuned(weights(), 1e-5))}))
    sealed.files["model.onnx"].layer["mediaType"] += names[1]
    for base, target in ((files, sealed), (sealed, files)):
        made = make_delta(base, target, lane.folder)
        assert isinstance(made, str) and made.startswith("encrypted")


def test_an_artifact_whose_bytes_are_gone_or_others_is_said(lane: Lane) -> None:
    files = lane.open(lane.publish({"model.onnx": model(weights())}))
    next(
        path for path in (lane.registry.folder / "blobs/sha256").iterdir() if path.stat().st_size > 1000
    ).unlink()
    with pytest.raises(NetworkError, match="not in the registry any more"):
        files.path("model.onnx")


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_file_there_was_no_room_for_is_said_and_never_taken_for_the_whole(
    lane: Lane, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b'["zero"]' * 999
    files = lane.open(lane.publish({"labels.json": data}, compression=compression))
    (folder,) = lane.folder.glob("open-*")

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        if compression == "none":
            patched.setattr(Path, "rename", full)
        else:
            (folder / "labels.json.whole").symlink_to("/dev/full")
        with pytest.raises(EnvironmentFault, match="no space left"):
            files.path("labels.json")
    (folder / "labels.json.whole").unlink(missing_ok=True)
    assert files.path("labels.json").read_bytes() == data


def test_a_delta_there_is_no_room_for_is_said() -> None:
    with pytest.raises(EnvironmentFault, match="no space left"):
        write_delta(Path("/dev/full"), b"old", b"new", [Operation(DELTA_REPLACE, 1, 0, 3)])


# --- any bytes at all -----------------------------------------------------------------------------------------------

_BYTES = st.binary(min_size=1, max_size=3000)


@settings(deadline=None, max_examples=60)
@given(head=_BYTES, body=_BYTES, tail=_BYTES, other=_BYTES)
def test_any_two_files_lead_to_each_other(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, body: bytes, tail: bytes, other: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    base, target = head + body + tail, tail + body + other + head
    operations = plan(base, target, [])
    assert sum(one.length for one in operations) == len(target)
    write_delta(folder / "made", base, target, operations)
    assert carried_out(folder / "made", base, target, folder) == target
    assert rebuilt(folder / "made", base) == (digest_of(target), len(target))


@settings(deadline=None, max_examples=30)
@given(
    length=st.integers(1, 3 * DELTA_WINDOW_BYTES),
    width=st.sampled_from((1, 2, 4, 8)),
    kind=st.sampled_from((DELTA_ADD, DELTA_REPLACE)),
    offset=st.integers(0, 9),
)
def test_elements_of_any_width_come_back_from_their_planes(
    tmp_path_factory: pytest.TempPathFactory, length: int, width: int, kind: int, offset: int
) -> None:
    folder = tmp_path_factory.mktemp("planes")
    dice = np.random.default_rng(length)
    base, target = dice.bytes(length + offset), dice.bytes(length)
    operation = Operation(kind, width, offset if kind == DELTA_ADD else 0, length)
    write_delta(folder / "made", base, target, [operation])
    assert carried_out(folder / "made", base, target, folder) == target


def test_a_window_becomes_planes_and_elements_again() -> None:
    data = bytes(range(11))
    assert planes(np.frombuffer(data, np.uint8), 4) == bytes([0, 4, 1, 5, 2, 6, 3, 7, 8, 9, 10])
    assert device.elements(planes(np.frombuffer(data, np.uint8), 4), 4) == data


def test_tensors_are_found_where_the_protobuf_library_finds_them(tmp_path: Path) -> None:
    data = model(weights())
    (tmp_path / "model.onnx").write_bytes(data)
    proto = onnx.load_model_from_string(data)
    with mapped(tmp_path / "model.onnx") as read:
        found = {one.name: bytes(read[one.offset : one.offset + one.length]) for one in tensors(read)}
    assert found == {one.name: one.raw_data for one in proto.graph.initializer}


@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x3a\x7f", b"\x0b", b"\x3a\x02\x2a\x7f"])
def test_what_is_no_onnx_is_said_and_not_walked_off_the_end(data: bytes) -> None:
    with pytest.raises(ValueError, match="field|number"):
        tensors(data)
