"""A note that is believed wrongly hides a change for ever, so every test here changes something and asks again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgewright.errors import EnvironmentFault
from edgewright.plan.settled import Settled, fingerprint

PUBLIC_KEY = ".edgewright/keys/signing.pub"
MODEL = "models/digit-reader"


@pytest.fixture
def fleet(workspace: Path) -> Path:
    (workspace / PUBLIC_KEY).parent.mkdir(parents=True)
    (workspace / PUBLIC_KEY).write_text("public key")
    (workspace / "result").write_text("bytes")
    (workspace / "baselines").mkdir()
    (workspace / "baselines" / "digit-reader.yaml").write_text("version: 1\n")
    return workspace


def keep(fleet: Path, began: str | None = None) -> None:
    Settled("done", 2).keep(fleet, began or fingerprint(fleet), [PUBLIC_KEY], [fleet / "result"])


def append(file: Path, text: str = "\n# words\n") -> None:
    file.write_text(file.read_text() + text)


def test_what_was_said_comes_back_with_its_exit_code_while_nothing_changes(fleet: Path) -> None:
    keep(fleet)
    assert Settled.find(fleet) == Settled("done", 2)


@pytest.mark.parametrize(
    "name",
    [
        "fleet.yaml",
        "hardware/raspberry-pi-4.yaml",
        "baselines/digit-reader.yaml",
        f"{MODEL}/model.yaml",
        f"{MODEL}/data.py",
        PUBLIC_KEY,
    ],
)
def test_a_changed_file_ends_the_note(fleet: Path, name: str) -> None:
    keep(fleet)
    append(fleet / name)
    assert Settled.find(fleet) is None


def test_a_new_file_beside_a_model_ends_the_note(fleet: Path) -> None:
    keep(fleet)
    (fleet / MODEL / "samples.csv").write_text("1\n")
    assert Settled.find(fleet) is None


def test_a_new_baseline_ends_the_note(fleet: Path) -> None:
    keep(fleet)
    (fleet / "baselines" / "vibration-monitor.yaml").write_text("version: 1\n")
    assert Settled.find(fleet) is None


def test_a_lost_result_ends_the_note(fleet: Path) -> None:
    keep(fleet)
    (fleet / "result").unlink()
    assert Settled.find(fleet) is None


def test_a_file_edited_while_a_run_went_on_is_not_covered_by_its_answer(fleet: Path) -> None:
    began = fingerprint(fleet)
    append(fleet / "hardware" / "raspberry-pi-4.yaml")
    keep(fleet, began)
    assert Settled.find(fleet) is None


def test_an_edit_behind_a_link_ends_the_note(fleet: Path) -> None:
    elsewhere = fleet.parent / "elsewhere"
    (fleet / MODEL).rename(elsewhere)
    (fleet / MODEL).symlink_to(elsewhere)
    keep(fleet)
    append(elsewhere / "model.yaml")
    assert Settled.find(fleet) is None


def test_links_in_a_circle_and_to_nowhere_are_no_obstacle(fleet: Path) -> None:
    (fleet / MODEL / "again").symlink_to(fleet / "models")
    (fleet / MODEL / "nowhere.txt").symlink_to("/nowhere/at/all")
    keep(fleet)
    assert Settled.find(fleet) is not None


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"fingerprint": 1, "reads": 1}', "\x00"])
def test_a_damaged_note_is_no_note(fleet: Path, text: str) -> None:
    keep(fleet)
    (fleet / ".edgewright" / "state" / "settled.json").write_text(text)
    assert Settled.find(fleet) is None


def test_a_note_that_cannot_be_written_is_one_sentence_and_leaves_nothing(fleet: Path) -> None:
    folder = fleet / ".edgewright" / "state"
    (folder / "settled.json" / "in-the-way").mkdir(parents=True)
    with pytest.raises(EnvironmentFault, match="cannot write .*settled.json"):
        keep(fleet)
    assert [path.name for path in folder.iterdir()] == ["settled.json"]


def test_a_note_tells_no_contents_of_files(fleet: Path) -> None:
    keep(fleet)
    note = json.loads((fleet / ".edgewright" / "state" / "settled.json").read_text())
    assert set(note) == {"fingerprint", "reads", "results", "text", "exitCode"}
    assert len(note["fingerprint"]) == 64
