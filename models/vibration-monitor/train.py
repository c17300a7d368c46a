"""The training run: one thread, seeded, under 30 seconds.

edgewright train vibration-monitor
"""

from __future__ import annotations

import torch
from data import training
from torch import nn


def fit(
    network: nn.Module, seed: int, *, epochs: int = 12, batch: int = 64, learning_rate: float = 6e-3
) -> None:
    """Train `network` in place on the training samples.

    Args:
        network: As `network.build` returns it.
        seed: Seed of the order of samples.
        epochs: Times every sample is seen.
        batch: Samples per step.
        learning_rate: Peak of the one-cycle schedule.
    """
    inputs, labels = training()
    signals, targets = torch.from_numpy(inputs["signal"]), torch.from_numpy(labels)
    dice = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = -(-len(signals) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(signals), generator=dice).split(batch):
            loss = nn.functional.cross_entropy(network(signals[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
