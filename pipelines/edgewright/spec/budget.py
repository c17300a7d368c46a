"""What every model on a hardware class must meet."""

from __future__ import annotations

from edgewright.spec.base import Spec
from edgewright.spec.quantity import Bytes, Count, Milliseconds, Percent


class Latency(Spec):
    """Latency percentiles of a one-sample inference."""

    p95: Milliseconds
    """95th percentile."""
    p99: Milliseconds
    """99th percentile."""


class InstructionLimits(Spec):
    """Budget of guest instructions."""

    load: Count | None = None
    """From the imported engine to a session that can run."""
    inference: Count | None = None
    """One-sample inference."""


class Limits(Spec):
    """What every model on this class must meet; a model may narrow a limit for itself, never widen it."""

    artifact_size: Bytes
    """Sum of all layers of the artifact."""
    load_time: Milliseconds
    """From an empty process with the engine imported to a session that can run."""
    power_cycle: Milliseconds | None = None
    """From a process without the engine to the first answer, nothing cached, as after the power was cut; the operating
    system's own start is not part of it; absent: not limited."""
    latency: Latency
    """One-sample inference."""
    peak_memory: Bytes
    """Peak resident memory over the bare engine."""
    instructions: InstructionLimits | None = None
    """Budget of guest instructions on the emulated processor, one thread; absent: no budget."""
    regression: Percent = 1.0
    """How much the instructions may grow over those in `baselines/<model>.yaml`, each of load and inference."""
