"""A picture of a gate report: how much of each budget is used, and which is exceeded.

Blue and orange stay apart for every kind of colour blindness, and a failing check also says so in words and
hatching.

>>> Path("headroom.png").write_bytes(headroom_png(report))     # doctest: +SKIP
"""

from __future__ import annotations

import io
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from edgewright.bench.report import Check, GateReport
from edgewright.plan.figures import shown

PASS, FAIL, TRACK, INK, QUIET = "#0072B2", "#D55E00", "#EEF1F4", "#1F2933", "#66727F"  # Okabe and Ito (2008)
SHOWN_MAX = 1.5  # a bar this long means "at least this much": worse than that is bad whatever its length
WIDTH_IN, HEAD_IN, ROW_IN, FOOT_IN, DPI = 9.0, 0.80, 0.42, 0.45, 120
BARS_IN = (1.35, 5.58)  # left and right end of the bars; longer names of checks push the left end
NAMES_IN, GAP_IN = 2.7, 0.3  # the most that names may take, and around them
FIGURES_IN, WORDS_IN = 5.72, 8.80  # where a check's figures begin and its headroom ends


def headroom_png(report: GateReport) -> bytes:
    """Return a PNG, 1,080 pixels wide, one row per check."""
    rows = len(report.checks)
    height_in = HEAD_IN + ROW_IN * rows + FOOT_IN
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, FOOT_IN / height_in, 1, ROW_IN * rows / height_in))
    axes.set_xlim(0, SHOWN_MAX)
    axes.set_ylim(rows - 0.5, -0.5)
    for row, check in enumerate(report.checks):
        _draw(axes, row, check)
    axes.axvline(1.0, color=INK, linewidth=1.2, zorder=3)
    axes.set_xticks([0, 0.5, 1.0, 1.5], ["0", "50 %", "limit", "150 %"])
    axes.set_yticks(range(rows), [check.name for check in report.checks])
    axes.tick_params(length=0, colors=INK, labelsize=10)
    names_in = max((fit(label, NAMES_IN) for label in axes.get_yticklabels()), default=0.0)
    left_in = max(BARS_IN[0], names_in + GAP_IN)
    box = axes.get_position()
    axes.set_position((left_in / WIDTH_IN, box.y0, (BARS_IN[1] - left_in) / WIDTH_IN, box.height))
    for spine in axes.spines.values():
        spine.set_visible(False)

    verdict = "passes" if report.verdict == "pass" else f"blocked: {len(report.failed)} of {rows} checks fail"
    title, subtitle = 1 - 0.30 / height_in, 1 - 0.58 / height_in
    bold: dict[str, Any] = {"fontweight": "bold", "va": "center"}
    name = f"{report.model} {report.model_version} on {report.hardware_class}"
    color = PASS if report.verdict == "pass" else FAIL
    figure.text(0.98, title, verdict, color=color, fontsize=13, ha="right", **bold)
    # Two names of 63 characters each are legal; 50 characters in all fit beside the verdict at full size.
    figure.text(0.02, title, name, color=INK, fontsize=13 * min(1, 50 / len(name)), **bold)
    caption = f"share of each budget used · calibration: {report.calibration}"
    if any(check.name == "accuracy-floor" for check in report.checks):
        caption += " · accuracy-floor: lower end of the 95 % interval"
    fit(figure.text(0.02, subtitle, caption, color=QUIET, fontsize=9.5, va="center"), 0.96 * WIDTH_IN)

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def fit(text: Any, room_in: float) -> float:
    """Return the width (inches) of a text after making its print smaller where it needs more than its room."""
    width_in = float(text.get_window_extent(text.figure.canvas.get_renderer()).width) / DPI
    if width_in > room_in:
        text.set_fontsize(text.get_fontsize() * room_in / width_in)
    return min(width_in, room_in)


def _draw(axes: Any, row: int, check: Check) -> None:
    failed = check.verdict != "pass"
    color = FAIL if failed else PASS
    used = SHOWN_MAX if check.used is None else min(max(check.used, 0.0), SHOWN_MAX)
    axes.barh(row, SHOWN_MAX, height=0.56, color=TRACK, zorder=1)
    axes.barh(
        row,
        used,
        height=0.56,
        color=color if check.seen else TRACK,
        edgecolor="white" if check.seen else FAIL,
        hatch="////" if failed else None,
        linewidth=0,
        zorder=2,
    )
    relation = {("max", False): "≤", ("max", True): ">", ("min", False): "≥", ("min", True): "<"}
    sign = relation[check.direction, failed] if check.seen else "· limit"
    figures = f"{shown(check.measured, check.unit)} {sign} {shown(check.limit, check.unit)}"
    headroom = "fails" if failed else f"{check.headroom:.0%} left".replace("%", " %")
    # Across from the edge of the picture, down with the row: words stand in columns whatever room names take.
    columns = blended_transform_factory(axes.figure.transFigure, axes.transData)
    place: dict[str, Any] = {"transform": columns, "va": "center", "fontsize": 10}
    axes.text(FIGURES_IN / WIDTH_IN, row, figures, color=INK, **place)
    axes.text(WORDS_IN / WIDTH_IN, row, headroom, ha="right", fontweight="bold", color=color, **place)
