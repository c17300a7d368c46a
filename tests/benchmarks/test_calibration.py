"""How well a class calibrated here predicts models it has never seen, beside a roofline. Prints; asserts no time.

$ make bench PYTEST_ARGS='-k calibration'
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from benchmarks.variants import variants
from edgewright.bench.assessment import alone
from edgewright.bench.calibration.batch import count_nets
from edgewright.bench.calibration.calibrate import (
    Calibration,
    calibrate,
    counting_target,
    make_kit,
    recipe_of,
)
from edgewright.bench.calibration.fit import Sample, errors, solve
from edgewright.bench.calibration.host import measure_here
from edgewright.bench.calibration.kit import Kit, describe
from edgewright.bench.calibration.measured import Measured
from edgewright.bench.calibration.nets import Net, Recipe
from edgewright.bench.calibration.sheet import with_figures
from edgewright.bench.calibration.table import table
from edgewright.bench.counting.build import build
from edgewright.bench.counting.counts import count
from edgewright.bench.target.observe import Memo
from edgewright.bench.target.processor import host_arch
from edgewright.bench.target.userland import targets_cache
from edgewright.bench.timing import predict
from edgewright.build.golden import encoded
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import load_fleet
from real import ROOT, require_target

CLASSES = {"amd64": ("medical-cart-cpu", "amd64-qemu"), "arm64": ("raspberry-pi-4", "arm64")}
NETS = 150
INPUTS = 8
# Multiply-adds in a cycle of one core's vector units: two of them, in fp32; in int8 four to a lane where it has VNNI.
LANES = {"avx512": 16, "avx2": 8, "avx": 8, "sse4.2": 4, "neon": 4}


class Row(NamedTuple):
    """One variant: what it took here and what was said, in milliseconds."""

    name: str
    measured: float
    predicted: float
    roofline: float
    datasheet: float


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A copy of this repository's fleet."""
    for name in ("fleet.yaml", "hardware", "models"):
        source, target = ROOT / name, tmp_path / "fleet" / name
        target.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    return tmp_path / "fleet"


def test_predictions_of_models_that_no_calibration_has_seen(fleet: Path, tmp_path: Path) -> None:
    hardware_class, userland = CLASSES[host_arch()]
    require_target(userland)
    cache, sheet = targets_cache(), Sheet.of(load_fleet(fleet).hardware[hardware_class])
    recipe = recipe_of(sheet, NETS)
    unseen = list(variants(reduce_range=recipe.reduce_range))
    kit = make_kit(hardware_class, sheet, recipe)
    others = describe(hardware_class, sheet, Recipe(0, len(unseen), recipe.reduce_range), unseen)
    with alone(cache):  # what is compared is measured around what is fitted, so that this machine is the same
        before = measure_here(others, rounds=2, quiet=True)
        measured = measure_here(kit, rounds=2, quiet=True)
        after = measure_here(others, rounds=2, quiet=True)
    target, plugin = counting_target(sheet, cache), build(cache)
    counts = count_nets(target, kit.nets, kit.document["runtime"], plugin=plugin, memo=Memo(cache))
    found = calibrate(sheet, kit, measured, counts, target.label)

    path = fleet / "hardware" / f"{hardware_class}.yaml"
    path.write_text(with_figures(path.read_text(), found.figures))
    calibrated = Sheet.of(load_fleet(fleet).hardware[hardware_class])
    roofs = {precision: rate_of(kit, measured, precision) for precision in ("fp32", "int8")}
    rows = []
    for net in unseen:
        said = predicted_ms(calibrated, net, tmp_path / "model.onnx", kit)
        took = min(times.nets[net.name].cpu_ms for times in (before, after))
        peak = net.macs / macs_per_cycle(sheet, net.precision) / HOST_CLOCK_KHZ
        rows.append(Row(net.name, took, said, net.macs * roofs[net.precision], peak))
    say(found, rows)
    assert len(rows) == len(unseen) >= 10


HOST_CLOCK_KHZ = 1e6 * max(
    (
        float(line.partition(":")[2]) / 1e3
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("cpu MHz")
    ),
    default=1.5,
)


def predicted_ms(sheet: Sheet, net: Net, path: Path, kit: Kit) -> float:
    """What the pipeline says of one inference on one thread, from the model's file to the figure."""
    path.write_bytes(net.model)
    rows = np.random.default_rng(1).uniform(-1, 1, (INPUTS, *net.shape)).astype(np.float32)
    golden = {"inputs": {"x": encoded(rows)}}
    cache = targets_cache()
    counts = count(counting_target(sheet, cache), path, kit.document["runtime"], golden, plugin=build(cache))
    precision = "int8" if net.precision == "int8" else "fp32"
    timing = predict(counts, sheet, len(net.model), precision=precision)
    return timing.latency_ms.value * timing.coefficients.thread_speedup


def rate_of(kit: Kit, measured: Measured, precision: str) -> float:
    """Milliseconds for a multiply-add, fitted to the nets of the calibration."""
    samples = [
        Sample(net.name, {"macs": float(net.macs)}, measured.nets[net.name].cpu_ms * 1e9)
        for net in kit.nets
        if net.precision == precision
    ]
    return solve(samples)["macs"] / 1e9


def macs_per_cycle(sheet: Sheet, precision: str) -> float:
    """What a datasheet promises: two vector units that never wait."""
    lanes = max((LANES.get(name, 1) for name in sheet.cpu.isa), default=1)
    fast = {"vnni", "asimddp"} & set(sheet.cpu.isa)
    return 2.0 * lanes * (4 if precision == "int8" and fast else 1)


def say(found: Calibration, rows: list[Row]) -> None:
    print("\n\n" + table(found) + "\n")
    print(
        f"{'unseen model':32}{'measured':>12}{'predicted':>12}{'error':>9}{'roofline':>11}{'datasheet':>11}"
    )
    for row in rows:
        off = (f"{guess / row.measured - 1:+.0%}" for guess in (row.predicted, row.roofline, row.datasheet))
        first, *others = off
        print(f"{row.name:32}{row.measured:9.3f} ms{row.predicted:9.3f} ms{first:>9}", end="")
        print("".join(f"{other:>11}" for other in others))
    methods: Mapping[str, Callable[[Row], float]] = {
        "predicted from instructions": lambda row: row.predicted,
        "roofline, rates fitted": lambda row: row.roofline,
        "roofline of the datasheet": lambda row: row.datasheet,
    }
    print(f"\n{'':32}{'mean error':>12}{'within 20 %':>13}{'worst':>8}")
    for precision in ("fp32", "int8", ""):
        chosen = [row for row in rows if row.name.endswith(precision)]
        print(f"{precision or 'all'}, {len(chosen)} models")
        for method, guess in methods.items():
            off = errors({row.name: (guess(row), row.measured) for row in chosen})
            print(f"  {method:30}{off.mean:12.1%}{off.near:13.0%}{off.worst:8.0%}")
