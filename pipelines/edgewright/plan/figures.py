"""Figures as people read them: the one place where bytes, milliseconds and ratios become text.

>>> shown(34_100, "bytes"), shown(256 * 2**20, "bytes"), shown(0.0423, "ms"), shown(0.99, "ratio"), shown(None, "ms")
('34.1 kB', '256 MiB', '0.0423 ms', '99.00 %', 'not measured')
>>> shown(2_500_001, "instructions")
'2,500,001'
"""

from __future__ import annotations

import math

_BINARY = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_DECIMAL = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def shown(value: float | None, unit: str) -> str:
    """Return a figure with its unit (`bytes`, `ms`, `ratio`); what is missing or not finite was not measured.

    `instructions` are counted to the last one, and shown so: a budget may be missed by one.
    """
    if value is None or not math.isfinite(value):
        return "not measured"
    if unit == "bytes":
        return _bytes(value)
    if unit == "instructions":
        return f"{value:,.0f}"
    if unit == "ratio":
        return f"{100 * value:.2f} %"
    return f"{value:.3g} {unit}" if abs(value) < 999.5 else f"{value:,.0f} {unit}"


def _bytes(value: float) -> str:
    for (
        size,
        name,
    ) in _BINARY:  # limits are often written in binary units: give them back as they were written
        if size <= value < 1024 * size and value % size == 0:
            return f"{value / size:.0f} {name}"
    for size, name in _DECIMAL:
        if abs(value) >= size:
            return f"{value / size:.1f} {name}"
    return f"{value:.0f} B"
