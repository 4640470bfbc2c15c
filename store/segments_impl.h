/* store/segments_impl.h - the numbered files of a folder: 0000002a.wal, 0000002a.obj. */
#ifndef CHAPPE_STORE_SEGMENTS_IMPL_H
#define CHAPPE_STORE_SEGMENTS_IMPL_H

#include "store/io.h"

#define SEGMENTS_MAX (1u << 20) /* in a folder; 256 TiB of a log of the default size */

struct segment_numbers {
    uint32_t *number; /* ascending; free it */
    size_t count;
};

/* The numbers, from 1, of the files in `dir` that end in ".ENDING"; other names are passed over. CH_ERR_NO_MEMORY: also
 * for more than SEGMENTS_MAX. */
CH_MUST_CHECK ch_err segments_find(struct ch_io *io, const char *dir, const char *ending, struct segment_numbers *out);

#endif
