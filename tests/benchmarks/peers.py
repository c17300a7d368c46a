"""Two optimizers side by side: both get the same request in a process of their own, one judge measures both.

>>> request = Request(model, samples["calibration"], samples["selection"], "accuracy", "latency", 0.01)
>>> outcome = run([python, "run.py"], request, folder)
>>> judged = judge(model, outcome.model, samples["test"], "accuracy")
>>> judged.size_ratio, judged.latency_ratio

A request is a JSON file: `model` (path of the fp32 model), `calibration` and `selection` (npz files with arrays
`input:<name>` and `targets`), `metric`, `max_drop`, `objective`, `classes`, `transformer` (or null), `work` (an empty
folder), `started` (when its process was started). The result is a JSON file too: `model` (path, null where nothing was
better than fp32), `passes`, `wall_s` from `started` to the final model, and `cpu_s` of the process and its children.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from sklearn.metrics import roc_auc_score

from edgewright.build.samples import Network, Samples

Z = 1.96  # 95 %
ROUNDS = 101
BLOCK_S = 2e-3  # what is timed at once, far above the clock's resolution


@dataclass(frozen=True)
class Request:
    """What is to be optimized, and what for.

    Attributes:
        objective: `latency`, `size`, `memory` or `balanced`.
        max_drop: How much of the metric may be lost against fp32 on the same samples.
        transformer: `num_heads` and `hidden_size`, where there is attention.
    """

    model: bytes
    calibration: Samples
    selection: Samples
    metric: str
    objective: str
    max_drop: float
    classes: int = 0
    transformer: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Outcome:
    """What an optimizer made of it. `changed` is false where it found nothing better than fp32."""

    model: bytes
    passes: tuple[str, ...]
    wall_s: float
    cpu_s: float
    changed: bool
    evaluated: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Judged:
    """Figures of an optimized model on test samples; ratios are to fp32, `low` and `high` bound the metric at 95 %."""

    value: float
    low: float
    high: float
    fp32_value: float
    cosine: float
    size_ratio: float
    latency_ratio: float

    def on(self, objective: str) -> float:
        """Return the figure to be small. Memory is that of the weights here: nothing else is measured."""
        return {
            "latency": self.latency_ratio,
            "size": self.size_ratio,
            "memory": self.size_ratio,
            "balanced": math.sqrt(self.latency_ratio * self.size_ratio),
        }[objective]


def run(
    command: Sequence[str | Path], request: Request, folder: Path, environment: Mapping[str, str]
) -> Outcome:
    """Run an optimizer on `request` and return what it made.

    Raises:
        RuntimeError: it fails; the message is the end of what it said.
    """
    work = folder / "work"
    work.mkdir(parents=True)
    (folder / "fp32.onnx").write_bytes(request.model)
    for part, samples in (("calibration", request.calibration), ("selection", request.selection)):
        inputs = {f"input:{name}": array for name, array in samples.inputs.items()}
        np.savez(folder / f"{part}.npz", targets=samples.targets, **inputs)
    asked = {
        "model": str(folder / "fp32.onnx"), "calibration": str(folder / "calibration.npz"),
        "selection": str(folder / "selection.npz"), "metric": request.metric, "max_drop": request.max_drop,
        "objective": request.objective, "classes": request.classes, "transformer": request.transformer,
        "work": str(work), "started": time.time(),
    }  # fmt: skip
    (folder / "request.json").write_text(json.dumps(asked))
    result_path = folder / "result.json"
    done = subprocess.run(
        [*command, folder / "request.json", result_path],
        capture_output=True,
        text=True,
        env=environment,
        cwd=work,
    )
    if done.returncode or not result_path.exists():
        raise RuntimeError(
            f"{command[-1]} ends with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
        )
    result = json.loads(result_path.read_text())
    return Outcome(
        Path(result["model"]).read_bytes() if result["model"] else request.model,
        tuple(result["passes"]),
        result["wall_s"],
        result["cpu_s"],
        bool(result["model"]),
        tuple(result.get("evaluated", ())),
    )


def judge(fp32: bytes, optimized: bytes, test: Samples, metric: str) -> Judged:
    """Measure an optimized model against the fp32 model it was made of."""
    before, after = (first_output(model, test) for model in (fp32, optimized))
    cosines = cosine_similarities(after, before)
    value, low, high = measured(metric, after, test.targets, cosines)
    return Judged(
        value,
        low,
        high,
        measured(metric, before, test.targets, cosine_similarities(before, before))[0],
        float(cosines.mean()),
        len(optimized) / len(fp32),
        latency_ratio(fp32, optimized, {name: array[:1] for name, array in test.inputs.items()}),
    )


def first_output(model: bytes, samples: Samples) -> np.ndarray:
    return next(iter(Network(model).run(samples.inputs).values()))


def measured(
    metric: str, scores: np.ndarray, targets: np.ndarray, cosines: np.ndarray
) -> tuple[float, float, float]:
    """Return a metric and the bounds of its 95 % interval."""
    count = len(targets)
    if metric == "accuracy":
        return wilson(int((scores.reshape(count, -1).argmax(1) == targets).sum()), count)
    if metric == "auc":
        return ranked(scores.reshape(count), targets)
    mean, error = float(cosines.mean()), float(cosines.std(ddof=1)) / math.sqrt(count)
    return mean, mean - Z * error, min(1.0, mean + Z * error)


def wilson(right: int, count: int) -> tuple[float, float, float]:
    """Return a share and its Wilson score interval (Wilson, 1927).

    >>> [round(value, 3) for value in wilson(95, 100)]
    [0.95, 0.888, 0.978]
    """
    share = right / count
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return share, middle - half, middle + half


def ranked(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float, float]:
    """Return the area under the ROC curve and its interval (Hanley and McNeil, 1982)."""
    area = float(roc_auc_score(targets, scores))
    ones, zeros = int((targets == 1).sum()), int((targets == 0).sum())
    both_ones, both_zeros = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (ones - 1) * (both_ones - area**2) + (zeros - 1) * (both_zeros - area**2)
    half = Z * math.sqrt(variance / (ones * zeros))
    return area, area - half, min(1.0, area + half)


def cosine_similarities(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    a, b = (side.reshape(len(side), -1).astype(np.float64) for side in (found, wanted))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    result: np.ndarray = (a * b).sum(1) / np.maximum(lengths, 1e-30)
    return result


def latency_ratio(first: bytes, second: bytes, sample: Mapping[str, np.ndarray]) -> float:
    """Return CPU seconds of one inference of `second` over those of `first`.

    Both models are open in this process, and every round times A B B A, so that a change of clock or of what else the
    machine does meets both. The median of the rounds is taken.
    """
    sessions = [session(model) for model in (first, second)]
    per_block = []
    for opened in sessions:
        for _ in range(5):
            opened.run(None, dict(sample))
        per_block.append(max(1, math.ceil(BLOCK_S / timed(opened, sample, 3))))
    ratios = []
    for _ in range(ROUNDS):
        a, b, b_again, a_again = (timed(sessions[i], sample, per_block[i]) for i in (0, 1, 1, 0))
        ratios.append((b + b_again) / (a + a_again))
    return float(np.median(ratios))


def session(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def timed(opened: Any, sample: Mapping[str, np.ndarray], times: int) -> float:
    """Return CPU seconds per inference."""
    feed = dict(sample)
    started = time.process_time_ns()
    for _ in range(times):
        opened.run(None, feed)
    return (time.process_time_ns() - started) / 1e9 / times


def own_environment() -> dict[str, str]:
    """Return the environment variables for a process of this repository that uses one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}
