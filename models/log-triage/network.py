"""The network: a transformer encoder over 32 tokens, averaged over those that are not padding.

Pre-normalization as in Xiong et al. ("On layer normalization in the transformer architecture", ICML 2020). Attention
is written out: `nn.TransformerEncoderLayer` takes another path in evaluation mode, which cannot be exported.

>>> network = build()          # 234,000 parameters, 131,000 of them the embedding
>>> network(torch.zeros(2, 32, dtype=torch.int64)).shape
torch.Size([2, 5])
"""

from __future__ import annotations

import math

import torch
from torch import nn

LABELS = 5
MASKED = -1e4  # added to the score of padding: e to that is 0, and a line of nothing but padding stays finite


class Layer(nn.Module):
    """Self-attention and a feed-forward network, each normalized first and added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.merge = nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map [batch, length, width] to the same; `mask` [batch, 1, 1, length] is added to the scores."""
        features = features + self.attend(self.attention_norm(features), mask)
        return features + self.contract(torch.relu(self.expand(self.forward_norm(features))))

    def attend(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return what each position takes from the others (Vaswani et al., NIPS 2017, section 3.2)."""
        query, key, value = (
            part(features).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1]) + mask
        return self.merge((torch.softmax(scores, dim=-1) @ value).transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    """Tokens to logits."""

    def __init__(self, width: int, layers: int, heads: int, buckets: int, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(buckets, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.ModuleList([Layer(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, LABELS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map [batch, length] to [batch, labels]."""
        present = (tokens != 0).float()
        mask = ((1 - present) * MASKED)[:, None, None, :]
        features = self.embedding(tokens) + self.position
        for layer in self.layers:
            features = layer(features, mask)
        features = self.norm(features) * present[:, :, None]
        return self.head(features.sum(1) / present.sum(1, keepdim=True).clamp(min=1.0))


def build(
    width: int = 64, layers: int = 2, heads: int = 4, buckets: int = 2048, length: int = 32
) -> nn.Module:
    """Return the untrained network.

    Args:
        width: Of embedding and layers; a multiple of `heads`.
        layers: Number of layers.
        heads: Attention heads.
        buckets: As many as `tokens.py` hashes into.
        length: Tokens of a line.

    Returns:
        A module from `tokens` int64 [batch, length] to `logits` float32 [batch, 5].
    """
    if width % heads:
        raise ValueError(f"width is {width}; it must be a multiple of heads, {heads}")
    return Encoder(width, layers, heads, buckets, length)
