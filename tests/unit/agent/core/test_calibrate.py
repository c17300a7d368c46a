"""Measuring a kit: with the real engine, in fresh processes, and whatever is wrong with a net."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.bench.target import probe
from edgewright_agent import calibrate
from edgewright_agent.calibrate import measure, noise
from edgewright_agent.cli import main
from edgewright_agent.errors import AgentError
from edgewright_agent.kit import Kit
from unit.agent.core.kits import MODELS, document, write


def measured(tmp_path: Path, *words: str, **kit: Any) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit code and what it wrote."""
    out = tmp_path / "measured.json"
    path = write(tmp_path / "kit.zip", **kit)
    code = main(["calibrate", str(path), "--out", str(out), *words])
    return code, json.loads(out.read_text()) if out.exists() else {}


def test_every_net_is_measured_once_in_every_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = measured(tmp_path, "--rounds", "2")
    assert code == 0
    assert found["nets"].keys() == MODELS.keys()
    for times in found["nets"].values():
        assert times.keys() == {"cpuMs", "wallMs", "threadsMs", "loadCpuMs", "loadMs"}
        assert all(len(values) == 2 and min(values) > 0 for values in times.values())
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "next, in the fleet's repository: edgewright calibrate raspberry-pi-4 --measured FILE"


def test_the_document_tells_device_engine_and_kit(tmp_path: Path) -> None:
    import onnxruntime

    _, found = measured(tmp_path, "--rounds", "1")
    with Kit(tmp_path / "kit.zip") as kit:
        assert found["kit"] == {
            "digest": kit.digest,
            "hardwareClass": "raspberry-pi-4",
            "recipe": document()["recipe"],
        }
    assert found["engine"] == f"onnxruntime {onnxruntime.__version__}"
    assert found["processor"]
    assert found["machine"]
    assert found["date"].endswith("Z")
    assert (found["threads"], found["rounds"]) == (2, 1)


def test_a_class_with_one_thread_is_measured_with_one(tmp_path: Path) -> None:
    described = document(runtime={**document()["runtime"], "threads": 1})
    _, found = measured(tmp_path, "--rounds", "1", described=described)
    assert all("threadsMs" not in times for times in found["nets"].values())


def test_a_net_that_cannot_run_is_told_and_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {**MODELS, "broken-fp32": b"not a model"}
    code, found = measured(tmp_path, "--rounds", "2", models=models)
    assert code == 0
    assert "failure" in found["nets"]["broken-fp32"]
    assert len(found["nets"]["small-fp32"]["cpuMs"]) == 2
    assert "1 could not run here" in capsys.readouterr().out


def test_a_net_that_kills_its_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    code, found = measured(tmp_path, "--rounds", "1")
    assert (code, found) == (3, {})


def test_no_answer_in_time_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "NET_TIMEOUT_S", 0.001)
    with Kit(write(tmp_path / "kit.zip")) as kit, pytest.raises(AgentError, match="no answer within 0.001 s"):
        measure(kit, rounds=1)


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    with Kit(write(tmp_path / "kit.zip")) as kit:
        measure(kit, rounds=2, progress=lambda *step: seen.append(step))
    assert [done for done, _, _ in seen] == [0, 1, 2, 3, 4]
    assert {total for _, total, _ in seen} == {4}


def test_what_cannot_be_written_is_said_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "measure", None)
    kit = str(write(tmp_path / "kit.zip"))
    for out in (tmp_path / "no" / "such" / "folder.json", tmp_path):
        assert main(["calibrate", kit, "--out", str(out)]) == 1
        assert "bad-out" in capsys.readouterr().err


def test_an_engine_outside_the_classes_range_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described = document(runtime={**document()["runtime"], "versions": ">=9"})
    code, _ = measured(tmp_path, described=described)
    assert code == 3
    assert "runtime-version: the class runs onnxruntime >=9" in capsys.readouterr().err


@pytest.mark.parametrize("rounds", ["0", "21", "-1", "x", "1.5"])
def test_rounds_are_a_small_number(tmp_path: Path, rounds: str) -> None:
    with pytest.raises(SystemExit) as ended:
        measured(tmp_path, "--rounds", rounds)
    assert ended.value.code == 1


def test_inputs_differ_from_one_inference_to_the_next_and_are_those_of_the_emulator() -> None:
    shape = [1, 3, 5, 7]
    first, second = noise(shape, 0), noise(shape, 1)
    assert not np.array_equal(first, second)
    assert first.dtype == np.float32
    assert -1 <= first.min() < -0.9
    assert 0.9 < first.max() < 1
    for turn in (0, 1, 63):
        np.testing.assert_array_equal(noise(shape, turn), probe.noise(np, shape, turn))
