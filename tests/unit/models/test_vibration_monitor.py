from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from edgewright.build.checkpoint import trained
from edgewright.build.entry import ModelCode
from real import ROOT

PARTS = ("training", "calibration", "selection", "test")


@pytest.fixture(scope="module")
def code() -> ModelCode:
    return ModelCode(ROOT / "models" / "vibration-monitor")


@pytest.fixture(scope="module")
def quiet(code: ModelCode) -> Any:
    """A machine almost without noise, at one speed, with one resonance."""
    conditions = code.find("bearing:Conditions")
    return conditions(
        shaft_rpm=(1750, 1750),
        resonance_hz=((3000, 3000),),
        snr_db=(40, 40),
        load=(1, 1),
        severity_g=(3, 3),
        gain=(1, 1),
        slip=(0, 0),
        speed_drift=0.0,
    )


def test_the_geometry_gives_the_published_frequencies_of_a_6205(code: ModelCode) -> None:
    bearing = code.call("bearing:Geometry")
    found = (bearing.inner_race, bearing.outer_race, bearing.ball, bearing.cage)
    assert found == pytest.approx((5.4152, 3.5848, 4.7135, 0.39828), rel=1e-4)


@pytest.mark.parametrize(("label", "name"), [(1, "inner_race"), (2, "outer_race"), (3, "ball")])
def test_damage_shows_in_the_envelope_spectrum_at_its_characteristic_frequency(
    code: ModelCode, quiet: Any, label: int, name: str
) -> None:
    signals, labels = code.call("bearing:record", 80, quiet, 1)
    expected_hz = getattr(code.call("bearing:Geometry"), name) * 1750 / 60
    spectrum = np.mean([envelope_spectrum(signal[0]) for signal in signals[labels == label]], axis=0)
    frequencies_hz = np.fft.rfftfreq(8192, 1 / 12_000)
    band = (frequencies_hz > 60) & (frequencies_hz < 220)
    peak_hz = frequencies_hz[band][spectrum[band].argmax()]
    assert peak_hz == pytest.approx(expected_hz, abs=6)  # 85 ms resolve 12 Hz


def envelope_spectrum(signal: np.ndarray) -> np.ndarray:
    """Return the spectrum of the envelope above 1.8 kHz, where shaft and gear (23 teeth: 671 Hz) are silent."""
    bins = np.fft.fft(signal)
    frequencies_hz = np.fft.fftfreq(len(signal), 1 / 12_000)
    analytic = np.fft.ifft(np.where(frequencies_hz > 1800, 2 * bins, 0))
    envelope = np.abs(analytic)
    return np.abs(np.fft.rfft((envelope - envelope.mean()) * np.hanning(len(signal)), 8192))


def test_a_healthy_bearing_is_silent_at_the_resonance(code: ModelCode, quiet: Any) -> None:
    signals, labels = code.call("bearing:record", 40, quiet, 1)
    energy = (np.abs(np.fft.rfft(signals[:, 0]))[:, 220:300] ** 2).sum(axis=1)  # 2.6 to 3.5 kHz
    assert energy[labels == 0].max() < energy[labels != 0].min() / 10


def test_signals_are_what_a_12_bit_converter_gives(code: ModelCode) -> None:
    inputs, _ = code.call("data:calibration")
    steps = inputs["signal"].astype(np.float64) * 2048
    assert np.array_equal(steps, np.rint(steps))
    assert steps.min() >= -2048
    assert steps.max() <= 2047


def test_a_high_gain_clips(code: ModelCode, quiet: Any) -> None:
    signals, _ = code.call("bearing:record", 40, replace(quiet, gain=(4, 4)), 1)
    assert (np.abs(signals) > 0.999).any(axis=(1, 2)).mean() > 0.5


def test_parts_are_balanced_and_share_no_signal(code: ModelCode) -> None:
    seen: set[bytes] = set()
    total = 0
    for part in PARTS:
        inputs, targets = code.call(f"data:{part}")
        assert inputs["signal"].shape == (len(targets), 1, 1024)
        assert len(set(np.bincount(targets))) == 1
        seen |= {signal.tobytes() for signal in inputs["signal"]}
        total += len(targets)
    assert len(seen) == total


def test_held_out_machines_are_none_that_were_trained_on(code: ModelCode) -> None:
    data = vars(code.module("data"))
    machines = [data[name] for name in ("TRAINING", "SELECTION", "TEST")]
    for met, not_met in combinations(machines, 2):
        assert not_met.shaft_rpm[0] >= met.shaft_rpm[1]
        for low, high in not_met.resonance_hz:
            assert all(high <= other_low or low >= other_high for other_low, other_high in met.resonance_hz)


def test_speeds_leave_no_two_kinds_of_damage_with_the_same_rate(code: ModelCode) -> None:
    data, bearing = vars(code.module("data")), code.call("bearing:Geometry")
    ranges = [data[name].shaft_rpm for name in ("TRAINING", "CALIBRATION", "SELECTION", "TEST")]
    assert max(high for _, high in ranges) * bearing.ball < min(low for low, _ in ranges) * bearing.inner_race
    assert max(high for _, high in ranges) * bearing.outer_race < min(low for low, _ in ranges) * bearing.ball


def test_recording_again_gives_the_same_signals_and_another_seed_others(code: ModelCode, quiet: Any) -> None:
    first, again, other = (code.call("bearing:record", 8, quiet, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_training_is_repeatable(code: ModelCode) -> None:
    network = {"factory": "network:build", "arguments": {"width": 2}}
    run = {"entry": "train:fit", "seed": 5, "arguments": {"epochs": 1, "batch": 512}}
    assert trained(code, network, run) == trained(code, network, run)
