"""Networks small enough to make variants of in a test, each trained on three kinds of short signals.

>>> origin(tmp_path, CONVOLUTIONS).fp32
1.0
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgewright.build.checkpoint import trained
from edgewright.build.entry import ModelCode
from edgewright.build.samples import load
from edgewright.build.variants.origin import Origin

SIGNATURE = {
    "inputs": [{"name": "signal", "dtype": "float32", "shape": ["batch", 1, 16]}],
    "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 3]}],
}
DATA = """
import numpy as np

def _made(count, seed):
    dice = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    time = np.arange(16) / 16
    waves = np.stack([np.sin(2 * np.pi * (kind + 1) * time) for kind in range(3)])
    signals = waves[targets] + 0.5 * dice.standard_normal((count, 16))
    return {"signal": signals[:, None].astype(np.float32)}, targets

def training():
    return _made(240, 1)

def calibration():
    return _made(60, 2)

def test():
    return _made(90, 3)

def selection():
    return _made(90, 4)
"""
TRAIN = """
import torch
from data import training

def fit(network, seed, steps=30, rate=0.02, teacher=None):
    inputs, targets = training()
    signals, targets = torch.from_numpy(inputs["signal"]), torch.from_numpy(targets)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    network.train()
    for _ in range(steps):
        scores = network(signals)
        loss = torch.nn.functional.cross_entropy(scores, targets)
        if teacher is not None:
            with torch.no_grad():
                taught = teacher(signals).softmax(1)
            loss = loss + torch.nn.functional.cross_entropy(scores, taught)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
CONVOLUTIONS = """
from torch import nn

class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Conv1d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x):
        return nn.functional.relu(x + self.norm(self.inner(x)))

def build(width=16):
    return nn.Sequential(
        nn.Conv1d(1, width, 3, padding=1, bias=False), nn.BatchNorm1d(width), nn.ReLU(),
        Residual(width), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(4 * width, 3),
    )

def small():
    return build(width=4)
"""
RUN = {"entry": "train:fit", "seed": 5}


def origin(
    folder: Path, network: str = CONVOLUTIONS, *, metric: str = "accuracy", **arguments: Any
) -> Origin:
    """Write the model's code into `folder`, train it, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"network.py": network, "data.py": DATA, "train.py": TRAIN}.items():
        (folder / name).write_text(text)
    code, spec = ModelCode(folder), {"factory": "network:build", "arguments": arguments}
    weights = trained(code, spec, {"entry": "train:fit", "seed": 3})
    return Origin(code, spec, weights, SIGNATURE, load(code, "data:selection", SIGNATURE), metric)
