"""A model small enough to train, export, quantize and evaluate in a test: three clouds of points in four dimensions.

>>> repository = Repository(tmp_path)
>>> repository.run("checkpoint")["weights.safetensors"]
PosixPath('…')
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewright.build.search.candidate import Cost
from edgewright.build.search.shelf import Shelf
from edgewright.plan.job import Job, Result

SIGNATURE = {
    "inputs": [{"name": "point", "dtype": "float32", "shape": ["batch", 4]}],
    "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 3]}],
}
NETWORK = {"factory": "network:build", "arguments": {"width": 8}}
RUNTIME = {
    "engine": "onnxruntime",
    "versions": ">=1.20,<2",
    "providers": ["CPUExecutionProvider"],
    "threads": 1,
    "arena": True,
    "graphOptimization": "extended",
}
SPEC: dict[str, Any] = {
    "network": NETWORK,
    "train": {"entry": "train:fit", "seed": 3, "arguments": {"steps": 60}},
    "signature": SIGNATURE,
    "variants": [],
    "recipes": ["static-int8"],
    "timeBudget": 600.0,
    "objective": "latency",
    "precisions": ["int8", "fp32"],
    "hardware": {
        "cpu": {"arch": "arm64", "isa": ["neon"]},
        "memory": {"forModels": 2**28},
        "emulation": {"method": "qemu-user"},
        "runtime": RUNTIME,
    },
    "limits": {
        "artifactSize": 1e6,
        "loadTime": 100.0,
        "latency": {"p95": 10.0, "p99": 20.0},
        "peakMemory": 2**25,
    },
    "sources": {},
    "conditions": [],
    "runtime": RUNTIME,
    "data": {"calibration": "data:calibration", "selection": "data:selection", "test": "data:test"},
    "metric": {"name": "accuracy", "floor": 0.8, "maxDrop": 0.05},
    "golden": {"samples": 6, "atol": 0.01, "rtol": 0.01},
    "labels": ["red", "green", "blue"],
}
STAGES = {
    "checkpoint": "edgewright.build.checkpoint",
    "variants": "edgewright.build.variants",
    "exported": "edgewright.build.export",
    "searched": "edgewright.build.search.stage",
    "optimized": "edgewright.build.optimize",
    "evaluated": "edgewright.build.evaluate",
}
CODE = {
    "network.py": """
from torch import nn

def build(width):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))
""",
    "data.py": """
import numpy as np

CENTRES = np.array([[2, 0, 0, 1], [0, 2, 0, -1], [0, 0, 2, 0]], np.float32)

def _made(count, seed):
    dice = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    points = CENTRES[targets] + 0.4 * dice.standard_normal((count, 4))
    return {"point": points.astype(np.float32)}, targets

def training():
    return _made(240, 1)

def calibration():
    return _made(60, 2)

def selection():
    return _made(90, 4)

def test():
    return _made(90, 3)
""",
    "train.py": """
import torch
from data import training

def fit(network, seed, steps):
    inputs, targets = training()
    points, targets = torch.from_numpy(inputs["point"]), torch.from_numpy(targets)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(network(points), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
}


class Twice:
    """Says that int8 is twice as fast: in place of an emulated target, where what it says is not the point."""

    workers = 1

    def measure(self, model: bytes, precision: str) -> Cost:
        latency_ms = 1.0 if precision == "fp32" else 0.5
        band = {"value": latency_ms, "low": latency_ms, "high": latency_ms}
        return Cost(band, 1.0, 2.0, 2**20, 2**20, len(model))


class Repository:
    """A repository with one model, `tiny`, and the results of its stages so far."""

    def __init__(self, root: Path, code: Mapping[str, str] = CODE) -> None:
        self.root = root
        self.folder = root / "models" / "tiny"
        self.folder.mkdir(parents=True)
        for name, text in code.items():
            (self.folder / name).write_text(text)
        self.files: dict[str, Path] = {}
        self.result = Result()
        self._runs = 0

    def run(self, stage: str, **spec: Any) -> dict[str, Path]:
        """Run a stage with `SPEC`, changed by `spec`; return its files by name."""
        self._runs += 1
        out = self.root / f"out-{self._runs}-{stage}"
        out.mkdir()
        job = Job(self.root, "tiny", "some-class", {**SPEC, **spec}, self.files, out)
        module = importlib.import_module(STAGES[stage])
        if stage == "searched":
            found = module.search(
                job, watch=lambda _: None, tell=lambda _: None, shelf=Shelf(), meter=Twice()
            )
            module.write(job, found)
            self.result = Result(module.facts(found))
        else:
            self.result = module.run(job)
        made = {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()}
        self.files = {**self.files, **{f"{stage}/{name}": path for name, path in made.items()}}
        return made


def results(root: Path) -> dict[str, Path]:
    """Return what the stages run in the repository at `root` have made: `stage/name` → file."""
    return {
        f"{out.name.rpartition('-')[2]}/{path.relative_to(out).as_posix()}": path
        for out in sorted(root.glob("out-*"))
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
