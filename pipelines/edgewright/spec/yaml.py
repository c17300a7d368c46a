"""A strict YAML 1.2 reader that knows where everything stands and reports every mistake it can.

>>> parsed = parse("fleet.yaml", b"version: 1\\nname: edge\\nname: fog\\n")
>>> print(parsed.problems[0].render())
fleet.yaml:3:1: key 'name' is here twice; the first is on line 2
     3 | name: fog
       | ^^^^

Stricter than YAML itself, because a spec is read in reviews: one document per file, no tags, no anchors,
aliases or merge keys (what a line says must not depend on another line), keys are text, nothing is invisible.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from edgewright.spec.compose import Composer
from edgewright.spec.problem import Problem
from edgewright.spec.source import Mark, Path, Source

_START = Mark(1, 1)

MAX_BYTES = 1024 * 1024
"""Largest file that is read: a thousand times a large sheet, and still quick to refuse."""

# Control and line-separator characters, and those that reorder or hide text in a review (CVE-2021-42574).
_UNWANTED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200b\ufeff\ufffe\uffff]"
)


class Parsed(NamedTuple):
    """What became of a file.

    Attributes:
        data: Plain Python values; None when there is nothing to use.
        source: Where they stand.
        problems: What is wrong with the file as YAML.
        doubtful: Paths whose value a problem already speaks about.
    """

    data: Any
    source: Source
    problems: list[Problem]
    doubtful: frozenset[Path] = frozenset()


def read(file: FilePath, name: str) -> Parsed:
    """Read one spec file; never raises for what is in it or for it being unreadable.

    Args:
        file: Where it is.
        name: What messages call it: its path in the repository, with `/`.
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return _refused(name, "", "this is not a regular file")
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        return _refused(name, "", f"cannot be read: {error.strerror or type(error).__name__}")
    return parse(name, content)


def parse(name: str, content: bytes) -> Parsed:
    """Parse the content of a file called `name`; every mistake becomes a problem, none an exception."""
    if len(content) > MAX_BYTES:
        return _refused(name, "", f"the file is larger than {MAX_BYTES // 1024} KiB")
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        shown = content.decode("utf-8", errors="replace")
        before = content[: error.start].decode("utf-8", errors="replace")
        bad = content[error.start]
        message = f"byte 0x{bad:02x} is not UTF-8"
        return _refused(name, shown, message, _mark_after(before), "save the file as UTF-8")
    unwanted = _UNWANTED.search(text)
    if unwanted:
        what = f"character U+{ord(unwanted.group()):04X} is invisible and not allowed"
        return _refused(name, text, what, _mark_after(text[: unwanted.start()]), "remove it")
    composer = Composer(name, text)
    composer.run()
    return Parsed(composer.data, composer.source, composer.problems, frozenset(composer.doubtful))


def _refused(name: str, text: str, message: str, mark: Mark = _START, suggestion: str = "") -> Parsed:
    source = Source(name, text, {}, {})
    return Parsed(None, source, [source.problem_at(mark, message, suggestion)])


def _mark_after(before: str) -> Mark:
    lines = re.split(r"\r\n?|\n", before)
    return Mark(len(lines), len(lines[-1]) + 1)
