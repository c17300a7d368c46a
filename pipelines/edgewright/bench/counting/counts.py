"""How many instructions a model costs: to load, and per inference.

>>> counts = count(target, model, runtime, golden, plugin=build(cache))        # doctest: +SKIP
>>> counts.per_inference.instructions, counts.per_inference.kinds["simdInt"]   # doctest: +SKIP
(345108, 93214)

A count depends on the emulated processor, the runtime and the model, not on this machine or what else it does: on one
thread, with the sources of chance taken away, it repeats to the last instruction.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.bench.target.emulator import Target, ask
from edgewright.bench.target.probe import MARK_IMPORTED, MARK_INFERENCE, MARK_INFERRED, MARK_LOADED
from edgewright.errors import BuildError

# Model size (bytes) → inferences before counting, inferences counted. The first inference also allocates and packs, and
# on a busy machine ONNX Runtime notices that time passes, which shifts the next few by some hundred instructions; from
# the sixth on they repeat exactly. In a large model a hundred instructions are nothing, and an inference takes seconds.
ROUNDS_BY_SIZE = ((1_000_000, 6, 6), (16_000_000, 3, 3), (None, 1, 2))
TIMEOUT_S = 900.0
_EXIT = "exit"


@dataclass(frozen=True)
class ClassCounts:
    """Instructions of one span.

    Attributes:
        instructions: All of them.
        kinds: Kind → how many, adding up to `instructions`; known for arm64 and amd64, empty for armv7 and riscv64,
            whose instructions the plugin cannot tell apart. What a kind is, kinds.h, aarch64.h and x86.h say.
        load_bytes: Read from memory, by whatever kind; 0 where kinds are empty.
        store_bytes: Written to memory; 0 where kinds are empty.
    """

    instructions: int
    kinds: Mapping[str, int]
    load_bytes: int = 0
    store_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        known = {"loadBytes": self.load_bytes, "storeBytes": self.store_bytes} if self.kinds else {}
        return {"instructions": self.instructions, **self.kinds, **known}


@dataclass(frozen=True)
class Counts:
    """What one model costs on one emulated processor.

    Attributes:
        load: From the imported engine to a session that can run.
        per_inference: The cheapest of the inferences that were counted.
        inferences: Instructions of each inference, those before counting included.
        target: Where they were counted, as the target calls itself.
    """

    load: ClassCounts
    per_inference: ClassCounts
    inferences: tuple[int, ...]
    target: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "target": self.target,
            "load": self.load.to_json(),
            "perInference": self.per_inference.to_json(),
            "inferences": list(self.inferences),
        }


@dataclass(frozen=True)
class Span:
    """One line of the plugin: what ran before a mark and after the mark before.

    Attributes:
        mark: Number of the mark that ended it; None for the end of the program.
        threads: How many threads the guest had had.
    """

    mark: int | None
    threads: int
    counts: ClassCounts


def count(
    target: Target,
    model: Path,
    runtime: Mapping[str, Any],
    golden: Mapping[str, Any],
    *,
    plugin: Path,
    inferences: int | None = None,
    timeout_s: float = TIMEOUT_S,
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

    Raises:
        BuildError: the model fails there (says how), or the guest had more than one thread.
    """
    warm_up, counted = rounds(model.stat().st_size) if inferences is None else (1, inferences)
    request = {
        "model": str(model.absolute()),
        "providers": ["CPUExecutionProvider"],
        "arena": runtime["arena"],
        "graphOptimization": runtime["graphOptimization"],
        "inputs": golden["inputs"],
        "inferences": warm_up + counted,
    }
    with tempfile.TemporaryDirectory(prefix="edgewright-counts-") as scratch:
        spans = Path(scratch, "spans.jsonl")
        answer = ask(
            target, request, timeout_s=timeout_s, plugin=plugin, plugin_options=f"out={_option(spans)}"
        )
        if "failure" in answer:
            raise BuildError(f"counting on {target.label}: {answer['failure']}: {answer.get('message', '')}")
        try:
            lines = spans.read_text().splitlines()
        except OSError as error:
            raise BuildError(f"counting on {target.label}: the plugin wrote nothing") from error
    return from_spans([read_span(line) for line in lines], target=target.label, warm_up=warm_up)


def rounds(size_bytes: int) -> tuple[int, int]:
    """Return how many inferences come before counting and how many are counted, for a model of this size."""
    return next(
        (warm_up, counted)
        for limit, warm_up, counted in ROUNDS_BY_SIZE
        if limit is None or size_bytes <= limit
    )


def read_span(line: str) -> Span:
    """Return one line of the plugin's.

    >>> read_span('{"mark":4,"threads":1,"instructions":12}').counts.instructions
    12
    """
    entry: dict[str, Any] = json.loads(line)
    mark, threads, total = entry.pop("mark"), int(entry.pop("threads")), int(entry.pop("instructions"))
    load_bytes, store_bytes = int(entry.pop("loadBytes", 0)), int(entry.pop("storeBytes", 0))
    return Span(
        None if mark == _EXIT else int(mark), threads, ClassCounts(total, entry, load_bytes, store_bytes)
    )


def from_spans(spans: Sequence[Span], *, target: str, warm_up: int = 1) -> Counts:
    """Return the counts of one process.

    Args:
        spans: In the order they were written.
        target: Label.
        warm_up: Inferences that are told but not counted.

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
    return Counts(
        load=loaded,
        per_inference=cheapest(inferred[warm_up:] or inferred),
        inferences=tuple(span.instructions for span in inferred),
        target=target,
    )


def cheapest(counts: Iterable[ClassCounts]) -> ClassCounts:
    """Return the one with the fewest instructions: whatever else the guest does only adds."""
    return min(counts, key=lambda found: found.instructions)


def _option(path: Path) -> str:
    """Return a path as a plugin option: QEMU takes a comma for the next option unless it is doubled."""
    return str(path).replace(",", ",,")
