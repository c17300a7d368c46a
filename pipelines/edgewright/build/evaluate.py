"""Evaluated: what the optimized model is worth on data it has never met, and how a device can tell.

Inputs: `exported/model.onnx` (fp32), `optimized/model.onnx`, `optimized/runtime.json`. Outputs:
`evaluation.json` (accuracy of both, drop, per label), `golden.json`, `drift.json`, and `labels.json` when the
model names its labels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.build.drift import drift_reference
from edgewright.build.entry import ModelCode
from edgewright.build.golden import golden_document
from edgewright.build.layout import whole
from edgewright.build.samples import Network, Samples, check_array, load
from edgewright.errors import BuildError
from edgewright.plan.job import Job, Result
from edgewright_agent.contract import (
    FILE_DATA,
    FILE_DRIFT,
    FILE_GOLDEN,
    FILE_LABELS,
    FILE_MODEL,
    canonical_json,
    digest_of,
)


def run(job: Job) -> Result:
    """Write `evaluation.json`, `golden.json`, `drift.json` and, with labels, `labels.json`.

    Raises:
        BuildError: test data contradict the signature or share samples with the calibration data;
            labels do not fit the output; an output is not finite or contradicts the signature.
    """
    spec = job.spec
    signature = spec["signature"]
    code = ModelCode(job.root / "models" / job.model)
    held_out = load(code, spec["data"]["test"], signature)
    if spec["data"].get("calibration"):
        check_disjoint(load(code, spec["data"]["calibration"], signature), held_out)
    model = whole(job.inputs)
    precision = json.loads(job.inputs["optimized/runtime.json"].read_bytes())["precision"]
    job.progress(f"evaluating {job.model} ({precision}) on {len(held_out)} samples")

    network = Network(model)
    outputs = checked_outputs(network, held_out, signature)
    reference = checked_outputs(Network(job.inputs["exported/model.onnx"].read_bytes()), held_out, signature)
    scored = signature["outputs"][0]["name"]
    labels = check_labels(list(spec.get("labels", ())), outputs[scored], held_out)
    report = accuracy_report(outputs[scored], reference[scored], held_out.targets, labels)
    golden = golden_document(network, model, held_out, outputs, spec["golden"])
    documents = {
        "evaluation.json": {
            "version": 1,
            **optimized_digests(job.inputs),
            "metric": spec["metric"]["name"],
            **report,
        },
        FILE_GOLDEN: golden,
        FILE_DRIFT: drift_reference(held_out.inputs, outputs[scored], scored),
        **({FILE_LABELS: {"version": 1, "output": scored, "labels": labels}} if labels else {}),
    }
    for name, document in documents.items():
        (job.out / name).write_bytes(canonical_json(document))
    return Result(
        {
            "accuracy": report["value"],
            "accuracy_fp32": report["fp32"],
            "accuracy_drop": report["drop"],
            "test_samples": report["samples"],
            "recall_per_label": {name: entry["recall"] for name, entry in report["perLabel"].items()},
            "golden_samples": spec["golden"]["samples"],
            "golden_tolerance": golden["atol"],
        }
    )


def optimized_digests(inputs: Mapping[str, Path]) -> dict[str, str]:
    """Return what figures are about: `model`, and `data` where the model's weights lie in a file of their own."""
    files = (("model", FILE_MODEL), ("data", FILE_DATA))
    return {
        what: digest_of(inputs[f"optimized/{name}"].read_bytes())
        for what, name in files
        if f"optimized/{name}" in inputs
    }


def check_disjoint(calibration: Samples, held_out: Samples) -> None:
    """Check that no test sample was used for calibration, byte for byte.

    Raises:
        BuildError: says how many samples are in both, and which.
    """
    seen = set(calibration.digests())
    shared = [index for index, digest in enumerate(held_out.digests()) if digest in seen]
    if shared:
        which = ", ".join(map(str, shared[:5])) + (", …" if len(shared) > 5 else "")
        raise BuildError(
            f"{len(shared)} of {len(held_out)} samples of {held_out.entry} are also in"
            f" {calibration.entry} (test rows {which}), so the accuracy would not be held out",
            hint="split the data so that calibration and held_out share no sample",
        )


def checked_outputs(
    network: Network, samples: Samples, signature: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return all outputs for all samples.

    Raises:
        BuildError: names, types or shapes contradict the signature, or a value is NaN or infinite.
    """
    outputs = network.run(samples.inputs)
    wanted = [tensor["name"] for tensor in signature["outputs"]]
    if sorted(outputs) != sorted(wanted):
        raise BuildError(f"the model gives outputs {sorted(outputs)}; the signature names {sorted(wanted)}")
    for tensor in signature["outputs"]:
        check_array(outputs[tensor["name"]], tensor, f"output {tensor['name']!r}", len(samples))
    return outputs


def check_labels(labels: list[str], scores: np.ndarray, samples: Samples) -> list[str]:
    """Return `labels` after checking that scores, labels and targets speak of the same classes.

    Raises:
        BuildError: the output has another number of classes, or a target lies outside.
    """
    if scores.ndim != 2:
        raise BuildError(
            f"accuracy needs one score per class; the first output is {list(scores.shape[1:])} per sample"
        )
    classes = scores.shape[1]
    if labels and len(labels) != classes:
        raise BuildError(f"the model has {classes} classes; model.yaml names {len(labels)} labels")
    low, high = int(samples.targets.min()), int(samples.targets.max())
    if low < 0 or high >= classes:
        raise BuildError(
            f"{samples.entry} has targets {low} to {high}; the model's classes are 0 to {classes - 1}"
        )
    return labels


def accuracy_report(
    scores: np.ndarray, reference: np.ndarray, targets: np.ndarray, labels: list[str]
) -> dict[str, Any]:
    """Return accuracy of both models, the drop between them, and recall per label.

    Args:
        scores: Scores of the optimized model, [samples, classes].
        reference: Scores of the fp32 model on the same samples.
        targets: True classes.
        labels: Names of the classes; their numbers where there are none.

    Returns:
        `value`, `fp32`, `drop` (shares; the drop is negative when the optimized model is better), `samples`,
        `perLabel` {name: {samples, recall}}.
    """
    right, right_fp32 = scores.argmax(axis=1) == targets, reference.argmax(axis=1) == targets
    count = len(targets)
    per_label = {}
    for index in range(scores.shape[1]):
        chosen = targets == index
        name = labels[index] if labels else str(index)
        # None: no sample of this label, so nothing can be said about it.
        recall = round(float(right[chosen].mean()), 6) if chosen.any() else None
        per_label[name] = {"samples": int(chosen.sum()), "recall": recall}
    return {
        "value": int(right.sum()) / count,
        "fp32": int(right_fp32.sum()) / count,
        # One division of whole numbers: a drop of exactly the limit must not fail by a rounding error.
        "drop": (int(right_fp32.sum()) - int(right.sum())) / count,
        "samples": count,
        "perLabel": per_label,
    }
