from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from typing import Any

import pytest

from edgewright.bench.conditions import condition_checks
from edgewright.bench.field_plot import conditions_png
from edgewright.bench.report import Check

DIM = {"name": "dim-light", "gain": 0.5, "snr": 20.0, "fullScale": [0.0, 1.0], "floor": 0.9}
LOST = {"name": "lost-samples", "dropped": 5.0, "fill": "hold", "floor": 0.8}
EVERYTHING = {
    "name": "x" * 40,
    "inputs": ["image", "infrared"],
    "gain": 0.5,
    "offset": -5.0,
    "snr": 15.0,
    "adcBits": 6,
    "fullScale": [-1.0, 1.0],
    "dropped": 2.0,
    "fill": "zero",
    "floor": 0.5,
}


def entry(condition: dict[str, Any], accuracy: float) -> dict[str, Any]:
    degradation = {key: value for key, value in condition.items() if key not in ("name", "floor")}
    return {
        "name": condition["name"],
        "degradation": degradation,
        "value": accuracy,
        "drop": 0.99 - accuracy,
    }


def document(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"samples": 450, "seed": 0, "clean": 0.99, "conditions": list(entries)}


def drawn(*conditions: dict[str, Any], accuracy: float = 0.95, title: str = "a model on a board") -> bytes:
    measured = document(*(entry(condition, accuracy) for condition in conditions))
    return conditions_png(measured, condition_checks(measured, conditions, {}), title)


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_there_is_a_row_for_the_clean_inputs_and_one_for_each_condition_at_one_width() -> None:
    none, one, two = (size_of(drawn(*conditions)) for conditions in ((), (DIM,), (DIM, LOST)))
    assert none[0] == one[0] == two[0] == 1080
    assert two[1] - one[1] == one[1] - none[1] == 60


def test_the_longest_legal_names_and_words_do_not_widen_the_picture() -> None:
    assert size_of(drawn(EVERYTHING, title=f"{'m' * 63} on {'h' * 63}"))[0] == 1080


@pytest.mark.parametrize("measured", [None, document(), document(entry(LOST, 1.0))])
def test_what_was_not_measured_is_drawn_as_a_failure_and_no_error(measured: dict[str, Any] | None) -> None:
    blind = conditions_png(measured, condition_checks(measured, [DIM], {}), "x")
    seen = drawn(DIM, accuracy=0.95, title="x")
    assert size_of(blind) == size_of(seen)
    assert blind != seen


def test_a_condition_at_its_floor_and_one_below_it_look_different() -> None:
    assert drawn(DIM, accuracy=0.9) != drawn(DIM, accuracy=0.899)


def test_the_floor_of_the_clean_inputs_is_that_of_the_metric() -> None:
    measured = document(entry(DIM, 0.95))
    checks = condition_checks(measured, [DIM], {})
    floor = Check("accuracy-floor", 0.99, 0.97, "ratio", "min", "models/m/model.yaml#metric.floor")
    size = Check("artifact-size", 10, 20, "bytes", "max", "hardware/h.yaml#limits.artifactSize")
    assert conditions_png(measured, [floor, *checks], "x") != conditions_png(measured, checks, "x")
    assert conditions_png(measured, [size, *checks], "x") == conditions_png(measured, checks, "x")


def test_a_report_read_back_from_a_file_with_sorted_keys_gives_the_same_picture() -> None:
    measured = document(entry(EVERYTHING, 0.95))
    again = json.loads(json.dumps(measured, sort_keys=True))
    checks = condition_checks(measured, [EVERYTHING], {})
    assert conditions_png(again, checks, "x") == conditions_png(measured, checks, "x")


def test_the_same_figures_give_the_same_bytes_in_another_process() -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "import hashlib; from unit.bench.test_field_plot import *\n"
        "print(hashlib.sha256(drawn(DIM, LOST, EVERYTHING)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program, *sys.path],
            capture_output=True,
            check=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
