/* Rounding: of floats to float16 values in the case that takes the time, and of doubles by any rule. */

#define greater_ints IN(greater_ints)
#define power_below IN(power_below)
#define nearest IN(nearest)
#define round_product IN(round_product)
#define round_sum IN(round_sum)
#define add_to_odd IN(add_to_odd)
#define round_ruled IN(round_ruled)
#define fused IN(fused)
#define low IN(low)
#define high IN(high)
#define whole IN(whole)

/* The greater of floats that are not negative, as their bits: NaN above infinity. */
INLINE ints greater_ints(ints x, ints y)
{
#ifdef GREATER_INTS
    return GREATER_INTS(x, y);
#else
    ints first = x > y;
    return (first & x) | (~first & y);
#endif
}

/* 2^floor(log2 |x|), or 0. */
INLINE floats power_below(floats x) { return (floats)((ints)x & 0x7f800000); }

/* x to the nearest multiple of power * 2^-10, ties to even: |x| is below 2 power, so that power * 1.5 * 2^13
 * plus x has that multiple as its last place. A result of zero is +0. */
INLINE floats nearest(floats x, floats power)
{
#ifdef FMA
    floats scale = (floats){0} + 12288.0f;
    return FMA(-power, scale, FMA(power, scale, x)); /* power * scale is exact: as below */
#else
    floats anchor = power * 12288.0f;
    return (x + anchor) - anchor;
#endif
}

/* The product of two float16 values, which float holds exactly, to float16 where it does not overflow. */
INLINE floats round_product(floats x)
{
    ints smallest = (ints){0} + 0x38800000; /* 2^-14: subnormals have its last place */
    return nearest(x, (floats)greater_ints((ints)power_below(x), smallest));
}

/* The sum of two float16 values, rounded to float, to float16 where it does not overflow. Rounding twice is
 * rounding once, since 24 >= 2 * 11 + 2 (Figueroa 1995); a subnormal sum is exact. */
INLINE floats round_sum(floats x) { return nearest(x, power_below(x)); }

/* a + b, its last bit set where it is not exact: rounds again as the exact sum would (Boldo and Melquiond 2008). */
INLINE doubles add_to_odd(doubles a, doubles b)
{
    doubles near = a + b, back = near - a;
    doubles lost = (a - (near - back)) + (b - back); /* Knuth's TwoSum; NaN where near is not finite */
    longs inexact = (longs)(lost > 0) | (longs)(lost < 0);
    longs even = ((longs)near & 1) - 1;
    longs away = ~(((longs)lost ^ (longs)near) >> 63); /* all ones where both have one sign: |exact| > |near| */
    longs step = (away & 1) | (~away & -1);
    return (doubles)((longs)near + (step & inexact & even));
}

/* To a float16 value by any rule. */
INLINE doubles round_ruled(doubles x, struct conversion rule)
{
    longs sign = (longs)x & INT64_MIN, nan = (longs)(x != x);
    doubles size = (doubles)((longs)x & INT64_MAX);
    doubles power = (doubles)((longs)size & 0x7ff0000000000000);
    longs small = (longs)(power < 0x1p-14);
    power = (doubles)((~small & (longs)power) | (small & (longs)((doubles){0} + 0x1p-14)));
    longs infinite = (longs)(size > 1.7976931348623157e308);
    doubles anchor = power * 0x1.8p42, result = (size + anchor) - anchor;
    if (rule.toward_zero)
        result -= (doubles)((longs)(result > size) & (longs)(power * 0x1p-10));
    longs beyond = (longs)(result > 65504.0) | infinite; /* infinity less infinity was NaN */
    longs limit = (longs)((doubles){0} + (rule.saturate ? 65504.0 : (double)__builtin_inff()));
    limit = (infinite & (longs)((doubles){0} + (double)__builtin_inff())) | (~infinite & limit);
    result = (doubles)((beyond & limit) | (~beyond & (longs)result));
    if (rule.flush)
        result = (doubles)(~(longs)(result < 0x1p-14) & (longs)result);
    return (doubles)((nan & (longs)x) | (~nan & ((longs)result | sign)));
}

/* The two halves of a vector as doubles, and back. */
INLINE doubles low(floats x)
{
    halves half;
    memcpy(&half, &x, sizeof half);
    return __builtin_convertvector(half, doubles);
}

INLINE doubles high(floats x)
{
    halves half;
    memcpy(&half, (const char *)&x + sizeof half, sizeof half);
    return __builtin_convertvector(half, doubles);
}

INLINE floats whole(doubles first, doubles second)
{
    halves half[2] = {__builtin_convertvector(first, halves), __builtin_convertvector(second, halves)};
    floats both;
    memcpy(&both, half, sizeof both);
    return both;
}

/* x * y + z, rounded once; double holds the product. */
INLINE floats fused(floats x, floats y, floats z)
{
#ifdef FMA
    return FMA(x, y, z);
#else
    return whole(add_to_odd(low(z), low(x) * low(y)), add_to_odd(high(z), high(x) * high(y)));
#endif
}
