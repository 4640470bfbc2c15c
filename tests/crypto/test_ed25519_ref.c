/* The reference alone, against RFC 8032 and libsodium. What ZIP-215 adds is in test_ed25519_torsion.c and in
 * test_ed25519_vectors.c, for the reference and the kernels alike. */
#include "crypto/ed25519.h"
#include "tests/test.h"

#include <sodium.h>

static const struct {
    const char *seed, *key, *message, *signature;
} rfc8032[] = {
    /* 7.1, TEST 1 */
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe246"
     "55141438e7a100b"},
    /* TEST 2 */
    {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb"
     "00d291612bb0c00"},
    /* TEST 3 */
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc"
     "027beceea1ec40a"},
    /* TEST SHA(abc) */
    {"833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
     "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
     "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e"
     "2a9ac94fa54ca49f",
     "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad"
     "9bef1177331a704"},
};

static size_t from_hex(uint8_t *to, size_t capacity, const char *hex)
{
    size_t length = 0;
    assert_int_equal(sodium_hex2bin(to, capacity, hex, strlen(hex), NULL, &length, NULL), 0);
    return length;
}

static bool verify(const uint8_t *key, const uint8_t *signature, const uint8_t *message, size_t length)
{
    return ch_ed25519_verify_reference(&(struct ch_ed25519_item){
        .key = key, .signature = signature, .message = message, .message_length = (uint32_t)length});
}

static void rfc8032_vectors_are_valid(void **state)
{
    for (size_t i = 0; i < sizeof rfc8032 / sizeof *rfc8032; i++) {
        uint8_t seed[32], key[32], signature[64], message[64], sodium_key[32], secret[64], sodium_signature[64];
        from_hex(seed, 32, rfc8032[i].seed);
        from_hex(key, 32, rfc8032[i].key);
        from_hex(signature, 64, rfc8032[i].signature);
        size_t length = from_hex(message, sizeof message, rfc8032[i].message);
        crypto_sign_seed_keypair(sodium_key, secret, seed);
        crypto_sign_detached(sodium_signature, NULL, message, length, secret);
        assert_memory_equal(key, sodium_key, 32);
        assert_memory_equal(signature, sodium_signature, 64);
        assert_true(verify(key, signature, message, length));
        assert_false(verify(key, signature, message, length ? length - 1 : 64));
    }
}

/* Every bit of a signature and of a key, flipped: for honest keys libsodium and ZIP-215 agree. */
static void one_flipped_bit_is_invalid(void **state)
{
    uint8_t seed[32], key[32], secret[64], signature[64], message[40];
    struct ch_prng g;
    ch_prng_seed(&g, test_seed());
    test_random_bytes(&g, seed, sizeof seed);
    test_random_bytes(&g, message, sizeof message);
    crypto_sign_seed_keypair(key, secret, seed);
    crypto_sign_detached(signature, NULL, message, sizeof message, secret);
    assert_true(verify(key, signature, message, sizeof message));
    for (int bit = 0; bit < 512; bit++) {
        signature[bit / 8] ^= 1 << bit % 8;
        assert_false(verify(key, signature, message, sizeof message));
        signature[bit / 8] ^= 1 << bit % 8;
    }
    for (int bit = 0; bit < 256; bit++) {
        key[bit / 8] ^= 1 << bit % 8;
        assert_false(verify(key, signature, message, sizeof message));
        key[bit / 8] ^= 1 << bit % 8;
    }
}

static void honest_signatures_of_any_length_are_valid(void **state)
{
    static uint8_t message[1000];
    struct ch_prng g;
    ch_prng_seed(&g, test_seed() + 1);
    for (int i = 0; i < (test_full() ? 20000 : 1000); i++) {
        uint8_t seed[32], key[32], secret[64], signature[64];
        size_t length = ch_prng_below(&g, sizeof message + 1);
        test_random_bytes(&g, seed, sizeof seed);
        test_random_bytes(&g, message, length);
        crypto_sign_seed_keypair(key, secret, seed);
        crypto_sign_detached(signature, NULL, message, length, secret);
        assert_true(verify(key, signature, message, length));
    }
}

static void the_prefix_comes_before_the_message(void **state)
{
    uint8_t seed[32] = {7}, key[32], secret[64], signature[64];
    uint8_t text[20] = "prefix and a message";
    crypto_sign_seed_keypair(key, secret, seed);
    crypto_sign_detached(signature, NULL, text, sizeof text, secret);
    for (uint32_t cut = 0; cut <= sizeof text; cut++) {
        struct ch_ed25519_item item = {.key = key,
                                       .signature = signature,
                                       .prefix = text,
                                       .prefix_length = cut,
                                       .message = text + cut,
                                       .message_length = sizeof text - cut};
        assert_true(ch_ed25519_verify_reference(&item));
        item.prefix = text + cut;
        item.prefix_length = sizeof text - cut;
        item.message = text;
        item.message_length = cut;
        assert_int_equal(ch_ed25519_verify_reference(&item), cut == 0 || cut == sizeof text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc8032_vectors_are_valid),
        cmocka_unit_test(one_flipped_bit_is_invalid),
        cmocka_unit_test(honest_signatures_of_any_length_are_valid),
        cmocka_unit_test(the_prefix_comes_before_the_message),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
