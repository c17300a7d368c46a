"""Does the artifact work on the class's processor: does it load, answer as it should, and where do its operators run.

Real ONNX Runtime runs the artifact in the class's target. What goes wrong is a named failure with advice, never a
traceback; and where an int8 model answers differently, the same model is tried again with kernels that cannot
saturate, so that the advice is a finding and not a guess.

>>> sample = sample_of(held_out, model_bytes, metric("accuracy"))          # doctest: +SKIP
>>> found = check(target, model, runtime, golden, sample)                    # doctest: +SKIP
>>> found.verdict, found.compared.value                                      # doctest: +SKIP
('pass', 0.984375)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from packaging.specifiers import SpecifierSet

from edgewright.bench.counting.counts import rounds
from edgewright.bench.sample import Comparison, Sample, joined
from edgewright.bench.target.emulator import Target
from edgewright.bench.target.observe import Memo, Observation, observe
from edgewright.bench.target.session import files_of, session_of, size_of
from edgewright.build.golden import decoded
from edgewright.build.samples import Arrays

TIMEOUT_S = 600.0
CPU = "CPUExecutionProvider"

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
class Functional:
    """What one artifact did in one target.

    Attributes:
        target: Label of the target.
        engine: `onnxruntime 1.31.1`; None when it did not start.
        failure: Name of what went wrong; None when the artifact loaded, ran and agreed.
        message: What went wrong, for people.
        worst: Largest difference from the golden outputs; None when there was no answer.
        tolerance_used: Largest share of its tolerance that a golden output uses; over 1 it is beyond.
        compared: What the sample is worth on this execution path beside this machine's; None when there was no answer.
        samples: Size of the sample.
        providers: Execution providers the session used, in order.
        placement: Provider → operator → nodes; None where the runtime does not tell.
        peak_bytes: Largest resident memory after each stage, the emulator's own included.
        advice: What would fix it.
        notes: What stands between this and the device.
        observation: The process all this was seen in, for whoever counts its instructions.
    """

    target: str
    engine: str | None = None
    failure: str | None = None
    message: str | None = None
    worst: float | None = None
    tolerance_used: float | None = None
    compared: Comparison | None = None
    samples: int = 0
    providers: tuple[str, ...] = ()
    placement: Mapping[str, Mapping[str, int]] | None = None
    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    observation: Observation = field(default=Observation({}), repr=False, compare=False)

    @property
    def verdict(self) -> Verdict:
        """`pass` when nothing went wrong. Whether the accuracy suffices is for the gate to say."""
        return "fail" if self.failure else "pass"

    def to_json(self) -> dict[str, Any]:
        """Return it for a gate report: the same on every run and machine, so without memory and times."""
        compared = self.compared
        document = {
            "target": self.target,
            "engine": self.engine,
            "verdict": self.verdict,
            "failure": self.failure,
            "message": self.message,
            "worst": _three_digits(self.worst),
            "toleranceUsed": _three_digits(self.tolerance_used),
            "metric": compared and compared.metric,
            "value": compared and compared.value,
            "reference": compared and compared.reference,
            "drop": compared and compared.drop,
            "resolution": compared and compared.resolution,
            "agreement": compared and compared.agreement,
            "samples": self.samples,
            "providers": list(self.providers),
            "placement": self.placement,
            "advice": list(self.advice),
            "notes": list(self.notes),
        }
        return {name: value for name, value in document.items() if value is not None}


def check(
    target: Target,
    model: Path,
    runtime: Path,
    golden: Mapping[str, Any],
    sample: Sample | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    memory_limit_bytes: int | None = None,
    plugin: Path | None = None,
    memo: Memo | None = None,
    data: Path | None = None,
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
        plugin: Counts the same process's instructions; golden inputs are then inferred some more times.
        memo: Where what was seen before is found.
        data: The artifact's `model.onnx.data`, where it has one.

    Raises:
        EnvironmentFault: the target cannot be started at all.
    """
    settings = json.loads(runtime.read_bytes())
    request: dict[str, Any] = {
        **files_of(model, data),
        **session_of(settings),
        "placement": True,
        "inputs": joined(golden["inputs"], sample),
    }
    if plugin is not None:
        request["inferences"] = warm_up_of(golden, sample) + rounds(size_of(model, data))[1]

    def observed() -> Observation:
        return observe(
            target,
            request,
            timeout_s=timeout_s,
            plugin=plugin,
            memory_limit_bytes=memory_limit_bytes,
            memo=memo,
        )

    seen_there = observed()
    if (
        seen_there.answer.get("failure") == "crashed"
    ):  # once may be this machine's doing, twice is the model's
        seen_there = observed()
    answer = seen_there.answer
    seen: dict[str, Any] = {
        "observation": seen_there,
        "target": target.label,
        "engine": answer.get("engine"),
        "providers": tuple(answer.get("providers", ())),
        "placement": answer.get("placement"),
        "peak_bytes": {name: size for name, size in answer.get("peakBytes", {}).items() if size},
        "notes": tuple([*answer["notes"], *notes_on(settings, answer)]),
    }
    if failure := answer.get("failure"):
        named = (ADVICE[failure],) if failure in ADVICE else ()
        return Functional(**seen, failure=failure, message=answer["message"], advice=named)

    outputs = {name: decoded(value) for name, value in answer["outputs"].items()}
    rows = rows_of(golden)
    seen["worst"], used = difference({name: array[:rows] for name, array in outputs.items()}, golden)
    seen["tolerance_used"] = used
    if sample is not None:
        seen["compared"] = sample.compared(next(iter(outputs.values()))[rows:])
        seen["samples"] = len(sample)
    if used > 1:
        advice = diagnose(target, request, golden, settings["precision"], timeout_s, memo)
        message = (
            f"outputs differ from the golden ones by up to {seen['worst']:.3g} (atol {golden['atol']:.3g})"
        )
        return Functional(**seen, failure="outputs-differ", message=message, advice=advice)
    return Functional(**seen)


def difference(outputs: Arrays, golden: Mapping[str, Any]) -> tuple[float, float]:
    """Return the largest difference from the golden outputs, and the largest share of its tolerance that one uses.

    The tolerance of a value is `atol` + `rtol` times its size, as in `numpy.allclose`; a share of 1 is just within it.
    """
    worst = used = 0.0
    for name, value in golden["outputs"].items():
        wanted, got = decoded(value).astype(np.float64), outputs.get(name)
        if got is None or got.shape != wanted.shape:
            return float("inf"), float("inf")
        if wanted.size:
            apart = np.nan_to_num(np.abs(got.astype(np.float64) - wanted), nan=np.inf, posinf=np.inf)
            allowed = golden["atol"] + golden["rtol"] * np.abs(wanted)
            shares = np.divide(apart, allowed, out=np.where(apart > 0, np.inf, 0.0), where=allowed > 0)
            worst, used = max(worst, float(apart.max())), max(used, float(shares.max()))
    return worst, used


def diagnose(
    target: Target,
    request: Mapping[str, Any],
    golden: Mapping[str, Any],
    precision: str,
    timeout_s: float,
    memo: Memo | None = None,
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
        again = {
            **request, "inputs": golden["inputs"], "inferences": rows_of(golden), "placement": False,
            "sessionConfig": {**request["sessionConfig"], **options},
        }  # fmt: skip
        answer = observe(place, again, timeout_s=timeout_s, memo=memo).answer
        if "failure" in answer:
            continue
        if difference({name: decoded(value) for name, value in answer["outputs"].items()}, golden)[1] <= 1:
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


def rows_of(golden: Mapping[str, Any]) -> int:
    """Return how many golden inputs there are."""
    return len(decoded(next(iter(golden["inputs"].values()))))


def warm_up_of(golden: Mapping[str, Any], sample: Sample | None) -> int:
    """Return how many inferences `check` makes before those whose instructions are counted."""
    return rows_of(golden) + (len(sample) if sample else 0)


def _three_digits(value: float | None) -> float | None:
    """Round to what every run agrees on; JSON has no word for infinity."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.3g}")
