/* A dag-pb node and the text of a CID: what is read is written back to the same bytes. */
#include "wire/cid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ch_unixfs_link links[CH_UNIXFS_LINKS_MAX];
    static uint8_t again[CH_UNIXFS_NODE_BYTES_MAX];
    struct ch_unixfs_link self;
    size_t count = ch_unixfs_decode(data, size, links);
    if (count)
        CH_ASSERT(ch_unixfs_encode(links, count, again, &self) == size && memcmp(again, data, size) == 0);

    char text[CH_CID_TEXT_BYTES + 2], text_again[CH_CID_TEXT_BYTES];
    struct ch_cid cid;
    size_t length = size < sizeof text - 1 ? size : sizeof text - 1;
    if (length)
        memcpy(text, data, length);
    text[length] = 0;
    if (ch_cid_from_text(text, &cid)) {
        ch_cid_to_text(&cid, text_again);
        CH_ASSERT(strcmp(text, text_again) == 0);
    }
    return 0;
}
