"""Pictures of a simulation: how long answers take, and what heat does to temperature and rate.

The colours are those of Okabe and Ito (2008), which stay apart for every kind of colour blindness; each case
has its own dashes as well.

>>> Path("latency.png").write_bytes(latency_png(simulation, "digit-reader on raspberry-pi-4"))   # doctest: +SKIP
>>> Path("heat.png").write_bytes(heat_png(simulation, "digit-reader on raspberry-pi-4"))         # doctest: +SKIP
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from edgewright.bench.plot import DPI, INK, QUIET, WIDTH_IN
from edgewright.bench.virtual.played import Played
from edgewright.bench.virtual.simulate import Simulation
from edgewright.bench.virtual.thermal import NO_HEAT, TICK_NS
from edgewright.bench.virtual.workload import NS_PER_S

GRID = "#D9DEE3"
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.0}  # behind words on lines
STYLES: Mapping[str, dict[str, Any]] = {
    "full-clock": {"color": "#0072B2", "linestyle": "-", "linewidth": 2.2},
    "room": {"color": "#0072B2", "linestyle": "-", "linewidth": 2.8},
    "hot": {"color": "#E69F00", "linestyle": (0, (5, 2)), "linewidth": 2.2},
    "hot-settled": {"color": "#D55E00", "linestyle": (0, (1.2, 1.2)), "linewidth": 2.2},
}
HEIGHT_IN, HEAD_IN = 4.6, 0.95
POINTS = 600  # as many as the picture has room for


def latency_png(simulation: Simulation, title: str, limits_ms: Mapping[str, float] | None = None) -> bytes:
    """Return a PNG of the tail: for each duration, the share of requests that take longer.

    Args:
        simulation: What to draw.
        title: First line.
        limits_ms: `p95`, `p99` → limit; each becomes a mark where its percentile must stay left of it.
    """
    figure = _figure(title, f"time from request to answer · {_asked(simulation)}")
    axes = figure.add_axes((0.12, 0.13, 0.85, 1 - (HEAD_IN + 0.13 * HEIGHT_IN) / HEIGHT_IN))
    _clean(axes)
    slowest_ms = 0.0
    for played in simulation.cases:
        ordered = played.sojourns_ns
        if ordered:
            durations_ms, shares = _tail(ordered)
            slowest_ms = max(slowest_ms, durations_ms[-1])
            axes.step(durations_ms, shares, where="post", label=_named(played), **STYLES[played.case.name])
    for name, limit_ms in sorted((limits_ms or {}).items()):
        share = 1 - int(name.removeprefix("p")) / 100
        slowest_ms = max(slowest_ms, limit_ms)
        axes.plot([limit_ms], [share], marker="v", markersize=9, color=INK, clip_on=False, zorder=4)
        axes.annotate(
            f"{name} limit {limit_ms:g} ms",
            (limit_ms, share),
            xytext=(-9, 0) if limit_ms > 0.8 * slowest_ms else (9, 0),
            textcoords="offset points",
            ha="right" if limit_ms > 0.8 * slowest_ms else "left",
            va="center",
            fontsize=9,
            color=INK,
            bbox=PAPER,
        )
    axes.set_yscale("log")
    axes.set_ylim(0.0005, 1.0)
    axes.set_xlim(0, slowest_ms * 1.05 or 1.0)
    axes.set_yticks([1, 0.5, 0.05, 0.01, 0.001], ["all", "half (p50)", "5 % (p95)", "1 % (p99)", "0.1 %"])
    axes.minorticks_off()
    axes.set_xlabel("ms", color=QUIET, fontsize=9.5)
    axes.set_ylabel("requests that take longer", color=QUIET, fontsize=9.5)
    _legend(axes)
    return _png(figure)


def heat_png(simulation: Simulation, title: str) -> bytes:
    """Return a PNG of die temperature and answers per second over time, one line per case."""
    heat = simulation.die is not NO_HEAT
    figure = _figure(title, f"{'temperature and ' if heat else ''}rate over time · {_asked(simulation)}")
    bottom, top = 0.11, 1 - HEAD_IN / HEIGHT_IN
    middle = bottom + (top - bottom) * 0.40
    lower = figure.add_axes((0.10, bottom, 0.87, (middle if heat else top) - bottom - 0.04 * heat))
    upper = figure.add_axes((0.10, middle, 0.87, top - middle), sharex=lower) if heat else None
    second = NS_PER_S // TICK_NS
    for played in simulation.cases:
        style = {**STYLES[played.case.name], "label": _named(played)}
        width = max(1, len(played.ticks) // second // 60) * second  # a mean over 1/60 of the time
        blocks = [played.ticks[start : start + width] for start in range(0, len(played.ticks), width)]
        rates = [sum(tick.served for tick in block) * second / len(block) for block in blocks]
        begins_s = [index * width / second for index in range(len(rates))]
        ends_s = len(played.ticks) / second
        lower.step([*begins_s, ends_s], [*rates, rates[-1]], where="post", **style)
        if upper is not None:
            every = max(1, len(played.ticks) // POINTS)
            shown = played.ticks[every - 1 :: every]
            times_s = [0.0, *((index + 1) * every / second for index in range(len(shown)))]
            upper.plot(
                times_s, [played.start_nk / 1e9, *(tick.temperature_nk / 1e9 for tick in shown)], **style
            )
    _clean(lower)
    lower.set_ylim(0, max(1e-9, lower.get_ylim()[1] * 1.1))
    lower.set_xlim(0, simulation.cases[0].duration_ns / NS_PER_S)
    lower.set_xlabel("s", color=QUIET, fontsize=9.5)
    lower.set_ylabel("answers per s", color=QUIET, fontsize=9.5)
    if upper is not None:
        _trips(upper, simulation)
    _legend(lower if upper is None else upper)
    return _png(figure)


def _trips(axes: Any, simulation: Simulation) -> None:
    _clean(axes)
    axes.tick_params(labelbottom=False)
    axes.set_ylabel("die, °C", color=QUIET, fontsize=9.5)
    die = simulation.die
    low, high = axes.get_ylim()
    axes.set_ylim(low - 2, max(high, die.trips_nk[-1] / 1e9) + 6)
    for trip_nk, clock_khz in zip(die.trips_nk, die.clocks_khz[1:], strict=True):
        axes.axhline(trip_nk / 1e9, color=INK, linewidth=0.9)
        axes.annotate(
            f"{trip_nk / 1e9:g} °C: {clock_khz / 1000:g} MHz instead of {die.clocks_khz[0] / 1000:g}",
            (1, trip_nk / 1e9),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8.5,
            color=INK,
            bbox=PAPER,
            zorder=5,
        )


def _tail(ordered: Sequence[int]) -> tuple[list[float], list[float]]:
    """Return durations (ms) and the share that is longer, thinned to what can be seen on a logarithmic axis."""
    count = len(ordered)
    ranks = sorted({0, count - 1, *(int(count * (1 - 10 ** (-3.5 * i / POINTS))) for i in range(POINTS + 1))})
    points = [(ordered[rank] / 1e6, (count - 1 - rank) / count) for rank in ranks if rank < count]
    return [0.0, *(x for x, _ in points)], [1.0, *(max(y, 1e-9) for _, y in points)]


def _named(played: Played) -> str:
    words = {"room": "in a room", "hot": "hottest air", "hot-settled": "hottest air, after hours"}
    if played.case.name not in words:
        return "full clock"
    return f"{words[played.case.name]} ({played.case.ambient_c:g} °C)"


def _asked(simulation: Simulation) -> str:
    load = simulation.workload
    how = f"bursts of {load.burst}" if load.arrival == "burst" else load.arrival
    return (
        f"{load.rate_per_s:g} per s, {how}, {simulation.latency_ns / 1e6:g} ms each"
        f" · calibration: {simulation.calibration}"
    )


def _figure(title: str, subtitle: str) -> Figure:
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(
        0.02, 1 - 0.27 / HEIGHT_IN, title, color=INK, fontsize=13 * min(1, 60 / len(title)),
        fontweight="bold", va="center",
    )  # fmt: skip
    figure.text(0.02, 1 - 0.53 / HEIGHT_IN, subtitle, color=QUIET, fontsize=9.5, va="center")
    return figure


def _clean(axes: Any) -> None:
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK, labelsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _legend(axes: Any) -> None:
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=9.5, handlelength=3,
            borderaxespad=0.1, labelcolor=INK,
        )  # fmt: skip


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
