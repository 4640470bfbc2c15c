/* What liars among the validators say of a committee's objects: certificates that prove nothing, manifests that lead
 * nowhere, answers that come late. Frames are made by hand where no honest machine would make them. */
#include "node/spread_impl.h"
#include "tests/object_sim/world.h"

static uint64_t seed_of(unsigned test, unsigned round)
{
    return test_seed() + 1000003u * (100 + test) + round;
}

/* A certificate that validators sign, as many as it needs, for a manifest of a block of such a length. */
static struct ch_stored certify(const struct world *w, const struct ch_cid *cid, uint32_t length,
                                const struct ch_manifest *m)
{
    uint8_t message[CH_SHARD_MESSAGE_BYTES], prefix[CH_SIGN_PREFIX_BYTES_MAX];
    uint16_t holder[CH_SHARDS_MAX];
    struct ch_stored c = {.cid = *cid, .length = length};
    unsigned holders = ch_placement(cid, (const uint8_t(*)[CH_HASH_BYTES])w->keys, w->n, holder);
    size_t prefix_length = ch_sign_prefix(CH_DOMAIN_SHARD, w->chain_id, prefix);
    ch_manifest_digest(m, c.manifest);
    ch_shard_message(cid, m->length, c.manifest, message);
    for (uint16_t v = 0; v < w->n && c.count < holders - ch_faults_max(holders); v++)
        for (unsigned k = 0; k < holders; k++)
            if (holder[k] == v) {
                c.validator[c.count] = v;
                ch_sign(&w->node[v].key, prefix, prefix_length, message, sizeof message, c.signature[c.count++]);
            }
    return c;
}

static void tell_stored(struct world *w, unsigned from, unsigned to, const struct ch_stored *c)
{
    uint8_t body[CH_STORED_BYTES_MAX];
    const struct ch_frame_header header = {.type = CH_FRAME_OBJECT_STORED,
                                           .length = (uint32_t)ch_stored_write(c, body)};
    assert_true(ch_spread_frame(w->node[to].spread, (uint16_t)from, &header, body));
}

static uint64_t lies_of(const struct world *w, unsigned node, unsigned liar)
{
    uint64_t lies, timeouts;
    ch_spread_peer_stats(w->node[node].spread, (uint16_t)liar, &lies, &timeouts);
    return lies;
}

static struct ch_manifest manifest_of(const struct world *w, unsigned block)
{
    static uint8_t shards[CH_SHARDS_ALL_BYTES_MAX];
    static struct ch_erasure code;
    const struct block *b = &w->block[block];
    struct ch_manifest m = {0};
    ch_manifest_shape(&b->cid, (uint32_t)b->length, w->n, &m);
    if (m.k == 1)
        return m;
    memset(shards, 0, sizeof shards);
    memcpy(shards, b->bytes, b->length);
    ch_erasure_init(&code, m.n, m.k);
    ch_erasure_encode(&code, shards, m.shard_bytes);
    for (unsigned i = 0; i < m.n; i++)
        ch_hash(shards + (size_t)i * m.shard_bytes, m.shard_bytes, m.hash[i]);
    return m;
}

static unsigned records_of_kind(const struct world *w, unsigned node, enum ch_spread_kind kind)
{
    unsigned count = 0;
    for (size_t i = 0; i < w->node[node].records; i++)
        count += w->node[node].record[i].kind == kind;
    return count;
}

/* Else one certificate would be a million: one for each length, and each is kept. */
static void certificate_of_another_length_proves_nothing(void **state)
{
    const unsigned wide[] = {4, 7, 40};
    for (unsigned round = 0; round < sizeof wide / sizeof *wide; round++) {
        static struct world w;
        world_open(&w, seed_of(1, round), wide[round]);
        unsigned block = new_block(&w, CH_CID_RAW);
        assert_int_equal(put(&w, 0, block), CH_STATUS_OK);
        run_ms(&w, 5000);
        const struct ch_manifest m = manifest_of(&w, block);
        for (unsigned victim = 1; victim < w.n; victim++) {
            unsigned before = records_of_kind(&w, victim, CH_SPREAD_STORED);
            assert_int_equal(before, 1);
            for (uint32_t i = 1; i <= 10; i++) {
                const struct ch_stored c = certify(&w, &m.cid, m.length + i, &m);
                tell_stored(&w, 0, victim, &c);
            }
            step(&w);
            assert_int_equal(records_of_kind(&w, victim, CH_SPREAD_STORED), before);
            assert_int_equal(lies_of(&w, victim, 0), 10);
        }
        world_close(&w);
    }
}

/* The answer of `from` to the question for its list that `to` has just asked or would ask now: this one certificate. */
static void give_list(struct world *w, unsigned from, unsigned to, const struct ch_stored *c)
{
    static uint8_t body[CH_FRAME_BODY_BYTES_MAX];
    struct peer *peer = &w->node[to].spread->peer[from];
    struct ch_writer out = ch_writer(body, sizeof body);
    uint8_t bytes[CH_STORED_BYTES_MAX];
    peer->list_request = 123456;
    ch_write16(&out, CH_STATUS_OK);
    ch_write64(&out, peer->store);
    ch_write64(&out, peer->cursor + 1);
    ch_write8(&out, 1);
    ch_write(&out, bytes, ch_stored_write(c, bytes));
    const struct ch_frame_header header = {
        .type = CH_FRAME_STORED_LIST, .request = 123456, .length = (uint32_t)out.used};
    assert_true(ch_spread_frame(w->node[to].spread, (uint16_t)from, &header, body));
}

/* It might be gone when the one that was listed is written. */
static void listed_certificate_is_proven_though_another_is_here(void **state)
{
    const unsigned wide[] = {4, 7, 10};
    for (unsigned round = 0; round < sizeof wide / sizeof *wide; round++) {
        static struct world w;
        world_open(&w, seed_of(2, round), wide[round]);
        unsigned block = new_block(&w, CH_CID_RAW);
        assert_int_equal(put(&w, 0, block), CH_STATUS_OK);
        run_ms(&w, 5000);
        const struct ch_manifest m = manifest_of(&w, block);
        struct ch_stored c = certify(&w, &m.cid, m.length, &m);
        c.manifest[3] ^= 1;
        give_list(&w, 1, 2, &c);
        assert_int_equal(lies_of(&w, 2, 1), 1);
        assert_int_equal(stats_of(&w, 2).repair_waiting, 0);
        world_close(&w);
    }
}

/* One names a manifest of its own before anybody else answers, the others are asked in vain so that one question is
 * always open: those who name the right one are more than there are liars. */
static void liars_who_take_turns_to_stay_silent_stop_no_read(void **state)
{
    for (unsigned round = 0; round < 12; round++) {
        static struct world w;
        uint16_t holder[CH_SHARDS_MAX];
        world_open(&w, seed_of(3, round), 10);
        unsigned block = new_block(&w, CH_CID_RAW), reader = 0, liars = 0;
        struct block *b = &w.block[block];
        free(b->bytes);
        b->bytes = calloc(1, b->length = 50000);
        ch_store64(b->bytes, round);
        ch_cid_of(CH_CID_RAW, b->bytes, b->length, &b->cid);
        const enum fault faults[] = {LIES_MANIFESTS, SILENT, STALLS};
        ch_placement(&b->cid, (const uint8_t(*)[CH_HASH_BYTES])w.keys, w.n, holder);
        reader = holder[9];
        assert_int_equal(put(&w, holder[8], block), CH_STATUS_OK);
        run_ms(&w, 30000);
        stop(&w, reader, true);
        start(&w, reader);
        for (; liars < w.f; liars++)
            w.node[holder[liars]].fault = faults[liars];
        assert_int_equal(get(&w, reader, block), CH_STATUS_OK);
        world_close(&w);
    }
}

/* A liar's certificates, of blocks that the others have signed for and can't be restored, don't stand in the way of
 * what the others list. */
static void certificates_that_lead_nowhere_leave_room_for_lists(void **state)
{
    for (unsigned round = 0; round < 3; round++) {
        static struct world w;
        world_open(&w, seed_of(4, round), 4);
        for (unsigned i = 0; i < 10; i++) {
            unsigned block = new_block(&w, CH_CID_RAW);
            assert_int_equal(put(&w, 1, block), CH_STATUS_OK);
            name(&w, block);
        }
        run_ms(&w, 5000);
        stop(&w, 3, true);
        start(&w, 3);
        for (unsigned i = 0; i < w.n; i++)
            w.node[3].spread->peer[i].listed = true; /* as if it had gone through the lists before */
        uint64_t number = 0;
        bool whole = false;
        for (unsigned steps = 0; steps < 6000 && !whole; steps++) {
            if (steps == 200)
                ch_spread_repair(w.node[3].spread);
            for (unsigned i = 0; i < 4; i++) {
                uint8_t hash[CH_HASH_BYTES] = {1};
                struct ch_cid cid;
                struct ch_manifest m = {0};
                ch_store64(hash + 8, ++number);
                ch_cid_make(CH_CID_RAW, hash, &cid);
                ch_manifest_shape(&cid, 20000, w.n, &m);
                const struct ch_stored c = certify(&w, &cid, m.length, &m);
                tell_stored(&w, 0, 3, &c);
            }
            step(&w);
            whole = true;
            for (unsigned b = 0; b < w.blocks; b++)
                whole &=
                    ch_spread_is_stored(&w.node[3].spread->setup.store, &w.block[b].cid, (uint32_t)w.block[b].length);
        }
        assert_true(whole);
        world_close(&w);
    }
}

/* Each holder a manifest of its own, all of the same liar and before the coder's in order: what has a certificate goes
 * first. */
static void liar_that_hands_each_another_manifest_stops_no_read(void **state)
{
    static uint8_t body[CH_FRAME_BODY_BYTES_MAX], shards[CH_SHARDS_ALL_BYTES_MAX];
    const unsigned wide[] = {4, 7, 10};
    for (unsigned round = 0; round < 2 * sizeof wide / sizeof *wide; round++) {
        static struct world w;
        uint16_t holder[CH_SHARDS_MAX];
        world_open(&w, seed_of(5, round), wide[round / 2]);
        unsigned block = new_block(&w, CH_CID_RAW);
        struct block *b = &w.block[block];
        free(b->bytes);
        b->bytes = calloc(1, b->length = 50000);
        ch_cid_of(CH_CID_RAW, b->bytes, b->length, &b->cid);
        unsigned holders = ch_placement(&b->cid, (const uint8_t(*)[CH_HASH_BYTES])w.keys, w.n, holder);
        assert_int_equal(put(&w, w.n - 1, block), CH_STATUS_OK);
        run_ms(&w, 5000);
        struct ch_manifest m = manifest_of(&w, block);
        for (unsigned k = 0; k < holders; k++) {
            if (holder[k] == 0)
                continue;
            forge(&w, &m, shards);
            size_t length = ch_manifest_write(&m, body + 2);
            ch_store16(body, (uint16_t)length);
            memcpy(body + 2 + length, shards + (size_t)k * m.shard_bytes, m.shard_bytes);
            const struct ch_frame_header header = {.type = CH_FRAME_PUT_OBJECT_SHARD,
                                                   .request = 1,
                                                   .length = (uint32_t)(2 + length + m.shard_bytes)};
            while (!ch_spread_frame(w.node[holder[k]].spread, 0, &header, body))
                step(&w);
        }
        run_ms(&w, 1000);
        w.node[0].fault = round % 2 ? WITHHOLDS : SILENT;
        for (unsigned i = 1; i < w.n; i++)
            assert_int_equal(get(&w, i, block), CH_STATUS_OK);
        world_close(&w);
    }
}

/* What a validator answers that has its part by this manifest alone; returns the length. */
static uint32_t answer_by(const struct ch_manifest *m, const uint8_t *shards, unsigned own, uint8_t *body)
{
    size_t length = ch_manifest_write(m, body + 12);
    ch_store16(body, CH_STATUS_OK);
    ch_store64(body + 2, 1);
    ch_store16(body + 10, (uint16_t)length);
    memcpy(body + 12 + length, shards + (size_t)own * m->shard_bytes, m->shard_bytes);
    return (uint32_t)(12 + length + m->shard_bytes);
}

/* Two liars of seven, and an honest one that has a part by their manifest alone, always answer before the three that
 * have the right one. The reader does not turn to and fro between the two until its time is over. */
static void liars_that_answer_first_each_time_stop_no_read(void **state)
{
    static uint8_t body[CH_FRAME_BODY_BYTES_MAX], right[CH_SHARDS_ALL_BYTES_MAX], wrong[CH_SHARDS_ALL_BYTES_MAX],
        third_shards[CH_SHARDS_ALL_BYTES_MAX];
    static struct ch_erasure code;
    static struct world w;
    uint16_t holder[CH_SHARDS_MAX], to;
    uint8_t right_digest[CH_HASH_BYTES];
    struct ch_spread_done done = {0};
    struct {
        uint64_t request, at_ns;
        uint16_t to;
        bool wants_right;
    } asked[64];
    unsigned count = 0;
    world_open(&w, seed_of(6, 0), 7);
    struct block *b = &w.block[new_block(&w, CH_CID_RAW)];
    free(b->bytes);
    b->bytes = calloc(1, b->length = 50000);
    ch_cid_of(CH_CID_RAW, b->bytes, b->length, &b->cid);
    ch_placement(&b->cid, (const uint8_t(*)[CH_HASH_BYTES])w.keys, w.n, holder);
    const struct ch_manifest m = manifest_of(&w, 0);
    struct ch_manifest other = m, third = m;
    memcpy(right, b->bytes, b->length);
    ch_erasure_init(&code, m.n, m.k);
    ch_erasure_encode(&code, right, m.shard_bytes);
    forge(&w, &other, wrong);
    forge(&w, &third, third_shards);
    ch_manifest_digest(&m, right_digest);
    struct ch_spread *s = w.node[holder[6]].spread;
    assert_ok(ch_spread_get(s, &b->cid, 1));
    for (unsigned steps = 0; steps < 1000 && !done.ticket; steps++) {
        struct ch_frame_header header;
        while (ch_spread_next_send(s, &to, &header, body))
            if (header.type == CH_FRAME_GET_OBJECT_SHARD) {
                unsigned own = 0;
                while (holder[own] != to)
                    own++;
                assert_true(count < 64);
                asked[count].request = header.request;
                asked[count].to = (uint16_t)own;
                asked[count].at_ns = w.now_ns + (own < 3 ? MS : 50 * MS);
                asked[count++].wants_right = memcmp(body + CH_CID_BYTES, right_digest, CH_HASH_BYTES) == 0;
            }
        ch_spread_tick(s, w.now_ns += 5 * MS);
        for (unsigned i = 0; i < count;) {
            if (asked[i].at_ns > w.now_ns) {
                i++;
                continue;
            }
            const unsigned own = asked[i].to;
            header = (struct ch_frame_header){.type = CH_FRAME_OBJECT_SHARD, .request = asked[i].request};
            if (own < 2 && !asked[i].wants_right) /* they don't help to find out that it is wrong */
                header.length = answer_by(&third, third_shards, own, body);
            else
                header.length = own < 3 ? answer_by(&other, wrong, own, body) : answer_by(&m, right, own, body);
            asked[i] = asked[--count];
            assert_true(ch_spread_frame(s, holder[own], &header, body));
        }
        (void)ch_spread_next_done(s, &done);
    }
    assert_int_equal(done.ticket, 1);
    assert_int_equal(done.status, CH_STATUS_OK);
    world_close(&w);
}

static int start_crypto(void **state)
{
    return ch_sign_init() == CH_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificate_of_another_length_proves_nothing),
        cmocka_unit_test(listed_certificate_is_proven_though_another_is_here),
        cmocka_unit_test(liars_who_take_turns_to_stay_silent_stop_no_read),
        cmocka_unit_test(certificates_that_lead_nowhere_leave_room_for_lists),
        cmocka_unit_test(liar_that_hands_each_another_manifest_stops_no_read),
        cmocka_unit_test(liars_that_answer_first_each_time_stop_no_read),
    };
    return cmocka_run_group_tests_name("object_liars", tests, start_crypto, NULL);
}
