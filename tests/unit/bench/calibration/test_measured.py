"""What a device measured comes from outside: it is understood whole, or refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgewright.bench.calibration.measured import read
from edgewright.errors import BuildError
from edgewright_agent.contract import MAX_MEASURED_BYTES
from unit.bench.calibration.documents import World

RATES = {"fp32": {"loads": 1.0}, "int8": {"loads": 2.0}}


@pytest.fixture(scope="module")
def world() -> World:
    return World.of(RATES, nets=4)


def test_the_least_of_all_rounds_counts_and_their_difference_is_told(world: World, tmp_path: Path) -> None:
    found = read(world.write(tmp_path / "measured.json"))
    times, written = found.nets["net-000-fp32"], world.document["nets"]["net-000-fp32"]
    assert times.cpu_ms == min(written["cpuMs"])
    assert times.load_ms == min(written["loadCpuMs"])
    assert found.spread == pytest.approx(0.02)
    assert (found.date, found.processor) == ("2026-03-14", "Raspberry Pi 4 Model B Rev 1.5")


def test_a_net_that_could_not_be_run_is_told_apart(world: World, tmp_path: Path) -> None:
    nets = {**world.document["nets"], "net-000-fp32": {"failure": "Fail: no\nkernel"}}
    found = read(world.write(tmp_path / "measured.json", nets=nets))
    assert found.failures == {"net-000-fp32": "Fail: no kernel"}
    assert "net-000-fp32" not in found.nets


def test_what_a_device_calls_itself_cannot_write_to_a_terminal_or_break_a_line(
    world: World, tmp_path: Path
) -> None:
    found = read(world.write(tmp_path / "measured.json", processor="Acme\n\x1b[2J Board  7"))
    assert found.processor == "Acme [2J Board 7"


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "something-else"},
        {"version": 2},
        {"nets": {}},
        {"nets": {"a": {}}},
        {"nets": {"a": {"cpuMs": [0], "wallMs": [1], "loadCpuMs": [1]}}},
        {"nets": {"a": {"cpuMs": [1e99], "wallMs": [1], "loadCpuMs": [1]}}},
        {"nets": {"a": {"cpuMs": ["1"], "wallMs": [1], "loadCpuMs": [1]}}},
        {"nets": {"a": {"cpuMs": [], "wallMs": [1], "loadCpuMs": [1]}}},
        {"nets": {"a": {"failure": "it cannot"}}},
        {"nets": {str(n): {"failure": "no"} for n in range(3000)}},
        {"nets": 7},
        {"kit": None},
        {"processor": 7},
    ],
    ids=lambda changes: json.dumps(changes)[:40],
)
def test_what_is_no_such_document_is_refused_in_one_sentence(
    world: World, tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = world.write(tmp_path / "measured.json", **changes)
    with pytest.raises(BuildError, match="is not a calibration that a device measured") as refused:
        read(path)
    assert "edgewright-agent calibrate" in str(refused.value.hint)


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"[" * 100_000, b"\xff\xfe"], ids=range(5))
def test_a_file_of_another_kind_is_refused(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "measured.json"
    path.write_bytes(body)
    with pytest.raises(BuildError, match="is not a calibration that a device measured"):
        read(path)


def test_no_more_than_a_bounded_part_of_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    with path.open("wb") as stream:
        stream.truncate(MAX_MEASURED_BYTES + 1)
    with pytest.raises(BuildError, match="too large"):
        read(path)
    with pytest.raises(BuildError, match="cannot be read: No such file"):
        read(tmp_path / "missing.json")
