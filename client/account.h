/* client/account.h - an account's secrets: the key that signs, and every seal key that messages were sealed to.
 *
 * The key file's secret (crypto/keyfile.h, purpose ACCOUNT; its public part is the account's key):
 *   u16 version 1 | 32 Ed25519 seed | u16 count | count x (u32 epoch | 32 X25519 secret key), epochs ascending
 *
 * A rotation writes the new seal key into the file before the chain hears of it, so that no message can arrive for a
 * key that was lost; one that the chain then refused stays there, unused, beside the next of the same epoch.
 *
 * Thread: no state. Secret: ch_account_wipe after use. Errors: crypto/keyfile.h's; CH_ERR_CORRUPT for a file that opens
 * but holds something else.
 */
#ifndef CHAPPE_CLIENT_ACCOUNT_H
#define CHAPPE_CLIENT_ACCOUNT_H

#include "crypto/keyfile.h"
#include "crypto/seal.h"

#define CH_ACCOUNT_SEAL_KEYS_MAX 400

struct ch_account_keys {
    struct ch_sign_key sign;
    uint32_t seal_count; /* 1.. */
    struct ch_seal_epoch_key seal[CH_ACCOUNT_SEAL_KEYS_MAX];
};

/* A new account: a signing key and the seal key of epoch 0. */
void ch_account_new(struct ch_account_keys *account);
/* One more seal key, for `epoch`. CH_ERR_FULL: there are CH_ACCOUNT_SEAL_KEYS_MAX. */
CH_MUST_CHECK ch_err ch_account_add_seal_key(struct ch_account_keys *account, uint32_t epoch);
/* The newest, which a registration or rotation names. */
const struct ch_seal_epoch_key *ch_account_seal_key(const struct ch_account_keys *account);
void ch_account_wipe(struct ch_account_keys *account);

CH_MUST_CHECK ch_err ch_account_save(const struct ch_account_keys *account, const char *path,
                                     const struct ch_passphrase *passphrase, bool replace);
CH_MUST_CHECK ch_err ch_account_load(const char *path, const struct ch_passphrase *passphrase,
                                     struct ch_account_keys *account);

#endif
