"""What a sheet may say about heat and a model about its workload."""

from __future__ import annotations

import pytest

from edgewright.spec.load import load_fleet
from edgewright.spec.problem import InvalidSpec
from unit.spec.conftest import Repository

THERMAL = "thermal: {cooling: passive, ambientMax: 50C, throttleAt: 80C}"
HEAT = """\
thermal:
  cooling: passive
  ambientMax: 50C
  throttleAt: 80C
  resistance: 7.3K/W
  capacitance: 82J/K
  powerIdle: 2.1W
  powerActive: 5.3W
  steps:
    - {clock: 1GHz, at: 80C}
    - {clock: 600MHz, at: 85C}
"""


def heat(repository: Repository, old: str = "", new: str = "") -> str:
    """Give the sheet its heat with one thing changed; return what is then said about it."""
    assert old in HEAT
    repository.edit("hardware/board.yaml", THERMAL + "\n", HEAT.replace(old, new) if old else HEAT)
    return said(repository)


def asked(repository: Repository, workload: str) -> str:
    repository.append("models/reader/model.yaml", f"workload: {{{workload}}}\n")
    return said(repository)


def said(repository: Repository) -> str:
    try:
        load_fleet(repository.root)
    except InvalidSpec as error:
        return error.render()
    return ""


def test_a_sheet_may_be_silent_about_heat_and_a_model_about_its_workload(repository: Repository) -> None:
    fleet = load_fleet(repository.root)
    assert fleet.hardware["board"].thermal.resistance is None
    assert fleet.models["reader"].workload is None


def test_heat_is_read_in_kelvin_per_watt_and_joules_per_kelvin(repository: Repository) -> None:
    assert heat(repository) == ""
    thermal = load_fleet(repository.root).hardware["board"].thermal
    assert (thermal.resistance, thermal.capacitance, thermal.hysteresis) == (7.3, 82.0, None)
    assert thermal.steps is not None
    assert [(step.clock, step.at) for step in thermal.steps] == [(1000.0, 80.0), (600.0, 85.0)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  capacitance: 82J/K\n", "", "throttling is simulated from 5 keys; add capacitance"),
        ("  powerIdle: 2.1W\n  powerActive: 5.3W\n", "", "add powerIdle, powerActive"),
        ("powerActive: 5.3W", "powerActive: 1W", "powerActive is below powerIdle"),
        ("clock: 1GHz, at: 80C", "clock: 1GHz, at: 78C", "the first of 'steps' must begin at throttleAt"),
        ("at: 85C", "at: 80C", "must be hotter and slower"),
        ("clock: 600MHz", "clock: 1.2GHz", "must be hotter and slower"),
        ("at: 85C", "at: 85C, powerActive: 6W", "must fall from step to step"),
        ("at: 85C", "at: 85C, powerActive: 1W", "stay above powerIdle"),
        ("7.3K/W", "7.3", "a thermal resistance needs a unit: write 7.3K/W"),
        ("82J/K", "82J/C", "unknown unit 'J/C' of a heat capacity; units are J/K"),
    ],
)
def test_heat_that_cannot_be_simulated_is_an_error_with_its_place(
    repository: Repository, old: str, new: str, message: str
) -> None:
    complaint = heat(repository, old, new)
    assert message.partition(": write")[0] in complaint
    assert "hardware/board.yaml:" in complaint


@pytest.mark.parametrize(
    "workload",
    [
        "arrival: periodic, rate: 20/s, queue: 0",
        "arrival: poisson, rate: 6/m, queue: 4",
        "arrival: burst, burst: 10, rate: 5/s, queue: 20",
    ],
)
def test_workloads_are_periodic_poisson_or_bursts(repository: Repository, workload: str) -> None:
    assert asked(repository, workload) == ""


def test_rates_are_read_per_second(repository: Repository) -> None:
    asked(repository, "arrival: poisson, rate: 6/m, queue: 4")
    workload = load_fleet(repository.root).models["reader"].workload
    assert workload is not None
    assert workload.rate == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        ("arrival: burst, rate: 5/s, queue: 20", "'burst' is missing"),
        ("arrival: periodic, burst: 4, rate: 5/s, queue: 20", "'burst' has no effect with periodic"),
        ("arrival: burst, burst: 1, rate: 5/s, queue: 20", "at least 2"),
        ("arrival: poisson, rate: 20Hz, queue: 4", "write 20/s"),
        ("arrival: poisson, rate: 2000/s, queue: 4", "at most 1000/s"),
        ("arrival: poisson, rate: 20/s, queue: -1", "at least 0"),
    ],
)
def test_a_workload_that_makes_no_sense_is_an_error_with_its_place(
    repository: Repository, workload: str, message: str
) -> None:
    complaint = asked(repository, workload)
    assert message in complaint
    assert "models/reader/model.yaml:" in complaint
