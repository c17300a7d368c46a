"""A worse sensor: what it would have made of the inputs that the data came with.

>>> poor = Degradation("night-shift", gain=0.4, snr_db=15.0, adc_bits=6)
>>> degraded(samples.inputs, poor)["image"].shape     # doctest: +SKIP
(450, 1, 8, 8)

The effects come in the order of a real signal chain: exposure (gain and offset), sensor noise, the converter
(which clips to full scale and rounds to its steps), readings lost on the way. All chance comes from the raw
bits of PCG64, whose stream NumPy keeps for good (NEP 19), through whole numbers and elementwise arithmetic; sums
are correctly rounded (`math.fsum`). The degraded arrays are therefore the same on every machine.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Literal

import numpy as np

from edgewright.errors import BuildError

Arrays = Mapping[str, np.ndarray]
BLOCK = 1 << 20  # readings at a time: a large data set must not be held as float64 several times over
_EXACT = Context(prec=40)  # the same power of ten everywhere; that of a C library need not be
_SIGNALS = (np.dtype(np.float32), np.dtype(np.uint8))


@dataclass(frozen=True)
class Degradation:
    """What goes wrong between the world and the network's input.

    Attributes:
        name: What people call it.
        gain: Factor on the signal: exposure time, sensor sensitivity.
        offset: Added to it, as a share of full scale: stray light, a drifting zero.
        snr_db: Power of the clean signal (about its mean, over all samples) to noise power; None: no noise.
        adc_bits: Resolution of the converter; None: that of the data.
        dropped: Share of readings along the last axis that are lost.
        fill: What stands in for a lost reading: the one before (`hold`; the first is then never lost), or 0.
        full_scale: What the sensor can express; None: least and largest value of the clean data.
        inputs: Names of the inputs it happens to; None: all.
    """

    name: str
    gain: float = 1.0
    offset: float = 0.0
    snr_db: float | None = None
    adc_bits: int | None = None
    dropped: float = 0.0
    fill: Literal["hold", "zero"] = "hold"
    full_scale: tuple[float, float] | None = None
    inputs: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gain) and math.isfinite(self.offset) and 0 <= self.dropped <= 1):
            raise BuildError(f"{self.name}: gain and offset must be numbers, dropped a share of 0 to 1")
        if self.adc_bits is not None and not 1 <= self.adc_bits <= 24:
            raise BuildError(f"{self.name}: a converter has 1 to 24 bits, not {self.adc_bits}")
        if self.snr_db is not None and not -100 <= self.snr_db <= 200:
            raise BuildError(f"{self.name}: a signal-to-noise ratio is between -100 and 200 dB")
        if self.full_scale is not None and not self.full_scale[0] < self.full_scale[1]:
            raise BuildError(f"{self.name}: full scale must rise, not {self.full_scale}")

    @classmethod
    def from_spec(cls, condition: Mapping[str, Any]) -> Degradation:
        """Read one of `conditions` as `plan.slices.dump` gives it: the words of the YAML, percent and decibels.

        Raises:
            BuildError: the values make no sense together.
        """
        scale, names = condition.get("fullScale"), condition.get("inputs")
        return cls(
            condition["name"],
            gain=condition.get("gain", 1.0),
            offset=condition.get("offset", 0.0) / 100,
            snr_db=condition.get("snr"),
            adc_bits=condition.get("adcBits"),
            dropped=condition.get("dropped", 0.0) / 100,
            fill=condition.get("fill", "hold"),
            full_scale=None if scale is None else (scale[0], scale[1]),
            inputs=None if names is None else tuple(names),
        )


def degraded(inputs: Arrays, degradation: Degradation, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Return `inputs` as a worse sensor would have given them, of the same types and shapes.

    A degradation that changes nothing returns the inputs themselves, bit for bit.

    Raises:
        BuildError: an input is neither float32 nor uint8: such whole numbers are no sensor's signal; or full
            scale is more than a uint8 input can hold, or there is no input of a name.
    """
    missing = [name for name in degradation.inputs or () if name not in inputs]
    if missing:
        raise BuildError(f"{degradation.name}: there is no input {missing[0]!r}")
    touched = inputs if degradation.inputs is None else degradation.inputs
    return {
        name: _degraded(name, array, degradation, seed) if name in touched else array
        for name, array in inputs.items()
    }


def _degraded(name: str, array: np.ndarray, degradation: Degradation, seed: int) -> np.ndarray:
    if degradation == Degradation(degradation.name, inputs=degradation.inputs) or not array.size:
        return array
    if array.dtype not in _SIGNALS:
        raise BuildError(
            f"input {name!r} is {array.dtype}: {degradation.name} is for signals (float32, uint8)"
        )
    low, high = degradation.full_scale or (float(array.min()), float(array.max()))
    if array.dtype == np.uint8 and not 0 <= low <= high <= 255:
        raise BuildError(f"input {name!r} is uint8: {degradation.name} has full scale {low:g} to {high:g}")
    noise = 0.0
    if degradation.snr_db is not None:
        noise = float(_EXACT.power(Decimal(10), Decimal(-degradation.snr_db) / 20)) * deviation(array)
    noise_bits, loss_bits = _bits(f"{seed} noise {name}"), _bits(f"{seed} losses {name}")
    worse = np.empty_like(array)
    for block in _blocks(array):
        signal = array[block].astype(np.float64) * degradation.gain + degradation.offset * (high - low)
        if degradation.snr_db is not None:
            signal = signal + normal(signal.size, noise_bits).reshape(signal.shape) * noise
        signal = np.clip(signal, low, high)
        if degradation.adc_bits is not None and high > low:
            step = (high - low) / (2**degradation.adc_bits - 1)
            signal = np.rint((signal - low) / step) * step + low
        if degradation.dropped:
            signal = _with_losses(signal, degradation, loss_bits)
        worse[block] = np.rint(signal) if array.dtype == np.uint8 else signal
    return worse


def _blocks(array: np.ndarray) -> Iterator[slice]:
    """Yield slices of whole samples, about `BLOCK` readings each."""
    samples = max(1, BLOCK * len(array) // array.size)
    for start in range(0, len(array), samples):
        yield slice(start, start + samples)


def deviation(array: np.ndarray) -> float:
    """Return the standard deviation over all elements, the same on every machine.

    NumPy's own sums depend, in the last bit, on how wide the processor's vectors are.
    """
    flat = array.reshape(-1)
    parts = [flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK)]

    def mean_of(values: Callable[[np.ndarray], np.ndarray]) -> float:
        numbers = (values(part.astype(np.float64)).tolist() for part in parts)
        return math.fsum(itertools.chain.from_iterable(numbers)) / flat.size

    mean = mean_of(lambda part: part)
    return math.sqrt(mean_of(lambda part: (part - mean) * (part - mean)))


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
