/* Whole arrays: rounded to float16 values, widened from float16, checked, and packed for the products. */

static void IN(round)(const float *x, float *to, int64_t count, struct conversion rule)
{
    int64_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) {
        floats value = round_floats(load(x + i), rule);
        memcpy(to + i, &value, sizeof value);
    }
    if (i < count) {
        floats value = {0};
        memcpy(&value, x + i, sizeof(float) * (size_t)(count - i));
        value = round_floats(value, rule);
        memcpy(to + i, &value, sizeof(float) * (size_t)(count - i));
    }
}

/* A plain loop, which the compiler turns into the instruction set's own. No float is subnormal on the way: other
 * libraries may have told the processor to flush those. */
static void IN(widen)(const uint16_t *x, float *to, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        int32_t size = x[i] & 0x7fff, sign = (int32_t)((uint32_t)(x[i] & 0x8000) << 16), small;
        float value = (float)size * 0x1p-24f;
        memcpy(&small, &value, sizeof small);
        int32_t large = (size << 13) + (size < 0x7c00 ? 112 << 23 : 224 << 23); /* infinity and NaN go furthest */
        int32_t bits = (size < 0x400 ? small : large) | sign;
        memcpy(to + i, &bits, sizeof bits);
    }
}

/* At most 11 significant bits, none below 2^-24, none from 65536 on. */
static int IN(holds_float16)(const float *x, int64_t count)
{
    enum { AT_ONCE = 4096 };
    for (int64_t first = 0; first < count; first += AT_ONCE) {
        int64_t last = count - first < AT_ONCE ? count : first + AT_ONCE;
        int32_t wrong = 0;
        for (int64_t i = first; i < last; i++) {
            int32_t bits;
            memcpy(&bits, x + i, sizeof bits);
            int32_t size = bits & INT32_MAX, is_small = size < 0x38800000;
            float small = is_small ? x[i] : 0;
            int32_t inexact = is_small ? (small + 0.75f) - 0.75f != small : (size & 0x1fff) != 0;
            wrong |= (inexact | ((size >= 0x47800000) & (size != 0x7f800000))) & (size <= 0x7f800000);
        }
        if (wrong)
            return 0;
    }
    return 1;
}

static void IN(pack)(const struct packing *p, int64_t unit)
{
    int64_t blocks = blocks_of(p->columns), item = unit / blocks, column = unit % blocks * COLUMNS;
    int64_t here = p->columns - column < COLUMNS ? p->columns - column : COLUMNS;
    const float *from = p->from + item * p->steps[0] + column * p->steps[1];
    float *to = p->to + unit * p->terms * COLUMNS;
    for (int64_t term = 0; term < p->terms; term++, to += COLUMNS) {
        float values[COLUMNS] = {0};
        for (int64_t c = 0; c < here; c++)
            values[c] = from[c * p->steps[1] + term * p->steps[2]];
        ints most = {0};
        for (int64_t c = 0; c < COLUMNS; c += WIDTH)
            most = greater_ints(most, (ints)load(values + c) & INT32_MAX);
        int32_t each[WIDTH], all = 0;
        memcpy(each, &most, sizeof each);
        for (int64_t i = 0; i < WIDTH; i++)
            all = each[i] > all ? each[i] : all;
        memcpy(p->greatest + unit * p->terms + term, &all, sizeof all);
        memcpy(to, values, sizeof values);
    }
}
