"""From counts and times to a class's figures, and what a terminal shows of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from edgewright.bench.calibration.batch import NetCounts
from edgewright.bench.calibration.calibrate import Calibration, calibrate
from edgewright.bench.calibration.kit import describe
from edgewright.bench.calibration.measured import Measured, NetTimes, read
from edgewright.bench.calibration.nets import Recipe
from edgewright.bench.calibration.sheet import with_figures
from edgewright.bench.calibration.table import table
from edgewright.bench.counting.spans import ClassCounts
from edgewright.errors import BuildError
from real import ROOT
from unit.bench.calibration.figures import document, net, sheet

CLASS = "raspberry-pi-4"
CLOCK_KHZ = 1.5e6
NETS = [net(f"net-{number:03}-{kind}") for number in range(30) for kind in ("fp32", "int8")]


def counted(number: int, *, kinds: bool = True) -> NetCounts:
    loads, scalar = 10_000 * (number + 1), 1_000 * (number * number % 37 + 1)
    per_inference = ClassCounts(loads + scalar, {"loads": loads, "scalar": scalar} if kinds else {})
    return NetCounts(1_000_000 * (number % 7 + 1), per_inference)


def found(folder: Path, *, kinds: bool = True, load_ms: float | None = None) -> Calibration:
    """Nets that took two cycles for a load, one for the rest and 3000 for an inference; twice that in int8."""
    (folder / "measured.json").write_text(json.dumps(document()))
    counts = {one.name: counted(place // 2, kinds=kinds) for place, one in enumerate(NETS)}
    times = {}
    for one in NETS:
        cost, of = counts[one.name], counts[one.name].per_inference
        cycles = 2 * of.kinds["loads"] + of.kinds["scalar"] if kinds else 2 * of.instructions
        cpu_ms = (cycles + 3000) * (2 if one.precision == "int8" else 1) / CLOCK_KHZ
        times[one.name] = NetTimes(cpu_ms, cpu_ms, cpu_ms / 1.5, load_ms or 0.9 * cost.load / CLOCK_KHZ, 0.02)
    measured: Measured = dataclasses.replace(read(folder / "measured.json"), nets=times)
    kit = describe(CLASS, sheet(CLASS), Recipe(nets=len(NETS)), NETS)
    return calibrate(sheet(CLASS), kit, measured, counts, "some core")


def test_cycles_by_kind_are_those_of_the_class_at_its_clock(tmp_path: Path) -> None:
    figures = found(tmp_path).figures
    fp32, int8 = (figures["cyclesByKind"][precision] for precision in ("fp32", "int8"))
    assert fp32 == pytest.approx({"loads": 2.0, "scalar": 1.0, "perInference": 3000.0})
    assert int8 == pytest.approx({"loads": 4.0, "scalar": 2.0, "perInference": 6000.0})
    assert figures["loading"]["cyclesPerInstruction"] == pytest.approx(0.9)
    assert figures["threadSpeedup"] == 1.5
    assert figures["calibration"] == "measured"
    assert figures["calibratedOn"] == "2026-03-14, onnxruntime 1.31.1, Raspberry Pi 4 Model B Rev 1.5"
    assert figures["fitError"] == pytest.approx(0.0, abs=0.1)


def test_a_processor_without_kinds_is_priced_by_instructions(tmp_path: Path) -> None:
    figures = found(tmp_path, kinds=False).figures
    assert figures["cyclesByKind"]["fp32"] == pytest.approx({"instructions": 2.0, "perInference": 3000.0})


def test_what_is_found_can_be_written_into_the_sheet(tmp_path: Path) -> None:
    text = (Path(ROOT) / "hardware" / f"{CLASS}.yaml").read_text()
    assert "  calibration: measured\n" in with_figures(text, found(tmp_path).figures)


def test_loading_that_does_not_grow_with_its_instructions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="does not grow with its instructions") as caught:
        found(tmp_path, load_ms=5.0)
    assert "--rounds" in (caught.value.hint or "")


def test_counts_survive_being_kept() -> None:
    for kinds in (True, False):
        counts = counted(3, kinds=kinds)
        assert NetCounts.from_json(json.loads(json.dumps(counts.to_json()))) == counts


def test_the_table_says_where_from_how_good_and_what(tmp_path: Path) -> None:
    lines = [" ".join(line.split()) for line in table(found(tmp_path)).splitlines()]
    assert lines[0] == (
        "measured Raspberry Pi 4 Model B Rev 1.5, onnxruntime 1.31.1, 2026-03-14:"
        " 60 nets, 2 rounds that differ by 2.0%"
    )
    assert "counted some core" in lines
    assert "not run there 1 nets, cnn-000-int8: no kernel" in lines
    assert "nets 30 30 60" in lines
    assert "within 20 % 100% 100% 100%" in lines
    assert "loads 2 4" in lines
    assert "perInference 3,000 6,000" in lines
    assert "cyclesPerInstruction 0.9" in lines
    assert "threads 3 are 1.5 × as fast as one" in lines
