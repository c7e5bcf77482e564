/* One instruction set: its vectors, its functions, and the table of them. Before including, define PATH, its
 * name; WIDTH, the floats of a vector; and, where there are instructions for them, FMA(x, y, z) and
 * GREATER_INTS(x, y). */

#define floats IN(floats)
#define ints IN(ints)
#define doubles IN(doubles)
#define longs IN(longs)
#define halves IN(halves)
typedef float floats __attribute__((vector_size(4 * WIDTH)));
typedef int32_t ints __attribute__((vector_size(4 * WIDTH)));
typedef double doubles __attribute__((vector_size(4 * WIDTH)));
typedef int64_t longs __attribute__((vector_size(4 * WIDTH)));
typedef float halves __attribute__((vector_size(2 * WIDTH))); /* as many floats as a vector has doubles */

#define load IN(load)
INLINE floats load(const float *from)
{
    floats value;
    memcpy(&value, from, sizeof value);
    return value;
}

#include "rounding_body.h"
#include "exponential_body.h"
#include "arrays_body.h"
#include "products_body.h"

static const struct path IN(path) = {
    IN(multiply), IN(pack), IN(round), IN(widen), IN(holds_float16), IN(exp2_gallivm), IN(softmax_statistics),
};

#undef PATH
#undef WIDTH
#undef FMA
#undef GREATER_INTS
#undef floats
#undef ints
#undef doubles
#undef longs
#undef halves
#undef load
