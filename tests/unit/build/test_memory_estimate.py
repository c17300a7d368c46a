"""The memory estimate: computed from the graph, the same everywhere, and near what is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.bench.memory import peak_memory
from edgewright.build.golden import encoded
from edgewright.build.memory_estimate import MIB, SESSION_BYTES, estimate, tensor_bytes
from unit.bench.lane import RUNTIME


def chain(width: int, layers: int, *, free: str | int = "N") -> bytes:
    """Matrix products in a row, each with its activation."""
    nodes, weights = [], []
    for turn in range(layers):
        name = "x" if turn == 0 else f"r{turn - 1}"
        last = turn == layers - 1
        weights.append(numpy_helper.from_array(np.full((width, width), 0.5, np.float32), f"w{turn}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{turn}"], [f"h{turn}"]))
        nodes.append(helper.make_node("Relu", [f"h{turn}"], ["y" if last else f"r{turn}"]))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [free, width]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def test_weights_are_counted_as_they_are_stored() -> None:
    assert estimate(chain(64, 3)).weights_bytes == 3 * 64 * 64 * 4
    assert tensor_bytes(TensorProto.INT8, (3, 5)) == 15
    assert tensor_bytes(TensorProto.INT4, (3, 5)) == 8
    assert tensor_bytes(TensorProto.FLOAT16, (3, 5)) == 30


def test_what_lives_at_the_same_time_is_counted_at_batch_1() -> None:
    # The input of an operator and its output; what came before is free again.
    assert estimate(chain(64, 3)).activations_bytes == 2 * 64 * 4
    assert estimate(chain(64, 3, free=4)).activations_bytes == 4 * 2 * 64 * 4


def test_a_branch_lives_until_its_last_use() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    nodes += [helper.make_node("Relu", ["b"], ["c"]), helper.make_node("Add", ["c", "a"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8]) for name in "xy")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 20)]
    )
    assert estimate(model.SerializeToString()).activations_bytes == 3 * 8 * 4


def test_mapped_weights_need_one_copy_less() -> None:
    inside, mapped = (estimate(chain(512, 4), external=there) for there in (False, True))
    assert inside.loading_bytes - mapped.loading_bytes == 2 * 512 * 512 * 4
    assert mapped.total_bytes < inside.total_bytes
    assert estimate(chain(512, 4), arena=False).total_bytes < inside.total_bytes


def test_a_tensor_of_unknown_size_is_told_and_counts_nothing() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["n"]),
        helper.make_node("Cast", ["n"], ["y"], to=TensorProto.FLOAT),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, "M"])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 20)]
    )
    found = estimate(model.SerializeToString())
    assert found.unknown == 2
    assert found.basis.endswith("2 tensors of unknown size")
    assert found.activations_bytes == 8 * 4  # the input
    assert found.total_bytes == SESSION_BYTES + MIB


@pytest.mark.parametrize(("width", "layers"), [(32, 2), (512, 16)])
def test_it_is_near_what_is_measured(width: int, layers: int, tmp_path: Path) -> None:
    data = chain(width, layers)
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    golden = {"inputs": {"x": encoded(np.ones((1, width), np.float32))}}
    measured = peak_memory(path, RUNTIME, golden)
    assert measured is not None
    # Allocations, not times; but another processor or engine has pages of its own.
    assert 0.6 <= estimate(data).total_bytes / measured <= 1.6
    assert estimate(data).total_bytes % MIB == 0


def test_it_does_not_depend_on_the_machine_or_the_order_of_sets() -> None:
    data = chain(64, 3)
    assert estimate(data) == estimate(onnx.load_model_from_string(data).SerializeToString())
