#include "dataplane/x509.h"

#include <sodium.h>
#include <string.h>

#define NAME "chappe"
/* 2026-01-01T00:00:00Z: a constant, so that the certificate depends on the key alone. */
#define VALID_FROM_S 1767225600
#define VALID_TO_S   253402300799 /* 9999-12-31T23:59:59Z: "no well-defined expiration date" */

ch_err ch_x509_make(const uint8_t seed[CH_X509_SEED_BYTES], gnutls_x509_privkey_t *key, gnutls_x509_crt_t *certificate)
{
    uint8_t public_key[crypto_sign_PUBLICKEYBYTES], secret_key[crypto_sign_SECRETKEYBYTES],
        private_key[CH_X509_SEED_BYTES];
    const uint8_t serial = 1;
    gnutls_x509_privkey_t k = NULL;
    gnutls_x509_crt_t c = NULL;
    ch_err err = CH_ERR_UNSUPPORTED;

    crypto_sign_seed_keypair(public_key, secret_key, seed);
    memcpy(private_key, seed, sizeof private_key);
    gnutls_datum_t x = {public_key, sizeof public_key}, d = {private_key, sizeof private_key};
    if (gnutls_x509_privkey_init(&k) < 0 || gnutls_x509_crt_init(&c) < 0) {
        err = CH_ERR_NO_MEMORY;
        goto fail;
    }
    if (gnutls_x509_privkey_import_ecc_raw(k, GNUTLS_ECC_CURVE_ED25519, &x, NULL, &d) < 0 ||
        gnutls_x509_crt_set_version(c, 3) < 0 || gnutls_x509_crt_set_serial(c, &serial, 1) < 0 ||
        gnutls_x509_crt_set_dn_by_oid(c, GNUTLS_OID_X520_COMMON_NAME, 0, NAME, sizeof NAME - 1) < 0 ||
        gnutls_x509_crt_set_activation_time(c, VALID_FROM_S) < 0 ||
        gnutls_x509_crt_set_expiration_time(c, VALID_TO_S) < 0 || gnutls_x509_crt_set_key(c, k) < 0 ||
        gnutls_x509_crt_sign2(c, c, k, GNUTLS_DIG_SHA512, 0) < 0)
        goto fail;
    sodium_memzero(secret_key, sizeof secret_key);
    sodium_memzero(private_key, sizeof private_key);
    *key = k;
    *certificate = c;
    return CH_OK;
fail:
    sodium_memzero(secret_key, sizeof secret_key);
    sodium_memzero(private_key, sizeof private_key);
    if (k)
        gnutls_x509_privkey_deinit(k);
    if (c)
        gnutls_x509_crt_deinit(c);
    return err;
}

bool ch_x509_key(const uint8_t *der, size_t length, uint8_t key[CH_X509_KEY_BYTES])
{
    gnutls_x509_crt_t certificate;
    gnutls_datum_t bytes = {(unsigned char *)(uintptr_t)der, (unsigned int)length}, x = {0}, y = {0};
    gnutls_ecc_curve_t curve;
    bool good = false;

    if (length > UINT32_MAX || gnutls_x509_crt_init(&certificate) < 0)
        return false;
    if (gnutls_x509_crt_import(certificate, &bytes, GNUTLS_X509_FMT_DER) >= 0 &&
        gnutls_x509_crt_get_pk_algorithm(certificate, NULL) == GNUTLS_PK_EDDSA_ED25519 &&
        gnutls_x509_crt_get_pk_ecc_raw(certificate, &curve, &x, &y) >= 0 && curve == GNUTLS_ECC_CURVE_ED25519 &&
        x.size == CH_X509_KEY_BYTES && crypto_core_ed25519_is_valid_point(x.data)) {
        memcpy(key, x.data, CH_X509_KEY_BYTES);
        good = true;
    }
    gnutls_free(x.data);
    gnutls_free(y.data);
    gnutls_x509_crt_deinit(certificate);
    return good;
}
