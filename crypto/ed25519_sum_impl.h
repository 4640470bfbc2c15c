/* crypto/ed25519_sum_impl.h - sum of many points times scalars, by buckets (Pippenger). Included by each kernel.
 *
 * Scalars are cut into signed digits, one a window. For GROUP windows at a time: each term's row belongs to the bucket
 * of (window, |digit|), which is a linked list. Buckets are ordered by size and taken LANES at a time, so that
 * neighbours have like lengths; each lane goes through one list, its point staying in registers. Then each lane takes
 * one window and forms the sum of digit * bucket as a sum of running sums.
 */
#ifndef CHAPPE_CRYPTO_ED25519_SUM_IMPL_H
#define CHAPPE_CRYPTO_ED25519_SUM_IMPL_H

#include "crypto/ed25519_group_impl.h"

#define GROUP ED25519_WINDOW_GROUP

#ifndef OWN_PARTS

static void horner(const struct ed25519_point *sums, const struct ed25519_windows *windows,
                   struct ed25519_point *total)
{
    ch_ed25519_horner(sums, windows, total);
}

/* |digit| times 2, plus 1 for a negative digit, in windows first..end of each scalar. The digit of window `top` - 1,
 * the last, may reach 2^width (see ed25519_windows_choose). */
static void recode(const struct ed25519_scalar *scalars, size_t count, const struct ed25519_windows *windows,
                   uint32_t first, uint32_t end, uint32_t top, uint16_t *digits, size_t stride)
{
    for (uint32_t w = first; w < end; w++) {
        uint32_t word = windows->offset[w] / 64, shift = windows->offset[w] % 64;
        uint32_t half = 1u << (windows->width[w] - 1), digit_mask = w + 1 == top ? 4 * half - 1 : 2 * half - 1;
        uint16_t *to = digits + (w - first) * stride;
        for (size_t i = 0; i < count; i++) {
            const uint64_t *s = scalars[i].w;
            uint64_t bits = s[word] >> shift;
            if (shift && word < 3)
                bits |= s[word + 1] << (64 - shift);
            int32_t digit = (int32_t)(bits & digit_mask) - (int32_t)half, sign = digit >> 31;
            to[i] = (uint16_t)(((digit ^ sign) - sign) * 2 - sign);
        }
    }
}

static void combine(const struct ed25519_coefficient *z, const struct ed25519_scalar *k, const struct ed25519_scalar *s,
                    size_t count, struct ed25519_scalar *zk, struct ed25519_scalar *zs)
{
    for (size_t i = 0; i < count; i++) {
        struct ed25519_scalar magnitude = coefficient_magnitude(&z[i]);
        zk[i] = scalar_multiply(&magnitude, &k[i]);
        zs[i] = scalar_multiply(&magnitude, &s[i]);
        if (coefficient_is_negative(&z[i])) {
            zk[i] = scalar_negate(&zk[i]);
            zs[i] = scalar_negate(&zs[i]);
        }
    }
}

#endif

/* The bucket of a magnitude in a window of the group; magnitude 0 has one too, which nobody adds up. */
static inline uint32_t bucket_of(uint32_t window, uint32_t magnitude, uint32_t magnitude_max)
{
    return window * (magnitude_max + 1) + magnitude;
}

/* A bucket is a list of rows: how many, and the link to the first of them; next[row] has the link to the one behind, of
 * each window. A link is row << 1 | sign; 0 is the end, and the identity, whose next is itself. */
static inline uint32_t size_of(uint32_t bucket)
{
    return bucket >> 16;
}

static inline uint16_t first_of(uint32_t bucket)
{
    return (uint16_t)bucket;
}

static void sort_terms(const struct ed25519_terms *terms, uint32_t windows, uint32_t short_windows,
                       uint32_t magnitude_max, struct ed25519_scratch *scratch)
{
    size_t stride = terms->long_count + terms->short_count;
    memset(scratch->buckets, 0, windows * (magnitude_max + 1) * sizeof *scratch->buckets);
    for (uint32_t w = 0; w < windows; w++) {
        size_t count = w < short_windows ? stride : terms->long_count;
        const uint16_t *digits = scratch->digits + w * stride;
        uint32_t *buckets = scratch->buckets + bucket_of(w, 0, magnitude_max);
        uint16_t *next = scratch->next + w * terms->row_end;
        next[ED25519_ROW_IDENTITY] = 0;
        for (size_t i = 0; i < count; i++) {
            uint32_t *bucket = &buckets[digits[i] >> 1], old = *bucket;
            next[terms->row[i]] = first_of(old);
            *bucket = (old & 0xffff0000) + 0x10000 + (terms->row[i] << 1 | (digits[i] & 1));
        }
    }
}

/* Buckets of one class stand together, the largest first. All of a class have one size up to SIZE_FINE, where nearly
 * all are; past it their sizes differ by less than SIZE_COARSE, which bounds what is lost on waiting for the
 * longest. */
#define SIZE_FINE    512
#define SIZE_COARSE  32
#define SIZE_CLASSES (SIZE_FINE + ED25519_ROWS_MAX / SIZE_COARSE + 1)

static inline uint32_t class_of(uint32_t size)
{
    return size < SIZE_FINE ? size : SIZE_FINE + size / SIZE_COARSE;
}

static void order_buckets(const uint32_t *buckets, uint32_t windows, uint32_t magnitude_max, uint32_t *order)
{
    uint32_t at[SIZE_CLASSES] = {0}, total = 0, class_max = 0;
    for (uint32_t w = 0, b = 0; w < windows; w++) {
        b++;
        for (uint32_t magnitude = 1; magnitude <= magnitude_max; magnitude++, b++) {
            uint32_t class = class_of(size_of(buckets[b]));
            class_max = class > class_max ? class : class_max;
            at[class]++;
        }
    }
    for (uint32_t c = class_max + 1; c > 0; c--) {
        uint32_t n = at[c - 1];
        at[c - 1] = total;
        total += n;
    }
    for (uint32_t w = 0, b = 0; w < windows; w++) {
        b++;
        for (uint32_t magnitude = 1; magnitude <= magnitude_max; magnitude++, b++)
            order[at[class_of(size_of(buckets[b]))]++] = b;
    }
}

/* LANES lists: the links at which they stand, and the windows' links. */
struct lists {
    uint16_t link[LANES];
    const uint16_t *next[LANES];
};

/* The lists of LANES buckets; the length of the longest. */
static inline uint32_t lists_begin(struct lists *l, const struct ed25519_scratch *scratch, const uint32_t *order,
                                   uint32_t magnitude_max, size_t row_end)
{
    uint32_t steps = 0;
    for (int lane = 0; lane < LANES; lane++) {
        uint32_t bucket = scratch->buckets[order[lane]];
        steps = size_of(bucket) > steps ? size_of(bucket) : steps;
        l->link[lane] = first_of(bucket);
        l->next[lane] = scratch->next + order[lane] / (magnitude_max + 1) * row_end;
    }
    return steps;
}

/* The rows and signs at which the lists stand; then they go on, and what comes next is asked for: the rows of a large
 * batch are not in the nearest cache. */
static inline mask lists_step(const uint64_t *row[LANES], struct lists *l, const struct ed25519_row *rows)
{
    mask negative = 0;
    for (int lane = 0; lane < LANES; lane++) {
        row[lane] = rows[l->link[lane] >> 1].w;
        negative |= (mask)((l->link[lane] & 1u) << lane);
        l->link[lane] = l->next[lane][l->link[lane] >> 1];
        __builtin_prefetch(rows[l->link[lane] >> 1].w);
        __builtin_prefetch(rows[l->link[lane] >> 1].w + 8);
    }
    return negative;
}

static void fill_buckets(const struct ed25519_row *rows, const struct ed25519_scratch *scratch, uint32_t bucket_count,
                         uint32_t magnitude_max, size_t row_end)
{
    for (uint32_t at = 0; at < bucket_count; at += LANES) {
        struct lists lists;
        struct point sum;
        uint32_t steps = lists_begin(&lists, scratch, scratch->order + at, magnitude_max, row_end);
        if (steps == 0) {
            point_set_identity(&sum);
        } else {
            const uint64_t *row[LANES];
            struct niels n;
            struct open_point open;
            mask negative = lists_step(row, &lists, rows);
            niels_load(&n, row);
            point_from_niels(&sum, &n, negative);
            open_point_from(&open, &sum);
            for (uint32_t step = 1; step < steps; step++) {
                negative = lists_step(row, &lists, rows);
                open_point_add_row(&open, row, negative);
            }
            open_point_close(&sum, &open);
        }
        uint64_t *sum_row[LANES];
        for (int lane = 0; lane < LANES; lane++)
            sum_row[lane] = scratch->sums[scratch->order[at + (uint32_t)lane]].w;
        store_rows(&sum.ymx, 4, sum_row);
    }
}

/* total = sum of magnitude * bucket over the LANES windows from `first` on: running sums from the top down. The running
 * sum keeps 2dT instead of T: so neither it nor the bucket needs a multiplication by 2d to be an addend. */
static void add_up_windows(const struct ed25519_sum_row *sums, uint32_t first, uint32_t magnitude_max,
                           struct point *total)
{
    struct point running;
    struct open_point open;
    fe two_d;
    fe_set(&two_d, limbs_2d);
    point_set_identity(&running);
    open_point_from(&open, &running);
    for (uint32_t magnitude = magnitude_max; magnitude > 0; magnitude--) {
        const uint64_t *row[LANES];
        struct open_point next;
        for (uint32_t lane = 0; lane < LANES; lane++)
            row[lane] = sums[bucket_of(first + lane, magnitude, magnitude_max)].w;
        open_point_from(&next, &running);
        open_point_add_cached_row(&next, row, NULL, true);
        open_point_close(&running, &next);
        fe_multiply(&running.t, &running.t, &two_d);
        open_point_add(&open, &running.ymx, &running.ypx, &running.t, &running.z);
    }
    open_point_close(total, &open);
}

static void sum_terms(const struct ed25519_row *rows, const struct ed25519_terms *terms,
                      const struct ed25519_windows *windows, struct ed25519_scratch *scratch,
                      struct ed25519_point *total)
{
    struct ed25519_point sums[ED25519_WINDOWS_MAX];
    size_t stride = terms->long_count + terms->short_count;
    for (uint32_t first = 0; first < windows->count; first += GROUP) {
        uint32_t end = first + GROUP < windows->count ? first + GROUP : windows->count;
        uint32_t short_end = end < windows->short_count ? end : windows->short_count;
        uint32_t magnitude_max = 1u << (windows->width[first] - 1); /* widths never grow */
        recode(terms->digits, terms->long_count, windows, first, end, windows->count, scratch->digits, stride);
        if (first < short_end)
            recode(terms->digits + terms->long_count, terms->short_count, windows, first, short_end,
                   windows->short_count, scratch->digits + terms->long_count, stride);
        phase_end(&scratch->watch, CH_ED25519_DIGITS);
        sort_terms(terms, end - first, first < short_end ? short_end - first : 0, magnitude_max, scratch);
        order_buckets(scratch->buckets, end - first, magnitude_max, scratch->order);
        phase_end(&scratch->watch, CH_ED25519_SORT);
        fill_buckets(rows, scratch, (end - first) * magnitude_max, magnitude_max, terms->row_end);
        phase_end(&scratch->watch, CH_ED25519_BUCKETS);
        for (uint32_t w = 0; w < end - first; w += LANES) {
            struct point window_sums;
            struct ed25519_sum_row row[LANES];
            uint64_t *to[LANES];
            add_up_windows(scratch->sums, w, magnitude_max, &window_sums);
            for (int lane = 0; lane < LANES; lane++)
                to[lane] = row[lane].w;
            store_rows(&window_sums.ymx, 4, to);
            for (uint32_t lane = 0; lane < LANES && first + w + lane < end; lane++) {
                struct ed25519_point *sum = &sums[first + w + lane];
                words_to_radix51(sum->ymx, row[lane].w);
                words_to_radix51(sum->ypx, row[lane].w + 5);
                words_to_radix51(sum->z, row[lane].w + 10);
                words_to_radix51(sum->t, row[lane].w + 15);
            }
        }
        phase_end(&scratch->watch, CH_ED25519_WINDOWS);
    }
    horner(sums, windows, total);
    phase_end(&scratch->watch, CH_ED25519_HORNER);
}

#endif
