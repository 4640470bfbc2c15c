#include "wire/genesis.h"

#include <stdlib.h>

#define VERSION 1

void ch_genesis_defaults(struct ch_genesis *g, uint16_t n)
{
    const uint64_t second = 1000, hour = 3600 * second, day = 24 * hour;
    memset(g, 0, sizeof *g);
    g->require_relation = true;
    g->limits = (struct ch_genesis_limits){
        .window_back_ms = 120 * second,
        .window_ahead_ms = 30 * second,
        .window_ids = 4u << 20,
        .request_expiry_ms = 30 * day,
        .refusal_rest_ms = 24 * hour,
        .unbinding_ms = 7 * day,
        .open_requests = 1000,
    };
    uint64_t leaders = n < 2 ? n : 2;
    g->params = (struct ch_genesis_params){
        .leaders_per_round = leaders,
        .wait_ranks = 1,
        .gc_depth = 200,
        .max_payload = n == 1 ? 1u << 20 : 1u << 18,
        .max_items = 16384,
        .max_votes = 4 * leaders > 16 ? 4 * leaders : 16,
        .max_cksigs = 4,
        .ckpt_commits = 32,
    };
}

static int by_key(const void *a, const void *b)
{
    return memcmp(a, b, 32); /* both structs begin with the key */
}

static bool in_range(const struct ch_genesis *g)
{
    const struct ch_genesis_limits *l = &g->limits;
    const struct ch_genesis_params *p = &g->params;
    uint64_t stake = 0;
    for (unsigned i = 0; i < g->validator_count; i++) {
        stake += g->validators[i].stake;
        if (g->validators[i].stake == 0 || stake > UINT32_MAX)
            return false;
        if (i && memcmp(g->validators[i - 1].key, g->validators[i].key, 32) >= 0)
            return false;
    }
    for (unsigned i = 1; i < g->registrar_count; i++)
        if (memcmp(g->registrars[i - 1], g->registrars[i], 32) >= 0)
            return false;
    /* Sums with a Unix time in ms stay far from the end of 64 bits. */
    const uint64_t time_max = 1ull << 48;
    return g->validator_count >= 1 && g->name[0] && g->start_ms < time_max && l->window_back_ms < time_max &&
           l->window_ahead_ms < time_max && l->window_ids >= 1 && l->window_ids <= 1ull << 32 &&
           l->request_expiry_ms < time_max && l->refusal_rest_ms < time_max && l->unbinding_ms < time_max &&
           p->leaders_per_round >= 1 && p->leaders_per_round <= g->validator_count && p->wait_ranks >= 1 &&
           p->wait_ranks <= p->leaders_per_round && p->gc_depth >= 8 && p->gc_depth <= 100000 &&
           p->max_payload >= 1200 && p->max_payload <= 1u << 20 && p->max_items >= 1 && p->max_items <= 1u << 20 &&
           p->max_votes >= p->leaders_per_round && p->max_votes <= 1024 && p->max_cksigs >= 1 && p->max_cksigs <= 64 &&
           p->ckpt_commits >= 1 && p->payload_code <= 1 && p->profile <= 1;
}

size_t ch_genesis_encode(struct ch_genesis *g, uint8_t *out)
{
    if (g->validator_count > CH_VALIDATORS_MAX || g->registrar_count > CH_REGISTRARS_MAX)
        return 0;
    qsort(g->validators, g->validator_count, sizeof *g->validators, by_key);
    qsort(g->registrars, g->registrar_count, sizeof *g->registrars, by_key);
    if (!in_range(g))
        return 0;
    struct ch_writer w = ch_writer(out, CH_GENESIS_BYTES_MAX);
    size_t name = strlen(g->name);
    ch_write16(&w, VERSION);
    ch_write8(&w, (uint8_t)name);
    ch_write(&w, g->name, name);
    ch_write64(&w, g->start_ms);
    ch_write8(&w, g->require_relation);
    ch_write16(&w, g->validator_count);
    for (unsigned i = 0; i < g->validator_count; i++) {
        const struct ch_genesis_validator *v = &g->validators[i];
        size_t length = strlen(v->address);
        ch_write(&w, v->key, 32);
        ch_write32(&w, v->stake);
        ch_write16(&w, (uint16_t)length);
        ch_write(&w, v->address, length);
    }
    ch_write16(&w, g->registrar_count);
    ch_write(&w, g->registrars, g->registrar_count * (size_t)32);
    const struct ch_genesis_limits *l = &g->limits;
    const struct ch_genesis_params *p = &g->params;
    const uint64_t numbers[] = {
        l->window_back_ms,    l->window_ahead_ms, l->window_ids,   l->request_expiry_ms, l->refusal_rest_ms,
        l->unbinding_ms,      l->open_requests,   p->leaders_per_round, p->wait_ranks,   p->gc_depth,
        p->max_payload,       p->max_items,       p->max_votes,    p->max_cksigs,        p->ckpt_commits,
        p->sched_commits,     p->payload_code,    p->profile,
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        ch_write64(&w, numbers[i]);
    return w.bad ? 0 : w.used;
}

static void read_text(struct ch_reader *r, size_t length, char *to, size_t bytes_max)
{
    if (length > bytes_max)
        r->bad = true;
    const uint8_t *text = ch_read(r, length);
    if (!text || memchr(text, 0, length)) {
        r->bad = true;
        return;
    }
    memcpy(to, text, length);
    to[length] = 0;
}

ch_err ch_genesis_decode(const uint8_t *bytes, size_t length, struct ch_genesis *out)
{
    struct ch_genesis g;
    memset(&g, 0, sizeof g);
    struct ch_reader r = ch_reader(bytes, length);
    if (ch_read16(&r) != VERSION)
        return CH_ERR_INVALID;
    read_text(&r, ch_read8(&r), g.name, CH_GENESIS_NAME_BYTES_MAX);
    g.start_ms = ch_read64(&r);
    uint8_t require_relation = ch_read8(&r);
    g.require_relation = require_relation == 1;
    g.validator_count = ch_read16(&r);
    if (r.bad || require_relation > 1 || g.validator_count > CH_VALIDATORS_MAX)
        return CH_ERR_INVALID;
    for (unsigned i = 0; i < g.validator_count; i++) {
        struct ch_genesis_validator *v = &g.validators[i];
        ch_read_to(&r, v->key, 32);
        v->stake = ch_read32(&r);
        read_text(&r, ch_read16(&r), v->address, CH_GENESIS_ADDRESS_BYTES_MAX);
    }
    g.registrar_count = ch_read16(&r);
    if (r.bad || g.registrar_count > CH_REGISTRARS_MAX)
        return CH_ERR_INVALID;
    ch_read_to(&r, g.registrars, g.registrar_count * (size_t)32);
    uint64_t numbers[18];
    for (size_t i = 0; i < 18; i++)
        numbers[i] = ch_read64(&r);
    g.limits = (struct ch_genesis_limits){numbers[0], numbers[1], numbers[2], numbers[3],
                                          numbers[4], numbers[5], numbers[6]};
    g.params = (struct ch_genesis_params){numbers[7],  numbers[8],  numbers[9],  numbers[10], numbers[11], numbers[12],
                                          numbers[13], numbers[14], numbers[15], numbers[16], numbers[17]};
    if (!ch_reader_done(&r) || !in_range(&g))
        return CH_ERR_INVALID;
    *out = g;
    return CH_OK;
}

void ch_genesis_chain_id(const uint8_t *bytes, size_t length, uint8_t chain_id[CH_HASH_BYTES])
{
    ch_hash_domain("chappe/chain/1", &(struct ch_bytes){bytes, length}, 1, chain_id);
}
