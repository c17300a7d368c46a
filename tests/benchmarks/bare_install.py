"""The least that an install of one file can cost: one download in a row, one sha256, one synced write.

$ python tests/benchmarks/bare_install.py http://127.0.0.1:5000/v2/acme/reader/blobs/sha256:… /tmp/out
sha256:…
"""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit


def main(url: str, out: str) -> None:
    """Download, hash, write, sync."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    connection.request("GET", parts.path)
    answer = connection.getresponse()
    digest = hashlib.sha256()
    with Path(out).open("wb", buffering=0) as file:
        while piece := answer.read(1 << 18):
            digest.update(piece)
            file.write(piece)
        os.fsync(file.fileno())
    folder = os.open(Path(out).parent, os.O_RDONLY)
    os.fsync(folder)
    print("sha256:" + digest.hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
