#include "client/review.h"

#include "client/cli_impl.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#define HOURS_PRESET 24

static const cyaml_schema_value_t handle_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, CH_HANDLE_BYTES_MIN, CH_HANDLE_BYTES_MAX),
};
static const cyaml_schema_field_t policy_fields[] = {
    CYAML_FIELD_UINT("approval_hours", CYAML_FLAG_OPTIONAL, struct ch_policy, approval_hours),
    CYAML_FIELD_UINT("handle_bytes_min", CYAML_FLAG_OPTIONAL, struct ch_policy, handle_bytes_min),
    CYAML_FIELD_BOOL("ask", CYAML_FLAG_OPTIONAL, struct ch_policy, ask),
    CYAML_FIELD_SEQUENCE("reserved", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct ch_policy, reserved,
                         &handle_schema, 0, CH_POLICY_HANDLES_MAX),
    CYAML_FIELD_SEQUENCE("allowed", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct ch_policy, allowed, &handle_schema,
                         0, CH_POLICY_HANDLES_MAX),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t policy_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct ch_policy, policy_fields),
};

/* libcyaml tells what is wrong, and then the way to it from the top, a line each. Where the way ends in a field, that
 * is the place; for an unknown key it knows that of the mapping around it only, which is left out. */
__attribute__((format(printf, 3, 0))) static void note_line(cyaml_log_t level, void *context, const char *format,
                                                            va_list args)
{
    char line[CH_REVIEW_WHY_BYTES], *why = context;
    (void)vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = 0;
    const char *text = strncmp(line, "Load: ", 6) == 0 ? line + 6 : line;
    text += strspn(text, " ");
    size_t used = strlen(why);
    if (used == 0 || strncmp(text, "in mapping field", 16) == 0)
        (void)snprintf(why + used, CH_REVIEW_WHY_BYTES - used, "%s%s", used ? " " : "", text);
}

static const cyaml_config_t yaml = {
    .log_fn = note_line,
    .mem_fn = cyaml_mem,
    .log_level = CYAML_LOG_ERROR,
};

ch_err ch_policy_load(const char *path, struct ch_policy **out, char why[CH_REVIEW_WHY_BYTES])
{
    struct ch_policy *policy = NULL;
    cyaml_config_t config = yaml;
    config.log_ctx = why;
    *why = 0;
    if (path) {
        if (access(path, R_OK) != 0) {
            (void)snprintf(why, CH_REVIEW_WHY_BYTES, "%s: %s", path, strerror(errno));
            return CH_ERR_NOT_FOUND;
        }
        cyaml_err_t failed = cyaml_load_file(path, &config, &policy_schema, (cyaml_data_t **)&policy, NULL);
        if (failed != CYAML_OK) {
            if (!*why)
                (void)snprintf(why, CH_REVIEW_WHY_BYTES, "%s", cyaml_strerror(failed));
            return CH_ERR_INVALID;
        }
    }
    if (!policy)                            /* no file, or nothing in it */
        policy = calloc(1, sizeof *policy); /* cyaml_mem frees it: it is realloc and free */
    if (!policy)
        return CH_ERR_NO_MEMORY;
    if (policy->approval_hours == 0)
        policy->approval_hours = HOURS_PRESET;
    if (policy->approval_hours > CH_POLICY_HOURS_MAX) {
        (void)snprintf(why, CH_REVIEW_WHY_BYTES, "approval_hours is more than %u", CH_POLICY_HOURS_MAX);
        ch_policy_free(policy);
        return CH_ERR_INVALID;
    }
    *out = policy;
    return CH_OK;
}

void ch_policy_free(struct ch_policy *policy)
{
    (void)cyaml_free(&yaml, &policy_schema, policy, 0);
}

static bool among(char *const *handles, unsigned count, const char *handle)
{
    for (unsigned i = 0; i < count; i++)
        if (strcmp(handles[i], handle) == 0)
            return true;
    return false;
}

const char *ch_review(const struct ch_policy *policy, const struct ch_approval *a, char why[CH_REVIEW_WHY_BYTES])
{
    const char *name = NULL, *text = "";
    if (!ch_handle_valid((const uint8_t *)a->handle, strlen(a->handle))) {
        name = ch_status_name(CH_STATUS_BAD_HANDLE);
        text = ch_status_text(CH_STATUS_BAD_HANDLE);
    } else if (!ch_sign_key_strong(a->key) || !ch_seal_key_strong(a->seal_key)) {
        name = ch_status_name(CH_STATUS_WEAK_KEY);
        text = ch_status_text(CH_STATUS_WEAK_KEY);
    } else if (strlen(a->handle) < policy->handle_bytes_min) {
        name = "HANDLE_TOO_SHORT";
        text = "the handle is shorter than the policy wants";
    } else if (among(policy->reserved, policy->reserved_count, a->handle)) {
        name = "HANDLE_RESERVED";
        text = "the policy reserves this handle";
    } else if (policy->allowed && !among(policy->allowed, policy->allowed_count, a->handle)) {
        name = "NOT_ON_THE_LIST";
        text = "the policy allows listed handles only";
    }
    (void)snprintf(why, CH_REVIEW_WHY_BYTES, "%s", text);
    return name;
}

/* Whether a line of the memory stands against the approval. */
static ch_err line_against(const char *line, const struct ch_approval *a, uint64_t now_ms)
{
    unsigned long long expires;
    char handle[CH_HANDLE_BYTES_MAX + 1], hex[65];
    uint8_t key[32];
    if (sscanf(line, "%llu %32s %64s", &expires, handle, hex) != 3 || !ch_hex_read(hex, key, sizeof key))
        return CH_ERR_CORRUPT;
    bool same_handle = strcmp(handle, a->handle) == 0, same_key = memcmp(key, a->key, sizeof key) == 0;
    return expires > now_ms && same_handle != same_key ? CH_ERR_EXISTS : CH_OK;
}

ch_err ch_review_note(const char *path, const struct ch_approval *a, uint64_t now_ms)
{
    char line[160], hex[65];
    ch_err err = CH_OK;
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) != 0) {
        if (fd >= 0)
            (void)close(fd);
        return CH_ERR_IO;
    }
    FILE *f = fdopen(fd, "r+e");
    if (!f) {
        (void)close(fd);
        return CH_ERR_NO_MEMORY;
    }
    while (err == CH_OK && fgets(line, sizeof line, f))
        err = line_against(line, a, now_ms);
    if (err == CH_OK) {
        ch_hex_write(a->key, 32, hex);
        (void)fseek(f, 0, SEEK_END);
        bool written = fprintf(f, "%llu %s %s\n", (unsigned long long)a->expires_ms, a->handle, hex) > 0 &&
                       fflush(f) == 0 && fsync(fd) == 0;
        err = written ? CH_OK : CH_ERR_IO;
    }
    (void)fclose(f);
    return err;
}
