"""Evaluated: what the optimized model is worth on data it has never met, and how a device can tell.

Inputs: `exported/model.onnx` (fp32), `optimized/model.onnx`, `optimized/runtime.json`, and where the class has one
`optimized/model.cpu.onnx`, which is held to the same figures and has golden outputs of its own. Outputs:
`evaluation.json` (the metric of both with its interval, the drop between them, per label), `golden.json`,
`drift.json`, and `labels.json` when the model names its labels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.build.drift import drift_reference
from edgewright.build.entry import ModelCode
from edgewright.build.golden import golden_answers, golden_document
from edgewright.build.layout import whole
from edgewright.build.leakage import check_separate, load_sets
from edgewright.build.metric import Metric, metric
from edgewright.build.samples import Network, Samples, check_array
from edgewright.errors import BuildError
from edgewright.plan.job import Job, Result
from edgewright_agent.contract import (
    FILE_CPU_MODEL,
    FILE_DATA,
    FILE_DRIFT,
    FILE_GOLDEN,
    FILE_LABELS,
    FILE_MODEL,
    canonical_json,
    digest_of,
)

VERSION = 2


def run(job: Job) -> Result:
    """Write `evaluation.json`, `golden.json`, `drift.json` and, with labels, `labels.json`.

    Raises:
        BuildError: data contradict the signature, or two sets share samples; outputs, targets and labels do not fit
            the metric; an output is not finite or contradicts the signature.
    """
    spec = job.spec
    signature, labels = spec["signature"], list(spec.get("labels", ()))
    measured = metric(spec["metric"]["name"])
    sets = load_sets(ModelCode(job.root / "models" / job.model), spec["data"], signature)
    separation = check_separate(sets, judged=measured.name != "cosine")
    held_out = sets["test"]
    model = whole(job.inputs)
    precision = json.loads(job.inputs["optimized/runtime.json"].read_bytes())["precision"]
    job.progress(f"evaluating {job.model} ({precision}) on {len(held_out)} samples")

    network = Network(model)
    outputs = checked_outputs(network, held_out, signature)
    reference = checked_outputs(Network(job.inputs["exported/model.onnx"].read_bytes()), held_out, signature)
    scored = signature["outputs"][0]["name"]
    report = {
        **evaluation(measured, outputs[scored], reference[scored], held_out, labels),
        "duplicates": dict(separation.duplicates),
        "notes": list(separation.notes),
    }
    beside = job.inputs.get(f"optimized/{FILE_CPU_MODEL}")
    fallback = beside.read_bytes() if beside else None
    winners = [scored] if measured.predictions(outputs[scored]) is not None else []
    golden = golden_document(network, model, held_out, outputs, spec["golden"], winners)
    if fallback is not None:
        on_cpu = Network(fallback)
        answers = checked_outputs(on_cpu, held_out, signature)
        found = evaluation(measured, answers[scored], reference[scored], held_out, labels)
        report["fallback"] = {"model": digest_of(fallback), **found}
        golden["fallback"] = golden_answers(on_cpu, fallback, golden, spec["golden"])
    documents = {
        "evaluation.json": {"version": VERSION, **optimized_digests(job.inputs), **report},
        FILE_GOLDEN: golden,
        FILE_DRIFT: drift_reference(held_out.inputs, outputs[scored], scored, measured.name),
        **({FILE_LABELS: {"version": 1, "output": scored, "labels": labels}} if labels else {}),
    }
    for name, document in documents.items():
        (job.out / name).write_bytes(canonical_json(document))
    return Result(
        {**facts(report), "golden_samples": spec["golden"]["samples"], "golden_tolerance": golden["atol"]}
    )


def optimized_digests(inputs: Mapping[str, Path]) -> dict[str, str]:
    """Return what figures are about: `model`, and `data` where the model's weights lie in a file of their own."""
    files = (("model", FILE_MODEL), ("data", FILE_DATA))
    return {
        what: digest_of(inputs[f"optimized/{name}"].read_bytes())
        for what, name in files
        if f"optimized/{name}" in inputs
    }


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


def evaluation(
    measured: Metric, outputs: np.ndarray, reference: np.ndarray, samples: Samples, labels: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of `evaluation.json`, as JSON values.

    Args:
        measured: The model's metric.
        outputs: First output of the optimized model.
        reference: That of the fp32 model on the same samples.
        samples: Those samples.
        labels: Names of the classes; their numbers where there are none.

    Returns:
        `metric`, `value`, `low`, `high` (the 95 % interval), `fp32` and `drop` (`value`, `low`, `high` each; a drop is
        negative where the optimized model is better), `samples`, `perLabel` {name: {samples, recall, fp32, drop}},
        and `worstLabel` {label, drop}: the first of those that lose most, None without labels.

    Raises:
        BuildError: outputs, targets and labels do not fit the metric.
    """
    measured.check(outputs, samples.targets, samples.entry, labels)
    measured.check(reference, samples.targets, samples.entry, labels)
    score = measured.score(outputs, samples.targets, reference)
    per_label = measured.per_label(outputs, reference, samples.targets, labels)
    losses = {name: entry.drop for name, entry in per_label.items() if entry.drop is not None}
    worst = max(losses, key=losses.__getitem__, default=None)
    return {
        "metric": measured.name,
        **score.document(),
        "fp32": measured.score(reference, samples.targets, reference).document(),
        "drop": measured.drop(outputs, reference, samples.targets).document(),
        "samples": score.samples,
        "perLabel": {name: entry.document() for name, entry in per_label.items()},
        "worstLabel": None if worst is None else {"label": worst, "drop": losses[worst]},
    }


def facts(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person sees of an evaluation."""
    worst = report["worstLabel"] or {}
    return {
        "metric": report["metric"],
        "value": report["value"],
        "low": report["low"],
        "high": report["high"],
        "fp32": report["fp32"]["value"],
        "drop": report["drop"]["value"],
        "drop_low": report["drop"]["low"],
        "drop_high": report["drop"]["high"],
        "test_samples": report["samples"],
        "worst_label": worst.get("label"),
        "worst_label_drop": worst.get("drop"),
        "per_label": [{"label": name, **entry} for name, entry in report["perLabel"].items()],
        "duplicates": report["duplicates"],
        "notes": report["notes"],
    }
