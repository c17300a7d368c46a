"""What a sheet may say of cycles: once, of things that are counted, and with the place it speaks for."""

from __future__ import annotations

import pytest

from edgewright.spec.load import load_fleet
from unit.spec.conftest import Repository, only, problems_of

KINDS = "cyclesByKind: {fp32: {loads: 1.5}, int8: {scalar: 0.5, perInference: 100}}"
ALL = "cyclesByKind: {fp32: {instructions: 1.5}, int8: {instructions: 2}}"
ONE = "cyclesPerInstruction: {fp32: 1, int8: 2}"


def emulation(repository: Repository, more: str) -> Repository:
    repository.edit("hardware/board.yaml", "cpu: cortex-a72}", f"cpu: cortex-a72, {more}}}")
    return repository


def test_cycles_are_told_one_way_or_the_other(repository: Repository) -> None:
    said = only(emulation(repository, f"{KINDS}, {ONE}"))
    assert "this class also has cyclesPerInstruction, and only one of the two can hold; leave one out" in said


@pytest.mark.parametrize("one", [KINDS, ALL, ONE])
def test_either_way_is_a_measured_class(repository: Repository, one: str) -> None:
    emulation(repository, f"{one}, calibration: measured, calibratedOn: a board")
    assert load_fleet(repository.root).hardware["board"].emulation.calibration == "measured"


def test_a_measured_class_says_where_it_was_measured(repository: Repository) -> None:
    said = only(emulation(repository, f"{KINDS}, calibration: measured"))
    assert "'measured' does not say where and when; add calibratedOn" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("loads: 1.5", "load: 1.5", "'loads'"),
        ("loads: 1.5", "loads: -1", "must be at least 0.0, not the number -1"),
        ("loads: 1.5", "loads: 0", "nothing costs anything"),
        ("loads: 1.5", "perInference: 5", "nothing costs anything"),
        ("loads: 1.5", "loads: 1.5, instructions: 1", "'instructions' are all of them; with it no loads"),
        (", int8: {scalar: 0.5, perInference: 100}", "", "int8"),
    ],
)
def test_a_price_is_of_something_that_is_counted(
    repository: Repository, old: str, new: str, said: str
) -> None:
    found = problems_of(emulation(repository, KINDS.replace(old, new)))
    assert any(said in problem and problem.startswith("hardware/board.yaml:") for problem in found), found


@pytest.mark.parametrize(
    ("loading", "said"),
    [
        ("{}", "cyclesPerInstruction"),
        ("{cyclesPerByte: 1}", "cyclesPerInstruction"),
        ("{cyclesPerInstruction: 0}", "must be more than 0.0, not the number 0"),
    ],
)
def test_loading_costs_something_for_every_instruction(
    repository: Repository, loading: str, said: str
) -> None:
    assert said in only(emulation(repository, f"loading: {loading}"))


def test_a_processor_whose_instructions_are_not_told_apart_has_one_price(repository: Repository) -> None:
    repository.edit("hardware/board.yaml", "arch: arm64, model: cortex-a72", "arch: riscv64, model: u74")
    repository.edit("hardware/board.yaml", ", isa: [neon]", "")
    found = problems_of(emulation(repository, KINDS))
    assert sum("instructions of riscv64 are not told apart" in problem for problem in found) == 2
