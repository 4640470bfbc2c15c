/* Where librados was not there at build time: no test is in a pool. */
#include "tests/store/rados_calls.h"

#include <stdlib.h>

uint64_t rados_calls(void)
{
    abort();
}

void rados_calls_fail_at(uint64_t call, ch_err err, int done)
{
    abort();
}

void rados_calls_overwrite(const char *space, const char *path, const uint8_t *bytes, size_t length)
{
    abort();
}
