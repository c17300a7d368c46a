"""How warm a die gets and which clock that allows: one thermal resistance, one heat capacity, trip points.

    C · dT/dt = P - (T - Ta) / R          T(t + dt) = T∞ + (T(t) - T∞) · exp(-dt / RC),   T∞ = Ta + R · P

with die temperature T and air temperature Ta (°C), power P (W), thermal resistance R from die to air (K/W)
and heat capacity C of what warms up with the die (J/K). The right side is exact while P is constant. It is the
one-node case of the RC networks of Skadron et al. ("Temperature-aware microarchitecture", ISCA 2003) and of
JESD51-1's thermal resistance; it knows one heat sink, not the hot spots within a die, and takes leakage to be
part of the declared powers whatever the temperature.

The governor looks every `TICK_NS`. Like a passive trip of Linux (Documentation/driver-api/thermal), a step holds
from its temperature on and is left once the die is more than `hysteresis` below it.

    P = powerIdle + busy share · (powerActive of the step - powerIdle)

Without a declared power of its own, a step's part over idle shrinks as its clock does (dynamic power C·V²·f
with the voltage kept: lower voltages only help).

>>> die = Die.from_spec(sheet["thermal"], clock_mhz=1500.0)                # doctest: +SKIP
>>> die.steady_nk(die.active_uw[0], celsius_nk(50))                         # doctest: +SKIP
88690000000

Everything is whole numbers, so that no machine's floating point can be another's: nanokelvin (as nano-°C),
microwatts, microkelvin per watt, kilohertz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

from edgewright.errors import SpecError

TICK_NS = (
    100_000_000  # as fine as Linux polls a hot zone (`polling-delay-passive`, 100-1000 ms); far below RC
)
HYSTERESIS_K = 2.0  # what most device trees of Linux give a trip (arch/arm*/boot/dts, 2000 millicelsius)
SHIFT = 64  # bits of the decay factor's fraction
# Decimal arithmetic is the same everywhere, its exp and ln correctly rounded; math.exp is neither.
_EXACT = Context(prec=40)


def celsius_nk(celsius: float) -> int:
    """Return a temperature in units of 1e-9 °C."""
    return round(celsius * 1_000_000) * 1_000


@dataclass(frozen=True)
class Die:
    """A die on its heat sink, and the clocks it may run at.

    Attributes:
        resistance_uk_w: R, in µK/W.
        capacitance_uj_k: C, in µJ/K.
        idle_uw: Power while nothing is inferred.
        active_uw: Power during an inference, at full clock and at each step.
        clocks_khz: Full clock and that of each step.
        trips_nk: Temperature from which each step holds (one fewer than clocks).
        hysteresis_nk: How far below its temperature a step is left.
    """

    resistance_uk_w: int
    capacitance_uj_k: int
    idle_uw: int
    active_uw: tuple[int, ...]
    clocks_khz: tuple[int, ...]
    trips_nk: tuple[int, ...]
    hysteresis_nk: int

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], clock_mhz: float) -> Die:
        """Read `thermal` of a hardware sheet; `NO_HEAT` when it declares no simulation.

        Args:
            spec: In the words of the YAML: °C, K/W, J/K, W, MHz.
            clock_mhz: `cpu.clock`.

        Raises:
            SpecError: a step is not slower than the full clock.
        """
        if spec.get("resistance") is None:
            return NO_HEAT
        steps: Sequence[Mapping[str, Any]] = spec["steps"]
        clocks = (_milli(clock_mhz), *(_milli(step["clock"]) for step in steps))
        if clocks[1] >= clocks[0]:
            raise SpecError(
                f"thermal.steps: {steps[0]['clock']:g} MHz is not slower than cpu.clock ({clock_mhz:g} MHz)",
                hint="a step is what the clock drops to",
            )
        idle_uw, full_uw = _micro(spec["powerIdle"]), _micro(spec["powerActive"])
        active = [full_uw]
        for step, clock in zip(steps, clocks[1:], strict=True):
            own = step.get("powerActive")
            scaled = idle_uw + (full_uw - idle_uw) * clock // clocks[0]
            active.append(scaled if own is None else _micro(own))
        hysteresis = spec.get("hysteresis")
        return cls(
            resistance_uk_w=_micro(spec["resistance"]),
            capacitance_uj_k=_micro(spec["capacitance"]),
            idle_uw=idle_uw,
            active_uw=tuple(active),
            clocks_khz=clocks,
            trips_nk=tuple(celsius_nk(step["at"]) for step in steps),
            hysteresis_nk=celsius_nk(HYSTERESIS_K if hysteresis is None else hysteresis),
        )

    @property
    def time_constant_ns(self) -> int:
        """RC: after this long, 63 % of the way to the steady temperature is done."""
        return max(1, self.resistance_uk_w * self.capacitance_uj_k // 1_000)

    def steady_nk(self, power_uw: int, ambient_nk: int) -> int:
        """Return T∞ = Ta + R · P."""
        return ambient_nk + self.resistance_uk_w * power_uw // 1_000

    def power_uw(self, step: int, busy_ns: int, of_ns: int) -> int:
        """Return the mean power of a time `of_ns` long, `busy_ns` of which were spent inferring at `step`."""
        return self.idle_uw + (self.active_uw[step] - self.idle_uw) * busy_ns // of_ns

    def decay(self, duration_ns: int) -> int:
        """Return exp(-duration / RC) as a fraction of 2^SHIFT."""
        share = _EXACT.divide(Decimal(-duration_ns), Decimal(self.time_constant_ns))
        return int(_EXACT.multiply(_EXACT.exp(share), Decimal(1 << SHIFT)))

    def step_at(self, temperature_nk: int, step: int) -> int:
        """Return the step the governor sets at a temperature, coming from `step` (0: full clock)."""
        while step < len(self.trips_nk) and temperature_nk >= self.trips_nk[step]:
            step += 1
        while step > 0 and temperature_nk < self.trips_nk[step - 1] - self.hysteresis_nk:
            step -= 1
        return step

    def settled(self, busy_ns: int, of_ns: int, ambient_nk: int) -> tuple[int, int]:
        """Return temperature and step of a die that has carried a load for hours.

        Args:
            busy_ns: Time the load keeps the die busy at full clock …
            of_ns: … out of this time; slower clocks need more of it, until there is no more.
            ambient_nk: Ta.

        Where one step is too hot and the next too cool, the governor goes back and forth; the state given is
        the beginning of such a round.
        """
        steady_nk = step = 0
        for step, clock_khz in enumerate(self.clocks_khz):
            busy_here_ns = min(of_ns, busy_ns * self.clocks_khz[0] // clock_khz)
            steady_nk = self.steady_nk(self.power_uw(step, busy_here_ns, of_ns), ambient_nk)
            if step == len(self.trips_nk) or steady_nk < self.trips_nk[step]:
                break
        if step and steady_nk < self.trips_nk[step - 1] - self.hysteresis_nk:
            return self.trips_nk[step - 1], step
        return steady_nk, step

    def time_to_trip_ns(self, power_uw: int, start_nk: int, ambient_nk: int) -> int | None:
        """Return when the first trip is met at constant power, None when never.

        t = RC · ln((T∞ - T0) / (T∞ - Ttrip)), the solution above for T(t) = Ttrip.
        """
        if not self.trips_nk:
            return None
        trip_nk, steady_nk = self.trips_nk[0], self.steady_nk(power_uw, ambient_nk)
        if start_nk >= trip_nk:
            return 0
        if steady_nk <= trip_nk:
            return None
        ratio = _EXACT.divide(Decimal(steady_nk - start_nk), Decimal(steady_nk - trip_nk))
        return int(_EXACT.multiply(_EXACT.ln(ratio), Decimal(self.time_constant_ns)))


NO_HEAT = Die(0, 1_000_000, 0, (0,), (1,), (), 0)
"""A die as cool as the air whatever it does, always at full clock: where a sheet declares no heat."""


def later(temperature_nk: int, steady_nk: int, decay: int) -> int:
    """Return the temperature after the time that `decay` stands for: T∞ + (T - T∞) · decay."""
    return steady_nk + ((temperature_nk - steady_nk) * decay >> SHIFT)


def _milli(value: float) -> int:
    return round(value * 1_000)


def _micro(value: float) -> int:
    return round(value * 1_000_000)
