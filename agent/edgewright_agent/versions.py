"""Whether an engine's version lies in a range: the part of PEP 440 that runtime manifests use.

>>> in_range("1.31.1", ">=1.20,<2"), in_range("1.31.1", "~=1.20.0"), in_range("1.20.0rc1", ">=1.20")
(True, False, False)
"""

from __future__ import annotations

import re

_VERSION = re.compile(
    r"v?(\d+(?:\.\d+)*)\.?((?:a|b|rc|dev)\d*)?(?:\.?post\d+)?(?:\+[a-z0-9.]+)?", re.IGNORECASE
)
_CLAUSE = re.compile(r"(==|!=|>=|<=|~=|>|<)\s*([^\s,]+)")
_WIDTH = 6  # release numbers compared; ONNX Runtime uses three


def in_range(version: str, specifier: str) -> bool:
    """Whether `version` satisfies every comma-separated clause of `specifier` (PEP 440, Version specifiers).

    Pre-releases sort before their release; `==1.2.*`, `!=1.2.*` and `~=` compare prefixes; post-release and
    local parts are ignored. An empty specifier takes everything.

    Raises:
        ValueError: a version or clause is not of this kind.
    """
    return all(_clause(version, clause.strip()) for clause in specifier.split(",") if clause.strip())


def _clause(version: str, clause: str) -> bool:
    matched = _CLAUSE.fullmatch(clause)
    if not matched:
        raise ValueError(f"not a version clause: {clause!r}")
    operator, wanted = matched.groups()
    have = _key(version)
    if wanted.endswith(".*"):
        if operator not in ("==", "!="):
            raise ValueError(f"{operator} takes no wildcard: {clause!r}")
        return _prefix(have, wanted[:-2]) == (operator == "==")
    want = _key(wanted)
    if operator == "~=":
        parent, _, _ = wanted.rpartition(".")
        if not parent:
            raise ValueError(f"~= needs two numbers: {clause!r}")
        return have >= want and _prefix(have, parent)
    return {
        "==": have == want,
        "!=": have != want,
        ">=": have >= want,
        "<=": have <= want,
        ">": have > want,
        "<": have < want and not (have[:-1] == want[:-1] and want[-1]),  # "<2" excludes 2.0rc1
    }[operator]


def _prefix(have: tuple[int, ...], prefix: str) -> bool:
    numbers = _numbers(prefix)
    return have[: len(numbers)] == numbers


def _key(version: str) -> tuple[int, ...]:
    """Return the release numbers and, last, 1 for a release or 0 for a pre-release."""
    matched = _VERSION.fullmatch(version.strip())
    if not matched:
        raise ValueError(f"not a version: {version!r}")
    numbers = _numbers(matched[1])
    return (*numbers, *(0,) * (_WIDTH - len(numbers)), 0 if matched[2] else 1)


def _numbers(release: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in release.split("."))
    except ValueError as error:
        raise ValueError(f"not a release: {release!r}") from error
    if len(numbers) > _WIDTH:
        raise ValueError(f"more than {_WIDTH} numbers: {release!r}")
    return numbers
