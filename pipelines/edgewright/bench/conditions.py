"""Field conditions: what a model is still worth on worse inputs, and whether that is enough to ship.

>>> conditions = [{"name": "dim-light", "gain": 0.4, "snr": 15.0, "floor": 0.9}]     # as `plan.stage.dump` says it
>>> document = conditions_report(Network(model), samples, conditions)                # doctest: +SKIP
>>> document["conditions"][0]["accuracy"]                                            # doctest: +SKIP
0.953
>>> condition_checks(document, conditions, sources)[0].verdict                       # doctest: +SKIP
'pass'

The degraded inputs are the same on every machine (`edgewright.bench.field`). What a network makes of them is
not promised to the last bit, and is reported as a share of right answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from edgewright.bench.field import Arrays, Degradation, degraded
from edgewright.bench.report import Check
from edgewright.errors import BuildError
from edgewright.spec.limits import condition_check


class Scores(Protocol):
    """Whatever answers with scores per class in its first output, such as `edgewright.build.samples.Network`."""

    def run(self, inputs: Arrays) -> Mapping[str, np.ndarray]:
        """Return every output for every sample."""
        ...


class Labelled(Protocol):
    """Samples with their true classes, such as `edgewright.build.samples.Samples`."""

    @property
    def inputs(self) -> Arrays:
        """Clean inputs by name, first dimension = samples."""
        ...

    @property
    def targets(self) -> np.ndarray:
        """True classes."""
        ...


def conditions_report(
    network: Scores, samples: Labelled, conditions: Sequence[Mapping[str, Any]], seed: int = 0
) -> dict[str, Any]:
    """Return clean accuracy and that under each condition, with what it costs, as JSON values.

    Args:
        network: Answers with scores, [samples, classes], in its first output.
        samples: Clean samples and their true classes.
        conditions: `conditions` of model.yaml as `plan.stage.dump` gives them. Their floors play no part, so
            a stage that measures need not read them.
        seed: Of everything random.

    Returns:
        `samples` (their number), `seed`, `clean` (accuracy), and `conditions`: a list in the given order of
        `name`, `degradation` (the words of the YAML), `accuracy`, and `drop` against the clean inputs.

    Raises:
        BuildError: there are no samples; an input is no sensor's signal; a condition leaves every value as it was.
    """
    count = len(samples.targets)
    clean = _right(network, samples.inputs, samples.targets, "clean")
    entries = []
    for condition in conditions:
        degradation = Degradation.from_spec(condition)
        worse = degraded(samples.inputs, degradation, seed=seed)
        if all(np.array_equal(worse[name], array) for name, array in samples.inputs.items()):
            raise BuildError(
                f"condition {degradation.name} changes no value of the {count} samples, so it tests nothing",
                hint="a converter with fewer bits, more noise, or a narrower fullScale in model.yaml",
            )
        right = _right(network, worse, samples.targets, degradation.name)
        entries.append(
            {
                "name": degradation.name,
                "degradation": _knobs(condition),
                "accuracy": right / count,
                # One division of whole numbers: the same share is the same number.
                "drop": (clean - right) / count,
            }
        )
    return {"samples": count, "seed": seed, "clean": clean / count, "conditions": entries}


def condition_checks(
    document: Mapping[str, Any] | None, conditions: Sequence[Mapping[str, Any]], sources: Mapping[str, str]
) -> tuple[Check, ...]:
    """Return the gate check of each condition: the accuracy that is left against its floor.

    A condition without a figure, or whose figure was measured under another degradation of the same name,
    fails: a gate that cannot see says no.

    Args:
        document: What `conditions_report` returned; None when nothing was measured.
        conditions: `conditions` of model.yaml as `plan.stage.dump` gives them, with the lane's floors.
        sources: Check → `file#dotted.path` of its floor (`spec.limits.limit_sources`).
    """
    entries = {entry["name"]: entry for entry in (document or {}).get("conditions", ())}
    checks = []
    for condition in conditions:
        name, entry = condition_check(condition["name"]), entries.get(condition["name"], {})
        accuracy = entry.get("accuracy") if entry.get("degradation") == _knobs(condition) else None
        figure = accuracy if type(accuracy) in (int, float) else None  # True would be a perfect score
        checks.append(Check(name, figure, condition["floor"], "ratio", "min", sources.get(name, "")))
    return tuple(checks)


def _knobs(condition: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in condition.items() if key not in ("name", "floor")}


def _right(network: Scores, inputs: Arrays, targets: np.ndarray, name: str) -> int:
    if not len(targets):
        raise BuildError(f"{name}: no samples to measure accuracy on")
    scores = next(iter(network.run(inputs).values()))
    # The largest of scores with NaN among them would be the NaN, which may stand at the right place.
    return int(((scores.argmax(axis=1) == targets) & np.isfinite(scores).all(axis=1)).sum())
