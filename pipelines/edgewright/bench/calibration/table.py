"""A calibration for a terminal: how good it is on nets it was not made from, and what it says.

>>> print(table(found))                                  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgewright.bench.calibration.calibrate import PRECISIONS, Calibration
from edgewright.spec.base import camel_case
from edgewright.spec.emulation import Cycles, Loading

Rows = list[tuple[str, ...]]
LABEL_WIDTH = 24
WIDTH = 16


def table(found: Calibration) -> str:
    """Return errors, beside those of a roofline, and coefficients."""
    measured = found.measured
    lines = [
        f"{'measured':<{LABEL_WIDTH}}{measured.processor}, {measured.engine}, {measured.date}:"
        f" {len(measured.nets)} nets, {measured.rounds} rounds that differ by {measured.spread:.1%}",
        f"{'counted':<{LABEL_WIDTH}}{found.target}",
        f"{'cycles':<{LABEL_WIDTH}}of {found.clock_mhz:,.0f} MHz, the class's clock",
    ]
    if measured.failures:
        name, why = next(iter(measured.failures.items()))
        lines.append(f"{'not run there':<{LABEL_WIDTH}}{len(measured.failures)} nets, {name}: {why}")
    lines += ["", *_columns(_errors(found)), "", *_columns(_rates(found))]
    if found.thread_speedup is not None:
        lines.append(
            f"{'threads':<{LABEL_WIDTH}}{measured.threads} are {found.thread_speedup:g} × as fast as one"
        )
    return "\n".join(lines)


def _errors(found: Calibration) -> Rows:
    errors = [found.fits[name].errors for name in (*PRECISIONS, "loading")]
    rooflines = [found.roofline.get(name) for name in (*PRECISIONS, "loading")]
    return [
        ("on nets left out", *PRECISIONS, "loading"),
        ("  nets", *(str(error.count) for error in errors)),
        ("  mean error", *(f"{error.mean:.1%}" for error in errors)),
        ("  within 20 %", *(f"{error.near:.0%}" for error in errors)),
        ("  worst", *(f"{error.worst:.0%}" for error in errors)),
        ("a roofline of MACs", *("" for _ in errors)),
        ("  mean error", *(f"{error.mean:.1%}" if error else "–" for error in rooflines)),
        ("  within 20 %", *(f"{error.near:.0%}" if error else "–" for error in rooflines)),
    ]


def _rates(found: Calibration) -> Rows:
    by_kind = [found.fits[precision].rates for precision in PRECISIONS]
    used = {name for rates in by_kind for name in rates}
    loading = found.fits["loading"].rates
    return [
        ("cycles for one of", *PRECISIONS),
        *(_row(name, by_kind) for name in map(camel_case, Cycles.model_fields) if name in used),
        ("cycles of loading",),
        *(_row(name, [loading]) for name in map(camel_case, Loading.model_fields) if name in loading),
    ]


def _row(name: str, rates: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    return (f"  {name}", *(f"{found[name]:,.4g}" if name in found else "–" for found in rates))


def _columns(rows: Rows) -> list[str]:
    return [
        (f"{label:<{LABEL_WIDTH}}" + "".join(f"{cell:>{WIDTH}}" for cell in cells)).rstrip()
        for label, *cells in rows
    ]
