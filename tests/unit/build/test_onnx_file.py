from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as some
from onnx import TensorProto, helper
from safetensors.numpy import save

from edgewright.build.onnx_file import OPSETS, parse, weights_in
from edgewright.errors import BuildError
from unit.build.onnx_files import dense, made, tensor, weights


def refused(model: onnx.ModelProto) -> str:
    with pytest.raises(BuildError) as caught:
        parse(model.SerializeToString(), "detector.onnx")
    return str(caught.value)


def test_a_sound_file_is_read() -> None:
    model = parse(made().SerializeToString(), "detector.onnx")
    assert weights_in(model) == 4 * 8 + 8 + 8 * 3 + 3


@pytest.mark.parametrize(
    "data",
    [b"", b"pickle", b"\x80\x04\x95", save({"w": np.zeros(3, np.float32)}), b"PK\x03\x04" + bytes(100)],
)
def test_other_files_are_not_onnx_models(data: bytes) -> None:
    with pytest.raises(BuildError, match=r"^detector\.onnx is not an ONNX model"):
        parse(data, "detector.onnx")


@given(some.integers(1, 300), some.integers(0, 255))
def test_a_damaged_file_is_read_or_refused_in_one_sentence(position: int, value: int) -> None:
    data = bytearray(made().SerializeToString())
    data[position % len(data)] = value
    try:
        parse(bytes(data), "detector.onnx")
    except BuildError as error:
        assert str(error).startswith("detector.onnx")
        assert "\n" not in str(error)


def test_a_truncated_file_is_refused() -> None:
    with pytest.raises(BuildError, match=r"^detector\.onnx"):
        parse(made().SerializeToString()[:-40], "detector.onnx")


def test_weights_in_another_file_are_refused() -> None:
    model = made()
    first = model.graph.initializer[0]
    first.ClearField("raw_data")
    first.data_location = TensorProto.EXTERNAL
    first.external_data.add(key="location", value="../../etc/passwd")
    assert refused(model) == "detector.onnx keeps 'w1' in another file"


def test_weights_hidden_in_a_branch_are_found_as_well() -> None:
    constant = helper.make_node("Constant", [], ["c"], value=tensor("deep", np.array([np.nan], np.float32)))
    add = helper.make_node("Add", ["m2", "c"], ["x"])
    body = helper.make_graph([constant, add], "then", [], [helper.make_tensor_value_info("x", 1, None)])
    other = helper.make_graph(
        [helper.make_node("Identity", ["m2"], ["y"])],
        "else",
        [],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    nodes = [*dense()[:-1], helper.make_node("If", ["yes"], ["logits"], then_branch=body, else_branch=other)]
    assert refused(made(nodes=nodes, initializers=[*weights(), tensor("yes", np.array(True))])) == (
        "detector.onnx holds NaN or infinity in 'deep'"
    )


@pytest.mark.parametrize("opset", [OPSETS[0] - 1, OPSETS[-1] + 1, 0])
def test_an_opset_out_of_range_is_refused_with_the_range(opset: int) -> None:
    assert f"has opset {opset}; {OPSETS[0]} to {OPSETS[-1]} are read" in refused(made(opset=opset))


def test_an_ir_version_of_the_future_is_refused() -> None:
    assert "has IR version 99" in refused(made(ir_version=99))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(number: float) -> None:
    damaged = weights()
    damaged[1] = tensor("b1", np.array([0, number, 0, 0, 0, 0, 0, 0], np.float32))
    assert refused(made(initializers=damaged)) == "detector.onnx holds NaN or infinity in 'b1'"


def test_a_single_infinity_is_a_mask_and_not_damage() -> None:
    nodes = [*dense()[:-1], helper.make_node("Add", ["m2", "b2"], ["open"])]
    nodes.append(helper.make_node("Max", ["open", "never"], ["logits"]))
    model = made(nodes=nodes, initializers=[*weights(), tensor("never", np.array(-np.inf, np.float32))])
    parse(model.SerializeToString(), "detector.onnx")


def test_half_precision_weights_are_refused() -> None:
    model = made(initializers=weights(np.float16), dtype=TensorProto.FLOAT16)
    assert refused(model) == "detector.onnx keeps 'w1' as float16; only models with fp32 weights are taken"


def test_double_precision_weights_are_refused() -> None:
    assert "as double" in refused(made(initializers=weights(np.float64), dtype=TensorProto.DOUBLE))


def test_a_quantized_model_is_refused_with_the_node() -> None:
    nodes = [helper.make_node("DynamicQuantizeLinear", ["point"], ["q", "s", "z"], name="quant"), *dense()]
    assert refused(made(nodes=nodes)) == (
        "detector.onnx is quantized already (DynamicQuantizeLinear, node 'quant')"
    )


def test_an_operator_nobody_has_is_refused() -> None:
    nodes = [*dense()[:-1], helper.make_node("MyAdd", ["m2", "b2"], ["logits"], domain="acme", name="mine")]
    assert "uses acme::MyAdd (node 'mine')" in refused(made(nodes=nodes, domains=["acme"]))


def test_random_numbers_are_refused() -> None:
    nodes = [*dense()[:-1], helper.make_node("RandomNormalLike", ["m2"], ["logits"], name="dice")]
    assert refused(made(nodes=nodes)) == "detector.onnx draws random numbers (RandomNormalLike, node 'dice')"


def test_a_graph_that_breaks_the_rules_is_refused_with_the_checkers_words() -> None:
    nodes = [*dense()[:-1], helper.make_node("Add", ["m2", "nowhere"], ["logits"])]
    message = refused(made(nodes=nodes))
    assert message.startswith("detector.onnx breaks the rules of ONNX: ")
    assert "nowhere" in message


def with_function(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """The model with its last operator inside a function of the file's own."""
    inner = [*nodes, helper.make_node("Add", ["a", "c"], ["b"])]
    function = helper.make_function("own", "Last", ["a"], ["b"], inner, [helper.make_opsetid("", 20)])
    call = helper.make_node("Last", ["m2"], ["logits"], domain="own")
    model = made(nodes=[*dense()[:-1], call], domains=["own"])
    model.functions.append(function)
    return model


def constant(value: onnx.TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], value=value)


def test_a_function_of_the_files_own_is_looked_into_like_the_graph() -> None:
    sound = with_function(constant(tensor("bias", np.zeros(3, np.float32))))
    parse(sound.SerializeToString(), "detector.onnx")
    nan = with_function(constant(tensor("bias", np.array([np.nan, 0, 0], np.float32))))
    assert refused(nan) == "detector.onnx holds NaN or infinity in 'bias'"
    half = constant(tensor("bias", np.zeros(3, np.float16)))
    assert "keeps 'bias' as float16" in refused(with_function(half))
    elsewhere = tensor("bias", np.zeros(3, np.float32))
    elsewhere.ClearField("raw_data")
    elsewhere.data_location = TensorProto.EXTERNAL
    elsewhere.external_data.add(key="location", value="../../etc/passwd")
    assert refused(with_function(constant(elsewhere))) == "detector.onnx keeps 'bias' in another file"


def test_random_numbers_in_a_branch_of_a_function_are_found() -> None:
    drawn = helper.make_node("RandomNormal", [], ["r"], shape=[3], name="dice")
    then = helper.make_graph([drawn], "then", [], [helper.make_tensor_value_info("r", 1, [3])])
    zeros = helper.make_node("Constant", [], ["z"], value=tensor("z", np.zeros(3, np.float32)))
    other = helper.make_graph([zeros], "else", [], [helper.make_tensor_value_info("z", 1, [3])])
    yes = helper.make_node("Constant", [], ["yes"], value=tensor("yes", np.array(True)))
    choice = helper.make_node("If", ["yes"], ["c"], then_branch=then, else_branch=other)
    assert refused(with_function(yes, choice)) == (
        "detector.onnx draws random numbers (RandomNormal, node 'dice')"
    )


def test_a_sparse_constant_in_another_file_is_refused() -> None:
    values, indices = tensor("s", np.ones(1, np.float32)), tensor("i", np.array([2], np.int64))
    values.ClearField("raw_data")
    values.data_location = TensorProto.EXTERNAL
    values.external_data.add(key="location", value="../../etc/passwd")
    sparse = helper.make_sparse_tensor(values, indices, [3])
    nodes = [*dense()[:-1], helper.make_node("Constant", [], ["c"], sparse_value=sparse)]
    nodes.append(helper.make_node("Add", ["m2", "c"], ["logits"]))
    assert refused(made(nodes=nodes)) == "detector.onnx keeps 's' in another file"
