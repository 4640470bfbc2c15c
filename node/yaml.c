#include "node/yaml.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEAR_MISS_MAX 3 /* letters to change */

const cyaml_strval_t ch_yaml_switch[CH_YAML_SWITCH_WORDS] = {
    {"true", true}, {"yes", true}, {"false", false}, {"no", false}};

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

/* The key of the schema, at any depth, that fewer than *least changes make of `key`; NULL: none. */
static const char *nearest_key(const cyaml_schema_value_t *schema, const char *key, size_t *least)
{
    const char *best = NULL;
    if (schema->type == CYAML_SEQUENCE)
        return nearest_key(schema->sequence.entry, key, least);
    if (schema->type != CYAML_MAPPING)
        return NULL;
    for (const cyaml_schema_field_t *field = schema->mapping.fields; field->key; field++) {
        size_t distance = edit_distance(key, field->key);
        if (distance < *least) {
            *least = distance;
            best = field->key;
        }
        const char *inside = nearest_key(&field->value, key, least);
        best = inside ? inside : best;
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
static void explain(const char *name, const cyaml_schema_value_t *schema, const uint8_t *bytes, size_t length,
                    struct told *told, char *message, size_t message_bytes)
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
    size_t least = NEAR_MISS_MAX + 1;
    const char *near = *key ? nearest_key(schema, key, &least) : NULL;
    if (*key && near)
        snprintf(message, message_bytes, "%s:%u: unknown key \"%s\"; did you mean \"%s\"?", name, line, key, near);
    else if (*key)
        snprintf(message, message_bytes, "%s:%u: unknown key \"%s\"", name, line, key);
    else
        snprintf(message, message_bytes, "%s:%u: %s", name, line, told->text);
}

static cyaml_config_t how(struct told *told)
{
    return (cyaml_config_t){
        .log_fn = keep_line,
        .log_ctx = told,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_WARNING,
        .flags = CYAML_CFG_NO_ALIAS,
    };
}

ch_err ch_yaml_parse(const char *name, const uint8_t *bytes, size_t length, const cyaml_schema_value_t *schema,
                     void **out, char *message, size_t message_bytes)
{
    struct told told = {.used = 0};
    const cyaml_config_t config = how(&told);
    cyaml_data_t *data = NULL;
    cyaml_err_t err = cyaml_load_data(bytes, length, &config, schema, &data, NULL);
    if (err != CYAML_OK) {
        if (!told.used)
            told.used = (size_t)snprintf(told.text, sizeof told.text, "%s", cyaml_strerror(err));
        explain(name, schema, bytes, length, &told, message, message_bytes);
        return CH_ERR_INVALID;
    }
    *out = data;
    return CH_OK;
}

void ch_yaml_free(const cyaml_schema_value_t *schema, void *out)
{
    struct told told = {.used = 0};
    const cyaml_config_t config = how(&told);
    cyaml_free(&config, schema, out, 0);
}

ch_err ch_yaml_read_file(const char *path, uint8_t **bytes, size_t *length, char *message, size_t message_bytes)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        snprintf(message, message_bytes, "%s: %s", path, strerror(errno));
        return errno == ENOENT ? CH_ERR_NOT_FOUND : CH_ERR_IO;
    }
    uint8_t *read = malloc(CH_YAML_BYTES_MAX);
    size_t got = read ? fread(read, 1, CH_YAML_BYTES_MAX, file) : 0;
    bool whole = read && !ferror(file) && got < CH_YAML_BYTES_MAX;
    fclose(file);
    if (!whole) {
        snprintf(message, message_bytes, "%s: not readable, or not below 64 KiB", path);
        free(read);
        return CH_ERR_IO;
    }
    *bytes = read;
    *length = got;
    return CH_OK;
}
