#include "client/account.h"

#include "base/bytes.h"

#define VERSION        1
#define SEAL_KEY_BYTES (4 + 32)
#define BYTES_MAX      (2 + CH_SIGN_SEED_BYTES + 2 + CH_ACCOUNT_SEAL_KEYS_MAX * SEAL_KEY_BYTES)

_Static_assert(BYTES_MAX <= CH_KEYFILE_SECRET_BYTES_MAX, "an account fits its key file");

void ch_account_new(struct ch_account_keys *account)
{
    memset(account, 0, sizeof *account);
    ch_sign_key_new(&account->sign);
    CH_ASSERT(ch_account_add_seal_key(account, 0) == CH_OK);
}

ch_err ch_account_add_seal_key(struct ch_account_keys *account, uint32_t epoch)
{
    if (account->seal_count == CH_ACCOUNT_SEAL_KEYS_MAX)
        return CH_ERR_FULL;
    struct ch_seal_epoch_key *added = &account->seal[account->seal_count++];
    added->epoch = epoch;
    ch_seal_key_new(&added->key);
    return CH_OK;
}

const struct ch_seal_epoch_key *ch_account_seal_key(const struct ch_account_keys *account)
{
    return &account->seal[account->seal_count - 1];
}

void ch_account_wipe(struct ch_account_keys *account)
{
    ch_wipe(account, sizeof *account);
}

ch_err ch_account_save(const struct ch_account_keys *account, const char *path, const struct ch_passphrase *passphrase,
                       bool replace)
{
    uint8_t secret[BYTES_MAX];
    struct ch_writer w = ch_writer(secret, sizeof secret);
    ch_write16(&w, VERSION);
    ch_write(&w, account->sign.seed, CH_SIGN_SEED_BYTES);
    ch_write16(&w, (uint16_t)account->seal_count);
    for (uint32_t i = 0; i < account->seal_count; i++) {
        ch_write32(&w, account->seal[i].epoch);
        ch_write(&w, account->seal[i].key.secret_key, 32);
    }
    CH_ASSERT(!w.bad);
    ch_err err =
        ch_keyfile_write(path, CH_KEYFILE_ACCOUNT, account->sign.public_key, secret, w.used, passphrase, replace);
    ch_wipe(secret, sizeof secret);
    return err;
}

static ch_err decode(const uint8_t *secret, size_t length, struct ch_account_keys *account)
{
    struct ch_reader r = ch_reader(secret, length);
    uint16_t version = ch_read16(&r);
    const uint8_t *seed = ch_read(&r, CH_SIGN_SEED_BYTES);
    uint16_t count = ch_read16(&r);
    if (r.bad || version != VERSION || count < 1 || count > CH_ACCOUNT_SEAL_KEYS_MAX ||
        r.left != count * (size_t)SEAL_KEY_BYTES)
        return CH_ERR_CORRUPT;
    memset(account, 0, sizeof *account);
    ch_sign_key_from_seed(seed, &account->sign);
    account->seal_count = count;
    for (uint32_t i = 0; i < count; i++) {
        account->seal[i].epoch = ch_read32(&r);
        ch_seal_key_from_secret(ch_read(&r, 32), &account->seal[i].key);
    }
    return CH_OK;
}

ch_err ch_account_load(const char *path, const struct ch_passphrase *passphrase, struct ch_account_keys *account)
{
    uint8_t secret[BYTES_MAX];
    size_t length;
    ch_err err = ch_keyfile_read(path, CH_KEYFILE_ACCOUNT, passphrase, secret, sizeof secret, &length);
    if (err == CH_OK)
        err = decode(secret, length, account);
    ch_wipe(secret, sizeof secret);
    return err;
}
