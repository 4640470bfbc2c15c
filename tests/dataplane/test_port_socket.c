/* The socket port on the loopback interface, and what both kinds of port share. */
#include "tests/dataplane/ports.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

static struct ch_port *open_port(const char *const *addresses, size_t count, uint32_t rx_buffers, uint32_t tx_buffers,
                                 uint32_t socket_rx_bytes)
{
    struct ch_port_config config = {.profile = CH_PORT_SOCKET,
                                    .local_count = count,
                                    .rx_buffers = rx_buffers,
                                    .tx_buffers = tx_buffers,
                                    .socket_rx_bytes = socket_rx_bytes};
    for (size_t i = 0; i < count; i++)
        assert_ok(ch_address_parse(addresses[i], &config.locals[i].address, NULL));
    struct ch_port *port = NULL;
    char why[CH_PORT_WHY_BYTES] = "";
    if (ch_port_open_socket(&config, &port, why) != CH_OK)
        fail_msg("%s", why);
    return port;
}

static void drain_tx(struct ch_port *port)
{
    struct ch_packet none[1];
    for (int i = 0; i < SPIN_MAX && ch_port_tx_pending(port) > 0; i++) {
        ch_port_tx_flush(port);
        if (ch_port_rx(port, 0, none, 1) != 0)
            fail_msg("a datagram that nobody sent");
    }
    assert_int_equal(ch_port_tx_pending(port), 0);
}

static void datagrams_both_ways_arrive_whole_with_addresses(void **state)
{
    const char *here[] = {"127.0.0.1:0", "[::1]:0"}, *there[] = {"127.0.0.1:0", "[::1]:0"};
    struct ch_port *a = open_port(here, 2, 0, 0, 0), *b = open_port(there, 2, 0, 0, 0);
    const uint32_t lengths[] = {0, 1, 4, 100, 1252, a->payload_bytes_max};
    for (uint32_t local = 0; local < 2; local++)
        for (size_t i = 0; i < 6; i++) {
            struct ch_port *from = i % 2 ? a : b, *to = i % 2 ? b : a;
            assert_true(send_number(from, 0, local, &to->locals[local].address, (uint32_t)i, lengths[i]));
            ch_port_tx_flush(from);
            struct ch_packet packet;
            int rounds = 0;
            while (ch_port_rx(to, 0, &packet, 1) == 0 && ++rounds < SPIN_MAX)
                ch_port_wait(to, 1000000);
            assert_true(rounds < SPIN_MAX);
            assert_int_equal(packet.length, lengths[i]);
            assert_int_equal(packet.local, local);
            assert_true(ch_address_equal(&packet.remote, &from->locals[local].address));
            for (uint32_t k = 4; k < packet.length; k++)
                assert_int_equal(packet.payload[k], i);
            ch_port_release(to, &packet.handle, 1);
        }
    drain_tx(a);
    drain_tx(b);
    check_sums(a);
    check_sums(b);
    ch_port_close(a);
    ch_port_close(b);
}

/* Sends `count` numbered datagrams as fast as the ports go; returns how many arrived, each once. */
static uint32_t stream(struct ch_port *from, struct ch_port *to, uint32_t count, uint32_t burst)
{
    uint8_t *seen = calloc(1, count);
    uint32_t sent = 0, arrived = 0, idle = 0;
    struct ch_packet packets[CH_PORT_BURST_MAX], none[1];
    while (idle < 1000) {
        for (uint32_t i = 0; i < burst && sent < count && send_number(from, 0, 0, &to->locals[0].address, sent, 200);
             i++)
            sent++;
        ch_port_tx_flush(from);
        assert_int_equal(ch_port_rx(from, 0, none, 1), 0);
        size_t n = ch_port_rx(to, 0, packets, CH_PORT_BURST_MAX);
        for (size_t i = 0; i < n; i++) {
            uint32_t number = ch_load32(packets[i].payload);
            assert_true(number < count && !seen[number] && packets[i].length == 200);
            seen[number] = 1;
            ch_port_release(to, &packets[i].handle, 1);
        }
        arrived += (uint32_t)n;
        idle = n == 0 && sent == count && ch_port_tx_pending(from) == 0 ? idle + 1 : 0;
    }
    free(seen);
    return arrived;
}

static void bursts_of_ten_thousand_none_lost_beyond_counted(void **state)
{
    const char *any[] = {"127.0.0.1:0"};
    uint32_t count = test_full() ? 1000000 : 100000;
    struct ch_port *a = open_port(any, 1, 0, 0, 0), *b = open_port(any, 1, 0, 0, 0);
    uint32_t arrived = stream(a, b, count, 10000);
    assert_int_equal(counter(a, CH_PORT_COUNTER_tx_sent), count);
    assert_int_equal(counter(b, CH_PORT_COUNTER_rx_datagrams), arrived);
    assert_int_equal(arrived + counter(b, CH_PORT_COUNTER_rx_missed), count);
    check_sums(a);
    check_sums(b);
    ch_port_close(a);
    ch_port_close(b);
}

/* A burst of several sizes, of which some go out and come in together, to two receivers in turn; in order to each. */
static void bursts_to_brief_locals_arrive_as_they_were_sent(void **state)
{
    static const struct {
        uint32_t length, count;
    } runs[] = {{1252, 30}, {700, 1}, {300, 17}, {0, 1}, {1, 3}, {1252, 12}};
    const char *any[] = {"127.0.0.1:0", "[::1]:0"};
    struct ch_port *from = open_port(any, 2, 0, 0, 0);
    struct ch_port_config config = {.profile = CH_PORT_SOCKET, .local_count = 2, .rx_buffers = 64};
    char why[CH_PORT_WHY_BYTES] = "";
    struct ch_port *to;
    for (uint32_t i = 0; i < 2; i++) {
        config.locals[i].brief = true;
        assert_ok(ch_address_parse(any[i], &config.locals[i].address, NULL));
    }
    if (ch_port_open_socket(&config, &to, why) != CH_OK)
        fail_msg("%s", why);
    uint32_t lengths[64], seen[2] = {0}, total = 0, rounds = 0;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++)
        for (uint32_t k = 0; k < runs[i].count; k++)
            lengths[total++] = runs[i].length;
    for (uint32_t local = 0; local < 2; local++)
        for (uint32_t i = 0; i < total; i++)
            assert_true(send_number(from, 0, local, &to->locals[local].address, i, lengths[i]));
    while (seen[0] + seen[1] < 2 * total && ++rounds < SPIN_MAX) {
        struct ch_packet packets[7];
        ch_port_tx_flush(from);
        size_t n = ch_port_rx(to, 0, packets, 7);
        for (size_t i = 0; i < n; i++) {
            uint32_t number = seen[packets[i].local]++;
            assert_true(number < total);
            assert_int_equal(packets[i].length, lengths[number]);
            assert_true(ch_address_equal(&packets[i].remote, &from->locals[packets[i].local].address));
            if (packets[i].length >= 4)
                assert_int_equal(ch_load32(packets[i].payload), number);
            for (uint32_t k = 4; k < packets[i].length; k++)
                assert_int_equal(packets[i].payload[k], number & 0xff);
            ch_port_release(to, &packets[i].handle, 1);
        }
        if (n == 0)
            ch_port_wait(to, 1000000);
    }
    assert_true(rounds < SPIN_MAX);
    drain_tx(from);
    assert_int_equal(counter(from, CH_PORT_COUNTER_tx_sent), 2 * total);
    assert_int_equal(counter(to, CH_PORT_COUNTER_rx_datagrams), 2 * total);
    check_sums(from);
    check_sums(to);
    ch_port_close(from);
    ch_port_close(to);
}

static void receive_queue_too_small_losses_are_counted(void **state)
{
    const char *any[] = {"127.0.0.1:0"};
    struct ch_port *a = open_port(any, 1, 0, 0, 0), *b = open_port(any, 1, 64, 0, 16384);
    /* nobody receives while these go out: they fill the 64 buffers and the queue, the rest is lost in the kernel */
    uint32_t sent = 0;
    struct ch_packet none[1], packets[CH_PORT_BURST_MAX];
    assert_int_equal(ch_port_rx(b, 0, packets, 1), 0);
    while (sent < 5000) {
        sent += send_number(a, 0, 0, &b->locals[0].address, sent, 1000);
        ch_port_tx_flush(a);
        assert_int_equal(ch_port_rx(a, 0, none, 1), 0);
    }
    drain_tx(a);
    uint32_t arrived = 0, idle = 0;
    while (idle < 1000) {
        size_t n = ch_port_rx(b, 0, packets, CH_PORT_BURST_MAX);
        for (size_t i = 0; i < n; i++)
            ch_port_release(b, &packets[i].handle, 1);
        arrived += (uint32_t)n;
        idle = n ? 0 : idle + 1;
    }
    assert_true(arrived > 0 && arrived < sent);
    assert_int_equal(arrived + counter(b, CH_PORT_COUNTER_rx_missed), sent);
    check_sums(b);
    ch_port_close(a);
    ch_port_close(b);
}

static void every_buffer_held_receiving_pauses_and_goes_on(void **state)
{
    const char *any[] = {"127.0.0.1:0"};
    struct ch_port *a = open_port(any, 1, 0, 0, 0), *b = open_port(any, 1, 64, 0, 0);
    for (uint32_t i = 0; i < 100; i++)
        assert_true(send_number(a, 0, 0, &b->locals[0].address, i, 100));
    drain_tx(a);
    void *held[128];
    struct ch_packet packet;
    size_t count = 0;
    for (int i = 0; i < 1000; i++)
        if (ch_port_rx(b, 0, &packet, 1)) {
            assert_int_equal(ch_load32(packet.payload), count);
            held[count++] = packet.handle;
        }
    assert_int_equal(count, 64);
    ch_port_release(b, held, 64);
    for (int i = 0; i < 1000 && count < 100; i++)
        if (ch_port_rx(b, 0, &packet, 1)) {
            assert_int_equal(ch_load32(packet.payload), count++);
            ch_port_release(b, &packet.handle, 1);
        }
    assert_int_equal(count, 100);
    assert_int_equal(counter(b, CH_PORT_COUNTER_rx_missed), 0);
    ch_port_close(a);
    ch_port_close(b);
}

static void sending_buffers_used_up_get_says_full_until_sent(void **state)
{
    const char *any[] = {"127.0.0.1:0"};
    struct ch_port *a = open_port(any, 1, 0, 8, 0);
    struct ch_packet packets[9];
    for (int i = 0; i < 8; i++)
        assert_ok(ch_port_tx_get(a, &packets[i]));
    assert_int_equal(ch_port_tx_get(a, &packets[8]), CH_ERR_FULL);
    assert_int_equal(counter(a, CH_PORT_COUNTER_tx_refused_no_buffer), 1);
    for (int i = 0; i < 4; i++)
        ch_port_release(a, &packets[i].handle, 1);
    for (int i = 4; i < 8; i++) {
        packets[i].remote = a->locals[0].address;
        packets[i].remote.port ^= 1;
        packets[i].local = 0;
        packets[i].length = 10;
        ch_port_tx_commit(a, 0, &packets[i]);
    }
    drain_tx(a);
    for (int i = 0; i < 8; i++)
        assert_ok(ch_port_tx_get(a, &packets[i]));
    for (int i = 0; i < 8; i++)
        ch_port_release(a, &packets[i].handle, 1);
    ch_port_close(a);
}

static void wrong_family_or_too_long_is_dropped_and_counted(void **state)
{
    const char *any[] = {"127.0.0.1:0"};
    struct ch_port *a = open_port(any, 1, 0, 0, 0), *b = open_port(any, 1, 0, 0, 0);
    struct ch_address six;
    assert_ok(ch_address_parse("[::1]:9", &six, NULL));
    assert_true(send_number(a, 0, 0, &six, 1, 10));
    drain_tx(a);
    assert_int_equal(counter(a, CH_PORT_COUNTER_tx_drop_no_route), 1);
    /* a kernel socket may send more than a buffer holds */
    struct sockaddr_storage to;
    socklen_t length = ch_address_to_sockaddr(&b->locals[0].address, &to);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    static const uint8_t large[4000];
    assert_int_equal(sendto(fd, large, sizeof large, 0, (struct sockaddr *)&to, length), sizeof large);
    close(fd);
    struct ch_packet packet;
    for (int i = 0; i < 1000 && counter(b, CH_PORT_COUNTER_rx_frames) == 0; i++)
        assert_int_equal(ch_port_rx(b, 0, &packet, 1), 0);
    assert_int_equal(counter(b, CH_PORT_COUNTER_rx_drop_truncated), 1);
    check_sums(a);
    check_sums(b);
    ch_port_close(a);
    ch_port_close(b);
}

/* Another thread gives the handles back and wakes the port's thread. */
struct other {
    struct ch_port *port;
    _Atomic(void *) slots[256];
    uint32_t count;
};

static void *release_elsewhere(void *argument)
{
    struct other *other = argument;
    for (uint32_t done = 0; done < other->count;) {
        void *handle = atomic_exchange(&other->slots[done % 256], NULL);
        if (!handle) {
            sched_yield();
            continue;
        }
        ch_port_release(other->port, &handle, 1);
        if (++done % 1000 == 0)
            ch_port_wake(other->port);
    }
    ch_port_wake(other->port);
    return NULL;
}

static void handles_released_by_another_thread_come_back(void **state)
{
    const char *any[] = {"127.0.0.1:0"};
    struct ch_port *a = open_port(any, 1, 0, 0, 0), *b = open_port(any, 1, 64, 0, 0);
    static struct other other;
    other = (struct other){.port = b, .count = 20000};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, release_elsewhere, &other), 0);
    uint32_t sent = 0, arrived = 0;
    struct ch_packet packet, none[1];
    for (int rounds = 0; arrived < other.count && rounds < SPIN_MAX; rounds++) {
        /* at most 128 under way: what the buffers and the kernel's queue hold for certain */
        while (sent < other.count && sent < arrived + 128 && send_number(a, 0, 0, &b->locals[0].address, sent, 100))
            sent++;
        ch_port_tx_flush(a);
        assert_int_equal(ch_port_rx(a, 0, none, 1), 0);
        if (ch_port_rx(b, 0, &packet, 1) == 0) {
            ch_port_wait(b, 1000000);
            continue;
        }
        assert_int_equal(ch_load32(packet.payload), arrived);
        while (atomic_load(&other.slots[arrived % 256]))
            sched_yield();
        atomic_store(&other.slots[arrived++ % 256], packet.handle);
    }
    pthread_join(thread, NULL);
    assert_int_equal(arrived, other.count);
    ch_port_close(a);
    ch_port_close(b);
}

static void *wake_later(void *port)
{
    ch_port_wake(port);
    return NULL;
}

static void wake_before_or_during_wait_ends_it(void **state)
{
    const char *any[] = {"127.0.0.1:0"};
    struct ch_port *a = open_port(any, 1, 0, 0, 0);
    struct ch_packet packet;
    ch_port_wake(a);
    ch_port_wait(a, UINT64_C(3600000000000)); /* an hour: the test's timeout would end it */
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, wake_later, a), 0);
        ch_port_wait(a, UINT64_C(3600000000000));
        pthread_join(thread, NULL);
        assert_int_equal(ch_port_rx(a, 0, &packet, 1), 0);
        while (atomic_load(&a->wake_wanted)) /* ended by the eventfd of the wake before */
            ch_port_wait(a, UINT64_C(3600000000000));
    }
    ch_port_close(a);
}

static void bad_configuration_is_one_clear_line(void **state)
{
    char why[CH_PORT_WHY_BYTES] = "";
    struct ch_port *port = NULL, *first;
    struct ch_port_config config = {.profile = CH_PORT_SOCKET};
    assert_int_equal(ch_port_open_socket(&config, &port, why), CH_ERR_INVALID);
    assert_non_null(strstr(why, "local addresses"));
    const char *any[] = {"127.0.0.1:0"};
    first = open_port(any, 1, 0, 0, 0);
    config.local_count = 1;
    config.locals[0] = first->locals[0];
    assert_int_equal(ch_port_open_socket(&config, &port, why), CH_ERR_BUSY);
    assert_non_null(strstr(why, "127.0.0.1:"));
    assert_ok(ch_address_parse("192.0.2.77:1", &config.locals[0].address, NULL));
    assert_int_equal(ch_port_open_socket(&config, &port, why), CH_ERR_INVALID);
    config.mtu_bytes = 9000;
    assert_int_equal(ch_port_open_socket(&config, &port, why), CH_ERR_INVALID);
    assert_non_null(strstr(why, "MTU"));
    config.profile = CH_PORT_RING;
    assert_int_equal(ch_port_open_socket(&config, &port, why), CH_ERR_INVALID);
    assert_null(port);
    ch_port_close(first);
    ch_port_close(NULL);
}

static void addresses_parse_and_format_or_are_refused(void **state)
{
    static const struct {
        const char *text, *again;
        int bits;
    } good[] = {
        {"192.0.2.1", "192.0.2.1:0", 32},
        {"192.0.2.1:4433", "192.0.2.1:4433", 32},
        {"192.0.2.1/24", "192.0.2.1:0", 24},
        {"192.0.2.1/24:65535", "192.0.2.1:65535", 24},
        {"2001:db8::1", "[2001:db8::1]:0", 128},
        {"2001:db8::1/64", "[2001:db8::1]:0", 64},
        {"[2001:db8::1]:53", "[2001:db8::1]:53", 128},
        {"[2001:db8::1]/64:53", "[2001:db8::1]:53", 64},
        {"[fe80::1%1]:53", "[fe80::1%1]:53", 128},
        {"::ffff:192.0.2.1", "192.0.2.1:0", 32},
    };
    static const char *const bad[] = {"",           "192.0.2",     "192.0.2.1:", "192.0.2.1:65536", "192.0.2.1/33",
                                      "[::1",       "[::1]x",      "[::1]:",     "::1/129",         "[192.0.2.1]:1",
                                      "localhost",  "1.2.3.4:1:2", "[::1]:1/64", "1.2.3.4:1/24",    "%1",
                                      "1.2.3.4%lo", "::1%",        "1.2.3.4:-1", "1.2.3.4: 1",      "[]:1"};
    struct ch_address address;
    uint8_t bits;
    char text[CH_ADDRESS_TEXT_BYTES];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_ok(ch_address_parse(good[i].text, &address, &bits));
        assert_string_equal(ch_address_format(&address, text), good[i].again);
        assert_int_equal(bits, good[i].bits);
        struct sockaddr_storage at;
        struct ch_address again;
        socklen_t length = ch_address_to_sockaddr(&address, &at);
        assert_ok(ch_address_from_sockaddr((struct sockaddr *)&at, length, &again));
        assert_true(ch_address_equal(&address, &again));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (ch_address_parse(bad[i], &address, &bits) != CH_ERR_INVALID)
            fail_msg("taken: %s", bad[i]);
    assert_int_equal(ch_address_parse("192.0.2.1/24", &address, NULL), CH_ERR_INVALID);

    struct ch_address network, other;
    assert_ok(ch_address_parse("192.0.2.0", &network, NULL));
    assert_ok(ch_address_parse("192.0.2.200", &address, NULL));
    assert_ok(ch_address_parse("192.0.3.0", &other, NULL));
    assert_true(ch_address_in_prefix(&address, &network, 24) && !ch_address_in_prefix(&address, &network, 25));
    assert_true(!ch_address_in_prefix(&other, &network, 24) && ch_address_in_prefix(&other, &network, 23));
    assert_true(ch_address_in_prefix(&other, &network, 0));
    assert_ok(ch_address_parse("::", &other, NULL));
    assert_false(ch_address_in_prefix(&other, &network, 0));
}

static void names_of_counters_and_profiles_are_listed(void **state)
{
    for (enum ch_port_counter c = 0; c < CH_PORT_COUNTER_COUNT; c++)
        assert_true(strlen(ch_port_counter_name(c)) > 0 && strlen(ch_port_counter_text(c)) > 0);
    assert_null(ch_port_counter_name(CH_PORT_COUNTER_COUNT));
    assert_null(ch_port_counter_text(CH_PORT_COUNTER_COUNT));
    enum ch_port_profile profile;
    for (enum ch_port_profile p = CH_PORT_SOCKET; p <= CH_PORT_PCAP; p++) {
        assert_ok(ch_port_profile_parse(ch_port_profile_name(p), &profile));
        assert_int_equal(profile, p);
    }
    assert_int_equal(ch_port_profile_parse("tap", &profile), CH_ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_parse_and_format_or_are_refused),
        cmocka_unit_test(names_of_counters_and_profiles_are_listed),
        cmocka_unit_test(bad_configuration_is_one_clear_line),
        cmocka_unit_test(datagrams_both_ways_arrive_whole_with_addresses),
        cmocka_unit_test(bursts_of_ten_thousand_none_lost_beyond_counted),
        cmocka_unit_test(bursts_to_brief_locals_arrive_as_they_were_sent),
        cmocka_unit_test(receive_queue_too_small_losses_are_counted),
        cmocka_unit_test(every_buffer_held_receiving_pauses_and_goes_on),
        cmocka_unit_test(sending_buffers_used_up_get_says_full_until_sent),
        cmocka_unit_test(wrong_family_or_too_long_is_dropped_and_counted),
        cmocka_unit_test(handles_released_by_another_thread_come_back),
        cmocka_unit_test(wake_before_or_during_wait_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
