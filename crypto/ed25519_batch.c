/* Many signatures: what every kernel has in common.
 *
 * 1. What does not parse (s < L) or decode (R, A) is dropped, one by one; equal keys share a row, known keys come from
 *    the cache.
 * 2. With random z_i, drawn after the bytes are fixed: sum of z_i R_i + z_i k_i A_i - z_i s_i B, times 8, is the
 *    identity if all hold, and otherwise with a probability of at most 2^-128.
 * 3. A batch that fails is halved: the left half is summed again, the right half is the rest. From SEARCH_MIN down, or
 *    when many seem to be bad, each is checked on its own.
 * 4. After a batch with many bad ones the next is tried by a sample before an equation is spent on it: so the floor,
 *    when all are bad, is what single checks cost.
 */
#include "crypto/ed25519_impl.h"

#include <sodium.h>
#include <stdlib.h>

#define SEARCH_MIN   64
#define SAMPLE       16 /* checked one by one to learn whether many are bad */
#define MANY         4  /* one in so many */
#define SEGMENTS_MAX (CH_ED25519_BATCH_MAX / SEARCH_MIN * 2)

struct table_slot {
    uint32_t batch; /* the slot counts in this batch only */
    uint32_t tag;
    uint32_t item; /* the first with this key */
    uint32_t row;
};

/* A key whose high row is not there. */
struct unraised {
    uint32_t row;
    uint64_t hash;
    const uint8_t *key;
};

/* Items first..end, and their sum. */
struct segment {
    uint32_t first, end;
    struct ed25519_point sum;
};

struct ch_ed25519 {
    const struct ed25519_kernel *kernel;
    const struct ed25519_row *base_multiples;
    uint32_t batch_max, table_mask, batch;
    struct ch_ed25519_counters counters;
    struct ed25519_keys *keys;
    struct table_slot *table; /* equal keys of this batch */
    struct ed25519_row *rows; /* the fixed ones, then keys, then R */
    /* of the items still alive, in order */
    uint32_t *index; /* in the caller's items */
    uint32_t *key_row, *r_row;
    uint32_t high_from_row;    /* a key's high row is so much further on */
    bool split;                /* all keys have one, and terms are short */
    struct unraised *unraised; /* known keys first */
    uint32_t unraised_count, unraised_known;
    uint32_t *raise_from, *raise_to;
    struct ed25519_scalar *s, *k;
    struct ed25519_coefficient *z;
    struct ed25519_scalar *zk, *zs; /* mod L */
    struct ed25519_scalar *key_sum; /* of zk, by key */
    /* to decode */
    const uint8_t **encodings;
    uint64_t *key_hash;
    bool *decoded, *verdicts;
    struct ed25519_scalar *term_digits;
    uint16_t *term_row;
    uint16_t *key_of_row; /* in key_sum, and 1 */
    uint16_t *row_of_key;
    struct ed25519_scratch scratch;
    struct segment *segments; /* twice SEGMENTS_MAX */
    bool poisoned;            /* many of the last batch were bad */
};

static void *zeroed_array(size_t count, size_t size)
{
    void *p = ch_ed25519_array(count, size);
    if (p)
        memset(p, 0, count * size);
    return p;
}

static bool open_scratch(struct ed25519_scratch *scratch, uint32_t batch_max)
{
    size_t terms = 3 * (size_t)batch_max + 2, buckets = 0;
    for (int split = 0; split < 2; split++)
        for (uint32_t n = batch_max; n > 0; n /= 2) {
            struct ed25519_windows windows;
            ch_ed25519_windows_choose(n, split, &windows);
            size_t needed = ((1u << (windows.width[0] - 1)) + 1) * ED25519_WINDOW_GROUP;
            buckets = needed > buckets ? needed : buckets;
        }
    scratch->digits = zeroed_array(terms * ED25519_WINDOW_GROUP + 32, sizeof *scratch->digits);
    scratch->next = zeroed_array((terms + 1) * ED25519_WINDOW_GROUP, sizeof *scratch->next);
    scratch->buckets = zeroed_array(buckets, sizeof *scratch->buckets);
    scratch->order = zeroed_array(buckets, sizeof *scratch->order);
    scratch->sums = zeroed_array(buckets, sizeof *scratch->sums);
    scratch->table = zeroed_array(2 * ED25519_LANES_MAX * ED25519_MULTIPLES, sizeof *scratch->table);
    return scratch->digits && scratch->next && scratch->buckets && scratch->order && scratch->sums && scratch->table;
}

ch_err ch_ed25519_open(const struct ch_ed25519_options *options, struct ch_ed25519 **out)
{
    const struct ed25519_kernel *kernel;
    ch_err err = ch_ed25519_choose(options->kernel, &kernel);
    if (err != CH_OK)
        return err;
    if (options->batch_max > CH_ED25519_BATCH_MAX)
        return CH_ERR_INVALID;
    struct ch_ed25519 *v = calloc(1, sizeof *v);
    if (!v)
        return CH_ERR_NO_MEMORY;
    v->kernel = kernel;
    v->batch_max = options->batch_max ? options->batch_max : 1024;
    v->scratch.watch = (struct ed25519_watch){options->phase_done, options->phase_context};
    if (!kernel->code) {
        *out = v;
        return CH_OK;
    }
    size_t n = v->batch_max, slots = 2;
    while (slots < 2 * n)
        slots *= 2;
    v->table_mask = (uint32_t)slots - 1;
    v->base_multiples = ch_ed25519_base_multiples(kernel);
    v->table = zeroed_array(slots, sizeof *v->table);
    v->rows = zeroed_array(ED25519_ROWS_FIXED + 3 * n, sizeof *v->rows);
    v->index = zeroed_array(n, sizeof *v->index);
    v->key_row = zeroed_array(n, sizeof *v->key_row);
    v->r_row = zeroed_array(n, sizeof *v->r_row);
    v->s = zeroed_array(n, sizeof *v->s);
    v->k = zeroed_array(n, sizeof *v->k);
    v->z = zeroed_array(n, sizeof *v->z);
    v->zk = zeroed_array(n, sizeof *v->zk);
    v->zs = zeroed_array(n, sizeof *v->zs);
    v->encodings = zeroed_array(n, sizeof *v->encodings);
    v->key_hash = zeroed_array(n, sizeof *v->key_hash);
    v->decoded = zeroed_array(2 * n, sizeof *v->decoded);
    v->verdicts = zeroed_array(n, sizeof *v->verdicts);
    v->term_digits = zeroed_array(3 * n + 2, sizeof *v->term_digits);
    v->term_row = zeroed_array(3 * n + 2, sizeof *v->term_row);
    v->key_sum = zeroed_array(n, sizeof *v->key_sum);
    v->key_of_row = zeroed_array(ED25519_ROWS_FIXED + n, sizeof *v->key_of_row);
    v->row_of_key = zeroed_array(n, sizeof *v->row_of_key);
    v->unraised = zeroed_array(n, sizeof *v->unraised);
    v->raise_from = zeroed_array(n, sizeof *v->raise_from);
    v->raise_to = zeroed_array(n, sizeof *v->raise_to);
    v->segments = zeroed_array(2 * SEGMENTS_MAX, sizeof *v->segments);
    bool complete = v->table && v->rows && v->index && v->key_row && v->r_row && v->s && v->k && v->z && v->zk &&
                    v->zs && v->encodings && v->key_hash && v->decoded && v->verdicts && v->term_digits &&
                    v->term_row && v->key_sum && v->key_of_row && v->row_of_key && v->unraised && v->raise_from &&
                    v->raise_to && v->segments && open_scratch(&v->scratch, v->batch_max);
    err = complete ? ch_ed25519_keys_open(options->cached_keys_max, &v->keys) : CH_ERR_NO_MEMORY;
    if (err != CH_OK) {
        ch_ed25519_close(v);
        return err;
    }
    v->rows[ED25519_ROW_IDENTITY] = v->base_multiples[0];
    v->rows[ED25519_ROW_BASE] = v->base_multiples[1];
    v->rows[ED25519_ROW_BASE_HIGH] = v->base_multiples[ED25519_BASE_MULTIPLES + 1];
    *out = v;
    return CH_OK;
}

void ch_ed25519_close(struct ch_ed25519 *v)
{
    if (!v)
        return;
    void *const owned[] = {v->table,
                           v->rows,
                           v->index,
                           v->key_row,
                           v->r_row,
                           v->s,
                           v->k,
                           v->z,
                           v->zk,
                           v->zs,
                           v->encodings,
                           v->key_hash,
                           v->decoded,
                           v->verdicts,
                           v->term_digits,
                           v->term_row,
                           v->key_sum,
                           v->key_of_row,
                           v->row_of_key,
                           v->unraised,
                           v->raise_from,
                           v->raise_to,
                           v->scratch.digits,
                           v->scratch.next,
                           v->scratch.buckets,
                           v->scratch.order,
                           v->scratch.sums,
                           v->scratch.table,
                           v->segments};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
    ch_ed25519_keys_close(v->keys);
    free(v);
}

/* The items whose s is below L; their number. */
static uint32_t parse(struct ch_ed25519 *v, const struct ch_ed25519_item *items, uint32_t count)
{
    uint32_t alive = 0;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(v->s[alive].w, items[i].signature + 32, 32);
        v->index[alive] = i;
        alive += scalar_is_reduced(&v->s[alive]);
    }
    return alive;
}

#define PROBES_MAX 8

/* The slot of a key of this batch, or a free one to take, or NULL when the neighbourhood is full: then an equal key
 * may get a second row, which is only slower. */
static struct table_slot *find_slot(struct ch_ed25519 *v, const struct ch_ed25519_item *items, uint64_t hash,
                                    const uint8_t *key)
{
    for (uint32_t probe = 0; probe < PROBES_MAX; probe++) {
        struct table_slot *slot = &v->table[((uint32_t)(hash >> 32) + probe) & v->table_mask];
        v->counters.key_probes++;
        if (slot->batch != v->batch)
            return slot;
        if (slot->tag == (uint32_t)hash && memcmp(items[slot->item].key, key, 32) == 0)
            return slot;
    }
    return NULL;
}

#define PREFETCH_AHEAD 16 /* keys: the cache is larger than those of the CPU */

/* Gives each item the row of its key. Rows of keys to decode grow from the front, known ones from the back; the number
 * of keys decoded. */
static uint32_t decode_keys(struct ch_ed25519 *v, const struct ch_ed25519_item *items, uint32_t alive)
{
    uint32_t first = ED25519_ROWS_FIXED, decode = 0, known = 0;
    v->unraised_count = 0;
    v->high_from_row = 2 * alive;
    if (++v->batch == 0) {
        memset(v->table, 0, ((size_t)v->table_mask + 1) * sizeof *v->table);
        v->batch = 1;
    }
    for (uint32_t i = 0; i < alive; i++) {
        v->key_hash[i] = ch_ed25519_keys_hash(v->keys, items[v->index[i]].key);
        ch_ed25519_keys_prefetch_set(v->keys, v->key_hash[i]);
    }
    for (uint32_t i = 0; i < alive && i < PREFETCH_AHEAD; i++)
        ch_ed25519_keys_prefetch_row(v->keys, v->key_hash[i]);
    for (uint32_t i = 0; i < alive; i++) {
        const uint8_t *key = items[v->index[i]].key;
        uint64_t hash = v->key_hash[i];
        if (i + PREFETCH_AHEAD < alive)
            ch_ed25519_keys_prefetch_row(v->keys, v->key_hash[i + PREFETCH_AHEAD]);
        struct table_slot *slot = find_slot(v, items, hash, key);
        if (slot && slot->batch == v->batch) {
            v->key_row[i] = slot->row;
            continue;
        }
        const struct ed25519_known_key *found = ch_ed25519_keys_find(v->keys, hash, key);
        if (found) {
            v->key_row[i] = first + alive - ++known;
            v->rows[v->key_row[i]] = found->row;
            if (found->raised)
                v->rows[v->key_row[i] + v->high_from_row] = found->high;
            else
                v->unraised[v->unraised_count++] = (struct unraised){v->key_row[i], hash, key};
        } else {
            v->encodings[decode] = key;
            v->key_hash[decode] = hash;
            v->key_row[i] = first + decode++;
        }
        if (slot)
            *slot = (struct table_slot){v->batch, (uint32_t)hash, v->index[i], v->key_row[i]};
    }
    phase_end(&v->scratch.watch, CH_ED25519_LOOK_UP);
    v->kernel->code->decode(v->encodings, decode, v->rows + first, v->decoded);
    phase_end(&v->scratch.watch, CH_ED25519_DECODE_KEYS);
    v->unraised_known = v->unraised_count;
    for (uint32_t j = 0; j < decode; j++)
        if (v->decoded[j]) {
            ch_ed25519_keys_add(v->keys, v->key_hash[j], v->encodings[j], &v->rows[first + j]);
            v->unraised[v->unraised_count++] = (struct unraised){first + j, v->key_hash[j], v->encodings[j]};
        }
    v->counters.keys_cached += known;
    v->counters.keys_decoded += decode;
    return decode;
}

/* Fills index, rows, s and k of the items that parse and decode; their number. */
static uint32_t prepare(struct ch_ed25519 *v, const struct ch_ed25519_item *items, uint32_t count)
{
    uint32_t parsed = parse(v, items, count), alive = 0;
    uint32_t r_first = ED25519_ROWS_FIXED + parsed;
    uint32_t keys_decoded = decode_keys(v, items, parsed);
    bool *r_decoded = v->decoded + v->batch_max;
    for (uint32_t i = 0; i < parsed; i++)
        v->encodings[i] = items[v->index[i]].signature;
    phase_end(&v->scratch.watch, CH_ED25519_LOOK_UP);
    v->kernel->code->decode(v->encodings, parsed, v->rows + r_first, r_decoded);
    phase_end(&v->scratch.watch, CH_ED25519_DECODE_R);
    for (uint32_t i = 0; i < parsed; i++) {
        uint32_t key = v->key_row[i] - ED25519_ROWS_FIXED;
        v->index[alive] = v->index[i];
        v->key_row[alive] = v->key_row[i];
        v->r_row[alive] = r_first + i;
        v->s[alive] = v->s[i];
        alive += r_decoded[i] && (key >= keys_decoded || v->decoded[key]);
    }
    phase_end(&v->scratch.watch, CH_ED25519_LOOK_UP);
    v->kernel->code->hash(items, v->index, alive, v->k);
    phase_end(&v->scratch.watch, CH_ED25519_HASH);
    return alive;
}

/* The verdicts of items first..end, each on its own. */
static void check_each(struct ch_ed25519 *v, uint32_t first, uint32_t end, bool *valid)
{
    v->kernel->code->check(v->rows, v->r_row + first, v->key_row + first, v->s + first, v->k + first, end - first,
                           v->base_multiples, &v->scratch, v->verdicts);
    for (uint32_t i = first; i < end; i++)
        valid[v->index[i]] = v->verdicts[i - first];
    v->counters.lane_items += end - first;
    phase_end(&v->scratch.watch, CH_ED25519_SINGLE);
}

static void draw_coefficients(struct ch_ed25519 *v, uint32_t alive)
{
    static const uint8_t nonce[crypto_stream_chacha20_NONCEBYTES];
    uint8_t seed[crypto_stream_chacha20_KEYBYTES];
    randombytes_buf(seed, sizeof seed); /* of this batch alone: the nonce may stay */
    crypto_stream_chacha20((uint8_t *)v->z, alive * sizeof *v->z, nonce, seed);
    v->kernel->code->combine(v->z, v->k, v->s, alive, v->zk, v->zs);
    phase_end(&v->scratch.watch, CH_ED25519_COEFFICIENTS);
}

#define RAISE_SHARE 16 /* one in so many may be raised: it costs about a signature, and saves a tenth of each */

/* If all keys have their high row, or so few lack it that it pays to make them, the equation has short terms alone.
 * Otherwise some of those that came back are made ready for another time. */
static void raise_keys(struct ch_ed25519 *v, uint32_t alive)
{
    uint32_t share = alive / RAISE_SHARE;
    v->split = v->unraised_count <= share;
    uint32_t wanted = v->split ? v->unraised_count : v->unraised_known, count = wanted < share ? wanted : share;
    for (uint32_t i = 0; i < count; i++) {
        v->raise_from[i] = v->unraised[i].row;
        v->raise_to[i] = v->unraised[i].row + v->high_from_row;
    }
    v->kernel->code->raise(v->rows, v->raise_from, v->raise_to, count);
    for (uint32_t i = 0; i < count; i++)
        ch_ed25519_keys_raise(v->keys, v->unraised[i].hash, v->unraised[i].key, &v->rows[v->raise_to[i]]);
    v->counters.keys_raised += count;
    v->counters.batches_short += v->split;
    phase_end(&v->scratch.watch, CH_ED25519_RAISE);
}

/* The sums of z_i k_i of items first..end by key, and of z_i s_i; the number of keys. */
static uint32_t sum_by_key(struct ch_ed25519 *v, uint32_t first, uint32_t end, struct ed25519_scalar *base)
{
    struct ed25519_scalar sum = {{0}};
    uint64_t top = 0;
    uint32_t count = 0;
    memset(v->key_of_row, 0, (ED25519_ROWS_FIXED + (size_t)v->batch_max) * sizeof *v->key_of_row);
    for (uint32_t i = first; i < end; i++) {
        top += scalar_add_words(&sum, &v->zs[i]);
        uint16_t *key = &v->key_of_row[v->key_row[i]];
        if (*key == 0) {
            v->key_sum[count] = v->zk[i];
            v->row_of_key[count] = (uint16_t)v->key_row[i];
            *key = (uint16_t)++count;
        } else {
            v->key_sum[*key - 1] = scalar_add(v->key_sum[*key - 1], &v->zk[i]);
        }
    }
    uint64_t words[8] = {sum.w[0], sum.w[1], sum.w[2], sum.w[3], top};
    *base = scalar_reduce(words);
    return count;
}

static void add_term(struct ch_ed25519 *v, size_t *count, struct ed25519_scalar digits, uint32_t row)
{
    v->term_digits[*count] = digits;
    v->term_row[(*count)++] = (uint16_t)row;
}

/* x = low + 2^128 high, |low| <= 2^127: a term of the row and one of its high row, with their bias. */
static void add_halves(struct ch_ed25519 *v, size_t *count, const struct ed25519_scalar *x, uint32_t row,
                       uint32_t high_row, const struct ed25519_scalar *bias)
{
    uint64_t below_zero = x->w[1] >> 63;
    struct ed25519_scalar low = {{x->w[0], x->w[1], -below_zero, -below_zero}}, high = {{x->w[2], x->w[3]}};
    struct ed25519_scalar carry = {{below_zero}};
    scalar_add_words(&low, bias);
    scalar_add_words(&high, bias);
    scalar_add_words(&high, &carry);
    add_term(v, count, low, row);
    add_term(v, count, high, high_row);
}

/* The sum of z_i (R_i + k_i A_i - s_i B) over items first..end. */
static void sum_items(struct ch_ed25519 *v, uint32_t first, uint32_t end, struct ed25519_point *total)
{
    struct ed25519_windows windows;
    struct ed25519_scalar base;
    size_t count = 0;
    struct ed25519_terms terms = {.digits = v->term_digits, .row = v->term_row};
    terms.row_end = ED25519_ROWS_FIXED + v->high_from_row / 2 * (v->split ? 3 : 2);
    ch_ed25519_windows_choose(end - first, v->split, &windows);
    uint32_t keys = sum_by_key(v, first, end, &base);
    base = scalar_negate(&base);
    if (v->split) {
        add_halves(v, &count, &base, ED25519_ROW_BASE, ED25519_ROW_BASE_HIGH, &windows.short_bias);
        for (uint32_t k = 0; k < keys; k++)
            add_halves(v, &count, &v->key_sum[k], v->row_of_key[k], v->row_of_key[k] + v->high_from_row,
                       &windows.short_bias);
    } else {
        add_term(v, &count, scalar_add(base, &windows.bias), ED25519_ROW_BASE);
        for (uint32_t k = 0; k < keys; k++)
            add_term(v, &count, scalar_add(v->key_sum[k], &windows.bias), v->row_of_key[k]);
        terms.long_count = count;
    }
    for (uint32_t i = first; i < end; i++) {
        struct ed25519_scalar digits = coefficient_signed(&v->z[i]);
        scalar_add_words(&digits, &windows.short_bias);
        add_term(v, &count, digits, v->r_row[i]);
    }
    terms.short_count = count - terms.long_count;
    phase_end(&v->scratch.watch, CH_ED25519_TERMS);
    v->kernel->code->sum(v->rows, &terms, &windows, &v->scratch, total);
}

/* Finds the bad ones among `alive` items that don't add up. Level by level, so that it is seen early when there are
 * many. */
static void search(struct ch_ed25519 *v, uint32_t alive, const struct ed25519_point *total, bool *valid)
{
    struct segment *bad = v->segments, *next = v->segments + SEGMENTS_MAX;
    uint32_t bad_count = 1;
    bad[0] = (struct segment){0, alive, *total};
    for (uint32_t level = 0; bad_count > 0; level++) {
        uint32_t next_count = 0, suspects = 0;
        for (uint32_t b = 0; b < bad_count; b++)
            suspects += bad[b].end - bad[b].first;
        bool many = level >= 2 && suspects > alive / 2;
        for (uint32_t b = 0; b < bad_count; b++) {
            uint32_t first = bad[b].first, end = bad[b].end, middle = first + (end - first) / 2;
            if (many || end - first <= SEARCH_MIN) {
                check_each(v, first, end, valid);
                continue;
            }
            struct segment left = {.first = first, .end = middle}, right = {.first = middle, .end = end};
            sum_items(v, first, middle, &left.sum);
            ch_ed25519_point_subtract(&right.sum, &bad[b].sum, &left.sum);
            const struct segment *const halves[] = {&left, &right};
            for (int h = 0; h < 2; h++) {
                if (!ch_ed25519_point_is_small(&halves[h]->sum)) {
                    next[next_count++] = *halves[h];
                    continue;
                }
                for (uint32_t i = halves[h]->first; i < halves[h]->end; i++)
                    valid[v->index[i]] = true;
            }
        }
        struct segment *swap = bad;
        bad = next;
        next = swap;
        bad_count = next_count;
    }
}

/* Whether any of a few is bad, taken where a sender cannot foresee it: then it is likely that many are, and all the
 * others are checked too. */
static bool checked_by_sample(struct ch_ed25519 *v, uint32_t alive, bool *valid)
{
    uint32_t first = SAMPLE * randombytes_uniform((alive + SAMPLE - 1) / SAMPLE), bad = 0;
    uint32_t end = first + SAMPLE < alive ? first + SAMPLE : alive;
    check_each(v, first, end, valid);
    for (uint32_t i = first; i < end; i++)
        bad += !v->verdicts[i - first];
    if (bad == 0)
        return false;
    check_each(v, 0, first, valid);
    check_each(v, end, alive, valid);
    return true;
}

/* All of them by one equation, and what is bad by a search, unless it seems to be much. */
static void check_together(struct ch_ed25519 *v, uint32_t alive, bool *valid)
{
    struct ed25519_point total;
    if (v->poisoned && checked_by_sample(v, alive, valid))
        return;
    raise_keys(v, alive);
    draw_coefficients(v, alive);
    sum_items(v, 0, alive, &total);
    v->counters.batches++;
    if (ch_ed25519_point_is_small(&total)) {
        for (uint32_t i = 0; i < alive; i++)
            valid[v->index[i]] = true;
        return;
    }
    v->counters.batches_failed++;
    if (alive <= SEARCH_MIN)
        check_each(v, 0, alive, valid);
    else if (!checked_by_sample(v, alive, valid))
        search(v, alive, &total, valid);
}

static void verify(struct ch_ed25519 *v, const struct ch_ed25519_item *items, size_t count, bool *valid, bool each)
{
    CH_ASSERT(count <= v->batch_max);
    v->counters.items += count;
    memset(valid, 0, count * sizeof *valid);
    if (!v->kernel->code) {
        for (size_t i = 0; i < count; i++)
            valid[i] = ch_ed25519_verify_reference(&items[i]);
        v->counters.lane_items += count;
    } else if (count > 0) {
        uint32_t alive = prepare(v, items, (uint32_t)count), bad = 0;
        if (each || v->kernel->batch_min == 0 || alive < v->kernel->batch_min) {
            check_each(v, 0, alive, valid);
        } else {
            check_together(v, alive, valid);
            for (uint32_t i = 0; i < alive; i++)
                bad += !valid[v->index[i]];
            v->poisoned = bad > alive / MANY;
        }
    }
    for (size_t i = 0; i < count; i++)
        v->counters.invalid += !valid[i];
}

void ch_ed25519_verify(struct ch_ed25519 *v, const struct ch_ed25519_item *items, size_t count, bool *valid)
{
    verify(v, items, count, valid, false);
}

void ch_ed25519_verify_each(struct ch_ed25519 *v, const struct ch_ed25519_item *items, size_t count, bool *valid)
{
    verify(v, items, count, valid, true);
}

const char *ch_ed25519_kernel_in_use(const struct ch_ed25519 *v)
{
    return v->kernel->name;
}

struct ch_ed25519_counters ch_ed25519_counters(const struct ch_ed25519 *v)
{
    struct ch_ed25519_counters counters = v->counters;
    if (v->keys)
        counters.key_probes += ch_ed25519_keys_probes(v->keys);
    return counters;
}
