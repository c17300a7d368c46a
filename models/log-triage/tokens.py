"""Tokens: a line of text as whole numbers, as the network takes them and an application must make them.

Words in lower case are hashed into a fixed number of buckets, so there is no vocabulary to ship and none to run out
of; a word nobody has met gets a bucket as well. A number keeps its first digit and its length: 97 and 93 are the
same, 97 and 904 are not.

>>> pieces("press-04 plc: spindle 97 C")
['press', '#0', 'plc', 'spindle', '#90', 'c']
>>> encoded(["pump too hot"]).shape
(1, 32)
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

LENGTH = 32
BUCKETS = 2048
PAD = 0

_PIECE = re.compile(r"[a-z]+|[0-9]+")


def pieces(line: str) -> list[str]:
    """Return the words and shortened numbers of a line."""
    found = _PIECE.findall(line.lower())
    return [
        piece if piece.isalpha() else "#" + str(int(piece[0]) * 10 ** (len(piece) - 1)) for piece in found
    ]


def encoded(lines: Sequence[str]) -> np.ndarray:
    """Return the lines as int64 [lines, 32]: buckets from 1 on, then padding; what is longer is cut."""
    tokens = np.full((len(lines), LENGTH), PAD, np.int64)
    for row, line in enumerate(lines):
        buckets = [1 + zlib.crc32(piece.encode()) % (BUCKETS - 1) for piece in pieces(line)[:LENGTH]]
        tokens[row, : len(buckets)] = buckets
    return tokens
