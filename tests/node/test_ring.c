#include "node/ring.h"
#include "tests/test.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CAPACITY 100
#define ITEMS    200000u

static struct ch_bell bell;
static struct ch_ring ring;

static void open_ring(bool shared_ends)
{
    bell = (struct ch_bell){.eventfd = eventfd(0, EFD_NONBLOCK)};
    assert_true(bell.eventfd >= 0);
    assert_ok(ch_ring_open(&ring, "test", CAPACITY, shared_ends));
    ring.consumer = &bell;
}

static void close_ring(void)
{
    ch_ring_close(&ring);
    close(bell.eventfd);
}

static void *item(uintptr_t number)
{
    return (void *)(number + 1);
}

static void full_ring_takes_what_fits_in_order(void **state)
{
    void *items[2 * CAPACITY + 64], *pulled[2 * CAPACITY + 64];
    uint32_t count = sizeof items / sizeof *items;
    open_ring(false);
    for (uint32_t i = 0; i < count; i++)
        items[i] = item(i);
    assert_null(ch_ring_pull_one(&ring));
    uint32_t taken = ch_ring_push(&ring, items, count);
    assert_in_range(taken, CAPACITY, count - 1);
    assert_int_equal(ch_ring_count(&ring), taken);
    assert_false(ch_ring_push_one(&ring, item(0)));
    assert_int_equal(ch_ring_pull(&ring, pulled, count), taken);
    assert_memory_equal(items, pulled, taken * sizeof *items);
    close_ring();
}

static bool rung(void)
{
    uint64_t times;
    return read(bell.eventfd, &times, sizeof times) == sizeof times;
}

static unsigned woken;
static void wake(void *self)
{
    woken++;
    assert_ptr_equal(self, &woken);
}

static void push_rings_only_a_sleeping_consumer(void **state)
{
    open_ring(false);
    assert_true(ch_ring_push_one(&ring, item(0)));
    assert_false(rung());
    atomic_store(&bell.sleeping, true);
    assert_true(ch_ring_push_one(&ring, item(1)));
    assert_true(rung());
    bell.wake = wake;
    bell.wake_self = &woken;
    assert_true(ch_ring_push_one(&ring, item(2)));
    assert_int_equal(woken, 1);
    assert_false(rung());
    close_ring();
}

static void *produce(void *first)
{
    for (uintptr_t i = (uintptr_t)first; i < ITEMS; i += 2)
        while (!ch_ring_push_one(&ring, item(i)))
            sched_yield();
    return NULL;
}

/* Sleeps as a stage does: flag, one more look, then the bell; a lost ring would hang here. */
static void sleeping_consumer_gets_all_of_two_producers(void **state)
{
    pthread_t producers[2];
    uintptr_t next[2] = {0, 1};
    open_ring(true);
    for (uintptr_t p = 0; p < 2; p++)
        assert_int_equal(pthread_create(&producers[p], NULL, produce, (void *)p), 0);
    for (uint32_t got = 0; got < ITEMS;) {
        void *pulled = ch_ring_pull_one(&ring);
        if (!pulled) {
            atomic_store(&bell.sleeping, true);
            pulled = ch_ring_pull_one(&ring);
            if (!pulled)
                assert_int_equal(poll(&(struct pollfd){.fd = bell.eventfd, .events = POLLIN}, 1, 20000), 1);
            atomic_store(&bell.sleeping, false);
            (void)rung();
            if (!pulled)
                continue;
        }
        uintptr_t number = (uintptr_t)pulled - 1;
        assert_int_equal(number, next[number & 1]); /* each producer's own order is kept */
        next[number & 1] += 2;
        got++;
    }
    for (int p = 0; p < 2; p++)
        pthread_join(producers[p], NULL);
    assert_int_equal(ch_ring_count(&ring), 0);
    close_ring();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_ring_takes_what_fits_in_order),
        cmocka_unit_test(push_rings_only_a_sleeping_consumer),
        cmocka_unit_test(sleeping_consumer_gets_all_of_two_producers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
