from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml as pyyaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.spec import compose, yaml
from edgewright.spec.problem import Problem
from edgewright.spec.source import Mark
from edgewright.spec.yaml import parse


def only_problem(content: bytes) -> Problem:
    problems = parse("x.yaml", content).problems
    assert len(problems) == 1, [problem.render() for problem in problems]
    return problems[0]


def value_of(text: str) -> object:
    parsed = parse("x.yaml", f"a: {text}\n".encode())
    assert not parsed.problems
    return parsed.data["a"]


@pytest.fixture(params=["libyaml", "pure Python"], autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pure Python":
        monkeypatch.setattr(compose, "_LOADER", pyyaml.SafeLoader)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-1.5E-2", -0.015),
        ("0x1F", 31),
        ("0o17", 15),
        ("+5", 5),
        ("0", 0),
        ("TRUE", True),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ('"true"', "true"),
        ("|\n  5", "5\n"),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    assert value_of(text) == value
    assert type(value_of(text)) is type(value)


@pytest.mark.parametrize(
    ("content", "rendered"),
    [
        (
            b"name: edge\nname: fog\n",
            "x.yaml:2:1: key 'name' is here twice; the first is on line 1\n     2 | name: fog\n       | ^^^^",
        ),
        (
            b"attempts: 010\n",
            "x.yaml:1:11: a leading zero is octal to some programs (8) and not to others (10); "
            "write 10, or '010' in quotes if it is text\n     1 | attempts: 010\n       |           ^^^",
        ),
        (
            b"a:\n\tb: 1\n",
            "x.yaml:2:1: a tab cannot indent; use spaces\n     2 |  b: 1\n       | ^",
        ),
        (
            b"a: 1\n---\nb: 1\n",
            "x.yaml:2:1: a second document starts here; one file is one document\n     2 | ---\n       | ^^^",
        ),
        (
            b"ok: 1\nbad: \xff\n",
            "x.yaml:2:6: byte 0xff is not UTF-8; save the file as UTF-8\n"
            "     2 | bad: \ufffd\n       |      ^",
        ),
        (
            b"a: b: c\n",
            "x.yaml:1:5: a second ':' in this line; put the text in quotes or check the indentation\n"
            "     1 | a: b: c\n       |     ^",
        ),
        (
            b"a: [1, 2\nb: 3\n",
            "x.yaml:1:4: a [ list ] that is not closed; add the missing ',' or ']'\n"
            "     1 | a: [1, 2\n       |    ^",
        ),
        (
            b"<<: {a: 1}\n",
            "x.yaml:1:1: merge key '<<' is not allowed; write the keys out\n     1 | <<: {a: 1}\n       | ^^",
        ),
    ],
)
def test_a_mistake_is_shown_where_it_is(content: bytes, rendered: str) -> None:
    assert only_problem(content).render() == rendered


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"# only a comment\n", "the file is empty"),
        (b"a: \x00", "character U+0000 is invisible"),
        ("a: b\u202e".encode(), "character U+202E is invisible"),
        (b'a: "\\0"', "control character U+0000"),
        (b'a: "\\e[31m"', "control character U+001B"),
        (b"\xff\xfea\x00", "byte 0xff is not UTF-8"),
        (b"a: &x 1\n", "anchor '&x' is not allowed"),
        (b"a: *x\n", "alias '*x' is not allowed"),
        (b"*x : 1\n", "alias '*x' is not allowed"),
        (
            b"a: !!python/object:os.system x\n",
            "tag 'tag:yaml.org,2002:python/object:os.system' is not allowed",
        ),
        (b"%YAML 1.1\n---\na: 1\n", "a '%' directive is not allowed"),
        (b"? [a]\n: b\n", "a key must be plain text"),
        (b"1: x\n", "keys are text and 1 is not"),
        (b"? \n: x\n", "a key is missing"),
        (b"a: .nan\n", ".nan is no number"),
        (b"a: 1e999\n", "too large"),
        (b"a: " + b"9" * 5000, "too many digits"),
        (b"a: " + b"9" * 5000 + b".5", "too large"),
        (b"[" * 100_000, "nested deeper than 32 levels"),
        (b"- " * 100_000, "nested deeper than 32 levels"),
        (b"[" + b"1," * 60_000 + b"]", "more than 50000 values"),
        (b"a" * (1024 * 1024 + 1), "larger than 1024 KiB"),
    ],
)
def test_what_yaml_allows_and_a_review_does_not(content: bytes, words: str) -> None:
    assert words in only_problem(content).message


def test_a_byte_order_mark_moves_no_column() -> None:
    parsed = parse("x.yaml", b"\xef\xbb\xbfa: 1\n")
    assert parsed.data == {"a": 1}
    assert parsed.source.at(("a",)) == Mark(1, 1, 1)


def test_several_mistakes_are_reported_together() -> None:
    messages = [problem.message for problem in parse("x.yaml", b"a: 010\na: &x .inf\nb: *x\n").problems]
    assert len(messages) == 5


def test_every_key_and_value_has_its_place() -> None:
    source = parse("x.yaml", "é: {ü: [1, 'zwei']}\nb:\n  - c: 1\n".encode()).source
    assert source.at(("é",)) == Mark(1, 1, 1)
    assert source.at(("é", "ü")) == Mark(1, 5, 1)
    assert source.at(("é", "ü", 1)) == Mark(1, 12, 6)
    assert source.at(("b", 0, "c")) == Mark(3, 5, 1)
    assert source.at(("b", 0, "c"), value=True) == Mark(3, 8, 1)
    assert source.line(("b", 0, "absent")) == "x.yaml:3"
    assert not source.writes(("b", 0, "absent"))


def test_files_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")  # opening it would wait for ever
    (tmp_path / "dangling.yaml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.yaml").mkdir()
    for name, words in {
        "pipe.yaml": "not a regular file",
        "folder.yaml": "not a regular file",
        "dangling.yaml": "cannot be read: No such file or directory",
    }.items():
        assert words in yaml.read(tmp_path / name, name).problems[0].message


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
@settings(max_examples=400)
def test_no_bytes_give_anything_but_data_or_problems(content: bytes) -> None:
    parsed = parse("x.yaml", content)
    for problem in parsed.problems:
        assert problem.line >= 1
        assert problem.col >= 1
        assert problem.render()


YAMLISH = st.text(alphabet="ab:-?#&*!|>%@`'\"{}[],.~<0123e \n\t\r\\\u00e9\u2028\ufeff\U0001f600", max_size=60)


@given(YAMLISH)
@settings(max_examples=1000)
def test_no_yaml_like_text_gives_anything_but_data_or_problems(text: str) -> None:
    parsed = parse("x.yaml", text.encode())
    assert parsed.problems or parsed.source.values
    for problem in parsed.problems:
        assert problem.render()


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**15), 10**15)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=12),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdef", min_size=1), inner, max_size=4)
        ),
        max_leaves=12,
    ).filter(lambda data: isinstance(data, list | dict) and data)
)
def test_what_a_yaml_1_2_writer_writes_is_read_back(data: object) -> None:
    import json

    # JSON is a subset of YAML 1.2.
    parsed = parse("x.yaml", json.dumps(data, ensure_ascii=False).encode())
    assert not parsed.problems
    assert parsed.data == data
