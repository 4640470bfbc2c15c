#include "client/application.h"

#include "client/cli_impl.h"

#include <stdio.h>

#define WHY_BYTES 128

static const char request_kind[] = "registration-request/1", approval_kind[] = "registration-approval/1";

json_t *ch_application_write(const struct ch_approval *a, const uint8_t chain_id[CH_HASH_BYTES], bool approved)
{
    json_t *o = json_pack("{s:s, s:o, s:s, s:o, s:o}", "chappe", approved ? approval_kind : request_kind, "chain",
                          cli_json_hex(chain_id, CH_HASH_BYTES), "handle", a->handle, "key", cli_json_hex(a->key, 32),
                          "seal_key", cli_json_hex(a->seal_key, 32));
    if (o && approved) {
        json_object_set_new(o, "registrar", cli_json_hex(a->registrar, 32));
        json_object_set_new(o, "expires_ms", json_integer((json_int_t)a->expires_ms));
        json_object_set_new(o, "approval", cli_json_hex(a->signature, CH_SIGNATURE_BYTES));
    }
    return o;
}

static bool read_hex(const json_t *object, const char *name, uint8_t *out, size_t length, char *why)
{
    const char *text = json_string_value(json_object_get(object, name));
    if (text && ch_hex_read(text, out, length))
        return true;
    (void)snprintf(why, WHY_BYTES, "\"%s\" is missing or not %zu hex digits", name, 2 * length);
    return false;
}

static ch_err read_object(const json_t *o, const uint8_t chain_id[CH_HASH_BYTES], bool approved,
                          struct ch_approval *out, char *why)
{
    uint8_t chain[CH_HASH_BYTES];
    struct ch_approval a = {0};
    const char *kind = json_string_value(json_object_get(o, "chappe"));
    const char *handle = json_string_value(json_object_get(o, "handle"));
    const char *wanted = approved ? approval_kind : request_kind;
    if (!kind || strcmp(kind, wanted) != 0) {
        (void)snprintf(why, WHY_BYTES, "\"chappe\" is not \"%s\"", wanted);
        return CH_ERR_INVALID;
    }
    if (!read_hex(o, "chain", chain, sizeof chain, why))
        return CH_ERR_INVALID;
    if (memcmp(chain, chain_id, sizeof chain) != 0) {
        (void)snprintf(why, WHY_BYTES, "it is for another chain");
        return CH_ERR_WRONG_CHAIN;
    }
    if (!handle || strlen(handle) > CH_HANDLE_BYTES_MAX) {
        (void)snprintf(why, WHY_BYTES, "\"handle\" is missing or too long");
        return CH_ERR_INVALID;
    }
    memcpy(a.handle, handle, strlen(handle));
    if (!read_hex(o, "key", a.key, 32, why) || !read_hex(o, "seal_key", a.seal_key, 32, why))
        return CH_ERR_INVALID;
    if (approved) {
        json_int_t expires = json_integer_value(json_object_get(o, "expires_ms"));
        if (expires <= 0) {
            (void)snprintf(why, WHY_BYTES, "\"expires_ms\" is missing or no time");
            return CH_ERR_INVALID;
        }
        a.expires_ms = (uint64_t)expires;
        if (!read_hex(o, "registrar", a.registrar, 32, why) ||
            !read_hex(o, "approval", a.signature, CH_SIGNATURE_BYTES, why))
            return CH_ERR_INVALID;
    }
    *out = a;
    return CH_OK;
}

ch_err ch_application_read(const char *text, size_t length, const uint8_t chain_id[CH_HASH_BYTES], bool approved,
                           struct ch_approval *out, char *why)
{
    json_error_t error;
    json_t *o = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(o)) {
        (void)snprintf(why, WHY_BYTES, "no JSON object: line %d, %.80s", o ? 1 : error.line,
                       o ? "something else" : error.text);
        json_decref(o);
        return CH_ERR_INVALID;
    }
    ch_err err = read_object(o, chain_id, approved, out, why);
    json_decref(o);
    return err;
}
