"""One parser of foreign bytes: real documents to begin from, and its oracle.

`Target.run` returns, whatever the input: the only errors it lets a parser raise are those that its documentation names,
each with a message that can be printed and recorded. Anything else is a crash.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgewright_agent.errors import AgentError

DIGEST = "sha256:" + "ab" * 32


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        name: As the command line and the table call it.
        reads: What it reads, for people.
        seeds: Returns inputs to begin from, made of real documents.
        parse: The parser; given an input.
        errors: What it may raise.
    """

    name: str
    reads: str
    seeds: Callable[[], list[bytes]]
    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]

    def run(self, data: bytes) -> None:
        """Parse an input; whatever comes out but a documented error goes on to the caller."""
        try:
            self.parse(data)
        except self.errors as error:
            str(error).encode()  # it is printed, and stored in the record
            if isinstance(error, AgentError):
                assert error.code


TARGETS: list[Target] = []


def target(
    name: str, reads: str, *errors: type[Exception], seeds: Callable[[], list[bytes]]
) -> Callable[[Callable[[bytes], object]], Callable[[bytes], object]]:
    """Enter a parser into `TARGETS`; see `Target`."""

    def enter(parse: Callable[[bytes], object]) -> Callable[[bytes], object]:
        TARGETS.append(Target(name, reads, seeds, parse, errors))
        return parse

    return enter


@functools.cache
def scratch() -> Path:
    """Return a folder of this process, in memory where the machine has such a place: nothing here must last."""
    memory = Path("/dev/shm")  # noqa: S108
    return Path(tempfile.mkdtemp(prefix="edgewright-fuzz-", dir=memory if memory.is_dir() else None))


def tidy() -> None:
    """Remove the scratch folder."""
    if scratch.cache_info().currsize:
        shutil.rmtree(scratch(), ignore_errors=True)
        scratch.cache_clear()
