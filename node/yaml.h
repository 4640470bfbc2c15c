/* node/yaml.h - YAML files that people write: read by a schema, with errors that name the line.
 *
 * Errors: an unknown key, a value of another type, bytes that are no YAML: CH_ERR_INVALID with one line for people in
 * `message`, naming file, line and, for an unknown key, the nearest one that the schema has. Thread: no state.
 */
#ifndef CHAPPE_NODE_YAML_H
#define CHAPPE_NODE_YAML_H

#include "base/error.h"

#include <cyaml/cyaml.h>
#include <stddef.h>
#include <stdint.h>

#define CH_YAML_BYTES_MAX 65536

/* *out: what the schema describes, NULL for an empty file; freed by ch_yaml_free. `name` stands for the file. */
CH_MUST_CHECK ch_err ch_yaml_parse(const char *name, const uint8_t *bytes, size_t length,
                                   const cyaml_schema_value_t *schema, void **out, char *message, size_t message_bytes);
void ch_yaml_free(const cyaml_schema_value_t *schema, void *out);

/* A switch that is a `bool *` in the structure, and NULL where it is left out: true, yes, false or no. libcyaml's own
 * takes every other word for true. */
#define CH_YAML_SWITCH(name, structure, member)                                                                        \
    CYAML_FIELD_ENUM_PTR(name, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL | CYAML_FLAG_STRICT, structure, member,        \
                         ch_yaml_switch, CH_YAML_SWITCH_WORDS)
#define CH_YAML_SWITCH_WORDS 4
extern const cyaml_strval_t ch_yaml_switch[CH_YAML_SWITCH_WORDS];

/* A whole file, below CH_YAML_BYTES_MAX; *bytes is freed by the caller. CH_ERR_NOT_FOUND, CH_ERR_IO, with `message`. */
CH_MUST_CHECK ch_err ch_yaml_read_file(const char *path, uint8_t **bytes, size_t *length, char *message,
                                       size_t message_bytes);

#endif
