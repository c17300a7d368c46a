"""The training run behind `weights.safetensors`: one thread, seeded, under a minute.

edgewright train log-triage --write
"""

from __future__ import annotations

import torch
from data import training
from tokens import BUCKETS
from torch import nn

UNKNOWN = 0.3  # share of words replaced by any other: another vendor's lines hold words nobody has met


def fit(
    network: nn.Module, seed: int, *, epochs: int = 6, batch: int = 64, learning_rate: float = 2e-3
) -> None:
    """Train `network` in place on the training samples, with a share of the words of each line replaced.

    Args:
        network: As `network.build` returns it.
        seed: Seed of the order of samples and of replaced words.
        epochs: Times every sample is seen.
        batch: Samples per step.
        learning_rate: Peak of the one-cycle schedule.
    """
    inputs, labels = training()
    tokens, targets = torch.from_numpy(inputs["tokens"]), torch.from_numpy(labels)
    dice = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = -(-len(tokens) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(tokens), generator=dice).split(batch):
            logits = network(_with_unknown_words(tokens[rows], dice))
            loss = nn.functional.cross_entropy(logits, targets[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _with_unknown_words(tokens: torch.Tensor, dice: torch.Generator) -> torch.Tensor:
    other = torch.randint(1, BUCKETS, tokens.shape, generator=dice)
    replaced = (torch.rand(tokens.shape, generator=dice) < UNKNOWN) & (tokens != 0)
    return torch.where(replaced, other, tokens)
