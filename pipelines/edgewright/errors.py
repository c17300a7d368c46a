"""Every error a person can cause or meet, under one root, each with the exit code of the command line.

>>> raise GateError("digit-reader on raspberry-pi-4 has no passing gate report", hint="edgewright run")
Traceback (most recent call last):
edgewright.errors.GateError: digit-reader on raspberry-pi-4 has no passing gate report
"""

from __future__ import annotations


class EdgewrightError(Exception):
    """A failure to be shown without a traceback: what happened, to what, and what to do next.

    Args:
        message: One sentence that names the thing and what is wrong with it.
        hint: What to do next, ideally a command.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def render(self, *, color: bool = False) -> str:
        """Return the text a terminal shows."""
        prefix = "\x1b[1;31merror:\x1b[0m" if color else "error:"
        return f"{prefix} {self}" + (f"\n  → {self.hint}" if self.hint else "")


class SpecError(EdgewrightError):
    """The YAML under review is wrong (exit code 1)."""


class BuildError(EdgewrightError):
    """A model cannot be trained, exported, optimized or evaluated as described (exit code 1)."""


class GateError(EdgewrightError):
    """A gate or a policy says no (exit code 2)."""

    exit_code = 2


class TrustError(EdgewrightError):
    """A key, passphrase or metadata file is missing or wrong (exit code 3: no gate said anything)."""

    exit_code = 3


class NetworkError(EdgewrightError):
    """A registry cannot be reached or answers badly (exit code 3)."""

    exit_code = 3


class GoneError(NetworkError):
    """A registry answers, and no longer has what it once had: asking again changes nothing (exit code 3)."""


class EnvironmentFault(EdgewrightError):
    """This machine lacks something: a program, disk space, a permission (exit code 3)."""

    exit_code = 3


class ContentError(NetworkError, EnvironmentFault):
    """A registry, on the network or in a folder, answers with other bytes than asked for or too many (exit code 3).

    It is both of the others, so whoever tells only those two apart need not know it.
    """
