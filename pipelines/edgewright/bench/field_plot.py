"""A picture of field conditions: what is left by the model's metric under each, beside the floor it must keep.

The colours are those of `edgewright.bench.plot`; a condition below its floor also says so in words and hatching.

>>> png = conditions_png(document, checks, "digit-reader on raspberry-pi-4")     # doctest: +SKIP
>>> Path("conditions.png").write_bytes(png)                                      # doctest: +SKIP
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from edgewright.bench.plot import DPI, FAIL, INK, PASS, QUIET, TRACK, WIDTH_IN, fit
from edgewright.bench.report import Check
from edgewright.plan.figures import shown
from edgewright.spec.limits import condition_check

HEAD_IN, ROW_IN, FOOT_IN = 0.80, 0.50, 0.45
BARS = (0.31, 0.31)  # left edge and width, as shares of the picture: names before, words behind
FIGURES_X, WORDS_X = 1.05, (0.98 - BARS[0]) / BARS[1]  # of the words, in widths of a full bar
NAME_IN, TITLE_IN = 2.45, 6.0  # room for a name, and for a title beside the verdict
TOLD_CHARS = 46  # fill NAME_IN in the small print
_CHAIN = (
    "inputs",
    "gain",
    "offset",
    "snr",
    "adcBits",
    "fullScale",
    "dropped",
    "fill",
)  # as a signal meets them
_UNITS = {"offset": " %", "snr": " dB", "adcBits": " bit", "dropped": " %"}
_WORDS = {"adcBits": "", "fullScale": "scale ", "inputs": "of ", "snr": "SNR "}


def conditions_png(document: Mapping[str, Any] | None, checks: Sequence[Check], title: str) -> bytes:
    """Return a PNG, 1,080 pixels wide: a bar for clean inputs and one for each condition.

    Args:
        document: What `conditions_report` returned; None when nothing was measured.
        checks: Those of `condition_checks`; an `accuracy-floor` among them is the floor of the clean inputs.
        title: First line.
    """
    document = document or {}
    entries = {condition_check(entry["name"]): entry for entry in document.get("conditions", ())}
    judged = [check for check in checks if check.name.startswith(condition_check(""))]
    clean = next((check for check in checks if check.name == "accuracy-floor"), None)
    rows = 1 + len(judged)
    height_in = HEAD_IN + ROW_IN * rows + FOOT_IN
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((BARS[0], FOOT_IN / height_in, BARS[1], ROW_IN * rows / height_in))
    axes.set_xlim(0, 1)
    axes.set_ylim(rows - 0.5, -0.5)
    # The floor of clean inputs is judged at the lower end of the interval, which no bar shows.
    told = (
        f"as the data are, at least {shown(clean.measured, 'ratio')}"
        if clean and clean.seen
        else "as the data are"
    )
    _name(axes, 0, "clean", told)
    _bar(axes, 0, document.get("clean"), clean)
    for row, check in enumerate(judged, 1):
        entry = entries.get(check.name, {})
        _name(axes, row, check.name.removeprefix(condition_check("")), _told(entry.get("degradation", {})))
        _bar(axes, row, check.measured if check.seen else None, check)
        if check.verdict == "pass" and "drop" in entry:
            _word(axes, row, _points(entry["drop"]), INK)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_yticks([])
    axes.tick_params(length=0, colors=QUIET, labelsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)
    held = [clean, *judged] if clean and clean.verdict != "pass" else judged
    _head(figure, height_in, title, document, held)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _head(
    figure: Figure, height_in: float, title: str, document: Mapping[str, Any], judged: Sequence[Check]
) -> None:
    first, second = 1 - 0.30 / height_in, 1 - 0.58 / height_in
    failed = sum(check.verdict != "pass" for check in judged)
    verdict = f"{failed} of {len(judged)} fail" if failed else "meets every floor"
    bold: dict[str, Any] = {"fontweight": "bold", "va": "center"}
    color = FAIL if failed else PASS
    if judged:
        figure.text(0.98, first, verdict, color=color, fontsize=13, ha="right", **bold)
    fit(figure.text(0.02, first, title, color=INK, fontsize=13, **bold), TITLE_IN)
    count = document.get("samples")
    over = f" on {count:,} samples" if count else ""
    word = document.get("metric", "accuracy")
    caption = f"{word} under field conditions{over} · mark: floor · right: against clean inputs"
    figure.text(0.02, second, caption, color=QUIET, fontsize=9.5, va="center")


def _name(axes: Any, row: int, name: str, told: str) -> None:
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    style: dict[str, Any] = {"ha": "right", "va": "center", "annotation_clip": False}
    fit(
        axes.annotate(
            name, (0, row), xytext=(-8, 6 if told else 0), fontsize=10, color=INK, **place, **style
        ),
        NAME_IN,
    )
    axes.annotate(told, (0, row), xytext=(-8, -7), fontsize=8, color=QUIET, **place, **style)


def _bar(axes: Any, row: int, measured: float | None, check: Check | None) -> None:
    failed = check is not None and check.verdict != "pass"
    axes.barh(row, 1, height=0.52, color=TRACK, zorder=1)
    axes.barh(
        row,
        1 if measured is None else measured,
        height=0.52,
        color=TRACK if measured is None else FAIL if failed else PASS,
        edgecolor=FAIL if measured is None else "white",
        hatch="////" if failed else None,
        linewidth=0,
        zorder=2,
    )
    figures = shown(measured, "ratio")
    if check is not None:
        axes.plot([check.limit] * 2, [row - 0.36, row + 0.36], color=INK, linewidth=2, zorder=3)
        sign = "· floor" if measured is None else "<" if measured < check.limit else "≥"
        figures += f" {sign} {shown(check.limit, 'ratio')}"
    axes.text(FIGURES_X, row, figures, va="center", fontsize=10, color=INK)
    if failed:
        _word(axes, row, "fails", FAIL)


def _word(axes: Any, row: int, text: str, color: str) -> None:
    axes.text(WORDS_X, row, text, va="center", ha="right", fontsize=10, fontweight="bold", color=color)


def _points(drop: float) -> str:
    """Return a loss of accuracy in percentage points, with the sign of a change."""
    change = round(-100 * drop, 2) + 0.0  # no minus before a zero
    return f"{change:+.2f} points".replace("-", "−")


def _told(degradation: Mapping[str, Any]) -> str:
    """Return a degradation in few words: `gain 0.75, SNR 25 dB, scale 0 to 1`."""
    words: list[str] = []
    for key in (key for key in _CHAIN if key in degradation):
        value = degradation[key]
        if key == "fullScale":
            text = f"{value[0]:g} to {value[1]:g}"
        elif key == "inputs":
            text = ", ".join(value)
        else:
            text = f"{value:g}{_UNITS.get(key, '')}" if isinstance(value, (int, float)) else str(value)
        words.append(_WORDS.get(key, f"{key} ") + text)
    told = ", ".join(words).replace("-", "−")
    return told if len(told) <= TOLD_CHARS else f"{told[:TOLD_CHARS].rpartition(', ')[0]}, …"
