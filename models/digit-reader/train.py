"""The training run behind `weights.safetensors`: one thread, seeded, under 20 seconds.

edgewright train digit-reader --write
"""

from __future__ import annotations

import torch
from data import training
from torch import nn


def fit(
    network: nn.Module, seed: int, *, epochs: int = 60, batch: int = 64, learning_rate: float = 4e-3
) -> None:
    """Train `network` in place on the training samples, shifted by up to one pixel each time they are seen.

    Args:
        network: As `network.build` returns it.
        seed: Seed of the order of samples and of their shifts.
        epochs: Times every sample is seen.
        batch: Samples per step.
        learning_rate: Peak of the one-cycle schedule.
    """
    inputs, labels = training()
    images, targets = torch.from_numpy(inputs["image"]), torch.from_numpy(labels)
    dice = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = -(-len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=dice).split(batch):
            loss = nn.functional.cross_entropy(network(_shifted(images[rows], dice)), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _shifted(images: torch.Tensor, dice: torch.Generator) -> torch.Tensor:
    down, right = torch.randint(-1, 2, (2,), generator=dice).tolist()
    return torch.roll(nn.functional.pad(images, (1, 1, 1, 1)), (down, right), (2, 3))[:, :, 1:-1, 1:-1]
