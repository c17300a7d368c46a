"""Accuracy under declared conditions, and the checks that judge it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from edgewright.bench.conditions import condition_checks, conditions_report
from edgewright.bench.report import GateReport
from edgewright.build.metric import metric
from edgewright.errors import BuildError

COUNT, READINGS = 400, 256
NIGHT = {"name": "night", "snr": -10.0, "floor": 0.9}
DIM = {"name": "dim", "gain": 0.5, "floor": 0.95}
SOURCES = {
    "accuracy-under-night": "models/m/model.yaml#conditions.0.floor",
    "accuracy-under-dim": "models/m/model.yaml#conditions.1.floor",
}


@dataclass(frozen=True)
class Tones:
    """Two kinds of signals, slow and fast triangle waves of amplitude 1, [count, 1, 256]."""

    count: int = COUNT

    @property
    def targets(self) -> np.ndarray:
        return np.arange(self.count) % 2

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        speed, start = 1 + 3 * self.targets[:, None], np.arange(self.count)[:, None]
        signals = np.abs((np.arange(READINGS) * speed + start) % 64 - 32) / 16 - 1
        return {"signal": signals.astype(np.float32)[:, None]}


class CountsTurns:
    """A classifier that a little noise does not impress and a lot does: it counts how often the sign changes."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        signal = inputs["signal"][:, 0]
        turns = (np.diff((signal > 0).astype(int)) != 0).sum(axis=1)
        return {"scores": np.stack([20.0 - turns, turns - 20.0], axis=1)}


def report(*conditions: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
    return conditions_report(CountsTurns(), Tones(), conditions, seed)


def test_the_report_names_each_condition_what_it_was_and_what_it_costs() -> None:
    document = report(NIGHT, DIM)
    assert (document["samples"], document["seed"], document["clean"]) == (COUNT, 0, 1.0)
    night, dim = document["conditions"]
    assert dim == {"name": "dim", "degradation": {"gain": 0.5}, "value": 1.0, "drop": 0.0}
    assert (night["name"], night["degradation"]) == ("night", {"snr": -10.0})
    assert night["drop"] == pytest.approx(1 - night["value"])


def test_accuracy_falls_as_noise_rises() -> None:
    found = [report({"name": "noise", "snr": snr})["conditions"][0]["value"] for snr in (60.0, 10.0, -10.0)]
    assert found[0] == 1.0
    assert found[0] >= found[1] > found[2]
    assert found[2] == pytest.approx(0.5, abs=0.1)  # guessing


def test_the_same_seed_gives_the_same_report_and_another_one_other_noise() -> None:
    assert report(NIGHT) == report(NIGHT)
    dusk = {"name": "dusk", "snr": 12.0}  # neither sure nor guessed
    others = {report(dusk, seed=seed)["conditions"][0]["value"] for seed in range(5)}
    assert len(others) > 1


def test_a_condition_does_not_depend_on_those_beside_it() -> None:
    assert report(DIM, NIGHT)["conditions"][1] == report(NIGHT)["conditions"][0]


def test_a_floor_plays_no_part_in_what_is_measured() -> None:
    assert report({**NIGHT, "floor": 0.1}) == report({key: NIGHT[key] for key in ("name", "snr")})


def test_the_report_is_json_and_reads_back_as_it_was() -> None:
    document = report(NIGHT, {**DIM, "fullScale": [-1.0, 1.0], "inputs": ["signal"]})
    assert json.loads(json.dumps(document)) == document


def test_without_samples_there_is_no_figure() -> None:
    with pytest.raises(BuildError, match="no samples"):
        conditions_report(CountsTurns(), Tones(0), [NIGHT])


def test_a_condition_that_leaves_every_value_as_it_was_is_no_test() -> None:
    unheard = {"name": "wide", "fullScale": [-2.0, 2.0], "floor": 0.9}
    with pytest.raises(BuildError, match="condition wide changes no value of the 400 samples") as caught:
        report(unheard)
    assert caught.value.hint


def test_a_network_that_answers_nonsense_is_never_right() -> None:
    class Nonsense:
        def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            scores = CountsTurns().run(inputs)["scores"]
            return {"scores": np.where(scores > 0, math.nan, scores)}

    document = conditions_report(Nonsense(), Tones(), [DIM])
    assert (document["clean"], document["conditions"][0]["value"]) == (0.0, 0.0)


def test_each_condition_becomes_a_check_in_the_order_of_the_yaml() -> None:
    night, dim = condition_checks(report(NIGHT, DIM), [NIGHT, DIM], SOURCES)
    assert (dim.name, dim.measured, dim.limit) == ("accuracy-under-dim", 1.0, 0.95)
    assert (dim.unit, dim.direction, dim.verdict) == ("ratio", "min", "pass")
    assert dim.source == "models/m/model.yaml#conditions.1.floor"
    assert (night.name, night.verdict) == ("accuracy-under-night", "fail")


def test_an_accuracy_exactly_at_its_floor_passes() -> None:
    document = report(NIGHT)
    exactly = {**NIGHT, "floor": document["conditions"][0]["value"]}
    assert condition_checks(document, [exactly], SOURCES)[0].verdict == "pass"


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"conditions": []},
        {"conditions": [{"name": "other", "degradation": {"gain": 0.5}, "value": 1.0}]},
        {"conditions": [{"name": "dim", "degradation": {"gain": 0.5}}]},
        {"conditions": [{"name": "dim", "degradation": {"gain": 0.5}, "value": None}]},
        {"conditions": [{"name": "dim", "degradation": {"gain": 0.5}, "value": True}]},
        {"conditions": [{"name": "dim", "degradation": {"gain": 0.5}, "value": math.nan}]},
        {"conditions": [{"name": "dim", "value": 1.0}]},
    ],
)
def test_a_condition_without_a_figure_fails(document: Mapping[str, Any] | None) -> None:
    (check,) = condition_checks(document, [DIM], SOURCES)
    assert (check.verdict, check.headroom) == ("fail", None)


def test_a_figure_of_a_milder_condition_of_the_same_name_does_not_count() -> None:
    (check,) = condition_checks(report({**DIM, "gain": 0.9}), [DIM], SOURCES)
    assert (check.measured, check.verdict) == (None, "fail")


def test_a_figure_read_back_from_a_file_still_counts() -> None:
    scaled = {**DIM, "fullScale": [-1.0, 1.0]}
    document = json.loads(json.dumps(report(scaled)))
    assert condition_checks(document, [scaled], SOURCES)[0].verdict == "pass"


def test_the_checks_and_the_report_travel_in_a_gate_report() -> None:
    document = report(DIM)
    checks = condition_checks(document, [DIM], SOURCES)
    digest = "sha256:" + "a" * 64
    gate = GateReport("m", "c", "1.0.0", digest, "declared", checks, {"conditions": document})
    assert GateReport.from_json(gate.to_json()) == gate
    assert gate.verdict == "pass"


def test_without_conditions_there_is_nothing_to_check() -> None:
    assert condition_checks(report(), [], {}) == ()


class Loudness:
    """A detector that scores how loud a signal is, and an embedding of its first readings."""

    def __init__(self, width: int) -> None:
        self.width = width

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        signal = inputs["signal"][:, 0]
        loud = np.abs(np.diff(signal, axis=1)).sum(axis=1, keepdims=True)
        return {"answer": loud if self.width == 1 else signal[:, : self.width]}


def test_a_detector_is_reported_by_its_area() -> None:
    document = conditions_report(Loudness(1), Tones(), [NIGHT, DIM], measured=metric("auc"))
    night, dim = document["conditions"]
    assert (document["metric"], document["clean"]) == ("auc", 1.0)
    assert (dim["value"], dim["drop"]) == (1.0, 0.0)
    assert night["value"] < 0.9
    assert night["drop"] == pytest.approx(1 - night["value"])


def test_an_embedding_is_compared_with_that_of_the_clean_inputs() -> None:
    document = conditions_report(Loudness(64), Tones(), [NIGHT, DIM], measured=metric("cosine"))
    night, dim = document["conditions"]
    assert (document["metric"], document["clean"]) == ("cosine", 1.0)
    assert dim["value"] == pytest.approx(1, abs=1e-6), "half as long points the same way"
    assert night["value"] < 0.5
