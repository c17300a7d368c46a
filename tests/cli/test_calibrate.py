"""`edgewright calibrate`: what it refuses, in which words, and what it writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgewright.bench.calibration.nets import Net
from edgewright.bench.target.processor import host_arch
from edgewright.cli import calibrate as verb
from edgewright.cli.calibrate import command
from edgewright.errors import BuildError, EnvironmentFault, SpecError
from edgewright.spec.load import load_fleet
from real import ROOT
from unit.bench.calibration.documents import CLASS, World

FOREIGN = "raspberry-pi-4" if host_arch() == "amd64" else "medical-cart-cpu"
RATES = {"fp32": {"loads": 1.5, "loadBytes": 0.25}, "int8": {"scalar": 0.75, "branchMisses": 20.0}}


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A copy of this repository's fleet."""
    root = tmp_path / "fleet"
    for name in ("hardware", "models"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copy(ROOT / "fleet.yaml", root)
    return root


def run(fleet: Path, *words: str) -> Result:
    return CliRunner().invoke(command, ["--root", str(fleet), *words])


def refused(fleet: Path, *words: str) -> Any:
    error = run(fleet, *words).exception
    assert error is not None
    return error


@pytest.fixture
def measured(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A device's document; its nets are made again and counted without an emulator."""
    world = World.of(RATES)
    monkeypatch.setattr("edgewright.bench.calibration.calibrate.make_kit", lambda *_: world.kit)
    monkeypatch.setattr("edgewright.bench.calibration.calibrate.counting_target", lambda *_: _Target())
    monkeypatch.setattr("edgewright.bench.counting.build.build", lambda _: Path("plugin.so"))

    def counted(_target: object, nets: list[Net], *_: object, **__: object) -> dict[str, Any]:
        return {net.name: world.counts[net.name] for net in nets}

    monkeypatch.setattr("edgewright.bench.calibration.batch.count_nets", counted)
    return world


class _Target:
    label = "some core"


def test_an_unknown_class_is_named_with_those_there_are(fleet: Path) -> None:
    error = refused(fleet, "raspberry-pi-5")
    assert isinstance(error, SpecError)
    assert str(error) == "there is no hardware class 'raspberry-pi-5'"
    assert "raspberry-pi-4" in str(error.hint)


def test_an_accelerator_is_not_calibrated(fleet: Path) -> None:
    assert "runs models on an accelerator" in str(refused(fleet, "jetson-vision-standard"))


def test_another_architecture_is_refused_before_anything_is_made(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "_made", None)
    error = refused(fleet, FOREIGN)
    assert isinstance(error, EnvironmentFault)
    assert f"this machine is {host_arch()}" in str(error)
    assert error.hint == f"edgewright calibrate {FOREIGN} --kit kit.zip, to measure on a device"


def test_making_and_fitting_are_two_things(fleet: Path) -> None:
    assert "one at a time" in str(refused(fleet, CLASS, "--kit", "a", "--measured", "b"))


def test_a_kit_is_made_for_any_architecture_and_says_what_comes_next(fleet: Path, tmp_path: Path) -> None:
    kit = tmp_path / "kit.zip"
    before = (fleet / f"hardware/{CLASS}.yaml").read_bytes()
    ran = run(fleet, CLASS, "--kit", str(kit), "--nets", "8")
    assert ran.exit_code == 0, ran.output
    assert "next, on the device: edgewright-agent calibrate kit.zip --out measured.json" in ran.output
    with zipfile.ZipFile(kit) as file:
        described = json.loads(file.read("kit.json"))
    assert (described["hardwareClass"], len(described["nets"])) == (CLASS, 8)
    assert described["runtime"]["threads"] == 3
    assert (fleet / f"hardware/{CLASS}.yaml").read_bytes() == before


def test_a_kit_that_cannot_be_written_is_an_error(fleet: Path, tmp_path: Path) -> None:
    error = refused(fleet, CLASS, "--kit", str(tmp_path / "no/such/folder/kit.zip"), "--nets", "8")
    assert isinstance(error, EnvironmentFault)
    assert "cannot write" in str(error)


def test_what_a_device_measured_becomes_the_classes_figures(
    fleet: Path, measured: World, tmp_path: Path
) -> None:
    ran = run(fleet, CLASS, "--measured", str(measured.write(tmp_path / "measured.json")))
    assert ran.exit_code == 0, (ran.output, ran.exception)
    assert "on nets left out" in ran.output
    assert f"wrote hardware/{CLASS}.yaml" in ran.output
    emulation = load_fleet(fleet).hardware[CLASS].emulation
    assert emulation.cycles_by_kind is not None
    assert emulation.cycles_by_kind.fp32.loads == pytest.approx(1.5, rel=0.01)
    assert emulation.calibration == "measured"
    again = (fleet / f"hardware/{CLASS}.yaml").read_bytes()
    assert run(fleet, CLASS, "--measured", str(tmp_path / "measured.json")).exit_code == 0
    assert (fleet / f"hardware/{CLASS}.yaml").read_bytes() == again


def test_a_dry_run_shows_the_difference_and_changes_nothing(
    fleet: Path, measured: World, tmp_path: Path
) -> None:
    path = fleet / f"hardware/{CLASS}.yaml"
    before = path.read_bytes()
    ran = run(fleet, CLASS, "--dry-run", "--measured", str(measured.write(tmp_path / "measured.json")))
    assert ran.exit_code == 0, (ran.output, ran.exception)
    lines = ran.output.splitlines()
    assert f"--- hardware/{CLASS}.yaml" in lines
    assert "+  calibration: measured" in lines
    assert not [line for line in lines if line.startswith("-") and not line.startswith("---")]
    assert path.read_bytes() == before


def test_a_document_of_another_kit_class_or_kind_is_refused(
    fleet: Path, measured: World, tmp_path: Path
) -> None:
    path = tmp_path / "measured.json"
    kit = {**measured.document["kit"], "digest": "sha256:" + 64 * "0"}
    assert "cannot be made again" in str(
        refused(fleet, CLASS, "--measured", str(measured.write(path, kit=kit)))
    )
    error = refused(fleet, "medical-cart-cpu", "--measured", str(measured.write(path)))
    assert "measured for raspberry-pi-4, not for medical-cart-cpu" in str(error)
    path.write_text("{}")
    assert isinstance(refused(fleet, CLASS, "--measured", str(path)), BuildError)
    assert isinstance(refused(fleet, CLASS, "--measured", str(tmp_path / "missing.json")), BuildError)


def test_no_user_sees_a_traceback(fleet: Path) -> None:
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "from edgewright.cli import main; main()",
            "calibrate",
            "nothing",
            "--root",
            str(fleet),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: there is no hardware class 'nothing'")
    assert "Traceback" not in ran.stderr
