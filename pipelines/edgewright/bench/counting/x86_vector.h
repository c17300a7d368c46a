/*
 * Sorts the vector instructions of x86's opcode map 0F: MMX, SSE, SSE2, their AVX and AVX-512 forms, and opmasks.
 *
 * After the Intel 64 and IA-32 Software Developer's Manual, volume 2, appendix A, "Opcode Map", table A-3, and the
 * instruction reference, chapters 3 to 6, for EVEX and the sizes of operands. The other maps are in x86_vector_0f38.h.
 *
 * simdDot is what int8 kernels multiply with: VPDP…, and PMADDUBSW and PMADDWD, their two steps where the core has no
 * VNNI. Bitwise operations on floats (ANDPS, XORPS) move no exponent and are simdInt, as they are on AArch64.
 *
 * Bytes are of the whole operand: what masks leave out (VPMASKMOV, AVX-512) is counted as if it were moved, and a gather
 * or scatter moves all its lanes.
 */
#ifndef EDGEWRIGHT_X86_VECTOR_H
#define EDGEWRIGHT_X86_VECTOR_H

#include "x86_encoding.h"

/* Of one float, or of one element of AVX-512. */
static inline unsigned element_bytes(const struct encoded *found)
{
    if (found->map >= MAP_FP16_0F || (found->scheme == EVEX && found->map == MAP_0F3A && found->prefix != PREFIX_66))
        return 2;
    return found->wide ? 8 : 4;
}

/* Of a memory operand as wide as the register, divided where a conversion widens. */
static inline unsigned packed_bytes(const struct encoded *found, unsigned divisor)
{
    return found->broadcast ? element_bytes(found) : found->vector_bytes / divisor;
}

/* Of an operand that is packed, one float or one double by the prefix: ADDPS, ADDPD, ADDSS, ADDSD. */
static inline unsigned float_bytes(const struct encoded *found)
{
    switch (found->prefix) {
    case PREFIX_F3:
        return found->map == MAP_FP16_0F ? 2 : 4;
    case PREFIX_F2:
        return 8;
    default:
        return packed_bytes(found, 1);
    }
}

/* Of an integer vector; without a prefix it is an MMX register. */
static inline unsigned integer_bytes(const struct encoded *found)
{
    return found->scheme == LEGACY && found->prefix == NO_PREFIX ? 8 : packed_bytes(found, 1);
}

static inline unsigned general_bytes(const struct encoded *found)
{
    return found->wide ? 8 : 4;
}

static inline struct sorted sort_conversion_0f(const struct encoded *found)
{
    bool quads = found->scheme == EVEX && found->wide;
    switch (found->opcode) {
    case 0x2a: /* CVTSI2SS, CVTSI2SD; without F3 or F2 from an MMX register */
        return reading(found, SIMD_FP, found->prefix & 2 ? general_bytes(found) : 8);
    case 0x2c: /* CVTTSS2SI, CVTTSD2SI; without F3 or F2 to an MMX register */
    case 0x2d:
        return reading(found, SIMD_FP, found->prefix == NO_PREFIX ? 8 : float_bytes(found));
    case 0x2e: /* UCOMISS, UCOMISD; COMISS, COMISD */
    case 0x2f:
        return reading(found, SIMD_FP, found->prefix == PREFIX_66 ? 8 : 4);
    case 0x5a: /* CVTPS2PD widens */
        return reading(found, SIMD_FP, found->prefix == NO_PREFIX ? packed_bytes(found, 2) : float_bytes(found));
    case 0xe6: /* CVTDQ2PD widens, VCVTQQ2PD does not */
        return reading(found, SIMD_FP, packed_bytes(found, found->prefix == PREFIX_F3 && !quads ? 2 : 1));
    case 0x78: /* EVEX: to unsigned, to and from quadwords; one float with F3 and F2 */
    case 0x79:
        if (found->prefix & 2)
            return reading(found, SIMD_FP, float_bytes(found));
        return reading(found, SIMD_FP, packed_bytes(found, found->prefix == PREFIX_66 && !quads ? 2 : 1));
    case 0x7a:
        return reading(found, SIMD_FP, packed_bytes(found, found->prefix != PREFIX_F2 && !quads ? 2 : 1));
    case 0x7b: /* VCVTUSI2SS, VCVTUSI2SD; VCVTPS2QQ, VCVTPD2QQ */
        if (found->prefix & 2)
            return reading(found, SIMD_FP, general_bytes(found));
        return reading(found, SIMD_FP, packed_bytes(found, quads ? 1 : 2));
    default: /* CVTDQ2PS and back */
        return reading(found, SIMD_FP, packed_bytes(found, 1));
    }
}

static inline struct sorted sort_move_0f(const struct encoded *found)
{
    switch (found->opcode) {
    case 0x10: /* MOVUPS, MOVUPD, MOVSS, MOVSD */
        return moving_in(found, SIMD_INT, float_bytes(found));
    case 0x11:
        return moving_out(found, SIMD_INT, float_bytes(found));
    case 0x12: /* MOVLPS, MOVLPD; MOVSLDUP, MOVDDUP */
        if (found->prefix == PREFIX_F2 && found->vector_bytes > 16)
            return moving_in(found, SIMD_INT, found->vector_bytes);
        return moving_in(found, SIMD_INT, found->prefix == PREFIX_F3 ? found->vector_bytes : 8);
    case 0x16: /* MOVHPS, MOVHPD; MOVSHDUP */
        return moving_in(found, SIMD_INT, found->prefix == PREFIX_F3 ? found->vector_bytes : 8);
    case 0x13: /* MOVLPS, MOVHPS */
    case 0x17:
        return moving_out(found, SIMD_INT, 8);
    case 0xd6: /* MOVQ; VMOVD of AVX10.2 */
        return moving_out(found, SIMD_INT, found->scheme == EVEX ? general_bytes(found) : 8);
    case 0x6e: /* MOVD, MOVQ */
        return moving_in(found, SIMD_INT, general_bytes(found));
    case 0x7e:
        if (found->prefix == PREFIX_F3)
            return moving_in(found, SIMD_INT, found->scheme == EVEX ? general_bytes(found) : 8);
        return moving_out(found, SIMD_INT, general_bytes(found));
    case 0x6f: /* MOVDQA, MOVDQU */
        return moving_in(found, SIMD_INT, integer_bytes(found));
    case 0x7f:
    case 0xe7: /* MOVNTDQ */
        return moving_out(found, SIMD_INT, integer_bytes(found));
    case 0xf7: /* MASKMOVDQU: to [rdi], which ModRM does not name */
        return (struct sorted){STORES, 0, integer_bytes(found)};
    case 0x29: /* MOVAPS */
        return moving_out(found, SIMD_INT, found->vector_bytes);
    case 0x2b: /* MOVNTPS; MOVNTSS of AMD */
        return moving_out(found, SIMD_INT, float_bytes(found));
    default: /* MOVAPS, LDDQU */
        return moving_in(found, SIMD_INT, found->vector_bytes);
    }
}

static inline struct sorted sort_vector_0f(const struct encoded *found)
{
    switch (found->opcode) {
    case 0x10 ... 0x13:
    case 0x16 ... 0x17:
    case 0x28 ... 0x29:
    case 0x2b:
    case 0x6e ... 0x6f:
    case 0x7e ... 0x7f:
    case 0xd6:
    case 0xe7:
    case 0xf0:
    case 0xf7:
        return sort_move_0f(found);
    case 0x78 ... 0x7b: /* of AVX-512; EXTRQ of AMD */
        return found->scheme == EVEX ? sort_conversion_0f(found) : of_kind(SIMD_INT);
    case 0x2a:
    case 0x2c ... 0x2f:
    case 0x5a ... 0x5b:
    case 0xe6:
        return sort_conversion_0f(found);
    case 0x51 ... 0x53: /* square root, reciprocals */
    case 0x58 ... 0x59: /* addition, multiplication */
    case 0x5c ... 0x5f: /* subtraction, minimum, division, maximum */
    case 0xc2:          /* comparison */
        return reading(found, SIMD_FP, float_bytes(found));
    case 0x7c: /* HADDPS, HSUBPS, ADDSUBPS */
    case 0x7d:
    case 0xd0:
        return reading(found, SIMD_FP, found->vector_bytes);
    case 0xf5: /* PMADDWD */
        return reading(found, SIMD_DOT, integer_bytes(found));
    case 0xc4: /* PINSRW */
        return reading(found, SIMD_INT, 2);
    case 0xd1 ... 0xd3: /* shifts by an XMM register */
    case 0xe1 ... 0xe2:
    case 0xf1 ... 0xf3:
        return reading(found, SIMD_INT, found->scheme == LEGACY ? integer_bytes(found) : 16);
    case 0x60 ... 0x62: /* PUNPCKL…: half an MMX register */
        return reading(found, SIMD_INT, integer_bytes(found) == 8 ? 4 : integer_bytes(found));
    case 0x14 ... 0x15: /* UNPCKLPS, logic and SHUFPS: without a prefix not of MMX */
    case 0x54 ... 0x57:
    case 0xc6:
        return reading(found, SIMD_INT, packed_bytes(found, 1));
    case 0x77: /* EMMS, VZEROUPPER have no operand */
        return of_kind(SIMD_INT);
    default:
        return reading(found, SIMD_INT, integer_bytes(found));
    }
}

/* KMOV names its size in prefix and W: words, bytes, quadwords, doublewords. */
static inline unsigned mask_bytes(const struct encoded *found)
{
    if (found->prefix == PREFIX_66)
        return found->wide ? 4 : 1;
    return found->wide ? 8 : 2;
}

/* Opmasks: KMOV moves, the rest computes on registers alone. */
static inline struct sorted sort_opmask(const struct encoded *found)
{
    if (found->opcode == 0x90)
        return moving_in(found, SIMD_INT, mask_bytes(found));
    if (found->opcode == 0x91)
        return moving_out(found, SIMD_INT, mask_bytes(found));
    return of_kind(SIMD_INT);
}

#endif
