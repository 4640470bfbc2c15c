/* A request to the Trustless Gateway: path, query and headers, a line each. */
#include "node/ipfs_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[8192];
    char *lines[8] = {0};
    struct ch_ipfs_request request;
    const char *why = NULL;
    size_t length = size < sizeof text - 1 ? size : sizeof text - 1;
    if (length)
        memcpy(text, data, length);
    text[length] = 0;
    char *rest = text;
    for (unsigned i = 0; i < 8 && rest; i++) {
        char *line = strsep(&rest, "\n");
        lines[i] = *line ? line : NULL; /* an empty line: not given */
    }
    const struct ch_ipfs_question question = {lines[0], lines[1], lines[2], lines[3], lines[4], lines[5], lines[6]};
    unsigned code = ch_ipfs_request_read(&question, &request, &why);
    CH_ASSERT(code == 200 || ((code == 400 || code == 404 || code == 406) && why));
    uint64_t from, count;
    for (uint64_t bytes = 0; bytes <= CH_BLOCK_BYTES_MAX; bytes = bytes * 16 + 1)
        if (ch_ipfs_range_read(lines[7], bytes, &from, &count) == CH_IPFS_PART)
            CH_ASSERT(count > 0 && from < bytes && count <= bytes - from);
    return 0;
}
