/*
 * Sorts AArch64 instructions into the few kinds whose cost differs, by their encoding alone.
 *
 * Names, bit positions and tables are those of the Arm Architecture Reference Manual for A-profile (DDI 0487),
 * chapter C4.1, "A64 instruction set encoding". What both reads and writes memory (swaps, atomic adds) is a load.
 */
#ifndef EDGEWRIGHT_AARCH64_H
#define EDGEWRIGHT_AARCH64_H

#include <stdbool.h>
#include <stdint.h>

#include "kinds.h"

static inline uint32_t bits(uint32_t word, unsigned high, unsigned low)
{
    return (word >> low) & ((1u << (high - low + 1)) - 1);
}

static inline bool matches(uint32_t word, uint32_t mask, uint32_t value)
{
    return (word & mask) == value;
}

static inline struct sorted memory(bool load, unsigned bytes)
{
    return load ? (struct sorted){LOADS, bytes, 0} : (struct sorted){STORES, 0, bytes};
}

/* LD1 … LD4 and ST1 … ST4 of whole registers. */
static inline struct sorted simd_structures(uint32_t word)
{
    unsigned registers;
    switch (bits(word, 15, 12)) {
    case 0x7:
        registers = 1;
        break;
    case 0x8:
    case 0xa:
        registers = 2;
        break;
    case 0x4:
    case 0x6:
        registers = 3;
        break;
    default:
        registers = 4;
    }
    return memory(bits(word, 22, 22), registers * (bits(word, 30, 30) ? 16 : 8));
}

/* LD1 … LD4, ST1 … ST4 of one lane, and LD1R … LD4R, which fill all lanes from one element. */
static inline struct sorted simd_one_structure(uint32_t word)
{
    unsigned registers = 1 + bits(word, 21, 21) + 2 * bits(word, 13, 13);
    unsigned size = bits(word, 11, 10), scale = bits(word, 15, 14);
    if (scale == 3)
        scale = size;
    else if (scale == 2)
        scale = size == 1 ? 3 : 2;
    return memory(bits(word, 22, 22), registers << scale);
}

static inline struct sorted load_or_store(uint32_t word)
{
    bool vector = bits(word, 26, 26), load = bits(word, 22, 22);
    unsigned size = bits(word, 31, 30), opc = bits(word, 23, 22);

    if (matches(word, 0xbfbf0000, 0x0c000000) || matches(word, 0xbfa00000, 0x0c800000))
        return simd_structures(word);
    if (matches(word, 0xbf9f0000, 0x0d000000) || matches(word, 0xbf800000, 0x0d800000))
        return simd_one_structure(word);
    if (matches(word, 0x3f000000, 0x08000000)) { /* exclusive, ordered, compare and swap */
        bool o2 = bits(word, 23, 23), o1 = bits(word, 21, 21);
        if (o1 && !o2) /* a pair: of registers of `size` (LDXP), or compared and swapped (CASP) */
            return size >= 2 ? memory(load, 2u << size) : memory(true, size ? 16 : 8);
        return memory(load || (o1 && o2), 1u << size);
    }
    if (matches(word, 0x3b000000, 0x18000000)) { /* literal, beside the code; size 3 without V prefetches */
        if (vector)
            return memory(true, 4u << size);
        return memory(true, size == 3 ? 0 : size == 1 ? 8 : 4);
    }
    if (matches(word, 0x3a000000, 0x28000000)) { /* pairs; opc 1 is LDPSW, or STGP with 16 bytes */
        if (vector)
            return memory(load, 8u << size);
        return memory(load, size == 2 || (size == 1 && !load) ? 16 : 8);
    }
    if (matches(word, 0x3b200c00, 0x38200000) && !vector) /* atomic: reads and writes */
        return memory(true, 1u << size);
    if (matches(word, 0x3a000000, 0x38000000)) { /* one register, every way of addressing */
        if (vector)
            return memory(opc & 1, opc & 2 ? 16 : 1u << size);
        return memory(opc != 0, size == 3 && opc == 2 ? 0 : 1u << size);
    }
    if (matches(word, 0x3f200c00, 0x19000000)) /* ordered, with an offset: LDAPUR, STLUR */
        return memory(opc != 0, 1u << size);
    return memory(load, 0); /* memory tags, and what is not allocated yet */
}

/* The scalar forms of vector instructions are the vector forms with these bits set. */
#define SCALAR_FORM 0x50000000u

static inline enum kind three_same(uint32_t word)
{
    bool unsigned_ = bits(word, 29, 29);
    unsigned opcode = bits(word, 15, 11);
    if (opcode < 0x18)
        return SIMD_INT;
    if (opcode == 0x19) /* FMLA, FMLS, FMLAL2, FMLSL2 */
        return SIMD_FMA;
    return opcode == 0x1d && !unsigned_ ? SIMD_FMA /* FMLAL, FMLSL */ : SIMD_FP;
}

static inline enum kind three_same_extra(uint32_t word)
{
    bool unsigned_ = bits(word, 29, 29);
    switch (bits(word, 14, 11)) {
    case 0x2: /* SDOT, UDOT */
    case 0x3: /* USDOT */
    case 0x4: /* SMMLA, UMMLA */
    case 0x5: /* USMMLA */
        return SIMD_DOT;
    case 0x0: /* SQRDMLAH */
    case 0x1: /* SQRDMLSH */
        return SIMD_INT;
    case 0xc: /* FCADD */
    case 0xe:
        return SIMD_FP;
    default: /* FCMLA, BFDOT, BFMMLA, BFMLAL */
        return unsigned_ ? SIMD_FMA : SIMD_INT;
    }
}

static inline enum kind by_element(uint32_t word)
{
    bool unsigned_ = bits(word, 29, 29);
    unsigned size = bits(word, 23, 22);
    switch (bits(word, 15, 12)) {
    case 0x0: /* FMLAL; with U: MLA */
    case 0x4: /* FMLSL; with U: MLS */
        return unsigned_ ? SIMD_INT : SIMD_FMA;
    case 0x1: /* FMLA, FCMLA */
    case 0x5: /* FMLS, FCMLA */
        return SIMD_FMA;
    case 0x3: /* FCMLA; without U: SQDMLAL */
    case 0x7: /* FCMLA; without U: SQDMLSL */
        return unsigned_ ? SIMD_FMA : SIMD_INT;
    case 0x8: /* FMLAL2; without U: MUL */
    case 0xc: /* FMLSL2; without U: SQDMULH */
        return unsigned_ ? SIMD_FMA : SIMD_INT;
    case 0x9: /* FMUL, FMULX */
        return SIMD_FP;
    case 0xe: /* SDOT, UDOT */
        return SIMD_DOT;
    case 0xf: /* SUDOT, USDOT, BFDOT, BFMLAL; with U: SQRDMLSH */
        if (unsigned_)
            return SIMD_INT;
        return size & 1 ? SIMD_FMA : SIMD_DOT;
    default:
        return SIMD_INT;
    }
}

static inline enum kind simd(uint32_t word)
{
    if (matches(word, 0x5f000000, 0x1f000000)) /* FMADD, FMSUB and their negations */
        return SIMD_FMA;
    if (matches(word, 0x5f000000, 0x1e000000)) /* one float: arithmetic, comparison, conversion, move */
        return SIMD_FP;
    if ((word & SCALAR_FORM) == SCALAR_FORM)
        word &= ~SCALAR_FORM;
    if (matches(word, 0x9f200400, 0x0e200400))
        return three_same(word);
    if (matches(word, 0x9f60c400, 0x0e400400)) /* three same, half precision */
        return bits(word, 13, 11) == 1 ? SIMD_FMA : SIMD_FP;
    if (matches(word, 0x9f208400, 0x0e008400))
        return three_same_extra(word);
    if (matches(word, 0x9f7e0c00, 0x0e780800)) /* two registers, half precision */
        return SIMD_FP;
    if (matches(word, 0x9f3e0c00, 0x0e200800)) { /* two registers: comparisons with 0, then rounding, conversion */
        unsigned opcode = bits(word, 16, 12);
        bool compares = opcode >= 0x0c && opcode <= 0x0f && bits(word, 23, 23);
        return compares || opcode >= 0x16 ? SIMD_FP : SIMD_INT;
    }
    if (matches(word, 0x9f3e0c00, 0x0e300800)) /* across lanes and pairwise: FMAXV, FADDP … */
        return bits(word, 16, 14) == 3 ? SIMD_FP : SIMD_INT;
    if (matches(word, 0x9f000400, 0x0f000000))
        return by_element(word);
    if (matches(word, 0x9f800400, 0x0f000400) && bits(word, 22, 19) != 0) /* shifts; the last opcodes convert */
        return bits(word, 15, 11) >= 0x1c ? SIMD_FP : SIMD_INT;
    return SIMD_INT;
}

static inline bool calls_or_returns(uint32_t word)
{
    unsigned opc = bits(word, 24, 21);
    if (matches(word, 0xfe000000, 0xd6000000)) /* to a register: BLR, RET, and with an authenticated address */
        return opc == 0x1 || opc == 0x2 || opc == 0x9;
    return matches(word, 0xfc000000, 0x94000000); /* BL */
}

static inline struct sorted sort_aarch64(uint32_t word)
{
    unsigned group = bits(word, 28, 25);
    if ((group & 0x5) == 0x4)
        return load_or_store(word);
    if ((group & 0x7) == 0x7)
        return (struct sorted){simd(word), 0, 0};
    /* B, BL, B.cond, CBZ, TBZ, BR, BLR, RET; the rest of this group is SVC, barriers, hints, system registers. */
    if ((group & 0xe) == 0xa && !matches(word, 0xfe000000, 0xd4000000))
        return (struct sorted){calls_or_returns(word) ? CALLS : BRANCHES, 0, 0};
    return (struct sorted){SCALAR, 0, 0};
}

/* B.cond, CBZ, CBNZ, TBZ, TBNZ. */
static inline bool is_conditional_aarch64(uint32_t word)
{
    return matches(word, 0xfe000000, 0x54000000) || matches(word, 0x7c000000, 0x34000000);
}

#endif
