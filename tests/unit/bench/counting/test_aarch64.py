"""What the plugin takes an instruction for, by its encoding; mnemonics as a disassembler prints them."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewright.bench import counting
from edgewright.bench.counting.build import FLAGS

KINDS = ("loads", "stores", "branches", "calls", "simdFma", "simdFp", "simdDot", "simdInt", "scalar")

INSTRUCTIONS = [
    # word, mnemonic, kind, bytes moved
    (0x3C606856, "ldr b22, [x2, x0]", "loads", 1),
    (0x7C4024C0, "ldr h0, [x6], #2", "loads", 2),
    (0xB8402EA5, "ldr w5, [x21, #2]!", "loads", 4),
    (0x3CC00448, "ldr q8, [x2], #0", "loads", 16),
    (0x38401401, "ldrb w1, [x0], #1", "loads", 1),
    (0xB8804660, "ldrsw x0, [x19], #4", "loads", 4),
    (0x18000000, "ldr w0, 0", "loads", 4),
    (0x58000000, "ldr x0, 0", "loads", 8),
    (0x9C000000, "ldr q0, 0", "loads", 16),
    (0x98000000, "ldrsw x0, 0", "loads", 4),
    (0x28C10022, "ldp w2, w0, [x1], #8", "loads", 8),
    (0xA9400001, "ldp x1, x0, [x0]", "loads", 16),
    (0xACC02848, "ldp q8, q10, [x2], #0", "loads", 32),
    (0x69400001, "ldpsw x1, x0, [x0]", "loads", 8),
    (0x885F7C20, "ldxr w0, [x1]", "loads", 4),
    (0xC87F0400, "ldxp x0, x1, [x0]", "loads", 16),
    (0xC8DFFC00, "ldar x0, [x0]", "loads", 8),
    (0x0C407020, "ld1 {v0.8b}, [x1]", "loads", 8),
    (0x0D40041E, "ld1 {v30.b}[1], [x0]", "loads", 1),
    (0x0D408001, "ld1 {v1.s}[0], [x0]", "loads", 4),
    (0x4D40CC01, "ld1r {v1.2d}, [x0]", "loads", 8),
    (0x4C408010, "ld2 {v16.16b, v17.16b}, [x0]", "loads", 32),
    (0x4C404C39, "ld3 {v25.2d, v26.2d, v27.2d}, [x1]", "loads", 48),
    (0x4CDF2000, "ld1 {v0.16b, v1.16b, v2.16b, v3.16b}, [x0], #64", "loads", 64),
    (0xF8A07820, "prfm pldl1keep, [x1, x0, lsl #3]", "loads", 0),
    (0xB8200041, "ldadd w0, w1, [x2]", "loads", 4),
    (0x88E0FC41, "casal w0, w1, [x2]", "loads", 4),
    (0x48207C82, "casp x0, x1, x2, x3, [x4]", "loads", 16),
    (0x3C001440, "str b0, [x2], #1", "stores", 1),
    (0x3C80841E, "str q30, [x0], #8", "stores", 16),
    (0xF9000041, "str x1, [x2]", "stores", 8),
    (0x28810060, "stp w0, w0, [x3], #8", "stores", 8),
    (0xAC80C067, "stp q7, q16, [x3], #16", "stores", 32),
    (0x880F7C31, "stxr w15, w17, [x1]", "stores", 4),
    (0x0D00045A, "st1 {v26.b}[1], [x2]", "stores", 1),
    (0x4C000800, "st4 {v0.4s, v1.4s, v2.4s, v3.4s}, [x0]", "stores", 64),
    (0x14000000, "b 0", "branches", 0),
    (0x54000029, "b.ls 4", "branches", 0),
    (0x94000001, "bl 4", "calls", 0),
    (0xD63F0000, "blr x0", "calls", 0),
    (0xD65F03C0, "ret", "calls", 0),
    (0xD63F081F, "blraaz x0", "calls", 0),
    (0xD61F0000, "br x0", "branches", 0),
    (0x34000038, "cbz w24, 4", "branches", 0),
    (0x36000040, "tbz w0, #0, 8", "branches", 0),
    (0x0E23CC96, "fmla v22.2s, v4.2s, v3.2s", "simdFma", 0),
    (0x4EA0CC61, "fmls v1.4s, v3.4s, v0.4s", "simdFma", 0),
    (0x4F821020, "fmla v0.4s, v1.4s, v2.s[0]", "simdFma", 0),
    (0x4E420C20, "fmla v0.8h, v1.8h, v2.8h", "simdFma", 0),
    (0x4E22EC20, "fmlal v0.4s, v1.4h, v2.4h", "simdFma", 0),
    (0x1F000008, "fmadd s8, s0, s0, s0", "simdFma", 0),
    (0x6E42FC20, "bfdot v0.4s, v1.8h, v2.8h", "simdFma", 0),
    (0x0F97935A, "fmul v26.2s, v26.2s, v23.s[0]", "simdFp", 0),
    (0x0E20D5E0, "fadd v0.2s, v15.2s, v0.2s", "simdFp", 0),
    (0x0EA1B800, "fcvtzs v0.2s, v0.2s", "simdFp", 0),
    (0x0E21D884, "scvtf v4.2s, v4.2s", "simdFp", 0),
    (0x0EA0C800, "fcmgt v0.2s, v0.2s, #0.0", "simdFp", 0),
    (0x1E202000, "fcmp s0, s0", "simdFp", 0),
    (0x6E30CBDE, "fmaxnmv s30, v30.4s", "simdFp", 0),
    (0x6E20D400, "faddp v0.4s, v0.4s, v0.4s", "simdFp", 0),
    (0x0E216B18, "fcvtn v24.4h, v24.4s", "simdFp", 0),
    (0x4E829420, "sdot v0.4s, v1.16b, v2.16b", "simdDot", 0),
    (0x6E829420, "udot v0.4s, v1.16b, v2.16b", "simdDot", 0),
    (0x4F82E020, "sdot v0.4s, v1.16b, v2.4b[0]", "simdDot", 0),
    (0x4E82A420, "smmla v0.4s, v1.16b, v2.16b", "simdDot", 0),
    (0x4E829C20, "usdot v0.4s, v1.16b, v2.16b", "simdDot", 0),
    (0x4F82F020, "usdot v0.4s, v1.16b, v2.4b[0]", "simdDot", 0),
    (0x0E208037, "smlal v23.8h, v1.8b, v0.8b", "simdInt", 0),
    (0x0E60680F, "sadalp v15.2s, v0.4h", "simdInt", 0),
    (0x0EA39493, "mla v19.2s, v4.2s, v3.2s", "simdInt", 0),
    (0x0E212800, "xtn v0.8b, v0.8h", "simdInt", 0),
    (0x0EA12800, "xtn v0.2s, v0.2d", "simdInt", 0),
    (0x0E141AB4, "uzp1 v20.8b, v21.8b, v20.8b", "simdInt", 0),
    (0x4E052042, "tbl v2.16b, {v2.16b, v3.16b}, v5.16b", "simdInt", 0),
    (0x0F08A400, "sshll v0.8h, v0.8b, #0", "simdInt", 0),
    (0x0F000400, "movi v0.2s, #0", "simdInt", 0),
    (0x0B000020, "add w0, w1, w0", "scalar", 0),
    (0x1B000040, "madd w0, w2, w0, w0", "scalar", 0),
    (0x9B207C20, "smull x0, w1, w0", "scalar", 0),
    (0xD53B0021, "mrs x1, ctr_el0", "scalar", 0),
    (0xD503201F, "nop", "scalar", 0),
    (0xD4000001, "svc #0", "scalar", 0),
]

Sort = Callable[[int], tuple[str, int]]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The C code itself."""
    folder = tmp_path_factory.mktemp("aarch64")
    source, library = folder / "sort.c", folder / "sort.so"
    source.write_text(
        '#include "aarch64.h"\n#define OUT __attribute__((visibility("default")))\n'
        "OUT int kind_of(uint32_t word) { return sort_aarch64(word).kind; }\n"
        "OUT unsigned loaded_by(uint32_t word) { return sort_aarch64(word).load_bytes; }\n"
        "OUT unsigned stored_by(uint32_t word) { return sort_aarch64(word).store_bytes; }\n"
        "OUT int conditional(uint32_t word) { return is_conditional_aarch64(word); }\n"
    )
    include = f"-I{Path(counting.__file__).parent}"
    subprocess.run(["gcc", *FLAGS, include, str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


@pytest.fixture(scope="module")
def sort(compiled: ctypes.CDLL) -> Sort:
    """Return kind and bytes of an instruction word."""

    def call(word: int) -> tuple[str, int]:
        kind, moved = KINDS[compiled.kind_of(word)], (compiled.loaded_by(word), compiled.stored_by(word))
        assert moved[kind != "stores"] == 0  # each kind moves in its own direction only
        return kind, sum(moved)

    return call


@pytest.mark.parametrize(("word", "mnemonic", "kind", "size_bytes"), INSTRUCTIONS, ids=lambda v: str(v))
def test_an_instruction_is_of_its_kind(
    sort: Sort, word: int, mnemonic: str, kind: str, size_bytes: int
) -> None:
    assert sort(word) == (kind, size_bytes), mnemonic


def test_conditional_branches_are_those_that_may_not_be_taken(compiled: ctypes.CDLL) -> None:
    conditional = {mnemonic for word, mnemonic, _, _ in INSTRUCTIONS if compiled.conditional(word)}
    assert conditional == {"b.ls 4", "cbz w24, 4", "tbz w0, #0, 8"}
    assert all(compiled.conditional(word) for word in (0xB5000040, 0x37180040))  # cbnz x0, tbnz w0


def test_any_word_has_a_kind_and_moves_at_most_four_registers(sort: Sort) -> None:
    for word in range(0, 1 << 32, 4_194_301):  # a prime step meets every group of the encoding
        kind, size_bytes = sort(word)
        assert kind in KINDS
        assert 0 <= size_bytes <= 64
        assert size_bytes == 0 or kind in ("loads", "stores")
