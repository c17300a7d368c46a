from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.build.calibrate import activation_ranges, widened
from edgewright.build.passes.facts import saturates
from edgewright.errors import BuildError
from unit.build.tiny import RUNTIME, SIGNATURE, SPEC, Repository


def hardware(arch: str, *isa: str) -> dict[str, Any]:
    return {**SPEC["hardware"], "cpu": {"arch": arch, "isa": list(isa)}}


def shipped(repository: Repository, **spec: Any) -> dict[str, Any]:
    """Search and decide; return the files of both stages."""
    found = repository.run("searched", **spec)
    return {**found, **repository.run("optimized", **spec)}


def weights_of(data: bytes) -> np.ndarray:
    graph = onnx.load_model_from_string(data).graph
    parts = [onnx.numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.INT8]
    return np.concatenate([part.ravel() for part in parts if part.size > 8])


def test_a_class_with_int8_gets_unsigned_activations_and_signed_weights_per_channel(
    exported: Repository,
) -> None:
    graph = onnx.load_model_from_string(exported.files["optimized/model.onnx"].read_bytes()).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    zeros = [tensors[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert {zero.data_type for zero in zeros} == {onnx.TensorProto.UINT8}
    per_channel = [
        node for node in graph.node if node.op_type == "DequantizeLinear" and tensors[node.input[1]].dims
    ]
    assert Counter(tensors[node.input[0]].data_type for node in per_channel)[onnx.TensorProto.INT8] == 2


def test_the_runtime_manifest_names_the_precision_and_the_session(exported: Repository) -> None:
    document = json.loads(exported.files["optimized/runtime.json"].read_bytes())
    assert document["precision"] == "int8"
    assert document["signature"] == SIGNATURE
    assert {name: document[name] for name in RUNTIME} == RUNTIME


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"precisions": ["fp32"]}, {"static-int8": "the hardware class lists no int8"}),
        ({"recipes": []}, {}),
    ],
)
def test_without_int8_the_fp32_model_passes_unchanged_and_says_why(
    exported: Repository, spec: dict[str, list[str]], why: dict[str, str]
) -> None:
    made = shipped(exported, **spec)
    assert made["model.onnx"].read_bytes() == exported.files["exported/model.onnx"].read_bytes()
    assert json.loads(made["runtime.json"].read_bytes())["precision"] == "fp32"
    search = json.loads(made["search.json"].read_bytes())
    assert search["notApplicable"] == why
    assert search["chosen"] == "fp32"


def test_x86_without_vnni_gets_seven_bit_weights(exported: Repository) -> None:
    narrow = shipped(exported, hardware=hardware("amd64", "avx2"))["model.onnx"].read_bytes()
    wide = shipped(exported, hardware=hardware("amd64", "avx2", "vnni"))["model.onnx"].read_bytes()
    assert np.abs(weights_of(narrow)).max() <= 64
    assert np.abs(weights_of(wide)).max() > 64


@pytest.mark.parametrize(
    ("arch", "isa", "reduced"),
    [
        ("amd64", ["sse4.2"], True),
        ("amd64", ["avx2", "avx-vnni"], False),
        ("arm64", ["neon"], False),
        ("riscv64", [], False),
    ],
)
def test_only_x86_without_vnni_saturates(arch: str, isa: list[str], reduced: bool) -> None:
    assert saturates(arch, isa) is reduced


def test_a_changed_limit_decides_anew_from_the_same_figures(exported: Repository) -> None:
    figures = exported.files["searched/candidates.json"].read_bytes()
    tight = {**SPEC["limits"], "artifactSize": 100}
    made = exported.run("optimized", limits=tight)
    search = json.loads(made["search.json"].read_bytes())
    assert not search["fits"]
    assert "no candidate fits this class; the nearest is" in search["why"]
    assert "artifact-size" in search["why"]
    assert exported.files["searched/candidates.json"].read_bytes() == figures


def test_how_applications_take_it_up_changes_the_manifest_and_nothing_else(exported: Repository) -> None:
    once = {name: path.read_bytes() for name, path in exported.run("optimized").items()}
    said = {name: path.read_bytes() for name, path in exported.run("optimized", swap="after-release").items()}
    before, after = (json.loads(one.pop("runtime.json")) for one in (once, said))
    assert after == {**before, "swap": "after-release"}
    assert once == said


def test_searching_twice_gives_the_same_bytes(exported: Repository) -> None:
    once, again = ({name: path.read_bytes() for name, path in shipped(exported).items()} for _ in range(2))
    assert once == again


def test_a_network_that_gives_nan_stops_the_search(exported: Repository) -> None:
    model = onnx.load_model_from_string(exported.files["exported/model.onnx"].read_bytes())
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = np.full(tuple(tensor.dims), np.nan, np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    broken = exported.root / "broken.onnx"
    broken.write_bytes(model.SerializeToString())
    exported.files["exported/model.onnx"] = broken
    with pytest.raises(BuildError, match=r"output 'logits' holds NaN or infinity in 90 of 90 samples"):
        exported.run("searched")


def test_calibration_data_of_another_shape_are_refused(exported: Repository) -> None:
    (exported.folder / "data.py").write_text(
        "import numpy as np\ndef calibration(): return {'point': np.zeros((5, 3), np.float32)}, np.zeros(5, int)"
    )
    with pytest.raises(
        BuildError, match=r"input 'point' is float32\[5, 3\]; the signature says float32\[5, 4\]"
    ):
        exported.run("searched")


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_every_calibration_takes_any_number_of_samples(exported: Repository, method: str) -> None:
    model = onnx.load_model_from_string(exported.files["exported/model.onnx"].read_bytes())
    points = np.random.default_rng(1).standard_normal((70, 4)).astype(np.float32)
    ranges = json.loads(activation_ranges(model, {"point": points}, method))
    assert "logits" in json.dumps(ranges)


def test_an_infinite_activation_is_named(exported: Repository) -> None:
    model = onnx.load_model_from_string(exported.files["exported/model.onnx"].read_bytes())
    points = np.full((4, 4), 3e38, np.float32)
    with pytest.raises(BuildError, match="not finite on the calibration samples"):
        activation_ranges(model, {"point": points})


@given(st.floats(-1e6, 0), st.floats(0, 1e6))
def test_a_widened_range_holds_the_measured_one_and_little_more(low: float, high: float) -> None:
    wide_low, wide_high = widened(low, high)
    assert wide_low <= low
    assert high <= wide_high
    assert wide_high <= high * (1 + 1 / 1024) or math.isclose(wide_high, high)
    assert widened(wide_low, wide_high) == (wide_low, wide_high)


def test_ranges_that_differ_in_their_last_bits_become_one() -> None:
    assert widened(-1.2345678, 9.8765432) == widened(-1.2345679, 9.8765437)
