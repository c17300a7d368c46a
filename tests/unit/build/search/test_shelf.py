from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgewright.build.search.shelf import Shelf, key_of


def test_a_result_is_made_once(tmp_path: Path) -> None:
    made = []
    shelf = Shelf(tmp_path)
    for _ in range(2):
        assert shelf.get("ab12", lambda: made.append(1) or b"result") == b"result"
    assert made == [1]


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 50])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    shelf = Shelf(tmp_path)
    shelf.get("ab12", lambda: b"result")
    (tmp_path / "ab" / "12").write_bytes(damage)
    assert shelf.get("ab12", lambda: b"again") == b"again"
    assert shelf.get("ab12", lambda: b"never") == b"again"


def test_a_shelf_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert Shelf(tmp_path / "file").get("ab12", lambda: b"result") == b"result"


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for age, key in enumerate(("aa1", "bb2", "cc3")):
        shelf.get(key, lambda: b"x" * 68)
        os.utime(tmp_path / key[:2] / key[2:], (1000 - age, 1000 - age))
    shelf.get("cc3", lambda: b"never")
    shelf.tidy(most_bytes=200)
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["1", "3"]


def test_without_a_folder_nothing_is_kept() -> None:
    assert Shelf().document("ab12", lambda: {"a": 1}) == {"a": 1}


def test_a_key_depends_on_everything_and_not_on_its_order() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})
