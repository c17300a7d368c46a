"""The CPU model beside: what a class with an accelerator runs when that does not start.

A session falls back through its providers, so the shipped model would run on the processor by itself. It was chosen for
the accelerator, though: in half precision, say, which a processor is slow at. Where a sheet says `runtime.cpuFallback`,
the candidate that is fastest on the processor beside the accelerator ships as well, from the same search, held to the
same accuracy (docs/adr/0016).

>>> fallback = choose_fallback(candidates, spec, winner)       # doctest: +SKIP
>>> fallback.candidate.name, fallback.why                      # doctest: +SKIP
('static-int8 U8S8', '0.41 of the time that fp16 takes on the processor')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgewright.build.search.candidate import FP32, Candidate
from edgewright.build.search.demands import Demands, missed
from edgewright.errors import BuildError

CPU_PROVIDER = "CPUExecutionProvider"
MARGIN = 0.03
"""What a second model must gain in time over the first one on the same processor: less is not worth its bytes."""
_HELD_TO = ("accuracy", "label-drop", "target-outputs", "peak-memory")
_OF_PROVIDERS = ("tensorrt", "cuda", "openvino")


@dataclass(frozen=True)
class Fallback:
    """The decision.

    Attributes:
        candidate: What ships beside the model; None when the model itself does as well.
        why: In words.
    """

    candidate: Candidate | None
    why: str

    def to_json(self) -> dict[str, Any]:
        """Return what `search.json` says of it."""
        one = self.candidate
        return {
            "name": one.name if one else None,
            "model": one.digest if one else None,
            "precision": one.proposal.precision if one else None,
            "why": self.why,
        }


def choose_fallback(candidates: Sequence[Candidate], spec: Mapping[str, Any], winner: Candidate) -> Fallback:
    """Return what ships beside a model for the processor.

    Limits on time are those of the accelerator, so they do not count; accuracy and memory do, and so does what is left
    of the artifact's size. Where nothing fits into that, the smallest goes on and the gate refuses it with the figures.

    Args:
        candidates: All of the search, fp32 among them.
        spec: The slice of the stage `optimized`.
        winner: What ships for the accelerator.

    Raises:
        BuildError: no candidate could be measured on the processor.
    """
    fp32 = next(one for one in candidates if one.name == FP32)
    demands = Demands.of(spec).reached_by(fp32)
    sound = [
        one
        for one in candidates
        if one.cost is not None
        # The CPU provider computes half precision in single, with a conversion before and after.
        and "fp16" not in one.proposal.precision
        and not any(miss.check.startswith(_HELD_TO) for miss in missed(one, demands))
    ]
    if not sound:
        raise BuildError(
            "no candidate is accurate and small enough to run on the processor alone",
            hint="leave runtime.cpuFallback out of the hardware sheet, or allow the model more recipes",
        )
    room = demands.limits["artifactSize"] - demands.beside_bytes - winner.size_bytes
    fitting = [one for one in sound if one is winner or one.size_bytes <= room]
    best = (
        min(fitting, key=lambda one: (_latency(one), one.size_bytes, one.name))
        if fitting
        else min(sound, key=lambda one: (one.size_bytes, one.name))
    )
    share = _latency(best) / _latency(winner)
    if winner in sound and share > 1 - MARGIN:
        return Fallback(None, f"{winner.name} itself is the fastest on the processor, too")
    return Fallback(best, f"{share:.2f} of the time that {winner.name} takes on the processor")


def cpu_runtime(runtime: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `runtime` section of a class for its processor alone."""
    kept = {name: value for name, value in runtime.items() if name not in _OF_PROVIDERS}
    return {**kept, "providers": [CPU_PROVIDER]}


def _latency(candidate: Candidate) -> float:
    return candidate.cost.latency_ms["value"] if candidate.cost else float("inf")
