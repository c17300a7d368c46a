"""The process that waits between polls: `python -m edgewright_agent.idle CONFIG`, what `edgewright-agent run` becomes.

Most of a device's life is spent in it, so it carries as little as Python lets it: no argparse, and `inspect`
(1 MiB with what it imports) only if somebody uses it. `dataclasses` imports it for signatures we never ask for. OpenSSL
(4 MiB) comes with the first request over TLS: hashes are Python's own, and of `http.client` only HTTPS needs `ssl`.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast


class Later(ModuleType):
    """Stands in for a module and imports it at the first use of anything in it.

    importlib's own LazyLoader does not do: in Python 3.11 the next `import` statement already triggers it.
    """

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def spare() -> None:
    """Put off what a waiting process can do without; before anything else of the agent is imported."""
    for name in ("inspect", "ssl"):
        sys.modules.setdefault(name, Later(name))
    if "_hashlib" in sys.modules:
        return
    for name in (
        "_sha256",
        "_sha2",
    ):  # Python's own, before and from 3.12 on; a distribution may leave it out
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
            sys.modules["_hashlib"] = cast(
                ModuleType, None
            )  # as `hashlib` finds it where there is no OpenSSL
            return


def main(arguments: list[str]) -> int:
    """Run the daemon; returns the exit code."""
    spare()
    from edgewright_agent.daemon import Daemon
    from edgewright_agent.errors import AgentError

    try:
        return Daemon(Path(arguments[0])).run()
    except AgentError as error:
        print(f"edgewright-agent: {error.code}: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
