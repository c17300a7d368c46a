"""The soak of a trial: what only shows after a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgewright_agent import sustained
from edgewright_agent.config import Budget
from edgewright_agent.engine import Engine, InferenceError, Port
from edgewright_agent.errors import HealthError
from edgewright_agent.golden import Golden
from edgewright_agent.health import check
from edgewright_agent.sustained import MAX_TIMES, Sustained, Times, sustain
from unit.agent.core import onnx_artifact

if TYPE_CHECKING:
    from edgewright_agent.engine import Arrays

MIB = 2**20
PIXELS = np.ones((2, 3), np.float32)
GOLDEN = Golden({"image": PIXELS}, {"scores": PIXELS * 2}, 1e-4, 1e-4)


class Doubler(Engine):
    """A model that doubles, until its n-th inference."""

    def __init__(self, goes_bad: int = 10**9, how: Callable[[Arrays], Arrays] | None = None) -> None:
        self.inputs = self.outputs = (Port("image", "float32", (None, 3)),)
        self.providers = ("CPUExecutionProvider",)
        self.count, self._goes_bad, self._how = 0, goes_bad, how

    def infer(self, inputs: Arrays) -> Arrays:
        self.count += 1
        if self.count >= self._goes_bad and self._how:
            return self._how(inputs)
        return {"scores": inputs["image"] * 2}


def soaked(engine: Engine, *, memory_mib: Iterator[int] | None = None, seconds: float = 30) -> Sustained:
    """Soak on a clock that goes on a second with every look."""
    ticks = iter(range(10**6))
    beats: list[int] = []
    found = sustain(
        engine,
        GOLDEN,
        seconds,
        beat=lambda: beats.append(1),
        resident=lambda: next(memory_mib) * MIB if memory_mib else 100 * MIB,
        clock=lambda: float(next(ticks)),
        rest=lambda s: None,
    )
    assert len(beats) == 2 * found.inferences, "every inference and every rest is a sign of life"
    return found


def test_a_sound_model_is_replayed_for_as_long_as_was_asked() -> None:
    engine = Doubler()
    found = soaked(engine)
    assert (found.seconds, found.growth_bytes) == (30, 0)
    assert found.inferences == engine.count == 60


def test_no_more_time_than_one_inference_takes_passes_without_a_sign_of_life() -> None:
    now, beats = [0.0], [0.0]

    def pass_s(seconds: float) -> None:
        now[0] += seconds

    class Slow(Doubler):
        def infer(self, inputs: Arrays) -> Arrays:
            pass_s(0.9)
            return super().infer(inputs)

    def timed(engine: Engine, inputs: Arrays, came_back: Callable[[float], None]) -> Arrays:
        outputs = engine.infer(inputs)
        came_back(900)
        return outputs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sustained, "one_by_one", timed)
        sustain(
            Slow(),
            GOLDEN,
            10,
            beat=lambda: beats.append(now[0]),
            resident=lambda: MIB,
            clock=lambda: now[0],
            rest=pass_s,
        )
    assert max(later - earlier for earlier, later in pairwise(beats)) == pytest.approx(0.9)


def test_an_answer_that_drifts_is_found_when_it_does() -> None:
    engine = Doubler(31, lambda inputs: {"scores": inputs["image"] * 2.1})
    with pytest.raises(HealthError) as failed:
        soaked(engine)
    assert failed.value.code == "health-wrong-output"
    assert engine.count == 32, "in the pass in which it drifted"


def test_an_inference_that_fails_later_fails_the_soak() -> None:
    def broken(inputs: Arrays) -> Arrays:
        raise InferenceError("inference-failed", "no more")

    with pytest.raises(InferenceError):
        soaked(Doubler(7, broken))


def test_memory_that_goes_on_growing_is_a_failure() -> None:
    with pytest.raises(HealthError) as failed:
        soaked(Doubler(), memory_mib=iter((100, 120, 140)))
    assert failed.value.code == "health-memory-growth"
    assert "grew by 40.0 MiB in 20 s" in str(failed.value)


@pytest.mark.parametrize(
    ("thirds", "why"),
    [
        ((100, 130, 130), "what settles is a cache"),
        ((100, 104, 107), "little is noise"),
        ((400, 420, 439), "so is a small share of much"),
        ((100, 90, 80), "less is more"),
    ],
)
def test_memory_that_settles_is_none(thirds: tuple[int, ...], why: str) -> None:
    assert soaked(Doubler(), memory_mib=iter(thirds)).growth_bytes == max(0, thirds[2] - thirds[0]) * MIB, why


def test_a_pass_longer_than_the_soak_ends_it() -> None:
    assert soaked(Doubler(), seconds=0.5).inferences == 2


def test_many_times_are_kept_in_bounded_memory_and_still_tell_the_percentile() -> None:
    times = Times()
    for number in range(100_000):
        times.add(float(number))
    assert len(times.kept) < MAX_TIMES
    assert times.count == 100_000
    assert times.percentile(0.95) == pytest.approx(95_000, rel=0.01)
    assert Times().percentile(0.95) == 0


def test_a_real_model_soaks_in_a_real_child(tmp_path: Path) -> None:
    folder = onnx_artifact.write(tmp_path / "m")
    found = check(folder, timeout_s=60, budget=Budget(), soak_s=0.4, inference_timeout_s=30)
    assert found.soak
    assert found.soak.seconds >= 0.4
    assert found.soak.inferences >= len(onnx_artifact.PIXELS)
    assert found.document()["soak"]["p95Ms"] == found.soak.p95_ms
    with pytest.raises(HealthError) as failed:
        check(folder, timeout_s=60, budget=Budget(latency_ms=1e-9), soak_s=0.1)
    assert failed.value.code == "health-over-budget"
    assert failed.value.facts["figures"]["soak"]["inferences"] > 0
    assert failed.value.facts["engine"].startswith("onnxruntime 1.")
