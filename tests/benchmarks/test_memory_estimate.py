"""How near the memory estimate in `runtime.json` is to what is measured, for networks of several kinds.

    pytest tests/benchmarks/test_memory_estimate.py -s

Nothing is judged: the estimate must be the same everywhere, the measurement is this machine's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgewright.bench.calibration.nets import Recipe, make
from edgewright.bench.memory import peak_memory
from edgewright.build.golden import encoded
from edgewright.build.layout import Layout, apply
from edgewright.build.memory_estimate import estimate
from edgewright_agent.contract import FILE_DATA, FILE_MODEL

RUNTIME = {"arena": True, "graphOptimization": "extended", "threads": 1}
NETS = Recipe(seed=1, nets=16)


def products(width: int, layers: int) -> tuple[bytes, list[int]]:
    """Return matrix products in a row, and the shape of the input."""
    dice = np.random.default_rng(3)
    names = ["x", *(f"h{turn}" for turn in range(layers - 1)), "y"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(layers)]
    weights = [
        numpy_helper.from_array(dice.standard_normal((width, width)).astype(np.float32), f"w{i}")
        for i in range(layers)
    ]
    x, y = (helper.make_tensor_value_info(name, 1, ["N", width]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString()), [1, width]


def convolutions(channels: int, layers: int, edge: int) -> tuple[bytes, list[int]]:
    """Return convolutions in a row, and the shape of the input."""
    dice = np.random.default_rng(4)
    names = ["x", *(f"h{turn}" for turn in range(layers - 1)), "y"]
    nodes = [
        helper.make_node("Conv", [names[i], f"w{i}"], [names[i + 1]], pads=[1, 1, 1, 1])
        for i in range(layers)
    ]
    weights = [
        numpy_helper.from_array(
            dice.standard_normal((channels, channels if i else 3, 3, 3)).astype(np.float32), f"w{i}"
        )
        for i in range(layers)
    ]
    x = helper.make_tensor_value_info("x", 1, ["N", 3, edge, edge])
    y = helper.make_tensor_value_info("y", 1, ["N", channels, edge, edge])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString()), [1, 3, edge, edge]


def measured(model: bytes, shape: list[int], folder: Path, layout: Layout) -> int:
    """Return the peak of a model, laid out one way or the other."""
    files = apply(layout, model)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    [x] = onnx.load_model_from_string(model).graph.input
    golden = {"inputs": {x.name: encoded(np.ones(shape, np.float32))}}
    data = folder / FILE_DATA if FILE_DATA in files else None
    peak = peak_memory(folder / FILE_MODEL, RUNTIME, golden, data=data)
    assert peak is not None
    return peak


def test_estimates_beside_measurements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subjects = {
        "16 products of 512": products(512, 16),
        "4 products of 2048": products(2048, 4),
        "12 convolutions, 64 channels, 64 x 64": convolutions(64, 12, 64),
        "8 convolutions, 256 channels, 16 x 16": convolutions(256, 8, 16),
        **{net.name: (net.model, [1, *net.shape]) for net in make(NETS)},
    }
    ratios = []
    with capsys.disabled():
        print("\n  estimate / measured peak over the bare engine")
        for name, (model, shape) in subjects.items():
            for layout in (Layout(), Layout((FILE_DATA,))):
                external = FILE_DATA in apply(layout, model)
                if layout.external_data and not external:
                    continue
                peak = measured(model, shape, tmp_path, layout)
                guess = estimate(model, external=external).total_bytes
                ratios.append(guess / peak)
                where = "apart" if external else "inside"
                print(
                    f"  {ratios[-1]:.2f}  {guess / 2**20:4.0f} / {peak / 2**20:4.0f} MiB  {name}, weights {where}"
                )
        print(
            f"  {len(ratios)} figures: {min(ratios):.2f} to {max(ratios):.2f}, median {np.median(ratios):.2f}"
        )
    assert len(ratios) >= len(subjects)
