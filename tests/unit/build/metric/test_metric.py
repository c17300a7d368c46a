from __future__ import annotations

import sys
from subprocess import run

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays
from sklearn.metrics import recall_score, roc_auc_score

from edgewright.build.metric import Metric, Score, check_finite, metric, stratified
from edgewright.build.metric.auc import auc, wins
from edgewright.build.metric.cosine import cosines
from edgewright.errors import BuildError

SEEDS = some.integers(0, 2**32 - 1)


def classified(seed: int, count: int = 60, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, other scores and targets that have something to do with each other."""
    dice = np.random.default_rng(seed)
    targets = dice.integers(0, classes, count)
    scores = np.eye(classes)[targets] + dice.standard_normal((count, classes))
    return scores, scores + 0.3 * dice.standard_normal((count, classes)), targets


def ranked(seed: int, count: int = 60, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One score per sample, another, and targets 0 and 1."""
    dice = np.random.default_rng(seed)
    targets = np.concatenate([[0, 1], dice.integers(0, 2, count - 2)])
    scores = targets + dice.standard_normal(count)
    other = scores + 0.5 * dice.standard_normal(count)
    return (scores.round(), other.round(), targets) if ties else (scores, other, targets)


# Accuracy


def test_accuracy_is_a_share_of_whole_samples_with_wilsons_interval() -> None:
    scores, targets = np.eye(3)[[0, 1, 1, 0]], np.array([0, 0, 1, 1])
    assert metric("accuracy").score(scores, targets, scores) == Score(0.5, 0.150039, 0.849961, 4)


@pytest.mark.parametrize("count", [3, 7, 90, 100, 450, 800, 1000])
def test_a_drop_of_exactly_the_limit_is_the_limit(count: int) -> None:
    for lost in range(1, min(count, 60)):
        targets = np.zeros(count, int)
        bad = np.eye(2)[np.r_[np.ones(lost, int), np.zeros(count - lost, int)]]
        good = np.eye(2)[targets]
        drop = metric("accuracy").drop(bad, good, targets)
        assert drop.value == lost / count
        assert drop.value <= float(f"{lost / count!r}")


@given(SEEDS)
def test_the_paired_drop_is_the_difference_of_both_accuracies(seed: int) -> None:
    scores, fp32, targets = classified(seed)
    accuracy = metric("accuracy")
    drop = accuracy.drop(scores, fp32, targets)
    apart = accuracy.score(fp32, targets, fp32).value - accuracy.score(scores, targets, fp32).value
    assert drop.value == pytest.approx(apart, abs=1e-12)
    assert drop.low <= drop.value <= drop.high


@given(SEEDS)
def test_pairing_makes_a_drop_more_certain_than_both_accuracies_alone(seed: int) -> None:
    scores, fp32, targets = classified(seed, 400)
    accuracy = metric("accuracy")
    drop = accuracy.drop(scores, fp32, targets)
    alone = accuracy.score(scores, targets, fp32), accuracy.score(fp32, targets, fp32)
    assert drop.high - drop.low < sum(score.high - score.low for score in alone)


@given(SEEDS)
def test_recall_per_label_is_sklearns(seed: int) -> None:
    scores, fp32, targets = classified(seed)
    found = metric("accuracy").per_label(scores, fp32, targets, ["a", "b", "c"])
    peer = recall_score(targets, scores.argmax(1), labels=[0, 1, 2], average=None, zero_division=np.nan)
    for entry, recall in zip(found.values(), peer, strict=True):
        assert entry.recall == (None if np.isnan(recall) else pytest.approx(recall))
    assert sum(entry.samples for entry in found.values()) == len(targets)
    lost = sum(round((entry.drop or 0.0) * entry.samples) for entry in found.values())
    assert lost / len(targets) == metric("accuracy").drop(scores, fp32, targets).value


def test_a_label_without_samples_has_no_recall_and_labels_without_names_have_numbers() -> None:
    scores, targets = np.eye(3)[[0, 1]], np.array([0, 1])
    found = metric("accuracy").per_label(scores, scores, targets)
    assert found["2"].document() == {"samples": 0, "recall": None, "fp32": None, "drop": None}
    assert found["1"].document() == {"samples": 1, "recall": 1.0, "fp32": 1.0, "drop": 0.0}


# AUC


@given(SEEDS, some.booleans())
def test_auc_is_sklearns_with_and_without_ties(seed: int, ties: bool) -> None:
    scores, _other, targets = ranked(seed, ties=ties)
    assert auc(scores, targets) == pytest.approx(float(roc_auc_score(targets, scores)), abs=1e-12)


@given(SEEDS)
def test_auc_takes_one_column_like_one_row(seed: int) -> None:
    scores, other, targets = ranked(seed)
    measured = metric("auc")
    assert measured.score(scores[:, None], targets, other[:, None]) == measured.score(scores, targets, other)
    assert measured.drop(scores[:, None], other[:, None], targets) == measured.drop(scores, other, targets)


@given(SEEDS)
def test_auc_does_not_care_for_the_scale_of_scores(seed: int) -> None:
    scores, other, targets = ranked(seed)
    measured = metric("auc")
    assert measured.score(np.exp(scores), targets, other) == measured.score(scores, targets, other)
    assert measured.drop(3 * scores - 7, scores, targets).document() == {
        "value": 0.0,
        "low": 0.0,
        "high": 0.0,
    }


@given(SEEDS)
def test_turned_scores_turn_the_area_around(seed: int) -> None:
    scores, _other, targets = ranked(seed, ties=True)
    assert auc(-scores, targets) == pytest.approx(1 - auc(scores, targets), abs=1e-12)


@given(SEEDS, some.booleans())
def test_the_paired_drop_of_auc_is_delongs(seed: int, ties: bool) -> None:
    scores, fp32, targets = ranked(seed, ties=ties)
    drop = metric("auc").drop(scores, fp32, targets)

    def components(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = values[targets == 1][:, None], values[targets == 0][None, :]
        won = (x > y) + 0.5 * (x == y)
        return won.mean(axis=1), won.mean(axis=0)

    (of_x, of_y), (fp32_x, fp32_y) = components(scores), components(fp32)
    if min(len(of_x), len(of_y)) < 2:
        assert (drop.low, drop.high) == (-1.0, 1.0)
        return
    covariances = np.cov(of_x, fp32_x) / len(of_x) + np.cov(of_y, fp32_y) / len(of_y)
    variance = covariances[0, 0] + covariances[1, 1] - 2 * covariances[0, 1]
    assert drop.value == pytest.approx(fp32_x.mean() - of_x.mean(), abs=1e-12)
    half = 1.959964 * np.sqrt(max(variance, 0.0))
    assert drop.high == pytest.approx(min(drop.value + half, 1), abs=2e-6)
    assert drop.low == pytest.approx(max(drop.value - half, -1), abs=2e-6)


def test_wins_are_counted_in_whole_halves() -> None:
    of_ones, of_zeros = wins(np.array([0.9, 0.4, 0.4, 0.1]), np.array([1, 1, 0, 0]))
    assert (of_ones.tolist(), of_zeros.tolist()) == ([4, 3], [3, 4])


def test_large_sets_are_ranked_not_paired_one_by_one() -> None:
    scores, other, targets = ranked(1, 200_000)  # ten billion pairs
    assert metric("auc").drop(scores, other, targets).value == pytest.approx(
        roc_auc_score(targets, other) - roc_auc_score(targets, scores), abs=1e-9
    )


def test_auc_has_neither_labels_nor_predictions() -> None:
    scores, other, targets = ranked(0)
    assert metric("auc").per_label(scores, other, targets) == {}
    assert metric("auc").predictions(scores) is None


# Cosine


@given(arrays(np.float32, (7, 5), elements=some.floats(-(2.0**100), 2.0**100, width=32)), SEEDS)
def test_cosines_stay_within_one_and_do_not_care_for_lengths(vectors: np.ndarray, seed: int) -> None:
    other = np.random.default_rng(seed).standard_normal((7, 5)).astype(np.float32)
    found = cosines(vectors, other)
    assert (np.abs(found) <= 1).all()
    np.testing.assert_allclose(found, cosines(vectors.astype(np.float64) * 0.25, other * 8), atol=1e-12)


def test_cosine_is_that_of_the_textbook() -> None:
    dice = np.random.default_rng(0)
    left, right = dice.standard_normal((20, 8)), dice.standard_normal((20, 8))
    wanted = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    np.testing.assert_allclose(cosines(left, right), wanted, atol=1e-12)


def test_fp32_itself_has_a_cosine_of_one_by_definition() -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    targets = np.zeros(3, int)
    assert metric("cosine").score(vectors, targets, vectors) == Score(1.0, 1.0, 1.0, 3)
    assert metric("cosine").drop(vectors, vectors, targets).document() == {"value": 0, "low": 0, "high": 0}


@given(SEEDS)
def test_the_drop_of_cosine_is_what_is_missing_to_one(seed: int) -> None:
    dice = np.random.default_rng(seed)
    fp32 = dice.standard_normal((30, 6))
    outputs = fp32 + 0.2 * dice.standard_normal((30, 6))
    score = metric("cosine").score(outputs, np.zeros(30, int), fp32)
    drop = metric("cosine").drop(outputs, fp32, np.zeros(30, int))
    assert -1 <= score.low <= score.value <= score.high <= 1
    assert drop.value == pytest.approx(1 - score.value, abs=1e-9)
    assert drop.low <= drop.value <= drop.high


def test_an_output_of_tokens_counts_as_one_vector() -> None:
    fp32 = np.random.default_rng(0).standard_normal((4, 3, 5))
    other = fp32 + 0.1
    flat = metric("cosine").score(other.reshape(4, 15), np.zeros(4, int), fp32.reshape(4, 15))
    assert metric("cosine").score(other, np.zeros(4, int), fp32) == flat


def test_vectors_of_nothing_agree_only_with_each_other() -> None:
    assert cosines(np.zeros((2, 3)), np.array([[0.0, 0, 0], [1, 0, 0]])).tolist() == [1.0, 0.0]


# What every metric says


def test_the_smallest_visible_loss_is_that_of_one_sample_or_one_pair() -> None:
    targets = np.array([0, 0, 0, 1, 1])
    assert metric("accuracy").resolution(targets) == 0.2
    assert metric("auc").resolution(targets) == 1 / 6
    assert metric("cosine").resolution(targets) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["accuracy", "auc", "cosine"])
@given(seed=SEEDS)
def test_what_is_not_finite_never_scores_better_than_what_is(name: str, bad: float, seed: int) -> None:
    measured = metric(name)
    scores, _other, targets = ranked(seed) if name == "auc" else classified(seed)
    spoiled = scores.copy()
    spoiled[::7] = bad
    mended = measured.without_nan(spoiled, targets)
    assert np.isfinite(mended).all() or name == "auc"
    assert measured.score(mended, targets, scores).value <= measured.score(scores, targets, scores).value
    assert measured.drop(mended, scores, targets).value >= 0
    np.testing.assert_array_equal(measured.without_nan(scores, targets), scores)


# What cannot be measured


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "labels", "message"),
    [
        (
            "accuracy",
            np.zeros(4),
            [0, 1, 0, 1],
            (),
            "one score per class; the first output is \\[\\] per sample",
        ),
        ("accuracy", np.zeros((4, 2)), [0, 1, 2, 1], (), "data:test has targets 0 to 2; .* are 0 to 1"),
        ("accuracy", np.zeros((4, 2)), [0, 1, -1, 1], (), "targets -1 to 1"),
        ("accuracy", np.zeros((4, 2)), [0, 1, 0, 1], ("a", "b", "c"), "has 2 classes; .* names 3 labels"),
        ("accuracy", np.zeros((4, 1)), [0, 0, 0, 0], (), "two classes or more"),
        ("auc", np.zeros((4, 2)), [0, 1, 0, 1], (), "one score per sample; the first output is \\[2\\]"),
        (
            "auc",
            np.zeros((4, 1, 1)),
            [0, 1, 0, 1],
            (),
            "one score per sample; the first output is \\[1, 1\\]",
        ),
        ("auc", np.zeros(4), [0, 1, 2, 1], (), "targets 0 to 2; auc takes 0 and 1"),
        ("auc", np.zeros(4), [1, 1, 1, 1], (), "only samples with target 1; auc compares"),
        ("cosine", np.zeros((4, 2), int), [0, 0, 0, 0], (), "floating-point outputs; .* int64\\[2\\]"),
    ],
)
def test_what_the_metric_cannot_measure_is_refused(
    name: str, outputs: np.ndarray, targets: list[int], labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        metric(name).check(outputs, np.array(targets), "data:test", labels)


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("accuracy", np.zeros((4, 2))), ("auc", np.zeros(4)), ("auc", np.zeros((4, 1))), ("cosine", np.zeros((4, 2, 3)))
    ],
)  # fmt: skip
def test_what_it_can_is_accepted(name: str, outputs: np.ndarray) -> None:
    metric(name).check(outputs, np.array([0, 1, 0, 1]), "data:test")


def test_a_metric_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(BuildError, match="there is no metric 'f1'") as caught:
        metric("f1")
    assert caught.value.hint == "metrics are accuracy, auc, cosine"


def test_values_that_are_not_finite_are_counted_by_sample() -> None:
    array = np.zeros((5, 2, 2), np.float32)
    check_finite(array, "output 'x'")
    array[1] = np.nan
    array[3, 0, 1] = np.inf
    with pytest.raises(BuildError, match="output 'x' holds NaN or infinity in 2 of 5 samples"):
        check_finite(array, "output 'x'")
    check_finite(np.zeros(3, int), "targets")


@pytest.mark.parametrize("name", ["accuracy", "auc", "cosine"])
@given(seed=SEEDS)
def test_the_order_of_samples_changes_no_figure(name: str, seed: int) -> None:
    measured: Metric = metric(name)
    scores, fp32, targets = ranked(seed) if name == "auc" else classified(seed)
    order = np.random.default_rng(seed).permutation(len(targets))
    assert measured.score(scores, targets, fp32) == measured.score(scores[order], targets[order], fp32[order])
    assert measured.drop(scores, fp32, targets) == measured.drop(scores[order], fp32[order], targets[order])


def test_measuring_needs_nothing_but_numpy() -> None:
    heavy = ("scipy", "sklearn", "onnx", "onnxruntime", "torch")
    code = f"import sys, edgewright.build.metric; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert run([sys.executable, "-c", code], check=False).returncode == 0


# Rows


@given(some.lists(some.integers(0, 5), min_size=1, max_size=80), some.integers(1, 90))
def test_rows_are_spread_evenly_over_the_labels(targets: list[int], count: int) -> None:
    array = np.array(targets)
    rows = stratified(array, count)
    assert len(rows) == min(count, len(targets))
    assert sorted(set(rows.tolist())) == rows.tolist()
    labels, whole = np.unique(array, return_counts=True)
    for label, size in zip(labels, whole, strict=True):
        assert np.count_nonzero(array[rows] == label) >= min(size, count // len(labels))


@given(some.integers(1, 200), some.integers(1, 200))
def test_samples_that_are_all_different_are_taken_over_the_whole_range(size: int, count: int) -> None:
    rows = stratified(np.arange(size), count)
    assert len(rows) == min(size, count)
    assert np.diff(rows).max(initial=0) <= -(-size // min(size, count))


def test_more_rows_hold_the_fewer_ones() -> None:
    targets = np.random.default_rng(0).integers(0, 4, 300)
    few, more = stratified(targets, 40), stratified(targets, 120)
    assert set(few.tolist()) < set(more.tolist())
