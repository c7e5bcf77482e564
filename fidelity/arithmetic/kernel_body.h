/* The loop of one instruction set. Before including, define NAME, VEC, ROWS, LOAD, STORE, SPREAD,
 * ZERO, MUL, ADD and ROUND (a VEC rounded to float16 values), and WIDTH, the floats of a VEC. */

static void NAME(const struct product *p, long first_row, long last_row)
{
    enum { VECS = COLUMNS / WIDTH };
    for (long column = 0; column < p->columns; column += COLUMNS) {
        for (long row = first_row; row < last_row; row += ROWS) {
            long here = last_row - row < ROWS ? last_row - row : ROWS;
            const float *a[ROWS];
            for (long r = 0; r < ROWS; r++)
                a[r] = p->a + (row + (r < here ? r : 0)) * p->terms;
            for (long part = 0; part < p->parts; part++) {
                VEC sum[ROWS][VECS];
                for (long r = 0; r < ROWS; r++)
                    for (long v = 0; v < VECS; v++)
                        sum[r][v] = ZERO;
                for (long i = p->start[part]; i < p->start[part + 1]; i++) {
                    long term = p->term[i];
                    const float *b = p->b + term * p->columns + column;
                    for (long r = 0; r < ROWS; r++) {
                        VEC factor = SPREAD(a[r][term]);
                        for (long v = 0; v < VECS; v++)
                            sum[r][v] = ROUND(ADD(sum[r][v], ROUND(MUL(factor, LOAD(b + v * WIDTH)))));
                    }
                }
                for (long r = 0; r < here; r++)
                    for (long v = 0; v < VECS; v++)
                        STORE(p->sums + (part * p->rows + row + r) * p->columns + column + v * WIDTH, sum[r][v]);
            }
        }
    }
}

#undef NAME
#undef VEC
#undef ROWS
#undef WIDTH
#undef LOAD
#undef STORE
#undef SPREAD
#undef ZERO
#undef MUL
#undef ADD
#undef ROUND
