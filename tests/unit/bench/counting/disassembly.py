"""What binutils' disassembler makes of machine code, and what that counts as: the referee of the x86 sorter.

    for instruction in disassemble(library, start, stop):
        judge(instruction.text)                           # Judgement(kind="simdFma", load_bytes=32, store_bytes=0)

It goes by mnemonics and by operands as they are printed (`YMMWORD PTR [rax]`), never by the encoding, so that it shares
nothing with the code it judges.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Instruction(NamedTuple):
    """One line of `objdump`: the bytes and, without prefixes, addresses and comments, what they say."""

    code: bytes
    text: str


class Judgement(NamedTuple):
    """What an instruction counts as."""

    kind: str
    load_bytes: int = 0
    store_bytes: int = 0


KINDS = ("loads", "stores", "branches", "calls", "simdFma", "simdFp", "simdDot", "simdInt", "scalar")
"""In the order of kinds.h."""

Sort = Callable[..., list[Judgement]]
"""The sorter under test: of machine codes, and of their sizes if only so much of each is to be read."""

_PREFIXES = re.compile(
    r"^(?:(?:repn?z?|lock|notrack|bnd|data16|addr32|[c-gs]s|rex(?:\.\w+)?|xacquire|xrelease|\{\w+\}) +)+"
)
_BROKEN = re.compile(
    r"\(bad\)|\{ba|^\.byte"
)  # VFMSUBADD is whole; a broken VCMPSS is printed as vcmps{baltd}
_COMMENT = re.compile(r"\s*(?:#.*|<[^>]*>)$")
_BETWEEN_OPERANDS = re.compile(r",(?![^\[]*\])")
_MEMORY = re.compile(r"\[|[c-gs]s:")
_SIZE = re.compile(r"(\w+) (?:PTR|BCST) ")
_SIZES = {"BYTE": 1, "WORD": 2, "DWORD": 4, "QWORD": 8, "TBYTE": 10, "OWORD": 16}
_SIZES |= {"XMMWORD": 16, "YMMWORD": 32, "ZMMWORD": 64}
_WIDTHS = {"x": 16, "y": 32, "z": 64}
_VECTOR_REGISTER = re.compile(r"\b(?:[xyz]?mm\d+|k[0-7]|tmm\d)\b")
_WORD_REGISTER = re.compile(r"[abcd]x|[sd]i|[sb]p|r\d+w")
_INDEXED = re.compile(r"v?p?(?:gather|scatter)([dq])\w+")

_F = "(?:ps|pd|ss|sd|ph|sh)"
_DOT = re.compile(r"v?pmaddubsw|v?pmaddwd|vpdp\w+|tdpb[us]{2}d")
_FMA = re.compile(rf"vf(?:n?m(?:add|sub)(?:sub|add)?)(?:\d+)?{_F}|v?t?dpbf16ps|tdpfp16ps|vfc?maddc[ps]h")
_FLOAT = re.compile(
    rf"v?(?:addsub|add|sub|mul|div|min|max|sqrt|rsqrt|rcp|hadd|hsub|round|dp|cmp\w*?|u?comi){_F}|v?cvt\w+|vbcstne\w+|"
    rf"v(?:rsqrt14|rcp14|rsqrt28|rcp28|exp2|getexp|getmant|scalef|range|reduce|rndscale|fixupimm|fpclass){_F}|"
    r"vfc?mulc[ps]h|f(?!wait)\w+"
)
_BRANCH = re.compile(r"j\w+|loop\w*|iret\w*")
_CONDITIONAL = re.compile(r"j(?!mp)\w+|loop\w*")
_MOVE = re.compile(
    # of general registers and of state
    r"mov(?:abs|zx|sxd?|be|nti)?|v?(?:ld|st)mxcsr|fldcw|fld|fn?st(?:p|cw|sw)?|"
    # of vectors: whole, one element, one element to all, some elements
    r"v?mov(?:[au]p[sd]|[lh]p[sd]|s[sdh]|[dqw]|dq[au]\d*|nt\w+|ddup|s[lh]dup)|kmov[bwdq]|"
    r"v?p?broadcast\w+|v?pextr[bwdq]|v?extract\w+|v?p?maskmov\w+|v?p?gather\w+|v?p?scatter\w+"
)
_READS_FIRST = re.compile(r"cmp|test|bt|i?mul|i?div|f\w+|v?comis[sd]")
_WRITES_FIRST = re.compile(r"set\w+|vcvtps2ph\w*|vpmovu?s?[qdw][bwd]|v?p?compress\w+|fistt?p?|fbstp")
_IMPLICIT = {
    "call": Judgement("calls", 0, 8),
    "ret": Judgement("calls", 8),
    "push": Judgement("stores", 0, 8),
    "pushf": Judgement("stores", 0, 8),
    "pop": Judgement("loads", 8),
    "popf": Judgement("loads", 8),
    "leave": Judgement("loads", 8),
    "enter": Judgement("stores", 0, 8),
    "xlat": Judgement("loads", 1),
    "fnsave": Judgement("stores", 0, 108),
    "fnstenv": Judgement("stores", 0, 28),
    "frstor": Judgement("loads", 108),
    "fldenv": Judgement("loads", 28),
    "maskmovq": Judgement("stores", 0, 8),
    "maskmovdqu": Judgement("stores", 0, 16),
    "vmaskmovdqu": Judgement("stores", 0, 16),
    "tileloadd": Judgement("loads", 1024),
    "tileloaddt1": Judgement("loads", 1024),
    "tilestored": Judgement("stores", 0, 1024),
    "ldtilecfg": Judgement("loads", 64),
    "sttilecfg": Judgement("stores", 0, 64),
    "fxsave": Judgement("stores", 0, 512),
    "fxrstor": Judgement("loads", 512),
    "xsave": Judgement("stores", 0, 832),
    "xsavec": Judgement("stores", 0, 832),
    "xsaveopt": Judgement("stores", 0, 832),
    "xrstor": Judgement("loads", 832),
}


def disassemble(code: Path, *options: str, every_bytes: int = 1) -> Iterator[Instruction]:
    """Yield the instructions of a file; what is no instruction, or a broken one, is left out.

    Args:
        code: A library, or bare machine code if `options` say so.
        options: Of `objdump`, beside those for what is printed.
        every_bytes: Yield only those whose address is a multiple of it.
    """
    command = ["objdump", "-w", "-M", "intel", "--insn-width=16", *options, str(code)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in ran.stdout.splitlines():
        parts = line.split("\t")
        if len(parts) == 3 and int(parts[0].rstrip(": "), 16) % every_bytes == 0:
            text = _PREFIXES.sub("", _COMMENT.sub("", parts[2]) + " ").strip()
            if text and not _BROKEN.search(text):
                yield Instruction(bytes.fromhex(parts[1]), text)


@cache
def judge(text: str) -> Judgement:
    """Return what an instruction counts as.

    >>> judge("vfmadd231ps ymm0,ymm1,YMMWORD PTR [rax]")
    Judgement(kind='simdFma', load_bytes=32, store_bytes=0)
    """
    name, _, rest = text.partition(" ")
    operands = _BETWEEN_OPERANDS.split(rest.strip())
    to_memory, in_memory = bool(_MEMORY.search(operands[0])), bool(_MEMORY.search(rest))
    first, others = _bytes_of(operands[0]), sum(map(_bytes_of, operands[1:]))
    if name in ("push", "pop", "movs", "xchg") and in_memory:
        return Judgement("loads", first or others, first or others)
    if name in _IMPLICIT:
        return _implicit(_IMPLICIT[name], operands, first)
    if _BRANCH.fullmatch(name):
        return Judgement("branches", first)
    if in_memory and name in ("lods", "outs") or name.startswith("prefetch"):
        return Judgement("loads", others)
    if in_memory and name in ("stos", "ins"):
        return Judgement("stores", 0, first)
    if name.endswith("lddqu"):
        return Judgement("loads", _WIDTHS[operands[0][0]])
    if in_memory and _MOVE.fullmatch(name):
        if found := _INDEXED.fullmatch(name):
            first, others = (bytes_ * _lanes(found[1], rest, bytes_) for bytes_ in (first, others))
        stores = to_memory and "ld" not in name[:3]
        return Judgement("stores", 0, first) if stores else Judgement("loads", first + others)
    kind = _computes(name, rest)
    if name in ("lea", "nop") or name.startswith("clflush") or not in_memory:
        return Judgement(kind)
    if _WRITES_FIRST.fullmatch(name):
        return Judgement(kind, 0, first)
    if name == "cmps" or not to_memory or kind != "scalar" or _READS_FIRST.fullmatch(name):
        return Judgement(kind, first + others)
    return Judgement(kind, first, first)


def may_not_branch(text: str) -> bool:
    """Whether an instruction is a conditional branch."""
    return _CONDITIONAL.fullmatch(text.partition(" ")[0]) is not None


def different(
    instructions: Sequence[Instruction], found: Sequence[Judgement], wanted: Sequence[Judgement]
) -> dict[str, tuple[str, Judgement, Judgement]]:
    """Return one example per mnemonic of what is not as wanted: bytes, found, wanted."""
    return {
        instruction.text.partition(" ")[0]: (f"{instruction.code.hex()} {instruction.text}", is_, should_be)
        for instruction, is_, should_be in zip(instructions, found, wanted, strict=True)
        if is_ != should_be
    }


def _bytes_of(operand: str) -> int:
    found = _SIZE.match(operand)
    return _SIZES.get(found[1], 0) if found else 0


def _implicit(usual: Judgement, operands: Sequence[str], read_bytes: int) -> Judgement:
    """Return what moves without being printed: 16-bit registers are pushed as they are, CALL may also read."""
    if _WORD_REGISTER.fullmatch(operands[0]):
        return Judgement(usual.kind, min(2, usual.load_bytes), min(2, usual.store_bytes))
    if usual.kind == "calls":
        return usual._replace(load_bytes=usual.load_bytes + read_bytes)
    return usual


def _lanes(index: str, operands: str, element_bytes: int) -> int:
    """Return how many elements a gather or scatter moves; one is printed."""
    data, indices = re.findall(r"(?:^|,)([xyz])mm", operands)[0], re.findall(r"[+\[]([xyz])mm", operands)[0]
    return min(_WIDTHS[data] // (element_bytes or 1), _WIDTHS[indices] // {"d": 4, "q": 8}[index])


def _computes(name: str, operands: str) -> str:
    if _DOT.fullmatch(name):
        return "simdDot"
    if _FMA.fullmatch(name):
        return "simdFma"
    if _FLOAT.fullmatch(name):
        return "simdFp"
    vector = _VECTOR_REGISTER.search(operands) or name in ("emms", "vzeroupper", "vzeroall")
    return "simdInt" if vector else "scalar"
