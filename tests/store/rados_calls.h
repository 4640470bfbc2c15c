/* tests/store/rados_calls.h - librados's calls of store/io_rados.c go through the test (link-time wrapping): they are
 * counted, one can be made to fail, and a file can be changed behind the back of its owner. */
#ifndef CHAPPE_TESTS_STORE_RADOS_CALLS_H
#define CHAPPE_TESTS_STORE_RADOS_CALLS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

uint64_t rados_calls(void);
/* The call of that number is answered with the error; `done`: it has been done all the same. 0: none. */
void rados_calls_fail_at(uint64_t call, ch_err err, int done);
/* Makes or overwrites a file of the namespace. */
void rados_calls_overwrite(const char *space, const char *path, const uint8_t *bytes, size_t length);

#endif
