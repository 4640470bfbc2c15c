/* tests/store/scratch.h - a folder of a test's own under TMPDIR, on a real disk where that is one. */
#ifndef CHAPPE_TESTS_STORE_SCRATCH_H
#define CHAPPE_TESTS_STORE_SCRATCH_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/test.h"

#define SCRATCH_BYTES 256

static inline void scratch_make(char dir[SCRATCH_BYTES])
{
    const char *parent = test_option("TMPDIR");
    snprintf(dir, SCRATCH_BYTES, "%s/chappe-store-XXXXXX", parent ? parent : "/var/tmp");
    assert_non_null(mkdtemp(dir));
}

static inline int scratch_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static inline void scratch_remove(const char *dir)
{
    assert_int_equal(nftw(dir, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

#endif
