/* node/bucket.h - a token bucket that holds a second's worth. Thread: its owner's. A zeroed one is full at its first
 * look. */
#ifndef CHAPPE_NODE_BUCKET_H
#define CHAPPE_NODE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct ch_bucket {
    uint64_t refilled_ns; /* up to then its tokens are counted */
    uint64_t tokens;
};

/* Puts in what `rate` tokens a second (1..10^9) have brought since; time that makes no whole token yet is kept for
 * later. */
static inline void ch_bucket_refill(struct ch_bucket *bucket, uint64_t rate, uint64_t now_ns)
{
    uint64_t elapsed_ns = now_ns - bucket->refilled_ns;
    if (elapsed_ns >= 1000000000u) {
        bucket->tokens = rate;
        bucket->refilled_ns = now_ns;
        return;
    }
    uint64_t more = rate * elapsed_ns / 1000000000u;
    bucket->tokens = bucket->tokens + more > rate ? rate : bucket->tokens + more;
    bucket->refilled_ns += more * 1000000000u / rate;
}

/* Takes `count` of them, after such a refill; false: there are not so many. */
static inline bool ch_bucket_take(struct ch_bucket *bucket, uint64_t rate, uint64_t count, uint64_t now_ns)
{
    ch_bucket_refill(bucket, rate, now_ns);
    if (bucket->tokens < count)
        return false;
    bucket->tokens -= count;
    return true;
}

#endif
