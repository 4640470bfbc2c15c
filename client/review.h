/* client/review.h - a registrar's review: its policy, and its memory of what it signed.
 *
 * The policy is YAML; `chappe registrar approve --help` shows every line. The memory is a text file, a line an
 * approval: "EXPIRES_MS HANDLE KEY_HEX"; it keeps two people from getting the same handle approved while neither is on
 * the chain.
 * Thread: no state.
 */
#ifndef CHAPPE_CLIENT_REVIEW_H
#define CHAPPE_CLIENT_REVIEW_H

#include "client/chat.h"

#define CH_POLICY_HANDLES_MAX 10000
#define CH_POLICY_HOURS_MAX   8760
#define CH_REVIEW_WHY_BYTES   256

struct ch_policy {
    uint32_t approval_hours; /* 0 in the file: 24 */
    uint32_t handle_bytes_min;
    bool ask;
    char **reserved, **allowed; /* NULL: none */
    unsigned reserved_count, allowed_count;
};

/* NULL: the defaults, which are those of an empty file. CH_ERR_INVALID, CH_ERR_NOT_FOUND, with `why`. */
CH_MUST_CHECK ch_err ch_policy_load(const char *path, struct ch_policy **out, char why[CH_REVIEW_WHY_BYTES]);
void ch_policy_free(struct ch_policy *policy);

/* What the policy and the form say to an application: NULL, or the name of the reason, with a sentence in `why`. */
CH_MUST_CHECK const char *ch_review(const struct ch_policy *policy, const struct ch_approval *application,
                                    char why[CH_REVIEW_WHY_BYTES]);

/* Notes an approval, once it is known that no other one that still holds is for the same handle and another key, or the
 * other way round: else CH_ERR_EXISTS. Durable on return. CH_ERR_IO, CH_ERR_CORRUPT. */
CH_MUST_CHECK ch_err ch_review_note(const char *path, const struct ch_approval *approval, uint64_t now_ms);

#endif
