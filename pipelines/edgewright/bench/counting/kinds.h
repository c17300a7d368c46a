/*
 * The few kinds of instructions whose cost differs, and what one instruction is taken for.
 *
 * Every instruction belongs to exactly one kind, so the kinds add up to the total. How a processor's instructions
 * are sorted is said where it is done: aarch64.h, x86.h.
 */
#ifndef EDGEWRIGHT_KINDS_H
#define EDGEWRIGHT_KINDS_H

enum kind {
    LOADS,
    STORES,
    BRANCHES, /* jumps */
    CALLS,    /* and returns: rare in kernels, so the work of the engine between them */
    SIMD_FMA, /* floating-point multiply-add: the work of an fp32 model */
    SIMD_FP,  /* other floating point, conversions included */
    SIMD_DOT, /* int8 dot products and matrix products: the work of an int8 model where the core has them; on x86 also
                 the multiply-and-add of pairs that kernels use in their place */
    SIMD_INT, /* other vectors: integer arithmetic, permutations, moves */
    SCALAR,
    KINDS
};

struct sorted {
    enum kind kind;
    unsigned load_bytes, store_bytes; /* from and to memory; 0 for a prefetch */
};

#endif
