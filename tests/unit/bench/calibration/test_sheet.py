"""Writing figures into hardware sheets: nothing else changes, whatever the sheet looks like."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgewright.bench.calibration import sheet as module
from edgewright.bench.calibration.sheet import FIGURES, with_figures
from edgewright.errors import SpecError
from edgewright.spec.hardware import HardwareClass
from edgewright.spec.load import load_fleet
from real import ROOT

SHEETS = sorted((ROOT / "hardware").glob("*.yaml"))
FOUND: dict[str, Any] = {
    "cyclesByKind": {
        "fp32": {"loads": 0.0004954, "calls": 0.9417, "loadBytes": 0.01136, "perInference": 1433.0},
        "int8": {"calls": 0.796, "branchMisses": 6.079},
    },
    "loading": {"cyclesPerInstruction": 0.12, "cyclesPerByte": 1.341, "once": 2917000.0},
    "threadSpeedup": 1.24,
    "calibration": "measured",
    "calibratedOn": "2026-11-26, onnxruntime 1.31.1, Raspberry Pi 4 Model B Rev 1.5",
    "fitError": 6.1,
}


def read(text: str, tmp_path: Path) -> HardwareClass:
    """A class as the whole pipeline reads it."""
    for name in ("hardware", "models"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "fleet.yaml", tmp_path)
    (tmp_path / "hardware/raspberry-pi-4.yaml").write_bytes(text.encode())
    return load_fleet(tmp_path).hardware["raspberry-pi-4"]


@pytest.fixture
def pi() -> str:
    return (ROOT / "hardware/raspberry-pi-4.yaml").read_text()


@pytest.mark.parametrize("path", SHEETS, ids=lambda path: path.stem)
def test_every_line_of_every_sheet_of_this_repository_stays(path: Path) -> None:
    before = path.read_bytes()
    after = with_figures(before.decode(), FOUND, path.name).encode()
    kept, added = before.splitlines(keepends=True), after.splitlines(keepends=True)
    place = next(number for number, line in enumerate(added) if line not in kept or line != kept[number])
    count = len(added) - len(kept)
    assert added[:place] + added[place + count :] == kept
    assert all(line.startswith(b"  ") for line in added[place : place + count])


def test_what_was_written_is_what_the_pipeline_reads(pi: str, tmp_path: Path) -> None:
    emulation = read(with_figures(pi, FOUND), tmp_path).emulation
    assert emulation.method == "qemu-user"
    assert emulation.cycles_by_kind is not None
    written = emulation.cycles_by_kind.model_dump(by_alias=True, exclude_defaults=True)
    assert written == FOUND["cyclesByKind"]
    assert emulation.loading is not None
    assert emulation.loading.model_dump(by_alias=True) == FOUND["loading"]
    assert (emulation.thread_speedup, emulation.fit_error) == (1.24, 6.1)
    assert (emulation.calibration, emulation.calibrated_on) == ("measured", FOUND["calibratedOn"])


def test_a_second_calibration_replaces_the_first(pi: str) -> None:
    once = with_figures(pi, FOUND)
    assert with_figures(once, FOUND) == once
    other = {**FOUND, "fitError": 7.5, "cyclesByKind": {"fp32": {"scalar": 1.0}, "int8": {"scalar": 2.0}}}
    assert with_figures(with_figures(once, other), FOUND) == once


def test_figures_of_a_person_give_way_and_their_comments_with_them_but_no_others(pi: str) -> None:
    written = pi.replace(
        "  cpu: cortex-a72\n",
        "  # the core itself\n"
        "  cyclesPerInstruction: {fp32: 1.3, int8: 1.6} # guessed\n"
        "  # and what runs it\n"
        "  cpu: cortex-a72 # exactly\n"
        "  calibration: declared\n"
        "  # nothing below\n",
    )
    changed = with_figures(written, FOUND)
    block = changed[changed.index("emulation:") : changed.index("updatePolicy:")].splitlines()
    assert block[:3] == ["emulation:", "  method: qemu-user", "  # the core itself"]
    assert block[3].startswith("  cyclesByKind:")
    assert block[-5:] == [
        "  fitError: 6.1%",
        "  # and what runs it",
        "  cpu: cortex-a72 # exactly",
        "  # nothing below",
        "",
    ]
    assert "guessed" not in changed


def test_a_speed_up_that_was_not_measured_this_time_is_not_left_from_the_last(pi: str) -> None:
    without = {key: value for key, value in FOUND.items() if key != "threadSpeedup"}
    assert "threadSpeedup" not in with_figures(with_figures(pi, FOUND), without)


def test_line_ends_of_other_systems_and_a_missing_last_one_are_respected(pi: str) -> None:
    windows = with_figures(pi.replace("\n", "\r\n"), FOUND)
    assert windows == with_figures(pi, FOUND).replace("\n", "\r\n")
    head, _, tail = pi.partition("emulation:\n")
    block, _, rest = tail.partition("\n\n")
    last = f"{head}{rest}\nemulation:\n{block}"
    assert not last.endswith("\n")
    changed = with_figures(last, FOUND)
    assert changed.startswith(f"{last}\n  cyclesByKind:\n")


def test_a_deeper_indent_is_kept(pi: str) -> None:
    deep = pi.replace(
        "  method: qemu-user\n  cpu: cortex-a72\n", "    method: qemu-user\n    cpu: cortex-a72\n"
    )
    assert "\n    cyclesByKind:\n      fp32:\n        loads: 0.0004954\n" in with_figures(deep, FOUND)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("emulation:\n  method: qemu-user\n  cpu: cortex-a72\n", "emulation: {method: qemu-user, cpu: cortex-a72}\n",
         "written on one line"),
        ("emulation:\n  method: qemu-user\n  cpu: cortex-a72\n", "", "has no valid emulation"),
        ("emulation:\n", "emulation:\nemulation:\n", "has no valid emulation"),
    ],
)  # fmt: skip
def test_a_block_that_cannot_be_edited_line_by_line_is_left_alone(
    pi: str, old: str, new: str, said: str
) -> None:
    assert old in pi
    with pytest.raises(SpecError, match=said) as refused:
        with_figures(pi.replace(old, new), FOUND, "hardware/x.yaml")
    assert "hardware/x.yaml" in str(refused.value)


def test_figures_that_no_sheet_may_have_are_refused(pi: str) -> None:
    with pytest.raises(SpecError, match="cyclesPerInstruction"):
        with_figures(pi, {**FOUND, "loading": {"cyclesPerInstruction": 1000.0}})


def test_a_processor_by_any_name_is_one_line_of_text(pi: str) -> None:
    name = '2026-11-26, onnxruntime 1.31.1, Acme "Q" #7: {µ} \\ 2.0GHz'
    assert "Acme" in with_figures(pi, {**FOUND, "calibratedOn": name})


def test_figures_are_those_of_the_schema() -> None:
    fields = {"method", "cpu", *FIGURES}
    from edgewright.spec.base import camel_case
    from edgewright.spec.emulation import Emulation

    assert fields == set(map(camel_case, Emulation.model_fields))


def test_the_examples_in_the_module_are_true() -> None:
    assert doctest.testmod(module).failed == 0
