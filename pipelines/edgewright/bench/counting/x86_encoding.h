/*
 * Takes an x86-64 instruction apart: prefixes, opcode map, opcode, ModRM.
 *
 *     struct encoded found = take_apart(bytes, size);
 *
 * After the Intel 64 and IA-32 Software Developer's Manual, volume 2, chapter 2, "Instruction Format": legacy
 * prefixes and ModRM (2.1), REX (2.2), VEX (2.3), EVEX ("Intel AVX-512 Encoding"). AMD's XOP has the form of VEX.
 *
 * The length is known to whoever has the instruction, so addresses and immediates are not read. Bytes that are no
 * instruction give some answer, and nothing past `size` is looked at.
 */
#ifndef EDGEWRIGHT_X86_ENCODING_H
#define EDGEWRIGHT_X86_ENCODING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kinds.h"

enum scheme { LEGACY, VEX, EVEX, XOP };

/* Numbers as in VEX.mmmmm and EVEX.mmm. */
enum map { MAP_ONE_BYTE = 0, MAP_0F = 1, MAP_0F38 = 2, MAP_0F3A = 3, MAP_FP16_0F = 5, MAP_FP16_0F38 = 6 };

/* The prefix that chooses among instructions of one opcode; numbers as in VEX.pp. */
enum prefix { NO_PREFIX, PREFIX_66, PREFIX_F3, PREFIX_F2 };

struct encoded {
    enum scheme scheme;
    enum map map;
    enum prefix prefix;
    bool wide;             /* REX.W, VEX.W */
    bool half;             /* operand size 16 */
    bool broadcast;        /* EVEX.b: with a memory operand, one element for all lanes */
    unsigned vector_bytes; /* of a vector register: VEX.L, EVEX.L'L; 16 without */
    uint8_t opcode;
    uint8_t extension; /* ModRM.reg, which tells the instructions of a group apart */
    bool in_memory;    /* ModRM.mod: the operand "r/m" is memory */
};

struct reader {
    const uint8_t *next, *end;
};

static inline uint8_t read_byte(struct reader *from)
{
    return from->next < from->end ? *from->next++ : 0;
}

/* Legacy prefixes and REX; returns the byte after them. */
static inline uint8_t read_prefixes(struct encoded *found, struct reader *from)
{
    uint8_t rex = 0;
    for (;;) {
        uint8_t byte = read_byte(from);
        switch (byte) {
        case 0x66:
            found->half = true;
            rex = 0;
            break;
        case 0xf2:
        case 0xf3:
            found->prefix = byte == 0xf2 ? PREFIX_F2 : PREFIX_F3;
            rex = 0;
            break;
        case 0x26: /* segments */
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x64:
        case 0x65:
        case 0x67: /* address size */
        case 0xf0: /* LOCK */
            rex = 0;
            break;
        default:
            if ((byte & 0xf0) == 0x40) { /* REX, which counts only right before the opcode */
                rex = byte;
                break;
            }
            found->wide = rex & 0x08;
            if (found->half && found->prefix == NO_PREFIX) /* F2 and F3 win over 66 */
                found->prefix = PREFIX_66;
            return byte;
        }
    }
}

/* VEX of three bytes and XOP, after the first; XOP's maps are 8 and up. */
static inline void read_vex(struct encoded *found, struct reader *from)
{
    found->map = read_byte(from) & 0x1f;
    uint8_t last = read_byte(from);
    found->wide = last & 0x80;
    found->vector_bytes = last & 0x04 ? 32 : 16;
    found->prefix = last & 0x03;
    found->opcode = read_byte(from);
}

static inline void read_short_vex(struct encoded *found, struct reader *from)
{
    uint8_t last = read_byte(from);
    found->map = MAP_0F;
    found->vector_bytes = last & 0x04 ? 32 : 16;
    found->prefix = last & 0x03;
    found->opcode = read_byte(from);
}

static inline void read_evex(struct encoded *found, struct reader *from)
{
    found->map = read_byte(from) & 0x07;
    uint8_t middle = read_byte(from), last = read_byte(from);
    found->wide = middle & 0x80;
    found->prefix = middle & 0x03;
    found->vector_bytes = 16u << ((last >> 5 & 0x03) % 3);
    found->broadcast = last & 0x10;
    found->opcode = read_byte(from);
}

static inline void read_legacy(struct encoded *found, struct reader *from, uint8_t first)
{
    found->opcode = first;
    if (first != 0x0f)
        return;
    found->map = MAP_0F;
    found->opcode = read_byte(from);
    if (found->opcode == 0x38 || found->opcode == 0x3a) {
        found->map = found->opcode == 0x38 ? MAP_0F38 : MAP_0F3A;
        found->opcode = read_byte(from);
    }
}

static inline struct encoded take_apart(const uint8_t *bytes, size_t size)
{
    struct encoded found = {.scheme = LEGACY, .map = MAP_ONE_BYTE, .vector_bytes = 16};
    struct reader from = {bytes, bytes + size};
    uint8_t first = read_prefixes(&found, &from);
    /* In 64-bit mode these bytes are nothing else; XOP shares 8F with POP, whose ModRM.reg is 0. */
    if (first == 0xc4 || (first == 0x8f && from.next < from.end && (*from.next & 0x1f) >= 8)) {
        found.scheme = first == 0xc4 ? VEX : XOP;
        read_vex(&found, &from);
    } else if (first == 0xc5) {
        found.scheme = VEX;
        read_short_vex(&found, &from);
    } else if (first == 0x62) {
        found.scheme = EVEX;
        read_evex(&found, &from);
    } else {
        read_legacy(&found, &from, first);
    }
    /* Where an opcode has no ModRM this reads what is not one; only opcodes that have it look. */
    uint8_t modrm = read_byte(&from);
    found.extension = modrm >> 3 & 0x07;
    found.in_memory = modrm < 0xc0;
    return found;
}

/* What an instruction is taken for, given its operand "r/m". */

static inline struct sorted of_kind(enum kind kind)
{
    return (struct sorted){kind, 0, 0};
}

static inline struct sorted reading(const struct encoded *found, enum kind kind, unsigned bytes)
{
    return (struct sorted){kind, found->in_memory ? bytes : 0, 0};
}

static inline struct sorted writing(const struct encoded *found, enum kind kind, unsigned bytes)
{
    return (struct sorted){kind, 0, found->in_memory ? bytes : 0};
}

static inline struct sorted changing(const struct encoded *found, enum kind kind, unsigned bytes)
{
    return found->in_memory ? (struct sorted){kind, bytes, bytes} : of_kind(kind);
}

/* Pure moves: a load or a store, or of `kind` among registers. */

static inline struct sorted moving_in(const struct encoded *found, enum kind kind, unsigned bytes)
{
    return found->in_memory ? (struct sorted){LOADS, bytes, 0} : of_kind(kind);
}

static inline struct sorted moving_out(const struct encoded *found, enum kind kind, unsigned bytes)
{
    return found->in_memory ? (struct sorted){STORES, 0, bytes} : of_kind(kind);
}

#endif
