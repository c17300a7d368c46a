/*
 * How often a processor would have guessed a conditional branch wrong.
 *
 *     forget();
 *     for (…) wrong += guessed_wrong(branch, taken);
 *
 * A wrong guess costs some twenty instructions' time, and none of them is counted: where branches depend on data, as in
 * the maximum of a window of bytes, they can be most of the time. No processor publishes how it guesses. This one does
 * what all do at least: it knows a loop that ends after as many rounds as the last times, else it goes by what followed
 * the same turns before, else by what the branch did most. A branch it never met is taken to be guessed right.
 *
 * It forgets at every mark, so that what is counted behind one does not depend on what ran before.
 */
#ifndef EDGEWRIGHT_PREDICTOR_H
#define EDGEWRIGHT_PREDICTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ENTRIES_BITS 16 /* of either table: far more branches than a model's code has */
#define TURNS 0xffffu   /* the last sixteen */
#define SURE 2          /* as many runs of equal length in a row make a loop */

struct behaviour {
    uint64_t branch;
    uint32_t run, before[2]; /* how often it has now gone the same way; how often it did last, by way */
    uint8_t alike[2], way;   /* runs of equal length in a row, by way; where it goes now */
    uint8_t mostly;          /* 0, 1: not taken; 2, 3: taken */
};

static struct behaviour behaviours[1u << ENTRIES_BITS];
static uint8_t after_turns[1u << ENTRIES_BITS]; /* 0: never; 1, 2: not taken; 3, 4: taken */
static uint64_t turns;

static inline void forget(void)
{
    memset(behaviours, 0, sizeof behaviours);
    memset(after_turns, 0, sizeof after_turns);
    turns = 0;
}

static inline bool guess(const struct behaviour *known, uint8_t after)
{
    if (known->alike[known->way] >= SURE && known->run <= known->before[known->way])
        return known->run < known->before[known->way] ? known->way : !known->way;
    return after != 0 ? after >= 3 : known->mostly >= 2;
}

static inline void learn(struct behaviour *known, uint8_t *after, bool taken)
{
    if (*after == 0)
        *after = taken ? 3 : 2;
    else if (taken ? *after < 4 : *after > 1)
        *after += taken ? 1 : -1;
    if (taken ? known->mostly < 3 : known->mostly > 0)
        known->mostly += taken ? 1 : -1;
    if (taken == known->way) {
        known->run++;
        return;
    }
    if (known->run != known->before[known->way])
        known->alike[known->way] = 0;
    else if (known->alike[known->way] < SURE)
        known->alike[known->way]++;
    known->before[known->way] = known->run;
    known->way = taken;
    known->run = 1;
}

/* Takes note of where a branch went; returns whether that was not guessed. `branch`: any address that is its own. */
static inline bool guessed_wrong(uint64_t branch, bool taken)
{
    uint64_t spread = branch * 0x9e3779b97f4a7c15u; /* 2^64 over the golden ratio: close addresses far apart */
    struct behaviour *known = &behaviours[spread >> (64 - ENTRIES_BITS)];
    uint8_t *after = &after_turns[(spread >> 20 ^ (turns & TURNS) * 40503u) & ((1u << ENTRIES_BITS) - 1)];
    if (known->branch != branch)
        *known = (struct behaviour){.branch = branch, .mostly = taken ? 2 : 1};
    bool wrong = guess(known, *after) != taken;
    learn(known, after, taken);
    turns = turns << 1 | taken;
    return wrong;
}

#endif
