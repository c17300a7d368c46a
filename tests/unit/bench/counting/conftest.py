"""The x86 sorter, compiled as the plugin is and called on many instructions at once."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgewright.bench import counting
from edgewright.bench.counting.build import FLAGS
from unit.bench.counting.disassembly import KINDS, Judgement, Sort

STRIDE = 16


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The C code itself."""
    folder = tmp_path_factory.mktemp("x86")
    source, library = folder / "sort.c", folder / "sort.so"
    source.write_text(
        '#include "x86.h"\n__attribute__((visibility("default")))\n'
        "void sort(const uint8_t *codes, const uint8_t *sizes, size_t count, struct sorted *out)\n"
        f"{{ for (size_t i = 0; i < count; i++) out[i] = sort_x86(codes + {STRIDE} * i, sizes[i]); }}\n"
        '__attribute__((visibility("default")))\n'
        "bool conditional(const uint8_t *code, size_t size) { return is_conditional_x86(code, size); }\n"
    )
    include = f"-I{Path(counting.__file__).parent}"
    subprocess.run(["gcc", *FLAGS, "-Werror", include, str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.conditional.restype = ctypes.c_bool
    return loaded


@pytest.fixture(scope="session")
def sort(compiled: ctypes.CDLL) -> Sort:
    """Return what instructions are taken for."""

    def call(codes: Sequence[bytes], sizes: Sequence[int] | None = None) -> list[Judgement]:
        out = (ctypes.c_uint * (3 * len(codes)))()
        padded = b"".join(code.ljust(STRIDE, b"\xcc") for code in codes)
        lengths = bytes(map(len, codes) if sizes is None else sizes)
        compiled.sort(padded, lengths, ctypes.c_size_t(len(codes)), out)
        return [Judgement(KINDS[out[i]], out[i + 1], out[i + 2]) for i in range(0, len(out), 3)]

    return call
