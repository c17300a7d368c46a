"""A class of this machine's architecture, calibrated from end to end: nets, agent, emulator, fit, sheet, prediction."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgewright.bench.calibration import fit
from edgewright.bench.calibration.batch import count_nets
from edgewright.bench.calibration.calibrate import counting_target, make_kit, recipe_of
from edgewright.bench.counting.build import build
from edgewright.bench.counting.counts import count
from edgewright.bench.target.observe import Memo
from edgewright.bench.target.processor import host_arch
from edgewright.bench.target.userland import targets_cache
from edgewright.bench.timing import predict
from edgewright.build.golden import encoded
from edgewright.cli.calibrate import command
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import load_fleet
from real import ROOT, require_target

CLASSES = {"amd64": ("medical-cart-cpu", "amd64-qemu"), "arm64": ("raspberry-pi-4", "arm64")}
NETS = 8


@pytest.fixture
def hardware_class() -> str:
    if host_arch() not in CLASSES:
        pytest.skip(f"no class of this repository is {host_arch()}")
    name, userland = CLASSES[host_arch()]
    require_target(userland)
    return name


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    for name in ("hardware", "models"):
        shutil.copytree(ROOT / name, tmp_path / "fleet" / name)
    shutil.copy(ROOT / "fleet.yaml", tmp_path / "fleet")
    return tmp_path / "fleet"


def test_this_machine_is_calibrated_and_its_class_predicts(
    hardware_class: str, fleet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "MIN_SAMPLES", NETS // 2)
    words = ["--root", str(fleet), hardware_class, "--nets", str(NETS), "--rounds", "1"]
    ran = CliRunner().invoke(command, words)
    assert ran.exit_code == 0, (ran.output, ran.exception)
    sheet = Sheet.of(load_fleet(fleet).hardware[hardware_class])
    assert sheet.emulation.calibration == "measured"
    assert sheet.emulation.cycles_by_kind is not None

    # A net of the calibration, on the way that every model takes: what was fitted is what is predicted with.
    kit = make_kit(hardware_class, sheet, recipe_of(sheet, NETS))
    net = next(net for net in kit.nets if net.name.startswith("cnn") and net.precision == "fp32")
    path = tmp_path / "model.onnx"
    path.write_bytes(net.model)
    rows = np.random.default_rng(0).uniform(-1, 1, (4, *net.shape)).astype(np.float32)
    target, plugin = counting_target(sheet, targets_cache()), build(targets_cache())
    alone = count(target, path, kit.document["runtime"], {"inputs": {"x": encoded(rows)}}, plugin=plugin)
    timing = predict(alone, sheet, len(net.model))
    assert timing.calibration == "measured"
    assert timing.latency_ms.value > 0
    assert timing.to_json()["cyclesByKind"] == sheet.emulation.cycles_by_kind.fp32.model_dump(
        by_alias=True, exclude_defaults=True
    )

    # In a process with seven others it costs the same, and a second time nothing runs.
    memo = Memo(tmp_path)
    runtime = kit.document["runtime"]
    together = count_nets(target, kit.nets, runtime, plugin=plugin, memo=memo)
    found, single = together[net.name], alone.per_inference
    assert found.per_inference.instructions == pytest.approx(single.instructions, rel=0.01)
    assert found.per_inference.kinds["simdFma"] == pytest.approx(single.kinds["simdFma"], rel=0.001)
    assert found.per_inference.kinds["calls"] == pytest.approx(single.kinds["calls"], rel=0.05)
    assert found.load == pytest.approx(alone.load.instructions, rel=0.1)
    nowhere = tmp_path / "no-plugin" / plugin.name  # its name alone is part of the question
    assert count_nets(target, kit.nets, runtime, plugin=nowhere, memo=memo) == together
