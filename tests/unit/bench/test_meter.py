"""The meter: candidates are measured as they would ship, and a broken target is not taken for a broken model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgewright.bench.counting.counts import count
from edgewright.bench.meter import TargetMeter, checked
from edgewright.bench.target.emulator import native_target
from edgewright.bench.target.observe import Observation
from edgewright.bench.target.processor import Core, host_arch
from edgewright.bench.target.userland import targets_cache
from edgewright.build.golden import encoded
from edgewright.build.layout import apply
from edgewright.errors import BuildError, EnvironmentFault
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import load_fleet
from edgewright_agent.contract import FILE_DATA
from real import ROOT, require_target
from unit.bench.target import models

HERE = native_target(Core(host_arch(), None, "this machine", 1))


def test_weights_that_ship_in_a_file_of_their_own_are_measured_in_one(tmp_path: Path) -> None:
    require_target("amd64-qemu")
    sheet = Sheet.of(load_fleet(ROOT).hardware["medical-cart-cpu"])
    meter = TargetMeter.open(sheet, targets_cache(), {"x": models.ROW}, remember=False)
    model = models.weighing(16).model
    files = apply(meter.layout(model), model)
    assert FILE_DATA in files
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    shipped = count(
        meter.target,
        tmp_path / "model.onnx",
        meter.settings("fp32"),
        {"inputs": {"x": encoded(np.asarray(models.ROW))}},
        plugin=meter.plugin,
        data=tmp_path / FILE_DATA,
    )
    cost = meter.measure(model, "fp32")
    assert cost.load_instructions == pytest.approx(shipped.load.instructions, rel=0.001)


@pytest.mark.parametrize("failure", ["engine-missing", "provider-missing", "timed-out"])
def test_what_the_target_or_this_machine_did_drops_no_candidate(failure: str) -> None:
    with pytest.raises(EnvironmentFault):
        checked(HERE, Observation({"failure": failure, "message": ""}))


@pytest.mark.parametrize("failure", ["operator-missing", "crashed"])  # a crash only after it was tried twice
def test_what_the_model_did_drops_it(failure: str) -> None:
    with pytest.raises(BuildError, match=failure):
        checked(HERE, Observation({"failure": failure, "message": ""}))
