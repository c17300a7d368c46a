"""Figures in a sheet: they change, and nothing else does."""

from __future__ import annotations

import doctest
import re
import shutil
from pathlib import Path

import pytest

from edgewright.bench.calibration import sheet as module
from edgewright.bench.calibration.sheet import with_figures
from edgewright.errors import SpecError
from edgewright.spec.load import load_fleet
from real import ROOT
from unit.bench.calibration.figures import FIGURES

SHEETS = sorted((Path(ROOT) / "hardware").glob("*.yaml"))
BLOCK = re.compile(r"^emulation:\n(?:[ ]+.*\n|\n(?=[ ]))+", re.MULTILINE)


def around(text: str) -> list[str]:
    """What is before and after the block."""
    parts = BLOCK.split(text)
    assert len(parts) == 2
    return parts


@pytest.fixture(params=SHEETS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_every_byte_outside_the_block_stays(path: Path) -> None:
    before = path.read_bytes().decode()
    after = with_figures(before, FIGURES)
    assert after != before
    assert around(after) == around(before)


def test_what_the_block_said_of_other_things_stays_with_its_comments(path: Path) -> None:
    before = path.read_text()
    after = with_figures(before, {})
    ours = re.compile(rf"  ({'|'.join(module.FIGURES)}):|    ")
    kept = [
        line for line in before.splitlines(keepends=True) if not ours.match(line) or line not in block(before)
    ]
    assert after == "".join(kept)
    assert all(line in block(with_figures(before, FIGURES)) for line in block(after))


def block(text: str) -> list[str]:
    found = BLOCK.search(text)
    assert found
    return found.group().splitlines(keepends=True)


def test_writing_twice_is_writing_once(path: Path) -> None:
    once = with_figures(path.read_text(), FIGURES)
    assert with_figures(once, FIGURES) == once


def test_writing_others_and_then_these_is_writing_these(path: Path) -> None:
    others = {"cyclesPerInstruction": {"fp32": 1.5, "int8": 2.0}, "calibration": "declared"}
    assert with_figures(with_figures(path.read_text(), others), FIGURES) == with_figures(
        path.read_text(), FIGURES
    )


def test_the_loader_reads_back_what_was_written(path: Path, tmp_path: Path) -> None:
    for name in ("fleet.yaml", "hardware", "models"):
        source = Path(ROOT) / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    one_thread = {key: value for key, value in FIGURES.items() if key != "threadSpeedup"}
    (tmp_path / "hardware" / path.name).write_text(with_figures(path.read_text(), one_thread))
    found = load_fleet(tmp_path).hardware[path.stem].emulation
    assert found.cycles_by_kind is not None and found.loading is not None
    assert found.cycles_by_kind.fp32.simd_fma == 0.00004
    assert found.cycles_by_kind.int8.branch_misses == 12.5
    assert found.loading.once == 3_000_000
    assert found.calibrated_on == FIGURES["calibratedOn"]
    assert (found.calibration, found.fit_error, found.thread_speedup) == ("measured", 6.1, None)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("emulation:\n  method: native", "emulation:\n  method: native\n  threadSpeedup: 1.5\n"),
        (
            "emulation:\r\n  method: native # é\r\nlimits: {}\r\n",
            "emulation:\r\n  method: native # é\r\n  threadSpeedup: 1.5\r\nlimits: {}\r\n",
        ),
        (
            "emulation:\n    # ours\n    threadSpeedup: 3 # old\n\n    # theirs\n    method: native\n# end\n",
            "emulation:\n    # ours\n    threadSpeedup: 1.5\n\n    # theirs\n    method: native\n# end\n",
        ),
        (
            "emulation:\n  cyclesPerInstruction:\n    fp32: 1\n    int8: 2\n  method: native\n",
            "emulation:\n  threadSpeedup: 1.5\n  method: native\n",
        ),
    ],
    ids=["no last end of line", "CRLF", "comments between", "a mapping is replaced"],
)
def test_the_file_keeps_its_way_of_writing(before: str, after: str) -> None:
    assert with_figures(before, {"threadSpeedup": 1.5}) == after


def test_a_block_on_one_line_is_refused_with_what_to_do() -> None:
    with pytest.raises(SpecError, match="board.yaml: emulation is written on one line") as caught:
        with_figures("emulation: {method: native}\n", FIGURES, "board.yaml")
    assert caught.value.hint == "write every key of emulation on a line of its own"


@pytest.mark.parametrize(
    "text", ["", "limits: {}\n", "emulation: native\n", "emulation:\n", "emulation: [\n"]
)
def test_a_sheet_without_the_block_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="board.yaml has no valid emulation"):
        with_figures(text, FIGURES, "board.yaml")


def test_figures_that_the_sheet_may_not_hold_are_not_written() -> None:
    with pytest.raises(SpecError, match="the figures make no sense as threadSpeedup"):
        with_figures("emulation:\n  method: native\n", {"threadSpeedup": 0.5})


def test_the_examples_in_the_module_are_true() -> None:
    assert doctest.testmod(module).failed == 0
