/* A configuration is taken, its numbers in range, or refused with a line that says why; then nothing of it is. */
#include "node/config.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ch_config preset, config;
    char message[256] = "";
    ch_config_defaults(&preset);
    config = preset;
    ch_err err = ch_config_parse("chappe.yaml", data, size, &config, message, sizeof message);
    if (err != CH_OK) {
        CH_ASSERT(err == CH_ERR_INVALID && strncmp(message, "chappe.yaml:", 12) == 0);
        CH_ASSERT(memcmp(&config, &preset, sizeof config) == 0);
        return 0;
    }
#define TEXT(section, name, preset, what) CH_ASSERT(memchr(config.section##_##name, 0, sizeof config.section##_##name));
#define NUMBER(section, name, preset, smallest, largest, what)                                                         \
    CH_ASSERT(config.section##_##name + 1 >= (uint64_t)(smallest) + 1 && config.section##_##name <= (largest));
#define SWITCH(section, name, preset, what)
    CH_CONFIG_LIST(TEXT, NUMBER, SWITCH)
#undef TEXT
#undef NUMBER
#undef SWITCH
    return 0;
}
