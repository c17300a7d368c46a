"""The network: from 85 ms of vibration to one anomaly score, spectrogram and reconstruction error included.

    signal → windowed DFT (a convolution with fixed sines) → power → bands → log → auto-encoder → mean squared error

The front end is part of the network, so a device feeds it samples, not features. Everything before the auto-encoder
is fixed; its window and bands are ordinary buffers and travel with the weights.

>>> network = build()
>>> network(torch.zeros(2, 1, 1024)).shape
torch.Size([2, 1])
"""

from __future__ import annotations

import math

import torch
from torch import nn

SAMPLES = 1024
WINDOW = 128  # 10.7 ms at 12 kHz: one to two hits of a defect
HOP = 64
FRAMES = 1 + (SAMPLES - WINDOW) // HOP
BINS = WINDOW // 2


class Spectrogram(nn.Module):
    """Logarithm of the power in `bands` equal bands of 0 to 6 kHz, [batch, bands, frames]."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        time = torch.arange(WINDOW, dtype=torch.float64)
        angle = 2 * math.pi * torch.arange(1, BINS + 1)[:, None] * time / WINDOW
        waves = torch.cat([torch.cos(angle), torch.sin(angle)]) * torch.hann_window(
            WINDOW, dtype=torch.float64
        )
        self.register_buffer("waves", waves[:, None].float())
        banded = torch.eye(bands).repeat_interleave(BINS // bands, 1)
        self.register_buffer("bands", torch.cat([banded, banded], 1)[:, :, None])  # cosine and sine alike
        self.register_buffer(
            "floor", torch.full((bands,), 1e-4)
        )  # about what the sensor's own noise gives a band

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """Map [batch, 1, 1024] to [batch, bands, frames]."""
        waves = nn.functional.conv1d(signal, self.waves, stride=HOP)
        return torch.log(nn.functional.conv1d(waves * waves, self.bands, self.floor))


class AnomalyScore(nn.Module):
    """How badly an auto-encoder that has met healthy bearings only draws this spectrogram."""

    def __init__(self, bands: int, hidden: int, code: int) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(bands)
        self.register_buffer("mean", torch.zeros(bands, 1))
        self.register_buffer("scale", torch.ones(bands, 1))
        # Convolutions of one step each. The first spans all frames, so the encoder could slide over a longer signal.
        self.encoder = nn.Sequential(
            nn.Conv1d(bands, hidden, FRAMES), nn.ReLU(), nn.Conv1d(hidden, code, 1), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            nn.Conv1d(code, hidden, 1),
            nn.ReLU(),
            nn.Conv1d(hidden, bands * FRAMES, 1),
            nn.Unflatten(1, (bands, FRAMES)),
        )

    def features(self, signal: torch.Tensor) -> torch.Tensor:
        """Return what the auto-encoder sees, [batch, bands, frames]: healthy mean 0 and deviation 1 per band."""
        return (self.spectrogram(signal) - self.mean) / self.scale

    def reconstructed(self, features: torch.Tensor) -> torch.Tensor:
        """Return what the auto-encoder makes of `features`, of the same shape."""
        return self.decoder(self.encoder(features)).flatten(2)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """Map [batch, 1, 1024] to the mean squared error of the reconstruction, [batch, 1]."""
        features = self.features(signal)
        error = (self.reconstructed(features) - features).flatten(1)
        return (error * error).mean(1, keepdim=True)


def build(bands: int = 32, hidden: int = 128, code: int = 8) -> nn.Module:
    """Return the untrained network.

    Args:
        bands: Frequency bands; a divisor of 64.
        hidden: Width of the encoder's and decoder's inner layer.
        code: Width of the bottleneck.

    Returns:
        A module from `signal` float32 [batch, 1, 1024] to `score` float32 [batch, 1].
    """
    if bands < 1 or BINS % bands:
        raise ValueError(f"bands is {bands}; it must divide {BINS}")
    return AnomalyScore(bands, hidden, code)
