/* Sums of products, ROWS rows by COLUMNS columns at a time: summation.partial_products, bit for bit. */

#define ROWS (WIDTH / 4) /* with COLUMNS / WIDTH vectors of sums a row, eight vectors: the registers there are */
#define VECTORS (COLUMNS / WIDTH)

#define half_tile IN(half_tile)
#define step IN(step)
#define float_tile IN(float_tile)
#define once_tile IN(once_tile)
#define step_once IN(step_once)
#define most_of IN(most_of)
#define store IN(store)
#define overflow_of IN(overflow_of)

/* Largest of the floats whose magnitudes are the bits of x: NaN above infinity. */
INLINE int32_t most_of(ints x)
{
    int32_t each[WIDTH], most = 0;
    memcpy(each, &x, sizeof each);
    for (int64_t i = 0; i < WIDTH; i++)
        most = each[i] > most ? each[i] : most;
    return most;
}

INLINE void store(const struct product *p, struct tile t, int64_t part, int64_t r, const float *line)
{
    int64_t column = t.block * COLUMNS, here = p->columns - column < COLUMNS ? p->columns - column : COLUMNS;
    int64_t row = (part * p->items + t.item) * p->rows + t.row + r;
    memcpy(p->sums + row * p->columns + column, line, sizeof(float) * (size_t)here);
}

INLINE floats step(floats sum, floats a, floats b, const enum arithmetic kind, struct conversion rule)
{
    if (kind == HALF)
        return round_sum(sum + round_product(a * b));
    if (kind == RULED)
        return round_floats(add_to_odd(sum, round_floats(a * b, rule)), rule);
    return kind == SINGLE ? sum + a * b : fused(a, b, sum);
}

/* `kind` and `watch` are constants where this is used. Watched, the largest magnitudes go to `most`, as bits. */
INLINE void float_tile(const struct product *p, struct tile t, const enum arithmetic kind, const int watch,
                       int32_t *most)
{
    const float *a[ROWS], *b = p->b + (t.item * blocks_of(p->columns) + t.block) * p->terms * COLUMNS;
    for (int64_t r = 0; r < ROWS; r++)
        a[r] = p->a + (t.item * p->rows + t.row + (r < t.rows ? r : 0)) * p->terms;
    ints peak[ROWS] = {{0}};
    for (int64_t part = 0; part < p->parts; part++) {
        floats sum[ROWS][VECTORS];
        for (int64_t r = 0; r < ROWS; r++)
            for (int64_t v = 0; v < VECTORS; v++)
                sum[r][v] = part || !p->begin ? (floats){0} : load(p->begin + t.block * COLUMNS + v * WIDTH);
        for (int64_t i = p->start[part]; i < p->start[part + 1]; i++) {
            const float *line = b + (int64_t)p->term[i] * COLUMNS;
            for (int64_t r = 0; r < ROWS; r++) {
                floats factor = a[r][p->term[i]] - (floats){0};
                for (int64_t v = 0; v < VECTORS; v++) {
                    sum[r][v] = step(sum[r][v], factor, load(line + v * WIDTH), kind, p->conversion);
                    if (watch)
                        peak[r] = greater_ints(peak[r], (ints)sum[r][v] & INT32_MAX);
                }
            }
        }
        for (int64_t r = 0; r < t.rows; r++) {
            float line[COLUMNS];
            memcpy(line, sum[r], sizeof line);
            store(p, t, part, r, line);
        }
    }
    for (int64_t r = 0; watch && r < ROWS; r++)
        most[r] = most_of(peak[r]);
}

/* Product and sum rounded once, by any rule: in doubles. */
INLINE doubles step_once(doubles sum, double a, doubles b, struct conversion rule)
{
    return round_doubles(add_doubles_to_odd(sum, b * a), rule); /* b * a is exact: 48 bits at most */
}

static void once_tile(const struct product *p, struct tile t, int32_t *most)
{
    const float *b = p->b + (t.item * blocks_of(p->columns) + t.block) * p->terms * COLUMNS;
    for (int64_t r = 0; r < t.rows; r++) {
        const float *a = p->a + (t.item * p->rows + t.row + r) * p->terms;
        ints peak = {0};
        for (int64_t part = 0; part < p->parts; part++) {
            float line[COLUMNS];
            for (int64_t v = 0; v < VECTORS; v++) {
                floats begin = part || !p->begin ? (floats){0} : load(p->begin + t.block * COLUMNS + v * WIDTH);
                doubles first = low(begin), second = high(begin);
                for (int64_t i = p->start[part]; i < p->start[part + 1]; i++) {
                    floats factors = load(b + (int64_t)p->term[i] * COLUMNS + v * WIDTH);
                    first = step_once(first, a[p->term[i]], low(factors), p->conversion);
                    second = step_once(second, a[p->term[i]], high(factors), p->conversion);
                    peak = greater_ints(peak, (ints)whole(first, second) & INT32_MAX);
                }
                floats sum = whole(first, second);
                memcpy(line + v * WIDTH, &sum, sizeof sum);
            }
            store(p, t, part, r, line);
        }
        most[r] = most_of(peak);
    }
}

static enum overflow overflow_of(const struct product *p, struct tile t)
{
    const float *greatest = p->greatest + (t.item * blocks_of(p->columns) + t.block) * p->terms;
    enum overflow worst = NEVER;
    for (int64_t r = 0; r < t.rows; r++) {
        const float *a = p->a + (t.item * p->rows + t.row + r) * p->terms;
        floats sums = {0};
        int64_t k = 0;
        for (; k + WIDTH <= p->terms; k += WIDTH)
            sums += (floats)((ints)load(a + k) & INT32_MAX) * load(greatest + k);
        float each[WIDTH], bound = 0, product = 0;
        memcpy(each, &sums, sizeof each);
        for (int64_t i = 0; i < WIDTH; i++)
            bound += each[i];
        for (; k < p->terms; k++)
            bound += __builtin_fabsf(a[k]) * greatest[k];
        if (bound < p->harmless)
            continue;
        for (k = 0; k < p->terms; k++) {
            float size = __builtin_fabsf(a[k]) * greatest[k];
            product = size > product ? size : product;
        }
        worst = bound <= __FLT_MAX__ && product <= 65504.0f && worst < ANYWHERE ? IN_A_SUM : ANYWHERE;
    }
    return worst;
}

static void half_tile(const struct product *p, struct tile t, int32_t *most)
{
    enum overflow possible = overflow_of(p, t);
    if (possible == NEVER && !p->peaks) {
        float_tile(p, t, HALF, 0, most);
        return;
    }
    int32_t worst = 0;
    if (possible != ANYWHERE)
        float_tile(p, t, HALF, 1, most);
    for (int64_t r = 0; possible == IN_A_SUM && r < t.rows; r++)
        worst = most[r] > worst ? most[r] : worst;
    if (possible == ANYWHERE || worst >= 0x47800000) /* 65536 */
        float_tile(p, t, RULED, 1, most);
}

static void IN(multiply)(const struct product *p, int64_t unit)
{
    int64_t chunks = chunks_of(p->rows), blocks = blocks_of(p->columns);
    int64_t chunk = unit % chunks, block = unit / chunks % blocks, item = unit / chunks / blocks;
    int64_t end = p->rows - chunk * ROWS_AT_ONCE < ROWS_AT_ONCE ? p->rows : (chunk + 1) * ROWS_AT_ONCE;
    for (int64_t row = chunk * ROWS_AT_ONCE; row < end; row += ROWS) {
        struct tile t = {item, block, row, end - row < ROWS ? end - row : ROWS};
        int32_t most[ROWS] = {0};
        if (p->arithmetic == HALF)
            half_tile(p, t, most);
        else if (p->arithmetic == RULED)
            float_tile(p, t, RULED, 1, most);
        else if (p->arithmetic == RULED_FUSED)
            once_tile(p, t, most);
        else if (p->arithmetic == SINGLE && p->peaks)
            float_tile(p, t, SINGLE, 1, most);
        else if (p->arithmetic == SINGLE)
            float_tile(p, t, SINGLE, 0, most);
        else if (p->peaks)
            float_tile(p, t, SINGLE_FUSED, 1, most);
        else
            float_tile(p, t, SINGLE_FUSED, 0, most);
        if (p->peaks)
            memcpy(p->peaks + (block * p->items + item) * p->rows + row, most, sizeof *most * (size_t)t.rows);
    }
}

#undef ROWS
#undef VECTORS
#undef half_tile
#undef step
#undef float_tile
#undef once_tile
#undef step_once
#undef most_of
#undef store
#undef overflow_of
