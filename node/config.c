#include "node/config.h"

#include "node/yaml.h"

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
    CH_YAML_SWITCH(#name, struct raw_##section, name),
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
#define TEXT(section, name, preset, what)                                                                              \
    snprintf(config->section##_##name, CH_CONFIG_TEXT_BYTES_MAX + 1, "%s", preset);
#define NUMBER(section, name, preset, smallest, largest, what) config->section##_##name = preset;
#define SWITCH(section, name, preset, what) config->section##_##name = preset;
    CH_CONFIG_LIST(TEXT, NUMBER, SWITCH)
#undef TEXT
#undef NUMBER
#undef SWITCH
}

ch_err ch_config_parse(const char *name, const uint8_t *bytes, size_t length, struct ch_config *config, char *message,
                       size_t message_bytes)
{
    void *data = NULL;
    ch_err result = ch_yaml_parse(name, bytes, length, &top_schema, &data, message, message_bytes);
    if (result != CH_OK)
        return result;
    const struct raw *raw = data;
    struct ch_config read = *config;
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
    if (section->key)                                                                                                  \
        read.section##_##key = *section->key;
#define SWITCH(section, name, preset, what)                                                                            \
    if (section->name)                                                                                                 \
        read.section##_##name = *section->name;
    CH_CONFIG_LIST(TEXT, NUMBER, SWITCH)
#undef TEXT
#undef NUMBER
#undef SWITCH
    ch_yaml_free(&top_schema, data);
    char why[256];
    result = ch_config_check(&read, why, sizeof why);
    if (result == CH_OK)
        *config = read;
    else
        snprintf(message, message_bytes, "%s: %s", name, why);
    return result;
}

ch_err ch_config_load(const char *path, struct ch_config *config, char *message, size_t message_bytes)
{
    uint8_t *bytes = NULL;
    size_t length = 0;
    ch_err err = ch_yaml_read_file(path, &bytes, &length, message, message_bytes);
    if (err == CH_OK)
        err = ch_config_parse(path, bytes, length, config, message, message_bytes);
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
