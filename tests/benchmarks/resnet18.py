"""ResNet-18 (He et al., 2015) with the small beginning for small images, trained here on handwritten digits.

>>> model = fp32()                                                   # doctest: +SKIP
>>> {name: len(part) for name, part in samples().items()}
{'training': 1077, 'calibration': 109, 'selection': 216, 'test': 395}

11.2 million parameters, 45 MB: the size and the operators of the networks people bring, on data that come with
scikit-learn (8 × 8 grey values, here 16 × 16 and in three equal channels). Nothing of the figures leaves this
benchmark: a network of this size is far more than such digits need.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from benchmarks.variants import resnet
from edgewright.build.canonical import to_bytes
from edgewright.build.export import check_parity, export
from edgewright.build.samples import Samples
from edgewright.build.torch_mode import repeatable

PIXELS = 16
SIGNATURE = {
    "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 3, PIXELS, PIXELS]}],
    "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 10]}],
}
# Shares of every digit, in the order of a keyed hash of the image. The rest, 60 %, trains.
SHARES = {"test": 0.22, "selection": 0.12, "calibration": 0.06}
SPLIT_SEED = b"resnet18 split 1"


def network() -> nn.Module:
    """Return the untrained network."""
    return resnet(64, (2, 2, 2, 2))


def fit(network: nn.Module, *, epochs: int = 6, batch: int = 32, learning_rate: float = 1e-3) -> None:
    """Train `network` in place, each image shifted by up to two of its sixteen pixels."""
    part = samples()["training"]
    images, targets = torch.from_numpy(part.inputs["image"]), torch.from_numpy(part.targets)
    dice = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = -(-len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=dice).split(batch):
            down, right = torch.randint(-2, 3, (2,), generator=dice).tolist()
            shifted = torch.roll(images[rows], (down, right), (2, 3))
            loss = nn.functional.cross_entropy(network(shifted), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


@functools.cache
def trained() -> nn.Module:
    """Return the trained network: one thread, seeded, under a minute."""
    with repeatable(seed=0):
        made = network()
        fit(made)
    return made


def fp32() -> bytes:
    """Return the trained network as exported, proven equal to torch."""
    with repeatable(seed=0):
        model = export(trained(), SIGNATURE)
        check_parity(trained(), model, SIGNATURE)
    return to_bytes(model)


@functools.cache
def samples() -> dict[str, Samples]:
    """Return `training`, `calibration`, `selection` and `test`, which share no image."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)
    targets = digits.target.astype(np.int64)
    parts: dict[str, list[int]] = {"training": [], "calibration": [], "selection": [], "test": []}
    for digit in range(10):
        members = sorted(np.flatnonzero(targets == digit), key=lambda row: _rank(images[row]))
        start = 0
        for part, share in SHARES.items():
            count = round(len(members) * share)
            parts[part] += members[start : start + count]
            start += count
        parts["training"] += members[start:]
    large = np.repeat(images.repeat(2, axis=1).repeat(2, axis=2)[:, None], 3, axis=1)
    return {
        part: Samples(f"resnet18:{part}", {"image": large[sorted(rows)]}, targets[sorted(rows)])
        for part, rows in parts.items()
    }


def _rank(image: np.ndarray) -> bytes:
    return hashlib.sha256(SPLIT_SEED + image.tobytes()).digest()
