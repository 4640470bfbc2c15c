/* Bytes a second of objects, durable, beside the raw stages that an object goes through: hash and cipher.
 *
 *   bench_object FOLDER [MIB [BLOCKS]]
 *
 * One JSON object on stdout. Each kind moves MIB (default 512, at most 1024); a put counts when it is durable. As in a
 * node one thread hashes and another has the store; beside it what one thread does that hashes, too. Gets are of blocks
 * in random order, one after another, from the disk: what was put has never been in the page cache. BLOCKS (default
 * 1,000,000) small blocks tell what the index costs, in memory, at the start and for look-ups.
 * bench/store_against_fio.py runs it between two runs of fio. Where CHAPPE_CEPH names a cluster, the blocks go into its
 * pool (bench/pool_against_rados.py). */
#include "base/prng.h"
#include "base/time.h"
#include "store/io_rados.h"
#include "store/object_impl.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES  (100u << 20)
#define SAMPLES_MAX (1u << 20)

static uint64_t bytes_each = 512ull << 20, blocks = 1000000;
static uint8_t buffer[CH_BLOCK_BYTES_MAX], got[CH_BLOCK_BYTES_MAX];
static struct ch_cid *cids; /* of the blocks, computed outside of what is measured: that is the client's work */
static const uint8_t master_key[CH_OBJECT_KEY_BYTES] = "a key for a bench, 32 bytes long";

static void check(ch_err err, const char *what)
{
    if (err == CH_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, ch_err_text(err));
    exit(1);
}

static double seconds_since(uint64_t from_ns)
{
    return 1e-9 * (double)(ch_time_monotonic_ns() - from_ns);
}

static void content_of(uint64_t number, uint8_t *to, size_t length)
{
    struct ch_prng g;
    ch_prng_seed(&g, number);
    for (size_t at = 0; at < 64 && at + 8 <= length; at += 8) /* enough to make each another one */
        ch_store64(to + at, ch_prng_next(&g));
}

static void make_cids(uint64_t count, size_t length)
{
    free(cids);
    cids = calloc(count, sizeof *cids);
    if (!cids)
        exit(1);
    for (uint64_t i = 0; i < count; i++) {
        content_of(i, buffer, length);
        ch_cid_of(CH_CID_RAW, buffer, length, &cids[i]);
    }
}

/* --- the raw stages --- */

static double hash_rate(size_t length)
{
    struct ch_cid cid;
    uint64_t rounds = (256ull << 20) / length, from_ns = ch_time_monotonic_ns();
    for (uint64_t i = 0; i < rounds; i++) {
        ch_store64(buffer, i);
        ch_cid_of(CH_CID_RAW, buffer, length, &cid);
    }
    return (double)(rounds * length) / seconds_since(from_ns);
}

static double cipher_rate(size_t length)
{
    struct object_crypt *crypt;
    struct object_key *key;
    uint8_t *to = malloc(record_bytes((uint32_t)length));
    enum ch_object_cipher cipher =
        object_cipher_here(CH_OBJECT_AES_256_GCM) ? CH_OBJECT_AES_256_GCM : CH_OBJECT_XCHACHA20_POLY1305;
    const struct slot slot = {.cipher = cipher, .segment = 1, .incarnation = 1};
    struct record record = {.kind = RECORD_BLOCK, .length = (uint32_t)length, .segment = 1, .incarnation = 1};
    if (!to)
        exit(1);
    check(object_crypt_open(&crypt), "cipher");
    check(object_key_new(&key), "key");
    object_key_derive(crypt, master_key, &slot, 1, key);
    uint64_t rounds = (512ull << 20) / length, from_ns = ch_time_monotonic_ns();
    for (uint64_t i = 0; i < rounds; i++) {
        record.counter = i;
        object_record_seal(crypt, key, &record, buffer, to);
    }
    double rate = (double)(rounds * length) / seconds_since(from_ns);
    object_key_free(key);
    object_crypt_close(crypt);
    free(to);
    return rate;
}

/* --- objects --- */

struct store {
    struct ch_io *io;
    struct ch_object_store *objects;
    struct ch_object_reader *reader;
    uint64_t *put_ns, *latency_ns, durable;
};

static ch_err open_storage(struct ch_io **io)
{
    const struct ch_io_rados_options options = {.config = getenv("CHAPPE_CEPH"),
                                                .user = "chappe",
                                                .pool = "chappe",
                                                .space = "bench",
                                                .holder = "bench",
                                                .timeout_seconds = 60};
    return options.config ? ch_io_rados_open(&options, io) : ch_io_uring_open(io);
}

static void open_store(struct store *s, const char *folder, const char *name)
{
    char path[1024];
    const struct ch_object_options options = {.master_key = master_key,
                                              .segment_bytes = getenv("CHAPPE_CEPH") ? 64u << 20 : 0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    s->durable = 0;
    check(open_storage(&s->io), "storage");
    check(ch_object_open(s->io, path, &options, &s->objects), path);
    check(ch_object_reader_open(s->objects, &s->reader), path);
}

static void close_store(struct store *s)
{
    ch_object_reader_close(s->reader);
    ch_object_close(s->objects);
    ch_io_close(s->io);
}

static void take(struct store *s)
{
    uint64_t cookies[256];
    size_t count;
    check(ch_object_flush(s->objects), "flush");
    check(ch_io_wait(s->io), "wait");
    do {
        check(ch_object_poll(s->objects, cookies, 256, &count), "poll");
        uint64_t now_ns = ch_time_monotonic_ns();
        for (size_t i = 0; i < count; i++)
            s->latency_ns[cookies[i] % SAMPLES_MAX] = now_ns - s->put_ns[cookies[i] % SAMPLES_MAX];
        s->durable += count;
    } while (count == 256);
}

/* --- blocks on their way into the store: made, hashed and compared with their CID as a node does it --- */

#define SLOTS 32u

struct feed {
    uint64_t from, to, length;
    uint8_t *bytes; /* SLOTS of CH_BLOCK_BYTES_MAX */
    struct ch_cid_block block[SLOTS];
    struct ch_hash_many *hasher;
    bool threaded;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t hashed, put; /* blocks before these numbers are */
};

/* Hashes the next ones, as many as the verify stage takes at a time and as slots are free up to block `limit`. */
static void hash_some(struct feed *f, uint64_t limit)
{
    struct ch_bytes input[16] = {{0}};
    uint8_t digest[16][CH_HASH_BYTES];
    uint64_t first = f->hashed, count = f->length < 16384 ? 16 : 1;
    if (count > limit - first)
        count = limit - first;
    for (uint64_t i = 0; i < count; i++) {
        uint8_t *at = f->bytes + (first + i) % SLOTS * CH_BLOCK_BYTES_MAX;
        content_of(first + i, at, f->length);
        input[i] = (struct ch_bytes){at, f->length};
    }
    ch_hash_many(f->hasher, input, count, digest);
    for (uint64_t i = 0; i < count; i++)
        if (!ch_cid_check_digest(&cids[first + i], digest[i], input[i].data, f->length, &f->block[(first + i) % SLOTS]))
            exit(1);
    if (f->threaded)
        pthread_mutex_lock(&f->lock);
    f->hashed += count;
    if (f->threaded) {
        pthread_cond_signal(&f->changed);
        pthread_mutex_unlock(&f->lock);
    }
}

static void *hash_all(void *context)
{
    struct feed *f = context;
    while (f->hashed < f->to) {
        pthread_mutex_lock(&f->lock);
        while (f->hashed - f->put > SLOTS / 2)
            pthread_cond_wait(&f->changed, &f->lock);
        uint64_t limit = f->put + SLOTS < f->to ? f->put + SLOTS : f->to;
        pthread_mutex_unlock(&f->lock);
        hash_some(f, limit);
    }
    return NULL;
}

static const struct ch_cid_block *next_block(struct feed *f, uint64_t i)
{
    if (!f->threaded) {
        if (f->hashed == i)
            hash_some(f, f->to);
        return &f->block[i % SLOTS];
    }
    pthread_mutex_lock(&f->lock);
    f->put = i;
    pthread_cond_signal(&f->changed);
    while (f->hashed <= i)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
    return &f->block[i % SLOTS];
}

static void open_feed(struct feed *f, uint64_t from, uint64_t to, size_t length, bool threaded)
{
    *f = (struct feed){.from = from, .to = to, .length = length, .threaded = threaded, .hashed = from, .put = from};
    f->bytes = calloc(SLOTS, CH_BLOCK_BYTES_MAX);
    if (!f->bytes)
        exit(1);
    check(ch_hash_many_open(&f->hasher), "hash");
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    if (threaded && pthread_create(&f->thread, NULL, hash_all, f) != 0)
        exit(1);
}

static void close_feed(struct feed *f)
{
    if (f->threaded)
        pthread_join(f->thread, NULL);
    ch_hash_many_close(f->hasher);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f->bytes);
}

/* Puts blocks `from` to `to`, hashed by the same thread or by another; `ahead` of them may be on their way. */
static void put_blocks(struct store *s, uint64_t from, uint64_t to, size_t length, uint64_t ahead, bool threaded)
{
    const struct ch_object_tag nobodys = {0};
    struct feed feed;
    uint64_t before = s->durable;
    open_feed(&feed, from, to, length, threaded);
    for (uint64_t i = from; i < to; i++) {
        const struct ch_cid_block *block = next_block(&feed, i);
        s->put_ns[i % SAMPLES_MAX] = ch_time_monotonic_ns();
        ch_err err;
        while ((err = ch_object_put_for(s->objects, block, &nobodys, i)) == CH_ERR_FULL)
            take(s);
        check(err, "put");
        while (i - from + 1 - (s->durable - before) >= ahead)
            take(s);
    }
    while (s->durable - before < to - from)
        take(s);
    close_feed(&feed);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* MB/s of puts into a new store. */
static double put_rate(struct store *s, const char *folder, const char *name, size_t length, uint64_t count,
                       uint64_t ahead, bool threaded)
{
    open_store(s, folder, name);
    uint64_t from_ns = ch_time_monotonic_ns();
    put_blocks(s, 0, count, length, ahead, threaded);
    return 1e-6 * (double)(count * length) / seconds_since(from_ns);
}

static void bench_blocks(const char *folder, const char *name, size_t length, uint64_t count, uint64_t ahead)
{
    struct store s;
    struct ch_prng g;
    char alone[64];
    s.put_ns = calloc(SAMPLES_MAX, sizeof *s.put_ns);
    s.latency_ns = calloc(SAMPLES_MAX, sizeof *s.latency_ns);
    if (!s.put_ns || !s.latency_ns)
        exit(1);
    make_cids(count, length);
    snprintf(alone, sizeof alone, "%s alone", name);
    double put_alone = put_rate(&s, folder, alone, length, count, ahead, false);
    close_store(&s);
    double put = put_rate(&s, folder, name, length, count, ahead, true);
    uint64_t samples = count < SAMPLES_MAX ? count : SAMPLES_MAX;
    qsort(s.latency_ns, samples, sizeof *s.latency_ns, ascending);
    ch_prng_seed(&g, 1);
    uint64_t gets = count < 20000 ? count : 20000, from_ns = ch_time_monotonic_ns();
    for (uint64_t i = 0; i < gets; i++) {
        size_t got_length;
        check(ch_object_get(s.reader, &cids[ch_prng_below(&g, count)], got, sizeof got, &got_length), "get");
    }
    double get_s = seconds_since(from_ns), hash = hash_rate(length), cipher = cipher_rate(length);
    printf("  \"%s\": {\"put_mb_s\": %.1f, \"put_one_thread_mb_s\": %.1f, \"put_p50_us\": %.0f, \"put_p99_us\": %.0f, "
           "\"get_mb_s\": %.1f, \"hash_mb_s\": %.1f, \"cipher_mb_s\": %.1f},\n",
           name, put, put_alone, 1e-3 * (double)s.latency_ns[samples / 2],
           1e-3 * (double)s.latency_ns[samples - 1 - samples / 100], 1e-6 * (double)(gets * length) / get_s,
           1e-6 * hash, 1e-6 * cipher);
    close_store(&s);
    free(s.put_ns);
    free(s.latency_ns);
}

/* Objects of 100 MiB, one after another: each is durable before the next begins. */
static void bench_files(const char *folder)
{
    struct store s;
    s.put_ns = calloc(SAMPLES_MAX, sizeof *s.put_ns);
    s.latency_ns = calloc(SAMPLES_MAX, sizeof *s.latency_ns);
    if (!s.put_ns || !s.latency_ns)
        exit(1);
    open_store(&s, folder, "100 MiB");
    const uint64_t leaves = FILE_BYTES / CH_BLOCK_BYTES_MAX, files = bytes_each / FILE_BYTES;
    make_cids(files * leaves, CH_BLOCK_BYTES_MAX);
    uint64_t from_ns = ch_time_monotonic_ns();
    for (uint64_t i = 0; i < files; i++)
        put_blocks(&s, i * leaves, (i + 1) * leaves, CH_BLOCK_BYTES_MAX, UINT64_MAX, true);
    double put_s = seconds_since(from_ns);
    from_ns = ch_time_monotonic_ns();
    for (uint64_t i = 0; i < files * leaves; i++) {
        size_t got_length;
        check(ch_object_get(s.reader, &cids[i], got, sizeof got, &got_length), "get");
    }
    double get_s = seconds_since(from_ns);
    printf("  \"100 MiB\": {\"put_mb_s\": %.1f, \"get_mb_s\": %.1f},\n", 1e-6 * (double)(files * FILE_BYTES) / put_s,
           1e-6 * (double)(files * FILE_BYTES) / get_s);
    close_store(&s);
    free(s.put_ns);
    free(s.latency_ns);
}

static uint64_t resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*u %llu", &pages) != 1)
        exit(1);
    fclose(file);
    return pages * 4096;
}

/* Look-ups a second, one after another, of blocks that are there or not. */
static double look_rate(struct store *s, bool present)
{
    struct ch_prng g;
    size_t length;
    const uint64_t looks = present ? 100000 : 1000000;
    ch_prng_seed(&g, 2);
    uint64_t from_ns = ch_time_monotonic_ns();
    for (uint64_t i = 0; i < looks; i++) {
        struct ch_cid cid = cids[ch_prng_below(&g, blocks)];
        cid.bytes[CH_CID_BYTES - 1] ^= present ? 0 : 1;
        ch_err err = ch_object_length(s->reader, &cid, &length);
        check(err == CH_ERR_NOT_FOUND && !present ? CH_OK : err, "look");
    }
    return (double)looks / seconds_since(from_ns);
}

static void bench_index(const char *folder)
{
    struct store s;
    struct ch_object_stats stats;
    s.put_ns = calloc(SAMPLES_MAX, sizeof *s.put_ns);
    s.latency_ns = calloc(SAMPLES_MAX, sizeof *s.latency_ns);
    if (!s.put_ns || !s.latency_ns)
        exit(1);
    memset(s.put_ns, 1, SAMPLES_MAX * sizeof *s.put_ns);
    memset(s.latency_ns, 1, SAMPLES_MAX * sizeof *s.latency_ns);
    make_cids(blocks, 64);
    open_store(&s, folder, "index");
    put_blocks(&s, 0, blocks, 64, UINT64_MAX, false);
    close_store(&s);
    uint64_t before = resident_bytes(), from_ns = ch_time_monotonic_ns();
    open_store(&s, folder, "index");
    double open_s = seconds_since(from_ns);
    double resident = (double)(resident_bytes() - before);
    ch_object_stats(s.objects, &stats);
    double present = look_rate(&s, true), absent = look_rate(&s, false);
    printf("  \"index\": {\"blocks\": %llu, \"bytes_per_block\": %.2f, \"resident_bytes_per_block\": %.2f, \"open_s\": "
           "%.2f, \"runs\": %llu, \"present_looks_s\": %.0f, \"absent_looks_s\": %.0f}\n",
           (unsigned long long)stats.blocks, (double)stats.index_bytes / (double)stats.blocks,
           resident / (double)stats.blocks, open_s, (unsigned long long)stats.runs, present, absent);
    close_store(&s);
    free(s.put_ns);
    free(s.latency_ns);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "bench_object FOLDER [MIB [BLOCKS]]\n");
        return 2;
    }
    if (argc > 2)
        bytes_each = strtoull(argv[2], NULL, 0) << 20;
    if (argc > 3)
        blocks = strtoull(argv[3], NULL, 0);
    if (bytes_each < FILE_BYTES || bytes_each > 1024ull << 20 || blocks == 0)
        return 2;
    printf("{\n");
    bench_blocks(argv[1], "4 KiB", 4096, bytes_each / 4096 / 4, 1024);
    bench_blocks(argv[1], "1 MiB", CH_BLOCK_BYTES_MAX, bytes_each / CH_BLOCK_BYTES_MAX, 16);
    bench_files(argv[1]);
    bench_index(argv[1]);
    printf("}\n");
    return 0;
}
