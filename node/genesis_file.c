#include "node/genesis_file.h"

#include "base/hex.h"
#include "crypto/sign.h"
#include "node/yaml.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMITS(X)                                                                                                      \
    X(window_back_ms)                                                                                                  \
    X(window_ahead_ms) X(window_ids) X(request_expiry_ms) X(refusal_rest_ms) X(unbinding_ms) X(open_requests)
#define PARAMS(X)                                                                                                      \
    X(leaders_per_round)                                                                                               \
    X(wait_ranks) X(gc_depth) X(max_payload) X(max_items) X(max_votes) X(max_cksigs) X(ckpt_commits) X(sched_commits)  \
        X(payload_code) X(profile)

/* What libcyaml fills: a NULL is a key that the file leaves out. */
#define X(name) uint64_t *name;
struct raw_limits {
    LIMITS(X)
};
struct raw_params {
    PARAMS(X)
};
#undef X
struct raw_validator {
    char *key, *address;
    uint32_t *stake;
};
struct raw {
    char *name;
    uint64_t *start_ms;
    bool *require_relation;
    char **registrars;
    uint32_t registrars_count;
    struct raw_validator *validators;
    uint32_t validators_count;
    struct raw_limits *limits;
    struct raw_params *params;
};

#define OPTIONAL_POINTER (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define KEY_DIGITS       (2 * 32)
#define X(name) CYAML_FIELD_UINT_PTR(#name, OPTIONAL_POINTER, struct raw_limits, name),
static const cyaml_schema_field_t limits_fields[] = {LIMITS(X) CYAML_FIELD_END};
#undef X
#define X(name) CYAML_FIELD_UINT_PTR(#name, OPTIONAL_POINTER, struct raw_params, name),
static const cyaml_schema_field_t params_fields[] = {PARAMS(X) CYAML_FIELD_END};
#undef X
static const cyaml_schema_field_t validator_fields[] = {
    CYAML_FIELD_STRING_PTR("key", CYAML_FLAG_POINTER, struct raw_validator, key, KEY_DIGITS, KEY_DIGITS),
    CYAML_FIELD_UINT_PTR("stake", OPTIONAL_POINTER, struct raw_validator, stake),
    CYAML_FIELD_STRING_PTR("address", CYAML_FLAG_POINTER, struct raw_validator, address, 1,
                           CH_GENESIS_ADDRESS_BYTES_MAX),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t registrar_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, KEY_DIGITS, KEY_DIGITS),
};
static const cyaml_schema_value_t validator_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_validator, validator_fields),
};
static const cyaml_schema_field_t top_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, struct raw, name, 1, CH_GENESIS_NAME_BYTES_MAX),
    CYAML_FIELD_UINT_PTR("start_ms", OPTIONAL_POINTER, struct raw, start_ms),
    CH_YAML_SWITCH("require_relation", struct raw, require_relation),
    CYAML_FIELD_SEQUENCE("registrars", OPTIONAL_POINTER, struct raw, registrars, &registrar_schema, 0,
                         CH_REGISTRARS_MAX),
    CYAML_FIELD_SEQUENCE("validators", OPTIONAL_POINTER, struct raw, validators, &validator_schema, 0,
                         CH_VALIDATORS_MAX),
    CYAML_FIELD_MAPPING_PTR("limits", OPTIONAL_POINTER, struct raw, limits, limits_fields),
    CYAML_FIELD_MAPPING_PTR("params", OPTIONAL_POINTER, struct raw, params, params_fields),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t top_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw, top_fields),
};

static void take_numbers(const struct raw *raw, struct ch_genesis *g)
{
#define X(name)                                                                                                        \
    if (raw->limits && raw->limits->name)                                                                              \
        g->limits.name = *raw->limits->name;
    LIMITS(X)
#undef X
#define X(name)                                                                                                        \
    if (raw->params && raw->params->name)                                                                              \
        g->params.name = *raw->params->name;
    PARAMS(X)
#undef X
}

static ch_err take(const char *name, const struct raw *raw, struct ch_genesis *g, char *message, size_t message_bytes)
{
    ch_genesis_defaults(g, (uint16_t)(raw->validators_count ? raw->validators_count : 1));
    snprintf(g->name, sizeof g->name, "%s", raw->name);
    g->start_ms = raw->start_ms ? *raw->start_ms : 0;
    if (raw->require_relation)
        g->require_relation = *raw->require_relation;
    take_numbers(raw, g);
    g->registrar_count = (uint16_t)raw->registrars_count;
    for (uint32_t i = 0; i < raw->registrars_count; i++)
        if (!ch_hex_read(raw->registrars[i], g->registrars[i], 32)) {
            snprintf(message, message_bytes, "%s: registrar %u: a key is 64 hexadecimal digits", name, i + 1);
            return CH_ERR_INVALID;
        }
    g->validator_count = (uint16_t)raw->validators_count;
    for (uint32_t i = 0; i < raw->validators_count; i++) {
        const struct raw_validator *from = &raw->validators[i];
        struct ch_genesis_validator *to = &g->validators[i];
        if (!ch_hex_read(from->key, to->key, 32)) {
            snprintf(message, message_bytes, "%s: validator %u: a key is 64 hexadecimal digits", name, i + 1);
            return CH_ERR_INVALID;
        }
        to->stake = from->stake ? *from->stake : 1;
        snprintf(to->address, sizeof to->address, "%s", from->address);
    }
    return CH_OK;
}

/* Whether the bytes can be made of it; a validator and a start that `chappe init` will add are stood in for. */
static ch_err check(const char *name, const struct ch_genesis *genesis, char *message, size_t message_bytes)
{
    struct ch_genesis *trial = malloc(sizeof *trial);
    uint8_t *bytes = malloc(CH_GENESIS_BYTES_MAX);
    ch_err err = trial && bytes ? CH_OK : CH_ERR_NO_MEMORY;
    if (err == CH_OK) {
        *trial = *genesis;
        if (!trial->start_ms)
            trial->start_ms = 1;
        if (!trial->validator_count) {
            trial->validator_count = 1;
            trial->validators[0] = (struct ch_genesis_validator){.stake = 1, .address = "127.0.0.1:4740"};
        }
        if (!trial->registrar_count)
            trial->registrar_count = 1;
        if (!ch_genesis_encode(trial, bytes)) {
            snprintf(message, message_bytes, "%s: a value is out of its range, or a key is named twice", name);
            err = CH_ERR_INVALID;
        }
    } else {
        snprintf(message, message_bytes, "%s: %s", name, ch_err_text(err));
    }
    free(trial);
    free(bytes);
    return err;
}

ch_err ch_genesis_file_parse(const char *name, const uint8_t *bytes, size_t length, struct ch_genesis *genesis,
                             char *message, size_t message_bytes)
{
    void *data = NULL;
    ch_err err = ch_yaml_parse(name, bytes, length, &top_schema, &data, message, message_bytes);
    if (err != CH_OK)
        return err;
    struct ch_genesis *read = calloc(1, sizeof *read);
    if (!read || !data) {
        err = read ? CH_ERR_INVALID : CH_ERR_NO_MEMORY;
        snprintf(message, message_bytes, "%s: %s", name, read ? "the file is empty" : ch_err_text(err));
    }
    if (err == CH_OK)
        err = take(name, data, read, message, message_bytes);
    if (err == CH_OK)
        err = check(name, read, message, message_bytes);
    if (err == CH_OK)
        *genesis = *read;
    free(read);
    ch_yaml_free(&top_schema, data);
    return err;
}

ch_err ch_genesis_file_load(const char *path, struct ch_genesis *genesis, char *message, size_t message_bytes)
{
    uint8_t *bytes = NULL;
    size_t length = 0;
    ch_err err = ch_yaml_read_file(path, &bytes, &length, message, message_bytes);
    if (err == CH_OK)
        err = ch_genesis_file_parse(path, bytes, length, genesis, message, message_bytes);
    free(bytes);
    return err;
}

ch_err ch_genesis_check_keys(const struct ch_genesis *genesis, char *message, size_t message_bytes)
{
    for (uint32_t i = 0; i < genesis->validator_count + genesis->registrar_count; i++) {
        bool registrar = i >= genesis->validator_count;
        uint32_t which = registrar ? i - genesis->validator_count : i;
        const uint8_t *key = registrar ? genesis->registrars[which] : genesis->validators[which].key;
        if (!ch_sign_key_strong(key)) {
            snprintf(message, message_bytes, "the key of %s %u, in ascending order, is weak: anybody can sign for it",
                     registrar ? "registrar" : "validator", which + 1);
            return CH_ERR_INVALID;
        }
    }
    return CH_OK;
}
