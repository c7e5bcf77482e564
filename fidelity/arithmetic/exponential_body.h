/* 2^x as Mesa's gallivm computes it, and the softmax statistics that are made of it: special.exp2_gallivm and
 * kernels.softmax.running_statistics, bit for bit. */

#define exponential IN(exponential)
#define power_of_e IN(power_of_e)
#define greater IN(greater)

INLINE floats exponential(floats x)
{
    ints nan = (ints)(x != x), below = (ints)(x < -126.99999f), above = (ints)(x > 128.0f);
    x = (floats)((below & (ints)((floats){0} - 126.99999f)) | (~below & (ints)x));
    x = (floats)((above & (ints)((floats){0} + 128.0f)) | (~above & (ints)x));
    ints number = __builtin_convertvector((floats)(~nan & (ints)x), ints); /* toward zero; of NaN undefined */
    number += (ints)(__builtin_convertvector(number, floats) > x);         /* true is -1: floor */
    floats part = x - __builtin_convertvector(number, floats), square = part * part;
    floats even = fused(square, fused(square, (floats){0} + 0.00898934009049466391101f,
                                      (floats){0} + 0.240153617044375388211f), (floats){0} + 1.0f);
    floats odd = fused(square, fused(square, (floats){0} + 0.00187757667519147912699f,
                                     (floats){0} + 0.0558263180532956664775f),
                       (floats){0} + 0.693153073200168932794f);
    ints first = number >> 1, second = number - first; /* in two steps, since 2^128 and 2^-127 are no normal floats */
    return fused(odd, part, even) * (floats)((first + 127) << 23) * (floats)((second + 127) << 23);
}

static void IN(exp2_gallivm)(const float *x, float *to, int64_t count)
{
    for (int64_t i = 0; i < count; i += WIDTH) {
        size_t here = sizeof(float) * (size_t)(count - i < WIDTH ? count - i : WIDTH);
        floats value = {0};
        memcpy(&value, x + i, here);
        value = exponential(value);
        memcpy(to + i, &value, here);
    }
}

INLINE floats power_of_e(floats x) { return exponential(x * 1.442695040888963f); }

/* NaN where either is. */
INLINE floats greater(floats x, floats y)
{
    ints first = (ints)(x > y) | (ints)(x != x);
    return (floats)((first & (ints)x) | (~first & (ints)y));
}

static void IN(softmax_statistics)(const struct statistics *s, int64_t unit)
{
    const int64_t terms = s->terms, lanes = s->lanes;
    for (int64_t column = 0; column < COLUMNS; column += WIDTH) {
        const float *x = s->x + unit * terms * COLUMNS + column;
        floats most = load(x), sum = {0};
        for (int64_t term = 0; term < terms; term += lanes) {
            int64_t end = term + lanes < terms ? term + lanes : terms;
            floats moved = most, here = {0};
            for (int64_t k = term; k < end; k++)
                moved = greater(moved, load(x + k * COLUMNS));
            for (int64_t k = term; k < end; k++) {
                floats value = load(x + k * COLUMNS);
                ints nothing = (ints)(value == -__builtin_inff());
                floats power = (floats)(~nothing & (ints)power_of_e(value - moved));
                here = k == term ? power : here + power;
            }
            sum = sum * power_of_e(most - moved) + here;
            most = moved;
        }
        memcpy(s->greatest + unit * COLUMNS + column, &most, sizeof most);
        memcpy(s->sums + unit * COLUMNS + column, &sum, sizeof sum);
    }
}

#undef exponential
#undef power_of_e
#undef greater
