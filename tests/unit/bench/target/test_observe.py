"""What is remembered of a target's answers, on this machine's own processor."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgewright.bench.target import observe as observing
from edgewright.bench.target.emulator import Target, native_target
from edgewright.bench.target.observe import Memo, harness, observe, question
from edgewright.bench.target.processor import Core
from unit.bench.target import models


@pytest.fixture
def target() -> Target:
    return native_target(Core("amd64", None, "this machine", 1))


@pytest.fixture
def memo(tmp_path: Path) -> Memo:
    return Memo(tmp_path / "cache")


def asked(folder: Path, case: models.Case, **changes: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    model, _ = case.write(folder)
    return {"model": str(model), "inputs": case.golden["inputs"], **changes}


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_the_same_question_is_answered_without_a_process(target: Target, memo: Memo, tmp_path: Path) -> None:
    first = observe(target, asked(tmp_path / "a", models.relu()), timeout_s=60, memo=memo)
    nowhere = replace(target, environment={**target.environment, "PATH": "/nonexistent"})
    again = observe(nowhere, asked(tmp_path / "b", models.relu()), timeout_s=0, memo=memo)
    assert again == first
    assert "outputs" in again.answer
    assert "times" not in again.answer


def test_another_model_request_limit_or_place_is_another_question(target: Target, tmp_path: Path) -> None:
    plain = asked(tmp_path, models.relu())
    keys = [
        question(target, plain, None, None),
        question(target, plain, None, 2**20),
        question(target, plain, tmp_path / "counting-1.so", None),
        question(target, {**plain, "arena": False}, None, None),
        question(replace(target, label="another"), plain, None, None),
        question(replace(target, userland="sha256:1"), plain, None, None),
        question(target, asked(tmp_path / "other", models.relu(opset=19)), None, None),
        question(target, {**plain, "data": str(written(tmp_path / "weights", b"1"))}, None, None),
        question(target, {**plain, "data": str(written(tmp_path / "weights", b"2"))}, None, None),
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "entry", ["", "[]", '{"answer": {}}', '{"answer": 1, "spans": []}', '{"answer": {}, "spans": [1]}']
)
def test_an_entry_of_another_shape_is_none(memo: Memo, entry: str) -> None:
    memo.folder.mkdir(parents=True)
    (memo.folder / "a.json").write_text(entry)
    assert memo.find("a") is None


def test_a_full_disk_leaves_nothing_behind(memo: Memo) -> None:
    memo.folder.mkdir(parents=True)
    (memo.folder / "a.json").mkdir()  # no file can take its place
    memo.keep("a", {"outputs": 1}, ())
    assert [path.name for path in memo.folder.iterdir()] == ["a.json"]


def test_counts_of_two_harnesses_can_be_told_apart(target: Target) -> None:
    places = [target, replace(target, userland="sha256:1")]
    assert len({harness(place, plugin) for place in places for plugin in (None, Path("counting-1.so"))}) == 4


def test_a_failure_of_the_model_is_kept_and_one_of_this_machine_is_not(
    target: Target, memo: Memo, tmp_path: Path
) -> None:
    observe(target, asked(tmp_path, models.unknown_operator()), timeout_s=60, memo=memo)
    assert len(list(memo.folder.iterdir())) == 1
    slow = observe(target, asked(tmp_path, models.relu()), timeout_s=0.0, memo=memo)
    assert slow.answer["failure"] == "timed-out"
    assert len(list(memo.folder.iterdir())) == 1


def test_a_failure_is_told_the_same_wherever_the_model_lies(target: Target, tmp_path: Path) -> None:
    case = models.Case(b"not a model" * 9, models.ROW, models.ROW)
    said = {
        observe(target, asked(tmp_path / place, case), timeout_s=60).answer["message"] for place in ("a", "b")
    }
    assert len(said) == 1
    assert str(tmp_path) not in said.pop()


def test_the_longest_unused_goes_first(memo: Memo, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, key in enumerate(("a", "b", "c")):
        memo.keep(key, {"outputs": "x" * 60}, ())
        os.utime(memo.folder / f"{key}.json", (number, number))
    monkeypatch.setattr(observing, "MEMO_BYTES", 250)  # room for two
    assert memo.find("a") is not None  # used just now
    memo.keep("d", {"outputs": "x" * 60}, ())
    assert {path.stem for path in memo.folder.glob("*.json")} == {"a", "d"}


def test_a_disk_that_takes_no_more_costs_the_memo_and_not_the_benchmark(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    memo = Memo(tmp_path / "file")
    memo.keep("a", {"outputs": 1}, ())
    assert memo.find("a") is None
