"""The nets of a calibration: the same everywhere, valid, of every family, and small to carry."""

from __future__ import annotations

import doctest
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgewright.bench.calibration import families, graph
from edgewright.bench.calibration.families import FAMILIES
from edgewright.bench.calibration.graph import Dice
from edgewright.bench.calibration.kit import Kit, describe, write
from edgewright.bench.calibration.nets import MACS, MAX_WEIGHTS, TURNS, Net, Recipe, draw, make
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import load_fleet
from real import ROOT

RECIPE = Recipe(seed=3, nets=16)
PROGRAM = """
import hashlib, sys
from edgewright.bench.calibration.nets import Recipe, make
print(hashlib.sha256(b"".join(net.model for net in make(Recipe(seed=3, nets=16)))).hexdigest())
"""


@pytest.fixture(scope="module")
def nets() -> list[Net]:
    return list(make(RECIPE))


@pytest.fixture(scope="module")
def kit(nets: list[Net]) -> Kit:
    sheet = Sheet.of(load_fleet(ROOT).hardware["raspberry-pi-4"])
    return describe("raspberry-pi-4", sheet, RECIPE, nets)


def operators(nets: Iterator[Net] | list[Net]) -> set[str]:
    return {node.op_type for net in nets for node in onnx.load_model_from_string(net.model).graph.node}


def test_a_recipe_gives_the_same_bytes_in_another_process_with_another_hash_seed(nets: list[Net]) -> None:
    here = hashlib.sha256(b"".join(net.model for net in nets)).hexdigest()
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == here


def test_another_seed_gives_other_nets_and_fewer_are_the_first_of_more() -> None:
    def models(recipe: Recipe) -> list[bytes]:
        return [drawn.model.SerializeToString(deterministic=True) for drawn in draw(recipe)]

    assert models(Recipe(1, 4)) == models(Recipe(1, 8))[:2]
    assert models(Recipe(1, 4)) != models(Recipe(2, 4))


def test_every_net_is_there_in_both_precisions(nets: list[Net]) -> None:
    assert len(nets) == RECIPE.nets
    for single, narrow in zip(nets[::2], nets[1::2], strict=True):
        assert single.name.removesuffix("-fp32") == narrow.name.removesuffix("-int8")
        assert (single.macs, single.shape) == (narrow.macs, narrow.shape)
    assert "QuantizeLinear" not in operators(nets[::2])
    assert "QuantizeLinear" in operators(nets[1::2])


def test_an_odd_number_of_nets_ends_with_one_in_fp32() -> None:
    assert [net.precision for net in make(Recipe(1, 3))] == ["fp32", "int8", "fp32"]


def test_weights_of_seven_bits_change_the_int8_form_alone() -> None:
    usual, narrow = (list(make(Recipe(1, 2, reduced))) for reduced in (False, True))
    assert usual[0].model == narrow[0].model
    assert usual[1].model != narrow[1].model
    largest = max(
        int(np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max())
        for tensor in onnx.load_model_from_string(narrow[1].model).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
    )
    assert largest <= 64


def test_every_net_runs_and_its_values_stay_of_a_size(nets: list[Net]) -> None:
    for net in nets:
        session = onnxruntime.InferenceSession(net.model, providers=["CPUExecutionProvider"])
        values = np.random.default_rng(0).uniform(-1, 1, (1, *net.shape)).astype(np.float32)
        (answer,) = session.run(None, {"x": values})
        assert np.isfinite(answer).all(), net.name
        assert np.abs(answer).max() < 1e4, net.name  # nor so small that arithmetic is slow


@pytest.mark.parametrize("family", FAMILIES)
def test_a_drawing_counts_its_multiply_adds_and_keeps_its_shapes(family: str) -> None:
    for seed in range(5):
        drawing, output = FAMILIES[family](Dice(seed))
        model = drawing.finish(output)
        onnx.checker.check_model(model, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.output[0]
        sizes = [dim.dim_value for dim in inferred.type.tensor_type.shape.dim]
        assert sizes[1:] == list(drawing.shapes[output])


def test_default_nets_are_of_all_families_and_sizes_and_none_is_large() -> None:
    drawn = list(draw(Recipe()))
    assert {net.name.rpartition("-")[0] for net in drawn} == set(TURNS) == set(FAMILIES)
    macs = sorted(net.macs for net in drawn)
    assert macs[0] < MACS[0]  # dense ones have one per weight
    assert MACS[1] / 3 < macs[-1] <= 2 * MACS[1]
    weights = [
        sum(int(np.prod(tensor.dims)) for tensor in net.model.graph.initializer) for net in drawn
    ]  # norms and shapes included
    assert max(weights) < 1.01 * MAX_WEIGHTS


def test_a_kit_packs_its_weights(kit: Kit, tmp_path: Path) -> None:
    path = tmp_path / "kit.zip"
    write(kit, path)
    assert path.stat().st_size < 0.2 * sum(len(net.model) for net in kit.nets)


def test_a_kit_is_the_same_file_twice_and_holds_what_its_document_names(kit: Kit, tmp_path: Path) -> None:
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    write(kit, first)
    write(kit, second)
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as file:
        assert file.namelist() == ["kit.json", *(f"nets/{net.name}.onnx" for net in kit.nets)]


@pytest.mark.parametrize("module", [families, graph])
def test_the_examples_in_the_module_are_true(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
