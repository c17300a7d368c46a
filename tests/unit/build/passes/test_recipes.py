"""Every recipe: works, keeps names and shapes, says why it does not apply, and gives the same bytes everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgewright.build.calibrate import activation_ranges
from edgewright.build.canonical import to_bytes
from edgewright.build.passes.clean import clean
from edgewright.build.passes.facts import ClassFacts, graph_facts
from edgewright.build.passes.recipe import RECIPES
from edgewright.build.samples import Network
from edgewright.errors import BuildError
from real import ROOT
from unit.build.passes.networks import exported, samples

EVERYTHING = ("fp16", "int8", "int4", "fp32")
CLASSES = {
    "vnni": ClassFacts("amd64", ("avx2", "vnni"), EVERYTHING, versions=">=1.22,<2"),
    "sse": ClassFacts("amd64", ("sse4.2",), EVERYTHING, versions=">=1.22,<2"),
    "tensorrt": ClassFacts("arm64", ("asimddp",), EVERYTHING, ("TensorrtExecutionProvider",), ">=1.22,<2"),
    "arm": ClassFacts("arm64", ("neon",), EVERYTHING, versions=">=1.22,<2"),
}
KINDS = ("residual", "attention")
PROGRAM = """
import hashlib, json, sys
from unit.build.passes.test_recipes import everything_built
print(json.dumps({name: hashlib.sha256(data).hexdigest() for name, data in everything_built().items()}))
"""


def everything_built() -> dict[str, bytes]:
    """Return every recipe in every setting of every class, on both networks."""
    made = {}
    for kind in KINDS:
        model = exported(kind)
        made[kind] = to_bytes(model)
        cleaned = clean(model)
        graph = graph_facts(cleaned)
        inputs = samples(kind).inputs
        ranges = {}
        for method in ("minmax", "percentile", "entropy"):
            ranges[method] = made[f"{kind} {method}"] = activation_ranges(cleaned, inputs, method)
        for place, facts in CLASSES.items():
            for recipe in RECIPES.values():
                if recipe.refuses(facts, graph):
                    continue
                for settings in recipe.settings(facts, graph):
                    name = f"{kind} {place} {recipe.name} {recipe.text(settings)}"
                    made[name] = to_bytes(recipe.build(cleaned, settings, ranges.__getitem__))
    return made


@pytest.fixture(scope="module")
def built() -> dict[str, bytes]:
    return everything_built()


def test_every_recipe_applies_to_one_of_the_networks(built: dict[str, bytes]) -> None:
    assert {name for name in RECIPES if any(f" {name}" in key for key in built)} == set(RECIPES)


def test_every_result_runs_and_answers_close_to_fp32(built: dict[str, bytes]) -> None:
    for name, data in built.items():
        kind, *rest = name.split()
        if len(rest) < 2:
            continue
        inputs = samples(kind).inputs
        here, wanted = Network(data).run(inputs), Network(built[kind]).run(inputs)
        error = np.abs(here["logits"] - wanted["logits"]).max()
        spread = np.ptp(wanted["logits"])
        assert error < 0.2 * spread, name


def test_every_result_keeps_the_names_and_types_of_inputs_and_outputs(built: dict[str, bytes]) -> None:
    for name, data in built.items():
        kind, *rest = name.split()
        if len(rest) == 1:
            continue
        graph, wanted = (onnx.load_model_from_string(one).graph for one in (data, built[kind]))
        for side in ("input", "output"):
            found, asked = (
                [(value.name, value.type.tensor_type.elem_type) for value in getattr(one, side)]
                for one in (graph, wanted)
            )
            assert found == asked, name


def test_another_process_folder_hash_seed_time_zone_and_thread_setting_give_the_same_bytes(
    built: dict[str, bytes], tmp_path: Path
) -> None:
    import hashlib

    environment = {
        **os.environ,
        "PYTHONHASHSEED": "12345",
        "TZ": "Asia/Kathmandu",
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("tests", "pipelines", "agent")),
    }
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    elsewhere = json.loads(ran.stdout.splitlines()[-1])
    assert elsewhere == {name: hashlib.sha256(data).hexdigest() for name, data in built.items()}


def test_what_tensorrt_gets_has_no_zero_point_but_zero(built: dict[str, bytes]) -> None:
    found = [data for name, data in built.items() if " tensorrt static-int8" in name]
    assert len(found) == 2
    for data in found:
        graph = onnx.load_model_from_string(data).graph
        tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        nodes = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        assert all(not tensors[node.input[2]].any() for node in nodes)
        assert {tensors[node.input[2]].dtype for node in nodes} == {np.dtype(np.int8)}


def test_nodes_named_in_the_settings_stay_in_fp32() -> None:
    cleaned = clean(exported("residual"))
    ranges = activation_ranges(cleaned, samples("residual").inputs)
    kept = graph_facts(cleaned).compute[0]
    settings = {"activations": "u8", "weights": "s8", "operators": "compute", "keep": [kept]}
    graph = RECIPES["static-int8"].build(cleaned, settings, lambda _method: ranges).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    first = next(node for node in graph.node if node.name == kept)
    assert made_by.get(first.input[1]) is None  # its weights are a plain initializer
    others = [node for node in graph.node if node.op_type == "Conv" and node.name != kept]
    assert all(made_by.get(node.input[1]) == "DequantizeLinear" for node in others)


def test_a_model_with_nothing_to_quantize_is_refused() -> None:
    graph = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[batch, 4] x) => (float[batch, 4] y) { y = Relu(x) }'
    )
    for name in ("dynamic-int8", "weight-int8"):
        with pytest.raises(BuildError, match="found nothing to quantize in this model"):
            RECIPES[name].build(graph, {"bits": 8}, lambda _method: b"")


def test_cleaning_names_every_node_and_is_the_same_the_second_time() -> None:
    model = exported("residual")
    for node in model.graph.node:
        node.name = ""
    cleaned = clean(model)
    names = [node.name for node in cleaned.graph.node]
    assert len(set(names)) == len(names)
    assert all(names)
    assert to_bytes(clean(cleaned)) == to_bytes(cleaned)
