"""Does the artifact work on the class's processor: does it load, answer as it should, and where do its operators run.

Real ONNX Runtime runs the artifact in the class's target. What goes wrong is a named failure with advice, never a
traceback; and where an int8 model answers differently, the same model is tried again with kernels that cannot
saturate, so that the advice is a finding and not a guess.

>>> sample = sample_of(validation, model_bytes)                              # doctest: +SKIP
>>> found = check(target, model, runtime, golden, sample)                    # doctest: +SKIP
>>> found.verdict, found.accuracy                                            # doctest: +SKIP
('pass', 0.984375)
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from packaging.specifiers import SpecifierSet

from edgewright.bench.target.emulator import Target, ask
from edgewright.build.golden import encoded
from edgewright.build.samples import Arrays, Network, Samples

TIMEOUT_S = 600.0
CPU = "CPUExecutionProvider"

# An emulated inference takes 100 to 1,000 times its own time, so a large model gets fewer samples: most models of
# that size then stay under a minute. By the size of the file, so that the choice is the same everywhere.
SAMPLES_BY_SIZE = ((1_000_000, 128), (16_000_000, 32), (None, 8))

ADVICE = {
    "engine-missing": "the userland is incomplete: edgewright targets provision",
    "model-corrupt": "the file is not a whole ONNX model: edgewright run builds it anew",
    "model-invalid": "the graph contradicts itself: check it with `python -m onnx.checker`, then export it anew",
    "operator-missing": "the class's ONNX Runtime lacks an operator: replace it in the network, or raise"
    " runtime.versions to a version that has it",
    "opset-too-new": "export for an opset this ONNX Runtime knows, or raise the class's runtime.versions",
    "inputs-refused": "the model does not take what its signature says: export it anew",
    "out-of-memory": "the model needs more than the class has: quantize or prune it, or set runtime.arena: false",
    "timed-out": "too slow to be emulated in that time: check fewer samples, or measure on the device",
    "provider-missing": "the environment is incomplete, or this machine too old: edgewright targets provision",
    "crashed": "ONNX Runtime itself ended: try graphOptimization: basic, or another of runtime.versions",
}
SATURATES = (
    "int8 products saturate: without VNNI this processor adds two of them in 16 bit. Quantize weights to 7 bit"
    " (reduce_range: leave `vnni` out of the class's cpu.isa and it is done) or weights to unsigned (U8U8)"
)
INTEGER_KERNELS = (
    "this processor's integer kernels round differently: without them the model agrees. Keep the operators near the"
    " output in fp32, or widen golden.atol if the accuracy is as it should be"
)

Verdict = Literal["pass", "fail"]


@dataclass(frozen=True)
class Sample:
    """Validation samples to be tried in a target.

    Attributes:
        inputs: By name, first dimension = samples.
        targets: True classes.
        reference: Classes the evaluator's own run of the same artifact chose.
    """

    inputs: Arrays
    targets: np.ndarray
    reference: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Functional:
    """What one artifact did in one target.

    Attributes:
        target: Label of the target.
        engine: `onnxruntime 1.31.1`; None when it did not start.
        failure: Name of what went wrong; None when the artifact loaded, ran and agreed.
        message: What went wrong, for people.
        worst: Largest difference from the golden outputs; None when there was no answer.
        accuracy: Share of the sample that was right on this execution path.
        reference_accuracy: The same for the evaluator's own run of the artifact.
        agreement: Share of the sample where both chose the same class.
        samples: Size of the sample.
        providers: Execution providers the session used, in order.
        placement: Provider → operator → nodes; None where the runtime does not tell.
        peak_bytes: Largest resident memory after each stage, the emulator's own included.
        advice: What would fix it.
        notes: What stands between this and the device.
    """

    target: str
    engine: str | None = None
    failure: str | None = None
    message: str | None = None
    worst: float | None = None
    accuracy: float | None = None
    reference_accuracy: float | None = None
    agreement: float | None = None
    samples: int = 0
    providers: tuple[str, ...] = ()
    placement: Mapping[str, Mapping[str, int]] | None = None
    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """`pass` when nothing went wrong. Whether the accuracy suffices is for the gate to say."""
        return "fail" if self.failure else "pass"

    def to_json(self) -> dict[str, Any]:
        """Return it for a gate report: the same on every run and machine, so without memory and times."""
        document = {
            "target": self.target,
            "engine": self.engine,
            "verdict": self.verdict,
            "failure": self.failure,
            "message": self.message,
            "worst": _three_digits(self.worst),
            "accuracy": self.accuracy,
            "referenceAccuracy": self.reference_accuracy,
            "agreement": self.agreement,
            "samples": self.samples,
            "providers": list(self.providers),
            "placement": self.placement,
            "advice": list(self.advice),
            "notes": list(self.notes),
        }
        return {name: value for name, value in document.items() if value is not None}


def sample_of(validation: Samples, model: bytes, count: int | None = None) -> Sample:
    """Return samples spread evenly over the labels, and what this machine's own run of the artifact makes of them.

    Args:
        validation: All validation samples.
        model: The serialized artifact.
        count: How many; by the size of the model when None.

    Raises:
        BuildError: onnxruntime cannot load or run the model here.
    """
    if count is None:
        count = next(n for limit, n in SAMPLES_BY_SIZE if limit is None or len(model) <= limit)
    turn = np.zeros(len(validation), int)
    for label in np.unique(validation.targets):
        of_label = np.flatnonzero(validation.targets == label)
        turn[of_label] = np.arange(len(of_label))
    rows = np.sort(np.lexsort((np.arange(len(validation)), validation.targets, turn))[:count])
    inputs = {name: array[rows] for name, array in validation.inputs.items()}
    network = Network(model)
    scores = network.run(inputs, batch=1)[network.outputs[0]]
    return Sample(inputs, validation.targets[rows], scores.argmax(axis=1))


def check(
    target: Target,
    model: Path,
    runtime: Path,
    golden: Mapping[str, Any],
    sample: Sample | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    memory_limit_bytes: int | None = None,
) -> Functional:
    """Run the artifact in its class's target and judge what it did.

    Args:
        target: From `open_target`.
        model: The artifact's `model.onnx`.
        runtime: Its `runtime.json`.
        golden: Its `golden.json`: inputs, outputs, tolerance.
        sample: From `sample_of`.
        timeout_s: For each process.
        memory_limit_bytes: What the model may take over the bare engine.

    Raises:
        EnvironmentFault: the target cannot be started at all.
    """
    settings = json.loads(runtime.read_bytes())
    request = {
        "model": str(model.absolute()),
        "providers": settings["providers"],
        "arena": settings["arena"],
        "graphOptimization": settings["graphOptimization"],
        "placement": True,
        "inputs": joined(golden["inputs"], sample),
    }
    answer = ask(target, request, timeout_s=timeout_s, memory_limit_bytes=memory_limit_bytes)
    seen: dict[str, Any] = {
        "target": target.label,
        "engine": answer.get("engine"),
        "providers": tuple(answer.get("providers", ())),
        "placement": answer.get("placement"),
        "peak_bytes": {name: size for name, size in answer.get("peakBytes", {}).items() if size},
        "notes": tuple([*answer["notes"], *notes_on(settings, answer)]),
    }
    if failure := answer.get("failure"):
        named = (ADVICE[failure],) if failure in ADVICE else ()
        # A report is the same wherever the file lies.
        message = answer["message"].replace(request["model"], model.name)
        return Functional(**seen, failure=failure, message=message, advice=named)

    outputs = {name: decoded(value) for name, value in answer["outputs"].items()}
    rows = len(decoded(next(iter(golden["inputs"].values()))))
    seen["worst"], agrees = difference({name: array[:rows] for name, array in outputs.items()}, golden)
    if sample is not None:
        seen |= _scores(next(iter(outputs.values()))[rows:], sample)
    if not agrees:
        advice = diagnose(target, request, golden, settings["precision"], timeout_s)
        message = (
            f"outputs differ from the golden ones by up to {seen['worst']:.3g} (atol {golden['atol']:.3g})"
        )
        return Functional(**seen, failure="outputs-differ", message=message, advice=advice)
    return Functional(**seen)


def difference(outputs: Arrays, golden: Mapping[str, Any]) -> tuple[float, bool]:
    """Return the largest difference from the golden outputs, and whether all are within its tolerance."""
    worst, agrees = 0.0, True
    for name, value in golden["outputs"].items():
        wanted, got = decoded(value), outputs.get(name)
        if got is None or got.shape != wanted.shape:
            return float("inf"), False
        if wanted.size:
            apart = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
            worst = max(worst, float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max()))
        agrees &= bool(np.allclose(got, wanted, atol=golden["atol"], rtol=golden["rtol"]))
    return worst, agrees


def diagnose(
    target: Target, request: Mapping[str, Any], golden: Mapping[str, Any], precision: str, timeout_s: float
) -> tuple[str, ...]:
    """Find out why an int8 model answers differently: run it again with kernels that cannot saturate.

    `session.x64quantprecision` makes ONNX Runtime's x86 kernels without VNNI avoid 16-bit sums;
    `session.disable_quant_qdq` makes it compute in fp32 between quantization steps. Another provider's kernels heed
    neither; they are given VNNI where this machine has it.
    """
    if precision != "int8":
        return ("the model computes in fp32: look for an operator whose result depends on the processor",)
    trials = [(target, {"session.disable_quant_qdq": "1"}, INTEGER_KERNELS)]
    if target.core.userland.startswith("amd64"):
        trials.insert(0, (target, {"session.x64quantprecision": "1"}, SATURATES))
    if target.unbounded is not None:
        trials.insert(0, (target.unbounded, {}, SATURATES))
    for place, options, advice in trials:
        again = {**request, "inputs": golden["inputs"], "placement": False, "sessionConfig": options}
        answer = ask(place, again, timeout_s=timeout_s)
        if "failure" in answer:
            continue
        if difference({name: decoded(value) for name, value in answer["outputs"].items()}, golden)[1]:
            return (advice,)
    return ("not a matter of integer kernels: compare the fp32 model on this target, operator by operator",)


def notes_on(settings: Mapping[str, Any], answer: Mapping[str, Any]) -> list[str]:
    """Return, in sentences, where operators run otherwise than the class says, and on which other engine."""
    notes = []
    wanted, available = settings["providers"][0], answer.get("available")
    if available is not None and wanted not in available:
        notes.append(f"{wanted} is not in this target: its operators ran on {CPU}")
    elif placed := answer.get("placement"):
        strays = {
            operator: count
            for provider, operators in placed.items()
            if provider != wanted
            for operator, count in operators.items()
        }
        if strays:
            listed = ", ".join(f"{count} {operator}" for operator, count in sorted(strays.items()))
            notes.append(f"not on {wanted}: {listed}")
    if engine := answer.get("engine"):
        version = engine.split()[-1]
        if not SpecifierSet(settings["versions"]).contains(version):
            notes.append(f"tried with {engine}; the class runs {settings['versions']}")
    return notes


def joined(golden_inputs: Mapping[str, Any], sample: Sample | None) -> dict[str, Any]:
    """Return the golden inputs with the sample's behind them: one process answers for both."""
    if sample is None:
        return dict(golden_inputs)
    return {
        name: encoded(np.concatenate([decoded(value), sample.inputs[name]]))
        for name, value in golden_inputs.items()
    }


def decoded(value: Mapping[str, Any]) -> np.ndarray:
    """Return the array of a golden.json value."""
    flat = np.frombuffer(base64.b64decode(value["data"]), np.dtype(value["dtype"]).newbyteorder("<"))
    return flat.reshape(value["shape"]).astype(value["dtype"])


def _scores(scores: np.ndarray, sample: Sample) -> dict[str, Any]:
    chosen, count = scores.argmax(axis=1), len(sample)
    return {
        "accuracy": _share(chosen == sample.targets),
        "reference_accuracy": _share(sample.reference == sample.targets),
        "agreement": _share(chosen == sample.reference),
        "samples": count,
    }


def _share(right: np.ndarray | Sequence[bool]) -> float:
    return int(np.count_nonzero(right)) / len(right)


def _three_digits(value: float | None) -> float | None:
    """Round to what every run agrees on; JSON has no word for infinity."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.3g}")
