"""Networks small enough for tests of passes: a convolution net with a branch, and attention over tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from edgewright.build.export import export
from edgewright.build.samples import Samples
from edgewright.build.torch_mode import repeatable


class Residual(nn.Module):
    """Two convolutions with a shortcut, pooled to three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.one(image))
        return self.head((first + torch.relu(self.two(first))).mean((2, 3)))


class Attention(nn.Module):
    """An embedding, one attention head, and a classifier over the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        self.head = nn.Linear(32, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        taken = self.embedding(tokens)
        weights = torch.softmax(self.query(taken) @ self.key(taken).transpose(1, 2) / 32**0.5, -1)
        return self.head((weights @ self.value(taken)).mean(1))


def exported(kind: str) -> onnx.ModelProto:
    """Return `residual` or `attention`, untrained but the same every time."""
    with repeatable(seed=7):
        network = Residual() if kind == "residual" else Attention()
        return export(network.eval(), signature(kind))


def signature(kind: str) -> dict[str, Any]:
    """Return the signature of a network."""
    taken = {"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}
    if kind == "attention":
        taken = {"name": "tokens", "dtype": "int64", "shape": ["batch", 12]}
    given = {"name": "logits", "dtype": "float32", "shape": ["batch", 3]}
    return {"inputs": [taken], "outputs": [given]}


def samples(kind: str, count: int = 40) -> Samples:
    """Return samples of a network's input with targets of three classes."""
    dice = np.random.default_rng(11)
    targets = np.arange(count) % 3
    if kind == "attention":
        return Samples("made", {"tokens": dice.integers(0, 50, (count, 12))}, targets)
    return Samples("made", {"image": dice.standard_normal((count, 1, 8, 8)).astype(np.float32)}, targets)
