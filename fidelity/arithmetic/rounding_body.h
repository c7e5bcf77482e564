/* Rounding to float16 values: of floats in the case that takes the time, and of floats and doubles by any rule. */

#define greater_ints IN(greater_ints)
#define power_below IN(power_below)
#define nearest IN(nearest)
#define round_product IN(round_product)
#define round_sum IN(round_sum)
#define add_to_odd IN(add_to_odd)
#define add_doubles_to_odd IN(add_doubles_to_odd)
#define round_floats IN(round_floats)
#define round_doubles IN(round_doubles)
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

/* a + b, its last bit set where it is not exact: rounds again as the exact sum would, by any rule, to any format
 * that is two bits shorter (Boldo and Melquiond 2008). */
INLINE floats add_to_odd(floats a, floats b)
{
    floats near = a + b, back = near - a;
    floats lost = (a - (near - back)) + (b - back); /* Knuth's TwoSum; NaN where near is not finite */
    ints inexact = (ints)(lost > 0) | (ints)(lost < 0);
    ints even = ((ints)near & 1) - 1;
    ints above = ((ints)lost ^ (ints)near) >> 31; /* all ones where the exact sum is nearer to zero */
    return (floats)((ints)near + ((above | 1) & inexact & even));
}

INLINE doubles add_doubles_to_odd(doubles a, doubles b)
{
    doubles near = a + b, back = near - a;
    doubles lost = (a - (near - back)) + (b - back);
    longs inexact = (longs)(lost > 0) | (longs)(lost < 0);
    longs even = ((longs)near & 1) - 1;
    longs above = ((longs)lost ^ (longs)near) >> 63;
    return (doubles)((longs)near + ((above | 1) & inexact & even));
}

/* Any floats to float16 values by any rule, NaN kept. */
INLINE floats round_floats(floats x, struct conversion rule)
{
    ints sign = (ints)x & INT32_MIN, size = (ints)x & INT32_MAX;
    ints infinite = size == 0x7f800000, nan = size > 0x7f800000, wide = size > 0x48000000;
    floats bounded = (floats)((wide & 0x48000000) | (~wide & size)); /* 2^17 is as far beyond as any number */
    floats power = (floats)greater_ints((ints)power_below(bounded), (ints){0} + 0x38800000);
    floats result = nearest(bounded, power);
    if (rule.toward_zero)
        result -= (floats)((ints)(result > bounded) & (ints)(power * 0x1p-10f));
    ints beyond = (ints)(result > 65504.0f);
    ints limit = infinite | ((ints){0} - !rule.saturate);
    limit = (limit & 0x7f800000) | (~limit & 0x477fe000); /* 65504 */
    ints bits = (beyond & limit) | (~beyond & (ints)result);
    if (rule.flush)
        bits &= ~(bits < 0x38800000);
    return (floats)((nan & (ints)x) | (~nan & (bits | sign)));
}

/* The same of doubles. */
INLINE doubles round_doubles(doubles x, struct conversion rule)
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
    return whole(add_doubles_to_odd(low(z), low(x) * low(y)), add_doubles_to_odd(high(z), high(x) * high(y)));
#endif
}
