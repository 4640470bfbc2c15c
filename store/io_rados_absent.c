/* Where librados was not there at build time. */
#include "store/io_rados.h"

ch_err ch_io_rados_open(const struct ch_io_rados_options *options, struct ch_io **out)
{
    return CH_ERR_UNSUPPORTED;
}
