"""Every failure the agent reports, under one root: a stable code for machines, a sentence for people.

`code` is what `status` and telemetry carry; `exit_code` is what the command line returns:
1 wrong configuration or usage, 2 refused (trust, policy, health), 3 network or environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class AgentError(Exception):
    """A failure with a stable code.

    Args:
        code: Kebab-case reason, part of the contract with fleet status (`expired-metadata`, `no-space`, …).
        message: One sentence: what happened, to what, what to do.
    """

    exit_code = 3

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConfigError(AgentError):
    """The agent's configuration or the command is wrong."""

    exit_code = 1


class TrustError(AgentError):
    """Something is not signed, not current or not meant for this device; nothing is installed."""

    exit_code = 2


class HealthError(AgentError):
    """A model did not pass its trial on this device; `facts` is what was seen of it, for the evidence."""

    exit_code = 2

    def __init__(self, code: str, message: str, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(code, message)
        self.facts: dict[str, Any] = dict(facts or {})


class TransportError(AgentError):
    """A registry, layout or bundle file cannot be read, or gave bytes that do not match their digest."""


class StorageError(AgentError):
    """This device cannot store: no space, a read-only or failing file system."""
