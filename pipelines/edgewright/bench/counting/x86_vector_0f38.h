/*
 * Sorts the vector instructions of x86's opcode maps 0F 38, 0F 3A and those of AVX512-FP16: SSSE3, SSE4, AES, SHA, F16C,
 * FMA, AVX2, VNNI, their AVX-512 forms, FMA4 and AMX.
 *
 * After the Intel 64 and IA-32 Software Developer's Manual, volume 2, appendix A, "Opcode Map", tables, and
 * the instruction reference, chapters 3 to 6; FMA4 after AMD's Architecture Programmer's Manual, volume 6.
 */
#ifndef EDGEWRIGHT_X86_VECTOR_0F38_H
#define EDGEWRIGHT_X86_VECTOR_0F38_H

#include "x86_vector.h"

/* VPMOVSX, VPMOVZX and, the other way, VPMOV of AVX-512: how many times the narrow side is narrower. */
static inline unsigned widening(const struct encoded *found)
{
    static const uint8_t TIMES[8] = {2, 4, 8, 2, 4, 2, 1, 1};
    return TIMES[found->opcode & 7];
}

static inline struct sorted sort_fma(const struct encoded *found)
{
    unsigned low = found->opcode & 0x0f;
    bool scalar = low >= 9 && low & 1;
    return reading(found, SIMD_FMA, scalar ? element_bytes(found) : packed_bytes(found, 1));
}

static inline struct sorted sort_vector_0f38(const struct encoded *found)
{
    bool evex = found->scheme == EVEX, legacy = found->scheme == LEGACY;
    switch (found->opcode) {
    case 0x96 ... 0x9f: /* VFMADD132PS, … VFNMSUB231SD */
    case 0xa6 ... 0xaf:
    case 0xb6 ... 0xbf:
        return sort_fma(found);
    case 0x04: /* PMADDUBSW */
        return reading(found, SIMD_DOT, integer_bytes(found));
    case 0x52: /* VPDPWSSD; VDPBF16PS */
        return reading(found, evex && found->prefix == PREFIX_F3 ? SIMD_FMA : SIMD_DOT, packed_bytes(found, 1));
    case 0x50 ... 0x51: /* VPDPBUSD and its saturating form */
    case 0x53:
    case 0xd2 ... 0xd3: /* VPDPWUSD */
        return reading(found, SIMD_DOT, packed_bytes(found, 1));
    case 0x5e: /* TDPBUSD, of registers */
        return of_kind(SIMD_DOT);
    case 0x5c: /* TDPBF16PS, of registers */
        return of_kind(SIMD_FMA);
    case 0x49: /* LDTILECFG, STTILECFG */
        return found->prefix == PREFIX_66 ? moving_out(found, SIMD_INT, 64) : moving_in(found, SIMD_INT, 64);
    case 0x4b: /* TILELOADD, TILESTORED: 16 rows of 64 bytes */
        return found->prefix == PREFIX_F3 ? moving_out(found, SIMD_INT, 1024) : moving_in(found, SIMD_INT, 1024);
    case 0xb0: /* VCVTNEEPH2PS, VBCSTNEBF162PS */
        return reading(found, SIMD_FP, packed_bytes(found, 1));
    case 0xb1:
        return reading(found, SIMD_FP, 2);
    case 0x18: /* VBROADCASTSS, VPBROADCASTD */
    case 0x58:
        return moving_in(found, SIMD_INT, 4);
    case 0x19: /* VBROADCASTSD, VPBROADCASTQ */
    case 0x59:
        return moving_in(found, SIMD_INT, 8);
    case 0x1a: /* VBROADCASTF128 */
    case 0x5a:
        return moving_in(found, SIMD_INT, 16);
    case 0x1b:
    case 0x5b:
        return moving_in(found, SIMD_INT, 32);
    case 0x78: /* VPBROADCASTB, VPBROADCASTW */
        return moving_in(found, SIMD_INT, 1);
    case 0x79:
        return moving_in(found, SIMD_INT, 2);
    case 0x10 ... 0x15:
        if (evex && found->prefix == PREFIX_F3)
            return writing(found, SIMD_INT, found->vector_bytes / widening(found));
        if (found->opcode == 0x13 && !legacy) /* VCVTPH2PS */
            return reading(found, SIMD_FP, packed_bytes(found, 2));
        return reading(found, SIMD_INT, packed_bytes(found, 1));
    case 0x20 ... 0x25:
    case 0x30 ... 0x35:
        if (evex && found->prefix == PREFIX_F3)
            return writing(found, SIMD_INT, found->vector_bytes / widening(found));
        return reading(found, SIMD_INT, found->vector_bytes / widening(found));
    case 0x2a: /* MOVNTDQA */
        return moving_in(found, SIMD_INT, found->vector_bytes);
    case 0x2c ... 0x2d: /* VMASKMOVPS; VSCALEFPS, VSCALEFSS */
        if (evex)
            return reading(found, SIMD_FP, found->opcode & 1 ? element_bytes(found) : packed_bytes(found, 1));
        if (found->scheme == VEX)
            return moving_in(found, SIMD_INT, found->vector_bytes);
        return of_kind(SIMD_INT);
    case 0x2e ... 0x2f:
    case 0x8e: /* VPMASKMOVD */
        return moving_out(found, SIMD_INT, found->vector_bytes);
    case 0x8c:
        return moving_in(found, SIMD_INT, found->vector_bytes);
    case 0x90 ... 0x93: /* gathers; with quadword indices doublewords are half as many */
        return moving_in(found, SIMD_INT, found->vector_bytes / (found->opcode & 1 && !found->wide ? 2 : 1));
    case 0xa0 ... 0xa3: /* scatters */
        return moving_out(found, SIMD_INT, found->vector_bytes / (found->opcode & 1 && !found->wide ? 2 : 1));
    case 0x63: /* VPCOMPRESSB, VCOMPRESSPS, VPCOMPRESSD */
    case 0x8a ... 0x8b:
        return writing(found, SIMD_INT, found->vector_bytes);
    case 0x42: /* VGETEXPPS, VRCP14PS, VRSQRT14PS; VEXP2PS, VRCP28PS, VRSQRT28PS */
    case 0x4c:
    case 0x4e:
    case 0xc8:
    case 0xca:
    case 0xcc:
        return reading(found, evex ? SIMD_FP : SIMD_INT, packed_bytes(found, 1));
    case 0x43:
    case 0x4d:
    case 0x4f:
    case 0xcb:
    case 0xcd:
        if (!evex) /* SHA */
            return reading(found, SIMD_INT, 16);
        return reading(found, SIMD_FP, element_bytes(found));
    case 0x72: /* VCVTNEPS2BF16; VPSHRDVW */
        return reading(found, found->prefix & 2 ? SIMD_FP : SIMD_INT, packed_bytes(found, 1));
    case 0x1c ... 0x1e: /* PABSB, PABSW, PABSD */
    case 0x00 ... 0x03: /* PSHUFB, PHADDW … */
    case 0x05 ... 0x0b: /* PHSUBW, PSIGNB, PMULHRSW … */
        return reading(found, SIMD_INT, integer_bytes(found));
    default: /* SHA has no prefix and no MMX form */
        return reading(found, SIMD_INT, packed_bytes(found, 1));
    }
}

static inline struct sorted sort_vector_0f3a(const struct encoded *found)
{
    switch (found->opcode) {
    case 0x14: /* PEXTRB, PEXTRW, PEXTRD, EXTRACTPS */
        return moving_out(found, SIMD_INT, 1);
    case 0x15:
        return moving_out(found, SIMD_INT, 2);
    case 0x16:
        return moving_out(found, SIMD_INT, general_bytes(found));
    case 0x17:
        return moving_out(found, SIMD_INT, 4);
    case 0x19: /* VEXTRACTF128 */
    case 0x39:
        return moving_out(found, SIMD_INT, 16);
    case 0x1b: /* VEXTRACTF32X8 */
    case 0x3b:
        return moving_out(found, SIMD_INT, 32);
    case 0x20: /* PINSRB, INSERTPS, PINSRD */
        return reading(found, SIMD_INT, 1);
    case 0x21:
        return reading(found, SIMD_INT, 4);
    case 0x22:
        return reading(found, SIMD_INT, general_bytes(found));
    case 0x18: /* VINSERTF128 */
    case 0x38:
        return reading(found, SIMD_INT, 16);
    case 0x1a: /* VINSERTF32X8 */
    case 0x3a:
        return reading(found, SIMD_INT, 32);
    case 0x1d: /* VCVTPS2PH */
        return writing(found, SIMD_FP, found->vector_bytes / 2);
    case 0x0a: /* ROUNDSS */
        return reading(found, SIMD_FP, element_bytes(found) == 2 ? 2 : 4);
    case 0x0b: /* ROUNDSD */
        return reading(found, SIMD_FP, 8);
    case 0x08 ... 0x09: /* ROUNDPS, ROUNDPD */
    case 0x40 ... 0x41: /* DPPS, DPPD */
        return reading(found, SIMD_FP, packed_bytes(found, 1));
    case 0x26: /* VGETMANTPS, VRANGEPS, VFIXUPIMMPS, VREDUCEPS, VFPCLASSPS; VCMPPH */
    case 0x50:
    case 0x54:
    case 0x56:
    case 0x66:
        return reading(found, SIMD_FP, packed_bytes(found, 1));
    case 0x27: /* the same, of one float */
    case 0x51:
    case 0x55:
    case 0x57:
    case 0x67:
        return reading(found, SIMD_FP, element_bytes(found));
    case 0xc2: /* VCMPPH, VCMPSH */
        return reading(found, SIMD_FP, found->prefix == PREFIX_F3 ? 2 : packed_bytes(found, 1));
    case 0x5c ... 0x5f: /* FMA4 of AMD: VFMADDSUBPS … */
    case 0x68 ... 0x69:
    case 0x6c ... 0x6d:
    case 0x78 ... 0x79:
    case 0x7c ... 0x7d:
        return reading(found, SIMD_FMA, packed_bytes(found, 1));
    case 0x6a: /* VFMADDSS … */
    case 0x6e:
    case 0x7a:
    case 0x7e:
        return reading(found, SIMD_FMA, 4);
    case 0x6b: /* VFMADDSD … */
    case 0x6f:
    case 0x7b:
    case 0x7f:
        return reading(found, SIMD_FMA, 8);
    case 0x0f: /* PALIGNR */
        return reading(found, SIMD_INT, integer_bytes(found));
    default:
        return reading(found, SIMD_INT, packed_bytes(found, 1));
    }
}

/* AVX512-FP16, map 5: the instructions of 0F on halves. Conversions are taken to read a whole vector or one half. */
static inline struct sorted sort_fp16_0f(const struct encoded *found)
{
    switch (found->opcode) {
    case 0x10: /* VMOVSH, VMOVW */
    case 0x6e:
        return moving_in(found, SIMD_INT, 2);
    case 0x11:
    case 0x7e:
        return moving_out(found, SIMD_INT, 2);
    case 0x2e ... 0x2f: /* VUCOMISH, VCOMISH */
        return reading(found, SIMD_FP, 2);
    default:
        return reading(found, SIMD_FP, float_bytes(found));
    }
}

/* AVX512-FP16, map 6: the instructions of 0F 38 on halves; 56, 57, D6 and D7 multiply complex numbers. */
static inline struct sorted sort_fp16_0f38(const struct encoded *found)
{
    unsigned low = found->opcode & 0x0f, high = found->opcode & 0xf0;
    if ((high == 0x90 || high == 0xa0 || high == 0xb0) && low >= 6)
        return sort_fma(found);
    if (found->opcode == 0x56 || found->opcode == 0x57)
        return reading(found, SIMD_FMA, found->opcode & 1 ? 4 : packed_bytes(found, 1));
    return reading(found, SIMD_FP, found->opcode & 1 ? 2 : packed_bytes(found, 1));
}

#endif
