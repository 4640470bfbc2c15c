/* client/application.h - what an applicant and a registrar hand each other: one JSON object, on one line or many.
 *
 *   {"chappe": "registration-request/1", "chain": hex, "handle": text, "key": hex, "seal_key": hex}
 *   {"chappe": "registration-approval/1", the same, "registrar": hex, "expires_ms": number, "approval": hex}
 *
 * An approval holds only for the key in it, so neither has to be kept secret. Thread: no state.
 */
#ifndef CHAPPE_CLIENT_APPLICATION_H
#define CHAPPE_CLIENT_APPLICATION_H

#include "client/chat.h"

#include <jansson.h>

#define CH_APPLICATION_BYTES_MAX 4096

/* The JSON object, the caller's to free; `approved`: with the registrar's part. NULL: no memory. */
json_t *ch_application_write(const struct ch_approval *application, const uint8_t chain_id[CH_HASH_BYTES],
                             bool approved);
/* CH_ERR_INVALID: not such an object, with `why` (at least 128 bytes) for people; CH_ERR_WRONG_CHAIN. */
CH_MUST_CHECK ch_err ch_application_read(const char *text, size_t length, const uint8_t chain_id[CH_HASH_BYTES],
                                         bool approved, struct ch_approval *out, char *why);

#endif
