"""What counting by kind costs beside running the same model in the emulator without. Prints; asserts no time.

$ make bench
"""

from __future__ import annotations

import resource
import statistics
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgewright.bench.counting.build import build
from edgewright.bench.target.ask import ask
from edgewright.bench.target.emulator import Target, emulated_target
from edgewright.bench.target.processor import Core
from edgewright.bench.target.userland import targets_cache
from edgewright.build.golden import encoded
from real import require_target

ROUNDS = 3


@pytest.mark.parametrize(("userland", "cpu"), [("amd64-qemu", "Haswell"), ("arm64", "cortex-a72")])
def test_counting_beside_running(tmp_path: Path, userland: str, cpu: str) -> None:
    require_target(userland)
    target, plugin = emulated_target(Core(userland, cpu, cpu, 1), targets_cache()), build(targets_cache())
    model = _convolution(tmp_path / "model.onnx")
    costs = [
        (_cpu_s(target, model), _cpu_s(target, model, plugin, tmp_path / "spans.jsonl"))
        for _ in range(ROUNDS)
    ]
    alone, counted = (statistics.median(column) for column in zip(*costs, strict=True))
    print(
        f"\ncounting on {cpu}: {alone:.2f} CPU-s without the plugin, {counted:.2f} with: {counted / alone:.2f} x"
    )


def _cpu_s(target: Target, model: Path, plugin: Path | None = None, spans: Path | None = None) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    request = {
        "model": str(model),
        "inputs": {"x": encoded(np.ones((1, 32, 32, 32), np.float32))},
        "inferences": 3,
    }
    answer = ask(target, request, timeout_s=300, plugin=plugin, plugin_options=f"out={spans}")
    assert "failure" not in answer
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _convolution(path: Path) -> Path:
    """Write 3 x 3 convolutions, 32 channels to 32, over [32, 32]."""
    helper = onnx.helper
    weights = onnx.numpy_helper.from_array(np.full((32, 32, 3, 3), 0.01, np.float32), "w")
    names = ["x", "a", "b", "y"]
    nodes = [helper.make_node("Conv", [names[i], "w"], [names[i + 1]], pads=[1, 1, 1, 1]) for i in range(3)]
    shape = ["batch", 32, 32, 32]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)],
        [weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(made.SerializeToString())
    return path
