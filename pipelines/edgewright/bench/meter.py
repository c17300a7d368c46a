"""A meter for candidates: what a model costs on a class, from one emulated process and three native ones.

The same harness and the same prediction as the stage `benchmarked`, without load, heat and field conditions; and the
target's answers to a few samples are compared with this machine's, so that a candidate whose kernels saturate there is
seen before it is chosen.

>>> meter = TargetMeter.open(sheet, targets_cache(), inputs)                       # doctest: +SKIP
>>> meter.measure(model_bytes, "int8").latency_ms                                # doctest: +SKIP
{'value': 0.41, 'low': 0.31, 'high': 0.52}
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.bench.assessment import arithmetic, countable
from edgewright.bench.counting.build import build
from edgewright.bench.counting.counts import counts_of, rounds
from edgewright.bench.functional import CPU
from edgewright.bench.memory import peak_memory
from edgewright.bench.target.emulator import Target, open_target
from edgewright.bench.target.observe import Memo, Observation, observe
from edgewright.bench.target.provider import provider_target
from edgewright.bench.target.scratch import scratch
from edgewright.bench.target.session import files_of, session_of
from edgewright.bench.timing import predict
from edgewright.build.golden import decoded, encoded
from edgewright.build.layout import Layout, apply, choose_layout
from edgewright.build.manifest import runtime_manifest
from edgewright.build.memory_estimate import estimate
from edgewright.build.samples import Arrays, Network
from edgewright.build.search.candidate import Cost
from edgewright.errors import BuildError, EnvironmentFault
from edgewright.spec.hardware import Sheet
from edgewright_agent.contract import FILE_DATA, FILE_MODEL

ROWS = 8
TIMEOUT_S = 900.0
SETTINGS_BYTES = 1024  # of runtime.json, which is read beside the model
AGREE_DB = 20.0
"""Below this the target's answers are another model's: rounding of int8 kernels leaves 40 dB and more, AVX2's
saturation 14 dB."""
_MACHINE = ("timed-out",)
_BROKEN = ("engine-missing", "provider-missing")


@dataclass(frozen=True)
class TargetMeter:
    """Measures on the processor in which a class's instructions are counted.

    Attributes:
        inputs: A few samples by input name.
        provider: What runs the class's execution provider for real, where this machine can; compared as well.
        faithful: Whether it is the class's own processor, whose answers are the class's; a stand-in's are not.
        workers: How many processes at a time: counts do not depend on what else a machine does.
    """

    sheet: Sheet
    target: Target
    plugin: Path
    inputs: Arrays
    memo: Memo | None
    provider: Target | None = None
    faithful: bool = True
    workers: int = 1

    @classmethod
    def open(cls, sheet: Sheet, cache: Path, inputs: Arrays, *, remember: bool = True) -> TargetMeter:
        """Return the meter of a class.

        Args:
            sheet: The class.
            cache: The targets cache.
            inputs: Samples by input name; the first `ROWS` are used.
            remember: Whether what was measured before is looked up.

        Raises:
            EnvironmentFault: userland, emulator or compiler are missing; names the command that mends it.
            SpecError: the emulator knows no such processor.
        """
        own = open_target(sheet, cache)
        counted = countable(own, sheet, cache)
        return cls(
            sheet,
            counted,
            build(cache),
            {name: array[:ROWS] for name, array in inputs.items()},
            Memo(cache) if remember else None,
            provider=provider_target(sheet, cache),
            faithful=counted is own and not own.core.stands_in,
            workers=len(os.sched_getaffinity(0)),
        )

    def measure(self, model: bytes, precision: str) -> Cost:
        """Return the cost of a model.

        Args:
            model: Serialized.
            precision: Decides which of a class's coefficients prices it.

        Raises:
            BuildError: it does not run on the target; says how.
            EnvironmentFault: the target itself is broken, or this machine was too busy.
        """
        warm_up, counted = rounds(len(model))
        inputs = {name: encoded(array) for name, array in self.inputs.items()}
        files = apply(
            self.layout(model), model
        )  # as it would ship: weights that are mapped are not held twice
        with scratch("trial") as folder:
            for name, content in files.items():
                (folder / name).write_bytes(content)
            path, data = folder / FILE_MODEL, folder / FILE_DATA if FILE_DATA in files else None
            settings = self.settings(precision)
            request = {
                **files_of(path, data),
                **session_of(settings, [CPU]),
                "inputs": inputs,
                "inferences": warm_up + counted,
            }
            seen = self._twice(self.target, request, self.plugin)
            answer = checked(self.target, seen)
            provided = self._provider_answers(
                {**files_of(path, data), **session_of(settings), "inputs": inputs}
            )
            memory_bytes = peak_memory(path, settings, {"inputs": inputs}, self.memo, data=data)
        if memory_bytes is None:
            raise BuildError("it does not run on this machine's own processor")
        counts = counts_of(seen, self.target, self.plugin, warm_up=warm_up)
        disagreement = ""
        if self.faithful:
            disagreement = self._disagreement(model, self.target, answer.get("outputs", {}))
        if self.provider and not disagreement:
            disagreement = self._disagreement(model, self.provider, provided)
        size_bytes = sum(map(len, files.values())) + SETTINGS_BYTES
        timing = predict(counts, self.sheet, size_bytes, precision=arithmetic(precision))
        return Cost(
            latency_ms=timing.latency_ms.to_json(),
            load_ms=timing.startup_ms.to_json()["high"],
            power_cycle_ms=timing.power_cycle_ms.to_json()["high"],
            memory_bytes=memory_bytes,
            estimate_bytes=estimate(
                model, external=FILE_DATA in files, arena=self.sheet.runtime.arena
            ).total_bytes,
            instructions=counts.per_inference.instructions,
            load_instructions=counts.load.instructions,
            disagrees=disagreement,
        )

    def settings(self, precision: str) -> dict[str, Any]:
        """Return the part of the runtime manifest that decides how a session is opened."""
        runtime = self.sheet.runtime.model_dump(mode="json", by_alias=True, exclude_none=True)
        return runtime_manifest(runtime, {"inputs": [], "outputs": []}, precision)

    def layout(self, model: bytes) -> Layout:
        """Return how a model is laid out on the class, as the stage `optimized` does it."""
        return choose_layout(self.sheet.model_dump(mode="json", by_alias=True, exclude_none=True), model)

    def _provider_answers(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the class's execution provider's outputs; nothing where none runs here.

        Raises:
            BuildError: it does not run the model; says how.
            EnvironmentFault: the environment is broken, or this machine was too busy.
        """
        if self.provider is None:
            return {}
        outputs: Mapping[str, Any] = checked(self.provider, self._twice(self.provider, request)).get(
            "outputs", {}
        )
        return outputs

    def _twice(self, target: Target, request: Mapping[str, Any], plugin: Path | None = None) -> Observation:
        """Run the probe; a crash may be this machine's doing once, a second one is the model's."""
        seen = observe(target, request, timeout_s=TIMEOUT_S, plugin=plugin, memo=self.memo)
        if seen.answer.get("failure") == "crashed":
            seen = observe(target, request, timeout_s=TIMEOUT_S, plugin=plugin, memo=self.memo)
        return seen

    def _disagreement(self, model: bytes, target: Target, there: Mapping[str, Any]) -> str:
        network = Network(model)
        name = network.outputs[0]
        if name not in there:
            return f"gives no output {name!r} on {target.label}"
        found = decoded(there[name])
        here = network.run({key: array[: len(found)] for key, array in self.inputs.items()}, batch=1)[name]
        decibels = agreement_db(here, found)
        if decibels >= AGREE_DB:
            return ""
        return f"answers otherwise on {target.label}: {decibels:.0f} dB from this machine's answers"


def checked(target: Target, seen: Observation) -> Mapping[str, Any]:
    """Return the answer of a process that did its work.

    Raises:
        BuildError: the model failed there; says how.
        EnvironmentFault: the target itself is broken, or this machine was too busy.
    """
    if failure := seen.answer.get("failure"):
        said = f"{target.label}: {failure}: {seen.answer.get('message', '')}"
        if failure in _BROKEN:
            raise EnvironmentFault(
                said, hint="edgewright targets provision checks every file and fetches again what is damaged"
            )
        if failure in _MACHINE:
            raise EnvironmentFault(said, hint="run it again when this machine is idle")
        raise BuildError(said)
    return seen.answer


def agreement_db(here: np.ndarray, there: np.ndarray) -> float:
    """Return the power of `here` over that of the difference, in dB; infinite when they are equal, -inf for NaN."""
    if here.shape != there.shape or not np.isfinite(there).all():
        return -math.inf
    noise = float(np.square(here.astype(np.float64) - there).sum())
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(max(float(np.square(here.astype(np.float64)).sum()), 1e-300) / noise)
