"""What a device's owner says about telemetry.

>>> Telemetry().endpoint is None
True
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgewright_agent.section import Section


@dataclass(frozen=True)
class Telemetry:
    """The `telemetry` section of the configuration.

    Attributes:
        endpoint: Where batches go; None: they stay in the spool.
    """

    endpoint: str | None = None


def telemetry_of(top: Section, base: Path) -> Telemetry:
    """Read the section; absent: nothing is sent."""
    section = top.section("telemetry", optional=True)
    section.finish()
    return Telemetry()
