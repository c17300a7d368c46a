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
from edgewright.bench.assessment import alone, arithmetic
from edgewright.bench.calibration.batch import NetCounts, count_nets
from edgewright.bench.calibration.calibrate import (
    PRECISIONS,
    Calibration,
    calibrate,
    counting_target,
    make_kit,
    recipe_of,
)
from edgewright.bench.calibration.fit import Sample, errors, solve
from edgewright.bench.calibration.fit import predict as cycles
from edgewright.bench.calibration.host import measure_here
from edgewright.bench.calibration.kit import Kit, describe
from edgewright.bench.calibration.measured import Measured
from edgewright.bench.calibration.nets import Net, Recipe
from edgewright.bench.calibration.sheet import with_figures
from edgewright.bench.calibration.table import table
from edgewright.bench.counting.build import build
from edgewright.bench.counting.counts import Counts, count
from edgewright.bench.counting.spans import ClassCounts
from edgewright.bench.target.emulator import Target
from edgewright.bench.target.observe import Memo
from edgewright.bench.target.processor import host_arch
from edgewright.bench.target.userland import targets_cache
from edgewright.bench.timing import features, predict
from edgewright.build.golden import encoded
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import load_fleet
from real import ROOT, require_target

CLASSES = {"amd64": ("medical-cart-cpu", "amd64-qemu"), "arm64": ("raspberry-pi-4", "arm64")}
NETS = 150
INPUTS = 8
# Multiply-adds in a cycle of one core's vector units: two of them, in fp32; in int8 four to a lane where it has VNNI.
LANES = {"avx512": 16, "avx2": 8, "avx": 8, "sse4.2": 4, "neon": 4}


def _one_rate(counted: ClassCounts) -> dict[str, float]:
    return {"instructions": counted.instructions}


def _kinds(counted: ClassCounts) -> dict[str, float]:
    """Kinds and bytes, calls among the branches and no misses."""
    found = _with_calls(counted)
    found["branches"] += found.pop("calls")
    return found


def _with_calls(counted: ClassCounts) -> dict[str, float]:
    return {name: value for name, value in _all(counted).items() if name != "branchMisses"}


def _all(counted: ClassCounts) -> dict[str, float]:
    return {name: value for name, value in features(counted).items() if name != "instructions"}


FEATURES: Mapping[str, Callable[[ClassCounts], dict[str, float]]] = {
    "one rate for instructions": _one_rate,
    "kinds and bytes": _kinds,
    "and calls": _with_calls,
    "and branch misses": _all,
}


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
    roofs = {precision: rate_of(kit, measured, precision) for precision in PRECISIONS}
    clock_khz, rows, costs = host_clock_khz(), [], {}
    for net in unseen:
        cost = cost_of(target, plugin, net, tmp_path / "model.onnx", kit)
        costs[net.name] = cost.per_inference
        timing = predict(cost, calibrated, len(net.model), precision=arithmetic(net.precision))
        said = timing.latency_ms.value * timing.coefficients.thread_speedup
        took = min(times.nets[net.name].cpu_ms for times in (before, after))
        peak = net.macs / macs_per_cycle(sheet, net.precision) / clock_khz
        rows.append(Row(net.name, took, said, net.macs * roofs[net.precision], peak))
    say(found, rows)
    say_what_features_are_worth(
        kit, measured, counts, {row.name: (costs[row.name], row.measured) for row in rows}
    )
    assert len(rows) == len(unseen) >= 10


def cost_of(target: Target, plugin: Path, net: Net, path: Path, kit: Kit) -> Counts:
    """What the pipeline counts of a model, on the way that every artifact takes."""
    path.write_bytes(net.model)
    rows = np.random.default_rng(1).uniform(-1, 1, (INPUTS, *net.shape)).astype(np.float32)
    return count(target, path, kit.document["runtime"], {"inputs": {"x": encoded(rows)}}, plugin=plugin)


def host_clock_khz() -> float:
    """What this machine says of its clock; 1.5 GHz where it says nothing."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    told = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return max(told, default=1500.0) * 1e3


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


def say_what_features_are_worth(
    kit: Kit,
    measured: Measured,
    counts: Mapping[str, NetCounts],
    unseen: Mapping[str, tuple[ClassCounts, float]],
) -> None:
    """Fit fewer features to the same nets, and predict the same models."""
    print(f"\n{'fitted features, mean error':32}" + "".join(f"{precision:>12}" for precision in PRECISIONS))
    for label, features_of in FEATURES.items():
        print(f"  {label:30}", end="")
        for precision in PRECISIONS:
            nets = [net.name for net in kit.nets if net.precision == precision]
            samples = [
                Sample(name, features_of(counts[name].per_inference), measured.nets[name].cpu_ms)
                for name in nets
            ]
            scaled = [Sample(s.name, s.features, 1e6 * s.cycles) for s in samples]
            rates = solve(scaled)
            off = errors(
                {
                    name: (cycles(rates, features_of(counted)) / 1e6, took)
                    for name, (counted, took) in unseen.items()
                    if name.endswith(precision)
                }
            )
            print(f"{off.mean:12.1%}", end="")
        print()


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
