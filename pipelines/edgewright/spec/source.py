"""Where in a file each key and value stands, so that every message and every link can name its line.

>>> source = Source("hardware/pi.yaml", "cpu:\\n  cores: 4\\n", {("cpu", "cores"): Mark(2, 3, 5)}, {})
>>> source.line(("cpu", "cores"))
'hardware/pi.yaml:2'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from edgewright.spec.problem import Problem

Path = tuple[str | int, ...]
"""Keys and list indices from the top of a file to one value, in the words of the YAML."""

_LINE_BREAK = re.compile(r"\r\n?|\n")


class Mark(NamedTuple):
    """A place in a file; line and column from 1, width in characters."""

    line: int
    col: int
    width: int = 1


_START = Mark(1, 1)


@dataclass(frozen=True)
class Source:
    """The text of one spec file and the places in it.

    Attributes:
        file: Path relative to the repository, with `/`.
        text: Whole content.
        keys: Path → place of the key that introduces it.
        values: Path → place of the value.
    """

    file: str
    text: str = field(repr=False)
    keys: Mapping[Path, Mark] = field(repr=False)
    values: Mapping[Path, Mark] = field(repr=False)

    def at(self, path: Path, *, value: bool = False) -> Mark:
        """Return where `path` stands: its key (or list item), or its value.

        A path that the file leaves to its default is where its nearest written parent is.
        """
        first, second = (self.values, self.keys) if value else (self.keys, self.values)
        while path:
            mark = first.get(path) or second.get(path)
            if mark is not None:
                return mark
            path, first, second = path[:-1], self.keys, self.values
        return self.values.get((), _START)

    def writes(self, path: Path) -> bool:
        """Whether `path` stands in the file, rather than being left to its default."""
        return path in self.values

    def line(self, path: Path) -> str:
        """Return `file:line` of a path."""
        return f"{self.file}:{self.at(path).line}"

    def problem(self, message: str, path: Path, *, value: bool = True, suggestion: str = "") -> Problem:
        """Return a problem at the value (or the key) of `path`."""
        return self.problem_at(self.at(path, value=value), message, suggestion)

    def problem_at(self, mark: Mark, message: str, suggestion: str = "") -> Problem:
        """Return a problem at a place."""
        from edgewright.spec.redact import redact_line, redact_text  # only mistakes pay for its patterns

        excerpt, width = None, mark.width
        if 0 < mark.line <= len(self._lines):
            line = self._lines[mark.line - 1]
            excerpt = _visible(redact_line(line, self._lines[: mark.line - 1]))
            width = (
                width if len(excerpt) == len(line) else 1
            )  # the length of a secret is its own business, too
        return Problem(
            self.file, mark.line, mark.col, redact_text(message), redact_text(suggestion), excerpt, width
        )

    @cached_property
    def _lines(self) -> list[str]:
        return _LINE_BREAK.split(self.text)


def _visible(line: str) -> str:
    """Control characters would reach the reader's terminal; tabs are dealt with where the line is drawn."""
    return "".join(
        char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in line
    )
