from __future__ import annotations

import struct

import pytest

from edgewright.bench.virtual.plot import heat_png, latency_png
from unit.bench.virtual.sheets import SHEET_WITHOUT_HEAT, THERMAL, simulated


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("thermal", [THERMAL, SHEET_WITHOUT_HEAT])
@pytest.mark.parametrize("load", [0.3, 2.0])
def test_every_simulation_can_be_drawn_at_one_width(thermal: dict[str, object], load: float) -> None:
    simulation = simulated(load, queue=5, thermal=thermal, duration_s=60)
    assert size_of(latency_png(simulation, "a model on a board", {"p95": 40.0, "p99": 60.0}))[0] == 1080
    assert size_of(heat_png(simulation, "a model on a board"))[0] == 1080


def test_a_time_without_requests_is_an_empty_picture_and_no_error() -> None:
    simulation = simulated(0.00001, arrival="periodic", duration_s=1)
    assert size_of(latency_png(simulation, "quiet")) == size_of(heat_png(simulation, "quiet"))


def test_the_longest_legal_names_do_not_widen_the_picture() -> None:
    simulation = simulated(0.5, duration_s=10)
    assert size_of(latency_png(simulation, f"{'m' * 63} on {'h' * 63}"))[0] == 1080


def test_the_same_simulation_gives_the_same_picture() -> None:
    assert heat_png(simulated(0.5, thermal=THERMAL), "x") == heat_png(simulated(0.5, thermal=THERMAL), "x")
