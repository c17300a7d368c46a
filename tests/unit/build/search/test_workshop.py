"""What the workshop keeps: a result is true wherever it is found, or it is not found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgewright.build.search import workshop
from edgewright.build.search.candidate import FP32, TRAINED, Candidate, Proposal
from edgewright.build.search.shelf import Shelf
from edgewright.build.search.workshop import Workshop
from edgewright.errors import BuildError
from unit.build.search.test_explore import shop

TRIED = Candidate(Proposal(TRAINED, FP32, FP32))


def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count how often something is scored."""
    calls = []
    own = Workshop._figures

    def figures(self: Workshop, model: bytes, rows: int | None) -> dict[str, object]:
        calls.append(1)
        return own(self, model, rows)

    monkeypatch.setattr(Workshop, "_figures", figures)
    return lambda: len(calls)


def test_a_score_of_another_processor_is_not_taken_for_one_of_this(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = counted(monkeypatch)
    here = shop(shelf=Shelf(tmp_path))
    for _ in range(2):
        here.scored(TRIED, here.bases[TRAINED], None)
    assert made() == 1
    monkeypatch.setattr(workshop, "processor", lambda: ["one without VNNI"])
    here.scored(TRIED, here.bases[TRAINED], None)
    assert made() == 2


def test_a_score_by_other_code_is_not_taken_for_one_by_this(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = counted(monkeypatch)
    here = shop(shelf=Shelf(tmp_path))
    here.scored(TRIED, here.bases[TRAINED], None)
    changed = {**workshop.tools(), "code": "changed"}
    monkeypatch.setattr(workshop, "tools", lambda: changed)
    here.scored(TRIED, here.bases[TRAINED], None)
    assert made() == 2


@pytest.mark.parametrize("source", workshop._SOURCES)
def test_every_source_that_results_depend_on_is_there(source: str) -> None:
    assert list(Path(workshop.__file__).parents[2].glob(source))


def test_a_failure_is_not_kept_because_the_machine_may_have_been_the_cause(tmp_path: Path) -> None:
    class Busy(Workshop):
        def outputs(self, model: bytes, rows: np.ndarray | None = None) -> np.ndarray:
            raise BuildError("onnxruntime cannot load the model: std::bad_alloc")

    idle = shop(shelf=Shelf(tmp_path))
    model = idle.bases[TRAINED]
    busy = Busy(idle.bases, idle.calibration, idle.selection, idle.metric, idle.shelf)
    vars(busy)["reference"] = idle.reference
    assert "bad_alloc" in busy.scored(TRIED, model, None).stopped
    assert idle.scored(TRIED, model, None).score is not None
