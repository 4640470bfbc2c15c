/* What is a pool's own: whose it is, and what becomes of calls when it is silent or full. In the cluster that
 * tests/cluster/ceph.py starts. */
#include <signal.h>
#include <stdio.h>

#include "tests/store/object_world.h"

static void one_holder_has_a_pool_and_takes_over_from_itself_alone(void **state)
{
    struct world first = {0}, second = {0}, other = {0};
    struct ch_object_options options = small();
    assert_ok(open_pool("held", "here", &first.io));
    open_world(&first);
    put_many(&first, 0, 20);
    assert_ok(open_pool("held", "elsewhere", &other.io));
    assert_int_equal(ch_object_open(other.io, "obj", &options, &other.store), CH_ERR_BUSY);
    ch_io_close(other.io);

    assert_ok(open_pool("held", "here", &second.io)); /* as after a crash: the first gave nothing back */
    open_world(&second);
    memcpy(second.known, first.known, sizeof second.known);
    check_all(&second, 30);
    assert_ok(put(&first, 21)); /* what the first still writes must not land */
    assert_int_equal(settle(&first), CH_ERR_BUSY);
    put_many(&second, 22, 60);
    check_all(&second, 60);
    assert_int_equal(get(&second, 21), CH_ERR_NOT_FOUND);
    finish(&first);
    close_world(&second);
    open_world(&second);
    check_all(&second, 60);
    finish(&second);
}

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

/* A shell's command, in which $CHAPPE_CEPH is the cluster's configuration. */
static void run(const char *command)
{
    assert_int_equal(system(command), 0);
}

/* The monitor hears of what lies in a pool from time to time. */
static void use_quota_up(void)
{
    run("ceph -c $CHAPPE_CEPH osd pool set-quota chappe max_bytes 1 >/dev/null 2>&1");
    run("for try in $(seq 300); do ceph -c $CHAPPE_CEPH osd pool ls detail 2>/dev/null | grep -q full_quota && exit; sleep 0.2; "
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

static void what_is_not_there_is_named(void **state)
{
    struct ch_io_rados_options options = {.config = getenv("CHAPPE_CEPH"),
                                          .user = "chappe",
                                          .pool = "nowhere",
                                          .space = "",
                                          .holder = "test",
                                          .timeout_seconds = 2};
    struct ch_io *io;
    assert_int_equal(ch_io_rados_open(&options, &io), CH_ERR_NOT_FOUND);
    options.config = "/nonexistent/ceph.conf";
    assert_int_equal(ch_io_rados_open(&options, &io), CH_ERR_INVALID);
    char nobody[] = "/tmp/chappe-ceph-conf-XXXXXX";
    int fd = mkstemp(nobody);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    fprintf(file, "[global]\nmon host = v2:127.0.0.1:1\nauth client required = none\n");
    assert_int_equal(fclose(file), 0);
    options.config = nobody;
    assert_int_equal(ch_io_rados_open(&options, &io), CH_ERR_TIMEOUT);
    assert_int_equal(unlink(nobody), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_holder_has_a_pool_and_takes_over_from_itself_alone),
        cmocka_unit_test(silent_cluster_is_a_refusal_in_time_and_its_return_is_noticed),
        cmocka_unit_test(full_pool_is_a_refusal_until_there_is_room),
        cmocka_unit_test(what_is_not_there_is_named),
    };
    if (!in_pool())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
