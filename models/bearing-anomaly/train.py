"""The training run behind `weights.safetensors`: healthy signals only, one thread, seeded, under a minute.

edgewright train bearing-anomaly --write
"""

from __future__ import annotations

import torch
from data import training
from torch import nn


def fit(
    network: nn.Module, seed: int, *, epochs: int = 30, batch: int = 64, learning_rate: float = 2e-3
) -> None:
    """Train `network` in place to reproduce the spectrograms of the training samples.

    Args:
        network: As `network.build` returns it.
        seed: Seed of the order of samples.
        epochs: Times every sample is seen.
        batch: Samples per step.
        learning_rate: Peak of the one-cycle schedule.
    """
    signals = torch.from_numpy(training()[0]["signal"])
    with torch.no_grad():
        spectra = network.spectrogram(signals)
        network.mean.copy_(spectra.mean((0, 2))[:, None])
        network.scale.copy_(spectra.std((0, 2))[:, None])
        features = network.features(signals)
    dice = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = -(-len(features) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(features), generator=dice).split(batch):
            loss = nn.functional.mse_loss(network.reconstructed(features[rows]), features[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
