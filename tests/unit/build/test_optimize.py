from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.build.calibrate import widened
from edgewright.build.manifest import runtime_manifest
from edgewright.build.optimize import choose, needs_reduced_range
from edgewright.errors import BuildError
from unit.build.tiny import RUNTIME, SIGNATURE, Repository


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


def test_runtime_json_is_what_the_device_needs_and_nothing_else(exported: Repository) -> None:
    document = json.loads(exported.files["optimized/runtime.json"].read_bytes())
    assert document == runtime_manifest(RUNTIME, SIGNATURE, "int8")


@pytest.mark.parametrize(
    ("spec", "why"),
    [({"precisions": ["fp32"]}, "hardware class lists no int8"), ({"recipes": []}, "model names no recipe")],
)
def test_without_int8_the_fp32_model_passes_unchanged_and_says_why(
    exported: Repository, spec: dict[str, list[str]], why: str
) -> None:
    made = exported.run("optimized", **spec)
    assert made["model.onnx"].read_bytes() == exported.files["exported/model.onnx"].read_bytes()
    assert json.loads(made["runtime.json"].read_bytes())["precision"] == "fp32"
    assert why in exported.result.facts["why"]


def test_x86_without_vnni_gets_seven_bit_weights(exported: Repository) -> None:
    narrow = exported.run("optimized", arch="amd64", isa=["avx2"])["model.onnx"].read_bytes()
    wide = exported.run("optimized", arch="amd64", isa=["avx2", "vnni"])["model.onnx"].read_bytes()
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
    assert needs_reduced_range(arch, isa) is reduced


def test_int8_needs_both_the_recipe_and_the_precision() -> None:
    assert [choose(r, p)[0] for r in ([], ["static-int8"]) for p in (["fp32"], ["int8"])] == ["fp32"] * 3 + [
        "int8"
    ]


def test_calibration_data_of_another_shape_are_refused(exported: Repository) -> None:
    (exported.folder / "data.py").write_text(
        "import numpy as np\ndef calibration(): return {'point': np.zeros((5, 3), np.float32)}, np.zeros(5, int)"
    )
    with pytest.raises(
        BuildError, match=r"input 'point' is float32\[5, 3\]; the signature says float32\[5, 4\]"
    ):
        exported.run("optimized")


@given(st.floats(-1e6, 0), st.floats(0, 1e6))
def test_a_widened_range_holds_the_measured_one_and_little_more(low: float, high: float) -> None:
    wide_low, wide_high = widened(low, high)
    assert wide_low <= low
    assert high <= wide_high
    assert wide_high <= high * (1 + 1 / 1024) or math.isclose(wide_high, high)
    assert widened(wide_low, wide_high) == (wide_low, wide_high)


def test_ranges_that_differ_in_their_last_bits_become_one() -> None:
    assert widened(-1.2345678, 9.8765432) == widened(-1.2345679, 9.8765437)
