"""The tests' own transparency log is a real one: its hashes are those of RFC 6962's reference implementation."""

from __future__ import annotations

from private_sigstore.merkle import Tree, leaf_hash, node_hash

# The test vectors of Google's certificate-transparency reference (merkle_tree_test.cc): eight inputs and their roots.
INPUTS = [
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_roots_are_those_of_the_reference() -> None:
    tree = Tree()
    for entry, root in zip(INPUTS, ROOTS, strict=True):
        tree.append(bytes.fromhex(entry))
        assert tree.root().hex() == root


def test_every_path_leads_to_the_root() -> None:
    """RFC 9162 2.1.3.2, Verifying an Inclusion Proof."""
    for size in range(1, 20):
        tree = Tree()
        for number in range(size):
            tree.append(b"%d" % number)
        for index in range(size):
            fn, sn, value = index, size - 1, leaf_hash(b"%d" % index)
            for step in tree.path(index):
                assert sn
                if fn & 1 or fn == sn:
                    value = node_hash(step, value)
                    while not fn & 1 and fn:
                        fn, sn = fn >> 1, sn >> 1
                else:
                    value = node_hash(value, step)
                fn, sn = fn >> 1, sn >> 1
            assert (sn, value) == (0, tree.root())
