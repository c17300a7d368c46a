"""Field conditions: what a model is still worth on worse inputs, and whether that is enough to ship.

>>> conditions = [{"name": "dim-light", "gain": 0.4, "snr": 15.0, "floor": 0.9}]     # as `plan.slices.dump` says it
>>> document = conditions_report(Network(model), samples, conditions)                # doctest: +SKIP
>>> document["conditions"][0]["value"]                                            # doctest: +SKIP
0.953
>>> condition_checks(document, conditions, sources)[0].verdict                       # doctest: +SKIP
'pass'

The degraded inputs are the same on every machine (`edgewright.bench.field`). What a network makes of them is
not promised to the last bit, and is reported by the model's metric: a share of right answers, an area under the ROC
curve, or the cosine to what the same network makes of the clean inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from edgewright.bench.field import Arrays, Degradation, degraded
from edgewright.bench.report import Check
from edgewright.build.metric import Metric, metric
from edgewright.errors import BuildError
from edgewright.spec.limits import condition_check


class Answers(Protocol):
    """Whatever answers in its first output, such as `edgewright.build.samples.Network`."""

    def run(self, inputs: Arrays) -> Mapping[str, np.ndarray]:
        """Return every output for every sample."""
        ...


class Labelled(Protocol):
    """Samples with their targets, such as `edgewright.build.samples.Samples`."""

    @property
    def inputs(self) -> Arrays:
        """Clean inputs by name, first dimension = samples."""
        ...

    @property
    def targets(self) -> np.ndarray:
        """One whole number per sample."""
        ...


def conditions_report(
    network: Answers,
    samples: Labelled,
    conditions: Sequence[Mapping[str, Any]],
    seed: int = 0,
    *,
    measured: Metric | None = None,
) -> dict[str, Any]:
    """Return what clean inputs are worth and those under each condition, with what it costs, as JSON values.

    Args:
        network: Answers in its first output.
        samples: Clean samples and their targets.
        conditions: `conditions` of model.yaml as `plan.slices.dump` gives them. Their floors play no part, so
            a stage that measures need not read them.
        seed: Of everything random.
        measured: The model's metric; accuracy when None. `cosine` compares with the same network's answers to the clean
            inputs: what a condition moves.

    Returns:
        `metric`, `samples` (their number), `seed`, `clean` (its value), and `conditions`: a list in the given order of
        `name`, `degradation` (the words of the YAML), `value`, and `drop` against the clean inputs.

    Raises:
        BuildError: there are no samples; an input is no sensor's signal; a condition leaves every value as it was.
    """
    measured, targets, count = measured or metric("accuracy"), samples.targets, len(samples.targets)
    if not count:
        raise BuildError("no samples to measure field conditions on")
    clean = _answers(network, samples.inputs, measured, targets)
    entries = []
    for condition in conditions:
        degradation = Degradation.from_spec(condition)
        worse = degraded(samples.inputs, degradation, seed=seed)
        if all(np.array_equal(worse[name], array) for name, array in samples.inputs.items()):
            raise BuildError(
                f"condition {degradation.name} changes no value of the {count} samples, so it tests nothing",
                hint="a converter with fewer bits, more noise, or a narrower fullScale in model.yaml",
            )
        answers = _answers(network, worse, measured, targets)
        entries.append(
            {
                "name": degradation.name,
                "degradation": _knobs(condition),
                "value": measured.score(answers, targets, clean).value,
                "drop": measured.drop(answers, clean, targets).value,
            }
        )
    return {
        "metric": measured.name,
        "samples": count,
        "seed": seed,
        "clean": measured.score(clean, targets, clean).value,
        "conditions": entries,
    }


def condition_checks(
    document: Mapping[str, Any] | None, conditions: Sequence[Mapping[str, Any]], sources: Mapping[str, str]
) -> tuple[Check, ...]:
    """Return the gate check of each condition: what is left by the metric against its floor.

    A condition without a figure, or whose figure was measured under another degradation of the same name,
    fails: a gate that cannot see says no.

    Args:
        document: What `conditions_report` returned; None when nothing was measured.
        conditions: `conditions` of model.yaml as `plan.slices.dump` gives them, with the lane's floors.
        sources: Check → `file#dotted.path` of its floor (`spec.limits.limit_sources`).
    """
    entries = {entry["name"]: entry for entry in (document or {}).get("conditions", ())}
    checks = []
    for condition in conditions:
        name, entry = condition_check(condition["name"]), entries.get(condition["name"], {})
        value = entry.get("value") if entry.get("degradation") == _knobs(condition) else None
        figure = value if type(value) in (int, float) else None  # True would be a perfect score
        checks.append(Check(name, figure, condition["floor"], "ratio", "min", sources.get(name, "")))
    return tuple(checks)


def _knobs(condition: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in condition.items() if key not in ("name", "floor")}


def _answers(network: Answers, inputs: Arrays, measured: Metric, targets: np.ndarray) -> np.ndarray:
    """Return the first output, with a wrong answer in place of one that is not finite."""
    outputs = next(iter(network.run(inputs).values()))
    return measured.without_nan(outputs, targets)
