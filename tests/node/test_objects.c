/* One validator of four with its keeper and its disk; the test is the other three, and the chain. */
#include "node/names.h"
#include "node/objects.h"
#include "store/erasure.h"
#include "store/io_sim.h"
#include "tests/test.h"

#define N             4u
#define BLOCK_BYTES   20000u
#define QUOTA_MIB     1u
#define SEGMENT_BYTES (16u * 65536)
#define ACCOUNT       5u

static const uint8_t master_key[CH_OBJECT_KEY_BYTES] = "a key for tests, thirty-two byte";

/* The wall clock, for ages: linked in place of base/time.h's. */
static uint64_t ahead_ms;
uint64_t __real_ch_time_unix_ms(void);
uint64_t __wrap_ch_time_unix_ms(void);
uint64_t __wrap_ch_time_unix_ms(void)
{
    return __real_ch_time_unix_ms() + ahead_ms;
}

struct world {
    struct ch_node *node;
    struct ch_sim_disk *disk;
    struct ch_object_reader *reader;
    struct ch_keeper *keeper;
    struct ch_objects *objects;
    struct ch_sign_key key[N];
    struct ch_bell nobody;
    uint64_t commit_ms, now_ns, requests, low_water_bytes;
    unsigned status; /* of the last put that was answered; 0xffff: none */
    uint64_t since_ms; /* what the others say of the age of what they have */
    unsigned told;   /* certificates of block 0 that went to the others */
};

static void open_objects(struct world *w)
{
    const struct ch_object_options options = {
        .master_key = master_key, .segment_bytes = SEGMENT_BYTES, .batch_bytes = SEGMENT_BYTES / 8,
        .low_water_bytes = w->low_water_bytes, .run_places = 32};
    assert_ok(ch_object_open(w->node->objects_io, "obj", &options, &w->node->objects));
    assert_ok(ch_object_reader_open(w->node->objects, &w->reader));
    assert_ok(ch_keeper_open(w->node, w->reader, &w->keeper));
    assert_ok(ch_objects_open(w->node, w->reader, w->keeper, &w->objects));
}

static void close_objects(struct world *w)
{
    ch_keeper_close(w->keeper);
    ch_objects_close(w->objects);
    ch_object_reader_close(w->reader);
    ch_object_close(w->node->objects);
}

static void begin(struct world *w)
{
    memset(w, 0, sizeof *w);
    w->node = aligned_alloc(64, (sizeof *w->node + 63) / 64 * 64);
    assert_non_null(w->node);
    memset(w->node, 0, sizeof *w->node);
    ch_config_defaults(&w->node->config);
    w->node->config.store_object_quota_mib = QUOTA_MIB;
    w->node->committee.n = N;
    for (uint8_t i = 0; i < N; i++) {
        ch_sign_key_from_seed((uint8_t[CH_SIGN_SEED_BYTES]){i}, &w->key[i]);
        memcpy(w->node->committee.key[i], w->key[i].public_key, CH_KEY_BYTES);
        atomic_store(&w->node->links.up[i], i != 0);
    }
    w->node->key = w->key[0];
    w->commit_ms = 1700000000000u;
    w->now_ns = 1000000000;
    atomic_store(&w->node->commit_ms, w->commit_ms);
    assert_ok(ch_flow_open(&w->node->flow, 1 << 12, 1, N - 1));
    assert_ok(ch_ring_open(&w->node->replies, "replies", CH_REQUEST_POOL_COUNT + CH_PARCELS_OUT, false));
    w->node->replies.consumer = &w->nobody;
    assert_ok(ch_sim_disk_open(test_seed(), &w->disk));
    assert_ok(ch_sim_io_open(w->disk, &w->node->objects_io));
    open_objects(w);
}

static void finish(struct world *w)
{
    assert_int_equal(atomic_load(&w->node->failed), CH_OK);
    close_objects(w);
    ch_io_close(w->node->objects_io);
    ch_sim_disk_close(w->disk);
    ch_ring_close(&w->node->replies);
    ch_flow_close(&w->node->flow);
    free(w->node);
}

static void tell(struct world *w, uint16_t from, uint16_t type, uint64_t request, const uint8_t *body, size_t length)
{
    struct ch_request *parcel = ch_flow_parcel_in(&w->node->flow, from, type);
    assert_non_null(parcel);
    parcel->validator = from;
    parcel->header = (struct ch_frame_header){.type = type, .request = request, .length = (uint32_t)length};
    memcpy(parcel->body, body, length);
    assert_true(ch_objects_frame(w->objects, parcel)); /* the disk is done with all before */
}

static void block_of(uint64_t number, uint8_t block[BLOCK_BYTES], struct ch_cid *cid)
{
    struct ch_prng g;
    ch_prng_seed(&g, number);
    test_random_bytes(&g, block, BLOCK_BYTES);
    ch_cid_of(CH_CID_RAW, block, BLOCK_BYTES, cid);
}

/* u16 length, manifest, shard of a validator; returns their length. */
static size_t shard_of(struct world *w, uint64_t number, uint16_t validator, uint8_t *to)
{
    static uint8_t shards[CH_SHARDS_ALL_BYTES_MAX];
    static struct ch_erasure code;
    struct ch_manifest m = {0};
    struct ch_cid cid;
    uint16_t holder[CH_SHARDS_MAX];
    unsigned own = 0;
    memset(shards, 0, sizeof shards);
    block_of(number, shards, &cid);
    ch_manifest_shape(&cid, BLOCK_BYTES, N, &m);
    ch_erasure_init(&code, N, m.k);
    ch_erasure_encode(&code, shards, m.shard_bytes);
    for (unsigned i = 0; i < N; i++)
        ch_hash(shards + (size_t)i * m.shard_bytes, m.shard_bytes, m.hash[i]);
    (void)ch_placement(&cid, (const uint8_t(*)[CH_HASH_BYTES])w->node->committee.key, N, holder);
    while (holder[own] != validator)
        own++;
    size_t length = ch_manifest_write(&m, to + 2);
    ch_store16(to, (uint16_t)length);
    memcpy(to + 2 + length, shards + (size_t)own * m.shard_bytes, m.shard_bytes);
    return 2 + length + m.shard_bytes;
}

static void give_shard(struct world *w, const struct ch_request *asked)
{
    static uint8_t body[CH_FRAME_BODY_BYTES_MAX];
    uint8_t block[BLOCK_BYTES];
    struct ch_cid cid;
    uint64_t number = 0;
    for (block_of(number, block, &cid); memcmp(cid.bytes, asked->body, CH_CID_BYTES) != 0;
         block_of(++number, block, &cid))
        ;
    ch_store16(body, CH_STATUS_OK);
    ch_store64(body + 2, w->since_ms);
    size_t length = 2 + 8 + shard_of(w, number, asked->validator, body + 2 + 8);
    tell(w, asked->validator, CH_FRAME_OBJECT_SHARD, asked->header.request, body, length);
}

/* What the validator sent: the others sign for their shards, and have them. */
static void answer(struct world *w)
{
    struct ch_request *sent;
    while ((sent = ch_ring_pull_one(&w->node->replies))) {
        if (sent->home != &w->node->flow.free_parcels_out) {
            w->status = ch_load16(sent->body);
        } else if (sent->header.type == CH_FRAME_PUT_OBJECT_SHARD) {
            struct ch_manifest m = {0};
            uint8_t digest[CH_HASH_BYTES], message[CH_SHARD_MESSAGE_BYTES], body[2 + 64] = {0};
            uint8_t prefix[CH_SIGN_PREFIX_BYTES_MAX];
            assert_true(ch_manifest_read(sent->body + 2, ch_load16(sent->body), N, &m));
            ch_manifest_digest(&m, digest);
            ch_shard_message(&m.cid, m.length, digest, message);
            size_t prefix_length = ch_sign_prefix(CH_DOMAIN_SHARD, w->node->chain_id, prefix);
            ch_store16(body, CH_STATUS_OK);
            ch_sign(&w->key[sent->validator], prefix, prefix_length, message, sizeof message, body + 2);
            tell(w, sent->validator, CH_FRAME_SHARD_STORED, sent->header.request, body, sizeof body);
        } else if (sent->header.type == CH_FRAME_OBJECT_STORED) {
            uint8_t block[BLOCK_BYTES];
            struct ch_cid first;
            block_of(0, block, &first);
            w->told += memcmp(sent->body, first.bytes, CH_CID_BYTES) == 0;
        } else if (sent->header.type == CH_FRAME_GET_OBJECT_SHARD) {
            give_shard(w, sent);
        }
        ch_flow_free_request(&w->node->flow, sent);
    }
}

/* Turns until the disk has nothing to do. */
static void settle(struct world *w)
{
    for (int idle = 0; idle < 3;) {
        uint64_t cookies[16];
        size_t count;
        bool puts = false, worked = ch_objects_poll(w->objects, w->now_ns, &puts);
        answer(w);
        assert_ok(ch_object_flush(w->node->objects));
        if (ch_object_busy(w->node->objects))
            assert_ok(ch_io_wait(w->node->objects_io));
        assert_ok(ch_object_poll(w->node->objects, cookies, 16, &count));
        for (size_t i = 0; i < count; i++)
            if (ch_objects_is_cookie(cookies[i]))
                ch_objects_durable(w->objects, cookies[i]);
        idle = worked || puts || count || ch_object_busy(w->node->objects) ? 0 : idle + 1;
    }
}

/* The chain goes on for so long. */
static void live(struct world *w, uint64_t seconds)
{
    for (uint64_t i = 0; i < seconds; i++) {
        w->commit_ms += 1000;
        w->now_ns += 1000000000;
        ch_keeper_committed(w->keeper, w->commit_ms);
        (void)ch_keeper_poll(w->keeper, w->now_ns);
        settle(w);
    }
    assert_int_equal(atomic_load(&w->node->failed), CH_OK);
}

/* An account puts it here. */
static unsigned put(struct world *w, uint64_t account, uint64_t number)
{
    struct ch_request *request = ch_ring_pull_one(&w->node->flow.free_requests);
    struct ch_cid cid;
    assert_non_null(request);
    request->header = (struct ch_frame_header){
        .type = CH_FRAME_PUT_OBJECT, .request = ++w->requests, .length = CH_CID_BYTES + BLOCK_BYTES};
    request->answered = NULL;
    block_of(number, request->body + CH_CID_BYTES, &cid);
    memcpy(request->body, cid.bytes, CH_CID_BYTES);
    request->hashed = ch_cid_check(&cid, request->body + CH_CID_BYTES, BLOCK_BYTES, &request->block);
    w->status = 0xffff;
    ch_objects_put(w->objects, request, account);
    settle(w);
    return w->status;
}

/* Validator 1 hands us our shard of it. */
static void bring(struct world *w, uint64_t number)
{
    static uint8_t body[CH_FRAME_BODY_BYTES_MAX];
    tell(w, 1, CH_FRAME_PUT_OBJECT_SHARD, ++w->requests, body, shard_of(w, number, 0, body));
    settle(w);
}

static struct ch_tx message_of(uint64_t number, struct ch_cid *cid)
{
    uint8_t block[BLOCK_BYTES];
    block_of(number, block, cid);
    return (struct ch_tx){.location = cid->bytes, .object_size = BLOCK_BYTES};
}

static void name(struct world *w, uint64_t number)
{
    struct ch_cid cid;
    const struct ch_tx tx = message_of(number, &cid);
    assert_true(ch_objects_name(w->objects, &tx));
    settle(w);
}

/* What admission asks. */
static bool is_stored(struct world *w, uint64_t number)
{
    uint8_t block[BLOCK_BYTES];
    struct ch_cid cid;
    struct ch_tree *tree;
    uint64_t bytes = BLOCK_BYTES;
    block_of(number, block, &cid);
    assert_ok(ch_tree_open(w->reader, N, &tree));
    ch_err err = ch_tree_look(tree, &cid, &bytes, NULL, NULL);
    ch_tree_close(tree);
    return err == CH_OK;
}

/* Of blocks: how far repair has come is not one. */
static uint64_t records(struct world *w)
{
    struct ch_object_stats stats;
    uint8_t marks[4][CH_HASH_BYTES];
    uint64_t cursor = 0;
    size_t count;
    bool end;
    ch_object_stats(w->node->objects, &stats);
    assert_ok(ch_object_list(w->node->objects, CH_NAME_MARK, &cursor, marks, 4, &count, &end));
    assert_in_range(count, 0, 2);
    return stats.blocks - count;
}

static void parts_that_nobody_names_are_closed_and_then_dropped(void **state)
{
    struct world w;
    begin(&w);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(put(&w, ACCOUNT, i), CH_STATUS_OK);
    for (uint64_t i = 10; i < 20; i++)
        bring(&w, i);
    assert_int_equal(records(&w), 10 * 3 + 10 * 2); /* of these validator 1 has not told the certificate */
    for (uint64_t i = 0; i < 20; i += 2)
        name(&w, i);
    assert_int_equal(records(&w), 10 * 3 + 10 * 2 + 10);
    live(&w, 590);
    for (uint64_t i = 0; i < 10; i++)
        assert_true(is_stored(&w, i));
    live(&w, 160);
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(is_stored(&w, i), i % 2 == 0);
    /* What validator 1 did not certify was: that is a manifest and a certificate more. */
    assert_int_equal(records(&w), 5 * 4 + 5 * 2 + 5 * 5 + 5 * 3);
    name(&w, 9); /* by a message that was let in before */
    live(&w, 400);
    assert_int_equal(records(&w), 5 * 4 + 4 + 5 * 5);
    assert_true(is_stored(&w, 9));
    assert_int_equal(atomic_load(&w.node->metrics.serve_objects_unnamed_total), 9);
    live(&w, 1000);
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(is_stored(&w, i), i % 2 == 0 || i == 9);
    finish(&w);
}

/* Validator 1 tells of a certificate that these have signed; one signature may have a bit flipped. */
static void certify(struct world *w, uint64_t number, const uint16_t *signers, uint16_t count, int flipped)
{
    static uint8_t body[CH_FRAME_BODY_BYTES_MAX];
    uint8_t message[CH_SHARD_MESSAGE_BYTES], prefix[CH_SIGN_PREFIX_BYTES_MAX], bytes[CH_STORED_BYTES_MAX];
    struct ch_manifest m = {0};
    struct ch_stored stored = {.length = BLOCK_BYTES, .count = count};
    (void)shard_of(w, number, 0, body);
    assert_true(ch_manifest_read(body + 2, ch_load16(body), N, &m));
    stored.cid = m.cid;
    ch_manifest_digest(&m, stored.manifest);
    ch_shard_message(&m.cid, m.length, stored.manifest, message);
    size_t prefix_length = ch_sign_prefix(CH_DOMAIN_SHARD, w->node->chain_id, prefix);
    for (uint16_t i = 0; i < count; i++) {
        stored.validator[i] = signers[i];
        ch_sign(&w->key[signers[i]], prefix, prefix_length, message, sizeof message, stored.signature[i]);
        stored.signature[i][40] ^= i == flipped;
    }
    tell(w, 1, CH_FRAME_OBJECT_STORED, 0, bytes, ch_stored_write(&stored, bytes));
    settle(w);
}

/* Shard and manifest are here; a message is let in only when n-f have signed for theirs, each once, all rightly. */
static void without_a_certificate_that_holds_no_message_is_let_in(void **state)
{
    struct world w;
    begin(&w);
    bring(&w, 1);
    assert_int_equal(records(&w), 2);
    assert_false(is_stored(&w, 1));
    certify(&w, 1, (const uint16_t[]){1, 2}, 2, -1);
    certify(&w, 1, (const uint16_t[]){1, 1, 1}, 3, -1);
    certify(&w, 1, (const uint16_t[]){1, 2, 2}, 3, -1);
    for (int i = 0; i < 3; i++)
        certify(&w, 1, (const uint16_t[]){0, 1, 3}, 3, i);
    struct ch_sign_key own = w.key[3];
    w.key[3] = w.key[2]; /* validator 2 signs in place of 3 */
    certify(&w, 1, (const uint16_t[]){1, 2, 3}, 3, -1);
    w.key[3] = own;
    assert_false(is_stored(&w, 1));
    assert_int_equal(records(&w), 2);
    live(&w, 2); /* counters are shown now and then */
    assert_true(
        atomic_load(&w.node->object_lies[1]) + atomic_load(&w.node->metrics.serve_block_frames_malformed_total) == 7);
    certify(&w, 1, (const uint16_t[]){0, 1, 2}, 3, -1);
    assert_true(is_stored(&w, 1));
    assert_int_equal(records(&w), 3);
    finish(&w);
}

static void put_again_waits_anew(void **state)
{
    struct world w;
    begin(&w);
    bring(&w, 1);
    live(&w, 760);
    assert_false(is_stored(&w, 1)); /* closed */
    assert_int_equal(records(&w), 3);
    bring(&w, 1);
    live(&w, 580);
    assert_int_equal(records(&w), 3);
    assert_int_equal(put(&w, ACCOUNT, 1), CH_STATUS_OK);
    live(&w, 580);
    assert_true(is_stored(&w, 1));
    live(&w, 460);
    assert_int_equal(records(&w), 0);
    finish(&w);
}

/* An upload that takes half an hour, with a restart in the middle: what came first is stored to the end, here, and the
 * others hear in time that it waits on. */
static void long_upload_keeps_its_first_blocks(void **state)
{
    struct world w;
    begin(&w);
    w.node->config.store_object_quota_mib = 64;
    for (uint64_t i = 0; i < 30; i++) {
        assert_int_equal(put(&w, ACCOUNT, i), CH_STATUS_OK);
        live(&w, 60);
        if (i == 14) {
            close_objects(&w);
            open_objects(&w);
            settle(&w);
        }
    }
    for (uint64_t i = 0; i < 30; i++)
        assert_true(is_stored(&w, i));
    assert_true(w.told >= 3 * (N - 1) && w.told <= 6 * (N - 1)); /* of block 0: when it was stored, and every five minutes */
    live(&w, 2500);
    assert_int_equal(records(&w), 0);
    finish(&w);
}

/* Validator 1 tells of its certificate again and again: our part waits as long. */
static void part_waits_as_long_as_its_certificate_is_told(void **state)
{
    struct world w;
    begin(&w);
    bring(&w, 1);
    for (int i = 0; i < 5; i++) {
        certify(&w, 1, (const uint16_t[]){0, 1, 2}, 3, -1);
        live(&w, 500);
        assert_true(is_stored(&w, 1));
    }
    live(&w, 1100);
    assert_int_equal(records(&w), 0);
    finish(&w);
}

/* Two clients put the same block, ten minutes apart: it waits for the second one's message. */
static void block_that_another_puts_too_waits_for_both(void **state)
{
    struct world w;
    begin(&w);
    assert_int_equal(put(&w, ACCOUNT, 0), CH_STATUS_OK);
    live(&w, 590);
    w.told = 0;
    assert_int_equal(put(&w, ACCOUNT + 1, 0), CH_STATUS_OK);
    live(&w, 590);
    assert_true(is_stored(&w, 0));
    assert_true(w.told >= N - 1);
    finish(&w);
}

static void restart_forgets_no_name(void **state)
{
    struct world w;
    struct ch_cid cid;
    begin(&w);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(put(&w, ACCOUNT, i), CH_STATUS_OK);
    for (uint64_t i = 0; i < 4; i++)
        name(&w, i);
    live(&w, 500);
    close_objects(&w);
    const struct ch_tx tx = message_of(4, &cid); /* its name was not on the disk yet when the power went */
    assert_ok(ch_names_replayed(w.node, &tx));
    open_objects(&w);
    live(&w, 500);
    for (uint64_t i = 0; i < 10; i++)
        assert_true(is_stored(&w, i));
    name(&w, 5);
    live(&w, 500);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(is_stored(&w, i), i < 6);
    assert_int_equal(records(&w), 6 * 4);
    assert_null(w.node->names.name);
    finish(&w);
}

/* More messages in the replayed log than are remembered: then nothing that was here may be taken for unnamed. */
static void restart_with_too_many_names_drops_nothing(void **state)
{
    struct world w;
    struct ch_cid cid;
    begin(&w);
    assert_int_equal(put(&w, ACCOUNT, 1), CH_STATUS_OK);
    assert_int_equal(put(&w, ACCOUNT, 2), CH_STATUS_OK);
    close_objects(&w);
    const struct ch_tx other = message_of(2, &cid);
    for (unsigned i = 0; i < 1u << 20; i++)
        assert_ok(ch_names_replayed(w.node, &other));
    struct ch_tx tx = message_of(1, &cid);
    assert_ok(ch_names_replayed(w.node, &tx));
    open_objects(&w);
    live(&w, 2000);
    assert_true(is_stored(&w, 1));
    assert_true(is_stored(&w, 2));
    finish(&w);
}

static void name_is_written_down_though_the_disk_is_low(void **state)
{
    struct world w;
    begin(&w);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(put(&w, ACCOUNT, i), CH_STATUS_OK);
    w.low_water_bytes = SEGMENT_BYTES;
    w.node->config.store_object_quota_mib = 64;
    ch_sim_disk_set_capacity(w.disk, 3 * SEGMENT_BYTES + SEGMENT_BYTES / 2);
    close_objects(&w);
    open_objects(&w);
    uint64_t number = 10;
    while (number < 400 && put(&w, ACCOUNT, number) == CH_STATUS_OK)
        number++;
    live(&w, 25);
    assert_int_equal(w.status, CH_STATUS_OVERLOADED);
    for (uint64_t i = 0; i < 3; i++)
        name(&w, i);
    ch_sim_disk_set_capacity(w.disk, UINT64_MAX);
    close_objects(&w);
    open_objects(&w);
    live(&w, 1100);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(is_stored(&w, i), i < 3);
    finish(&w);
}

static void account_is_held_to_its_quota(void **state)
{
    const uint64_t most = (QUOTA_MIB << 20) / BLOCK_BYTES;
    struct world w;
    uint64_t number = 0;
    begin(&w);
    bring(&w, 2000); /* nobody's here */
    while (put(&w, ACCOUNT, number) == CH_STATUS_OK)
        name(&w, number++);
    assert_int_equal(w.status, CH_STATUS_QUOTA);
    assert_int_equal(number, most);
    assert_int_equal(put(&w, ACCOUNT, 0), CH_STATUS_OK); /* it is stored already */
    assert_int_equal(put(&w, ACCOUNT + 1, number), CH_STATUS_OK);
    assert_int_equal(put(&w, ACCOUNT, number + 1), CH_STATUS_QUOTA);
    close_objects(&w);
    open_objects(&w);
    live(&w, 2);
    assert_int_equal(put(&w, ACCOUNT, number + 1), CH_STATUS_QUOTA);
    for (uint64_t i = 1; i < most; i++)
        assert_int_equal(put(&w, ACCOUNT + 1, 1000 + i), CH_STATUS_OK);
    assert_int_equal(put(&w, ACCOUNT + 1, 1000), CH_STATUS_QUOTA);
    live(&w, 1000); /* nobody names them: there is room again */
    for (uint64_t i = 0; i < most; i++)
        assert_int_equal(put(&w, ACCOUNT + 1, 1000 + i), CH_STATUS_OK);
    assert_int_equal(put(&w, ACCOUNT + 1, number), CH_STATUS_QUOTA);
    assert_int_equal(put(&w, ACCOUNT, number + 1), CH_STATUS_QUOTA);
    finish(&w);
}

/* Our part is lost and restored: it goes with its age, not a life later. */
static void restored_part_goes_with_its_age(void **state)
{
    struct world w;
    struct ch_cid cid;
    uint8_t block[BLOCK_BYTES];
    begin(&w);
    assert_int_equal(put(&w, ACCOUNT, 0), CH_STATUS_OK);
    name(&w, 0);
    uint8_t shard[BLOCK_BYTES], body[CH_FRAME_BODY_BYTES_MAX / 8], name_bytes[CH_HASH_BYTES];
    struct ch_manifest m = {0};
    size_t length;
    (void)shard_of(&w, 0, 0, body);
    assert_true(ch_manifest_read(body + 2, ch_load16(body), N, &m));
    block_of(0, block, &cid);
    uint16_t holder[CH_SHARDS_MAX];
    unsigned own = 0;
    (void)ch_placement(&cid, (const uint8_t(*)[CH_HASH_BYTES])w.node->committee.key, N, holder);
    while (holder[own] != 0)
        own++;
    const struct ch_bytes parts[2] = {{cid.bytes, CH_CID_BYTES}, {m.hash[own], CH_HASH_BYTES}};
    ch_hash_domain("chappe/part/1", parts, 2, name_bytes);
    const struct ch_cid address = ch_tree_address(CH_SPREAD_SHARD, name_bytes);
    assert_ok(ch_object_get(w.reader, &address, shard, sizeof shard, &length));
    w.since_ms = __real_ch_time_unix_ms();
    ahead_ms = 3000 * 1000; /* fifty minutes later */
    assert_ok(ch_object_drop(w.node->objects, &address, 0));
    settle(&w);
    close_objects(&w);
    open_objects(&w);
    live(&w, 5);
    assert_ok(ch_object_get(w.reader, &address, shard, sizeof shard, &length));
    w.node->config.store_object_keep_hours = 1;
    ahead_ms = 3700 * 1000;
    live(&w, 30);
    assert_int_equal(ch_object_get(w.reader, &address, shard, sizeof shard, &length), CH_ERR_NOT_FOUND);
    ahead_ms = 0;
    finish(&w);
}

static void old_objects_make_room_in_the_quota(void **state)
{
    struct world w;
    uint64_t number = 0;
    begin(&w);
    while (put(&w, ACCOUNT, number) == CH_STATUS_OK)
        name(&w, number++);
    assert_int_equal(w.status, CH_STATUS_QUOTA);
    struct ch_object_stats stats;
    ch_object_stats(w.node->objects, &stats);
    assert_true(stats.live_bytes > number * BLOCK_BYTES / 2);
    w.node->config.store_object_keep_hours = 1;
    ahead_ms = 2 * 3600 * 1000;
    live(&w, 60);
    assert_int_equal(records(&w), 0);
    assert_int_equal(put(&w, ACCOUNT, number), CH_STATUS_OK);
    ahead_ms = 0;
    finish(&w);
}

static int start_crypto(void **state)
{
    return ch_sign_init() == CH_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_that_nobody_names_are_closed_and_then_dropped),
        cmocka_unit_test(without_a_certificate_that_holds_no_message_is_let_in),
        cmocka_unit_test(put_again_waits_anew),
        cmocka_unit_test(long_upload_keeps_its_first_blocks),
        cmocka_unit_test(part_waits_as_long_as_its_certificate_is_told),
        cmocka_unit_test(block_that_another_puts_too_waits_for_both),
        cmocka_unit_test(restart_forgets_no_name),
        cmocka_unit_test(restart_with_too_many_names_drops_nothing),
        cmocka_unit_test(name_is_written_down_though_the_disk_is_low),
        cmocka_unit_test(account_is_held_to_its_quota),
        cmocka_unit_test(restored_part_goes_with_its_age),
        cmocka_unit_test(old_objects_make_room_in_the_quota),
    };
    return cmocka_run_group_tests_name("objects", tests, start_crypto, NULL);
}
