/*
 * Counts the instructions a guest executes, in the spans between marks.
 *
 *     qemu-aarch64 -plugin counting.so,out=spans.jsonl program
 *
 * The guest sets a mark by any system call whose first argument is 0x5A00 to 0x5AFF; a call that fails for such an
 * argument, such as getpriority(0x5A00 | n, 0), changes nothing. Each mark, and the end of the program, writes one
 * line: what ran since the mark before.
 *
 *     {"mark":1,"threads":1,"instructions":90,"loads":20,…}
 *     {"mark":"exit","threads":1,"instructions":12,"loads":3,…}
 *
 * On other processors than AArch64 and x86-64 there is only the total.
 *
 * What a block of code contains is worked out once, when QEMU translates it; whenever it runs, the translated code
 * itself adds one to the block's counter, which costs little. A mark multiplies and adds up. Where kinds are known, it
 * also tells which block came before, and with that whether a conditional branch was taken (predictor.h). None of it is
 * atomic: with more than one thread the counts are wrong, so every line tells how many threads there have been.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aarch64.h"
#include "kinds.h"
#include "predictor.h"
#include "qemu_plugin_api.h"
#include "x86.h"

#define MARKS 0x5A00u /* the byte below it is the number of the mark */
#define BLOCKS 4096   /* in one chunk */

enum { INSTRUCTIONS = KINDS, LOAD_BYTES, STORE_BYTES, COUNTERS };

static const char *const NAMES[COUNTERS] = {
    [LOADS] = "loads",
    [STORES] = "stores",
    [BRANCHES] = "branches",
    [CALLS] = "calls",
    [SIMD_FMA] = "simdFma",
    [SIMD_FP] = "simdFp",
    [SIMD_DOT] = "simdDot",
    [SIMD_INT] = "simdInt",
    [SCALAR] = "scalar",
    [INSTRUCTIONS] = "instructions",
    [LOAD_BYTES] = "loadBytes",
    [STORE_BYTES] = "storeBytes",
};

PLUGIN_EXPORT int qemu_plugin_version = 1;

/* Where a block begins and what follows it in memory; whether it ends in a conditional branch. */
struct place {
    uint64_t start, next;
    bool conditional;
};

/* Blocks are never forgotten: QEMU may run one as long as the program lives. */
struct chunk {
    struct chunk *before;
    size_t used;
    uint64_t executed[BLOCKS]; /* side by side, to share cache lines */
    uint32_t counts[BLOCKS][COUNTERS];
    struct place places[BLOCKS];
};

static struct chunk *blocks;
static const struct place *last; /* the block that ran last, if it ends in a conditional branch */
static uint64_t wrong_guesses;
static uint64_t marked[COUNTERS]; /* counts since the start of the program, at the last mark */
static unsigned threads;
static struct sorted (*sort)(const uint8_t *bytes, size_t size); /* NULL where kinds are not known */
static bool (*is_conditional)(const uint8_t *bytes, size_t size);
static FILE *out;

static void write_span(const char *mark)
{
    uint64_t now[COUNTERS] = {0};
    for (const struct chunk *chunk = blocks; chunk != NULL; chunk = chunk->before)
        for (size_t block = 0; block < chunk->used; block++)
            for (int i = 0; i < COUNTERS; i++)
                now[i] += chunk->executed[block] * chunk->counts[block][i];
    fprintf(out, "{\"mark\":%s,\"threads\":%u", mark, threads);
    for (int i = 0; i < COUNTERS; i++)
        if (sort != NULL || i == INSTRUCTIONS)
            fprintf(out, ",\"%s\":%" PRIu64, NAMES[i], now[i] - marked[i]);
    if (sort != NULL)
        fprintf(out, ",\"branchMisses\":%" PRIu64, wrong_guesses);
    fprintf(out, "}\n");
    fflush(out); /* a guest may be killed */
    memcpy(marked, now, sizeof now);
    forget();
    last = NULL;
    wrong_guesses = 0;
}

static uint32_t word_of(const uint8_t *bytes, size_t size)
{
    uint32_t word = 0;
    memcpy(&word, bytes, size < sizeof word ? size : sizeof word);
    return word;
}

static struct sorted sort_word(const uint8_t *bytes, size_t size)
{
    return sort_aarch64(word_of(bytes, size));
}

static bool is_conditional_word(const uint8_t *bytes, size_t size)
{
    return is_conditional_aarch64(word_of(bytes, size));
}

static void on_thread(qemu_plugin_id_t id, unsigned int vcpu)
{
    (void)id, (void)vcpu;
    threads++;
}

static struct chunk *with_room(void)
{
    if (blocks == NULL || blocks->used == BLOCKS) {
        struct chunk *chunk = calloc(1, sizeof *chunk);
        if (chunk == NULL) {
            fprintf(stderr, "counting plugin: no memory left\n");
            abort();
        }
        chunk->before = blocks;
        blocks = chunk;
    }
    return blocks;
}

static void on_run(unsigned int vcpu, void *data)
{
    (void)vcpu;
    const struct place *place = data;
    if (last != NULL)
        wrong_guesses += guessed_wrong(last->next, place->start != last->next);
    last = place->conditional ? place : NULL;
}

/* QEMU translates under a lock, so one block at a time. */
static void on_block(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    struct chunk *chunk = with_room();
    uint32_t *counts = chunk->counts[chunk->used];
    struct place *place = &chunk->places[chunk->used];
    uint64_t *executed = &chunk->executed[chunk->used++];
    size_t length = qemu_plugin_tb_n_insns(block);
    counts[INSTRUCTIONS] = length;
    for (size_t i = 0; sort != NULL && i < length; i++) {
        const struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        const uint8_t *bytes = qemu_plugin_insn_data(instruction);
        size_t size = qemu_plugin_insn_size(instruction);
        struct sorted sorted = sort(bytes, size);
        counts[sorted.kind]++;
        counts[LOAD_BYTES] += sorted.load_bytes;
        counts[STORE_BYTES] += sorted.store_bytes;
        if (i == 0)
            place->start = qemu_plugin_insn_vaddr(instruction);
        if (i == length - 1) {
            place->next = qemu_plugin_insn_vaddr(instruction) + size;
            place->conditional = is_conditional(bytes, size);
        }
    }
    if (sort != NULL)
        qemu_plugin_register_vcpu_tb_exec_cb(block, on_run, QEMU_PLUGIN_CB_NO_REGS, place);
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, executed, 1);
}

static void on_syscall(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1, uint64_t a2,
                       uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)vcpu, (void)number;
    (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if ((a1 & ~(uint64_t)0xff) == MARKS) {
        char mark[8];
        snprintf(mark, sizeof mark, "%u", (unsigned)(a1 & 0xff));
        write_span(mark);
    }
}

static void on_end(qemu_plugin_id_t id, void *data)
{
    (void)id, (void)data;
    write_span("\"exit\"");
    fclose(out);
}

PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    const char *path = NULL;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) != 0) {
            fprintf(stderr, "counting plugin: unknown option %s; the only one is out=FILE\n", argv[i]);
            return -1;
        }
        path = argv[i] + 4;
    }
    if (path == NULL) {
        fprintf(stderr, "counting plugin: say where to write, with out=FILE\n");
        return -1;
    }
    out = fopen(path, "w");
    if (out == NULL) {
        perror(path);
        return -1;
    }
    if (strcmp(info->target_name, "aarch64") == 0) {
        sort = sort_word;
        is_conditional = is_conditional_word;
    } else if (strcmp(info->target_name, "x86_64") == 0) {
        sort = sort_x86;
        is_conditional = is_conditional_x86;
    }
    qemu_plugin_register_vcpu_init_cb(id, on_thread);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    qemu_plugin_register_atexit_cb(id, on_end, NULL);
    return 0;
}
