/* A genesis for people is refused with a line that says why, or makes canonical bytes once it has a validator. */
#include "node/genesis_file.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ch_genesis genesis, again;
    static uint8_t bytes[CH_GENESIS_BYTES_MAX];
    char message[256] = "";
    ch_err err = ch_genesis_file_parse("chain.yaml", data, size, &genesis, message, sizeof message);
    if (err != CH_OK) {
        CH_ASSERT(err == CH_ERR_INVALID && strncmp(message, "chain.yaml:", 11) == 0);
        return 0;
    }
    if (!genesis.validator_count || !genesis.registrar_count || !genesis.start_ms)
        return 0; /* what `chappe init` adds */
    size_t length = ch_genesis_encode(&genesis, bytes);
    CH_ASSERT(length && ch_genesis_decode(bytes, length, &again) == CH_OK);
    return 0;
}
