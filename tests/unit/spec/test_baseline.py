from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.spec.base import NAME
from edgewright.spec.baseline import Baseline, ClassBaseline, baseline_file_of, text_of
from edgewright.spec.document import load_document
from edgewright.spec.load import load_fleet

from .conftest import SHEET, Repository, entry, only, problems_of

FILE = "baselines/reader.yaml"


def test_what_is_written_is_read_as_a_part_of_the_fleet(repository: Repository) -> None:
    repository.write(FILE, text_of("reader", [entry()]))
    workspace = load_fleet(repository.root)
    assert workspace.baseline_of("reader", "board") == entry()
    assert workspace.line(FILE, ("classes", 0, "instructions", "inference")) == f"{FILE}:12"


def test_a_fleet_without_baselines_has_none(repository: Repository) -> None:
    workspace = load_fleet(repository.root)
    assert workspace.baselines == {}
    assert workspace.baseline_of("reader", "board") is None


def test_a_class_that_was_never_recorded_has_none(repository: Repository) -> None:
    repository.write("hardware/second.yaml", SHEET)
    repository.write(FILE, text_of("reader", [entry()]))
    assert load_fleet(repository.root).baseline_of("reader", "second") is None


def test_the_file_says_what_it_is_and_which_command_writes_it() -> None:
    head = text_of("reader", [entry()]).partition("version: 1\n")[0]
    assert "reader" in head
    assert "edgewright baseline --write" in head


def test_the_same_entries_give_the_same_text_in_any_order() -> None:
    names = ["zebra", "board", "alpha"]
    texts = {text_of("reader", map(entry, order)) for order in (names, names[::-1], sorted(names))}
    assert len(texts) == 1
    text = texts.pop()
    assert text.index("alpha") < text.index("board") < text.index("zebra")


@pytest.mark.parametrize("name", ["7", "true", "null", "1e3", "0o7", "y"])
def test_a_name_that_looks_like_a_number_or_a_word_of_yaml_stays_a_name(
    repository: Repository, name: str
) -> None:
    repository.write(f"hardware/{name}.yaml", SHEET)
    repository.write(FILE, text_of("reader", [entry(name)]))
    assert load_fleet(repository.root).baseline_of("reader", name) == entry(name)


_LINES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=80).map(
    str.strip
)


@given(
    st.lists(
        st.builds(
            entry,
            st.from_regex(NAME.pattern, fullmatch=True).filter(NAME.accepts),
            target=_LINES.filter(bool),
            engine=_LINES.filter(bool),
            load=st.integers(1, 10**15),
            inference=st.integers(1, 10**15),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_baseline_reads_back_as_it_was_written(tmp_path: Path, entries: list[ClassBaseline]) -> None:
    file = tmp_path / "reader.yaml"
    file.write_text(text_of("reader", entries), encoding="utf-8")
    loaded = load_document(Baseline, file, FILE, "reader")
    assert loaded.problems == ()
    assert sorted(loaded.document.classes, key=str) == sorted(entries, key=str)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "hardwareClass: board",
            "hardwareClass: baord",
            "5:20: there is no hardware class 'baord' (hardware/baord.yaml); did you mean 'board'?",
        ),
        ("inference: 345108", "inference: 0", "12:18: must be at least 1, not the number 0"),
        ("inference: 345108", "inference: 2.5M", "12:18: must be a whole number, not '2.5M'"),
        ("inference: 345108\n", "", "10:5: missing key 'inference'"),
        ("    engine:", "    engin:", "9:5: unknown key 'engin'; did you mean 'engine'?"),
        ("version: 1\n", "version: 2\n", "3:10: must be 1, not the number 2"),
        (
            "sha256:aa",
            "sha256:AA",
            "7:15: must be a digest: sha256: and 64 hexadecimal digits in lower case",
        ),
    ],
)
def test_a_wrong_baseline_says_what_is_wrong(
    repository: Repository, old: str, new: str, message: str
) -> None:
    repository.write(FILE, text_of("reader", [entry()]))
    repository.edit(FILE, old, new)
    assert only(repository) == f"{FILE}:{message}"


def test_a_class_has_one_entry(repository: Repository) -> None:
    repository.write(FILE, text_of("reader", [entry(), entry()]))
    assert only(repository) == f"{FILE}:13:20: 'board' already has an entry on line 5"


def test_a_class_the_model_is_not_built_for_has_no_baseline(repository: Repository) -> None:
    repository.write("hardware/second.yaml", SHEET)
    repository.append("models/reader/model.yaml", "classes: [second]\n")
    repository.write(FILE, text_of("reader", [entry()]))
    assert (
        only(repository) == f"{FILE}:5:20: 'board' is not one of the 'classes' of reader; delete this entry"
    )


@pytest.mark.parametrize(
    ("model", "hint"), [("raeder", "did you mean 'reader'?"), ("something-else", "delete this file")]
)
def test_a_baseline_of_no_model_names_the_right_one_or_goes(
    repository: Repository, model: str, hint: str
) -> None:
    repository.write(baseline_file_of(model), text_of(model, [entry()]))
    assert only(repository) == (
        f"baselines/{model}.yaml:3:1: there is no model '{model}' (models/{model}/model.yaml); {hint}"
    )


def test_a_mistake_in_a_model_is_not_told_again_at_its_baseline(repository: Repository) -> None:
    repository.append("models/reader/model.yaml", "classes: board\n")
    repository.write(FILE, text_of("reader", [entry()]))
    problems = problems_of(repository)
    assert len(problems) == 1
    assert problems[0].startswith("models/reader/model.yaml:")
