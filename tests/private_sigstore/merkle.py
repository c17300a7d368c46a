"""A Merkle tree as transparency logs keep it (RFC 6962 2.1 and RFC 9162 2.1: the same hashes).

>>> tree = Tree()
>>> index = tree.append(b"entry")
>>> tree.path(index), tree.root() == leaf_hash(b"entry")
([], True)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf: 0x00 keeps it apart from an inner node."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass
class Tree:
    """An append-only list of entries; it remembers the hashes of its leaves."""

    leaves: list[bytes] = field(default_factory=list)

    def append(self, entry: bytes) -> int:
        """Add an entry; return its index."""
        self.leaves.append(leaf_hash(entry))
        return len(self.leaves) - 1

    def root(self) -> bytes:
        """Return the tree head (RFC 9162 2.1.1)."""
        return _root(self.leaves)

    def path(self, index: int) -> list[bytes]:
        """Return the inclusion proof of one leaf (RFC 9162 2.1.3.1)."""
        return _path(index, self.leaves)


def _split(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = _split(len(leaves))
    return node_hash(_root(leaves[:k]), _root(leaves[k:]))


def _path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*_path(index, leaves[:k]), _root(leaves[k:])]
    return [*_path(index - k, leaves[k:]), _root(leaves[:k])]
