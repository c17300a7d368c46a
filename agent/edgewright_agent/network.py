"""What a device's owner says about its link.

>>> Network().metered
'no'
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgewright_agent.section import Section


@dataclass(frozen=True)
class Network:
    """The `network` section of the configuration.

    Attributes:
        metered: `yes`, `no`, or `ask`: as `edgewright-agent metered on|off` said last.
    """

    metered: str = "no"


def network_of(top: Section, base: Path) -> Network:
    """Read the section; absent: an ordinary link."""
    section = top.section("network", optional=True)
    section.finish()
    return Network()
