"""One mapping of a configuration, read strictly: every problem is collected, and no key goes unread.

>>> problems: list[str] = []
>>> section = Section({"intervalS": "often"}, "poll.", problems)
>>> section.number("intervalS", 900.0), problems
(900.0, ['poll.intervalS must be a number from 0'])
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgewright_agent.contract import is_name
from edgewright_agent.transport.secret import Secret

_MAX_MIRRORS = 8
_HELPER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MAX = 2.0**63


class Section:
    """One mapping being read: collects problems and remembers which keys were asked for."""

    def __init__(self, value: object, where: str, problems: list[str]) -> None:
        self._where, self._problems, self._known = where, problems, set[str]()
        self._values: dict[str, Any] = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            problems.append(f"{where or 'the document'} must be an object")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def problem(self, key: str, text: str) -> None:
        self._problems.append(f"{self._where}{key} {text}")

    def _take(self, key: str) -> Any:
        self._known.add(key)
        return self._values.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key)
        if key not in self._values and default is not None:
            return default
        if isinstance(value, str) and value.strip():
            return value
        self.problem(key, "is missing" if key not in self._values else "must be a non-empty string")
        return ""

    def name(self, key: str) -> str:
        value = self.text(key)
        if value and not is_name(value):
            self.problem(key, f"{value!r} must be lower-case letters, digits and single dashes")
        return value

    def path(self, key: str, base: Path) -> Path | None:
        if key in self._values:
            return base / self.text(key)
        self._known.add(key)
        return None

    def secret(self, key: str, base: Path) -> Secret | None:
        if key not in self._values:
            self._known.add(key)
            return None
        try:
            return Secret.parse(self.text(key), base)
        except ValueError as error:
            self.problem(key, str(error))
            return None

    def helper(self, key: str) -> str | None:
        if key not in self._values:
            self._known.add(key)
            return None
        name = self.text(key)
        if name and _HELPER.fullmatch(name) is None:
            self.problem(key, "must be the NAME of a program docker-credential-NAME")
        return name or None

    def mirrors(self, key: str) -> list[Section]:
        """Return further mirrors: URLs, or mappings like the section itself; the caller finishes them."""
        value = self._take(key)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) >= _MAX_MIRRORS:
            self.problem(key, f"must be a list of fewer than {_MAX_MIRRORS} URLs or objects with a url")
            return []
        return [
            Section(
                {"url": entry} if isinstance(entry, str) else entry,
                f"{self._where}{key}[{index}].",
                self._problems,
            )
            for index, entry in enumerate(value)
        ]

    def number(self, key: str, default: float, *, low: float = 0, high: float = _MAX) -> float:
        value = self._take(key)
        if key not in self._values:
            return default
        if isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.problem(key, f"must be a number from {low:g}" + (f" to {high:g}" if high < _MAX else ""))
        return default

    def optional(self, key: str) -> float | None:
        value = self.number(key, -1)
        return value if value >= 0 else None

    def switch(self, key: str, default: bool) -> bool:
        value = self._take(key)
        if key not in self._values:
            return default
        if not isinstance(value, bool):
            self.problem(key, "must be true or false")
        return value is True

    def texts(self, key: str, *, optional: bool = False) -> tuple[str, ...]:
        value = self._take(key)
        if optional and key not in self._values:
            return ()
        if isinstance(value, list) and value and all(isinstance(item, str) and item for item in value):
            return tuple(value)
        self.problem(key, "must be a list of at least one string")
        return ()

    def labels(self, key: str) -> dict[str, str]:
        value = self._take(key)
        if value is None:
            return {}
        if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
            return value
        self.problem(key, "must map strings to strings")
        return {}

    def section(self, key: str, *, optional: bool = False) -> Section:
        value = self._take(key)
        return Section(
            {} if optional and key not in self._values else value, f"{self._where}{key}.", self._problems
        )

    def sections(self, key: str) -> tuple[Section, ...]:
        value = self._take(key)
        if key not in self._values:
            return ()
        if not isinstance(value, list) or not value:
            self.problem(key, "must be a list of at least one object")
            return ()
        return tuple(
            Section(item, f"{self._where}{key}[{index}].", self._problems) for index, item in enumerate(value)
        )

    def finish(self) -> None:
        for key in sorted(set(self._values) - self._known):
            self.problem(key, f"is unknown (known: {', '.join(sorted(self._known))})")
