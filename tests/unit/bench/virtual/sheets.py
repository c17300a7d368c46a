"""Loads and dies that tests can compute by hand.

`DIE`: R = 10 K/W, C = 10 J/K, so RC = 100 s; 1 W idle, 5 W active; 1 GHz, 500 MHz from 80 °C, 250 MHz from 90 °C,
left 5 K below.
"""

from __future__ import annotations

from typing import Any

from edgewright.bench.virtual.simulate import Simulation, simulate

CLOCK_MHZ = 1000.0
THERMAL: dict[str, Any] = {
    "cooling": "passive",
    "ambientMax": 50.0,
    "throttleAt": 80.0,
    "resistance": 10.0,
    "capacitance": 10.0,
    "powerIdle": 1.0,
    "powerActive": 5.0,
    "steps": [{"clock": 500.0, "at": 80.0}, {"clock": 250.0, "at": 90.0}],
    "hysteresis": 5.0,
}
SHEET_WITHOUT_HEAT = {key: THERMAL[key] for key in ("cooling", "ambientMax", "throttleAt")}


def simulated(
    load: float,
    *,
    arrival: str = "poisson",
    queue: int = 100_000,
    latency_ms: float = 20.0,
    thermal: dict[str, Any] = SHEET_WITHOUT_HEAT,
    duration_s: int = 600,
    seed: str = "test",
    **workload: Any,
) -> Simulation:
    """Simulate a workload that keeps a server of `latency_ms` busy for the share `load` of the time."""
    asked = {"arrival": arrival, "rate": load * 1000 / latency_ms, "queue": queue, **workload}
    return simulate(
        asked,
        thermal,
        CLOCK_MHZ,
        latency_ms=latency_ms,
        calibration="declared",
        seed=seed,
        duration_s=duration_s,
    )
