#include <intel-ipsec-mb.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/cpu.h"
#include "store/object_impl.h"

/* A record being opened. */
struct opening {
    const struct object_key *key;
    const uint8_t *record_start;
    const struct record *record;
    uint8_t *plain;
    size_t opened;
    bool hashes;
    struct ch_hash hash;
    struct gcm_context_data gcm;
};

struct object_crypt {
    IMB_MGR *mgr; /* NULL where the CPU has no AES */
    struct opening opening;
};

struct object_key {
    struct gcm_key_data gcm;
    uint8_t xchacha[crypto_aead_xchacha20poly1305_ietf_KEYBYTES];
    enum ch_object_cipher cipher;
};

ch_err object_crypt_open(struct object_crypt **out)
{
    struct object_crypt *crypt = calloc(1, sizeof *crypt);
    if (!crypt)
        return CH_ERR_NO_MEMORY;
    if (sodium_init() < 0) {
        free(crypt);
        return CH_ERR_UNSUPPORTED;
    }
    if (object_cipher_here(CH_OBJECT_AES_256_GCM)) {
        crypt->mgr = alloc_mb_mgr(0);
        if (!crypt->mgr) {
            free(crypt);
            return CH_ERR_NO_MEMORY;
        }
        init_mb_mgr_auto(crypt->mgr, NULL);
    }
    *out = crypt;
    return CH_OK;
}

void object_crypt_close(struct object_crypt *crypt)
{
    if (!crypt)
        return;
    if (crypt->mgr)
        free_mb_mgr(crypt->mgr);
    free(crypt);
}

bool object_cipher_here(enum ch_object_cipher cipher)
{
    return cipher == CH_OBJECT_XCHACHA20_POLY1305 ||
           (cipher == CH_OBJECT_AES_256_GCM && ch_cpu_features() & CH_CPU_AES);
}

ch_err object_key_new(struct object_key **out)
{
    struct object_key *key = aligned_alloc(64, round_up(sizeof *key, 64));
    if (!key)
        return CH_ERR_NO_MEMORY;
    *out = key;
    return CH_OK;
}

void object_key_free(struct object_key *key)
{
    if (!key)
        return;
    sodium_memzero(key, sizeof *key);
    free(key);
}

void object_key_derive(struct object_crypt *crypt, const uint8_t *master_key, const struct slot *slot,
                       uint32_t incarnation, struct object_key *key)
{
    static const char domain[] = "chappe/object/segment/1";
    crypto_generichash_state state;
    uint8_t numbers[12], bytes[32];
    ch_store32(numbers, slot->cipher);
    ch_store32(numbers + 4, slot->segment);
    ch_store32(numbers + 8, incarnation);
    crypto_generichash_init(&state, master_key, CH_OBJECT_KEY_BYTES, sizeof bytes);
    crypto_generichash_update(&state, (const uint8_t *)domain, sizeof domain);
    crypto_generichash_update(&state, numbers, sizeof numbers);
    crypto_generichash_update(&state, slot->salt, SALT_BYTES);
    crypto_generichash_final(&state, bytes, sizeof bytes);
    key->cipher = slot->cipher;
    if (key->cipher == CH_OBJECT_AES_256_GCM)
        IMB_AES256_GCM_PRE(crypt->mgr, bytes, &key->gcm);
    else
        memcpy(key->xchacha, bytes, sizeof bytes);
    sodium_memzero(bytes, sizeof bytes);
    sodium_memzero(&state, sizeof state);
}

uint64_t object_counter_start(void)
{
    uint64_t start;
    randombytes_buf(&start, sizeof start);
    return start >> 1; /* it never comes to its end */
}

/* A key belongs to one incarnation of one segment, and its counter only counts up: no nonce comes twice. */
static void nonce_of(const struct record *record, uint8_t *nonce, size_t bytes)
{
    memset(nonce, 0, bytes);
    ch_store64(nonce + bytes - 8, record->counter);
}

void object_record_seal(struct object_crypt *crypt, const struct object_key *key, const struct record *record,
                        const void *plain, uint8_t *to)
{
    uint8_t *cipher = to + RECORD_HEADER_BYTES, *tag = cipher + record->length;
    uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES];
    object_record_write(to, record);
    if (key->cipher == CH_OBJECT_AES_256_GCM) {
        struct gcm_context_data context;
        nonce_of(record, nonce, 12);
        IMB_AES256_GCM_ENC(crypt->mgr, &key->gcm, &context, cipher, plain, record->length, nonce, to + 8,
                           RECORD_HEADER_BYTES - 8, tag, TAG_BYTES);
    } else {
        nonce_of(record, nonce, sizeof nonce);
        crypto_aead_xchacha20poly1305_ietf_encrypt_detached(cipher, tag, NULL, plain, record->length, to + 8,
                                                            RECORD_HEADER_BYTES - 8, NULL, nonce, key->xchacha);
    }
    uint32_t used = RECORD_HEADER_BYTES + record->length + TAG_BYTES;
    memset(to + used, 0, record_bytes(record->length) - used);
}

void object_open_begin(struct object_crypt *crypt, const struct object_key *key, const uint8_t *record_start,
                       const struct record *record, void *plain, bool check_cid)
{
    struct opening *o = &crypt->opening;
    o->key = key;
    o->record_start = record_start;
    o->record = record;
    o->plain = plain;
    o->opened = 0;
    o->hashes = check_cid && !object_is_name(record->cid.bytes);
    ch_hash_init(&o->hash);
    if (key->cipher == CH_OBJECT_AES_256_GCM) {
        uint8_t nonce[12];
        nonce_of(record, nonce, sizeof nonce);
        IMB_AES256_GCM_INIT(crypt->mgr, &key->gcm, &o->gcm, nonce, record_start + 8, RECORD_HEADER_BYTES - 8);
    }
}

void object_open_until(struct object_crypt *crypt, size_t length)
{
    struct opening *o = &crypt->opening;
    if (o->key->cipher != CH_OBJECT_AES_256_GCM) /* libsodium opens it whole, at the end */
        return;
    size_t until = length < o->record->length ? length : o->record->length, from = o->opened;
    if (until <= from)
        return;
    IMB_AES256_GCM_DEC_UPDATE(crypt->mgr, &o->key->gcm, &o->gcm, o->plain + from,
                              o->record_start + RECORD_HEADER_BYTES + from, until - from);
    if (o->hashes)
        ch_hash_add(&o->hash, o->plain + from, until - from);
    o->opened = until;
}

bool object_open_end(struct object_crypt *crypt)
{
    struct opening *o = &crypt->opening;
    const uint8_t *cipher = o->record_start + RECORD_HEADER_BYTES, *tag = cipher + o->record->length;
    uint8_t digest[CH_HASH_BYTES];
    if (o->key->cipher == CH_OBJECT_AES_256_GCM) {
        uint8_t expected[TAG_BYTES];
        object_open_until(crypt, o->record->length);
        IMB_AES256_GCM_DEC_FINALIZE(crypt->mgr, &o->key->gcm, &o->gcm, expected, TAG_BYTES);
        if (sodium_memcmp(tag, expected, TAG_BYTES) != 0)
            return false;
    } else {
        uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES];
        nonce_of(o->record, nonce, sizeof nonce);
        if (crypto_aead_xchacha20poly1305_ietf_decrypt_detached(o->plain, NULL, cipher, o->record->length, tag,
                                                                o->record_start + 8, RECORD_HEADER_BYTES - 8, nonce,
                                                                o->key->xchacha) != 0)
            return false;
        if (o->hashes)
            ch_hash_add(&o->hash, o->plain, o->record->length);
    }
    ch_hash_end(&o->hash, digest);
    return !o->hashes || memcmp(digest, ch_cid_digest(&o->record->cid), CH_HASH_BYTES) == 0;
}
