"""Metrics: what a model's outputs are worth, how sure that is, and what was lost against fp32 on the same samples.

>>> import numpy as np
>>> accuracy = metric("accuracy")
>>> scores, fp32 = np.eye(2)[[0, 1, 1, 1]], np.eye(2)[[0, 1, 1, 0]]
>>> accuracy.score(scores, np.array([0, 1, 1, 0]), fp32)
Score(value=0.75, low=0.300642, high=0.954413, samples=4)
>>> accuracy.drop(scores, fp32, np.array([0, 1, 1, 0])).value
0.25

Every figure is a closed form or a bisection over a few numbers; nothing is drawn at random. What is counted (right
answers, won pairs) is counted in whole numbers and divided once, so a drop of exactly the limit is the limit. Ends of
intervals are rounded to six decimals, cosines to nine: more would tie them to the processor that summed them up.
"""

from __future__ import annotations

from edgewright.build.metric.accuracy import Accuracy
from edgewright.build.metric.auc import Auc
from edgewright.build.metric.cosine import Cosine
from edgewright.build.metric.rows import stratified
from edgewright.build.metric.score import Drop, LabelScore, Metric, Score, check_finite
from edgewright.errors import BuildError

__all__ = ["Drop", "LabelScore", "Metric", "Score", "check_finite", "metric", "stratified"]

_METRICS: dict[str, Metric] = {found.name: found for found in (Accuracy(), Auc(), Cosine())}


def metric(name: str) -> Metric:
    """Return the metric that `metric.name` of a model names.

    Raises:
        BuildError: there is none of that name.
    """
    if name not in _METRICS:
        raise BuildError(f"there is no metric {name!r}", hint=f"metrics are {', '.join(sorted(_METRICS))}")
    return _METRICS[name]
