"""What the bench stages are given, made by hand: a model of one multiplication, its runtime and golden inputs.

>>> lane = Lane(tmp_path)
>>> lane.run("edgewright.bench.gate")["gate-report.json"]
PosixPath('…')
"""

from __future__ import annotations

import base64
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgewright.plan.job import Job, Result
from edgewright_agent.contract import ANNOTATION_TITLE, digest_of

RUNTIME: dict[str, Any] = {
    "version": 1,
    "engine": "onnxruntime",
    "versions": ">=1.20,<2",
    "providers": ["CPUExecutionProvider"],
    "threads": 1,
    "arena": True,
    "graphOptimization": "extended",
    "precision": "fp32",
}
LIMITS: dict[str, Any] = {
    "artifactSize": 1000,
    "loadTime": 10.0,
    "latency": {"p95": 2.0, "p99": 4.0},
    "peakMemory": 8_000_000,
}
METRIC: dict[str, Any] = {"floor": 0.9, "maxDrop": 0.01}
SOURCES = {"latency-p95": "hardware/some-class.yaml#limits.latency.p95"}
WORKS: dict[str, Any] = {
    "toleranceUsed": 0.25,
    "metric": "accuracy",
    "value": 0.96,
    "reference": 0.96,
    "drop": 0.0,
    "resolution": 0.01,
    "samples": 100,
}
BENCHMARK: dict[str, Any] = {
    "loadMs": 5.0,
    "powerCycleMs": 900.0,
    "p95Ms": 1.0,
    "p99Ms": 1.0,
    "peakMemoryBytes": 4_000_000,
    "calibration": "public-anchor",
    "functional": WORKS,
}
EVALUATION: dict[str, Any] = {
    "metric": "accuracy",
    "value": 0.98,
    "low": 0.963,
    "high": 0.989,
    "fp32": {"value": 0.985, "low": 0.97, "high": 0.993},
    "drop": {"value": 0.005, "low": -0.003, "high": 0.014},
    "samples": 400,
    "perLabel": {
        "red": {"samples": 200, "recall": 0.99, "fp32": 0.985, "drop": -0.005},
        "blue": {"samples": 200, "recall": 0.97, "fp32": 0.985, "drop": 0.015},
    },
    "worstLabel": {"label": "blue", "drop": 0.015},
}


def onnx_model() -> bytes:
    """Return a model that multiplies [batch, 4] by [4, 3]."""
    helper = onnx.helper
    weights = onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["point", "w"], ["logits"])],
        "model",
        [helper.make_tensor_value_info("point", 1, ["batch", 4])],
        [helper.make_tensor_value_info("logits", 1, ["batch", 3])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


class Lane:
    """The files of one lane up to packaging, and a way to run a stage on them."""

    def __init__(self, root: Path, model: bytes | None = None) -> None:
        self.root = root
        self.inputs: dict[str, Path] = {}
        self.result = Result()
        points = np.zeros((3, 4), "<f4")
        point = {"dtype": "float32", "shape": [3, 4], "data": base64.b64encode(points.tobytes()).decode()}
        self.model = onnx_model() if model is None else model
        self.put("optimized/model.onnx", self.model)
        self.put_json("optimized/runtime.json", RUNTIME)
        self.put_json("optimized/search.json", {"model": digest_of(self.model), "fits": True, "why": ""})
        self.put_json("evaluated/golden.json", {"version": 1, "inputs": {"point": point}, "outputs": {}})
        self.package()

    def put(self, name: str, data: bytes) -> None:
        """Make `data` the input `name`, in a file whose own name says nothing (as in the cache)."""
        path = self.root / "inputs" / digest_of(data).removeprefix("sha256:")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.inputs[name] = path

    def put_json(self, name: str, document: Any) -> None:
        """Make a JSON document the input `name`."""
        self.put(name, json.dumps(document).encode())

    def package(self, size_bytes: int = 500) -> None:
        """Put a manifest over model and runtime, with `size_bytes` in all, and figures about exactly these."""
        model, runtime = (
            digest_of(self.inputs[f"optimized/{name}"].read_bytes())
            for name in ("model.onnx", "runtime.json")
        )
        self.put_json(
            "packaged/manifest.json",
            {
                "layers": [
                    {
                        "digest": model,
                        "size": size_bytes - 100,
                        "annotations": {ANNOTATION_TITLE: "model.onnx"},
                    },
                    {"digest": runtime, "size": 100, "annotations": {ANNOTATION_TITLE: "runtime.json"}},
                ]
            },
        )
        self.evaluate()
        self.benchmark()

    def evaluate(self, **figures: Any) -> None:
        """Put an evaluation with some figures changed."""
        self.put_json("evaluated/evaluation.json", {"model": digest_of(self.model), **EVALUATION, **figures})

    def benchmark(self, **figures: Any) -> None:
        """Put a benchmark with some figures changed."""
        runtime = digest_of(self.inputs["optimized/runtime.json"].read_bytes())
        document = {"model": digest_of(self.model), "runtime": runtime, **BENCHMARK, **figures}
        self.put_json("benchmarked/benchmark.json", document)

    def run(self, module: str, **spec: Any) -> dict[str, Path]:
        """Run a stage; return its files by name."""
        out = self.root / f"out-{len(list(self.root.iterdir()))}"
        out.mkdir()
        base = {
            "limits": LIMITS,
            "metric": METRIC,
            "sources": SOURCES,
            "conditions": [],
            "modelVersion": "1.2.3",
            "runtime": RUNTIME,
        }
        job = Job(self.root, "tiny", "some-class", {**base, **spec}, self.inputs, out)
        self.result = importlib.import_module(module).run(job)
        return {path.name: path for path in out.iterdir()}
