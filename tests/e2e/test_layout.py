"""Weights in a file of their own, compressed on the line: packaged, signed, released, installed and run."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgewright.build.canonical import canonical, to_bytes
from edgewright.build.golden import encoded
from edgewright.build.layout import apply, choose_layout
from edgewright.build.manifest import expected_cost, runtime_manifest
from edgewright.trust.assignment import PublishedLane
from edgewright_agent.contract import FILE_DATA, canonical_json, digest_of
from real import Registry, Tool
from unit.publish.lane import CLASS, MODEL, LaneFiles
from unit.trust.fleet import SmallFleet

WIDTH, LAYERS = 512, 10
SIGNATURE = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", WIDTH]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", WIDTH]}],
}
RUNTIME = {
    "engine": "onnxruntime", "versions": ">=1.20,<2", "providers": ["CPUExecutionProvider"], "threads": 1,
    "arena": True, "graphOptimization": "extended",
}  # fmt: skip


def pruned_model() -> bytes:
    """Ten megabytes of weights, nine tenths of them zero."""
    dice, nodes, weights = np.random.default_rng(5), [], []
    for turn in range(LAYERS):
        dense = dice.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 16
        dense[np.abs(dense) < np.quantile(np.abs(dense), 0.9)] = 0
        weights.append(onnx.numpy_helper.from_array(dense, f"w{turn}"))
        into, out = ("x" if turn == 0 else f"h{turn}"), ("y" if turn == LAYERS - 1 else f"h{turn + 1}")
        nodes.append(onnx.helper.make_node("MatMul", [into, f"w{turn}"], [out]))
    x, y = (onnx.helper.make_tensor_value_info(name, 1, ["batch", WIDTH]) for name in "xy")
    graph = onnx.helper.make_graph(nodes, "g", [x], [y], weights)
    return to_bytes(
        canonical(
            onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
        )
    )


class Device:
    """An agent that is started as on a device."""

    def __init__(self, fleet: SmallFleet, folder: Path) -> None:
        self.folder, self.config = folder, folder / "agent.json"
        folder.mkdir()
        keys = fleet.root / ".edgewright/keys"
        self.do(
            "init", "--device-id", "pump-1", "--class", CLASS, "--source", fleet.url, "--root",
            str(fleet.metadata / "1.root.json"), "--key", str(keys / "signing.pub"), "--state",
            str(folder / "state"), "--out", str(self.config),
        )  # fmt: skip

    def do(self, verb: str, *words: str) -> str:
        given = () if verb == "init" else ("--config", str(self.config))
        done = subprocess.run(
            [sys.executable, "-m", "edgewright_agent", verb, *given, *words],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def released(fleet: SmallFleet, compression: str) -> LaneFiles:
    """Package, sign, publish and release the model for one class."""
    model = pruned_model()
    layout = choose_layout({"memory": {"forModels": 2**30}, "runtime": RUNTIME}, model)
    assert layout.external_data == (FILE_DATA,), layout.why
    expected = expected_cost(model, RUNTIME, layout)
    keys = ".edgewright/keys"
    lane = LaneFiles(
        fleet.root,
        {"url": fleet.url},
        compression=compression,
        signing={"privateKey": f"file:{keys}/signing.key", "publicKey": f"{keys}/signing.pub"},
    )
    for name, data in apply(layout, model).items():
        lane.give("optimized", name, data)
    manifest = runtime_manifest(RUNTIME, SIGNATURE, "fp32", expected=expected, layout=layout)
    lane.give("optimized", "runtime.json", canonical_json(manifest))
    x = np.linspace(-1, 1, 2 * WIDTH, dtype=np.float32).reshape(2, WIDTH)
    y = x
    for tensor in sorted(onnx.load_model_from_string(model).graph.initializer, key=lambda t: t.name):
        y = y @ onnx.numpy_helper.to_array(tensor)
    golden = {
        "version": 1, "atol": 1e-3, "rtol": 1e-3, "inputs": {"x": encoded(x)}, "outputs": {"y": encoded(y)},
    }  # fmt: skip
    lane.give("evaluated", "golden.json", canonical_json(golden))
    del lane.inputs["evaluated/labels.json"]
    lane.all()
    published = PublishedLane(lane.digest, len(lane.manifest), lane.model_version, lane.model)
    fleet.lanes[lane.model] = {CLASS: published}
    fleet.release()
    return lane


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_device_installs_and_runs_a_model_in_two_files(tmp_path: Path, compression: str) -> None:
    fleet = SmallFleet(tmp_path / "fleet", url=f"oci:{tmp_path}/registry", now=datetime.now(UTC))
    lane = released(fleet, compression)
    device = Device(fleet, tmp_path / "device")
    device.do("once")
    entry = device.folder / "state/store" / lane.digest.removeprefix("sha256:")
    assert digest_of((entry / FILE_DATA).read_bytes()) == digest_of(
        lane.inputs[f"optimized/{FILE_DATA}"].read_bytes()
    )
    assert {path.name for path in entry.iterdir()} == {
        "model.onnx", FILE_DATA, "runtime.json", "golden.json", "drift.json", "manifest.json",
    }  # fmt: skip
    answer = json.loads(device.do("infer", MODEL, "--json"))
    assert np.isfinite(answer["outputs"]["y"]).all()
    health: dict[str, Any] = json.loads(device.do("status", "--json"))["models"][MODEL]["health"]
    assert health["expected"]["memoryBytes"] > 10 * 2**20
    assert "surprises" not in health, "the estimate is within a factor of two of what a device measured"
    sizes = [layer["size"] for layer in json.loads(lane.manifest)["layers"]]
    assert (sum(sizes) < 2.5e6) == (compression == "gzip")


def test_oras_pulls_a_compressed_layer_as_the_archive_that_its_name_says(
    tmp_path: Path, registry: Registry, oras: Tool
) -> None:
    fleet = SmallFleet(tmp_path / "fleet", url=f"{registry.url}/acme", now=datetime.now(UTC))
    lane = released(fleet, "gzip")
    pulled = oras(
        "pull", "--plain-http", "-o", tmp_path / "pulled", f"{registry.host}/acme/{MODEL}@{lane.digest}"
    )
    assert pulled.returncode == 0, pulled.stderr
    archive = tmp_path / "pulled" / (FILE_DATA + ".tar.gz")
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path], check=True, timeout=60)
    assert (tmp_path / FILE_DATA).read_bytes() == lane.inputs[f"optimized/{FILE_DATA}"].read_bytes()
