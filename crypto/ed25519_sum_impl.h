/* crypto/ed25519_sum_impl.h - sum of many points times scalars, by buckets (Pippenger). Included by each kernel.
 *
 * Scalars are cut into signed digits, one a window. For GROUP windows at a time: a counting sort puts each term's row into
 * the bucket of (window, |digit|); the buckets are ordered by size, so that LANES neighbours have like lengths; each lane
 * adds up one bucket, its point staying in registers; then each lane takes one window and forms
 * sum of digit * bucket as a sum of running sums.
 */
#ifndef CHAPPE_CRYPTO_ED25519_SUM_IMPL_H
#define CHAPPE_CRYPTO_ED25519_SUM_IMPL_H

#include "crypto/ed25519_group_impl.h"

#define GROUP ED25519_WINDOW_GROUP

/* |digit| times 2, plus 1 for a negative digit, of each term in windows first..end. The digit of window `top` - 1, the
 * last, may reach 2^width (see ed25519_windows_choose). */
static void recode(const struct ed25519_term *terms, size_t count, const struct ed25519_windows *windows,
                   uint32_t first, uint32_t end, uint32_t top, uint16_t *digits, size_t stride)
{
    for (uint32_t w = first; w < end; w++) {
        uint32_t offset = windows->offset[w], half = 1u << (windows->width[w] - 1);
        uint32_t bits_mask = w + 1 == top ? 4 * half - 1 : 2 * half - 1;
        uint16_t *to = digits + (w - first) * stride;
        for (size_t i = 0; i < count; i++) {
            const uint64_t *s = terms[i].digits.w;
            uint64_t bits = s[offset / 64] >> (offset % 64);
            if (offset % 64 && offset / 64 < 3)
                bits |= s[offset / 64 + 1] << (64 - offset % 64);
            int32_t digit = (int32_t)(bits & bits_mask) - (int32_t)half;
            to[i] = (uint16_t)(digit < 0 ? -2 * digit + 1 : 2 * digit);
        }
    }
}

/* Orders the buckets by size, the largest first. Sizes from ORDER_SIZES_MAX on count as one: order is speed, no more. */
#define ORDER_SIZES_MAX 1024
static void order_buckets(const uint32_t *size, uint32_t first, uint32_t end, uint32_t *order)
{
    uint32_t at[ORDER_SIZES_MAX] = {0}, total = 0;
    for (uint32_t b = first; b < end; b++)
        at[size[b] < ORDER_SIZES_MAX ? size[b] : ORDER_SIZES_MAX - 1]++;
    for (int s = ORDER_SIZES_MAX - 1; s >= 0; s--) {
        uint32_t n = at[s];
        at[s] = total;
        total += n;
    }
    for (uint32_t b = first; b < end; b++)
        order[at[size[b] < ORDER_SIZES_MAX ? size[b] : ORDER_SIZES_MAX - 1]++] = b;
}

/* The rows and signs of entry `step` in each of LANES buckets; the identity where a bucket has no more. */
static inline mask rows_of_step(const struct ed25519_row *rows, const uint16_t *entries, const uint32_t *start,
                                const uint32_t *size, uint32_t step, const uint64_t *row[LANES])
{
    mask negative = 0;
    for (int lane = 0; lane < LANES; lane++) {
        uint32_t entry = step < size[lane] ? entries[start[lane] + step] : 2 * ED25519_ROW_IDENTITY;
        row[lane] = rows[entry >> 1].w;
        negative |= (mask)(entry & 1) << lane;
    }
    return negative;
}

static void fill_buckets(const struct ed25519_row *rows, const struct ed25519_scratch *scratch, uint32_t bucket_count)
{
    for (uint32_t at = 0; at < bucket_count; at += LANES) {
        uint32_t start[LANES], size[LANES];
        uint64_t *sum_row[LANES];
        const uint64_t *row[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            uint32_t bucket = scratch->order[at + lane];
            start[lane] = scratch->start[bucket];
            size[lane] = scratch->size[bucket];
            sum_row[lane] = scratch->sums[bucket].w;
        }
        uint32_t steps = 1;
        for (int lane = 0; lane < LANES; lane++)
            steps = size[lane] > steps ? size[lane] : steps;
        struct niels n;
        struct point sum;
        mask negative = rows_of_step(rows, scratch->entries, start, size, 0, row);
        niels_load(&n, row);
        point_from_niels(&sum, &n, negative);
        for (uint32_t step = 1; step < steps; step++) {
            negative = rows_of_step(rows, scratch->entries, start, size, step, row);
            niels_load(&n, row);
            point_add_niels(&sum, &n, negative);
        }
        store_rows(&sum.ymx, 4, sum_row);
    }
}

/* total = sum of magnitude * bucket over the LANES windows from `first` on: running sums from the top down. */
static void add_up_windows(const struct ed25519_sum_row *sums, uint32_t first, uint32_t magnitude_max,
                           struct point *total)
{
    struct point running;
    struct cached c;
    point_set_identity(&running);
    point_set_identity(total);
    for (uint32_t magnitude = magnitude_max; magnitude > 0; magnitude--) {
        const uint64_t *row[LANES];
        struct point bucket;
        for (int lane = 0; lane < LANES; lane++)
            row[lane] = sums[magnitude * GROUP + first + lane].w;
        load_rows(&bucket.ymx, 4, row);
        cached_from_point(&c, &bucket);
        point_add_cached(&running, &c, 0);
        cached_from_point(&c, &running);
        point_add_cached(total, &c, 0);
    }
}

static void sort_entries(const struct ed25519_term *terms, size_t long_count, size_t short_count, uint32_t first,
                         uint32_t end, uint32_t short_end, uint32_t bucket_end, struct ed25519_scratch *scratch)
{
    size_t stride = long_count + short_count;
    memset(scratch->size, 0, bucket_end * sizeof *scratch->size);
    for (uint32_t w = 0; w < end - first; w++) {
        size_t count = first + w < short_end ? stride : long_count;
        const uint16_t *digits = scratch->digits + w * stride;
        for (size_t i = 0; i < count; i++)
            scratch->size[(digits[i] >> 1) * GROUP + w]++;
    }
    uint32_t total = 0;
    for (uint32_t b = GROUP; b < bucket_end; b++) {
        scratch->start[b] = total;
        total += scratch->size[b];
    }
    for (uint32_t w = 0; w < GROUP; w++) {
        scratch->start[w] = total; /* digits 0: written, never read */
        total += scratch->size[w];
    }
    for (uint32_t w = 0; w < end - first; w++) {
        size_t count = first + w < short_end ? stride : long_count;
        const uint16_t *digits = scratch->digits + w * stride;
        for (size_t i = 0; i < count; i++)
            scratch->entries[scratch->start[(digits[i] >> 1) * GROUP + w]++] =
                (uint16_t)(terms[i].row << 1 | (digits[i] & 1));
    }
    for (uint32_t b = 0; b < bucket_end; b++)
        scratch->start[b] -= scratch->size[b];
}

static void sum_terms(const struct ed25519_row *rows, const struct ed25519_term *terms, size_t long_count,
                      size_t short_count, const struct ed25519_windows *windows, struct ed25519_scratch *scratch,
                      struct ed25519_point *sums)
{
    size_t stride = long_count + short_count;
    for (uint32_t first = 0; first < windows->count; first += GROUP) {
        uint32_t end = first + GROUP < windows->count ? first + GROUP : windows->count;
        uint32_t short_end = end < windows->short_count ? end : windows->short_count;
        uint32_t magnitude_max = 1u << (windows->width[first] - 1); /* widths never grow */
        uint32_t bucket_end = (magnitude_max + 1) * GROUP;
        recode(terms, long_count, windows, first, end, windows->count, scratch->digits, stride);
        if (first < short_end)
            recode(terms + long_count, short_count, windows, first, short_end, windows->short_count,
                   scratch->digits + long_count, stride);
        sort_entries(terms, long_count, short_count, first, end, short_end, bucket_end, scratch);
        order_buckets(scratch->size, GROUP, bucket_end, scratch->order);
        fill_buckets(rows, scratch, bucket_end - GROUP);
        for (uint32_t w = 0; w < end - first; w += LANES) {
            struct point total;
            struct ed25519_sum_row row[LANES];
            uint64_t *to[LANES];
            add_up_windows(scratch->sums, w, magnitude_max, &total);
            for (int lane = 0; lane < LANES; lane++)
                to[lane] = row[lane].w;
            store_rows(&total.ymx, 4, to);
            for (uint32_t lane = 0; lane < LANES && first + w + lane < end; lane++) {
                struct ed25519_point *sum = &sums[first + w + lane];
                words_to_radix51(sum->ymx, row[lane].w);
                words_to_radix51(sum->ypx, row[lane].w + 5);
                words_to_radix51(sum->z, row[lane].w + 10);
                words_to_radix51(sum->t, row[lane].w + 15);
            }
        }
    }
}

#endif
