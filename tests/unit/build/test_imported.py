from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgewright.build.canonical import OPSET, canonical, to_bytes
from edgewright.build.imported import conform, example
from edgewright.build.onnx_file import parse
from edgewright.build.samples import Network
from edgewright.errors import BuildError
from unit.build.onnx_files import FLOAT, dense, made, tensor, weights
from unit.build.tiny import SIGNATURE, Repository

POINTS = {"point": np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)}


def imported(model: onnx.ModelProto, signature: Any = SIGNATURE) -> tuple[onnx.ModelProto, dict[str, Any]]:
    return conform(parse(model.SerializeToString(), "detector.onnx"), signature, "detector.onnx")


def outputs(model: onnx.ModelProto, batch: int = 6) -> np.ndarray:
    return Network(model.SerializeToString()).run(POINTS, batch=batch)["logits"]


def changed(**kinds: Any) -> dict[str, Any]:
    """The signature with other tensors."""
    return {**SIGNATURE, **kinds}


def test_a_dynamic_batch_of_any_name_becomes_the_signatures() -> None:
    model, facts = imported(made(batch="unk__6"))
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert facts == {"changes": [], "opset": OPSET, "largest_difference_to_file": 0.0}
    assert np.array_equal(outputs(model), outputs(made(batch="unk__6")))


def test_the_result_carries_no_trace_of_its_maker_and_is_canonical() -> None:
    model, _ = imported(made())
    data = to_bytes(model)
    assert b"somebody" not in data
    assert b"some tool" not in data
    assert to_bytes(canonical(model)) == data


def test_what_the_pipeline_exported_itself_comes_back_byte_for_byte(exported: Repository) -> None:
    data = exported.files["exported/model.onnx"].read_bytes()
    model, facts = conform(parse(data, "own.onnx"), SIGNATURE, "own.onnx")
    assert to_bytes(model) == data
    assert facts["changes"] == []


def test_a_batch_fixed_at_one_becomes_dynamic() -> None:
    model, facts = imported(made(batch=1))
    assert facts["changes"] == ["the batch, fixed at 1, is dynamic: checked with 2 and 5 samples"]
    assert np.allclose(outputs(model), outputs(made(batch=1), batch=1), atol=1e-6)


def test_a_reshape_to_one_sample_is_freed() -> None:
    nodes = [
        helper.make_node("Reshape", ["point", "flat"], ["p"]),
        helper.make_node("MatMul", ["p", "w1"], ["m1"]),
        *dense()[1:],
    ]
    flat = tensor("flat", np.array([1, 4], np.int64))
    signature = changed(inputs=[{"name": "point", "dtype": "float32", "shape": ["batch", 2, 2]}])
    model, facts = imported(
        made(batch=1, point=(2, 2), nodes=nodes, initializers=[*weights(), flat]), signature
    )
    assert len(facts["changes"]) == 1
    points = {"point": POINTS["point"].reshape(6, 2, 2)}
    assert Network(to_bytes(model)).run(points)["logits"].shape == (6, 3)


@pytest.mark.parametrize(
    ("last", "why"),
    [
        # Over the batch instead of over the classes: right for one sample only, and only looking at numbers tells.
        (helper.make_node("Softmax", ["m2"], ["logits"], axis=0), "'logits' of a sample is off by"),
        (
            helper.make_node("ReduceMean", ["m2", "axis"], ["logits"]),
            "output 'logits' is of size 1 for any batch",
        ),
        (helper.make_node("Expand", ["b2", "row"], ["logits"]), "output 'logits' is of size 1 for any batch"),
    ],
)
def test_a_fixed_batch_that_matters_is_refused_with_what_to_do(last: onnx.NodeProto, why: str) -> None:
    more = [tensor("axis", np.array([0], np.int64)), tensor("row", np.array([1, 3], np.int64))]
    with pytest.raises(BuildError, match=f"batch fixed at 1 that cannot be made dynamic: {why}") as caught:
        imported(made(batch=1, nodes=[*dense()[:-1], last], initializers=[*weights(), *more]))
    assert "dynamic first dimension" in str(caught.value.hint)


def test_a_batch_fixed_at_something_else_is_refused() -> None:
    with pytest.raises(BuildError, match=r"has first dimensions \['8'\]; one dynamic batch, or 1"):
        imported(made(batch=8))


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 21])
def test_another_opset_is_converted_where_the_result_is_the_same(opset: int) -> None:
    model, facts = imported(made(opset=opset))
    assert facts["changes"] == [f"opset {opset} converted to {OPSET}"]
    assert facts["opset"] == OPSET
    assert np.array_equal(outputs(model), outputs(made(opset=opset)))


def test_an_opset_that_cannot_be_converted_is_kept_with_the_reason() -> None:
    # The converter has no way from Upsample 9/10 on; GroupNormalization 18 to 21 changed what its scale means.
    nodes = [
        helper.make_node("Unsqueeze", ["point", "two"], ["p"]),
        helper.make_node("GroupNormalization", ["p", "scale", "bias"], ["g"], num_groups=2),
        helper.make_node("Squeeze", ["g", "two"], ["s"]),
        helper.make_node("MatMul", ["s", "w1"], ["m1"]),
        *dense()[1:],
    ]
    more = [
        tensor("two", np.array([2], np.int64)),
        *(tensor(n, np.ones(4, np.float32)) for n in ("scale", "bias")),
    ]
    model, facts = imported(made(opset=21, nodes=nodes, initializers=[*weights(), *more]))
    assert facts["changes"][0].startswith(("opset 21 kept: ", "opset 21 converted"))
    assert np.allclose(outputs(model), outputs(made(opset=21, nodes=nodes, initializers=[*weights(), *more])))


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (
            changed(inputs=[{"name": "image", "dtype": "float32", "shape": ["batch", 4]}]),
            r"has inputs \['point'\]; the signature names \['image'\]",
        ),
        (
            changed(outputs=[{"name": "scores", "dtype": "float32", "shape": ["batch", 3]}]),
            r"has outputs \['logits'\]; the signature names \['scores'\]",
        ),
        (
            changed(inputs=[{"name": "point", "dtype": "float32", "shape": ["batch", 5]}]),
            r"input 'point' is float32\[N, 4\]; the signature says float32\[batch, 5\]",
        ),
        (
            changed(inputs=[{"name": "point", "dtype": "int64", "shape": ["batch", 4]}]),
            r"input 'point' is float32\[N, 4\]; the signature says int64\[batch, 4\]",
        ),
        (
            changed(outputs=[{"name": "logits", "dtype": "float32", "shape": ["batch", 3, 1]}]),
            r"output 'logits' is float32\[N, 3\]; the signature says float32\[batch, 3, 1\]",
        ),
    ],
)
def test_what_contradicts_the_signature_is_said_with_both_sides(signature: Any, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        imported(made(), signature)


def test_a_dimension_the_file_leaves_open_becomes_the_signatures() -> None:
    model, _ = imported(made(point=("width",), logits=(None,)))
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [0, 4]
    assert [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim] == [0, 3]


def test_an_open_dimension_that_turns_out_otherwise_is_refused() -> None:
    signature = changed(outputs=[{"name": "logits", "dtype": "float32", "shape": ["batch", 7]}])
    with pytest.raises(BuildError, match=r"contradicts the signature: .*\(3\) vs \(7\)"):
        imported(made(logits=("classes",)), signature)


def test_nan_for_ordinary_inputs_is_refused() -> None:
    nodes = [*dense()[:-1], helper.make_node("Log", ["m2"], ["logits"])]
    with pytest.raises(BuildError, match="gives NaN or infinity in output 'logits' for random inputs"):
        imported(made(nodes=nodes))


def test_an_output_that_is_no_tensor_is_refused() -> None:
    model = made(nodes=[*dense()[:-1], helper.make_node("SequenceConstruct", ["m2"], ["logits"])])
    model.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("logits", FLOAT, None))
    with pytest.raises(BuildError, match="output 'logits' is not a tensor"):
        imported(model)


def test_weights_listed_as_inputs_are_not_inputs() -> None:
    model = made(ir_version=3)
    for weight in weights():
        model.graph.input.append(helper.make_tensor_value_info(weight.name, FLOAT, list(weight.dims)))
    result, _ = imported(model)
    assert [value.name for value in result.graph.input] == ["point"]


def test_functions_of_the_file_itself_are_inlined() -> None:
    relu = helper.make_function(
        "own",
        "Twice",
        ["x"],
        ["y"],
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [helper.make_opsetid("", 20)],
    )
    nodes = [*dense()[:-1], helper.make_node("Twice", ["m2"], ["logits"], domain="own")]
    model = made(nodes=nodes, domains=["own"])
    model.functions.append(relu)
    result, _ = imported(model)
    assert not result.functions
    assert {entry.domain for entry in result.opset_import} == {""}


def test_inputs_are_put_into_the_signatures_order() -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["b", "a"], ["m"]), helper.make_node("Flatten", ["m"], ["logits"])],
        "two",
        [helper.make_tensor_value_info(name, FLOAT, ["N", 2, 2]) for name in ("a", "b")],
        [helper.make_tensor_value_info("logits", FLOAT, ["N", 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)
    signature = {
        "inputs": [{"name": name, "dtype": "float32", "shape": ["batch", 2, 2]} for name in ("b", "a")],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 4]}],
    }
    result, _ = imported(model, signature)
    assert [value.name for value in result.graph.input] == ["b", "a"]


def test_examples_are_small_whole_numbers_where_the_signature_wants_whole_numbers() -> None:
    tokens = {"inputs": [{"name": "t", "dtype": "int64", "shape": ["batch", 9]}]}
    array = example(tokens, batch=3, seed=0)["t"]
    assert array.dtype == np.int64
    assert set(array.ravel()) == {0, 1}


# The stages


def on_disk(repository: Repository, model: onnx.ModelProto) -> dict[str, Any]:
    data = model.SerializeToString()
    (repository.folder / "detector.onnx").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return {"network": None, "train": None, "checkpoint": {"path": "detector.onnx", "sha256": digest}}


def test_a_users_own_file_goes_from_checkpoint_to_exported(repository: Repository) -> None:
    spec = on_disk(repository, made(opset=17, batch=1))
    assert set(repository.run("checkpoint", **spec)) == {"model.onnx"}
    assert repository.result.facts["parameters"] == 67
    made_files = repository.run("exported", **spec)
    assert set(made_files) == {"model.onnx"}
    model = onnx.load_model_from_string(made_files["model.onnx"].read_bytes())
    assert np.allclose(outputs(model), outputs(made(opset=17, batch=1), batch=1), atol=1e-6)
    assert len(repository.result.facts["changes"]) == 2


def test_the_checkpoint_is_the_file_byte_for_byte_and_its_digest_is_checked(repository: Repository) -> None:
    spec = on_disk(repository, made())
    made_files = repository.run("checkpoint", **spec)
    assert made_files["model.onnx"].read_bytes() == made().SerializeToString()
    spec["checkpoint"]["sha256"] = "0" * 64
    with pytest.raises(BuildError, match=r"models/tiny/detector\.onnx has sha256"):
        repository.run("checkpoint", **spec)


def test_a_bad_file_is_named_as_the_yaml_names_it(repository: Repository) -> None:
    spec = on_disk(repository, made(initializers=weights(np.float16), dtype=TensorProto.FLOAT16))
    with pytest.raises(BuildError, match=r"^models/tiny/detector\.onnx keeps 'w1' as float16"):
        repository.run("checkpoint", **spec)


def test_another_process_folder_and_hash_seed_import_the_same_bytes(tmp_path: Path) -> None:
    script = (
        "import sys, hashlib; from unit.build.test_imported import imported; from unit.build.onnx_files import made\n"
        "from edgewright.build.canonical import to_bytes\n"
        "print(hashlib.sha256(to_bytes(imported(made(opset=13, batch=1))[0])).hexdigest())"
    )
    digests = set()
    for seed, threads in (("1", "1"), ("77", "2")):
        (place := tmp_path / seed).mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        ran = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            cwd=place,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(ran.stdout.strip())
    assert len(digests) == 1


def test_weights_written_as_lists_of_numbers_become_bytes_that_can_be_mapped() -> None:
    lists = [
        helper.make_tensor(w.name, w.data_type, w.dims, onnx.numpy_helper.to_array(w).ravel().tolist())
        for w in weights()
    ]
    assert not any(w.HasField("raw_data") for w in lists)
    model, _ = imported(made(initializers=lists))
    assert all(w.HasField("raw_data") and not w.float_data for w in model.graph.initializer)
    assert to_bytes(model) == to_bytes(imported(made())[0])
