"""The x86 sorter against binutils' disassembler: over libraries of kernels, and over every opcode there is."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import re
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from unit.bench.counting.disassembly import (
    KINDS,
    Instruction,
    Sort,
    different,
    disassemble,
    judge,
    may_not_branch,
)

LONGEST = 15  # bytes of an instruction
BARE = ("-D", "-b", "binary", "-m", "i386:x86-64")

# Where the sorter is known to be approximate or indifferent: descriptors, what only a kernel or an enclave may do, far
# jumps, 16 bits on the stack, halves that are converted, absolute addresses (printed without a size), and what one line
# of processors alone had.
NOT_COMPARED = re.compile(
    r"l[gfs]s|[sl][gil]dt|[sl]msw|str|ltr|ver[rw]|invlpg\w*|invept|invvpid|invpcid|vm(?:read|write|ptr\w+|clear|xon)|"
    r"rstorssp|clrssbsy|ptwrite|wru?ss[dq]|enqcmds?|movdir\w+|a(?:add|and|x?or)|aes(?:enc|dec)(?:wide)?\d+kl|"
    r"cldemote|clwb|ud[01]|ins|outs|femms|pf\w+|fndisi\S*|iret\w*|l?ret\w+|xsave\w+|xrstor\w+|fx\w+64|"
    r"(?:push|pop|call|enter|leave|fldenv|fnstenv|frstor|fnsave)f?w|movabs|"
    r"vcvt(?!(?:ps2ph|ph2ps)$)\w*(?:ph|sh|hx)\w*|vp4dp\w+|v4f\w+|"
    # what processors to come have, and newer disassemblers know
    r"vu?comx\w+|vminmax\w+|vdpphps|v(?!dp|cvt)\w+bf16|vcvt\w+(?:i|u)bs|vcvtt\w+(?:qq|si)s|(?:vmov|mov)rs\w*|prefetchrst2|"
    r"t2rpntlvw\w+|tileloaddrs\w*"
)
pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="this machine's disassembler and libraries are not x86-64's"
)


@pytest.mark.parametrize("name", ["onnxruntime", "numpy"])
def test_libraries_of_kernels_are_sorted_as_a_disassembler_reads_them(
    sort: Sort, tmp_path: Path, name: str
) -> None:
    excerpt = tmp_path / "code"
    excerpt.write_bytes(_excerpt(_largest_library(name)))
    instructions = [found for found in disassemble(excerpt, *BARE) if not _skipped(found)]
    assert len(instructions) > 200_000
    found = sort([instruction.code for instruction in instructions])
    assert different(instructions, found, [judge(instruction.text) for instruction in instructions]) == {}
    assert {judgement.kind for judgement in found} >= {"loads", "stores", "branches", "simdFp", "scalar"}


def test_every_opcode_of_every_map_is_sorted_as_a_disassembler_reads_it(
    compiled: ctypes.CDLL, sort: Sort, tmp_path: Path
) -> None:
    file, slot = tmp_path / "code", 24  # the longest instruction, and enough NOPs to be in step again
    encodings = list(dict.fromkeys(_encodings()))
    file.write_bytes(b"".join(code.ljust(slot, b"\x90") for code in encodings))
    read = disassemble(file, *BARE, every_bytes=slot)
    instructions = [found for found in read if not _skipped(found)]
    found = sort([instruction.code for instruction in instructions])
    assert different(instructions, found, [judge(instruction.text) for instruction in instructions]) == {}
    conditional = [compiled.conditional(found.code, len(found.code)) for found in instructions]
    assert conditional == [may_not_branch(instruction.text) for instruction in instructions]
    names = {instruction.text.partition(" ")[0] for instruction in instructions}
    assert len(names) > 1000
    assert {judgement.kind for judgement in found} == set(KINDS)


def _skipped(instruction: Instruction) -> bool:
    name = instruction.text.partition(" ")[0]
    impossible = "FWORD" in instruction.text or (
        "BCST" in instruction.text and "{1to" not in instruction.text
    )
    return len(instruction.code) > LONGEST or impossible or NOT_COMPARED.fullmatch(name) is not None


def _largest_library(name: str) -> Path:
    """Return the shared object of an installed package with the most code, without importing it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    folders = [folder for folder in (package, package.with_name(f"{name}.libs")) if folder.is_dir()]
    return max(
        (file for folder in folders for file in folder.rglob("*.so*")), key=lambda file: file.stat().st_size
    )


def _excerpt(library: Path, pieces: int = 16, piece_bytes: int = 65_536) -> bytes:
    """Return pieces of a library's code from all over it."""
    listed = subprocess.run(["objdump", "-h", str(library)], capture_output=True, text=True, check=True)
    section = re.search(r" \.text +([0-9a-f]+) +[0-9a-f]+ +[0-9a-f]+ +([0-9a-f]+)", listed.stdout)
    assert section is not None
    size, offset = (int(digits, 16) for digits in section.groups())
    content = library.read_bytes()[offset : offset + size]
    step = max(1, (size - piece_bytes) // (pieces - 1))
    return b"".join(content[start : start + piece_bytes] for start in range(0, size - piece_bytes + 1, step))


def _encodings() -> Iterator[bytes]:
    """Yield every opcode of every map with prefixes, sizes, most with an operand in memory; many are nothing."""
    memory, register = b"\x04\x08", b"\xc1"  # [rax + rcx], and rcx or its like
    for prefix, rex, escape, opcode in product(
        (b"", b"\x66", b"\xf3", b"\xf2"), (b"", b"\x48"), (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a"), range(256)
    ):
        if escape or (opcode & 0xF0 != 0x40 and opcode not in (0x26, 0x2E, 0x36, 0x3E, 0xD5)):  # D5 is of APX
            for operand in (memory, register):
                yield prefix + rex + escape + bytes([opcode]) + operand
    groups = [
        (b"", opcode)
        for opcode in (0x80, 0x83, 0x8F, 0xC1, 0xC6, 0xD3, 0xF6, 0xF7, 0xFE, 0xFF, *range(0xD8, 0xE0))
    ]
    groups += [(b"\x0f", opcode) for opcode in (0x18, 0x71, 0x72, 0x73, 0xAE, 0xBA, 0xC7)]
    for (escape, opcode), rex, extension in product(groups, (b"", b"\x48"), range(8)):
        yield rex + escape + bytes([opcode, extension << 3 | 4, 0x08])
        yield rex + escape + bytes([opcode, 0xC1 | extension << 3])
    for wide, prefix, opcode in product((0, 0x80), range(4), range(256)):
        for map_, length in product((1, 2, 3), (0, 4)):
            yield bytes([0xC4, 0xE0 | map_, wide | 0x78 | length | prefix, opcode]) + memory
        for map_, length in product((1, 2, 3, 5, 6), (0, 0x40)):
            yield bytes([0x62, 0xF0 | map_, wide | 0x7C | prefix, 0x08 | length, opcode]) + memory
        for map_ in (1, 2, 3):  # one element for all lanes
            yield bytes([0x62, 0xF0 | map_, wide | 0x7C | prefix, 0x58, opcode]) + memory
