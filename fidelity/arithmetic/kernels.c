/* Partial sums of a matrix product in float16: every product rounded, every sum rounded, to the
 * nearest, ties to even, overflow to infinity, subnormals kept.
 *
 * All numbers are floats that hold float16 values. A product of two has 22 bits, which float holds;
 * a sum of two rounds to float and then to float16 as it would at once, since 24 >= 2 * 11 + 2
 * (Figueroa 1995). Contraction into fused multiply-adds would break this: build with
 * -ffp-contract=off. */

#include <stdint.h>
#include <string.h>

enum { COLUMNS = 32 }; /* of b at a time; p->columns is a multiple */

struct product {
    const float *a;       /* [rows, terms] */
    const float *b;       /* [terms, columns] */
    float *sums;          /* [parts, rows, columns] */
    const int32_t *term;  /* [terms]: the terms in the order of their parts */
    const int32_t *start; /* [parts + 1]: where each part's terms begin in `term` */
    int64_t rows, terms, columns, parts;
};

typedef float floats __attribute__((vector_size(32)));
typedef int32_t ints __attribute__((vector_size(32)));

static inline floats load_floats(const float *from)
{
    floats value;
    memcpy(&value, from, sizeof value);
    return value;
}

/* Without float16 instructions: the bits for normal results, an addition to 1/2 (whose last place
 * is float16's smallest subnormal, 2^-24) for subnormal ones. */
static inline floats round_portably(floats x)
{
    ints bits = (ints)x, sign = bits & INT32_MIN, size = bits & INT32_MAX;
    ints normal = (size + 0xfff + ((size >> 13) & 1)) & ~0x1fff;
    ints subnormal = (ints)(((floats)size + 0.5f) - 0.5f);
    ints infinity = normal * 0 + 0x7f800000;
    ints over = normal >= 0x47800000; /* 65536 */
    ints small = size < 0x38800000;   /* 2^-14 */
    ints nan = size > 0x7f800000;
    ints result = (over & infinity) | (~over & normal);
    result = (small & subnormal) | (~small & result);
    result = (nan & size) | (~nan & result);
    return (floats)(result | sign);
}

#define NAME portable
#define VEC floats
#define WIDTH 8
#define ROWS 2
#define LOAD load_floats
#define STORE(to, x) memcpy(to, &(x), sizeof(floats))
#define SPREAD(x) ((floats){x, x, x, x, x, x, x, x})
#define ZERO ((floats){0})
#define MUL(x, y) ((x) * (y))
#define ADD(x, y) ((x) + (y))
#define ROUND round_portably
#include "kernel_body.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define NEAREST (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

#pragma GCC push_options
#pragma GCC target("avx2,f16c")
#define NAME f16c
#define VEC __m256
#define WIDTH 8
#define ROWS 2
#define LOAD _mm256_loadu_ps
#define STORE _mm256_storeu_ps
#define SPREAD _mm256_set1_ps
#define ZERO _mm256_setzero_ps()
#define MUL _mm256_mul_ps
#define ADD _mm256_add_ps
#define ROUND(x) _mm256_cvtph_ps(_mm256_cvtps_ph(x, NEAREST))
#include "kernel_body.h"
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f")
#define NAME avx512f
#define VEC __m512
#define WIDTH 16
#define ROWS 4
#define LOAD _mm512_loadu_ps
#define STORE _mm512_storeu_ps
#define SPREAD _mm512_set1_ps
#define ZERO _mm512_setzero_ps()
#define MUL _mm512_mul_ps
#define ADD _mm512_add_ps
#define ROUND(x) _mm512_cvtph_ps(_mm512_cvtps_ph(x, NEAREST))
#include "kernel_body.h"
#pragma GCC pop_options
#endif

/* 0 portable, 1 f16c, 2 avx512f: the best that this CPU has. */
int fidelity_best_path(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c"))
        return 1;
#endif
    return 0;
}

/* Rows first_row to last_row of the partial sums; 0, or -1 for a path that this CPU lacks. */
int fidelity_partial_sums(const struct product *p, int64_t first_row, int64_t last_row, int path)
{
    if (path < 0 || path > fidelity_best_path())
        return -1;
#if defined(__x86_64__)
    if (path == 2)
        avx512f(p, first_row, last_row);
    if (path == 1)
        f16c(p, first_row, last_row);
#endif
    if (path == 0)
        portable(p, first_row, last_row);
    return 0;
}
