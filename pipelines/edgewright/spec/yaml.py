"""A strict YAML 1.2 reader that knows where everything stands and reports every mistake it can.

>>> data, source, problems = parse("fleet.yaml", b"version: 1\\nname: edge\\nname: fog\\n")
>>> print(problems[0].render())
fleet.yaml:3:1: key 'name' is here twice; the first is on line 2
     3 | name: fog
       | ^^^^

Stricter than YAML itself, because a spec is read in reviews: one document per file, no tags, no anchors,
aliases or merge keys (what a line says must not depend on another line), keys are text, nothing is invisible.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import yaml

from edgewright.spec.problem import Problem
from edgewright.spec.scalar import AmbiguousScalar, scalar
from edgewright.spec.source import Mark, Path, Source

_START = Mark(1, 1)

MAX_BYTES = 1024 * 1024
"""Largest file that is read: a thousand times a large sheet, and still quick to refuse."""
MAX_DEPTH = 32
"""Deepest nesting of lists and mappings; the specs need seven."""
MAX_VALUES = 50_000
"""Most values in one file; each costs memory for its place."""

# libyaml when PyYAML was built with it (all wheels): about eight times faster, same events.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Control and line-separator characters, and those that reorder or hide text in a review (CVE-2021-42574).
_UNWANTED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200b\ufeff\ufffe\uffff]"
)
_UNWANTED_VALUE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

# What libyaml says → what a person can do about it.
_ADVICE = (
    (
        "mapping values are not allowed",
        "a second ':' in this line",
        "put the text in quotes or check the indentation",
    ),
    ("could not find expected ':'", "a key without ':'", "write 'key: value'"),
    (
        "did not find expected key",
        "this line does not belong where it is indented",
        "align it with its neighbours",
    ),
    ("did not find expected '-' indicator", "a list item was expected here", "align it with the '-' above"),
    ("block sequence entries are not allowed", "a list cannot start here", "put '-' on a line of its own"),
    ("expected ',' or '}'", "a { mapping } that is not closed", "add the missing ',' or '}'"),
    ("expected ',' or ']'", "a [ list ] that is not closed", "add the missing ',' or ']'"),
    ("unexpected end of stream", "text in quotes that never ends", "add the closing quote"),
    ("unknown escape character", "a backslash that means nothing here", "use single quotes"),
    ("did not find expected alphabetic", "'&' or '*' starts a name in YAML", "put the text in quotes"),
    ("cannot start any token", "text cannot start with this character", "put it in quotes"),
    ("invalid Unicode character", "no such character", "use single quotes or correct the code"),
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
    try:
        text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
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
    composer = _Composer(name, text)
    composer.run()
    return Parsed(composer.data, composer.source, composer.problems, frozenset(composer.doubtful))


def _refused(name: str, text: str, message: str, mark: Mark = _START, suggestion: str = "") -> Parsed:
    source = Source(name, text, {}, {})
    return Parsed(None, source, [source.problem_at(mark, message, suggestion)])


def _mark_after(before: str) -> Mark:
    lines = re.split(r"\r\n?|\n", before)
    return Mark(len(lines), len(lines[-1]) + 1)


class _Refused(Exception):
    """The rest of the file cannot be read."""


_NO_KEY = object()


@dataclass
class _Open:
    """A list or mapping whose end has not come yet."""

    container: list[Any] | dict[str, Any]
    path: Path
    key: Any = _NO_KEY
    lines: dict[str, int] = field(default_factory=dict)


class _Composer:
    """Builds values and places from parser events; iterative, so depth cannot exhaust the stack."""

    def __init__(self, name: str, text: str) -> None:
        self.data: Any = None
        self.keys: dict[Path, Mark] = {}
        self.values: dict[Path, Mark] = {}
        self.source = Source(name, text, self.keys, self.values)
        self.problems: list[Problem] = []
        self.doubtful: set[Path] = set()
        self._open: list[_Open] = []
        self._documents = 0

    def run(self) -> None:
        """Read the whole text."""
        loader = _LOADER(self.source.text)
        try:
            while (event := loader.get_event()) is not None:
                self._take(event)
        except _Refused:
            self.data = None
        except yaml.YAMLError as error:
            self.data = None
            self._syntax(error)
        finally:
            loader.dispose()
        if not self.problems and not self.values:
            self._complain(Mark(1, 1), "the file is empty", "start with 'version: 1'")

    def _take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self._decorations(event)
                self._scalar(event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._decorations(event)
                self._start(event, {} if isinstance(event, yaml.MappingStartEvent) else [])
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._open.pop()
            case yaml.AliasEvent():
                mark = _mark(event)
                name = self._quoted(f"*{event.anchor}")
                self._complain(mark, f"alias {name}is not allowed", "write the value out")
                if self._wants_key():
                    raise _Refused
                self.doubtful.add(self._place(None, mark))
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._complain(_mark(event), "a second document starts here", "one file is one document")
                    raise _Refused
                if event.version or event.tags:
                    self._complain(_mark(event), "a '%' directive is not allowed", "remove the line")

    def _decorations(self, event: Any) -> None:
        if event.anchor is not None:
            name = self._quoted(f"&{event.anchor}")
            self._complain(_mark(event), f"anchor {name}is not allowed", "write the value out")
        if event.tag is not None:
            self._complain(_mark(event), f"tag {self._quoted(event.tag)}is not allowed", "remove it")

    def _sensitive(self) -> bool:
        """Whether what comes next may be a secret, even if it looks like an alias, a tag or a number."""
        from edgewright.spec.redact import is_sensitive

        return any(is_sensitive(step) for top in self._open for step in (*top.path, top.key))

    def _quoted(self, name: str) -> str:
        return "" if self._sensitive() else f"'{name[:60]}' "

    def _start(self, event: Any, container: list[Any] | dict[str, Any]) -> None:
        mark = _mark(event)
        if self._wants_key():
            self._complain(mark, "a key must be plain text, not a list or mapping", "put it in quotes")
            raise _Refused
        if len(self._open) >= MAX_DEPTH:
            self._complain(mark, f"nested deeper than {MAX_DEPTH} levels")
            raise _Refused
        self._open.append(_Open(container, self._place(container, mark)))

    def _scalar(self, event: Any) -> None:
        mark = _mark(event)
        hidden = _UNWANTED_VALUE.search(event.value)
        if hidden:
            code = f"U+{ord(hidden.group()):04X}"
            self._complain(mark, f"the text contains the control character {code}", "remove it")
            raise _Refused
        if self._wants_key():
            self._key(event, mark)
            return
        value: Any = event.value
        if not event.implicit[0] or event.style:  # quoted, or a block: always text
            self._place(value, mark)
            return
        try:
            self._place(scalar(value), mark)
        except AmbiguousScalar as error:
            message, suggestion = str(error), error.suggestion
            if self._sensitive():
                message, suggestion = "must be text in quotes", ""
            self._complain(mark, message, suggestion)
            self.doubtful.add(self._place(value, mark))

    def _key(self, event: Any, mark: Mark) -> None:
        top, key = self._open[-1], event.value
        if event.implicit[0] and not event.style:
            self._check_plain_key(key, mark)
        if key in top.lines:
            self._complain(mark, f"key {key[:60]!r} is here twice", f"the first is on line {top.lines[key]}")
        top.lines.setdefault(key, mark.line)
        top.key = key
        self.keys[(*top.path, key)] = mark

    def _check_plain_key(self, key: str, mark: Mark) -> None:
        try:
            value = scalar(key)
        except AmbiguousScalar:
            value = 0
        if key == "<<":
            self._complain(mark, "merge key '<<' is not allowed", "write the keys out")
        elif not key:
            self._complain(mark, "a key is missing before ':'")
        elif not isinstance(value, str):
            self._complain(mark, f"keys are text and {key[:40]} is not", f"write '{key[:40]}' in quotes")

    def _wants_key(self) -> bool:
        return (
            bool(self._open) and isinstance(self._open[-1].container, dict) and self._open[-1].key is _NO_KEY
        )

    def _place(self, value: Any, mark: Mark) -> Path:
        """Put a value where it belongs and return its path."""
        path: Path = ()
        if not self._open:
            self.data = value
        else:
            top = self._open[-1]
            if isinstance(top.container, list):
                path = (*top.path, len(top.container))
                top.container.append(value)
            else:
                path = (*top.path, top.key)
                top.container[top.key] = value
                top.key = _NO_KEY
        self.values[path] = mark
        if len(self.values) > MAX_VALUES:
            self._complain(mark, f"more than {MAX_VALUES} values in one file")
            raise _Refused
        return path

    def _complain(self, mark: Mark, message: str, suggestion: str = "") -> None:
        self.problems.append(self.source.problem_at(mark, message, suggestion))

    def _syntax(self, error: yaml.YAMLError) -> None:
        place = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        mark = Mark(place.line + 1, place.column + 1) if place else Mark(1, 1)
        said = str(getattr(error, "problem", None) or "the text cannot be read")
        lines = re.split(r"\r\n?|\n", self.source.text)
        line = lines[mark.line - 1] if mark.line <= len(lines) else ""
        if "\t" in line[: max(mark.col, len(line) - len(line.lstrip()))]:
            tab = Mark(mark.line, line.index("\t") + 1)
            self._complain(tab, "a tab cannot indent", "use spaces")
            return
        for known, message, suggestion in _ADVICE:
            if known in said:
                context = getattr(error, "context_mark", None)
                if context and message.endswith(("never ends", "not closed")):
                    mark = Mark(
                        context.line + 1, context.column + 1
                    )  # where it opened, not where it was missed
                elif context and context.line + 1 != mark.line:
                    message += f" (what it belongs to starts on line {context.line + 1})"
                self._complain(mark, message, suggestion)
                return
        self._complain(mark, f"this is not YAML: {said}")


def _mark(event: Any) -> Mark:
    start, end = event.start_mark, event.end_mark
    width = end.column - start.column if end.line == start.line else 1
    return Mark(start.line + 1, start.column + 1, max(1, width))
