"""One thing that is wrong in a spec file, said the way a compiler says it, and all of them as one error.

>>> print(Problem("x.yaml", 3, 1, "unknown key 'memroy'", "did you mean 'memory'?", "memroy:", 6).render())
x.yaml:3:1: unknown key 'memroy'; did you mean 'memory'?
     3 | memroy:
       | ^^^^^^
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from edgewright.errors import SpecError

_SHOWN_PROBLEMS = 50
_SHOWN_COLUMNS = 100


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake and its place.

    Attributes:
        file: Path relative to the repository, with `/`.
        line: Line, from 1.
        col: Column in characters, from 1.
        message: What is wrong.
        suggestion: What would be right; may be empty.
        excerpt: The source line, secrets removed; None when there is none to show.
        width: How many characters the caret line underlines.
    """

    file: str
    line: int
    col: int
    message: str
    suggestion: str = ""
    excerpt: str | None = None
    width: int = 1

    def render(self, *, color: bool = False) -> str:
        """Return the message, the source line and the caret line."""
        where = f"{self.file}:{self.line}:{self.col}:"
        what = f"{self.message}; {self.suggestion}" if self.suggestion else self.message
        if color:
            where = f"\x1b[1m{where}\x1b[0m"
            what = f"\x1b[31m{what}\x1b[0m"
        if self.excerpt is None:
            return f"{where} {what}"
        text, start = _window(self.excerpt, self.col - 1)
        start = min(start, len(text))
        caret = "^" * max(1, min(self.width, _cells(text[start:])))
        if color:
            caret = f"\x1b[31m{caret}\x1b[0m"
        pad = " " * _cells(text[:start])
        return f"{where} {what}\n{self.line:>6} | {text.rstrip()}\n       | {pad}{caret}"

    def as_json(self) -> dict[str, Any]:
        """Return the problem for machines (editors, CI annotations)."""
        return asdict(self)


class InvalidSpec(SpecError):
    """The specs have problems; every one found is in it (exit code 1).

    Args:
        problems: At least one.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems), key=lambda p: (p.file, p.line, p.col, p.message)))
        super().__init__(self.render())

    def render(self, *, color: bool = False) -> str:
        """Return all problems as text, ending with how many there are."""
        parts = [problem.render(color=color) for problem in self.problems[:_SHOWN_PROBLEMS]]
        hidden = len(self.problems) - len(parts)
        if hidden:
            parts.append(f"… and {hidden} more")
        count, files = len(self.problems), len({problem.file for problem in self.problems})
        parts.append(f"{count} problem{'s'[: count != 1]} in {files} file{'s'[: files != 1]}")
        return "\n".join(parts)


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that `word` was probably meant to be, if one is near enough."""
    if len(word) > 64:  # nothing people name is longer, and the comparison is quadratic
        return None
    plain = {_plain(choice): choice for choice in choices}
    if _plain(word) in plain:
        return plain[_plain(word)]
    import difflib

    found = difflib.get_close_matches(_plain(word), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def did_you_mean(word: str, choices: Iterable[str], noun: str = "") -> str:
    """Return "did you mean 'x'?", or the choices when none is near, or nothing when there are too many."""
    known = sorted(choices)
    near = nearest(word, known)
    if near is not None:
        return f"did you mean {near!r}?"
    if noun and known and len(known) <= 24:
        return f"{noun}: {', '.join(known)}"
    return ""


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "").replace(" ", "")


def _window(line: str, col: int) -> tuple[str, int]:
    """Cut a long line down to the part around `col`; tabs become spaces so that the caret stays below it."""
    line = line.replace("\t", " ")
    if len(line) <= _SHOWN_COLUMNS:
        return line, col
    start = max(0, min(col - _SHOWN_COLUMNS // 2, len(line) - _SHOWN_COLUMNS))
    end = start + _SHOWN_COLUMNS
    head, tail = ("…" if start else ""), ("…" if end < len(line) else "")
    return head + line[start:end] + tail, col - start + len(head)


def _cells(text: str) -> int:
    """How many terminal cells `text` takes (UAX #11: wide characters take two)."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )
