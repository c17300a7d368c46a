"""What the plugin takes an x86-64 instruction for, said by hand."""

from __future__ import annotations

import platform
import random
import subprocess

import pytest

from unit.bench.counting.disassembly import Instruction, Judgement, Sort, different, disassemble, judge

LONGEST = 15  # bytes of an instruction
BEGINNINGS = (
    b"",
    b"\x0f",
    b"\x66\x0f\x38",
    b"\x0f\x3a",
    b"\xc5",
    b"\xc4",
    b"\x62",
    b"\x8f",
    b"\x48",
    b"\xf2\xf0\x66",
)

INSTRUCTIONS = [
    # instruction, kind, bytes loaded, bytes stored
    ("mov eax, dword ptr [rsi]", "loads", 4, 0),
    ("mov rax, qword ptr [rip + 64]", "loads", 8, 0),
    ("mov ax, word ptr fs:[40]", "loads", 2, 0),
    ("movzx eax, byte ptr [rsi]", "loads", 1, 0),
    ("movsx rax, word ptr [rsi]", "loads", 2, 0),
    ("movsxd rax, dword ptr [rsi]", "loads", 4, 0),
    ("movbe eax, dword ptr [rsi]", "loads", 4, 0),
    ("pop rbx", "loads", 8, 0),
    ("leave", "loads", 8, 0),
    ("push qword ptr [rax]", "loads", 8, 8),
    ("xchg dword ptr [rbx], eax", "loads", 4, 4),
    ("rep movsq", "loads", 8, 8),
    ("lodsb", "loads", 1, 0),
    ("prefetcht0 [rsi + 256]", "loads", 0, 0),
    ("prefetchw [rsi]", "loads", 0, 0),
    ("movss xmm0, dword ptr [rsi]", "loads", 4, 0),
    ("vmovsd xmm9, qword ptr [rsi]", "loads", 8, 0),
    ("movaps xmm0, xmmword ptr [rsi]", "loads", 16, 0),
    ("vmovups ymm1, ymmword ptr [rsi + rax * 4]", "loads", 32, 0),
    ("vmovups zmm1, zmmword ptr [rsi]", "loads", 64, 0),
    ("lddqu xmm0, [rsi]", "loads", 16, 0),
    ("movd xmm0, dword ptr [rsi]", "loads", 4, 0),
    ("movq xmm0, qword ptr [rsi]", "loads", 8, 0),
    ("movhps xmm0, qword ptr [rsi]", "loads", 8, 0),
    ("movddup xmm0, qword ptr [rsi]", "loads", 8, 0),
    ("vmovddup ymm0, ymmword ptr [rsi]", "loads", 32, 0),
    ("vbroadcastss ymm0, dword ptr [rsi]", "loads", 4, 0),
    ("vpbroadcastd ymm0, dword ptr [rsi]", "loads", 4, 0),
    ("vpbroadcastb xmm0, byte ptr [rsi]", "loads", 1, 0),
    ("vbroadcastf128 ymm0, xmmword ptr [rsi]", "loads", 16, 0),
    ("vmaskmovps ymm0, ymm1, ymmword ptr [rsi]", "loads", 32, 0),
    ("vgatherdps ymm0, dword ptr [rsi + ymm1 * 4], ymm2", "loads", 32, 0),
    ("vpgatherqd xmm0, dword ptr [rsi + ymm1 * 4], xmm2", "loads", 16, 0),
    ("movq mm0, qword ptr [rsi]", "loads", 8, 0),
    ("kmovw k1, word ptr [rsi]", "loads", 2, 0),
    ("fld qword ptr [rsi]", "loads", 8, 0),
    ("fld tbyte ptr [rsi]", "loads", 10, 0),
    ("fldcw word ptr [rsi]", "loads", 2, 0),
    ("ldmxcsr dword ptr [rsi]", "loads", 4, 0),
    ("mov byte ptr [rdi], 1", "stores", 0, 1),
    ("mov qword ptr [rdi], rax", "stores", 0, 8),
    ("mov word ptr [rdi], ax", "stores", 0, 2),
    ("movnti dword ptr [rdi], eax", "stores", 0, 4),
    ("push rbp", "stores", 0, 8),
    ("push 1000", "stores", 0, 8),
    ("rep stosd", "stores", 0, 4),
    ("movups xmmword ptr [rdi], xmm0", "stores", 0, 16),
    ("vmovdqu ymmword ptr [rdi], ymm0", "stores", 0, 32),
    ("vmovntps ymmword ptr [rdi], ymm0", "stores", 0, 32),
    ("movlps qword ptr [rdi], xmm0", "stores", 0, 8),
    ("movq qword ptr [rdi], xmm0", "stores", 0, 8),
    ("pextrw word ptr [rdi], xmm0, 3", "stores", 0, 2),
    ("extractps dword ptr [rdi], xmm0, 1", "stores", 0, 4),
    ("vextractf128 xmmword ptr [rdi], ymm0, 1", "stores", 0, 16),
    ("vmaskmovps ymmword ptr [rdi], ymm1, ymm0", "stores", 0, 32),
    ("maskmovdqu xmm0, xmm1", "stores", 0, 16),
    ("fstp dword ptr [rdi]", "stores", 0, 4),
    ("fnstcw word ptr [rdi]", "stores", 0, 2),
    ("jne .", "branches", 0, 0),
    ("jmp .", "branches", 0, 0),
    ("jmp qword ptr [rax + rbx * 8]", "branches", 8, 0),
    ("call .", "calls", 0, 8),
    ("call rax", "calls", 0, 8),
    ("call qword ptr [rax]", "calls", 8, 8),
    ("ret", "calls", 8, 0),
    ("jrcxz .", "branches", 0, 0),
    ("vfmadd231ps ymm0, ymm1, ymm2", "simdFma", 0, 0),
    ("vfmadd231ps ymm0, ymm1, ymmword ptr [rsi]", "simdFma", 32, 0),
    ("vfnmadd213ss xmm0, xmm1, dword ptr [rsi]", "simdFma", 4, 0),
    ("vfmsub132sd xmm0, xmm1, qword ptr [rsi]", "simdFma", 8, 0),
    ("vfmaddsub231pd xmm0, xmm1, xmmword ptr [rsi]", "simdFma", 16, 0),
    ("vfmadd231ps zmm0, zmm1, dword ptr [rsi]{1to16}", "simdFma", 4, 0),
    ("vdpbf16ps zmm0, zmm1, zmmword ptr [rsi]", "simdFma", 64, 0),
    ("mulps xmm0, xmmword ptr [rsi]", "simdFp", 16, 0),
    ("addss xmm0, dword ptr [rsi]", "simdFp", 4, 0),
    ("vmaxps ymm0, ymm1, ymmword ptr [rsi]", "simdFp", 32, 0),
    ("divsd xmm0, qword ptr [rsi]", "simdFp", 8, 0),
    ("cmpltps xmm0, xmm1", "simdFp", 0, 0),
    ("ucomiss xmm0, dword ptr [rsi]", "simdFp", 4, 0),
    ("roundps xmm0, xmm1, 3", "simdFp", 0, 0),
    ("cvtdq2ps xmm0, xmmword ptr [rsi]", "simdFp", 16, 0),
    ("cvtps2pd xmm0, qword ptr [rsi]", "simdFp", 8, 0),
    ("cvtsi2ss xmm0, qword ptr [rsi]", "simdFp", 8, 0),
    ("vcvtph2ps ymm0, xmmword ptr [rsi]", "simdFp", 16, 0),
    ("vcvtps2ph xmmword ptr [rdi], ymm0, 0", "simdFp", 0, 16),
    ("haddps xmm0, xmm1", "simdFp", 0, 0),
    ("fmul dword ptr [rsi]", "simdFp", 4, 0),
    ("fild qword ptr [rsi]", "simdFp", 8, 0),
    ("fistp dword ptr [rdi]", "simdFp", 0, 4),
    ("fxch st(1)", "simdFp", 0, 0),
    ("pmaddubsw xmm0, xmmword ptr [rsi]", "simdDot", 16, 0),
    ("vpmaddubsw ymm0, ymm1, ymm2", "simdDot", 0, 0),
    ("vpmaddwd ymm0, ymm1, ymmword ptr [rsi]", "simdDot", 32, 0),
    ("pmaddwd mm0, qword ptr [rsi]", "simdDot", 8, 0),
    ("{vex} vpdpbusd ymm0, ymm1, ymmword ptr [rsi]", "simdDot", 32, 0),
    ("vpdpbusds zmm0, zmm1, dword ptr [rsi]{1to16}", "simdDot", 4, 0),
    ("vpdpwssd zmm0, zmm1, zmm2", "simdDot", 0, 0),
    ("paddd xmm0, xmmword ptr [rsi]", "simdInt", 16, 0),
    ("vpaddd ymm0, ymm1, ymm2", "simdInt", 0, 0),
    ("vpmulld ymm0, ymm1, ymmword ptr [rsi]", "simdInt", 32, 0),
    ("vpsrld ymm0, ymm1, xmmword ptr [rsi]", "simdInt", 16, 0),
    ("pmovzxbw xmm0, qword ptr [rsi]", "simdInt", 8, 0),
    ("vpmovsxbd ymm0, qword ptr [rsi]", "simdInt", 8, 0),
    ("vpermps ymm0, ymm1, ymm2", "simdInt", 0, 0),
    ("shufps xmm0, xmm1, 0", "simdInt", 0, 0),
    ("movhlps xmm0, xmm1", "simdInt", 0, 0),
    ("movaps xmm0, xmm1", "simdInt", 0, 0),
    ("movd xmm0, eax", "simdInt", 0, 0),
    ("pextrd eax, xmm0, 1", "simdInt", 0, 0),
    ("pinsrd xmm0, dword ptr [rsi], 1", "simdInt", 4, 0),
    ("vinsertf128 ymm0, ymm1, xmmword ptr [rsi], 1", "simdInt", 16, 0),
    ("xorps xmm0, xmm0", "simdInt", 0, 0),
    ("pmovmskb eax, xmm0", "simdInt", 0, 0),
    ("aesenc xmm0, xmmword ptr [rsi]", "simdInt", 16, 0),
    ("kandw k1, k2, k3", "simdInt", 0, 0),
    ("vzeroupper", "simdInt", 0, 0),
    ("add eax, ebx", "scalar", 0, 0),
    ("add rax, qword ptr [rsi]", "scalar", 8, 0),
    ("add qword ptr [rdi], rax", "scalar", 8, 8),
    ("add word ptr [rdi], 1", "scalar", 2, 2),
    ("cmp byte ptr [rsi], 0", "scalar", 1, 0),
    ("test dword ptr [rsi], eax", "scalar", 4, 0),
    ("imul eax, dword ptr [rsi], 7", "scalar", 4, 0),
    ("div qword ptr [rsi]", "scalar", 8, 0),
    ("not dword ptr [rdi]", "scalar", 4, 4),
    ("inc dword ptr [rdi]", "scalar", 4, 4),
    ("shl qword ptr [rdi], 3", "scalar", 8, 8),
    ("bt dword ptr [rsi], 3", "scalar", 4, 0),
    ("bts dword ptr [rdi], 3", "scalar", 4, 4),
    ("cmovne rax, qword ptr [rsi]", "scalar", 8, 0),
    ("sete byte ptr [rdi]", "scalar", 0, 1),
    ("lock xadd dword ptr [rdi], eax", "scalar", 4, 4),
    ("lock cmpxchg16b xmmword ptr [rdi]", "scalar", 16, 16),
    ("repne scasb", "scalar", 1, 0),
    ("repe cmpsb", "scalar", 2, 0),
    ("shlx rax, qword ptr [rsi], rbx", "scalar", 8, 0),
    ("rorx eax, dword ptr [rsi], 3", "scalar", 4, 0),
    ("andn eax, ebx, dword ptr [rsi]", "scalar", 4, 0),
    ("adcx eax, dword ptr [rsi]", "scalar", 4, 0),
    ("crc32 eax, byte ptr [rsi]", "scalar", 1, 0),
    ("popcnt rax, qword ptr [rsi]", "scalar", 8, 0),
    ("lea rax, [rsi + 8]", "scalar", 0, 0),
    ("mov eax, ebx", "scalar", 0, 0),
    ("movabs rax, 0x1122334455667788", "scalar", 0, 0),
    ("nop word ptr [rax + rax]", "scalar", 0, 0),
    ("endbr64", "scalar", 0, 0),
    ("syscall", "scalar", 0, 0),
    ("cpuid", "scalar", 0, 0),
    ("mfence", "scalar", 0, 0),
]

ON_THIS_MACHINE = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="this machine's assembler is not x86-64's"
)


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> list[Instruction]:
    """`INSTRUCTIONS` as the assembler makes them and the disassembler prints them."""
    folder = tmp_path_factory.mktemp("assembled")
    source, made = folder / "list.s", folder / "list.o"
    source.write_text(".intel_syntax noprefix\n" + "".join(f"{entry[0]}\n" for entry in INSTRUCTIONS))
    subprocess.run(["gcc", "-c", str(source), "-o", str(made)], check=True)
    return list(disassemble(made, "-d"))


@ON_THIS_MACHINE
def test_an_instruction_is_of_its_kind_and_moves_its_bytes(sort: Sort, assembled: list[Instruction]) -> None:
    wanted = [Judgement(*entry[1:]) for entry in INSTRUCTIONS]
    assert len(assembled) == len(wanted)
    found = sort([instruction.code for instruction in assembled])
    assert different(assembled, found, wanted) == {}


@ON_THIS_MACHINE
def test_the_referee_agrees_with_what_is_said_by_hand(assembled: list[Instruction]) -> None:
    wanted = [Judgement(*entry[1:]) for entry in INSTRUCTIONS]
    assert different(assembled, [judge(instruction.text) for instruction in assembled], wanted) == {}


def test_any_bytes_have_a_kind_and_nothing_past_the_last_one_matters(sort: Sort) -> None:
    chance = random.Random(3)
    codes = [(chance.choice(BEGINNINGS) + chance.randbytes(16))[:16] for _ in range(50_000)]
    sizes = [chance.randrange(LONGEST + 1) for _ in codes]
    found = sort(codes, sizes)
    others = [
        code[:size] + bytes(byte ^ 0xFF for byte in code[size:])
        for code, size in zip(codes, sizes, strict=True)
    ]
    assert sort(others, sizes) == found
    assert max(max(judgement.load_bytes, judgement.store_bytes) for judgement in found) <= 1024
