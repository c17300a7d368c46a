"""Nets of a kit, counted on an emulated processor and measured here: the two halves of a calibration."""

from __future__ import annotations

from pathlib import Path

from edgewright.bench.calibration.batch import count_nets
from edgewright.bench.calibration.calibrate import check_kit, counting_target, make_kit
from edgewright.bench.calibration.host import measure_here
from edgewright.bench.calibration.nets import Recipe
from edgewright.bench.counting.build import build
from edgewright.bench.target.observe import Memo
from edgewright.bench.target.userland import targets_cache
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import load_fleet
from real import ROOT, require_target

CLASS = "raspberry-pi-4"


def test_every_net_of_a_kit_is_counted_once_and_measured(tmp_path: Path) -> None:
    require_target("arm64")
    sheet, cache = Sheet.of(load_fleet(ROOT).hardware[CLASS]), targets_cache()
    kit = make_kit(CLASS, sheet, Recipe(nets=4))
    target, plugin, memo = counting_target(sheet, cache), build(cache), Memo(tmp_path)
    runtime = kit.document["runtime"]
    counts = count_nets(target, kit.nets, runtime, plugin=plugin, memo=memo)
    assert list(counts) == [net.name for net in kit.nets]
    for found in counts.values():
        assert found.load > 100_000
        assert sum(found.per_inference.kinds.values()) == found.per_inference.instructions > 100_000
    assert counts["mobile-001-fp32"].per_inference.kinds["simdFma"] > 0

    steps: list[tuple[int, int]] = []
    again = count_nets(
        target, kit.nets, runtime, plugin=plugin, memo=memo, progress=lambda *step: steps.append(step)
    )
    assert (again, steps) == (counts, [(4, 4)])  # all were kept

    measured = measure_here(kit, rounds=1, quiet=True)
    check_kit(kit, measured)
    assert set(measured.nets) == set(counts)
