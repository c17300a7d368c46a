/*
 * Sorts x86-64 instructions into the few kinds whose cost differs, by their encoding alone.
 *
 *     struct sorted found = sort_x86(bytes, size);
 *
 * After the Intel 64 and IA-32 Software Developer's Manual, volume 2: chapter 2, "Instruction Format" (x86_encoding.h),
 * appendix A, "Opcode Map", tables A-2 (one byte), A-3 to A-5 (two and three bytes), A-6 (groups, told apart by
 * ModRM.reg) and A-7 to A-22 (x87), and the instruction reference, chapters 3 to 6, for the sizes of operands.
 *
 * Most instructions of x86 may take an operand from memory, so what computes keeps the kind of what it computes, and
 * its memory traffic is in the bytes alone: VFMADD231PS with a memory operand is simdFma and loads 32 bytes, ADD to
 * memory is scalar and both loads and stores. Loads and stores are the instructions that only move:
 *
 *   loads     MOV… and broadcasts from memory, POP, LEAVE, LODS, gathers, FLD; prefetches, which move 0 bytes; and
 *             what only moves from memory to memory or swaps with it: MOVS, PUSH and POP of memory, XCHG
 *   stores    MOV… and extraction of a lane to memory, PUSH, STOS, FST
 *   branches  jumps
 *   calls     CALL and RET, which also store and load the 8 bytes of the return address
 *   simdInt   among others: moves and permutations of vector registers, insertion of a lane from memory
 *   simdFp    among others: x87, but for its moves from and to memory
 *   scalar    everything else: integers, conditional moves, LEA, locked arithmetic, system calls
 *
 * QEMU counts a repeated string instruction (REP MOVSB) once for every repetition and once to find that it is over, so
 * the bytes are those of one repetition. Where an instruction crosses a page, QEMU 7.2 may give it twice, first cut off
 * at the end of the page (a few in 10,000 of what runs); a piece counts as whatever its bytes begin.
 *
 * Approximate are: masked vector moves, gathers, compressing stores (all lanes, see x86_vector.h), XSAVE and XRSTOR
 * (the legacy, header and AVX areas), conversions of AVX512-FP16, XOP (taken for integer vectors), and descriptors
 * that system instructions move (not counted). Over an inference the bytes are within 0.3 % of what QEMU reports for
 * each access; asking it for each costs 30 to 70 % more processor time.
 */
#ifndef EDGEWRIGHT_X86_H
#define EDGEWRIGHT_X86_H

#include "x86_encoding.h"
#include "x86_scalar.h"
#include "x86_vector.h"
#include "x86_vector_0f38.h"

static inline struct sorted sort_0f(const struct encoded *found)
{
    switch (found->opcode) {
    case 0x0f: /* 3DNow! */
        return reading(found, SIMD_FP, 8);
    case 0x10 ... 0x17:
    case 0x28 ... 0x2f:
    case 0x50 ... 0x7f:
    case 0xc2:
    case 0xc4 ... 0xc6:
    case 0xd0 ... 0xfe:
        return sort_vector_0f(found);
    case 0x41 ... 0x4b:
    case 0x90 ... 0x99:
        return found->scheme == LEGACY ? sort_scalar_0f(found) : sort_opmask(found);
    default:
        return sort_scalar_0f(found);
    }
}

static inline struct sorted sort_0f38(const struct encoded *found)
{
    unsigned bytes = general_bytes(found); /* 66 chooses among these instructions, not their operand's size */
    if (found->opcode < 0xe0)
        return sort_vector_0f38(found);
    if (found->opcode < 0xf0) /* CMPccXADD */
        return changing(found, SCALAR, bytes);
    if (found->scheme == LEGACY && found->opcode <= 0xf1) {
        if (found->prefix == PREFIX_F2) /* CRC32 */
            return reading(found, SCALAR, paired_bytes(found));
        return found->opcode & 1 ? moving_out(found, SCALAR, operand_bytes(found)) /* MOVBE */
                                 : moving_in(found, SCALAR, operand_bytes(found));
    }
    return reading(found, SCALAR, bytes); /* ANDN, BLSR, BZHI, PDEP, MULX, SHLX …; ADCX, ADOX */
}

static inline struct sorted sort_x86(const uint8_t *bytes, size_t size)
{
    struct encoded found = take_apart(bytes, size);
    switch ((unsigned)found.scheme << 4 | (unsigned)found.map) {
    case LEGACY << 4 | MAP_ONE_BYTE:
        return sort_one_byte(&found);
    case LEGACY << 4 | MAP_0F:
    case VEX << 4 | MAP_0F:
    case EVEX << 4 | MAP_0F:
        return sort_0f(&found);
    case LEGACY << 4 | MAP_0F38:
    case VEX << 4 | MAP_0F38:
    case EVEX << 4 | MAP_0F38:
        return sort_0f38(&found);
    case LEGACY << 4 | MAP_0F3A:
    case VEX << 4 | MAP_0F3A:
    case EVEX << 4 | MAP_0F3A:
        if (found.opcode == 0xf0) /* RORX */
            return reading(&found, SCALAR, general_bytes(&found));
        return sort_vector_0f3a(&found);
    case EVEX << 4 | MAP_FP16_0F:
        return sort_fp16_0f(&found);
    case EVEX << 4 | MAP_FP16_0F38:
        return sort_fp16_0f38(&found);
    default: /* XOP, and maps that do not exist yet */
        return reading(&found, SIMD_INT, found.vector_bytes);
    }
}

/* Jcc, LOOP, JRCXZ. */
static inline bool is_conditional_x86(const uint8_t *bytes, size_t size)
{
    struct encoded found = take_apart(bytes, size);
    if (found.scheme != LEGACY)
        return false;
    if (found.map == MAP_0F)
        return found.opcode >= 0x80 && found.opcode <= 0x8f;
    return found.map == MAP_ONE_BYTE &&
           ((found.opcode >= 0x70 && found.opcode <= 0x7f) || (found.opcode >= 0xe0 && found.opcode <= 0xe3));
}

#endif
