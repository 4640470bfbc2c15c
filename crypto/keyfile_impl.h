/* crypto/keyfile_impl.h - what key files and passphrase files share: reading what only its owner may read. */
#ifndef CHAPPE_CRYPTO_KEYFILE_IMPL_H
#define CHAPPE_CRYPTO_KEYFILE_IMPL_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

ch_err ch_err_of_errno(int number);
/* Until the end of the file or `capacity`. */
CH_MUST_CHECK ch_err ch_read_all(int fd, uint8_t *to, size_t capacity, size_t *length);
/* Whether a regular file is this user's and closed to all others; what isn't a regular file passes unless
 * `regular_only`. CH_ERR_READABLE_BY_OTHERS, CH_ERR_DENIED. */
CH_MUST_CHECK ch_err ch_check_private(int fd, bool regular_only);

#endif
