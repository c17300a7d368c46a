from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from edgewright.bench import field
from edgewright.bench.field import Degradation, degraded, deviation, normal
from edgewright.errors import BuildError

COUNT, READINGS = 400, 256
PINNED = "c80131b61c9a7145043403e94225d1bc72497efdf6f25953b3a830264d464541"


def tones() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two kinds of signals, slow and fast triangle waves of amplitude 1, [400, 1, 256], as a converter gives them."""
    targets = np.arange(COUNT) % 2
    phase = (np.arange(READINGS) * (1 + 3 * targets[:, None]) + np.arange(COUNT)[:, None]) % 64
    signals = np.abs(phase - 32) / 16 - 1
    return {"signal": signals.astype(np.float32)[:, None]}, targets


def worse(degradation: Degradation, seed: int = 0) -> np.ndarray:
    return degraded(tones()[0], degradation, seed=seed)["signal"]


def clean() -> np.ndarray:
    return tones()[0]["signal"]


def test_a_degradation_that_changes_nothing_gives_back_the_very_same_bits() -> None:
    assert worse(Degradation("none")).tobytes() == clean().tobytes()


def test_type_and_shape_are_kept() -> None:
    bad = worse(Degradation("bad", gain=0.5, offset=0.1, snr_db=10, adc_bits=6, dropped=0.2))
    assert (bad.dtype, bad.shape) == (clean().dtype, clean().shape)


def test_a_degradation_may_happen_to_one_input_only() -> None:
    sensors = {"camera": clean(), "microphone": clean()}
    worse_camera = degraded(sensors, Degradation("dim", gain=0.5, inputs=("camera",)))
    assert np.array_equal(worse_camera["camera"], clean() * 0.5)
    assert worse_camera["microphone"] is sensors["microphone"]
    with pytest.raises(BuildError, match="no input 'lidar'"):
        degraded(sensors, Degradation("dim", gain=0.5, inputs=("lidar",)))


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0, 40.0])
def test_noise_has_the_declared_power(snr_db: float) -> None:
    wide = (-100.0, 100.0)  # nothing clips
    noise = worse(Degradation("noise", snr_db=snr_db, full_scale=wide)).astype(float) - clean()
    assert 10 * math.log10(clean().var() / noise.var()) == pytest.approx(snr_db, abs=0.1)
    assert noise.mean() == pytest.approx(0, abs=4 * noise.std() / math.sqrt(noise.size))


def test_noise_is_nearly_normal_and_independent_from_reading_to_reading() -> None:
    drawn = normal(200_000, np.random.PCG64(1))
    assert (drawn.mean(), drawn.std()) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
    for sigma, share in ((1, 0.6827), (2, 0.9545)):
        assert (np.abs(drawn) < sigma).mean() == pytest.approx(share, abs=0.005)
    assert np.corrcoef(drawn[:-1], drawn[1:])[0, 1] == pytest.approx(0, abs=0.01)


def test_exposure_scales_shifts_and_saturates() -> None:
    dim = worse(Degradation("dim", gain=0.5))
    assert np.array_equal(dim, clean() * 0.5)
    bright = worse(Degradation("bright", gain=2.0, offset=0.25))
    assert np.array_equal(bright, np.clip(clean() * 2 + 0.25 * 2, -1, 1))


def test_a_sensor_of_a_smaller_range_clips() -> None:
    clipped = worse(Degradation("saturated", full_scale=(-0.5, 0.5)))
    assert np.array_equal(clipped, np.clip(clean(), -0.5, 0.5))


def test_a_converter_of_n_bits_knows_two_to_the_n_values() -> None:
    coarse = worse(Degradation("adc", adc_bits=3))
    assert np.allclose(np.unique(coarse), np.arange(8) * 2 / 7 - 1)
    assert np.abs(coarse - clean()).max() <= 2 / 7 / 2 + 1e-6


def test_a_converter_finer_than_the_data_changes_no_more_than_half_a_step() -> None:
    assert np.abs(worse(Degradation("adc", adc_bits=24)) - clean()).max() < 2**-23


def test_the_declared_share_of_readings_is_lost() -> None:
    lossy = worse(Degradation("losses", dropped=0.1, fill="zero"))
    lost = (lossy == 0) & (clean() != 0)
    assert lost.sum() / (clean() != 0).sum() == pytest.approx(0.1, abs=0.005)
    assert np.array_equal(lossy[~lost], clean()[~lost])


def test_a_lost_reading_is_the_one_before_it() -> None:
    held = worse(Degradation("losses", dropped=0.3))
    for reading in range(1, READINGS):
        now, before = held[..., reading], held[..., reading - 1]
        assert np.all((now == clean()[..., reading]) | (now == before))
    assert np.array_equal(held[..., 0], clean()[..., 0])


def test_when_every_reading_is_lost_the_first_one_stays() -> None:
    assert np.array_equal(
        worse(Degradation("losses", dropped=1.0)), np.repeat(clean()[..., :1], READINGS, axis=-1)
    )


def test_a_seed_repeats_and_another_one_does_not() -> None:
    noise = Degradation("noise", snr_db=10, dropped=0.1)
    assert worse(noise, 1).tobytes() == worse(noise, 1).tobytes() != worse(noise, 2).tobytes()


def test_the_noise_of_one_input_does_not_depend_on_the_others() -> None:
    one = {"a": clean()}
    two = {"b": clean(), "a": clean()}
    noise = Degradation("noise", snr_db=10)
    assert np.array_equal(degraded(one, noise)["a"], degraded(two, noise)["a"])
    assert not np.array_equal(degraded(two, noise)["a"], degraded(two, noise)["b"])


def test_images_of_whole_grey_values_stay_whole() -> None:
    image = {"image": np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)}
    bad = degraded(image, Degradation("bad", gain=3.0, snr_db=20))["image"]
    assert bad.dtype == np.uint8
    assert bad.max() == 255


def test_a_full_scale_beyond_what_a_byte_holds_would_wrap_and_is_refused() -> None:
    image = {"image": np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)}
    with pytest.raises(BuildError, match="uint8: bright has full scale 0 to 511"):
        degraded(image, Degradation("bright", gain=2.0, full_scale=(0.0, 511.0)))


def test_token_numbers_are_no_signal() -> None:
    with pytest.raises(BuildError, match="int64: noise is for signals"):
        degraded({"tokens": np.arange(8)}, Degradation("noise", snr_db=10))


def test_a_constant_signal_has_no_power_to_be_noisy_about() -> None:
    flat = {"signal": np.ones((2, 8), np.float32)}
    assert np.array_equal(
        degraded(flat, Degradation("noise", snr_db=10, adc_bits=4))["signal"], flat["signal"]
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"dropped": 1.5},
        {"dropped": math.nan},
        {"adc_bits": 0},
        {"gain": math.inf},
        {"snr_db": math.nan},
        {"full_scale": (1.0, 1.0)},
    ],
)
def test_a_degradation_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BuildError):
        Degradation("wrong", **wrong)  # type: ignore[arg-type]


def test_the_deviation_is_correctly_rounded_whatever_the_order_of_the_sum() -> None:
    values = np.random.default_rng(0).standard_normal(10_001) * 1e6
    assert deviation(values) == deviation(values[::-1].copy()) == deviation(np.sort(values))
    assert deviation(values) == pytest.approx(float(np.std(values)), rel=1e-12)


def test_the_degraded_bytes_are_pinned_for_every_machine() -> None:
    """Raw PCG64 bits, elementwise arithmetic and correctly rounded sums: nothing here may differ by processor."""
    bad = worse(Degradation("bad", gain=0.8, offset=0.05, snr_db=12, adc_bits=8, dropped=0.1), seed=3)
    assert hashlib.sha256(bad.astype("<f4").tobytes()).hexdigest() == PINNED


def test_large_data_are_degraded_block_by_block_with_the_very_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = Degradation("bad", gain=0.8, offset=0.05, snr_db=12, adc_bits=8, dropped=0.1)
    at_once = worse(bad, seed=3)
    for readings in (1, 3 * READINGS + 5):  # a block holds whole samples, and at least one
        monkeypatch.setattr(field, "BLOCK", readings)
        assert worse(bad, seed=3).tobytes() == at_once.tobytes()


@pytest.mark.parametrize(
    ("condition", "degradation"),
    [
        ({"name": "dim", "floor": 0.9, "gain": 0.5}, Degradation("dim", gain=0.5)),
        (
            {"name": "a", "floor": 0.9, "offset": -5.0, "snr": 15.0, "adcBits": 6, "fullScale": [0.0, 1.0]},
            Degradation("a", offset=-0.05, snr_db=15.0, adc_bits=6, full_scale=(0.0, 1.0)),
        ),
        (
            {"name": "b", "floor": 0.9, "dropped": 2.0, "fill": "zero", "inputs": ["signal"]},
            Degradation("b", dropped=0.02, fill="zero", inputs=("signal",)),
        ),
    ],
)
def test_a_condition_of_the_yaml_becomes_a_degradation(
    condition: dict[str, object], degradation: Degradation
) -> None:
    assert Degradation.from_spec(condition) == degradation


def test_narrower_vectors_of_the_same_processor_give_the_same_bytes() -> None:
    """NumPy picks its kernels by processor; switching the wider ones off stands in for an older one."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found")
    if not found:
        pytest.skip("this processor has nothing to switch off")
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "import hashlib; from unit.bench.test_field import *\n"
        "bad = worse(Degradation('bad', gain=0.8, offset=0.05, snr_db=12, adc_bits=8, dropped=0.1), seed=3)\n"
        "print(len(np.show_config(mode='dicts')['SIMD Extensions'].get('found', [])))\n"
        "print(hashlib.sha256(bad.tobytes()).hexdigest())"
    )
    wide, narrow = (
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, *sys.path],
            capture_output=True,
            check=True,
            text=True,
            env={**os.environ, "NPY_DISABLE_CPU_FEATURES": features},
        ).stdout.split()
        for features in ("", " ".join(found))
    )
    assert int(narrow[0]) < int(wide[0])
    assert narrow[1] == wide[1]
