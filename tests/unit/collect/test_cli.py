"""`edgewright collect`: reports in, the fleet out."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgewright.cli import collect
from edgewright.collect.report import Report
from edgewright.collect.store import Store
from edgewright.errors import EnvironmentFault, GateError
from edgewright_agent.identity.command import report
from unit.devices.plant import DAY, Plant


def run(plant: Plant, *arguments: str | Path) -> Result:
    return CliRunner().invoke(collect.command, ["--root", str(plant.root), *map(str, arguments)])


def reported(plant: Plant, name: str, folder: Path) -> Path:
    file = folder / f"{name}.json"
    file.write_bytes(report(plant.device(name).config, plant.now))
    return file


def test_reports_become_the_fleets_table(plant: Plant, tmp_path: Path) -> None:
    plant.enroll(plant.device("a"), plant.device("b"), plant.device("c"))
    plant.revoke("c")
    done = run(plant, reported(plant, "a", tmp_path))
    assert done.exit_code == 0, done.output
    lines = {line.split()[0]: line for line in done.stdout.splitlines()[1:]}
    assert "2030-01-01T00:00:00Z" in lines["a"]
    assert "never reported" in lines["b"]
    assert "revoked" in lines["c"]


def test_what_was_refused_is_told_and_the_rest_counts(plant: Plant, tmp_path: Path) -> None:
    plant.enroll(plant.device("a"))
    good, bad = reported(plant, "a", tmp_path), reported(plant, "stranger", tmp_path)
    done = run(plant, bad, good, "--json")
    assert isinstance(done.exception, GateError)
    told = json.loads(done.stdout)
    assert [entry["device"] for entry in told["accepted"]] == ["a"]
    assert [entry["reason"] for entry in told["refused"]] == ["unknown-device"]
    again = run(plant, good)
    assert "replayed" in again.stderr


def test_labels_that_differ_from_what_was_reviewed_are_shown(plant: Plant, tmp_path: Path) -> None:
    plant.enroll(plant.device("a", labels={"line": "inspection"}))
    (tmp_path / "a.json").write_bytes(report(plant.device("a", labels={"line": "press"}).config, plant.now))
    assert "(labels differ)" in run(plant, tmp_path / "a.json").stdout


def test_a_later_report_replaces_the_earlier(plant: Plant, tmp_path: Path) -> None:
    plant.enroll(plant.device("a"))
    run(plant, reported(plant, "a", tmp_path))
    plant.now += DAY
    assert "2030-01-02T00:00:00Z" in run(plant, reported(plant, "a", tmp_path)).stdout


def test_a_missing_file_or_database_is_one_sentence(plant: Plant, tmp_path: Path) -> None:
    assert isinstance(run(plant, tmp_path / "none.json").exception, EnvironmentFault)
    (tmp_path / "text.sqlite").write_text("no database at all, but long enough to be read as one" * 30)
    failed = run(plant, "--database", tmp_path / "text.sqlite")
    assert isinstance(failed.exception, EnvironmentFault)
    assert "text.sqlite" in str(failed.exception)


def test_of_two_collectors_with_the_same_report_one_is_told_that_it_is_new(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    Store(path).close()
    accepted: list[int] = []

    def collect_all() -> None:
        with Store(path) as store:
            for sequence in range(1, 41):
                if store.advance(Report("a", "k", sequence, {})) is None:
                    accepted.append(sequence)

    threads = [threading.Thread(target=collect_all) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(accepted) == len(set(accepted))
    assert max(accepted) == 40


@pytest.mark.parametrize("status", [{}, {"state": 7, "models": [], "device": None}, {"models": {"m": "x"}}])
def test_a_device_that_signs_nonsense_still_makes_a_line(
    plant: Plant, tmp_path: Path, status: object
) -> None:
    from edgewright_agent import report_signing

    pump = plant.device("a")
    plant.enroll(pump)
    document = {
        "version": 1,
        "device": "a",
        "fleet": None,
        "sequence": 1,
        "time": "\x1b[2J",
        "status": status,
    }
    (tmp_path / "a.json").write_bytes(report_signing.sign(pump.key, document))
    done = run(plant, tmp_path / "a.json")
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.stdout
