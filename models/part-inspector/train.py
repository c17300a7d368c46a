"""The training run behind `weights.safetensors`: one thread, seeded, under a minute.

edgewright train part-inspector --write
"""

from __future__ import annotations

import torch
from data import training
from torch import nn


def fit(
    network: nn.Module, seed: int, *, epochs: int = 6, batch: int = 32, learning_rate: float = 4e-3
) -> None:
    """Train `network` in place on the training samples, shifted by up to two pixels each time they are seen.

    Args:
        network: As `network.build` returns it, or one derived from it.
        seed: Seed of the order of samples and of their shifts.
        epochs: Times every sample is seen.
        batch: Samples per step.
        learning_rate: Peak of the one-cycle schedule.
    """
    inputs, labels = training()
    # Channels last: a third less time on x86, where it was measured.
    network.to(memory_format=torch.channels_last).train()
    images = torch.from_numpy(inputs["image"]).to(memory_format=torch.channels_last)
    targets = torch.from_numpy(labels)
    dice = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = -(-len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=dice).split(batch):
            loss = nn.functional.cross_entropy(network(_shifted(images[rows], dice)), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _shifted(images: torch.Tensor, dice: torch.Generator) -> torch.Tensor:
    down, right = torch.randint(-2, 3, (2,), generator=dice).tolist()
    padded = nn.functional.pad(images, (2, 2, 2, 2), mode="replicate")
    return torch.roll(padded, (down, right), (2, 3))[:, :, 2:-2, 2:-2]
