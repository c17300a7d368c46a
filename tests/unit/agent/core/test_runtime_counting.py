"""What a session counts: latency in logarithmic buckets, confidences, and how far the world is from the test data."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from edgewright.build.drift import confidence, drift_reference
from edgewright_agent.runtime.sketch import EPSILON, MIN_SAMPLES, Histogram, LatencySketch, psi
from edgewright_agent.runtime.tally import Reference, Tally, confidences, read_reference
from unit.agent.core.onnx_artifact import PIXELS, scores
from unit.agent.core.sessions import INPUTS, ONE, Device

# Grey levels as images have them: few values, each on an edge of the reference, and not exact in six digits.
LEVELS = np.random.default_rng(6).integers(0, 256, (400, 64)).astype(np.float32) / 255


def reference(folder: Path, inputs: np.ndarray, outputs: np.ndarray, metric: str = "accuracy") -> Reference:
    document = drift_reference({"image": inputs}, outputs, "scores", metric)
    (folder / "drift.json").write_text(json.dumps(document))
    return read_reference(folder)


def test_latency_is_told_within_half_a_bucket() -> None:
    sketch = LatencySketch()
    rng = np.random.default_rng(1)
    times = rng.lognormal(6, 1, 5000)
    for time in times:
        sketch.add(float(time))
    for share in (0.5, 0.95, 0.99):
        assert sketch.quantile_us(share) == pytest.approx(float(np.quantile(times, share)), rel=0.06)
    assert sum(count for _, count in sketch.pairs()) == 5000
    assert all(2 ** (bucket / 8) <= times.max() for bucket, _ in sketch.pairs())


@pytest.mark.parametrize("strange", [0.0, -1.0, 0.5, 1e30])
def test_a_strange_time_lands_in_a_bucket_all_the_same(strange: float) -> None:
    sketch = LatencySketch()
    sketch.add(strange)
    assert len(sketch.pairs()) == 1
    assert 0 <= sketch.pairs()[0][0] <= 320


def test_no_time_has_no_quantile() -> None:
    assert LatencySketch().quantile_us(0.5) == 0.0


def test_psi_is_the_sum_it_is_said_to_be() -> None:
    assert psi([0.25, 0.75], [0.25, 0.75]) == 0.0
    assert psi([0.5, 0.5], [0.9, 0.1]) == pytest.approx(0.4 * math.log(1.8) - 0.4 * math.log(0.2))
    assert psi([1.0, 0.0], [0.0, 1.0]) == pytest.approx(2 * (1 - EPSILON) * math.log(1 / EPSILON))


@pytest.mark.parametrize("metric", ["accuracy", "auc", "cosine"])
def test_the_test_data_itself_has_not_drifted(tmp_path: Path, metric: str) -> None:
    outputs = np.random.default_rng(2).normal(size=(400, 1 if metric == "auc" else 5)).astype(np.float32)
    tally = Tally(reference(tmp_path, LEVELS, outputs, metric))
    for row in range(400):
        tally.success(100.0, {"image": LEVELS[row : row + 1]}, {"scores": outputs[row : row + 1]})
    figures = tally.figures()
    assert figures.confidence_drift == pytest.approx(0, abs=1e-4)
    assert figures.input_drift == {}  # too few have been looked at
    tally = Tally(reference(tmp_path, LEVELS, outputs, metric))
    tally.success(100.0, {"image": LEVELS}, {"scores": outputs})
    # What is left is chance: every 7th pixel was looked at.
    assert 0 <= tally.figures().input_drift["image"] < 0.02


def test_discrete_values_stay_in_the_bins_they_were_counted_in(tmp_path: Path) -> None:
    bins = reference(tmp_path, LEVELS, PIXELS).inputs["image"]
    histogram = Histogram(*bins)
    histogram.add_array(LEVELS.reshape(-1), 400)
    assert histogram.distance() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    "change",
    [lambda x: x * 0.5, lambda x: x * 255, lambda x: 1 - x**3, lambda x: np.zeros_like(x)],
    ids=["dark", "not scaled", "inverted", "black"],
)
def test_another_world_is_far_away(tmp_path: Path, change: object) -> None:
    tally = Tally(reference(tmp_path, LEVELS, PIXELS))
    tally.success(100.0, {"image": change(LEVELS)}, {})  # type: ignore[operator]
    assert tally.figures().input_drift["image"] > 0.25


@pytest.mark.parametrize("constant", [0.0, 7.0])
def test_an_input_that_never_changed_drifts_when_it_does(tmp_path: Path, constant: float) -> None:
    same = np.full((400, 1), constant, np.float32)
    bins = reference(tmp_path, same, PIXELS).inputs["image"]
    still, moved = Histogram(*bins), Histogram(*bins)
    still.add_array(same.reshape(-1), 400)
    moved.add_array(same.reshape(-1) + 1, 400)
    assert still.distance() == pytest.approx(0, abs=1e-3)
    assert (moved.distance() or 0) > 1


def test_nothing_is_said_about_too_few_samples_and_old_ones_fade() -> None:
    histogram = Histogram([0, 1, 2, 3], [0.3, 0.4, 0.3])
    histogram.add([0.5] * (MIN_SAMPLES - 1), MIN_SAMPLES - 1)
    assert histogram.distance() is None
    even = np.tile([0.5, 1.5, 1.5, 2.5], 25_000)
    histogram.add_array(even, len(even))
    for _ in range(3):
        histogram.add_array(np.full(15_000, 0.5), 15_000)
    assert (histogram.distance() or 0) > 0.25


@pytest.mark.parametrize("shape", [(6, 3), (60, 40), (2, 5, 4, 4)])
def test_confidence_is_what_the_reference_was_made_of(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(3).normal(0, 30, shape).astype(np.float32)
    rows = np.moveaxis(values, 1, -1).reshape(-1, shape[1])
    got = confidences("largest softmax probability", values)
    np.testing.assert_allclose(got, confidence(rows), rtol=1e-5)


def test_confidence_of_what_has_none_is_nothing() -> None:
    assert confidences("largest softmax probability", np.zeros(3, np.float32)) == []
    assert confidences("score", np.zeros((2, 2), np.float32)) == []
    assert confidences("what the future holds", np.zeros((2, 2), np.float32)) == []
    assert confidences("score", np.zeros((0, 1), np.float32)) == []


def test_large_answers_are_looked_at_in_part() -> None:
    assert len(confidences("Euclidean norm", np.ones((10_000, 2), np.float32))) <= 64
    assert len(confidences("largest softmax probability", np.ones((1, 2, 500, 500), np.float32))) <= 64


def test_every_channel_of_a_large_image_is_looked_at(tmp_path: Path) -> None:
    image = np.zeros((1, 128, 128, 3), np.float32)
    image[..., 1] = np.linspace(0, 1, 128)
    tally = Tally(reference(tmp_path, np.repeat(image, 300, axis=0), PIXELS))
    for _ in range(3300):
        tally.success(1.0, {"image": image}, {})
    distance = tally.figures().input_drift["image"]
    assert distance < 0.02


def test_a_session_counts_confidences_of_its_model(tmp_path: Path) -> None:
    device = Device(tmp_path)
    folder = device.install(ONE)
    device.activate(ONE)
    (folder / "drift.json").write_text(json.dumps(drift_reference(INPUTS, scores(PIXELS), "scores")))
    with device.session() as session:
        for _ in range(40):
            session.run(INPUTS)
        figures = session.figures
    assert (figures.inferences, figures.errors) == (40, 0)
    assert figures.confidence is not None
    assert sum(figures.confidence) == 320
    assert figures.confidence_drift == pytest.approx(0, abs=1e-6)
    assert figures.input_drift["image"] == pytest.approx(0, abs=1e-3)
    assert figures.p50_ms > 0
    assert figures.since_success_s is not None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"inputs": 1}',
        b'{"inputs": {"image": {}}}',
        b'{"confidence": {"output": "scores", "kind": "score", "histogram": {"edges": [], "share": []}}}',
        b'{"inputs": {"image": {"histogram": {"edges": [3, 2, 1, 0], "share": [1, 0, 0]}}}}',
        b'{"inputs": {"image": {"histogram": {"edges": [0, 1, 2], "share": [1]}}}}',
        b"[" * 100_000,
    ],
)
def test_a_reference_that_makes_no_sense_is_no_reason_not_to_run(tmp_path: Path, content: bytes) -> None:
    device = Device(tmp_path)
    (device.install(ONE) / "drift.json").write_bytes(content)
    device.activate(ONE)
    with device.session() as session:
        session.run(INPUTS)
        assert session.figures.inferences == 1
        assert session.figures.input_drift == {}
