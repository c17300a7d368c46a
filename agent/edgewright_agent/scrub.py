"""Read back some of what is active at every whole update: bits rot, and a file of the right length looks whole.

>>> done = scrub(store, {"digit-reader": digest}, start=12)   # doctest: +SKIP
>>> done.files, done.damaged                                  # doctest: +SKIP
(2, ('digit-reader',))

Files take turns, so that one update costs little and all of them are read in the end. Where it stands is a counter in
the record. The daemon's polls that find nothing new do not come here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgewright_agent.errors import StorageError
from edgewright_agent.store import Store, check_file

COUNTER = "scrubbed"
BYTES_PER_UPDATE = (
    32 * 1024 * 1024
)  # about 30 ms of a small device's processor; one larger file is read all the same


@dataclass(frozen=True)
class Scrubbed:
    """What was read.

    Attributes:
        files: How many; the next scrub starts after them.
        damaged: Models of which something is not as it was signed.
    """

    files: int
    damaged: tuple[str, ...]


def scrub(store: Store, active: Mapping[str, str], *, start: int) -> Scrubbed:
    """Hash the next few files of active models against their signed manifests.

    Args:
        store: Where they are.
        active: Digest by model.
        start: How many files all scrubs before have read.
    """
    layers, damaged = [], set[str]()
    for model, digest in sorted(active.items()):
        try:
            layers += [(model, store.path(digest), layer) for layer in store.artifact(digest).layers]
        except StorageError:
            damaged.add(model)
    done, left = 0, BYTES_PER_UPDATE
    while done < len(layers) and left > 0:
        model, folder, layer = layers[(start + done) % len(layers)]
        try:
            check_file(folder / layer.file, layer)
        except StorageError:
            damaged.add(model)
        done, left = done + 1, left - layer.file_size
    return Scrubbed(done, tuple(sorted(damaged)))
