/* What is a pool's own: whose it is, and what becomes of calls when it is silent or full. In the cluster that
 * tests/cluster/ceph.py starts. */
#include <stdio.h>

#include "tests/store/object_writer.h"

/* --- whose a pool is --- */

static struct writer writer;

static void living_holder_keeps_its_pool_whatever_the_other_is_called(void **state)
{
    struct world w;
    start_writer(&writer, "living", "here", 0);
    assert_int_equal(open_shared_world(&w, "living", "elsewhere"), CH_ERR_BUSY);
    assert_int_equal(open_shared_world(&w, "living", "here"), CH_ERR_BUSY);
    assert_int_equal(open_shared_world(&w, "living", "here"), CH_ERR_BUSY);
    for (int i = 0; i < 100; i++) /* it was not disturbed */
        assert_true(hear_writer(&writer));
    assert_int_equal(kill(writer.process, SIGKILL), 0);
    end_writer(&writer);
    assert_int_equal(open_shared_world(&w, "living", "elsewhere"),
                     CH_ERR_BUSY); /* for all that is known here, it lives there */
}

static void frozen_holder_is_shut_out_and_what_it_stored_is_there(void **state)
{
    enum { FIRST = BLOCKS_MAX - 100 };
    struct world w;
    start_writer(&writer, "frozen", "here", 0);
    assert_int_equal(kill(writer.process, SIGSTOP), 0);
    assert_ok(open_shared_world(&w, "frozen", "here"));
    put_many(&w, FIRST, BLOCKS_MAX);
    assert_int_equal(kill(writer.process, SIGCONT), 0); /* goes on as if nothing had happened */
    end_writer(&writer);
    assert_int_equal(writer.end, CH_ERR_DENIED);
    for (int life = 0; life < 2; life++) {
        for (size_t i = 0; i < writer.count; i++)
            assert_ok(get(&w, writer.stored[i]));
        for (uint64_t i = FIRST; i < BLOCKS_MAX; i++)
            assert_ok(get(&w, i));
        close_world(&w);
        open_world(&w);
    }
    finish(&w);
}

/* A shell's command, in which $CHAPPE_CEPH is the cluster's configuration. */
static void run(const char *command)
{
    assert_int_equal(system(command), 0);
}

/* Its watch can't be begun again: what librados has given back must not be asked for. */
static void holder_that_was_shut_out_goes_on_being_refused(void **state)
{
    struct world w;
    uint8_t bytes[100] = {0};
    struct ch_file *lock, *file;
    struct ch_io_done done;
    assert_int_equal(setenv("POOL_SPACE", "shut-out", 1), 0);
    assert_ok(open_pool("shut-out", "here", &w.io));
    assert_ok(ch_io_open(w.io, "file", CH_IO_WRITE | CH_IO_CREATE, &file));
    assert_ok(ch_io_open(w.io, "lock", CH_IO_WRITE | CH_IO_CREATE, &lock));
    assert_ok(ch_io_lock(w.io, lock));
    run("ceph -c $CHAPPE_CEPH osd blocklist add $(rados -c $CHAPPE_CEPH -p chappe -N $POOL_SPACE lock info lock chappe | "
        "grep -oE '[0-9.]+:[0-9]+/[0-9]+') 2>/dev/null");
    for (int refused = 0; refused < 200; refused++) {
        struct ch_io_request request = {.kind = CH_IO_OP_WRITE, .file = file, .data = bytes, .length = sizeof bytes};
        assert_ok(ch_io_submit(w.io, &request));
        assert_ok(ch_io_wait(w.io));
        assert_int_equal(ch_io_poll(w.io, &done, 1), 1);
        if (done.err == CH_OK) /* the storage has not heard of it yet */
            refused = 0;
        else
            assert_int_equal(done.err, CH_ERR_DENIED);
    }
    ch_io_close_file(w.io, lock);
    ch_io_close_file(w.io, file);
    ch_io_close(w.io);
}

/* --- silent and full --- */

static bool any(uint64_t cookie)
{
    return true;
}

/* Polls until puts are given up; how many. */
static size_t given_up(struct world *w, ch_err *why)
{
    uint64_t cookies[64];
    size_t count = 0;
    while (count == 0) {
        assert_ok(ch_io_wait(w->io));
        assert_ok(poll(w));
        count = ch_object_give_up(w->store, any, cookies, 64, why);
    }
    return count;
}

static void silent_cluster_is_a_refusal_in_time_and_its_return_is_noticed(void **state)
{
    pid_t osd = (pid_t)atoi(getenv("CHAPPE_CEPH_OSDS"));
    struct world w;
    ch_err why, err;
    uint64_t moved;
    pool_timeout_seconds = 3;
    begin(&w, 0);
    put_many(&w, 0, 400);
    for (uint64_t i = 0; i < 200; i++)
        assert_ok(drop(&w, i));
    assert_ok(settle(&w));
    assert_ok(put(&w, 500));
    assert_int_equal(kill(osd, SIGSTOP), 0);
    assert_ok(ch_object_flush(w.store));
    assert_int_equal(given_up(&w, &why), 1);
    assert_int_equal(why, CH_ERR_TIMEOUT);
    assert_int_equal(put(&w, 501), CH_ERR_TIMEOUT);
    assert_int_equal(drop(&w, 300), CH_ERR_TIMEOUT);
    for (int i = 0; i < 100; i++) /* at once: a hundred waits of three seconds would be noticed */
        assert_int_equal(get(&w, 300), CH_ERR_TIMEOUT);
    assert_int_equal(ch_object_compact(w.store, 20000, &moved), CH_ERR_TIMEOUT);
    assert_int_equal(kill(osd, SIGCONT), 0);
    while ((err = get(&w, 300)) == CH_ERR_TIMEOUT)
        usleep(10000);
    assert_ok(err);
    assert_ok(settle(&w));
    assert_ok(get(&w, 500)); /* given up, and stored all the same */
    w.known[500] = STORED;
    put_many(&w, 501, 540);
    assert_ok(compact_all(&w));
    check_all(&w, 560);
    close_world(&w);
    open_world(&w);
    check_all(&w, 560);
    finish(&w);
    pool_timeout_seconds = 30;
}

/* The monitor hears of what lies in a pool from time to time. */
static void use_quota_up(void)
{
    run("ceph -c $CHAPPE_CEPH osd pool set-quota chappe max_bytes 1 >/dev/null 2>&1");
    run("for try in $(seq 300); do ceph -c $CHAPPE_CEPH osd pool ls detail 2>/dev/null | grep -q full_quota && exit; "
        "sleep 0.2; "
        "done; exit 1");
}

static void lift_quota(void)
{
    run("ceph -c $CHAPPE_CEPH osd pool set-quota chappe max_bytes 0 >/dev/null 2>&1");
}

static void full_pool_is_a_refusal_until_there_is_room(void **state)
{
    struct world w;
    ch_err err = CH_OK;
    uint64_t number = 50;
    begin(&w, 0);
    put_many(&w, 0, number);
    use_quota_up(); /* the segment that was begun counts as a whole: it is filled, another isn't begun */
    for (; err == CH_OK; number++) {
        assert_true(number < BLOCKS_MAX - 100);
        err = put(&w, number);
    }
    assert_int_equal(err, CH_ERR_NO_SPACE);
    assert_ok(settle(&w));
    check_all(&w, number);
    lift_quota();
    while ((err = put(&w, number)) == CH_ERR_NO_SPACE)
        usleep(10000);
    assert_ok(err);
    put_many(&w, number + 1, number + 50);
    check_all(&w, number + 60);
    finish(&w);
}

/* --- what an operator may have forgotten --- */

/* A configuration of our own; the keyring has that key, "": there is no keyring. */
static void write_config(char path[64], const char *monitor, const char *key)
{
    char keyring[80];
    strcpy(path, "/tmp/chappe-ceph-conf-XXXXXX");
    FILE *file = fdopen(mkstemp(path), "w");
    assert_non_null(file);
    snprintf(keyring, sizeof keyring, "%s.keyring", path);
    fprintf(file, "[global]\nmon host = v2:127.0.0.1:%s\nauth client required = cephx\nkeyring = %s\n", monitor,
            keyring);
    assert_int_equal(fclose(file), 0);
    if (!*key)
        return;
    file = fopen(keyring, "w");
    assert_non_null(file);
    fprintf(file, "[client.chappe]\nkey = %s\n", key);
    assert_int_equal(fclose(file), 0);
}

static void remove_config(const char *path)
{
    char keyring[80];
    snprintf(keyring, sizeof keyring, "%s.keyring", path);
    assert_int_equal(unlink(path), 0);
    (void)unlink(keyring);
}

static void what_is_not_there_is_named(void **state)
{
    static const char other_key[] = "AQBzVktpAAAAABAAWPCqLSEKXbXHXPVtJhSXpg==";
    static const struct {
        const char *monitor, *key;
        ch_err err;
    } cases[] = {{"3300", "", CH_ERR_DENIED}, {"3300", other_key, CH_ERR_DENIED}, {"1", other_key, CH_ERR_TIMEOUT}};
    struct ch_io_rados_options options = {.config = getenv("CHAPPE_CEPH"),
                                          .user = "chappe",
                                          .pool = "nowhere",
                                          .space = "",
                                          .holder = "test",
                                          .timeout_seconds = 2};
    struct ch_io *io;
    assert_int_equal(ch_io_rados_open(&options, &io), CH_ERR_NOT_FOUND);
    options.pool = "chappe";
    options.user = "nobody";
    assert_int_equal(ch_io_rados_open(&options, &io), CH_ERR_DENIED);
    options.user = "chappe";
    options.config = "/nonexistent/ceph.conf";
    assert_int_equal(ch_io_rados_open(&options, &io), CH_ERR_INVALID);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[64];
        write_config(path, cases[i].monitor, cases[i].key);
        options.config = path;
        assert_int_equal(ch_io_rados_open(&options, &io), cases[i].err);
        remove_config(path);
    }
}

static void right_that_is_missing_is_named(void **state)
{
    struct world w;
    start_writer(&writer, "rights", "here", 0);
    assert_int_equal(kill(writer.process, SIGKILL), 0);
    end_writer(&writer);
    run("ceph -c $CHAPPE_CEPH auth caps client.chappe mon 'allow r' osd 'allow rwx pool=chappe' 2>/dev/null");
    assert_int_equal(open_shared_world(&w, "rights", "here"), CH_ERR_DENIED); /* to shut the dead one out */
    run("ceph -c $CHAPPE_CEPH auth caps client.chappe mon 'profile rbd' osd 'allow rwx pool=elsewhere' 2>/dev/null");
    assert_int_equal(open_shared_world(&w, "rights", "here"), CH_ERR_DENIED); /* to read */
    run("ceph -c $CHAPPE_CEPH auth caps client.chappe mon 'profile rbd' osd 'allow rwx pool=chappe' 2>/dev/null");
    assert_ok(open_shared_world(&w, "rights", "here"));
    for (size_t i = 0; i < writer.count; i++)
        assert_ok(get(&w, writer.stored[i]));
    finish(&w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(living_holder_keeps_its_pool_whatever_the_other_is_called),
        cmocka_unit_test(frozen_holder_is_shut_out_and_what_it_stored_is_there),
        cmocka_unit_test(holder_that_was_shut_out_goes_on_being_refused),
        cmocka_unit_test(silent_cluster_is_a_refusal_in_time_and_its_return_is_noticed),
        cmocka_unit_test(full_pool_is_a_refusal_until_there_is_room),
        cmocka_unit_test(what_is_not_there_is_named),
        cmocka_unit_test(right_that_is_missing_is_named),
    };
    if (!in_pool())
        return 77;
    if (argc > 1)
        be_writer(argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
