/*
 * Sorts the instructions of x86-64 that are not of vectors: integers, branches, the stack, strings, x87.
 *
 * After the Intel 64 and IA-32 Software Developer's Manual, volume 2, appendix A, "Opcode Map", tables A-2 (one byte),
 * A-3 (0F), A-6 (groups, told apart by ModRM.reg) and A-7 to A-22 (x87). What counts as what is said in x86.h.
 */
#ifndef EDGEWRIGHT_X86_SCALAR_H
#define EDGEWRIGHT_X86_SCALAR_H

#include "x86_encoding.h"

#define POINTER 8u
#define FXSAVE_AREA 512u
#define XSAVE_AREA 832u

/* Of a general operand; where opcodes come in pairs, the even one is of bytes. */
static inline unsigned operand_bytes(const struct encoded *found)
{
    return found->wide ? 8 : found->half ? 2 : 4;
}

static inline unsigned paired_bytes(const struct encoded *found)
{
    return found->opcode & 1 ? operand_bytes(found) : 1;
}

/* PUSH and POP move 8 bytes, or 2 with 66; never 4. */
static inline unsigned stack_bytes(const struct encoded *found)
{
    return found->half && !found->wide ? 2 : POINTER;
}

static inline struct sorted sort_x87(const struct encoded *found)
{
    /* By opcode, for reg 0 to 3; the rest is named below. */
    static const uint8_t NUMBER[8] = {4, 4, 4, 4, 8, 8, 2, 2};
    unsigned group = found->opcode & 7;
    if (!found->in_memory)
        return of_kind(SIMD_FP);
    if (group % 2 == 0) /* D8, DA, DC, DE: arithmetic with a float or an integer */
        return reading(found, SIMD_FP, NUMBER[group]);
    switch (group << 4 | found->extension) {
    case 0x10: /* FLD */
    case 0x50:
        return moving_in(found, SIMD_FP, NUMBER[group]);
    case 0x12: /* FST, FSTP */
    case 0x13:
    case 0x52:
    case 0x53:
        return moving_out(found, SIMD_FP, NUMBER[group]);
    case 0x14: /* FLDENV, FNSTENV */
        return moving_in(found, SIMD_FP, 28);
    case 0x16:
        return moving_out(found, SIMD_FP, 28);
    case 0x15: /* FLDCW, FNSTCW, FNSTSW */
        return moving_in(found, SIMD_FP, 2);
    case 0x17:
    case 0x57:
        return moving_out(found, SIMD_FP, 2);
    case 0x35: /* FLD, FSTP of 80 bits */
        return moving_in(found, SIMD_FP, 10);
    case 0x37:
        return moving_out(found, SIMD_FP, 10);
    case 0x54: /* FRSTOR, FNSAVE */
        return moving_in(found, SIMD_FP, 108);
    case 0x56:
        return moving_out(found, SIMD_FP, 108);
    case 0x75: /* FILD, FISTP of 64 bits */
        return reading(found, SIMD_FP, 8);
    case 0x77:
    case 0x51: /* FISTTP of 64 bits */
        return writing(found, SIMD_FP, 8);
    case 0x74: /* FBLD, FBSTP */
        return reading(found, SIMD_FP, 10);
    case 0x76:
        return writing(found, SIMD_FP, 10);
    case 0x30: /* FILD */
    case 0x70:
        return reading(found, SIMD_FP, NUMBER[group]);
    default: /* FISTTP, FIST, FISTP */
        return writing(found, SIMD_FP, NUMBER[group]);
    }
}

/* INC, DEC, CALL, JMP, PUSH. */
static inline struct sorted sort_group_5(const struct encoded *found)
{
    switch (found->extension) {
    case 2: /* CALL, also far */
    case 3:
        return (struct sorted){CALLS, found->in_memory ? POINTER : 0, POINTER};
    case 4:
    case 5:
        return reading(found, BRANCHES, POINTER);
    case 6:
        return found->in_memory ? (struct sorted){LOADS, stack_bytes(found), stack_bytes(found)}
                                : (struct sorted){STORES, 0, stack_bytes(found)};
    default:
        return changing(found, SCALAR, operand_bytes(found));
    }
}

/* ADD, OR, ADC, SBB, AND, SUB, XOR, CMP: eight opcodes each, of which six are used. */
static inline struct sorted sort_arithmetic(const struct encoded *found)
{
    switch (found->opcode & 7) {
    case 0: /* to r/m; CMP only reads it */
    case 1:
        return found->opcode < 0x38 ? changing(found, SCALAR, paired_bytes(found))
                                    : reading(found, SCALAR, paired_bytes(found));
    case 2: /* from r/m */
    case 3:
        return reading(found, SCALAR, paired_bytes(found));
    default: /* immediates */
        return of_kind(SCALAR);
    }
}

static inline struct sorted sort_one_byte(const struct encoded *found)
{
    unsigned bytes = paired_bytes(found);
    switch (found->opcode) {
    case 0x00 ... 0x3f:
        return sort_arithmetic(found);
    case 0x50 ... 0x57: /* PUSH */
    case 0x68:
    case 0x6a:
    case 0x9c: /* PUSHF */
        return (struct sorted){STORES, 0, stack_bytes(found)};
    case 0x58 ... 0x5f: /* POP */
    case 0x9d:          /* POPF */
    case 0xc9:          /* LEAVE */
        return (struct sorted){LOADS, stack_bytes(found), 0};
    case 0x63: /* MOVSXD */
        return moving_in(found, SCALAR, 4);
    case 0x69: /* IMUL */
    case 0x6b:
        return reading(found, SCALAR, operand_bytes(found));
    case 0x6c ... 0x6d: /* INS, STOS */
    case 0xaa ... 0xab:
        return (struct sorted){STORES, 0, bytes};
    case 0x6e ... 0x6f: /* OUTS, LODS */
    case 0xac ... 0xad:
        return (struct sorted){LOADS, bytes, 0};
    case 0x70 ... 0x7f: /* Jcc */
    case 0xe0 ... 0xe3: /* LOOP, JRCXZ */
    case 0xe9:          /* JMP */
    case 0xeb:
        return of_kind(BRANCHES);
    case 0x80 ... 0x83: /* arithmetic with an immediate; 7 is CMP */
        return found->extension == 7 ? reading(found, SCALAR, bytes) : changing(found, SCALAR, bytes);
    case 0x84 ... 0x85: /* TEST */
        return reading(found, SCALAR, bytes);
    case 0x86 ... 0x87: /* XCHG */
        return found->in_memory ? (struct sorted){LOADS, bytes, bytes} : of_kind(SCALAR);
    case 0x88 ... 0x89: /* MOV */
    case 0xc6 ... 0xc7:
        return moving_out(found, SCALAR, bytes);
    case 0x8a ... 0x8b:
        return moving_in(found, SCALAR, bytes);
    case 0x8c: /* MOV of segment registers */
        return moving_out(found, SCALAR, 2);
    case 0x8e:
        return moving_in(found, SCALAR, 2);
    case 0x8f: /* POP */
        return found->in_memory ? (struct sorted){LOADS, stack_bytes(found), stack_bytes(found)}
                                : (struct sorted){LOADS, stack_bytes(found), 0};
    case 0xa0 ... 0xa1: /* MOV from and to an absolute address */
        return (struct sorted){LOADS, bytes, 0};
    case 0xa2 ... 0xa3:
        return (struct sorted){STORES, 0, bytes};
    case 0xa4 ... 0xa5: /* MOVS */
        return (struct sorted){LOADS, bytes, bytes};
    case 0xa6 ... 0xa7: /* CMPS */
        return (struct sorted){SCALAR, 2 * bytes, 0};
    case 0xae ... 0xaf: /* SCAS */
        return (struct sorted){SCALAR, bytes, 0};
    case 0xc0 ... 0xc1: /* shifts and rotations */
    case 0xd0 ... 0xd3:
    case 0xfe:
        return changing(found, SCALAR, bytes);
    case 0xc2 ... 0xc3: /* RET */
        return (struct sorted){CALLS, POINTER, 0};
    case 0xca ... 0xcb: /* RET far: with the code segment */
        return (struct sorted){CALLS, 2 * POINTER, 0};
    case 0xc8: /* ENTER */
        return (struct sorted){STORES, 0, POINTER};
    case 0xcf: /* IRET */
        return (struct sorted){BRANCHES, 5 * POINTER, 0};
    case 0xd7: /* XLAT */
        return (struct sorted){LOADS, 1, 0};
    case 0xd8 ... 0xdf:
        return sort_x87(found);
    case 0xe8: /* CALL */
        return (struct sorted){CALLS, 0, POINTER};
    case 0xf6 ... 0xf7: /* TEST, NOT, NEG, MUL, DIV */
        return found->extension == 2 || found->extension == 3 ? changing(found, SCALAR, bytes)
                                                              : reading(found, SCALAR, bytes);
    case 0xff:
        return sort_group_5(found);
    default:
        return of_kind(SCALAR);
    }
}

/* FXSAVE, FXRSTOR, LDMXCSR, STMXCSR, XSAVE, XRSTOR, XSAVEOPT, CLFLUSH; fences on registers. */
static inline struct sorted sort_group_15(const struct encoded *found)
{
    switch (found->extension) {
    case 0:
        return moving_out(found, SCALAR, FXSAVE_AREA);
    case 1:
        return moving_in(found, SCALAR, FXSAVE_AREA);
    case 2:
        return moving_in(found, SCALAR, 4);
    case 3:
        return moving_out(found, SCALAR, 4);
    case 5:
        return moving_in(found, SCALAR, XSAVE_AREA);
    case 4:
    case 6: /* with 66 CLWB, with F3 CLRSSBSY */
        return found->prefix == NO_PREFIX ? moving_out(found, SCALAR, XSAVE_AREA) : of_kind(SCALAR);
    default:
        return of_kind(SCALAR);
    }
}

/* CMPXCHG8B, CMPXCHG16B, XRSTORS, XSAVEC, XSAVES; RDRAND, RDSEED on registers. */
static inline struct sorted sort_group_9(const struct encoded *found)
{
    switch (found->extension) {
    case 1:
        return changing(found, SCALAR, found->wide ? 16 : 8);
    case 3:
        return moving_in(found, SCALAR, XSAVE_AREA);
    case 4:
    case 5:
        return moving_out(found, SCALAR, XSAVE_AREA);
    default:
        return of_kind(SCALAR);
    }
}

/* 0F without the vector instructions. */
static inline struct sorted sort_scalar_0f(const struct encoded *found)
{
    unsigned bytes = operand_bytes(found);
    switch (found->opcode) {
    case 0x02 ... 0x03: /* LAR, LSL */
        return reading(found, SCALAR, 2);
    case 0x0d: /* PREFETCHW */
        return moving_in(found, SCALAR, 0);
    case 0x18: /* PREFETCHNTA, PREFETCHT0 …; beyond them NOP */
        return found->extension < 4 ? moving_in(found, SCALAR, 0) : of_kind(SCALAR);
    case 0x40 ... 0x4f: /* CMOVcc */
    case 0xaf:          /* IMUL */
    case 0xb8:          /* POPCNT, TZCNT, LZCNT */
    case 0xbc ... 0xbd:
    case 0xa3: /* BT */
        return reading(found, SCALAR, bytes);
    case 0x80 ... 0x8f: /* Jcc */
        return of_kind(BRANCHES);
    case 0x90 ... 0x9f: /* SETcc */
        return writing(found, SCALAR, 1);
    case 0xa0: /* PUSH and POP of segment registers */
    case 0xa8:
        return (struct sorted){STORES, 0, stack_bytes(found)};
    case 0xa1:
    case 0xa9:
        return (struct sorted){LOADS, stack_bytes(found), 0};
    case 0xa4 ... 0xa5: /* SHLD, SHRD */
    case 0xac ... 0xad:
    case 0xab: /* BTS, BTR, BTC */
    case 0xb3:
    case 0xbb:
        return changing(found, SCALAR, bytes);
    case 0xba: /* BT, BTS, BTR, BTC with an immediate */
        return found->extension == 4 ? reading(found, SCALAR, bytes) : changing(found, SCALAR, bytes);
    case 0xae:
        return sort_group_15(found);
    case 0xb0 ... 0xb1: /* CMPXCHG, XADD */
    case 0xc0 ... 0xc1:
        return changing(found, SCALAR, paired_bytes(found));
    case 0xb6: /* MOVZX, MOVSX */
    case 0xbe:
        return moving_in(found, SCALAR, 1);
    case 0xb7:
    case 0xbf:
        return moving_in(found, SCALAR, 2);
    case 0xc3: /* MOVNTI */
        return moving_out(found, SCALAR, bytes);
    case 0xc7:
        return sort_group_9(found);
    default:
        return of_kind(SCALAR);
    }
}

#endif
