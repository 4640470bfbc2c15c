/* What TLS lets in: the peer's key, our ALPN, AES-GCM, and nothing else. One side is bent by wrapping GnuTLS's calls at
 * link time. */
#include "dataplane/x509.h"
#include "quic_net.h"
#include "tests/test.h"

#include <sodium.h>

static struct net net;
static const char *priorities, *alpn;
static bool no_alpn, no_certificate;

int __real_gnutls_priority_init(gnutls_priority_t *out, const char *text, const char **error);
int __wrap_gnutls_priority_init(gnutls_priority_t *out, const char *text, const char **error);
int __real_gnutls_alpn_set_protocols(gnutls_session_t session, const gnutls_datum_t *names, unsigned int count,
                                     unsigned int flags);
int __wrap_gnutls_alpn_set_protocols(gnutls_session_t session, const gnutls_datum_t *names, unsigned int count,
                                     unsigned int flags);
int __real_gnutls_certificate_set_x509_key(gnutls_certificate_credentials_t to, gnutls_x509_crt_t *list, int count,
                                           gnutls_x509_privkey_t key);
int __wrap_gnutls_certificate_set_x509_key(gnutls_certificate_credentials_t to, gnutls_x509_crt_t *list, int count,
                                           gnutls_x509_privkey_t key);

int __wrap_gnutls_priority_init(gnutls_priority_t *out, const char *text, const char **error)
{
    return __real_gnutls_priority_init(out, priorities ? priorities : text, error);
}

int __wrap_gnutls_alpn_set_protocols(gnutls_session_t session, const gnutls_datum_t *names, unsigned int count,
                                     unsigned int flags)
{
    gnutls_datum_t other = {(unsigned char *)(uintptr_t)alpn, alpn ? (unsigned int)strlen(alpn) : 0};
    if (no_alpn)
        return 0;
    return __real_gnutls_alpn_set_protocols(session, alpn ? &other : names, count, alpn ? 0 : flags);
}

int __wrap_gnutls_certificate_set_x509_key(gnutls_certificate_credentials_t to, gnutls_x509_crt_t *list, int count,
                                           gnutls_x509_privkey_t key)
{
    return no_certificate ? 0 : __real_gnutls_certificate_set_x509_key(to, list, count, key);
}

static int start(void **state)
{
    net_init(&net, test_seed());
    priorities = alpn = NULL;
    no_alpn = no_certificate = false;
    return 0;
}

static int finish(void **state)
{
    net_close(&net);
    return 0;
}

static bool both_closed_or_connected(struct net *n)
{
    return n->ends[1].closed_count > 0 || (n->ends[0].connected && n->ends[1].connected);
}

/* A straight server, and a client made and dialled while the bends are in force. */
static void dial_bent(void)
{
    struct end *s, *c;
    const char *bent_priorities = priorities, *bent_alpn = alpn;
    bool bent_no_alpn = no_alpn, bent_no_certificate = no_certificate;
    (void)start(NULL);
    s = net_add(&net, &(struct ch_quic_options){.listen = true, .initial_rtt_ns = MS});
    priorities = bent_priorities;
    alpn = bent_alpn;
    no_alpn = bent_no_alpn;
    no_certificate = bent_no_certificate;
    c = net_add(&net, &(struct ch_quic_options){.initial_rtt_ns = MS});
    end_dial(c, s, NULL);
    priorities = alpn = NULL;
    no_alpn = no_certificate = false;
    assert_true(net_run(&net, net.now_ns + 2 * SECOND, both_closed_or_connected));
}

static void assert_refused(uint64_t code)
{
    const struct end *s = &net.ends[0], *c = &net.ends[1];
    net_run(&net, net.now_ns + 10 * SECOND, NULL);
    assert_int_equal(s->connected, 0);
    assert_int_equal(s->frames, 0);
    assert_int_equal(c->closed_count, 1);
    assert_int_equal(c->closed.end, CH_QUIC_END_PEER_TRANSPORT);
    assert_int_equal(c->closed.code, code);
    assert_int_equal(ch_quic_counters(s->engine).closed_handshake, 1);
    assert_int_equal(ch_quic_usage(s->engine).connections + ch_quic_usage(s->engine).handshakes, 0);
}

static void other_alpn_refused(void **state)
{
    alpn = "h3";
    dial_bent();
    assert_refused(0x100 + GNUTLS_A_NO_APPLICATION_PROTOCOL);
}

static void no_alpn_refused(void **state)
{
    no_alpn = true;
    dial_bent();
    const struct end *s = &net.ends[0], *c = &net.ends[1];
    net_run(&net, net.now_ns + 10 * SECOND, NULL);
    /* The client refuses as well: nothing was agreed on. */
    assert_int_equal(s->connected, 0);
    assert_int_equal(c->connected, 0);
    assert_int_equal(c->closed.end, CH_QUIC_END_TLS);
}

static void chacha20_only_refused(void **state)
{
    priorities = "NONE:+VERS-TLS1.3:+AEAD:+CHACHA20-POLY1305:+GROUP-X25519:+SIGN-EDDSA-ED25519:+CTYPE-X509";
    dial_bent();
    assert_refused(0x100 + GNUTLS_A_HANDSHAKE_FAILURE);
}

static void aes_ccm_only_refused(void **state)
{
    priorities = "NONE:+VERS-TLS1.3:+AEAD:+AES-128-CCM:+GROUP-X25519:+SIGN-EDDSA-ED25519:+CTYPE-X509";
    dial_bent();
    assert_refused(0x100 + GNUTLS_A_HANDSHAKE_FAILURE);
}

static void aes_256_only_accepted(void **state)
{
    priorities = "NONE:+VERS-TLS1.3:+AEAD:+AES-256-GCM:+GROUP-X25519:+SIGN-EDDSA-ED25519:+CTYPE-X509";
    dial_bent();
    assert_int_equal(net.ends[0].connected, 1);
}

static void client_without_certificate_refused(void **state)
{
    no_certificate = true;
    dial_bent();
    net_run(&net, net.now_ns + 10 * SECOND, NULL);
    assert_int_equal(net.ends[0].connected, 0);
    assert_int_equal(net.ends[1].closed.end, CH_QUIC_END_PEER_TRANSPORT);
    assert_in_range(net.ends[1].closed.code, 0x100, 0x1ff);
}

static size_t make_der(const uint8_t seed[32], uint8_t *der, size_t room)
{
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t certificate;
    assert_ok(ch_x509_make(seed, &key, &certificate));
    assert_int_equal(gnutls_x509_crt_export(certificate, GNUTLS_X509_FMT_DER, der, &room), 0);
    gnutls_x509_crt_deinit(certificate);
    gnutls_x509_privkey_deinit(key);
    return room;
}

static void certificate_same_for_the_same_key(void **state)
{
    uint8_t seed[32] = {1, 2, 3}, public_key[32], secret_key[64], key[32], a[1024], b[1024];
    size_t length = make_der(seed, a, sizeof a);
    assert_int_equal(make_der(seed, b, sizeof b), length);
    assert_memory_equal(a, b, length);
    crypto_sign_seed_keypair(public_key, secret_key, seed);
    assert_true(ch_x509_key(a, length, key));
    assert_memory_equal(key, public_key, 32);
}

static void certificate_of_a_weak_key_refused(void **state)
{
    /* The identity; a point of order 4; of order 8; y = p + 1, not canonical; 2^255 - 1. */
    static const uint8_t weak[5][32] = {
        {1},
        {0},
        {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
         0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
        {0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
        {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
    };
    uint8_t seed[32] = {9}, der[1024], key[32];
    size_t length = make_der(seed, der, sizeof der);
    assert_true(ch_x509_key(der, length, key));
    uint8_t *in_der = memmem(der, length, key, 32);
    assert_non_null(in_der);
    for (int i = 0; i < 5; i++) {
        memcpy(in_der, weak[i], 32);
        assert_false(ch_x509_key(der, length, key));
    }
}

static void damaged_certificate_never_harms(void **state)
{
    uint8_t seed[32] = {5}, der[1024], key[32], public_key[32];
    size_t length = make_der(seed, der, sizeof der), good = 0;
    assert_true(ch_x509_key(der, length, public_key));
    for (size_t cut = 0; cut < length; cut++) {
        uint8_t *piece = malloc(cut ? cut : 1);
        memcpy(piece, der, cut);
        assert_false(ch_x509_key(piece, cut, key));
        free(piece);
    }
    for (size_t bit = 0; bit < 8 * length; bit++) {
        der[bit / 8] ^= (uint8_t)(1u << bit % 8);
        good += ch_x509_key(der, length, key);
        der[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(good > 0); /* where only names, dates or the signature changed */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, start, finish)
        CASE(other_alpn_refused),
        CASE(no_alpn_refused),
        CASE(chacha20_only_refused),
        CASE(aes_ccm_only_refused),
        CASE(aes_256_only_accepted),
        CASE(client_without_certificate_refused),
        cmocka_unit_test(certificate_same_for_the_same_key),
        cmocka_unit_test(certificate_of_a_weak_key_refused),
        cmocka_unit_test(damaged_certificate_never_harms),
    };
    return cmocka_run_group_tests_name("dataplane/quic_tls", tests, NULL, NULL);
}
