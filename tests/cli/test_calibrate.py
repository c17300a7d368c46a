"""`edgewright calibrate` at its edges: what it refuses before minutes of work, and the kit it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgewright.bench.calibration import host
from edgewright.bench.target.userland import targets_cache
from edgewright.cli.calibrate import command
from edgewright.errors import BuildError, EdgewrightError, EnvironmentFault, SpecError
from edgewright_agent.kit import Kit
from real import ROOT
from unit.bench.calibration.figures import document

PI = "raspberry-pi-4"


def refused(*words: str) -> EdgewrightError:
    result = CliRunner().invoke(command, ["--root", str(ROOT), *words])
    assert isinstance(result.exception, EdgewrightError), result
    return result.exception


def test_an_unknown_class_is_told_with_those_there_are() -> None:
    error = refused("raspberry-pi-5")
    assert isinstance(error, SpecError)
    assert str(error) == "there is no hardware class 'raspberry-pi-5'"
    assert PI in (error.hint or "") and "medical-cart-cpu" in (error.hint or "")


def test_a_kit_and_a_measured_document_are_two_steps(tmp_path: Path) -> None:
    error = refused(PI, "--kit", str(tmp_path / "kit.zip"), "--measured", str(tmp_path / "measured.json"))
    assert isinstance(error, SpecError)
    assert "one at a time" in str(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [(), ("--kit", "never.zip"), ("--measured", "never.json")])
def test_an_accelerator_is_never_calibrated(words: tuple[str, ...]) -> None:
    error = refused("jetson-vision-standard", *words)
    assert isinstance(error, SpecError)
    assert "runs models on an accelerator, which is not emulated" in str(error)


def test_a_class_of_another_architecture_needs_a_kit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "host_arch", lambda: "riscv64")
    error = refused(PI)
    assert isinstance(error, EnvironmentFault)
    assert "raspberry-pi-4 is arm64 and this machine is riscv64" in str(error)
    assert "edgewright calibrate raspberry-pi-4 --kit kit.zip" in (error.hint or "")


def test_a_kit_is_written_and_the_next_command_told(tmp_path: Path) -> None:
    words = ["--root", str(ROOT), PI, "--kit", str(tmp_path / "kit.zip"), "--nets", "8"]
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0, result
    assert "next, on the device: edgewright-agent calibrate kit.zip --out measured.json" in result.output
    with Kit(tmp_path / "kit.zip") as kit:
        assert (kit.hardware_class, len(kit.nets)) == (PI, 8)


def test_a_foreign_document_is_refused_before_nets_are_made(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    path.write_text("{}")
    assert "is not a calibration that a device measured" in str(refused(PI, "--measured", str(path)))
    path.write_text(json.dumps(document()))
    error = refused("medical-cart-cpu", "--measured", str(path))
    assert "measured for raspberry-pi-4, not for medical-cart-cpu" in str(error)


def test_a_document_of_another_kit_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "measured.json").write_text(json.dumps(document()))
    error = refused(PI, "--measured", str(tmp_path / "measured.json"))
    assert isinstance(error, BuildError)
    assert "the kit that was measured cannot be made again" in str(error)


@pytest.mark.parametrize(
    "words", [("--nets", "7"), ("--nets", "2001"), ("--rounds", "0"), ("--rounds", "21")]
)
def test_numbers_out_of_bounds_are_wrong_usage(words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(command, ["--root", str(ROOT), PI, *words]).exit_code == 2


def test_without_its_emulated_processor_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(host, "host_arch", lambda: "arm64")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert targets_cache().is_relative_to(tmp_path)
    error = refused(PI)
    assert isinstance(error, EnvironmentFault)
    assert "edgewright targets provision" in (error.hint or "")
