#include <intel-ipsec-mb.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/cpu.h"
#include "store/object_impl.h"

struct object_crypt {
    IMB_MGR *mgr; /* NULL where the CPU has no AES */
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

bool object_record_open(struct object_crypt *crypt, const struct object_key *key, const uint8_t *record_start,
                        const struct record *record, void *plain)
{
    const uint8_t *cipher = record_start + RECORD_HEADER_BYTES, *tag = cipher + record->length;
    uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES], expected[TAG_BYTES];
    if (key->cipher == CH_OBJECT_AES_256_GCM) {
        struct gcm_context_data context;
        nonce_of(record, nonce, 12);
        IMB_AES256_GCM_DEC(crypt->mgr, &key->gcm, &context, plain, cipher, record->length, nonce, record_start + 8,
                           RECORD_HEADER_BYTES - 8, expected, TAG_BYTES);
        return sodium_memcmp(tag, expected, TAG_BYTES) == 0;
    }
    nonce_of(record, nonce, sizeof nonce);
    return crypto_aead_xchacha20poly1305_ietf_decrypt_detached(plain, NULL, cipher, record->length, tag,
                                                               record_start + 8, RECORD_HEADER_BYTES - 8, nonce,
                                                               key->xchacha) == 0;
}
