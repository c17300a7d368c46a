"""Builds plain values from YAML parser events, with the place of each and a problem for what is not allowed.

>>> composer = Composer("fleet.yaml", "name: edge\\n")
>>> composer.run()
>>> composer.data, composer.keys[("name",)]
({'name': 'edge'}, Mark(line=1, col=1, width=4))
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from edgewright.spec.problem import Problem
from edgewright.spec.scalar import AmbiguousScalar, scalar
from edgewright.spec.source import Mark, Path, Source

MAX_DEPTH = 32
"""Deepest nesting of lists and mappings; the specs need seven."""
MAX_VALUES = 50_000
"""Most values in one file; each costs memory for its place."""

# libyaml when PyYAML was built with it (all wheels): about eight times faster, same events.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

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
    # libyaml since 0.2.6 looks for the key of a list that deep before it tells where the list begins.
    ("exceeded maximum nesting depth", f"nested deeper than {MAX_DEPTH} levels", ""),
)


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


class Composer:
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
            self._forget()
        except yaml.YAMLError as error:
            self._forget()
            self._syntax(error)
        finally:
            loader.dispose()
        if not self.problems and not self.values:
            self._complain(Mark(1, 1), "the file is empty", "start with 'version: 1'")

    def _forget(self) -> None:
        """Half a file says nothing reliable."""
        self.data = None
        self.keys.clear()
        self.values.clear()

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
