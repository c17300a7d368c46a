"""The process that waits between polls: `python -m edgewright_agent.idle CONFIG`, what `edgewright-agent run` becomes.

Most of a device's life is spent in it, so it carries as little as Python lets it: no argparse, and `inspect`
(1 MiB with what it imports) only if somebody uses it. `dataclasses` imports it for signatures we never ask for.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


class Later(ModuleType):
    """Stands in for a module and imports it at the first use of anything in it.

    importlib's own LazyLoader does not do: in Python 3.11 the next `import` statement already triggers it.
    """

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def main(arguments: list[str]) -> int:
    """Run the daemon; returns the exit code."""
    sys.modules.setdefault("inspect", Later("inspect"))
    from edgewright_agent.daemon import Daemon
    from edgewright_agent.errors import AgentError

    try:
        return Daemon(Path(arguments[0])).run()
    except AgentError as error:
        print(f"edgewright-agent: {error.code}: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
