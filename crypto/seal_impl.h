/* crypto/seal_impl.h - what inline ciphertexts and objects share. */
#ifndef CHAPPE_CRYPTO_SEAL_IMPL_H
#define CHAPPE_CRYPTO_SEAL_IMPL_H

#include "base/bytes.h"
#include "crypto/seal.h"

#define CH_SEAL_PREFIX_BYTES 5 /* suite, epoch */
#define COMMITMENT_KEY_BYTES 32

void ch_seal_prefix_write(uint32_t epoch, uint8_t prefix[CH_SEAL_PREFIX_BYTES]);
/* Opens the box behind the prefix with the keys of its epoch; `plain` holds box_length - 48 bytes. */
CH_MUST_CHECK enum ch_seal_verdict ch_seal_box_open(const struct ch_seal_epoch_key *keys, size_t key_count,
                                                    const uint8_t prefix[CH_SEAL_PREFIX_BYTES], const uint8_t *box,
                                                    size_t box_length, uint8_t *plain);
/* Version, time, type, name; the content is left in the reader. */
void ch_envelope_header_write(struct ch_writer *w, const struct ch_envelope *envelope);
CH_MUST_CHECK bool ch_envelope_header_read(struct ch_reader *r, struct ch_envelope *out);

#endif
