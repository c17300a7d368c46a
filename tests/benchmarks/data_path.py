"""Bring one artifact into a store as the agent does, in turns with the least that could cost; print the medians.

$ python tests/benchmarks/data_path.py http://127.0.0.1:5000/acme digit-reader sha256:… /tmp/scratch 7

The least is one download in a row, one sha256 and one synced write of the same bytes. The agent's way has more to it: a
synced offset to resume from, every layer in a file, and every byte read back from the disk and hashed again.

What a way has written is removed before the next begins: a virtual machine pays for memory it has never used,
and so would whoever fills the page cache last.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from edgewright_agent.artifact import Artifact, parse
from edgewright_agent.download import fetch
from edgewright_agent.files import Disk
from edgewright_agent.store import Store
from edgewright_agent.transport import open_source


def bare(url: str, repository: str, artifact: Artifact, folder: Path) -> None:
    """Download, hash, write and sync every layer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    for layer in artifact.layers:
        connection.request("GET", f"/v2{parts.path}/{repository}/blobs/{layer.digest}")
        answer = connection.getresponse()
        digest = hashlib.sha256()
        with (folder / layer.file).open("wb", buffering=0) as file:
            while piece := answer.read(1 << 18):
                digest.update(piece)
                file.write(piece)
            os.fsync(file.fileno())
        assert "sha256:" + digest.hexdigest() == layer.digest
    connection.close()


def agents(url: str, repository: str, artifact: Artifact, folder: Path) -> None:
    """Fetch, store and read back as an update does."""
    store = Store(folder, Disk())
    with contextlib.closing(open_source(url)) as source:
        staging = store.stage(artifact)
        for layer in artifact.layers:
            fetch(source, repository, layer, staging, store.disk, reserve_bytes=0)
        store.install(artifact)


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Return wall and CPU seconds."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def main(url: str, repository: str, digest: str, scratch: str, rounds: str) -> None:
    """Measure and print one JSON object: way → medians of wall and CPU seconds."""
    with contextlib.closing(open_source(url)) as source:
        found = source.manifest(repository, digest)
    assert found is not None
    artifact = parse(found.body)
    figures: dict[str, list[tuple[float, float]]] = {"bare": [], "agent": []}
    for number in range(int(rounds)):
        for name, way in (("bare", bare), ("agent", agents)):
            folder = Path(scratch, f"{name}-{number}")
            folder.mkdir(parents=True)
            os.sync()  # what others have left to write must not be paid for here
            figures[name].append(
                timed(lambda way=way, folder=folder: way(url, repository, artifact, folder))  # type: ignore[misc]
            )
            shutil.rmtree(folder)
    print(
        json.dumps(
            {
                name: [statistics.median(column) for column in zip(*rows, strict=True)]
                for name, rows in figures.items()
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
