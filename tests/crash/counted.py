"""Calls that count, and do something at each one: die in it, or look at the disk after it.

>>> Counted(before=lambda number: number == 7 and kill())      # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from crash.recording import Witness

_COUNTED = (
    "mkdir",
    "open",
    "open_private",
    "allocate",
    "write",
    "sync",
    "sync_data",
    "sync_dir",
    "chmod",
    "rename",
    "link",
    "symlink",
    "unlink",
    "rmdir",
)


class Counted(Witness):
    """Counts every operation.

    Args:
        ends_at: The operation before which `end` is called; a write is half done by then. 0 is none.
        end: Ends the process.
        after: Called after each operation.
        careless: Operations that are left out: what an agent does that does not know better.
    """

    def __init__(
        self,
        ends_at: int = 0,
        *,
        end: Callable[[], None] = lambda: None,
        after: Callable[[], None] = lambda: None,
        careless: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.count, self.after = 0, after
        self._ends_at, self._end, self._careless = ends_at, end, careless

    @property
    def done(self) -> int:
        return self.count

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in _COUNTED:
            return found

        def call(path: Path, *args: Any) -> Any:
            self.count += 1
            if self.count == self._ends_at:
                if name == "write":
                    fd, data, offset = args
                    with contextlib.suppress(OSError):  # a disk that is full in this story
                        found(path, fd, data[: len(data) // 2], offset)
                self._end()
            try:
                return None if name in self._careless else found(path, *args)
            finally:  # also of one that finds nothing to do, as `unlink` may
                self.after()

        return call
