/* The loops that take an emulated device's time, for every instruction set that this file is compiled for.
 *
 * Each gives the bits of a definition in NumPy: summation.partial_products, float16.to_float16,
 * special.exp2_gallivm, kernels.softmax. They are written once, in GCC's vector extension, and
 * included below once an instruction set: kernel_body.h and what it includes. Products and sums
 * must round where they are written: build with -ffp-contract=off, and never with -ffast-math. */

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define JOIN(a, b) a##_##b
#define JOINED(a, b) JOIN(a, b)
#define IN(name) JOINED(name, PATH) /* the name in the instruction set that is being compiled */

enum { COLUMNS = 32 };      /* of a block */
enum { ROWS_AT_ONCE = 64 }; /* of a unit of work */

/* How a number becomes a float16: float16.Conversion as C has it. */
struct conversion {
    int32_t toward_zero, saturate, flush;
};

/* How a product is summed. HALF is RULED, unfused, by the rule of IEEE 754, where no NaN or infinity
 * can come up and no start is -0: the case that takes the time. */
enum arithmetic { HALF, SINGLE, SINGLE_FUSED, RULED, RULED_FUSED };

/* a [items, rows, terms] times b, which is packed: [items, blocks, terms, COLUMNS], zeros after the last
 * column. Sums go to sums [parts, items, rows, columns]. */
struct product {
    const float *a, *b;
    const float *greatest; /* [items, blocks, terms]: largest magnitude of b's COLUMNS, NaN above infinity */
    const float *begin;    /* [blocks, COLUMNS]: what the first part starts from, or NULL for zeros */
    float *sums;
    float *peaks;         /* [blocks, items, rows]: largest magnitude that a running sum reached, or NULL */
    const int32_t *term;  /* [terms]: the terms in the order of their parts */
    const int32_t *start; /* [parts + 1]: where each part's terms begin in `term` */
    int64_t items, rows, terms, columns, parts;
    float harmless; /* below this sum of magnitudes no float16 sum overflows */
    int32_t arithmetic;
    struct conversion conversion;
};

/* Rows `row` to `row + rows` of an item, by one block of columns. */
struct tile {
    int64_t item, block, row, rows;
};

/* Can a float16 sum of this tile overflow? Sums of magnitudes are a bound, whatever the signs and the order. */
enum overflow { NEVER, IN_A_SUM, ANYWHERE };

/* Numbers laid out for the kernels: `to` [items, blocks, terms, COLUMNS] from numbers that lie `steps` apart
 * by item, column and term. */
struct packing {
    const float *from;
    float *to, *greatest;
    int64_t items, columns, terms;
    int64_t steps[3];
};

/* Of a softmax over the rows of x, which is packed, rows as columns: greatest and sums [blocks, COLUMNS]. */
struct statistics {
    const float *x;
    float *greatest, *sums;
    int64_t blocks, terms, lanes;
};

/* The functions of one instruction set. */
struct path {
    void (*multiply)(const struct product *p, int64_t unit);
    void (*pack)(const struct packing *p, int64_t unit);
    void (*round)(const float *x, float *to, int64_t count, struct conversion rule);
    void (*widen)(const uint16_t *x, float *to, int64_t count);
    int (*holds_float16)(const float *x, int64_t count);
    void (*exp2_gallivm)(const float *x, float *to, int64_t count);
    void (*softmax_statistics)(const struct statistics *s, int64_t unit);
};

static inline int64_t blocks_of(int64_t columns) { return (columns + COLUMNS - 1) / COLUMNS; }
static inline int64_t chunks_of(int64_t rows) { return (rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE; }

#define PATH portable
#define WIDTH 4
#include "kernel_body.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define SEVERAL_PATHS
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define PATH avx2
#define WIDTH 8
#define FMA(x, y, z) ((floats)_mm256_fmadd_ps((__m256)(x), (__m256)(y), (__m256)(z)))
#define GREATER_INTS(x, y) ((ints)_mm256_max_epi32((__m256i)(x), (__m256i)(y)))
#include "kernel_body.h"
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f")
#define PATH avx512f
#define WIDTH 16
#define FMA(x, y, z) ((floats)_mm512_fmadd_ps((__m512)(x), (__m512)(y), (__m512)(z)))
#define GREATER_INTS(x, y) ((ints)_mm512_max_epi32((__m512i)(x), (__m512i)(y)))
#include "kernel_body.h"
#pragma GCC pop_options
#endif

static const struct path *const PATHS[] = {
    &path_portable,
#ifdef SEVERAL_PATHS
    &path_avx2,
    &path_avx512f,
#endif
};

/* The best path that this CPU has: 0 portable, 1 avx2, 2 avx512f. */
int fidelity_best_path(void)
{
#ifdef SEVERAL_PATHS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 1;
#endif
    return 0;
}

/* Any number of threads may work on one product, or packing: each takes the next unit until none is left. */
void fidelity_multiply(const struct product *p, int64_t *next, int path)
{
    int64_t units = p->items * blocks_of(p->columns) * chunks_of(p->rows);
    for (int64_t unit; (unit = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < units;)
        PATHS[path]->multiply(p, unit);
}

void fidelity_pack(const struct packing *p, int64_t *next, int path)
{
    int64_t units = p->items * blocks_of(p->columns);
    for (int64_t unit; (unit = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < units;)
        PATHS[path]->pack(p, unit);
}

/* float32 numbers as float16 values. */
void fidelity_round(const float *x, float *to, int64_t count, struct conversion rule, int path)
{
    PATHS[path]->round(x, to, count, rule);
}

/* float16 numbers as float32. */
void fidelity_widen(const uint16_t *x, float *to, int64_t count, int path)
{
    PATHS[path]->widen(x, to, count);
}

/* Whether every number is a float16 value, an infinity or a NaN. */
int fidelity_holds_float16(const float *x, int64_t count, int path)
{
    return PATHS[path]->holds_float16(x, count);
}

void fidelity_exp2_gallivm(const float *x, float *to, int64_t count, int path)
{
    PATHS[path]->exp2_gallivm(x, to, count);
}

void fidelity_softmax_statistics(const struct statistics *s, int64_t *next, int path)
{
    for (int64_t unit; (unit = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < s->blocks;)
        PATHS[path]->softmax_statistics(s, unit);
}
