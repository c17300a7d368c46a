"""How many instructions a model costs: to load, and per inference.

>>> counts = count(target, model, runtime, golden, plugin=build(cache))        # doctest: +SKIP
>>> counts.per_inference.instructions, counts.per_inference.kinds["simdInt"]   # doctest: +SKIP
(345108, 93214)

A count depends on the emulated processor, the runtime and the model, not on this machine or what else it does: on one
thread, with the sources of chance taken away, it repeats to the last instruction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgewright.bench.counting.spans import ClassCounts, Span
from edgewright.bench.target.emulator import Target
from edgewright.bench.target.observe import Memo, Observation, harness, observe
from edgewright.bench.target.probe import (
    MARK_ENGINE,
    MARK_IMPORTED,
    MARK_INFERENCE,
    MARK_INFERRED,
    MARK_LOADED,
)
from edgewright.bench.target.session import files_of, session_of, size_of
from edgewright.errors import BuildError

# Model size (bytes) → inferences before counting, inferences counted. The first inference also allocates and packs, and
# on a busy machine ONNX Runtime notices that time passes, which shifts the next few by some hundred instructions; from
# the sixth on they repeat exactly. In a large model a hundred instructions are nothing, and an inference takes seconds.
ROUNDS_BY_SIZE = ((1_000_000, 6, 6), (16_000_000, 6, 3), (None, 2, 2))
TIMEOUT_S = 900.0
# What starting the engine costs differs by some hundred of its 300 million instructions from process to process.
ENGINE_STEP = 1_000_000
# A busy machine adds some hundred instructions to an inference here and there, and with them a handful of branches.
MISSES_DIGITS = 3


@dataclass(frozen=True)
class Counts:
    """What one model costs on one emulated processor.

    Attributes:
        load: From the imported engine to a session that can run.
        per_inference: The cheapest of the inferences that were counted.
        inferences: Instructions of each inference that was counted.
        target: Where they were counted, as the target calls itself.
        awakening: Instructions to import the engine and for the first inference, which also allocates, rounded up
            to whole millions.
        engine_bytes: What importing the engine reads from storage.
        engine: Which engine it was; empty when nobody asked.
        harness: What else the counts depend on, as eight hex digits.
    """

    load: ClassCounts
    per_inference: ClassCounts
    inferences: tuple[int, ...]
    target: str
    awakening: int = 0
    engine_bytes: int = 0
    engine: str = ""
    harness: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "target": f"{self.target}, harness {self.harness}" if self.harness else self.target,
            "engine": self.engine,
            "load": self.load.to_json(),
            "perInference": self.per_inference.to_json(),
            # Their number only: single ones may differ by some instructions on a busy machine, the cheapest does not.
            "inferences": len(self.inferences),
            "awakening": {"instructions": self.awakening, "engineBytes": self.engine_bytes},
        }


def count(
    target: Target,
    model: Path,
    runtime: Mapping[str, Any],
    golden: Mapping[str, Any],
    *,
    plugin: Path,
    inferences: int | None = None,
    timeout_s: float = TIMEOUT_S,
    memo: Memo | None = None,
    data: Path | None = None,
) -> Counts:
    """Load a model on an emulated processor, infer, and count.

    Args:
        target: The emulated processor.
        model: The model's file.
        runtime: `runtime.json`.
        golden: `golden.json`; its inputs are fed one at a time.
        plugin: From `build`.
        inferences: How many are counted, after one that is not; by the size of the model when None.
        timeout_s: For the whole process.
        memo: Where what was seen before is found.
        data: The model's `model.onnx.data`, where it has one.

    Raises:
        BuildError: the model fails there (says how), or the guest had more than one thread.
    """
    warm_up, counted = rounds(size_of(model, data)) if inferences is None else (1, inferences)
    request = {
        **files_of(model, data),
        **session_of(runtime, ["CPUExecutionProvider"]),
        "inputs": golden["inputs"],
        "inferences": warm_up + counted,
    }
    seen = observe(target, request, timeout_s=timeout_s, plugin=plugin, memo=memo)
    if "failure" in seen.answer:
        raise BuildError(
            f"counting on {target.label}: {seen.answer['failure']}: {seen.answer.get('message', '')}"
        )
    return counts_of(seen, target, plugin, warm_up=warm_up)


def counts_of(seen: Observation, target: Target, plugin: Path, *, warm_up: int) -> Counts:
    """Return the counts of one observed process.

    Args:
        seen: With the plugin loaded.
        target: Where.
        plugin: Which.
        warm_up: Inferences that come before those that are counted.

    Raises:
        BuildError: a mark is missing, or more than one thread ran, whose counts mean nothing.
    """
    return replace(
        from_spans(seen.spans, target=target.label, warm_up=warm_up),
        engine=seen.answer.get("engine", ""),
        engine_bytes=int(seen.answer.get("engineBytes", 0)),
        harness=harness(target, plugin),
    )


def rounds(size_bytes: int) -> tuple[int, int]:
    """Return how many inferences come before counting and how many are counted, for a model of this size."""
    return next(
        (warm_up, counted)
        for limit, warm_up, counted in ROUNDS_BY_SIZE
        if limit is None or size_bytes <= limit
    )


def from_spans(spans: Sequence[Span], *, target: str, warm_up: int = 1) -> Counts:
    """Return the counts of one process.

    Args:
        spans: In the order they were written.
        target: Label.
        warm_up: Inferences that are not counted.

    Raises:
        BuildError: a mark is missing, or more than one thread ran, whose counts mean nothing.
    """
    marks = {span.mark for span in spans}
    if missing := {MARK_IMPORTED, MARK_LOADED, MARK_INFERENCE, MARK_INFERRED} - marks:
        raise BuildError(f"counting on {target}: the probe never set mark {min(missing)}")
    counted = [span for span in spans if span.mark in (MARK_LOADED, MARK_INFERRED)]
    threads = max(span.threads for span in counted)
    if threads > 1:
        raise BuildError(
            f"counting on {target}: {threads} threads ran; instructions can only be counted on one"
        )
    loaded = next(span.counts for span in spans if span.mark == MARK_LOADED)
    inferred = [span.counts for span in spans if span.mark == MARK_INFERRED]
    engine = sum(span.counts.instructions for span in spans if span.mark == MARK_ENGINE)
    considered = inferred[warm_up:] or inferred
    return Counts(
        load=loaded,
        per_inference=cheapest(considered),
        inferences=tuple(found.instructions for found in considered),
        target=target,
        awakening=-(-(engine + inferred[0].instructions) // ENGINE_STEP) * ENGINE_STEP,
    )


def cheapest(counts: Sequence[ClassCounts]) -> ClassCounts:
    """Return the one with the fewest instructions: whatever else the guest does only adds.

    Mispredicted branches differ from input to input by more than what that may be, so they are those of all inputs:
    their mean, to `MISSES_DIGITS` digits.

    >>> cheapest([ClassCounts(105, {}, branch_misses=1004), ClassCounts(100, {}, branch_misses=1010)]).branch_misses
    1010
    """
    mean = sum(found.branch_misses for found in counts) / len(counts)
    least = min(counts, key=lambda found: found.instructions)
    return replace(least, branch_misses=int(float(f"{mean:.{MISSES_DIGITS}g}")))
