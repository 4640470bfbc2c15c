#include "base/hex.h"
#include "base/time.h"
#include "crypto/keyfile.h"
#include "node/genesis_file.h"
#include "node/log.h"
#include "node/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_BYTES_MAX 1024

static ch_err say(char why[CH_NODE_WHY_BYTES], ch_err err, const char *folder, const char *name)
{
    snprintf(why, CH_NODE_WHY_BYTES, "%s/%s: %s", folder, name, ch_err_text(err));
    return err;
}

static ch_err write_key(const struct ch_node_init *init, const char *name, enum ch_keyfile_purpose purpose,
                        const uint8_t public_part[32], const uint8_t secret[32], const struct ch_passphrase *passphrase,
                        char why[CH_NODE_WHY_BYTES])
{
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/%s", init->folder, name);
    ch_err err = ch_keyfile_write(path, purpose, public_part, secret, 32, passphrase, false);
    return err == CH_OK ? CH_OK : say(why, err, init->folder, name);
}

static ch_err write_genesis(struct ch_node_init *init, uint8_t chain_id[CH_HASH_BYTES], char why[CH_NODE_WHY_BYTES])
{
    char path[PATH_BYTES_MAX];
    uint8_t *bytes = malloc(CH_GENESIS_BYTES_MAX);
    size_t length = bytes ? ch_genesis_encode(&init->genesis, bytes) : 0;
    ch_err err = bytes ? CH_OK : CH_ERR_NO_MEMORY;
    snprintf(path, sizeof path, "%s/chain.genesis", init->folder);
    if (err == CH_OK && !length) {
        snprintf(why, CH_NODE_WHY_BYTES,
                 "no genesis can be made of that: its name is empty, a number out of its range, or a "
                 "key named twice");
        free(bytes);
        return CH_ERR_INVALID;
    }
    if (err == CH_OK) {
        ch_genesis_chain_id(bytes, length, chain_id);
        FILE *file = fopen(path, "wxe");
        if (!file)
            err = errno == EEXIST ? CH_ERR_EXISTS : CH_ERR_IO;
        else {
            bool written = fwrite(bytes, 1, length, file) == length;
            if (fclose(file) != 0 || !written)
                err = CH_ERR_IO;
        }
    }
    free(bytes);
    return err == CH_OK ? CH_OK : say(why, err, init->folder, "chain.genesis");
}

/* The validator's key of this folder, made with its master key where there is none yet. */
static ch_err folder_key(const struct ch_node_init *init, const struct ch_passphrase *passphrase,
                         struct ch_sign_key *key, bool *made, char why[CH_NODE_WHY_BYTES])
{
    char path[PATH_BYTES_MAX];
    uint8_t seed[CH_SIGN_SEED_BYTES], master[32];
    static const uint8_t nothing[32];
    size_t length = 0;
    snprintf(path, sizeof path, "%s/validator.key", init->folder);
    ch_err err = ch_keyfile_read(path, CH_KEYFILE_VALIDATOR, passphrase, seed, sizeof seed, &length);
    *made = err == CH_ERR_NOT_FOUND;
    if (*made) {
        ch_sign_key_new(key);
        ch_random(master, sizeof master);
        err = write_key(init, "validator.key", CH_KEYFILE_VALIDATOR, key->public_key, key->seed, passphrase, why);
        if (err == CH_OK)
            err = write_key(init, "master.key", CH_KEYFILE_MASTER, nothing, master, passphrase, why);
        ch_wipe(master, sizeof master);
        return err;
    }
    if (err != CH_OK || length != sizeof seed)
        return say(why, err == CH_OK ? CH_ERR_INVALID : err, init->folder, "validator.key");
    ch_sign_key_from_seed(seed, key);
    ch_wipe(seed, sizeof seed);
    return CH_OK;
}

/* The validator that a genesis with a committee names: made before it was written, in this folder. Where there is none
 * yet, it is made now and its key told, to be put into the genesis. */
static ch_err committee_key(const struct ch_node_init *init, const struct ch_passphrase *passphrase,
                            struct ch_sign_key *key, char why[CH_NODE_WHY_BYTES])
{
    char hex[65];
    bool made = false;
    ch_err err = folder_key(init, passphrase, key, &made, why);
    if (err != CH_OK)
        return err;
    for (uint16_t i = 0; i < init->genesis.validator_count; i++)
        if (memcmp(init->genesis.validators[i].key, key->public_key, 32) == 0)
            return CH_OK;
    snprintf(why, CH_NODE_WHY_BYTES,
             "%s is %s: the genesis names no validator with this key; name it there and run init again",
             made ? "the new validator.key" : "validator.key", ch_hex_write(key->public_key, 32, hex));
    return CH_ERR_INVALID;
}

/* The folder, and what wraps its keys. */
static ch_err prepare(const struct ch_node_init *init, struct ch_passphrase *passphrase, char why[CH_NODE_WHY_BYTES])
{
    if (mkdir(init->folder, 0700) != 0 && errno != EEXIST) {
        snprintf(why, CH_NODE_WHY_BYTES, "can't make the folder \"%.200s\": %s", init->folder, strerror(errno));
        return CH_ERR_IO;
    }
    ch_err err = ch_sign_init();
    if (err == CH_OK && !init->plain_keys)
        err = ch_passphrase_get(init->passphrase_file, "chappe-passphrase", "Passphrase for the validator's keys: ",
                                true, passphrase);
    if (err == CH_ERR_NOT_FOUND) {
        if (init->passphrase_file)
            snprintf(why, CH_NODE_WHY_BYTES, "no passphrase file %.300s", init->passphrase_file);
        else
            snprintf(why, CH_NODE_WHY_BYTES, "no passphrase for the keys: give --passphrase-file, or --plain-keys");
        return CH_ERR_BAD_PASSPHRASE;
    }
    return err == CH_OK ? CH_OK : say(why, err, init->folder, "passphrase");
}

ch_err ch_node_init_key(struct ch_node_init *init, char why[CH_NODE_WHY_BYTES])
{
    struct ch_sign_key key;
    struct ch_passphrase passphrase = {.length = 0};
    bool made;
    ch_err err = prepare(init, &passphrase, why);
    if (err == CH_OK && (err = folder_key(init, &passphrase, &key, &made, why)) == CH_OK)
        memcpy(init->validator_key, key.public_key, 32);
    ch_wipe(&key, sizeof key);
    ch_wipe(&passphrase, sizeof passphrase);
    return err;
}

ch_err ch_node_init(struct ch_node_init *init, uint8_t chain_id[CH_HASH_BYTES], char why[CH_NODE_WHY_BYTES])
{
    struct ch_sign_key validator, registrar;
    struct ch_passphrase passphrase = {.length = 0};
    uint8_t master[32], nothing[32] = {0};
    char path[PATH_BYTES_MAX];
    ch_err err = ch_config_check(&init->config, why, CH_NODE_WHY_BYTES);
    if (err == CH_OK)
        err = ch_genesis_check_keys(&init->genesis, why, CH_NODE_WHY_BYTES);
    if (err == CH_OK)
        err = prepare(init, &passphrase, why);
    if (err != CH_OK)
        return err;
    ch_sign_key_new(&validator);
    ch_sign_key_new(&registrar);
    ch_random(master, sizeof master);
    struct ch_genesis *genesis = &init->genesis;
    bool committee_given = genesis->validator_count > 0;
    if (committee_given) {
        err = committee_key(init, &passphrase, &validator, why);
    } else {
        genesis->validator_count = 1;
        memcpy(genesis->validators[0].key, validator.public_key, 32);
        genesis->validators[0].stake = 1;
        snprintf(genesis->validators[0].address, sizeof genesis->validators[0].address, "%s", init->address);
    }
    if (!genesis->start_ms)
        genesis->start_ms = ch_time_unix_ms();
    bool own_registrar = genesis->registrar_count == 0;
    if (own_registrar)
        memcpy(genesis->registrars[genesis->registrar_count++], registrar.public_key, 32);
    if (err == CH_OK)
        err = write_genesis(init, chain_id, why);
    if (err == CH_OK && !committee_given)
        err = write_key(init, "validator.key", CH_KEYFILE_VALIDATOR, validator.public_key, validator.seed, &passphrase,
                        why);
    if (err == CH_OK && !committee_given)
        err = write_key(init, "master.key", CH_KEYFILE_MASTER, nothing, master, &passphrase, why);
    if (err == CH_OK && own_registrar)
        err = write_key(init, "registrar.key", CH_KEYFILE_REGISTRAR, registrar.public_key, registrar.seed, &passphrase,
                        why);
    snprintf(path, sizeof path, "%s/chappe.yaml", init->folder);
    if (err == CH_OK && (err = ch_config_write(path, &init->config)) != CH_OK)
        say(why, err, init->folder, "chappe.yaml");
    if (err == CH_OK) {
        struct ch_committee committee;
        ch_committee_from_genesis(genesis, chain_id, &committee);
        const struct ch_wal_options wal = {.segment_bytes = (uint32_t)(init->config.store_log_segment_mib << 20)};
        err = ch_log_create(init->folder, &committee, &wal, true);
        if (err != CH_OK)
            say(why, err, init->folder, "wal");
    }
    memcpy(init->validator_key, validator.public_key, 32);
    ch_wipe(&validator, sizeof validator);
    ch_wipe(&registrar, sizeof registrar);
    ch_wipe(&passphrase, sizeof passphrase);
    ch_wipe(master, sizeof master);
    return err;
}
