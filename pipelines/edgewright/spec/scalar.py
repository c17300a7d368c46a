"""What an unquoted YAML word means: the core schema of YAML 1.2, and nothing YAML 1.1 added.

>>> scalar("no"), scalar("1:30"), scalar("1e3"), scalar("0x1F")
('no', '1:30', 1000.0, 31)
>>> scalar("010")
Traceback (most recent call last):
edgewright.spec.scalar.AmbiguousScalar: a leading zero is octal to some programs (8) and not to others (10)
"""

from __future__ import annotations

import re

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
# Far beyond any quantity, well below Python's limit for reading decimal text, and exact in JSON.
_MAX_DIGITS = 18


class AmbiguousScalar(ValueError):
    """A word that programs read differently, or that is no usable number.

    Args:
        message: What is wrong with it.
        suggestion: What to write instead.
    """

    def __init__(self, message: str, suggestion: str) -> None:
        super().__init__(message)
        self.suggestion = suggestion


def scalar(text: str) -> str | int | float | bool | None:
    """Return the value of an unquoted scalar (YAML 1.2.2, 10.3.2 Tag Resolution).

    Raises:
        AmbiguousScalar: A leading zero, an infinite or an oversized number.
    """
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text[0] not in "+-.0123456789":
        return text
    if _LEADING_ZERO.fullmatch(text):
        raise AmbiguousScalar(*_leading_zero(text))
    if _DECIMAL.fullmatch(text) or _BASED.fullmatch(text):
        if len(text) > _MAX_DIGITS + 1:
            raise AmbiguousScalar("this number has too many digits", "put it in quotes if it is text")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _NOT_FINITE.fullmatch(text):
        raise AmbiguousScalar(f"{text} is no number that a limit or a size can have", "write a finite number")
    if _FLOAT.fullmatch(text):
        number = float(text[:400])
        if len(text) > 400 or number in (float("inf"), float("-inf")):
            raise AmbiguousScalar("this number is too large", "write a finite number")
        return number
    return text


def _leading_zero(text: str) -> tuple[str, str]:
    digits = text.lstrip("+-")
    decimal = digits.lstrip("0")[:_MAX_DIGITS] or "0"
    message = "a leading zero is octal to some programs and not to others"
    if set(digits) <= set("01234567") and len(digits) <= _MAX_DIGITS:
        message = f"a leading zero is octal to some programs ({int(digits, 8)}) and not to others ({decimal})"
    return message, f"write {decimal}, or '{text[:40]}' in quotes if it is text"
