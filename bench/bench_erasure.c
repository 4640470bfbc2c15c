/* What coding costs: blocks of 1 MiB cut into k = f+1 shards of n by the committee's code. bench_erasure N; one line of
 * JSON. */
#include "base/time.h"
#include "store/erasure.h"
#include "wire/cid.h"

#include <stdio.h>
#include <stdlib.h>

#define BYTES (UINT64_C(2) << 30) /* coded for one figure */

static double rate(uint64_t from_ns)
{
    return 1e3 * (double)BYTES / (double)(ch_time_monotonic_ns() - from_ns);
}

int main(int argc, char **argv)
{
    static struct ch_erasure code;
    const unsigned n = argc == 2 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    if (n < 1 || n > CH_SHARDS_MAX) {
        fprintf(stderr, "bench_erasure N (1 to %d)\n", CH_SHARDS_MAX);
        return 2;
    }
    const unsigned k = (n - 1) / 3 + 1;
    const size_t shard_bytes = (CH_BLOCK_BYTES_MAX / k + 63) / 64 * 64;
    uint8_t *shards = malloc(n * shard_bytes);
    if (!shards)
        return 1;
    for (size_t i = 0; i < n * shard_bytes; i++)
        shards[i] = (uint8_t)(i * 2654435761u >> 16);
    ch_erasure_init(&code, n, k);
    uint64_t from_ns = ch_time_monotonic_ns();
    for (uint64_t done = 0; done < BYTES; done += k * shard_bytes)
        ch_erasure_encode(&code, shards, shard_bytes);
    double encode = rate(from_ns);
    uint32_t last = (n == 32 ? UINT32_MAX : (1u << n) - 1) & ~((1u << (n - k)) - 1); /* the k last: none, or few, of the data */
    from_ns = ch_time_monotonic_ns();
    for (uint64_t done = 0; done < BYTES; done += k * shard_bytes)
        ch_erasure_decode(&code, shards, shard_bytes, last);
    printf("{\"n\": %u, \"k\": %u, \"encode_mb_s\": %.1f, \"decode_mb_s\": %.1f}\n", n, k, encode, rate(from_ns));
    free(shards);
    return 0;
}
