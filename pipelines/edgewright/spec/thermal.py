"""The thermal envelope of a hardware class, and what lets throttling be simulated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgewright.spec.base import Spec, camel_case, contradiction
from edgewright.spec.quantity import Celsius, Megahertz, Quantity, Watts

KelvinPerWatt = Annotated[
    float, Quantity("a thermal resistance", {"K/W": (1, 1)}, "K/W", ("7.3K/W", "0.9K/W"))
]
"""How much warmer than the air one watt makes a die; read as K/W."""
JoulesPerKelvin = Annotated[float, Quantity("a heat capacity", {"J/K": (1, 1)}, "J/K", ("80J/K", "630J/K"))]
"""Heat that warms die and heat sink by one kelvin; read as J/K."""
Kelvin = Annotated[float, Quantity("a temperature difference", {"K": (1, 1)}, "K", ("2K",), near={"c": "K"})]
"""A difference of temperatures; read as kelvin."""


class ThermalStep(Spec):
    """A slower clock and the temperature that calls for it."""

    clock: Megahertz
    """Clock of one core at this step; an accelerator is taken to slow down in the same ratio to `cpu.clock`."""
    at: Celsius
    """Die temperature from which this step holds."""
    power_active: Watts | None = None
    """Power while inferring at this step; absent: the part over `powerIdle` shrinks as the clock does."""


class Thermal(Spec):
    """Thermal envelope; the keys from `resistance` on let throttling be simulated: all but `hysteresis`, or none."""

    cooling: Literal["passive", "active"]
    """How heat leaves."""
    ambient_max: Celsius
    """Hottest declared surroundings."""
    throttle_at: Celsius
    """Die temperature at which the clock drops."""
    resistance: KelvinPerWatt | None = None
    """From the die to the surrounding air, over the heat sink."""
    capacitance: JoulesPerKelvin | None = None
    """Of everything that warms up with the die: its heat sink above all."""
    power_idle: Watts | None = None
    """What heats the die while nothing is inferred."""
    power_active: Watts | None = None
    """What heats the die during an inference on all of `runtime.threads`."""
    steps: tuple[ThermalStep, ...] | None = Field(default=None, min_length=1)
    """Slower clocks, each with a higher temperature than the one before; the first begins at `throttleAt`."""
    hysteresis: Kelvin | None = None
    """How far below its temperature a step is left again; absent: 2 K, as in most Linux device trees."""

    @model_validator(mode="after")
    def _can_be_simulated(self) -> Thermal:
        """Check what no single key can know.

        Raises:
            PydanticCustomError: keys of the simulation are missing, or contradict each other.
        """
        wanted = ("resistance", "capacitance", "power_idle", "power_active", "steps")
        absent = [camel_case(key) for key in wanted if getattr(self, key) is None]
        if len(absent) == len(wanted) and self.hysteresis is None:
            return self
        if absent:
            raise contradiction(f"throttling is simulated from {len(wanted)} keys; add {', '.join(absent)}")
        assert self.steps and self.power_idle is not None and self.power_active is not None
        if self.power_active < self.power_idle:
            raise contradiction("powerActive is below powerIdle")
        if self.steps[0].at != self.throttle_at:
            raise contradiction("the first of 'steps' must begin at throttleAt")
        for earlier, later in zip(self.steps, self.steps[1:], strict=False):
            if later.at <= earlier.at or later.clock >= earlier.clock:
                raise contradiction("each of 'steps' must be hotter and slower than the one before")
        powers = [
            self.power_active,
            *(step.power_active for step in self.steps if step.power_active is not None),
        ]
        if sorted(powers, reverse=True) != powers or powers[-1] < self.power_idle:
            raise contradiction("powerActive of 'steps' must fall from step to step and stay above powerIdle")
        return self
