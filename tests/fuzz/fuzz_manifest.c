/* A manifest and a certificate: what is read is written back to the same bytes. The first byte is the committee's size,
 * its highest bit says which of the two. */
#include "wire/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    unsigned validators = (data[0] & 0x7f) + 1u;
    if (data[0] & 0x80) {
        struct ch_stored stored;
        uint8_t again[CH_STORED_BYTES_MAX];
        struct ch_reader r = ch_reader(data + 1, size - 1);
        if (ch_stored_read(&r, validators, &stored)) {
            size_t length = size - 1 - r.left;
            CH_ASSERT(ch_stored_write(&stored, again) == length && memcmp(again, data + 1, length) == 0);
        }
        return 0;
    }
    struct ch_manifest m;
    uint8_t again[CH_MANIFEST_BYTES_MAX];
    if (ch_manifest_read(data + 1, size - 1, validators, &m))
        CH_ASSERT(ch_manifest_write(&m, again) == size - 1 && memcmp(again, data + 1, size - 1) == 0);
    return 0;
}
