#include "base/hash.h"

#include <intel-ipsec-mb.h> /* its names clash with libcrypto's, so it has a file of its own */
#include <stdlib.h>

struct ch_hash_many {
    IMB_MGR *mgr;
};

ch_err ch_hash_many_open(struct ch_hash_many **out)
{
    struct ch_hash_many *many = calloc(1, sizeof *many);
    if (!many)
        return CH_ERR_NO_MEMORY;
    many->mgr = alloc_mb_mgr(0);
    if (!many->mgr) {
        free(many);
        return CH_ERR_NO_MEMORY;
    }
    init_mb_mgr_auto(many->mgr, NULL);
    *out = many;
    return CH_OK;
}

void ch_hash_many_close(struct ch_hash_many *many)
{
    if (!many)
        return;
    free_mb_mgr(many->mgr);
    free(many);
}

/* The job call refuses 64 KiB and more, and nothing at all, so those go to libcrypto. */
#define JOB_BYTES_MAX 65000u

static void finish(IMB_JOB *job)
{
    CH_ASSERT(!job || job->status == IMB_STATUS_COMPLETED);
}

void ch_hash_many(struct ch_hash_many *many, const struct ch_bytes *inputs, size_t count,
                  uint8_t (*digests)[CH_HASH_BYTES])
{
    for (size_t i = 0; i < count; i++) {
        if (inputs[i].length > JOB_BYTES_MAX || inputs[i].length == 0) {
            ch_hash(inputs[i].data, inputs[i].length, digests[i]);
            continue;
        }
        IMB_JOB *job = IMB_GET_NEXT_JOB(many->mgr);
        job->cipher_mode = IMB_CIPHER_NULL;
        job->cipher_direction = IMB_DIR_ENCRYPT;
        job->chain_order = IMB_ORDER_HASH_CIPHER;
        job->hash_alg = IMB_AUTH_SHA_256;
        job->src = inputs[i].data;
        job->hash_start_src_offset_in_bytes = 0;
        job->msg_len_to_hash_in_bytes = inputs[i].length;
        job->auth_tag_output = digests[i];
        job->auth_tag_output_len_in_bytes = CH_HASH_BYTES;
        for (job = IMB_SUBMIT_JOB_NOCHECK(many->mgr); job; job = IMB_GET_COMPLETED_JOB(many->mgr))
            finish(job);
    }
    for (IMB_JOB *job = IMB_FLUSH_JOB(many->mgr); job; job = IMB_FLUSH_JOB(many->mgr))
        finish(job);
}
