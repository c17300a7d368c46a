"""Evidence of failures: kept until acknowledged, bounded, never in the way of a tombstone."""

from __future__ import annotations

import errno
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from edgewright_agent import evidence
from edgewright_agent.cli import main
from edgewright_agent.clock import Uptime
from edgewright_agent.commands.evidence import _lines, _plain
from edgewright_agent.errors import HealthError
from edgewright_agent.evidence import (
    MAX_BYTES,
    MAX_KEPT,
    MAX_KEPT_OF_MODEL,
    Archive,
    Entry,
    document_of,
)
from edgewright_agent.files import Calls, Disk
from edgewright_agent.health import check
from edgewright_agent.record import Record
from unit.agent.core.workbench import MODEL, NOW, Bench, make_artifact

DIGEST = "sha256:" + "ab12cd34ef56" + "0" * 52
ONE, TWO = make_artifact("1.0.0"), make_artifact("2.0.0")


def failure(**facts: Any) -> dict[str, Any]:
    error = HealthError("health-crash", "died of SIGSEGV", facts)
    return document_of(
        MODEL, DIGEST, "1.0.0", error, record=Record(boots=3), now=NOW, up=Uptime("this boot", 90)
    )


def names(archive: Archive) -> list[tuple[str, bool]]:
    return [(entry.name, entry.acknowledged) for entry in archive.entries()]


class Full(Calls):
    """A disk on which nothing new can be opened for writing below `evidence`; renames and removals go on."""

    def open(self, path: Path, flags: int) -> int:
        if evidence.FOLDER in path.parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().open(path, flags)


def test_evidence_says_what_was_seen_and_where(tmp_path: Path) -> None:
    archive = Archive(tmp_path, Disk())
    told = failure(
        exit={"signal": "SIGSEGV"}, stderr="a\x1b[2Jb\nlast", stage="soaking", engine="onnxruntime 9"
    )
    assert archive.keep(MODEL, DIGEST, told) == "ab12cd34ef56-1.json"
    (entry,) = archive.entries(MODEL)
    found = entry.document()
    assert found == json.loads(json.dumps(told))
    assert (found["code"], found["exit"], found["stage"]) == (
        "health-crash",
        {"signal": "SIGSEGV"},
        "soaking",
    )
    assert found["stderr"] == "a?[2Jb\nlast", "nothing that moves a cursor"
    assert found["boot"] == {"id": "this boot", "number": 3, "upS": 90}
    assert found["memory"]["totalBytes"] > found["memory"]["availableBytes"] > 0
    assert (found["engine"], found["kernel"][:5]) == ("onnxruntime 9", "Linux")


def test_what_a_child_said_stands_in_for_nothing_that_the_agent_knows() -> None:
    facts = dict.fromkeys(failure(), "made up")
    told = failure(**facts, seconds=1.5)
    assert told | {"stderr": "", "engine": ""} == failure() | {"stderr": "", "engine": "", "seconds": 1.5}
    assert "tries" not in failure(tries=["made up"])


@pytest.mark.parametrize(
    "said",
    [
        '{"code": "x"}',
        '{"code": "health-' + "x" * 50_000 + '", "message": ""}',
        '{"code": "waits-for-window", "message": ""}',
    ],
)
@pytest.mark.parametrize("stage", ['"x": "\\ud800"', '"bareBytes": 1e999', '"code": "installed"'])
def test_a_child_that_a_model_has_taken_over_is_given_up_like_any_other(
    tmp_path: Path, said: str, stage: str
) -> None:
    line = f'{{"stage": "loading", {stage}}}\n'.encode()
    program = f"import os; os.write(int(os.environ['EDGEWRIGHT_HEALTH_PULSE']), {line!r}); print({said!r})"
    bench = Bench(tmp_path)
    bench.publish(ONE)
    bench.once()
    bench.doctor = cast("Any", partial(check, command=(sys.executable, "-c", program)))
    bench.publish(TWO, attempts=2)
    assert (bench.codes(), bench.running()) == (["health-crash"], "1.0.0")
    (stone,) = bench.ledger.record.model(MODEL).tombstones
    (entry,) = Archive(bench.state, Disk()).entries()
    assert (stone.evidence, entry.document()["code"]) == (entry.name, "health-crash")


def test_a_file_has_a_bound_whatever_a_child_wrote(tmp_path: Path) -> None:
    archive = Archive(tmp_path, Disk())
    archive.keep(MODEL, DIGEST, failure(stderr="\U0001f4a5" * 10**6, providers=["x" * 10**6]))
    (entry,) = archive.entries()
    assert entry.path.stat().st_size <= MAX_BYTES
    assert entry.document()["reason"] == "died of SIGSEGV"


def test_acknowledged_evidence_goes_first_and_then_the_oldest(tmp_path: Path) -> None:
    archive = Archive(tmp_path, Disk())
    for _ in range(MAX_KEPT_OF_MODEL):
        archive.keep(MODEL, DIGEST, failure())
    assert archive.acknowledge([entry for entry in archive.entries() if entry.number == 5]) == 1
    archive.keep(MODEL, DIGEST, failure())
    archive.keep(MODEL, DIGEST, failure())
    kept = [name for name, _ in names(archive)]
    assert len(kept) == MAX_KEPT_OF_MODEL
    assert "ab12cd34ef56-5.json" not in kept
    assert "ab12cd34ef56-1.json" not in kept
    assert kept[-1] == "ab12cd34ef56-10.json"


def test_many_models_share_one_bound(tmp_path: Path) -> None:
    archive = Archive(tmp_path, Disk())
    for number in range(MAX_KEPT + 5):
        assert archive.keep(f"model-{number}", DIGEST, failure())
    assert len(archive.entries()) == MAX_KEPT


def test_acknowledging_twice_is_nothing(tmp_path: Path) -> None:
    archive = Archive(tmp_path, Disk())
    archive.keep(MODEL, DIGEST, failure())
    assert [archive.acknowledge(archive.entries()) for _ in range(2)] == [1, 0]
    assert names(archive) == [("ab12cd34ef56-1.json", True)]
    assert archive.last(MODEL, DIGEST)


def test_damaged_evidence_is_told_as_that(tmp_path: Path) -> None:
    archive = Archive(tmp_path, Disk())
    archive.keep(MODEL, DIGEST, failure())
    archive.entries()[0].path.write_bytes(b"\0" * 4096)
    assert archive.entries()[0].document()["code"] == "unreadable"


def test_a_failed_trial_leaves_a_tombstone_that_names_its_evidence(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish(ONE, attempts=2)
    bench.doctor.verdicts["1.0.0"] = HealthError("health-crash", "died", {"exit": {"signal": "SIGBUS"}})
    assert bench.codes() == ["health-crash"]
    (stone,) = bench.ledger.record.model(MODEL).tombstones
    (entry,) = Archive(bench.state, Disk()).entries()
    assert stone.evidence == entry.name
    found = entry.document()
    assert [attempt["exit"] for attempt in found["tries"]] == [{"signal": "SIGBUS"}] * 2
    assert (found["digest"], found["attemptsLeft"], found["modelVersion"]) == (ONE.digest, 0, "1.0.0")


def test_a_full_disk_holds_no_tombstone_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, calls=Full())
    bench.publish(ONE)
    bench.doctor.verdicts["1.0.0"] = HealthError("health-wrong-output", "off by 3")
    assert bench.codes() == ["health-wrong-output"]
    (stone,) = bench.ledger.record.model(MODEL).tombstones
    assert (stone.evidence, stone.reason) == (None, "off by 3")
    assert bench.codes() == ["tombstoned"]


def test_a_full_disk_takes_the_room_of_what_was_acknowledged(tmp_path: Path) -> None:
    archive = Archive(tmp_path, Disk())
    archive.keep(MODEL, DIGEST, failure())
    archive.acknowledge(archive.entries())
    old = archive.entries()[0].path

    class Tight(Calls):
        """Room for a file only once the acknowledged one has gone."""

        def open(self, path: Path, flags: int) -> int:
            if old.exists():
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().open(path, flags)

    assert Archive(tmp_path, Disk(Tight())).keep(MODEL, DIGEST, failure()) == "ab12cd34ef56-1.json"


def test_evidence_of_a_trial_that_was_cut_before_its_tombstone_is_not_forgotten(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish(ONE, attempts=1)
    bench.doctor.verdicts["1.0.0"] = HealthError("health-timeout", "no answer within 5 s")
    cut = bench.update()
    commit = cut.ledger.commit

    def dies_at_the_tombstone(record: Record) -> None:
        if record.model(MODEL).tombstones:
            raise KeyboardInterrupt
        commit(record)

    cut.ledger.commit = dies_at_the_tombstone  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    assert not bench.ledger.record.model(MODEL).tombstones
    assert bench.codes() == ["health-timeout"]
    (stone,) = bench.ledger.record.model(MODEL).tombstones
    assert stone.reason == "no answer within 5 s", "and not that no load was survived"
    assert [name for name, _ in names(Archive(bench.state, Disk()))] == [stone.evidence]


def test_the_command_line_shows_and_acknowledges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path)
    config = tmp_path / "agent.json"
    config.write_text(json.dumps(bench.document))
    assert main(["evidence", "--config", str(config)]) == 0
    assert capsys.readouterr().out == "nothing has failed here\n"
    bench.publish(ONE, attempts=1)
    bench.doctor.verdicts["1.0.0"] = HealthError("health-crash", "died", {"stderr": "one\ntwo"})
    bench.once()
    main(["evidence", MODEL, "--config", str(config)])
    shown = capsys.readouterr().out
    assert shown.startswith(f"{MODEL}  1.0.0 ")
    assert "  reason   died\n" in shown
    assert "  | two\nnext, when it is noted: edgewright-agent acknowledge digit-reader\n" in shown
    main(["evidence", "--json", "--config", str(config)])
    assert json.loads(capsys.readouterr().out)["acknowledged"] is False
    assert main(["acknowledge", "--all", "--config", str(config)]) == 0
    assert capsys.readouterr().out == "1 piece(s) of evidence acknowledged\n"
    assert bench.ledger.record.counters["acknowledged"] == 1
    main(["evidence", "--config", str(config)])
    assert "(acknowledged)" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["acknowledge", "--config", str(config)])


def test_what_a_failing_model_wrote_moves_no_cursor_on_a_terminal(tmp_path: Path) -> None:
    """Also where somebody else has written the file: nothing in it is believed."""
    folder = tmp_path / "evidence" / "digit-reader"
    folder.mkdir(parents=True)
    told = {
        "version": 1,
        "code": "\x1b[2J",
        "reason": "\x1b]0;x\x07",
        "engine": "\x9b1A",
        "stderr": "a\x1b[1A",
    }
    (folder / "ab12cd34ef56-1.json").write_text(json.dumps(told))
    (entry,) = Archive(tmp_path, Disk()).entries()
    lines = [_plain(line) for line in _lines(entry, entry.document())]
    assert all(line.isprintable() for line in lines)
    assert any("?[2J" in line for line in lines)


@pytest.mark.parametrize(
    "told", [{"boot": 7, "tries": 1.5}, {"boot": [1], "tries": [7, None]}, {"stderr": 7}]
)
def test_evidence_that_a_bad_disk_has_changed_is_shown_as_far_as_it_goes(
    told: dict[str, Any], tmp_path: Path
) -> None:
    entry = Entry("digit-reader", "ab12cd34ef56-1.json", acknowledged=False, path=tmp_path / "x")
    assert next(_lines(entry, {"code": "health-crash", **told})).startswith("digit-reader  ?")
    list(_lines(entry, told))
