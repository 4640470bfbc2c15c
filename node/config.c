#include "node/config.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What libcyaml fills: a NULL is a key that the file leaves out. */
struct raw_network {
#define TEXT(section, name, preset, what) char *name;
#define NUMBER(section, name, preset, smallest, largest, what) uint64_t *name;
#define SWITCH(section, name, preset, what) bool *name;
    CH_CONFIG_NETWORK(TEXT, NUMBER, SWITCH)
};
struct raw_stages {
    CH_CONFIG_STAGES(TEXT, NUMBER, SWITCH)
};
struct raw_store {
    CH_CONFIG_STORE(TEXT, NUMBER, SWITCH)
#undef TEXT
#undef NUMBER
#undef SWITCH
};
struct raw {
    struct raw_network *network;
    struct raw_stages *stages;
    struct raw_store *store;
};

#define OPTIONAL_POINTER (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define TEXT(section, name, preset, what)                                                                              \
    CYAML_FIELD_STRING_PTR(#name, OPTIONAL_POINTER, struct raw_##section, name, 0, CH_CONFIG_TEXT_BYTES_MAX),
#define NUMBER(section, name, preset, smallest, largest, what)                                                         \
    CYAML_FIELD_UINT_PTR(#name, OPTIONAL_POINTER, struct raw_##section, name),
#define SWITCH(section, name, preset, what)                                                                            \
    CYAML_FIELD_BOOL_PTR(#name, OPTIONAL_POINTER, struct raw_##section, name),
static const cyaml_schema_field_t network_fields[] = {CH_CONFIG_NETWORK(TEXT, NUMBER, SWITCH) CYAML_FIELD_END};
static const cyaml_schema_field_t stages_fields[] = {CH_CONFIG_STAGES(TEXT, NUMBER, SWITCH) CYAML_FIELD_END};
static const cyaml_schema_field_t store_fields[] = {CH_CONFIG_STORE(TEXT, NUMBER, SWITCH) CYAML_FIELD_END};
#undef TEXT
#undef NUMBER
#undef SWITCH
static const cyaml_schema_field_t top_fields[] = {
    CYAML_FIELD_MAPPING_PTR("network", OPTIONAL_POINTER, struct raw, network, network_fields),
    CYAML_FIELD_MAPPING_PTR("stages", OPTIONAL_POINTER, struct raw, stages, stages_fields),
    CYAML_FIELD_MAPPING_PTR("store", OPTIONAL_POINTER, struct raw, store, store_fields),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t top_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw, top_fields),
};

void ch_config_defaults(struct ch_config *config)
{
    memset(config, 0, sizeof *config);
#define TEXT(section, name, preset, what) snprintf(config->section##_##name, CH_CONFIG_TEXT_BYTES_MAX + 1, "%s", preset);
#define NUMBER(section, name, preset, smallest, largest, what) config->section##_##name = preset;
#define SWITCH(section, name, preset, what) config->section##_##name = preset;
    CH_CONFIG_LIST(TEXT, NUMBER, SWITCH)
#undef TEXT
#undef NUMBER
#undef SWITCH
}

/* libcyaml tells of an error in lines of its log; they are kept to make one line of. */
struct told {
    char text[1024];
    size_t used;
};

__attribute__((format(printf, 3, 0))) static void keep_line(cyaml_log_t level, void *to, const char *format,
                                                            va_list args)
{
    struct told *told = to;
    if (told->used >= sizeof told->text - 1)
        return;
    int n = vsnprintf(told->text + told->used, sizeof told->text - told->used, format, args);
    if (n > 0)
        told->used += (size_t)n;
    if (told->used > sizeof told->text - 1)
        told->used = sizeof told->text - 1;
}

static size_t edit_distance(const char *a, const char *b)
{
    size_t row[64], n = strlen(b);
    if (n >= 63 || strlen(a) >= 63)
        return 64;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = substitute < other ? substitute : other;
        }
    }
    return row[n];
}

static const char *nearest_key(const char *key)
{
    static const char *const keys[] = {
        "network", "stages", "store",
#define TEXT(section, name, preset, what) #name,
#define NUMBER(section, name, preset, smallest, largest, what) #name,
#define SWITCH(section, name, preset, what) #name,
        CH_CONFIG_LIST(TEXT, NUMBER, SWITCH)
#undef TEXT
#undef NUMBER
#undef SWITCH
    };
    const char *best = NULL;
    size_t least = 4;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t distance = edit_distance(key, keys[i]);
        if (distance < least) {
            least = distance;
            best = keys[i];
        }
    }
    return best;
}

/* The line on which `key` stands, from line `from` on: libcyaml tells that of the mapping around it. */
static unsigned line_of_key(const uint8_t *bytes, size_t length, const char *key, unsigned from)
{
    size_t key_length = strlen(key);
    unsigned line = 1;
    for (size_t at = 0; at < length; line++) {
        const uint8_t *end = memchr(bytes + at, '\n', length - at);
        size_t next = end ? (size_t)(end - bytes) + 1 : length;
        while (at < next && bytes[at] == ' ')
            at++;
        if (line >= from && next - at > key_length && memcmp(bytes + at, key, key_length) == 0 &&
            bytes[at + key_length] == ':')
            return line;
        at = next;
    }
    return from;
}

/* "file:line: sentence" out of libcyaml's lines: "Load: Unexpected key: x" ... "(line: 3, column: 5)". */
static void explain(const char *name, const uint8_t *bytes, size_t length, struct told *told, char *message,
                    size_t message_bytes)
{
    char key[64] = "";
    unsigned line = 0;
    const char *at = strstr(told->text, "(line: ");
    if (at)
        line = (unsigned)strtoul(at + 7, NULL, 10);
    const char *unexpected = strstr(told->text, "Unexpected key: ");
    if (unexpected)
        sscanf(unexpected + strlen("Unexpected key: "), "%63[^\n]", key);
    if (*key)
        line = line_of_key(bytes, length, key, line);
    told->text[strcspn(told->text, "\n")] = 0;
    const char *near = *key ? nearest_key(key) : NULL;
    if (*key && near)
        snprintf(message, message_bytes, "%s:%u: unknown key \"%s\"; did you mean \"%s\"?", name, line, key, near);
    else if (*key)
        snprintf(message, message_bytes, "%s:%u: unknown key \"%s\"", name, line, key);
    else
        snprintf(message, message_bytes, "%s:%u: %s", name, line, told->text);
}

ch_err ch_config_parse(const char *name, const uint8_t *bytes, size_t length, struct ch_config *config, char *message,
                       size_t message_bytes)
{
    struct told told = {.used = 0};
    told.text[0] = 0;
    const cyaml_config_t how = {
        .log_fn = keep_line,
        .log_ctx = &told,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_WARNING,
        .flags = CYAML_CFG_NO_ALIAS,
    };
    struct raw *raw = NULL;
    cyaml_err_t err = cyaml_load_data(bytes, length, &how, &top_schema, (cyaml_data_t **)&raw, NULL);
    if (err != CYAML_OK) {
        if (!told.used)
            told.used = (size_t)snprintf(told.text, sizeof told.text, "%s", cyaml_strerror(err));
        explain(name, bytes, length, &told, message, message_bytes);
        return CH_ERR_INVALID;
    }
    struct ch_config read = *config;
    ch_err result = CH_OK;
    const struct raw_network no_network = {0};
    const struct raw_stages no_stages = {0};
    const struct raw_store no_store = {0};
    const struct raw_network *network = raw && raw->network ? raw->network : &no_network;
    const struct raw_stages *stages = raw && raw->stages ? raw->stages : &no_stages;
    const struct raw_store *store = raw && raw->store ? raw->store : &no_store;
#define TEXT(section, name, preset, what)                                                                              \
    if (section->name)                                                                                                 \
        snprintf(read.section##_##name, CH_CONFIG_TEXT_BYTES_MAX + 1, "%s", section->name);
#define NUMBER(section, key, preset, smallest, largest, what)                                                          \
    if (section->key) {                                                                                                \
        read.section##_##key = *section->key;                                                                          \
        if (*section->key + 1 < (uint64_t)(smallest) + 1 || *section->key > (uint64_t)(largest)) {                     \
            snprintf(message, message_bytes, "%s: %s.%s is %llu; it goes from %llu to %llu", name, #section, #key,     \
                     (unsigned long long)*section->key, (unsigned long long)(smallest),                                \
                     (unsigned long long)(largest));                                                                   \
            result = CH_ERR_INVALID;                                                                                   \
        }                                                                                                              \
    }
#define SWITCH(section, name, preset, what)                                                                            \
    if (section->name)                                                                                                 \
        read.section##_##name = *section->name;
    CH_CONFIG_LIST(TEXT, NUMBER, SWITCH)
#undef TEXT
#undef NUMBER
#undef SWITCH
    cyaml_free(&how, &top_schema, raw, 0);
    if (result == CH_OK)
        *config = read;
    return result;
}

ch_err ch_config_load(const char *path, struct ch_config *config, char *message, size_t message_bytes)
{
    enum { FILE_BYTES_MAX = 65536 };
    FILE *file = fopen(path, "re");
    if (!file) {
        snprintf(message, message_bytes, "%s: %s", path, strerror(errno));
        return errno == ENOENT ? CH_ERR_NOT_FOUND : CH_ERR_IO;
    }
    uint8_t *bytes = malloc(FILE_BYTES_MAX);
    size_t length = bytes ? fread(bytes, 1, FILE_BYTES_MAX, file) : 0;
    bool whole = bytes && !ferror(file) && length < FILE_BYTES_MAX;
    fclose(file);
    ch_err err = CH_ERR_IO;
    if (whole)
        err = ch_config_parse(path, bytes, length, config, message, message_bytes);
    else
        snprintf(message, message_bytes, "%s: not readable, or not below 64 KiB", path);
    free(bytes);
    return err;
}

ch_err ch_config_write(const char *path, const struct ch_config *config)
{
    FILE *file = fopen(path, "wxe");
    if (!file)
        return errno == EEXIST ? CH_ERR_EXISTS : CH_ERR_IO;
    const char *open_section = "";
    fprintf(file, "# Settings of a Chappe validator. What is left out has the value shown here.\n");
#define SECTION(section)                                                                                               \
    if (strcmp(open_section, #section) != 0)                                                                           \
        fprintf(file, "\n%s:\n", open_section = #section);
#define TEXT(section, name, preset, what)                                                                              \
    SECTION(section)                                                                                                   \
    fprintf(file, "  # %s\n  %s: \"%s\"\n", what, #name, config->section##_##name);
#define NUMBER(section, name, preset, smallest, largest, what)                                                         \
    SECTION(section)                                                                                                   \
    fprintf(file, "  # %s (%llu to %llu)\n  %s: %llu\n", what, (unsigned long long)(smallest),                         \
            (unsigned long long)(largest), #name, (unsigned long long)config->section##_##name);
#define SWITCH(section, name, preset, what)                                                                            \
    SECTION(section)                                                                                                   \
    fprintf(file, "  # %s\n  %s: %s\n", what, #name, config->section##_##name ? "true" : "false");
    CH_CONFIG_LIST(TEXT, NUMBER, SWITCH)
#undef TEXT
#undef NUMBER
#undef SWITCH
    return fclose(file) == 0 ? CH_OK : CH_ERR_IO;
}
