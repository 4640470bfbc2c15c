#include "tests/test.h"

#include "crypto/seal.h"

#include <sodium.h>

static struct ch_prng prng;
static struct ch_seal_epoch_key keys[3]; /* epochs 0, 4, 4 */

static struct ch_envelope text(const char *words)
{
    return (struct ch_envelope){.written_ms = 1700000000123,
                                .type = CH_ENVELOPE_TEXT,
                                .content = (const uint8_t *)words,
                                .content_length = strlen(words)};
}

static void inline_comes_back(void **state)
{
    uint8_t sealed[978], plain[978], commitment[32];
    size_t length;
    struct ch_envelope in = text("Ligne de Lille, trois heures"), out;
    in.name = (const uint8_t *)"n";
    in.name_length = 1;
    for (int i = 0; i < 3; i++) {
        assert_ok(
            ch_seal_inline(keys[i].key.public_key, keys[i].epoch, &in, sealed, sizeof sealed, &length, commitment));
        assert_int_equal(length, CH_SEAL_INLINE_EXTRA_BYTES + 1 + in.content_length);
        assert_int_equal(sealed[0], 0);
        assert_int_equal(ch_load32(sealed + 1), keys[i].epoch);
        assert_null(memmem(sealed, length, "Lille", 5));
        assert_int_equal(ch_open_inline(keys, 3, sealed, length, commitment, plain, &out), CH_SEAL_OK);
        assert_int_equal(out.written_ms, in.written_ms);
        assert_int_equal(out.type, CH_ENVELOPE_TEXT);
        assert_int_equal(out.name_length, 1);
        assert_int_equal(out.content_length, in.content_length);
        assert_memory_equal(out.content, in.content, in.content_length);
    }
}

static void inline_too_long_refused(void **state)
{
    uint8_t sealed[978], commitment[32];
    static char words[1000];
    size_t length;
    memset(words, 'x', 978 - CH_SEAL_INLINE_EXTRA_BYTES);
    struct ch_envelope in = text(words);
    assert_ok(ch_seal_inline(keys[0].key.public_key, 0, &in, sealed, sizeof sealed, &length, commitment));
    assert_int_equal(length, sizeof sealed);
    in.content_length++;
    assert_int_equal(ch_seal_inline(keys[0].key.public_key, 0, &in, sealed, sizeof sealed, &length, commitment),
                     CH_ERR_FULL);
    uint8_t weak[32] = {0};
    assert_int_equal(ch_seal_inline(weak, 0, &in, sealed, sizeof sealed, &length, commitment), CH_ERR_INVALID);
}

static void inline_damaged_or_cut_refused(void **state)
{
    uint8_t sealed[978], bad[978], plain[978], commitment[32];
    size_t length;
    struct ch_envelope in = text("quarante-deux"), out;
    assert_ok(ch_seal_inline(keys[0].key.public_key, 0, &in, sealed, sizeof sealed, &length, commitment));
    for (size_t i = 0; i < length; i++) {
        assert_int_not_equal(ch_open_inline(keys, 3, sealed, i, commitment, plain, &out), CH_SEAL_OK);
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(bad, sealed, length);
            bad[i] ^= (uint8_t)(1u << bit);
            assert_int_not_equal(ch_open_inline(keys, 3, bad, length, commitment, plain, &out), CH_SEAL_OK);
        }
    }
    bad[0] = 9;
    assert_int_equal(ch_open_inline(keys, 3, bad, length, commitment, plain, &out), CH_SEAL_UNKNOWN_SUITE);
    assert_int_equal(ch_open_inline(keys + 1, 2, sealed, length, commitment, plain, &out), CH_SEAL_NO_KEY);
    commitment[31] ^= 1;
    assert_int_equal(ch_open_inline(keys, 3, sealed, length, commitment, plain, &out), CH_SEAL_BAD_COMMITMENT);
}

struct buffer {
    uint8_t *bytes;
    size_t used, capacity;
    bool refuse;
};

static ch_err into_buffer(void *context, const uint8_t *bytes, size_t length)
{
    struct buffer *b = context;
    if (b->refuse)
        return CH_ERR_NO_SPACE;
    assert_true(b->used + length <= b->capacity);
    if (length)
        memcpy(b->bytes + b->used, bytes, length);
    b->used += length;
    return CH_OK;
}

static struct buffer buffer_new(size_t capacity)
{
    return (struct buffer){.bytes = test_malloc(capacity ? capacity : 1), .capacity = capacity};
}

/* An object of random content, sealed in pieces of random sizes; the caller frees. */
static struct buffer seal_object(const struct buffer *content, uint16_t name_length, uint8_t commitment[32])
{
    struct buffer object = buffer_new((size_t)ch_seal_object_bytes(name_length, content->used));
    static const uint8_t name[CH_ENVELOPE_NAME_BYTES_MAX] = "image.png";
    struct ch_envelope e = {.written_ms = 5,
                            .type = CH_ENVELOPE_FILE,
                            .name = name,
                            .name_length = name_length,
                            .content_length = content->used};
    struct ch_sealer *sealer;
    assert_ok(ch_sealer_open(keys[1].key.public_key, keys[1].epoch, &e, into_buffer, &object, &sealer));
    for (size_t at = 0; at < content->used;) {
        size_t take = 1 + ch_prng_below(&prng, 100000);
        take = take < content->used - at ? take : content->used - at;
        assert_ok(ch_sealer_add(sealer, content->bytes + at, take));
        at += take;
    }
    assert_ok(ch_sealer_end(sealer, commitment));
    ch_sealer_close(sealer);
    assert_int_equal(object.used, object.capacity);
    return object;
}

static enum ch_seal_verdict open_object(const uint8_t *object, size_t length, const uint8_t commitment[32],
                                        struct buffer *content, struct ch_opener **kept)
{
    struct ch_opener *opener;
    content->used = 0;
    assert_ok(ch_opener_open(keys, 3, into_buffer, content, &opener));
    enum ch_seal_verdict verdict = CH_SEAL_OK;
    for (size_t at = 0; at < length && verdict == CH_SEAL_OK;) {
        size_t take = 1 + ch_prng_below(&prng, 100000);
        take = take < length - at ? take : length - at;
        verdict = ch_opener_add(opener, object + at, take);
        at += take;
    }
    enum ch_seal_verdict last = ch_opener_end(opener, commitment);
    assert_true(verdict == CH_SEAL_OK || verdict == last);
    if (kept)
        *kept = opener;
    else
        ch_opener_close(opener);
    return last;
}

static void object_of_any_size_comes_back(void **state)
{
    const size_t head = 32 + 8 + 12;
    const size_t sizes[] = {0,      1,      65536 - head - 10, 65536 - head - 9, 65536 - head - 8, 2 * 65536 - head - 9,
                            300000, 1 << 21};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct buffer content = buffer_new(sizes[i]), out = buffer_new(sizes[i]);
        uint8_t commitment[32];
        test_random_bytes(&prng, content.bytes, sizes[i]);
        content.used = sizes[i];
        struct buffer object = seal_object(&content, 9, commitment);
        struct ch_opener *opener;
        assert_int_equal(open_object(object.bytes, object.used, commitment, &out, &opener), CH_SEAL_OK);
        assert_int_equal(out.used, sizes[i]);
        assert_memory_equal(out.bytes, content.bytes, sizes[i]);
        const struct ch_envelope *e = ch_opener_envelope(opener);
        assert_non_null(e);
        assert_int_equal(e->type, CH_ENVELOPE_FILE);
        assert_int_equal(e->written_ms, 5);
        assert_int_equal(e->name_length, 9);
        assert_memory_equal(e->name, "image.png", 9);
        ch_opener_close(opener);
        test_free(content.bytes);
        test_free(object.bytes);
        test_free(out.bytes);
    }
}

static void object_cut_anywhere_refused(void **state)
{
    struct buffer content = buffer_new(200), out = buffer_new(200);
    uint8_t commitment[32];
    content.used = 200;
    test_random_bytes(&prng, content.bytes, 200);
    struct buffer object = seal_object(&content, 0, commitment);
    for (size_t cut = 0; cut < object.used; cut++)
        assert_int_equal(open_object(object.bytes, cut, commitment, &out, NULL), CH_SEAL_BROKEN);
    for (size_t i = 0; i < object.used; i++) {
        object.bytes[i] ^= 0x10;
        assert_int_not_equal(open_object(object.bytes, object.used, commitment, &out, NULL), CH_SEAL_OK);
        object.bytes[i] ^= 0x10;
    }
    commitment[0] ^= 1;
    assert_int_equal(open_object(object.bytes, object.used, commitment, &out, NULL), CH_SEAL_BAD_COMMITMENT);
    test_free(content.bytes);
    test_free(object.bytes);
    test_free(out.bytes);
}

static void object_chunks_moved_dropped_or_added_refused(void **state)
{
    const size_t chunk = CH_SEAL_CHUNK_BYTES + 17, head = 5 + 80 + 24;
    struct buffer content = buffer_new(4 * 65536), out = buffer_new(5 * 65536);
    uint8_t commitment[32];
    content.used = content.capacity;
    test_random_bytes(&prng, content.bytes, content.used);
    struct buffer object = seal_object(&content, 0, commitment);
    uint8_t *bad = test_malloc(object.used + chunk);

    for (size_t i = 0; i < 4; i++) { /* cut at a chunk's end */
        assert_int_equal(open_object(object.bytes, head + i * chunk, commitment, &out, NULL), CH_SEAL_BROKEN);
        /* chunk i left out */
        memcpy(bad, object.bytes, head + i * chunk);
        memcpy(bad + head + i * chunk, object.bytes + head + (i + 1) * chunk, object.used - head - (i + 1) * chunk);
        assert_int_equal(open_object(bad, object.used - chunk, commitment, &out, NULL), CH_SEAL_BROKEN);
        /* chunk i twice */
        memcpy(bad, object.bytes, head + (i + 1) * chunk);
        memcpy(bad + head + (i + 1) * chunk, object.bytes + head + i * chunk, object.used - head - i * chunk);
        assert_int_equal(open_object(bad, object.used + chunk, commitment, &out, NULL), CH_SEAL_BROKEN);
    }
    memcpy(bad, object.bytes, object.used); /* two chunks swapped */
    memcpy(bad + head, object.bytes + head + chunk, chunk);
    memcpy(bad + head + chunk, object.bytes + head, chunk);
    assert_int_equal(open_object(bad, object.used, commitment, &out, NULL), CH_SEAL_BROKEN);
    memcpy(bad, object.bytes, object.used); /* something behind the end */
    bad[object.used] = 0;
    assert_int_equal(open_object(bad, object.used + 1, commitment, &out, NULL), CH_SEAL_BROKEN);
    test_free(bad);
    test_free(content.bytes);
    test_free(object.bytes);
    test_free(out.bytes);
}

static void sealer_that_begins_again_gives_the_same(void **state)
{
    struct buffer object = buffer_new(400000), again;
    uint8_t content[150000], first[32], second[32];
    test_random_bytes(&prng, content, sizeof content);
    struct ch_envelope e = {
        .type = CH_ENVELOPE_FILE, .name = (const uint8_t *)"x", .name_length = 1, .content_length = sizeof content};
    struct ch_sealer *sealer;
    assert_ok(ch_sealer_open(keys[1].key.public_key, 1, &e, into_buffer, &object, &sealer));
    assert_ok(ch_sealer_add(sealer, content, 70000));
    again = object;
    again.bytes = test_malloc(again.capacity);
    memcpy(again.bytes, object.bytes, object.used);
    size_t cut = object.used;
    object.used = 0;
    assert_ok(ch_sealer_again(sealer));
    assert_int_equal(ch_sealer_end(sealer, first), CH_ERR_INVALID); /* content is missing */
    assert_ok(ch_sealer_add(sealer, content, sizeof content));
    assert_int_equal(ch_sealer_add(sealer, content, 1), CH_ERR_INVALID); /* more than was said */
    assert_ok(ch_sealer_end(sealer, first));
    assert_memory_equal(object.bytes, again.bytes, cut);
    memcpy(again.bytes, object.bytes, object.used);
    object.used = 0;
    assert_ok(ch_sealer_again(sealer));
    assert_ok(ch_sealer_add(sealer, content, sizeof content));
    assert_ok(ch_sealer_end(sealer, second));
    assert_memory_equal(object.bytes, again.bytes, object.used);
    assert_memory_equal(first, second, 32);
    ch_sealer_close(sealer);
    test_free(object.bytes);
    test_free(again.bytes);
}

static void lengths_are_padded_to_few_classes(void **state)
{
    /* Nikitin et al., PETS 2019: the examples are ours, worked out by hand from algorithm 1. */
    static const uint64_t pairs[][2] = {{0, 0},
                                        {1, 1},
                                        {8, 8},
                                        {9, 10},
                                        {100, 104},
                                        {1000, 1024},
                                        {4097, 4352},
                                        {1000000, 1015808},
                                        {1 << 30, 1 << 30},
                                        {(1 << 30) + 1, (1 << 30) + (1 << 25)}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        assert_int_equal(ch_seal_padded(pairs[i][0]), pairs[i][1]);
    uint64_t classes = 0, last = 0;
    for (uint64_t length = 1; length < 1 << 20; length++) {
        uint64_t padded = ch_seal_padded(length);
        assert_true(padded >= length && padded - length <= length * 12 / 100 && padded >= last);
        assert_int_equal(ch_seal_padded(padded), padded);
        classes += padded != last;
        last = padded;
    }
    assert_true(classes < 500);
}

/* An object with whatever plaintext, and the commitment over so much of it. */
static struct buffer seal_plaintext(const uint8_t *plain, size_t length, size_t committed, uint8_t commitment[32])
{
    struct buffer object = buffer_new(5 + 80 + 24 + length + 17);
    uint8_t stream_key[32];
    crypto_secretstream_xchacha20poly1305_state stream;
    memset(object.bytes, 0, 5);
    crypto_secretstream_xchacha20poly1305_keygen(stream_key);
    crypto_box_seal(object.bytes + 5, stream_key, 32, keys[0].key.public_key);
    crypto_secretstream_xchacha20poly1305_init_push(&stream, object.bytes + 85, stream_key);
    crypto_secretstream_xchacha20poly1305_push(&stream, object.bytes + 109, NULL, plain, length, NULL, 0,
                                               crypto_secretstream_xchacha20poly1305_TAG_FINAL);
    crypto_generichash(commitment, 32, plain + 40, committed, plain, 32);
    object.used = object.capacity;
    return object;
}

static void object_with_wrong_padding_refused(void **state)
{
    uint8_t plain[600] = {0}, commitment[32];
    const size_t head = 40 + 12, content = 50 + 200; /* 302 bytes: their class is 304 */
    plain[32] = (uint8_t)content;
    plain[40] = CH_ENVELOPE_VERSION;
    plain[49] = CH_ENVELOPE_FILE;
    memset(plain + head, 7, content);
    const struct {
        size_t length;
        uint8_t last, says;
        enum ch_seal_verdict expected;
    } cases[] = {
        {304, 0, 250, CH_SEAL_OK},          {303, 0, 250, CH_SEAL_BAD_PADDING}, {302, 7, 250, CH_SEAL_BAD_PADDING},
        {305, 0, 250, CH_SEAL_BAD_PADDING}, {600, 0, 250, CH_SEAL_BAD_PADDING}, {304, 1, 250, CH_SEAL_BAD_PADDING},
        {304, 0, 255, CH_SEAL_BROKEN},      {304, 0, 249, CH_SEAL_BAD_PADDING},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer out = buffer_new(600);
        uint8_t kept = plain[cases[i].length - 1];
        plain[cases[i].length - 1] = cases[i].last;
        plain[32] = cases[i].says;
        struct buffer object = seal_plaintext(plain, cases[i].length, 12 + (size_t)cases[i].says, commitment);
        assert_int_equal(open_object(object.bytes, object.used, commitment, &out, NULL), cases[i].expected);
        plain[cases[i].length - 1] = kept;
        test_free(object.bytes);
        test_free(out.bytes);
    }
}

static void sink_that_refuses_ends_it(void **state)
{
    struct buffer content = buffer_new(100000), out = buffer_new(100000);
    uint8_t commitment[32];
    content.used = content.capacity;
    memset(content.bytes, 1, content.used);
    struct buffer object = seal_object(&content, 0, commitment);
    out.refuse = true;
    assert_int_equal(open_object(object.bytes, object.used, commitment, &out, NULL), CH_SEAL_STOPPED);
    struct ch_envelope e = text("");
    struct ch_sealer *sealer;
    assert_int_equal(ch_sealer_open(keys[0].key.public_key, 0, &e, into_buffer, &out, &sealer), CH_ERR_NO_SPACE);
    test_free(content.bytes);
    test_free(object.bytes);
    test_free(out.bytes);
}

static void name_too_long_refused(void **state)
{
    static const uint8_t name[CH_ENVELOPE_NAME_BYTES_MAX + 1];
    struct buffer out = buffer_new(4000), none = buffer_new(0), opened = buffer_new(0);
    struct ch_envelope e = {.type = CH_ENVELOPE_FILE, .name = name, .name_length = sizeof name};
    struct ch_sealer *sealer;
    uint8_t commitment[32];
    assert_int_equal(ch_sealer_open(keys[0].key.public_key, 0, &e, into_buffer, &out, &sealer), CH_ERR_INVALID);
    struct buffer object = seal_object(&none, CH_ENVELOPE_NAME_BYTES_MAX, commitment);
    assert_int_equal(open_object(object.bytes, object.used, commitment, &opened, NULL), CH_SEAL_OK);
    test_free(out.bytes);
    test_free(none.bytes);
    test_free(opened.bytes);
    test_free(object.bytes);
}

int main(void)
{
    if (ch_sign_init() != CH_OK)
        return 1;
    ch_prng_seed(&prng, test_seed());
    for (int i = 0; i < 3; i++) {
        keys[i].epoch = i ? 4 : 0;
        ch_seal_key_new(&keys[i].key);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inline_comes_back),
        cmocka_unit_test(inline_too_long_refused),
        cmocka_unit_test(inline_damaged_or_cut_refused),
        cmocka_unit_test(object_of_any_size_comes_back),
        cmocka_unit_test(object_cut_anywhere_refused),
        cmocka_unit_test(object_chunks_moved_dropped_or_added_refused),
        cmocka_unit_test(sink_that_refuses_ends_it),
        cmocka_unit_test(sealer_that_begins_again_gives_the_same),
        cmocka_unit_test(lengths_are_padded_to_few_classes),
        cmocka_unit_test(object_with_wrong_padding_refused),
        cmocka_unit_test(name_too_long_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
