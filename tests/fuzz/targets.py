"""Every parser of the agent that reads bytes from strangers.

>>> target = by_name("policy")
>>> target.run(target.seeds()[0])
"""

from __future__ import annotations

from fuzz import (
    of_artifacts,
    of_attestations,
    of_http,
    of_keys,
    of_links,
    of_metadata,
    of_own_files,
    of_sockets,
)
from fuzz.target import TARGETS, Target, tidy

# Importing a module enters its targets.
__all__ = [
    "TARGETS",
    "by_name",
    "of_artifacts",
    "of_attestations",
    "of_http",
    "of_keys",
    "of_links",
    "of_metadata",
    "of_own_files",
    "of_sockets",
    "tidy",
]


def by_name(name: str) -> Target:
    """Return one target."""
    return next(target for target in TARGETS if target.name == name)
