"""The simulated machine: what an accelerometer on the housing of a 6205 bearing measures, healthy or damaged.

A local defect is hit once per passing rolling element. Each hit is a short impulse that rings the housing's
resonance; its strength follows the load at the place of contact, and the slip of the balls makes its timing a
little random. Shaft harmonics, gear mesh, broadband noise and the sensor's own electronics come on top:

    signal = ADC(gain · (Σ hits · resonance + unbalance + misalignment + gear mesh + broadband noise))

Sources:
  * Kinematics (`Geometry`): Randall and Antoni, "Rolling element bearing diagnostics: a tutorial", Mechanical
    Systems and Signal Processing 25 (2011). The 6205-2RS geometry is that of the drive-end bearing of the
    Case Western Reserve University Bearing Data Center, whose published multiples of shaft speed (5.4152,
    3.5848, 4.7135, 0.39828) the tests compare with.
  * Impulse train, load zone and modulation: McFadden and Smith, Journal of Sound and Vibration 96 (1984).
  * Slip of 1-2 % as a random walk of the hit times: Antoni and Randall, "A stochastic model for simulation
    and diagnostics of rolling element bearings with localized faults", Journal of Vibration and Acoustics
    125 (2003).
  * 12 kHz, about 1,730-1,797 rpm, loads from none to 3 hp: the CWRU test rig.

>>> round(Geometry().outer_race, 4)
3.5848
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SAMPLING_HZ = 12_000.0
SAMPLES = 1024  # 85 ms: about two and a half turns of the shaft
LABELS = ("healthy", "inner-race", "outer-race", "ball")
FULL_SCALE_G = 4.0  # range of a common MEMS accelerometer
ADC_BITS = 12


@dataclass(frozen=True)
class Geometry:
    """A deep-groove ball bearing; the defaults are those of a 6205-2RS.

    The properties are its characteristic frequencies as multiples of the shaft's (Randall and Antoni, eq.
    1-4).
    """

    balls: int = 9
    ball_mm: float = 7.940
    pitch_mm: float = 39.040
    contact_angle_rad: float = 0.0

    @property
    def _ratio(self) -> float:
        return self.ball_mm / self.pitch_mm * math.cos(self.contact_angle_rad)

    @property
    def outer_race(self) -> float:
        """Balls passing a point of the outer race (BPFO)."""
        return self.balls / 2 * (1 - self._ratio)

    @property
    def inner_race(self) -> float:
        """Balls passing a point of the inner race (BPFI)."""
        return self.balls / 2 * (1 + self._ratio)

    @property
    def cage(self) -> float:
        """Turns of the cage (FTF)."""
        return (1 - self._ratio) / 2

    @property
    def ball(self) -> float:
        """Hits of a defect on a ball, which meets both races in one spin (twice BSF)."""
        return self.pitch_mm / self.ball_mm * (1 - self._ratio**2)


@dataclass(frozen=True)
class Conditions:
    """The range of machines, mountings and moments one data set is drawn from; every pair is a uniform range.

    Attributes:
        shaft_rpm: Shaft speed; it drifts by up to `speed_drift` (share) within one signal.
        resonance_hz: Natural frequency of housing and mounting: one of these bands, then a point of it.
        damping: Damping ratio of that resonance.
        load: Radial load as a share of the rated one; scales hits and gear mesh.
        severity_g: Peak acceleration of a hit at full load.
        snr_db: Hits, or shaft vibration when healthy, against broadband noise.
        slip: Standard deviation of the time between hits (share).
        gain: Sensitivity of the sensor against its nominal one; high gains clip.
    """

    shaft_rpm: tuple[float, float]
    resonance_hz: tuple[tuple[float, float], ...]
    damping: tuple[float, float] = (0.03, 0.08)
    load: tuple[float, float] = (0.3, 1.0)
    severity_g: tuple[float, float] = (0.8, 4.0)
    snr_db: tuple[float, float] = (-8.0, 12.0)
    slip: tuple[float, float] = (0.01, 0.02)
    gain: tuple[float, float] = (0.6, 1.6)
    speed_drift: float = 0.02


def record(
    count: int, conditions: Conditions, seed: int, labels: tuple[str, ...] = LABELS
) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` signals, `labels` in turn.

    The converter's 12-bit steps also make the result the same on every machine: they are far coarser than the
    last bits in which two processors' sine and exponential may differ.

    Args:
        count: Number of signals.
        conditions: Where and how they are recorded.
        seed: Seed of everything random.
        labels: Which of `LABELS`; one named twice is recorded twice as often.

    Returns:
        Acceleration in units of full scale, float32 [count, 1, 1024], within ±1; labels, int64 [count], as
        indices of `LABELS`.
    """
    dice = np.random.default_rng(seed)
    indices = np.array([LABELS.index(labels[place % len(labels)]) for place in range(count)], dtype=np.int64)
    signals = np.stack([_signal(LABELS[index], conditions, dice) for index in indices])
    return signals.astype(np.float32)[:, None], indices


def _signal(label: str, conditions: Conditions, dice: np.random.Generator) -> np.ndarray:
    time_s = np.arange(SAMPLES) / SAMPLING_HZ
    shaft_hz = dice.uniform(*conditions.shaft_rpm) / 60
    drift = dice.uniform(-1, 1) * conditions.speed_drift / time_s[-1]
    turns = dice.uniform() + shaft_hz * (time_s + drift * time_s**2 / 2)
    load = dice.uniform(*conditions.load)
    shaft = _shaft_vibration(turns, load, dice)
    hits = _hits(label, turns, load, conditions, dice)
    rung = _ring(hits, conditions, dice)
    wanted_g = _rms(rung) if label != "healthy" else _rms(shaft)
    noise_g = wanted_g * 10 ** (-dice.uniform(*conditions.snr_db) / 20)
    signal_g = shaft + rung + _broadband(noise_g, dice)
    return _convert(signal_g * dice.uniform(*conditions.gain))


def _shaft_vibration(turns: np.ndarray, load: float, dice: np.random.Generator) -> np.ndarray:
    """Unbalance (1×), misalignment (2×), looseness (3×), and a 23-tooth gear modulated by the shaft."""
    phase = dice.uniform(0, 2 * np.pi, 5)
    strength_g = dice.uniform((0.10, 0.03, 0.01), (0.50, 0.25, 0.10))
    slow = sum(strength_g[k] * np.cos(2 * np.pi * (k + 1) * turns + phase[k]) for k in range(len(strength_g)))
    mesh_g = dice.uniform(0.05, 0.30) * load
    modulation = 1 + dice.uniform(0.0, 0.5) * np.cos(2 * np.pi * turns + phase[3])
    return np.asarray(slow + mesh_g * modulation * np.cos(2 * np.pi * 23 * turns + phase[4]))


def _hits(
    label: str, turns: np.ndarray, load: float, conditions: Conditions, dice: np.random.Generator
) -> np.ndarray:
    """Impulses (g) on the sampling grid, each split between its two neighbouring samples."""
    train = np.zeros(SAMPLES)
    if label == "healthy":
        return train
    geometry = Geometry()
    rate = {"inner-race": geometry.inner_race, "outer-race": geometry.outer_race, "ball": geometry.ball}[
        label
    ]
    slip = dice.uniform(*conditions.slip)
    severity_g = dice.uniform(*conditions.severity_g) * load
    spacing = (1 + slip * dice.standard_normal(64)) / rate
    at_turn = turns[0] + dice.uniform() / rate + np.cumsum(spacing)
    at_turn = at_turn[at_turn < turns[-1]]
    place = np.interp(at_turn, turns, np.arange(SAMPLES))
    strength = severity_g * _load_zone(label, at_turn, geometry, dice) * dice.uniform(0.8, 1.2, len(at_turn))
    left = place.astype(int)
    np.add.at(train, left, strength * (1 - (place - left)))
    np.add.at(train, np.minimum(left + 1, SAMPLES - 1), strength * (place - left))
    return train


def _load_zone(label: str, at_turn: np.ndarray, geometry: Geometry, dice: np.random.Generator) -> np.ndarray:
    """How hard each hit is: a defect on the inner race turns with the shaft through the load zone, one on a
    ball with the cage, one on the outer race stays where it is (McFadden and Smith 1984)."""
    turning = {"inner-race": 1.0, "outer-race": 0.0, "ball": geometry.cage}[label]
    angle = 2 * np.pi * (turning * at_turn + (dice.uniform() if turning else 0.0))
    # Stribeck's load distribution with a load factor of 0.75, a lightly preloaded ball bearing: a zone of
    # ±120°.
    zone = np.maximum(0.0, 1 - (1 - np.cos(angle)) / 1.5) ** 1.5
    return np.asarray(0.15 + 0.85 * zone)


def _ring(hits: np.ndarray, conditions: Conditions, dice: np.random.Generator) -> np.ndarray:
    """Each impulse rings the resonance: convolution with a decaying sine of unit peak."""
    band = conditions.resonance_hz[dice.integers(len(conditions.resonance_hz))]
    natural = 2 * np.pi * dice.uniform(*band)
    damping = dice.uniform(*conditions.damping)
    time_s = np.arange(256) / SAMPLING_HZ
    response = np.exp(-damping * natural * time_s) * np.sin(natural * np.sqrt(1 - damping**2) * time_s)
    return np.convolve(hits, response)[:SAMPLES]


def _broadband(rms_g: float, dice: np.random.Generator) -> np.ndarray:
    """White noise of a random slight colour, as housings give it, and the sensor's own floor."""
    white = dice.standard_normal(SAMPLES)
    colour = dice.uniform(-0.5, 0.5)
    coloured = white + colour * np.concatenate(([0.0], white[:-1]))
    sensor_g = 0.005 * dice.standard_normal(SAMPLES)
    return rms_g * coloured / _rms(coloured) + sensor_g


def _convert(signal_g: np.ndarray) -> np.ndarray:
    """Clip to the sensor's range and round to its converter's steps, in units of full scale."""
    half = 2 ** (ADC_BITS - 1)
    return np.clip(np.rint(signal_g / FULL_SCALE_G * half), -half, half - 1) / half


def _rms(signal: np.ndarray) -> float:
    return float(np.sqrt(np.mean(signal**2)))
