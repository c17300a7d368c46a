"""Field conditions: what a model is still worth when its sensor is not as good as the one the data came from.

>>> poor = Degradation("night shift", gain=0.4, snr_db=15.0, adc_bits=6)
>>> accuracy_under(Network(model), samples.inputs, samples.targets, poor)   # doctest: +SKIP
0.953

The effects come in the order of a real signal chain: exposure (gain and offset), sensor noise, the converter
(which clips to full scale and rounds to its steps), readings lost on the way. All chance comes from the raw
bits of PCG64, whose stream NumPy keeps for good (NEP 19), through whole numbers and elementwise arithmetic; sums
are correctly rounded (`math.fsum`). The degraded arrays are therefore the same on every machine. What a network
makes of them is not promised to the last bit, and is reported as a share of right answers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Literal, Protocol

import numpy as np

from edgewright.errors import BuildError

Arrays = Mapping[str, np.ndarray]
_EXACT = Context(prec=40)  # the same power of ten everywhere; that of a C library need not be


class Scores(Protocol):
    """Whatever answers with scores per class in its first output, such as `edgewright.build.samples.Network`."""

    def run(self, inputs: Arrays) -> Mapping[str, np.ndarray]:
        """Return every output for every sample."""
        ...


@dataclass(frozen=True)
class Degradation:
    """What goes wrong between the world and the network's input.

    Attributes:
        name: What people call it.
        gain: Factor on the signal: exposure time, sensor sensitivity.
        offset: Added to it, as a share of full scale: stray light, a drifting zero.
        snr_db: Signal power (about its mean, over all samples) to noise power; None: no noise.
        adc_bits: Resolution of the converter; None: that of the data.
        dropped: Share of readings along the last axis that are lost.
        fill: What stands in for a lost reading: the one before (`hold`; the first is then never lost), or 0.
        full_scale: What the sensor can express; None: least and largest value of the clean data.
    """

    name: str
    gain: float = 1.0
    offset: float = 0.0
    snr_db: float | None = None
    adc_bits: int | None = None
    dropped: float = 0.0
    fill: Literal["hold", "zero"] = "hold"
    full_scale: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gain) and math.isfinite(self.offset) and 0 <= self.dropped <= 1):
            raise BuildError(f"{self.name}: gain and offset must be numbers, dropped a share of 0 to 1")
        if self.adc_bits is not None and not 1 <= self.adc_bits <= 24:
            raise BuildError(f"{self.name}: a converter has 1 to 24 bits, not {self.adc_bits}")
        if self.snr_db is not None and not -100 <= self.snr_db <= 200:
            raise BuildError(f"{self.name}: a signal-to-noise ratio is between -100 and 200 dB")
        if self.full_scale is not None and not self.full_scale[0] < self.full_scale[1]:
            raise BuildError(f"{self.name}: full scale must rise, not {self.full_scale}")


def accuracy_under(
    network: Scores, inputs: Arrays, targets: np.ndarray, degradation: Degradation, *, seed: int = 0
) -> float:
    """Return the share of samples whose largest score is the target when the inputs are degraded.

    Args:
        network: Answers with scores, [samples, classes], in its first output.
        inputs: Clean inputs by name, first dimension = samples.
        targets: True classes.
        degradation: What goes wrong.
        seed: Of everything random.

    Raises:
        BuildError: an input is no sensor's signal, or there are no samples.
    """
    if not len(targets):
        raise BuildError(f"{degradation.name}: no samples to measure accuracy on")
    scores = next(iter(network.run(degraded(inputs, degradation, seed=seed)).values()))
    return int((scores.argmax(axis=1) == targets).sum()) / len(targets)


def field_report(
    network: Scores,
    inputs: Arrays,
    targets: np.ndarray,
    degradations: Sequence[Degradation],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Return clean accuracy and that under each degradation, with what it costs, as JSON values.

    Raises:
        BuildError: as `accuracy_under`.
    """
    clean = accuracy_under(network, inputs, targets, Degradation("clean"), seed=seed)
    conditions = []
    for degradation in degradations:
        accuracy = accuracy_under(network, inputs, targets, degradation, seed=seed)
        entry = {"name": degradation.name, "accuracy": round(accuracy, 6), "drop": round(clean - accuracy, 6)}
        conditions.append(entry)
    return {"samples": len(targets), "seed": seed, "clean": round(clean, 6), "conditions": conditions}


def degraded(inputs: Arrays, degradation: Degradation, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Return `inputs` as a worse sensor would have given them, of the same types and shapes.

    A degradation that changes nothing returns the inputs themselves, bit for bit.

    Raises:
        BuildError: an input is neither float32 nor uint8: such whole numbers are no sensor's signal.
    """
    return {name: _degraded(name, array, degradation, seed) for name, array in inputs.items()}


def _degraded(name: str, array: np.ndarray, degradation: Degradation, seed: int) -> np.ndarray:
    if degradation == Degradation(degradation.name, full_scale=degradation.full_scale) or not array.size:
        return array
    if array.dtype not in (np.dtype(np.float32), np.dtype(np.uint8)):
        raise BuildError(
            f"input {name!r} is {array.dtype}: {degradation.name} is for signals (float32, uint8)"
        )
    clean = array.astype(np.float64)
    low, high = degradation.full_scale or (float(clean.min()), float(clean.max()))
    signal = clean * degradation.gain + degradation.offset * (high - low)
    if degradation.snr_db is not None:
        noise = float(_EXACT.power(Decimal(10), Decimal(-degradation.snr_db) / 20)) * deviation(clean)
        signal = signal + normal(clean.size, _bits(f"{seed} noise {name}")).reshape(clean.shape) * noise
    signal = np.clip(signal, low, high)
    if degradation.adc_bits is not None and high > low:
        step = (high - low) / (2**degradation.adc_bits - 1)
        signal = np.rint((signal - low) / step) * step + low
    if degradation.dropped:
        signal = _with_losses(signal, degradation, _bits(f"{seed} losses {name}"))
    return (np.rint(signal) if array.dtype == np.uint8 else signal).astype(array.dtype)


def deviation(array: np.ndarray) -> float:
    """Return the standard deviation over all elements, the same on every machine.

    NumPy's own sums depend, in the last bit, on how wide the processor's vectors are.
    """
    mean = math.fsum(array.ravel().tolist()) / array.size
    return math.sqrt(math.fsum(((array - mean) * (array - mean)).ravel().tolist()) / array.size)


def normal(count: int, bits: np.random.PCG64) -> np.ndarray:
    """Return `count` numbers of mean 0 and deviation 1, nearly normal, the same on every machine.

    Each is the sum of twelve uniform ones (Irwin-Hall), which needs no logarithm; it never exceeds 6, where
    a normal one does once in 500 million.
    """
    sums = bits.random_raw(3 * count).view(np.uint16).reshape(count, 12).sum(axis=1, dtype=np.int64)
    # Twelve numbers of 0 to 65535: mean 12 · 65535 / 2, variance 12 · (2^32 - 1) / 12.
    return np.asarray((sums - 393_210) / 65_536.0)


def _with_losses(signal: np.ndarray, degradation: Degradation, bits: np.random.PCG64) -> np.ndarray:
    threshold = np.uint64(round(degradation.dropped * 2**32))
    lost = (bits.random_raw(signal.size) >> np.uint64(32)).reshape(signal.shape) < threshold
    if degradation.fill == "zero":
        return np.where(lost, 0.0, signal)
    source = np.where(lost, 0, np.arange(signal.shape[-1]))
    return np.take_along_axis(signal, np.maximum.accumulate(source, axis=-1), axis=-1)


def _bits(text: str) -> np.random.PCG64:
    return np.random.PCG64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))
