/* The log: bytes a second that become durable, and how long a record waits for that at a steady rate.
 *
 *   bench_log FOLDER [MIB [RECORDS_PER_SECOND]]
 *
 * One JSON object on stdout. Records of 300 bytes; MIB (default 512) of them as fast as the log takes them, once in
 * segments that come back from a cut and once in new ones, each of which is filled with zeros while the one before it
 * is written; then three seconds at RECORDS_PER_SECOND (default 500,000): latency from when a record was due until it
 * is durable. bench/store_against_fio.py runs it between two runs of fio. */
#include "base/time.h"
#include "store/wal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RECORD_BYTES  300u
#define SEGMENT_BYTES (64u << 20)
#define STEADY_S      3u
#define RATE_MAX      5000000u

static uint8_t body[RECORD_BYTES] = "a record of the log's bench";
static const struct ch_bytes record = {body, RECORD_BYTES};

struct log {
    struct ch_io *io;
    struct ch_wal *wal;
};

static void check(ch_err err, const char *what)
{
    if (err == CH_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, ch_err_text(err));
    exit(1);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct log open_log(const char *folder, const char *name)
{
    const struct ch_wal_options options = {.segment_bytes = SEGMENT_BYTES};
    struct log log;
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    check(ch_io_uring_open(&log.io), "io_uring");
    check(ch_wal_create(log.io, path, &options), path);
    check(ch_wal_open(log.io, path, &options, &log.wal), path);
    return log;
}

static void close_log(struct log *log)
{
    ch_wal_close(log->wal);
    ch_io_close(log->io);
}

/* Appends `count` records as fast as the log takes them and waits until they are durable. With `cut`, segments are
 * given up as soon as they are full, so that they are written again. */
static void append(struct log *log, uint64_t count, bool cut)
{
    uint64_t lsn, segment = ch_wal_durable_end(log->wal) >> CH_WAL_SEGMENT_SHIFT;
    ch_wal_position position;
    while (count) {
        ch_err err = ch_wal_append(log->wal, 1, &record, 1, &lsn, &position);
        if (err == CH_OK) {
            count--;
            continue;
        }
        if (err != CH_ERR_FULL)
            check(err, "append");
        check(ch_io_wait(log->io), "wait");
        check(ch_wal_poll(log->wal), "poll");
        if (cut && ch_wal_durable_end(log->wal) >> CH_WAL_SEGMENT_SHIFT != segment) {
            segment = ch_wal_durable_end(log->wal) >> CH_WAL_SEGMENT_SHIFT;
            check(ch_wal_cut_below(log->wal, ch_wal_durable_end(log->wal)), "cut");
        }
    }
    check(ch_wal_settle(log->wal), "settle");
}

static void bench_rate(const char *folder, const char *name, uint64_t bytes, bool cut)
{
    struct log log = open_log(folder, name);
    uint64_t count = bytes / RECORD_BYTES;
    if (cut) /* until there are segments to write again */
        append(&log, 4ull * SEGMENT_BYTES / RECORD_BYTES, cut);
    double cpu_s = cpu_seconds();
    uint64_t from_ns = ch_time_monotonic_ns();
    append(&log, count, cut);
    double seconds = 1e-9 * (double)(ch_time_monotonic_ns() - from_ns);
    printf("  \"%s_mb_s\": %.1f,\n  \"%s_cpu_ns_a_record\": %.1f,\n", name,
           1e-6 * (double)(count * RECORD_BYTES) / seconds, name, 1e9 * (cpu_seconds() - cpu_s) / (double)count);
    close_log(&log);
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void bench_latency(const char *folder, uint64_t rate)
{
    struct log log = open_log(folder, "steady");
    append(&log, 4ull * SEGMENT_BYTES / RECORD_BYTES, true);
    uint64_t count = STEADY_S * rate, appended = 0, durable = 0, lsn, base = ch_wal_durable_lsn(log.wal);
    uint32_t *latency_ns = calloc(count, sizeof *latency_ns);
    ch_wal_position position;
    if (!latency_ns)
        exit(1);
    uint64_t from_ns = ch_time_monotonic_ns();
    while (durable < count) {
        uint64_t now_ns = ch_time_monotonic_ns(), due = (uint64_t)(1e-9 * (double)(now_ns - from_ns) * (double)rate);
        for (; appended < due && appended < count; appended++) {
            ch_err err = ch_wal_append(log.wal, 1, &record, 1, &lsn, &position);
            if (err == CH_ERR_FULL)
                break;
            check(err, "append");
        }
        check(ch_wal_flush(log.wal), "flush");
        if (ch_wal_durable_lsn(log.wal) < ch_wal_appended_lsn(log.wal))
            check(ch_io_wait(log.io), "wait");
        check(ch_wal_poll(log.wal), "poll");
        now_ns = ch_time_monotonic_ns();
        for (; durable < ch_wal_durable_lsn(log.wal) - base; durable++) {
            uint64_t ns = now_ns - from_ns - (uint64_t)((double)(durable + 1) * 1e9 / (double)rate);
            latency_ns[durable] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
        }
    }
    qsort(latency_ns, count, sizeof *latency_ns, ascending);
    printf("  \"steady_records_s\": %llu,\n  \"steady_p50_us\": %.1f,\n  \"steady_p99_us\": %.1f\n",
           (unsigned long long)rate, 1e-3 * latency_ns[count / 2], 1e-3 * latency_ns[count - 1 - count / 100]);
    free(latency_ns);
    close_log(&log);
}

int main(int argc, char **argv)
{
    uint64_t mib = argc > 2 ? strtoull(argv[2], NULL, 0) : 512, rate = argc > 3 ? strtoull(argv[3], NULL, 0) : 500000;
    if (argc < 2 || mib == 0 || mib > 1u << 20 || rate == 0 || rate > RATE_MAX) {
        fprintf(stderr, "bench_log FOLDER [MIB [RECORDS_PER_SECOND]]\n");
        return 2;
    }
    printf("{\n");
    bench_rate(argv[1], "log", mib << 20, true);
    bench_rate(argv[1], "log_new", mib << 20, false);
    bench_latency(argv[1], rate);
    printf("}\n");
    return 0;
}
