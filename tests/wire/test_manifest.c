#include "wire/manifest.h"

#include "tests/test.h"

static uint8_t keys[CH_SHARDS_MAX * 8][CH_HASH_BYTES];

static void make_keys(uint64_t stream)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + stream);
    test_random_bytes(&g, keys, sizeof keys);
}

static struct ch_cid cid_of(uint64_t number, enum ch_cid_codec codec)
{
    struct ch_cid cid;
    ch_cid_of(codec, &number, sizeof number, &cid);
    return cid;
}

static struct ch_manifest some(unsigned validators, uint32_t length)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 1);
    struct ch_cid cid = cid_of(length, CH_CID_RAW);
    struct ch_manifest m;
    memset(&m, 0, sizeof m);
    ch_manifest_shape(&cid, length, validators, &m);
    if (m.k > 1)
        test_random_bytes(&g, m.hash, (size_t)m.n * CH_HASH_BYTES);
    return m;
}

static void shape_follows_committee_and_block(void **state)
{
    const struct {
        unsigned validators, codec, length, n, k, copies, shard_bytes;
    } cases[] = {
        {1, CH_CID_RAW, 1 << 20, 1, 1, 1, 1 << 20},     {2, CH_CID_RAW, 1 << 20, 2, 1, 2, 1 << 20},
        {3, CH_CID_RAW, 100, 3, 1, 3, 100},             {4, CH_CID_RAW, 0, 4, 1, 3, 0},
        {4, CH_CID_RAW, 16383, 4, 1, 3, 16383},         {4, CH_CID_RAW, 16384, 4, 2, 4, 8192},
        {4, CH_CID_RAW, 16385, 4, 2, 4, 8256},          {4, CH_CID_DAG_PB, 50000, 4, 1, 4, 50000},
        {7, CH_CID_RAW, 1 << 20, 7, 3, 7, 349568},      {7, CH_CID_RAW, 1000, 7, 1, 5, 1000},
        {32, CH_CID_RAW, 1 << 20, 32, 11, 32, 95360},   {33, CH_CID_RAW, 1 << 20, 32, 11, 32, 95360},
        {255, CH_CID_RAW, 1 << 20, 32, 11, 32, 95360},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ch_manifest m;
        struct ch_cid cid = cid_of(i, (enum ch_cid_codec)cases[i].codec);
        ch_manifest_shape(&cid, cases[i].length, cases[i].validators, &m);
        assert_int_equal(m.n, cases[i].n);
        assert_int_equal(m.k, cases[i].k);
        assert_int_equal(m.copies, cases[i].copies);
        assert_int_equal(m.shard_bytes, cases[i].shard_bytes);
        for (unsigned v = 0; m.k == 1 && v < m.n; v++)
            assert_memory_equal(m.hash[v], ch_cid_digest(&cid), CH_HASH_BYTES);
    }
}

static void every_shape_fits_its_limits(void **state)
{
    struct ch_cid raw = cid_of(1, CH_CID_RAW);
    for (unsigned n = 1; n <= 255; n++)
        for (uint32_t length = 0; length <= CH_BLOCK_BYTES_MAX; length += 4093) {
            struct ch_manifest m;
            ch_manifest_shape(&raw, length, n, &m);
            assert_true((uint64_t)m.k * m.shard_bytes >= length && m.shard_bytes <= CH_SHARD_BYTES_MAX);
            assert_true(m.k == 1 || (uint64_t)m.n * m.shard_bytes <= CH_SHARDS_ALL_BYTES_MAX);
            assert_true(m.copies <= m.n && m.copies >= 1);
            assert_true(m.copies > 2 * ch_faults_max(m.n)); /* f down, f lying: one is left */
        }
}

static void written_is_read_back(void **state)
{
    const uint32_t lengths[] = {0, 1, 16383, 16384, 65536, CH_BLOCK_BYTES_MAX};
    for (unsigned n = 1; n <= 40; n++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            uint8_t bytes[CH_MANIFEST_BYTES_MAX], again[CH_MANIFEST_BYTES_MAX];
            struct ch_manifest m = some(n, lengths[i]), read;
            size_t length = ch_manifest_write(&m, bytes);
            assert_true(ch_manifest_read(bytes, length, n, &read));
            assert_int_equal(ch_manifest_write(&read, again), length);
            assert_memory_equal(bytes, again, length);
        }
}

static void anything_else_is_refused(void **state)
{
    uint8_t bytes[CH_MANIFEST_BYTES_MAX + 1];
    struct ch_manifest m = some(4, 100000), read;
    size_t length = ch_manifest_write(&m, bytes);
    bytes[length] = 0;
    assert_false(ch_manifest_read(bytes, length + 1, 4, &read));
    for (size_t cut = 0; cut < length; cut++)
        assert_false(ch_manifest_read(bytes, cut, 4, &read));
    assert_false(ch_manifest_read(bytes, length, 5, &read)); /* another committee's */
    unsigned refused = 0;
    for (size_t bit = 0; bit < CH_MANIFEST_HEAD_BYTES * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        refused += !ch_manifest_read(bytes, length, 4, &read);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    /* but for bits of the CID's digest, and of a length that pads to the same shards: the last seven bits of it */
    assert_true(refused >= CH_MANIFEST_HEAD_BYTES * 8 - CH_HASH_BYTES * 8 - 7);
}

static void digest_names_every_byte(void **state)
{
    uint8_t first[CH_HASH_BYTES], other[CH_HASH_BYTES];
    struct ch_manifest m = some(4, 100000);
    ch_manifest_digest(&m, first);
    m.hash[3][31] ^= 1;
    ch_manifest_digest(&m, other);
    assert_memory_not_equal(first, other, CH_HASH_BYTES);
}

static void placement_names_each_holder_once(void **state)
{
    make_keys(2);
    for (unsigned n = 1; n <= 255; n += n < 40 ? 1 : 43) {
        struct ch_cid cid = cid_of(n, CH_CID_RAW);
        uint16_t holder[CH_SHARDS_MAX];
        unsigned count = ch_placement(&cid, (const uint8_t(*)[CH_HASH_BYTES])keys, n, holder);
        assert_int_equal(count, n < CH_SHARDS_MAX ? n : CH_SHARDS_MAX);
        bool seen[255] = {false};
        for (unsigned i = 0; i < count; i++) {
            assert_true(holder[i] < n && !seen[holder[i]]);
            seen[holder[i]] = true;
        }
    }
}

static void placement_spreads_evenly(void **state)
{
    unsigned held[100] = {0}, first[100] = {0};
    make_keys(3);
    for (uint64_t i = 0; i < 4000; i++) {
        struct ch_cid cid = cid_of(i, CH_CID_RAW);
        uint16_t holder[CH_SHARDS_MAX];
        ch_placement(&cid, (const uint8_t(*)[CH_HASH_BYTES])keys, 100, holder);
        first[holder[0]]++;
        for (unsigned k = 0; k < CH_SHARDS_MAX; k++)
            held[holder[k]]++;
    }
    for (unsigned i = 0; i < 100; i++) { /* 1280 and 40 expected; six standard deviations */
        assert_in_range(held[i], 1280 - 180, 1280 + 180);
        assert_in_range(first[i], 2, 40 + 40);
    }
}

static void a_newcomer_moves_only_its_own_shards(void **state)
{
    make_keys(4);
    unsigned moved = 0, same = 0;
    for (uint64_t i = 0; i < 500; i++) {
        struct ch_cid cid = cid_of(i, CH_CID_RAW);
        uint16_t before[CH_SHARDS_MAX], after[CH_SHARDS_MAX];
        ch_placement(&cid, (const uint8_t(*)[CH_HASH_BYTES])keys, 99, before);
        ch_placement(&cid, (const uint8_t(*)[CH_HASH_BYTES])keys, 100, after);
        unsigned k = 0; /* the old order goes on around the newcomer */
        for (unsigned at = 0; at < CH_SHARDS_MAX; at++) {
            if (after[at] == 99)
                continue;
            assert_int_equal(after[at], before[k++]);
        }
        moved += k == CH_SHARDS_MAX - 1;
        same += k == CH_SHARDS_MAX;
    }
    assert_int_equal(moved + same, 500);
    assert_in_range(moved, 100, 220); /* 160 expected */
}

static void certificate_is_read_back_and_must_ascend(void **state)
{
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 5);
    struct ch_stored s = {.cid = cid_of(9, CH_CID_RAW), .length = 1000, .count = 3, .validator = {0, 2, 3}}, read;
    uint8_t bytes[CH_STORED_BYTES_MAX], again[CH_STORED_BYTES_MAX];
    test_random_bytes(&g, s.manifest, sizeof s.manifest);
    test_random_bytes(&g, s.signature, sizeof s.signature);
    size_t length = ch_stored_write(&s, bytes);
    struct ch_reader r = ch_reader(bytes, length);
    assert_true(ch_stored_read(&r, 4, &read) && ch_reader_done(&r));
    assert_int_equal(ch_stored_write(&read, again), length);
    assert_memory_equal(bytes, again, length);
    r = ch_reader(bytes, length);
    assert_false(ch_stored_read(&r, 3, &read)); /* no validator 3 in a committee of three */
    for (size_t cut = 0; cut < length; cut++) {
        r = ch_reader(bytes, cut);
        assert_false(ch_stored_read(&r, 4, &read));
    }
    s.validator[1] = 0;
    length = ch_stored_write(&s, bytes);
    r = ch_reader(bytes, length);
    assert_false(ch_stored_read(&r, 4, &read));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shape_follows_committee_and_block),
        cmocka_unit_test(every_shape_fits_its_limits),
        cmocka_unit_test(written_is_read_back),
        cmocka_unit_test(anything_else_is_refused),
        cmocka_unit_test(digest_names_every_byte),
        cmocka_unit_test(placement_names_each_holder_once),
        cmocka_unit_test(placement_spreads_evenly),
        cmocka_unit_test(a_newcomer_moves_only_its_own_shards),
        cmocka_unit_test(certificate_is_read_back_and_must_ascend),
    };
    return cmocka_run_group_tests_name("wire/manifest", tests, NULL, NULL);
}
