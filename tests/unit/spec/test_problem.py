from __future__ import annotations

import pytest

from edgewright.errors import SpecError
from edgewright.spec.problem import InvalidSpec, Problem, did_you_mean, nearest
from edgewright.spec.source import Mark, Source


def caret_of(problem: Problem) -> tuple[str, str]:
    """The shown line, and what the caret line underlines in it (cells, where characters take one)."""
    _, line, carets = problem.render().split("\n")
    start = carets.index("^")
    return line[9:], line[start : carets.rindex("^") + 1]


def test_a_problem_is_drawn_like_a_compiler_does() -> None:
    problem = Problem("a.yaml", 41, 3, "unknown key 'memroy'", "did you mean 'memory'?", "  memroy: 4GiB", 6)
    assert problem.render() == (
        "a.yaml:41:3: unknown key 'memroy'; did you mean 'memory'?\n"
        "    41 |   memroy: 4GiB\n"
        "       |   ^^^^^^"
    )


def test_a_long_line_is_cut_around_the_mistake() -> None:
    line = "x: [" + "good, " * 100 + "bad" + ", good" * 100 + "]"
    shown, marked = caret_of(Problem("a.yaml", 1, line.index("bad") + 1, "no", "", line, 3))
    assert len(shown) < 110
    assert marked == "bad"


def test_the_caret_stands_below_the_mistake_after_wide_characters() -> None:
    lines = Problem("a.yaml", 1, 5, "no", "", "名前: x", 1).render().split("\n")
    assert lines[2].index("^") - len("       | ") == 6  # two wide characters take four cells


def test_control_characters_never_reach_the_terminal() -> None:
    source = Source("a.yaml", "a: \x1b[31mred\n", {}, {})
    assert "\x1b" not in source.problem_at(Mark(1, 4), "no").render()


def test_all_problems_come_sorted_once_and_counted() -> None:
    one, two = Problem("a.yaml", 2, 1, "x"), Problem("a.yaml", 10, 1, "y")
    error = InvalidSpec([two, one, Problem("b.yaml", 1, 1, "z"), one])
    assert error.problems == (one, two, Problem("b.yaml", 1, 1, "z"))
    assert str(error) == "a.yaml:2:1: x\na.yaml:10:1: y\nb.yaml:1:1: z\n3 problems in 2 files"
    assert str(InvalidSpec([one])).endswith("\n1 problem in 1 file")
    assert isinstance(error, SpecError)
    assert error.exit_code == 1


def test_a_flood_of_problems_is_cut_and_says_so() -> None:
    text = str(InvalidSpec(Problem("a.yaml", line, 1, "x") for line in range(1, 201)))
    assert text.endswith("… and 150 more\n200 problems in 1 file")


def test_color_changes_nothing_but_color() -> None:
    import re

    error = InvalidSpec([Problem("a.yaml", 1, 1, "x", "y", "z", 1)])
    assert re.sub("\x1b\\[[0-9]*m", "", error.render(color=True)) == str(error)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("memroy", "memory"),
        ("max_backoff", "maxBackoff"),
        ("MaxBackoff", "maxBackoff"),
        ("zebra", None),
        ("x" * 100_000, None),
    ],
)
def test_the_nearest_choice_is_what_was_meant(word: str, meant: str | None) -> None:
    assert nearest(word, ["memory", "maxBackoff", "storage"]) == meant


def test_without_a_near_choice_the_choices_are_listed() -> None:
    assert did_you_mean("zebra", ["b", "a"], "classes are") == "classes are: a, b"
    assert did_you_mean("zebra", [], "classes are") == ""
