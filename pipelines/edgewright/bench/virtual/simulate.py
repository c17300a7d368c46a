"""One model under load on one kind of hardware, in virtual time: waiting, heat, throttling.

>>> simulation = simulate(dump(model.workload), dump(hardware.thermal), 1500.0, latency_ms=4.0,
...                       calibration="declared", seed="digit-reader on raspberry-pi-4")   # doctest: +SKIP
>>> simulation.document()["cases"][1]["sojournMs"]["p99"]                                  # doctest: +SKIP
40.0

Requests arrive as `workload` says and go through the one queue of `server`. A service takes the latency at full
clock, times full clock over the clock of the moment (all of a latency is taken to be clocked: memory that does
not slow down would only help). Time spent inferring heats the die, and the die's temperature sets the clock
(`thermal`).

The same arrivals are played through in three cases: `room` and `hot` begin with a die that has idled for hours,
at room temperature and in the sheet's hottest air; `hot-settled` begins with one that has carried this very load
for hours. Percentiles are by nearest rank: figures that occurred, over the requests that were served.

Whole numbers (nanoseconds, kilohertz, nanokelvin) and correctly rounded decimal functions make the document the
same, byte for byte, in every process and on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgewright.bench.virtual.played import Case, Played, Tick, rounded_ms
from edgewright.bench.virtual.server import Server
from edgewright.bench.virtual.thermal import NO_HEAT, TICK_NS, Die, celsius_nk, later
from edgewright.bench.virtual.workload import NS_PER_S, Workload
from edgewright.errors import SpecError
from edgewright_agent.contract import canonical_json

VERSION = 1
DURATION_S = 600  # what MLPerf Edge asks of a run, and long enough for a small heat sink to warm up
ROOM_C = 25.0  # within the standard atmosphere for tests (IEC 60068-1: 15-35 °C)
LONGEST_S = 20_000  # a longer look at the sustained rate would show the same rounds again


@dataclass(frozen=True)
class Simulation:
    """All cases of one lane.

    Attributes:
        latency_ns: One inference at full clock.
        calibration: How that latency came about.
        die: With its heat, or `NO_HEAT`.
    """

    workload: Workload
    latency_ns: int
    calibration: str
    seed: str
    die: Die
    cases: tuple[Played, ...]

    @property
    def offered_load(self) -> float:
        """Share of the time that serving everything at full clock would take; over 1 it cannot be done."""
        return self.workload.burst * self.latency_ns / self.workload.gap_ns

    def case(self, name: str) -> Played:
        """Return one case.

        Raises:
            KeyError: there is no case of this name.
        """
        return {played.case.name: played for played in self.cases}[name]

    def document(self) -> dict[str, Any]:
        """Return everything but the courses over time, as JSON values."""
        return {
            "version": VERSION,
            "calibration": {
                "latency": self.calibration,
                "thermal": "none" if self.die is NO_HEAT else "declared",
            },
            "seed": self.seed,
            "durationS": self.cases[0].duration_ns // NS_PER_S,
            "latencyMs": rounded_ms(self.latency_ns),
            "offeredLoad": round(self.offered_load, 4),
            "workload": {
                "arrival": self.workload.arrival,
                "ratePerS": round(self.workload.rate_per_s, 6),
                "queue": self.workload.queue,
                "burst": self.workload.burst,
            },
            "cases": [played.document() for played in self.cases],
        }

    def to_json(self) -> bytes:
        """Return the document, the same bytes for the same question."""
        return canonical_json(self.document())


def simulate(
    workload: Mapping[str, Any],
    thermal: Mapping[str, Any] | None,
    clock_mhz: float,
    *,
    latency_ms: float,
    calibration: str,
    seed: str,
    duration_s: int = DURATION_S,
) -> Simulation:
    """Play every case of a lane.

    Args:
        workload: `workload` of the model, in the words of its YAML, the rate in 1/s.
        thermal: `thermal` of the hardware sheet; without `resistance` only queueing is simulated, as the one
            case `full-clock`.
        clock_mhz: `cpu.clock`.
        latency_ms: One inference at full clock.
        calibration: How that figure came about.
        seed: Any text; the lane's name makes lanes independent and each of them repeatable.
        duration_s: Virtual seconds.

    Raises:
        SpecError: the latency is not a duration, or a sheet contradicts itself.
    """
    if not 0 < latency_ms < 1e9 or duration_s < 1:
        raise SpecError(f"cannot simulate a latency of {latency_ms} ms for {duration_s} s")
    load, latency_ns = Workload.from_spec(workload), max(1, round(latency_ms * 1_000_000))
    die = Die.from_spec(thermal, clock_mhz) if thermal is not None else NO_HEAT
    cases: tuple[Case, ...] = (Case("full-clock", ROOM_C),)
    if thermal is not None and die is not NO_HEAT:
        hottest_c = float(thermal["ambientMax"])
        cases = (
            Case("room", min(ROOM_C, hottest_c)),
            Case("hot", hottest_c),
            Case("hot-settled", hottest_c, settled=True),
        )
    return Simulation(
        workload=load,
        latency_ns=latency_ns,
        calibration=calibration,
        seed=seed,
        die=die,
        cases=tuple(play(load, latency_ns, die, case, seed, duration_s) for case in cases),
    )


def play(
    load: Workload, latency_ns: int, die: Die, case: Case, seed: str, duration_s: int = DURATION_S
) -> Played:
    """Play one case: `duration_s` seconds of arrivals, queue, service and heat."""
    ambient_nk, load_ns = celsius_nk(case.ambient_c), load.burst * latency_ns
    start_nk, step = die.settled(load_ns if case.settled else 0, load.gap_ns, ambient_nk)
    offered_uw = die.power_uw(0, min(load_ns, load.gap_ns), load.gap_ns)
    server = Server(load, latency_ns * die.clocks_khz[0], seed)
    temperature_nk, decay, busy_ns = start_nk, die.decay(TICK_NS), 0
    ticks: list[Tick] = []
    for begin_ns in range(0, duration_s * NS_PER_S, TICK_NS):
        served = len(server.sojourns_ns)
        tick_busy_ns = server.advance(begin_ns + TICK_NS, die.clocks_khz[step])
        busy_ns += tick_busy_ns
        power_uw = die.power_uw(step, tick_busy_ns, TICK_NS)
        temperature_nk = later(temperature_nk, die.steady_nk(power_uw, ambient_nk), decay)
        ticks.append(Tick(step, len(server.sojourns_ns) - served, power_uw, temperature_nk))
        step = die.step_at(temperature_nk, step)
    return Played(
        case=case,
        die=die,
        start_nk=start_nk,
        requests=server.requests,
        dropped=server.dropped,
        pending=server.pending,
        sojourns_ns=sorted(server.sojourns_ns),
        services_ns=sorted(server.services_ns),
        busy_ns=busy_ns,
        ticks=ticks,
        projected_ns=die.time_to_trip_ns(offered_uw, start_nk, ambient_nk),
        sustained_per_s=sustained_per_s(latency_ns, die, ambient_nk),
    )


def sustained_per_s(latency_ns: int, die: Die, ambient_nk: int) -> float:
    """Return how many services per second a die keeps up for hours, always busy, in this air."""
    temperature_nk, step = die.settled(1, 1, ambient_nk)
    if step == 0:
        return NS_PER_S / latency_ns
    span_ns = min(max(2 * die.time_constant_ns, DURATION_S * NS_PER_S), LONGEST_S * NS_PER_S)
    decay, cycles, ticks = die.decay(TICK_NS), 0, span_ns // TICK_NS
    for _ in range(ticks):
        cycles += die.clocks_khz[step]
        temperature_nk = later(temperature_nk, die.steady_nk(die.active_uw[step], ambient_nk), decay)
        step = die.step_at(temperature_nk, step)
    return cycles * NS_PER_S / (ticks * die.clocks_khz[0] * latency_ns)
