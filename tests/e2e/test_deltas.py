"""A fine-tuned version reaches a device as a delta: published in a real registry, released, fetched, made, run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from e2e.test_layout import Device
from edgewright.build.canonical import canonical, to_bytes
from edgewright.build.golden import encoded
from edgewright.build.layout import Layout
from edgewright.build.manifest import runtime_manifest
from edgewright.trust.assignment import PublishedLane
from edgewright_agent.contract import canonical_json
from real import Registry
from unit.publish.lane import CLASS, MODEL, LaneFiles
from unit.trust.fleet import SmallFleet

WIDTH = 8192
SIGNATURE = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", WIDTH]}],
}
RUNTIME = {
    "engine": "onnxruntime", "versions": ">=1.20,<2", "providers": ["CPUExecutionProvider"], "threads": 1,
    "arena": True, "graphOptimization": "extended",
}  # fmt: skip
BEFORE = np.random.default_rng(0).standard_normal((4, WIDTH), dtype=np.float32)
AFTER = BEFORE * (1 + 1e-5 * np.random.default_rng(1).standard_normal(BEFORE.shape)).astype(np.float32)


def published(fleet: SmallFleet, version: str, weights: np.ndarray) -> LaneFiles:
    """Package, sign, publish and release one matrix multiplication."""
    x, y = (onnx.helper.make_tensor_value_info(n, 1, ["batch", w]) for n, w in (("x", 4), ("y", WIDTH)))
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [x], [y], [onnx.numpy_helper.from_array(weights, "w")])
    opset = [onnx.helper.make_opsetid("", 20)]
    model = to_bytes(canonical(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)))
    keys = ".edgewright/keys"
    lane = LaneFiles(
        fleet.root,
        {"url": fleet.url},
        model_version=version,
        compression="gzip",
        signing={"privateKey": f"file:{keys}/signing.key", "publicKey": f"{keys}/signing.pub"},
    )
    lane.give("optimized", "model.onnx", model)
    manifest = runtime_manifest(RUNTIME, SIGNATURE, "fp32", expected=None, layout=Layout())
    lane.give("optimized", "runtime.json", canonical_json(manifest))
    given = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    golden = {
        "version": 1, "atol": 1e-4, "rtol": 1e-4,
        "inputs": {"x": encoded(given)}, "outputs": {"y": encoded(given @ weights)},
    }  # fmt: skip
    lane.give("evaluated", "golden.json", canonical_json(golden))
    del lane.inputs["evaluated/labels.json"]
    lane.all()
    fleet.lanes[MODEL] = {CLASS: PublishedLane(lane.digest, len(lane.manifest), version, MODEL)}
    return lane


def once(device: Device) -> tuple[dict[str, Any], dict[str, Any]]:
    """One poll: what became of the model, and of the poll."""
    model, poll = (json.loads(line) for line in device.do("once", "--json").splitlines())
    return model, poll


def test_a_fine_tuned_model_travels_as_a_delta_over_a_real_registry(
    tmp_path: Path, registry: Registry
) -> None:
    fleet = SmallFleet(
        tmp_path / "fleet", url=f"{registry.url}/acme", classes=(CLASS,), now=datetime.now(UTC)
    )
    published(fleet, "1.0.0", BEFORE)
    fleet.release()
    device = Device(fleet, tmp_path / "device")
    first, first_poll = once(device)
    assert (first["code"], first["transfer"]["delta_base"]) == ("installed", None)

    lane = published(fleet, "1.1.0", AFTER)
    (made,) = fleet.release().deltas
    assert made.share < 0.6
    model, poll = once(device)
    assert (model["code"], model["version"], model["transfer"]["delta_base"]) == (
        "installed", "1.1.0", "1.0.0",
    )  # fmt: skip
    assert model["transfer"]["fetched_bytes"] < 0.6 * model["transfer"]["full_bytes"]
    assert model["transfer"]["copied_files"] >= 1, "runtime.json and drift.json are as they were"
    assert "delta from 1.0.0" in model["message"]
    assert poll["bytes_received"] < first_poll["bytes_received"]
    entry = device.folder / "state/store" / lane.digest.removeprefix("sha256:")
    assert (entry / "model.onnx").read_bytes() == lane.inputs["optimized/model.onnx"].read_bytes()
    answer = json.loads(device.do("infer", MODEL, "--json"))
    assert np.isfinite(answer["outputs"]["y"]).all()
    assert fleet.release().written == ()
