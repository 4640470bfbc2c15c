/* One point at a time: the end of a sum, and what is made once. */
#include "crypto/ed25519_field_portable.h"

#include "crypto/ed25519_decode_impl.h"

/* y of the base point; its x is even. */
static const uint8_t base_encoding[32] = {0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
                                          0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
                                          0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66};

static void point_get(struct point *p, const struct ed25519_point *from)
{
    fe_set(&p->ymx, from->ymx);
    fe_set(&p->ypx, from->ypx);
    fe_set(&p->z, from->z);
    fe_set(&p->t, from->t);
}

static void point_put(struct ed25519_point *to, const struct point *p)
{
    memcpy(to->ymx, p->ymx.v, sizeof to->ymx);
    memcpy(to->ypx, p->ypx.v, sizeof to->ypx);
    memcpy(to->z, p->z.v, sizeof to->z);
    memcpy(to->t, p->t.v, sizeof to->t);
}

static void scalar_add_bit(struct ed25519_scalar *s, uint32_t bit)
{
    struct ed25519_scalar power = {{0}};
    power.w[bit / 64] = UINT64_C(1) << (bit % 64);
    scalar_add_words(s, &power);
}

/* The number of windows that was the fastest for a sum of `terms` signatures, measured on Zen 4. */
static uint32_t windows_for(uint32_t terms, bool split)
{
    static const struct {
        uint32_t terms_min, windows;
    } table[2][6] = {{{6000, 24}, {1500, 28}, {700, 32}, {200, 36}, {90, 40}, {0, 48}},
                     {{2300, 12}, {700, 15}, {190, 16}, {95, 20}, {0, 24}}};
    int i = 0;
    while (terms < table[split][i].terms_min)
        i++;
    return table[split][i].windows;
}

/* A number x with bias added is cut into plain digits of `width` bits; less half of 2^width each they are signed digits
 * of x. Long: x + bias mod L is below 2^252 + 2^125, so only the last digit can be 2^width, a signed half, which is
 * still a bucket. Short: |x| <= 2^127, the windows have at least 128 bits: the same. */
void ch_ed25519_windows_choose(uint32_t terms, bool split, struct ed25519_windows *windows)
{
    *windows = (struct ed25519_windows){.count = windows_for(terms, split)};
    uint32_t offset = 0, bits = split ? 128 : 252;
    for (uint32_t i = 0; i < windows->count; i++) {
        uint32_t width = bits / windows->count + (i < bits % windows->count);
        windows->width[i] = (uint8_t)width;
        windows->offset[i] = (uint8_t)offset;
        scalar_add_bit(&windows->bias, offset + width - 1);
        if (offset < 128) {
            scalar_add_bit(&windows->short_bias, offset + width - 1);
            windows->short_count = i + 1;
        }
        offset += width;
    }
}

static void point_double_times(struct point *p, int times)
{
    struct open_point open;
    open_point_from(&open, p);
    open_point_double_times(&open, times);
    open_point_close(p, &open);
}

static void point_add_cached(struct point *p, const struct cached *q, mask negative)
{
    struct open_point open;
    wide c, d;
    open_point_from(&open, p);
    multiply_wide(&c, &p->t, &q->t2d);
    multiply_wide(&d, &p->z, &q->z);
    open_point_add_rest(&open, &c, &d, &q->ymx, &q->ypx, &negative, true);
    open_point_close(p, &open);
}

void ch_ed25519_horner(const struct ed25519_point *sums, const struct ed25519_windows *windows,
                       struct ed25519_point *total)
{
    struct point p, sum;
    struct cached c;
    uint32_t window = windows->count - 1;
    point_get(&p, &sums[window]);
    while (window-- > 0) {
        point_double_times(&p, windows->width[window]);
        point_get(&sum, &sums[window]);
        cached_from_point(&c, &sum);
        point_add_cached(&p, &c, 0);
    }
    point_put(total, &p);
}

void ch_ed25519_point_subtract(struct ed25519_point *r, const struct ed25519_point *a, const struct ed25519_point *b)
{
    struct point p, q;
    struct cached c;
    point_get(&p, a);
    point_get(&q, b);
    cached_from_point(&c, &q);
    point_add_cached(&p, &c, MASK_ALL);
    point_put(r, &p);
}

bool ch_ed25519_point_is_small(const struct ed25519_point *a)
{
    struct point p;
    point_get(&p, a);
    point_double_times(&p, 3);
    return point_is_identity(&p);
}

static void encode(uint8_t bytes[32], const struct point *p)
{
    fe x, y, inverse;
    wide wx, wy, w;
    /* Z^(p-2) = (Z^((p-5)/8))^8 Z^3 */
    power_p58(&inverse, &p->z);
    square_times(&inverse, &inverse, 3);
    fe_multiply(&inverse, &inverse, &p->z);
    fe_multiply(&inverse, &inverse, &p->z);
    fe_multiply(&inverse, &inverse, &p->z);
    /* Y+X and Y-X are 2y and 2x away; 2X/2Z by halving both: (Y+X) + (Y-X) = 2Y */
    static const uint64_t limbs_half[5] = {LIMB_MASK - 8, LIMB_MASK, LIMB_MASK, LIMB_MASK, LIMB_MASK >> 1};
    fe half;
    fe_set(&half, limbs_half);
    fe_multiply(&inverse, &inverse, &half);
    wide_from(&wx, &p->ypx);
    wide_from(&wy, &p->ymx);
    wide_add(&w, &wx, &wy);
    carry(&y, &w);
    wide_subtract(&w, &wx, &wy);
    carry(&x, &w);
    fe_multiply(&x, &x, &inverse);
    fe_multiply(&y, &y, &inverse);
    fe_freeze(&x);
    fe_freeze(&y);
    uint64_t words[4] = {y.v[0] | y.v[1] << 51, y.v[1] >> 13 | y.v[2] << 38, y.v[2] >> 26 | y.v[3] << 25,
                         y.v[3] >> 39 | y.v[4] << 12 | (uint64_t)fe_is_odd(&x) << 63};
    memcpy(bytes, words, 32);
}

void ch_ed25519_encode_base_multiples(uint8_t encodings[2 * ED25519_BASE_MULTIPLES][32])
{
    const uint8_t *base[LANES] = {base_encoding};
    struct niels n;
    struct point step;
    struct cached c;
    niels_decode(&n, base);
    point_from_niels(&step, &n, 0);
    for (int table = 0; table < 2; table++) {
        struct point p;
        point_set_identity(&p);
        cached_from_point(&c, &step);
        for (int i = 0; i < ED25519_BASE_MULTIPLES; i++) {
            encode(encodings[table * ED25519_BASE_MULTIPLES + i], &p);
            point_add_cached(&p, &c, 0);
        }
        point_double_times(&step, 128);
    }
}
