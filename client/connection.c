/* One UDP socket, one QUIC engine, one connection to one of several addresses; requests and their answers. */
#include "client/client_impl.h"

#include "base/time.h"
#include "wire/cid.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECOND_NS            UINT64_C(1000000000)
#define REDIAL_PAUSE_NS      (SECOND_NS / 5)
#define DIAL_NS              (3 * SECOND_NS) /* as long as there is another address to try */
#define SILENT_NS            SECOND_NS       /* then a sign of life is asked for */
#define REFUSED_NS           (SECOND_NS / 2) /* silence after which the host's word that nobody listens is believed */
#define DEAD_NS              (5 * SECOND_NS)
#define GOODBYE_ROUNDS_MAX   8
#define DATAGRAMS_A_ROUND    256 /* so that timers run under a flood */
#define TOGETHER_MAX         64    /* datagrams by one call: the kernel's UDP_MAX_SEGMENTS */
#define TOGETHER_BYTES       65507 /* their bytes: of one UDP datagram */
#define SOCKET_RECEIVE_BYTES (2 << 20)

ch_err ch_client_fail(struct ch_client *c, ch_err err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
    return err;
}

static void finish(struct ch_client *c, struct ch_request *request, ch_err result)
{
    ch_client_drop(c, request);
    request->result = result;
    request->done = true;
}

void ch_client_drop(struct ch_client *c, struct ch_request *request)
{
    for (struct ch_request **at = &c->pending; *at; at = &(*at)->next)
        if (*at == request) {
            *at = request->next;
            return;
        }
}

static void send_hello(struct ch_client *c)
{
    uint8_t body[CH_HELLO_FRAME_BYTES];
    struct ch_hello hello = {.version = CH_PROTOCOL_VERSION, .role = CH_ROLE_CLIENT, .time_ms = ch_time_unix_ms()};
    memcpy(hello.chain_id, c->chain_id, CH_HASH_BYTES);
    ch_hello_write(&hello, body);
    struct ch_frame_header header = {.type = CH_FRAME_HELLO};
    /* The first frame of a connection: there is room. If not, the wait for HELLO ends in a timeout. */
    if (ch_quic_send(c->engine, c->conn, &header, &(struct ch_bytes){body, sizeof body}, 1) != CH_OK)
        ch_quic_hang_up(c->engine, c->conn, CH_QUIC_CODE_OVERLOADED, NULL);
}

static void on_connected(void *context, uint64_t conn, const struct ch_quic_peer *peer)
{
    struct ch_client *c = context;
    bool expected = c->peer_key_count == 0;
    for (size_t i = 0; i < c->peer_key_count; i++)
        expected = expected || memcmp(c->peer_keys[i], peer->key, 32) == 0;
    memcpy(c->peer_key, peer->key, 32);
    if (!expected) {
        ch_quic_hang_up(c->engine, conn, CH_QUIC_CODE_NOT_ALLOWED, "not the key of a validator that I know");
        return;
    }
    c->connected = true;
    send_hello(c);
}

static void on_hello(struct ch_client *c, uint64_t conn, const struct ch_frame_header *header, const uint8_t *body)
{
    struct ch_hello hello;
    if (header->type != CH_FRAME_HELLO || !ch_hello_read(body, header->length, &hello)) {
        ch_quic_hang_up(c->engine, conn, CH_QUIC_CODE_BAD_FRAME, "HELLO was expected");
        return;
    }
    if (memcmp(hello.chain_id, c->chain_id, CH_HASH_BYTES) != 0) {
        ch_quic_hang_up(c->engine, conn, CH_QUIC_CODE_WRONG_CHAIN, NULL);
        return;
    }
    if (hello.version != CH_PROTOCOL_VERSION) {
        ch_quic_hang_up(c->engine, conn, CH_QUIC_CODE_WRONG_VERSION, NULL);
        return;
    }
    c->hello = hello;
    c->clock_ms = (int64_t)(hello.time_ms - ch_time_unix_ms());
    c->hello_done = true;
    c->was_connected = true;
    c->dialling = false;
    c->failures = 0;
    c->heard_ns = ch_time_monotonic_ns();
}

static bool on_frame(void *context, uint64_t conn, const struct ch_frame_header *header, const uint8_t *body)
{
    struct ch_client *c = context;
    if (!c->hello_done) {
        on_hello(c, conn, header, body);
        return true;
    }
    struct ch_request *request = c->pending;
    while (request && request->number != header->request)
        request = request->next;
    if (!request)
        return true; /* a late answer to what nobody waits for any more */
    ch_err result;
    if (header->type == CH_FRAME_STATUS && header->length == 2) {
        request->status = ch_load16(body);
        result = request->status == CH_STATUS_OK ? CH_OK : CH_ERR_REFUSED;
    } else {
        result = request->answer ? request->answer(request, header, body) : CH_ERR_PROTOCOL;
    }
    if (result != CH_ERR_AGAIN)
        finish(c, request, result);
    return true;
}

static void on_closed(void *context, uint64_t conn, const struct ch_quic_closed *closed)
{
    struct ch_client *c = context;
    if (ch_quic_conn_of(conn) != ch_quic_conn_of(c->conn))
        return;
    c->closed = *closed;
    c->conn = 0;
    c->connected = c->hello_done = false;
    while (c->pending)
        finish(c, c->pending, CH_ERR_CLOSED);
}

/* "host:port", "[v6]:port": splits at the last colon. */
static ch_err resolve(const char *text, struct ch_address *out, char *why)
{
    char host[128];
    if (ch_address_parse(text, out, NULL) == CH_OK && out->port)
        return CH_OK;
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || strchr(text, ':') != colon || (size_t)(colon - text) >= sizeof host) {
        (void)snprintf(why, CH_CLIENT_WHY_BYTES, "\"%.100s\" is no address; expected as 192.0.2.1:4740", text);
        return CH_ERR_INVALID;
    }
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV}, *found = NULL;
    int failed = getaddrinfo(host, colon + 1, &hints, &found);
    if (failed) {
        (void)snprintf(why, CH_CLIENT_WHY_BYTES, "%.100s: %s", text, gai_strerror(failed));
        return CH_ERR_NOT_FOUND;
    }
    ch_err err = ch_address_from_sockaddr(found->ai_addr, found->ai_addrlen, out);
    freeaddrinfo(found);
    return err;
}

static ch_err open_socket(struct ch_client *c)
{
    struct sockaddr_storage to;
    socklen_t length = ch_address_to_sockaddr(&c->remote, &to);
    if (c->fd >= 0)
        (void)close(c->fd);
    c->fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        return ch_client_fail(c, CH_ERR_IO, "no UDP socket: %s", strerror(errno));
    int dont_fragment = IP_PMTUDISC_PROBE,
        bytes = SOCKET_RECEIVE_BYTES, together = 1; /* QUIC finds out what the path carries itself */
    (void)setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    (void)setsockopt(c->fd, SOL_UDP, UDP_GRO, &together, sizeof together);
    c->one_by_one = false;
    if (to.ss_family == AF_INET)
        (void)setsockopt(c->fd, IPPROTO_IP, IP_MTU_DISCOVER, &dont_fragment, sizeof dont_fragment);
    else
        (void)setsockopt(c->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &dont_fragment, sizeof dont_fragment);
    /* Connected: strangers' datagrams don't reach us, and an ICMP error tells that nobody is there. */
    if (connect(c->fd, (const struct sockaddr *)&to, length) != 0)
        return ch_client_fail(c, CH_ERR_IO, "no way to %s: %s", c->name, strerror(errno));
    return CH_OK;
}

static ch_err use_address(struct ch_client *c, unsigned at)
{
    c->address_at = at;
    c->name = c->addresses[at];
    ch_err err = resolve(c->name, &c->remote, c->why);
    return err == CH_OK ? open_socket(c) : err;
}

static ch_err open_engine(struct ch_client *c)
{
    const struct ch_quic_options options = {
        .seed = c->key.seed,
        .callbacks = {.connected = on_connected, .frame = on_frame, .closed = on_closed},
        .context = c,
        .connections_max = 4,
        .initial_rtt_ns = SECOND_NS / 50,
        .keep_alive_ns = 10 * SECOND_NS,
    };
    ch_err err = ch_quic_open(&options, &c->engine);
    return err == CH_OK ? CH_OK : ch_client_fail(c, err, "QUIC: %s", ch_err_text(err));
}

/* The list of addresses, beginning with options->address. */
static ch_err take_addresses(struct ch_client *c, const struct ch_client_options *options)
{
    c->address_count = (unsigned)options->other_count + 1;
    c->addresses = calloc(c->address_count, sizeof *c->addresses);
    if (!c->addresses)
        return CH_ERR_NO_MEMORY;
    for (unsigned i = 0; i < c->address_count; i++)
        (void)snprintf(c->addresses[i], sizeof *c->addresses, "%s", i ? options->others[i - 1] : options->address);
    return CH_OK;
}

ch_err ch_client_open(const struct ch_client_options *options, struct ch_client **out, char *why)
{
    struct ch_client *c = calloc(1, sizeof *c);
    if (!c)
        return CH_ERR_NO_MEMORY;
    c->fd = -1;
    c->timeout_ns = (options->timeout_ms ? options->timeout_ms : CH_CLIENT_TIMEOUT_MS) * UINT64_C(1000000);
    c->peer_keys = options->peer_keys;
    c->peer_key_count = options->peer_key_count;
    c->key = *options->key;
    memcpy(c->chain_id, options->chain_id, CH_HASH_BYTES);
    CH_ASSERT(options->other_count < CH_CLIENT_ADDRESSES_MAX);
    ch_err err = take_addresses(c, options);
    if (err == CH_OK)
        err = use_address(c, 0);
    if (err == CH_OK)
        err = open_engine(c);
    if (err != CH_OK) {
        if (why)
            memcpy(why, c->why, CH_CLIENT_WHY_BYTES);
        ch_client_close(c);
        return err;
    }
    *out = c;
    return CH_OK;
}

ch_err ch_client_open_companions(struct ch_client *c)
{
    const char *others[CH_CLIENT_ADDRESSES_MAX];
    while (c->companion_count < CH_CLIENT_LANES_MAX - 1 && c->companion_count + 1 < c->address_count) {
        /* Each begins at another address, and turns to the others when it must. */
        unsigned first = (c->address_at + 1 + c->companion_count) % c->address_count;
        for (unsigned i = 1; i < c->address_count; i++)
            others[i - 1] = c->addresses[(first + i) % c->address_count];
        const struct ch_client_options options = {
            .address = c->addresses[first],
            .others = others,
            .other_count = c->address_count - 1,
            .chain_id = c->chain_id,
            .key = &c->key,
            .peer_keys = c->peer_keys,
            .peer_key_count = c->peer_key_count,
            .timeout_ms = (uint32_t)(c->timeout_ns / 1000000),
        };
        ch_err err = ch_client_open(&options, &c->companions[c->companion_count], NULL);
        if (err != CH_OK)
            return err;
        c->companion_count++;
    }
    return CH_OK;
}

/* How long each of the datagrams is that the kernel took together (UDP_GRO); all that came, where it is one. */
static size_t segment_bytes(struct msghdr *message, size_t received)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int bytes;
            memcpy(&bytes, CMSG_DATA(c), sizeof bytes);
            return bytes > 0 ? (size_t)bytes : received;
        }
    return received;
}

static void receive_all(struct ch_client *c)
{
    const struct ch_quic_route from = {.remote = c->remote};
    for (unsigned i = 0; i < DATAGRAMS_A_ROUND;) {
        _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))];
        struct iovec all = {c->datagrams, sizeof c->datagrams};
        struct msghdr message = {
            .msg_iov = &all, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t n = recvmsg(c->fd, &message, 0);
        if (n < 0) {
            c->refused_by_host = c->refused_by_host || errno == ECONNREFUSED;
            if (errno != EINTR && errno != ECONNREFUSED)
                return;
            i++;
            continue;
        }
        c->refused_by_host = false;
        size_t received = (size_t)n, each = segment_bytes(&message, received), at = 0;
        do {
            size_t length = received - at < each ? received - at : each;
            ch_quic_receive(c->engine, &from, c->datagrams + at, length, ch_time_monotonic_ns());
            at += length;
            i++;
        } while (at < received);
    }
}

/* Datagrams of `each` bytes, the last maybe shorter, by one call. What the kernel doesn't take is lost as on any path;
 * QUIC sends it again. */
static void send_together(struct ch_client *c, size_t bytes, size_t each)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    const uint16_t segment = (uint16_t)each;
    struct iovec all = {c->datagrams, bytes};
    struct msghdr message = {.msg_iov = &all, .msg_iovlen = 1};
    if (bytes > each) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        *head = (struct cmsghdr){.cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof segment)};
        memcpy(CMSG_DATA(head), &segment, sizeof segment);
    }
    if (sendmsg(c->fd, &message, 0) >= 0)
        return;
    if (errno == ECONNREFUSED)
        c->refused_by_host = true;
    else if (bytes > each && (errno == EIO || errno == EINVAL))
        c->one_by_one = true; /* this path's device can't */
}

static void send_all(struct ch_client *c)
{
    struct ch_quic_route to;
    size_t used = 0, each = 0;
    for (unsigned i = 0; i < DATAGRAMS_A_ROUND; i++) {
        size_t length = ch_quic_next_datagram(c->engine, c->datagrams + used, CH_QUIC_DATAGRAM_BYTES_MAX, &to,
                                              ch_time_monotonic_ns());
        if (used && (length == 0 || length > each)) {
            send_together(c, used, each);
            memmove(c->datagrams, c->datagrams + used, length);
            used = 0;
        }
        if (length == 0)
            return;
        each = used ? each : length;
        used += length;
        if (length < each || c->one_by_one || used / each == TOGETHER_MAX ||
            used + CH_QUIC_DATAGRAM_BYTES_MAX > TOGETHER_BYTES) {
            send_together(c, used, each);
            used = 0;
        }
    }
    if (used)
        send_together(c, used, each);
}

ch_err ch_client_rounds(struct ch_client *const *clients, unsigned count, uint64_t deadline_ns)
{
    struct pollfd poll_fds[CH_CLIENT_LANES_MAX];
    uint64_t until = deadline_ns;
    CH_ASSERT(count <= CH_CLIENT_LANES_MAX);
    for (unsigned i = 0; i < count; i++) {
        send_all(clients[i]);
        uint64_t expiry = ch_quic_expiry_ns(clients[i]->engine);
        until = until < expiry ? until : expiry;
        poll_fds[i] = (struct pollfd){.fd = clients[i]->fd, .events = POLLIN};
    }
    uint64_t now = ch_time_monotonic_ns(), wait_ns = until > now ? until - now : 0;
    struct timespec timeout = {.tv_sec = (time_t)(wait_ns / SECOND_NS), .tv_nsec = (long)(wait_ns % SECOND_NS)};
    if (ppoll(poll_fds, count, wait_ns > SECOND_NS * 3600 ? NULL : &timeout, NULL) < 0 && errno != EINTR)
        return ch_client_fail(clients[0], CH_ERR_IO, "poll: %s", strerror(errno));
    for (unsigned i = 0; i < count; i++) {
        receive_all(clients[i]);
        ch_quic_tick(clients[i]->engine, ch_time_monotonic_ns());
        send_all(clients[i]);
    }
    return CH_OK;
}

ch_err ch_client_round(struct ch_client *c, uint64_t deadline_ns)
{
    return ch_client_rounds(&c, 1, deadline_ns);
}

void ch_client_close(struct ch_client *c)
{
    if (!c)
        return;
    for (unsigned i = 0; i < c->companion_count; i++)
        ch_client_close(c->companions[i]);
    if (c->engine && c->conn) {
        ch_quic_hang_up(c->engine, c->conn, CH_QUIC_CODE_DONE, NULL);
        for (unsigned i = 0; i < GOODBYE_ROUNDS_MAX && c->conn; i++)
            if (ch_client_round(c, ch_time_monotonic_ns()) != CH_OK)
                break;
    }
    ch_quic_close(c->engine);
    if (c->fd >= 0)
        (void)close(c->fd);
    free(c->addresses);
    ch_wipe(&c->key, sizeof c->key);
    free(c);
}

uint64_t ch_client_deadline_ns(const struct ch_client *c)
{
    return ch_time_monotonic_ns() + c->timeout_ns;
}

/* Why the connection ended, as an error of ours. */
static ch_err end_of(struct ch_client *c)
{
    const struct ch_quic_closed *closed = &c->closed;
    const char *words = closed->reason[0] ? closed->reason : ch_quic_end_text(closed->end);
    switch (closed->end) {
    case CH_QUIC_END_LOCAL:
    case CH_QUIC_END_PEER:
        if (closed->code == CH_QUIC_CODE_WRONG_CHAIN)
            return ch_client_fail(c, CH_ERR_WRONG_CHAIN, "%s: the node is on another chain than this profile", c->name);
        if (closed->code == CH_QUIC_CODE_WRONG_VERSION)
            return ch_client_fail(c, CH_ERR_PROTOCOL, "%s: the node speaks another protocol version", c->name);
        if (closed->code == CH_QUIC_CODE_NOT_ALLOWED && closed->end == CH_QUIC_END_LOCAL)
            return ch_client_fail(c, CH_ERR_DENIED, "%s: its key is not that of a validator of this chain", c->name);
        if (closed->code == CH_QUIC_CODE_NOT_ALLOWED || closed->code == CH_QUIC_CODE_BAD_SIGNATURES)
            return ch_client_fail(c, CH_ERR_DENIED, "%s lets us not in: %s", c->name, words);
        if (closed->code == CH_QUIC_CODE_BAD_FRAME || closed->code == CH_QUIC_CODE_FRAME_TOO_LONG)
            return ch_client_fail(c, CH_ERR_PROTOCOL, "%s: %s", c->name, words);
        return ch_client_fail(c, CH_ERR_CLOSED, "%s closed: %s (%s)", c->name, words, ch_quic_code_name(closed->code));
    case CH_QUIC_END_WRONG_KEY:
        return ch_client_fail(c, CH_ERR_DENIED, "%s: its key is not that of a validator of this chain", c->name);
    case CH_QUIC_END_TLS:
    case CH_QUIC_END_PROTOCOL:
    case CH_QUIC_END_VERSION:
        return ch_client_fail(c, CH_ERR_PROTOCOL, "%s: %s (code %llu)", c->name, words,
                              (unsigned long long)closed->code);
    case CH_QUIC_END_TIMEOUT:
        return ch_client_fail(c, CH_ERR_TIMEOUT, "%s: no answer", c->name);
    default:
        return ch_client_fail(c, CH_ERR_CLOSED, "%s: %s", c->name, words);
    }
}

static ch_err dial(struct ch_client *c, uint64_t now_ns)
{
    const struct ch_quic_route to = {.remote = c->remote};
    const uint8_t *expected = c->peer_key_count == 1 ? c->peer_keys[0] : NULL;
    c->refused_by_host = false;
    ch_err err = ch_quic_connect(c->engine, &to, expected, NULL, now_ns, &c->conn);
    if (err != CH_OK)
        return ch_client_fail(c, err, "QUIC: %s", ch_err_text(err));
    c->dialling = true;
    c->dial_deadline_ns = now_ns + (c->address_count > 1 && c->timeout_ns > DIAL_NS ? DIAL_NS : c->timeout_ns);
    return CH_ERR_AGAIN;
}

/* Whatever there is of a connection is forgotten; `closed` says nothing new of it. */
static void forget_connection(struct ch_client *c)
{
    if (c->conn)
        ch_quic_hang_up(c->engine, c->conn, CH_QUIC_CODE_DONE, NULL);
    c->conn = 0;
    c->connected = c->hello_done = c->dialling = false;
    c->closed = (struct ch_quic_closed){.end = CH_QUIC_END_TIMEOUT};
    while (c->pending)
        finish(c, c->pending, CH_ERR_CLOSED);
}

/* An attempt came to nothing: the next one is at the next address, after a pause when all had their turn. */
static ch_err give_up(struct ch_client *c, ch_err err)
{
    char why[CH_CLIENT_WHY_BYTES];
    memcpy(why, c->why, sizeof why);
    forget_connection(c);
    c->failures++;
    bool all = c->failures % c->address_count == 0;
    c->redial_ns = ch_time_monotonic_ns() + (all ? REDIAL_PAUSE_NS : 0);
    /* A name that isn't found now may be the next time round: until then the address before it is dialled again. */
    if (c->address_count > 1 && use_address(c, (c->address_at + 1) % c->address_count) != CH_OK)
        c->redial_ns = ch_time_monotonic_ns() + REDIAL_PAUSE_NS;
    memcpy(c->why, why, sizeof why);
    return err;
}

void ch_client_turn(struct ch_client *c)
{
    (void)give_up(c, CH_ERR_CLOSED);
    c->failures = 0;
}

ch_err ch_client_step(struct ch_client *c)
{
    uint64_t now = ch_time_monotonic_ns();
    if (c->conn && c->hello_done)
        return CH_OK;
    if (!c->dialling)
        return now < c->redial_ns ? CH_ERR_AGAIN : dial(c, now);
    if (!c->conn)
        return give_up(c, end_of(c));
    if (c->refused_by_host)
        return give_up(c, ch_client_fail(c, CH_ERR_CLOSED, "nobody listens at %s", c->name));
    if (now >= c->dial_deadline_ns)
        return give_up(c, ch_client_fail(c, CH_ERR_TIMEOUT, "%s: no answer", c->name));
    return CH_ERR_AGAIN;
}

static bool may_pass(ch_err err)
{
    return err == CH_ERR_CLOSED || err == CH_ERR_TIMEOUT || err == CH_ERR_FULL;
}

ch_err ch_client_reach(struct ch_client *c, uint64_t deadline_ns, bool patient)
{
    ch_err last = CH_OK;
    for (unsigned failed = 0;;) {
        ch_err err = ch_client_step(c);
        uint64_t now = ch_time_monotonic_ns();
        if (err == CH_OK)
            return CH_OK;
        if (err != CH_ERR_AGAIN) {
            last = err;
            failed++;
            /* Nobody there, or no for good: that is the answer once all were asked. Silence may pass. */
            if (failed >= c->address_count && (!may_pass(err) || (!patient && err != CH_ERR_TIMEOUT)))
                return err;
        }
        if (now >= deadline_ns)
            return last != CH_OK ? last : ch_client_fail(c, CH_ERR_TIMEOUT, "%s: no answer", c->name);
        uint64_t until = c->dialling ? c->dial_deadline_ns : c->redial_ns;
        err = ch_client_round(c, until < deadline_ns ? until : deadline_ns);
        if (err != CH_OK)
            return err;
    }
}

/* The answer is not waited for: that the packet is acknowledged says enough. */
static void ask_for_life(struct ch_client *c)
{
    uint8_t digest[CH_HASH_BYTES];
    struct ch_cid cid;
    const struct ch_frame_header header = {.type = CH_FRAME_HAS_OBJECT, .request = ++c->last_number};
    ch_hash(NULL, 0, digest);
    ch_cid_make(CH_CID_RAW, digest, &cid);
    c->probed = ch_quic_send(c->engine, c->conn, &header, &(struct ch_bytes){cid.bytes, CH_CID_BYTES}, 1) == CH_OK;
}

void ch_client_look(struct ch_client *c, uint64_t now_ns)
{
    struct ch_quic_conn_stats stats;
    if (c->address_count == 1 || !c->pending || !c->conn || !c->hello_done ||
        ch_quic_conn_stats(c->engine, c->conn, &stats) != CH_OK)
        return;
    if (stats.rx_bytes != c->heard_bytes) {
        c->heard_bytes = stats.rx_bytes;
        c->heard_ns = now_ns;
        c->probed = false;
        return;
    }
    uint64_t silent_ns = now_ns > c->heard_ns ? now_ns - c->heard_ns : 0;
    if (silent_ns >= DEAD_NS || (c->refused_by_host && silent_ns >= REFUSED_NS)) {
        (void)ch_client_fail(c, CH_ERR_TIMEOUT, "%s has gone silent", c->name);
        ch_client_turn(c);
    } else if (silent_ns >= SILENT_NS && !c->probed) {
        ask_for_life(c);
    }
}

ch_err ch_client_connect(struct ch_client *c)
{
    return ch_client_reach(c, ch_client_deadline_ns(c), false);
}

ch_err ch_client_start(struct ch_client *c, struct ch_request *request, enum ch_frame_type type, uint16_t flags,
                       const struct ch_bytes *parts, size_t part_count)
{
    if (!c->conn || !c->hello_done)
        return CH_ERR_CLOSED;
    const struct ch_frame_header header = {.type = (uint16_t)type, .flags = flags, .request = c->last_number + 1};
    ch_err err = ch_quic_send(c->engine, c->conn, &header, parts, part_count);
    if (err != CH_OK)
        return err;
    if (!c->pending)
        c->heard_ns = ch_time_monotonic_ns();
    request->number = ++c->last_number;
    request->done = false;
    request->status = CH_STATUS_OK;
    request->next = c->pending;
    c->pending = request;
    return CH_OK;
}

ch_err ch_client_outcome(struct ch_client *c, const struct ch_request *request)
{
    switch (request->result) {
    case CH_OK:
        return CH_OK;
    case CH_ERR_REFUSED:
        c->status = request->status;
        return ch_client_fail(c, CH_ERR_REFUSED, "%s: %s", ch_status_name(c->status), ch_status_text(c->status));
    case CH_ERR_PROTOCOL:
        return ch_client_fail(c, CH_ERR_PROTOCOL, "%s: its answer is not well-formed or proves something else",
                              c->name);
    case CH_ERR_CLOSED:
        return end_of(c);
    default:
        return ch_client_fail(c, request->result, "%s", ch_err_text(request->result));
    }
}

static ch_err too_late(struct ch_client *c)
{
    return ch_client_fail(c, CH_ERR_TIMEOUT, "%s: no answer in time", c->name);
}

static ch_err start_with_room(struct ch_client *c, struct ch_request *request, enum ch_frame_type type, uint16_t flags,
                              const struct ch_bytes *parts, size_t part_count, uint64_t deadline_ns)
{
    for (;;) {
        ch_err err = ch_client_start(c, request, type, flags, parts, part_count);
        if (err != CH_ERR_FULL)
            return err;
        if (ch_time_monotonic_ns() >= deadline_ns)
            return too_late(c);
        err = ch_client_round(c, deadline_ns);
        if (err != CH_OK)
            return err;
    }
}

static ch_err wait_for(struct ch_client *c, struct ch_request *request, uint64_t deadline_ns)
{
    ch_err err = CH_OK;
    while (!request->done && err == CH_OK) {
        uint64_t now = ch_time_monotonic_ns();
        bool alone = c->address_count == 1 || deadline_ns - now < CH_CLIENT_LOOK_NS;
        err = now < deadline_ns ? ch_client_round(c, alone ? deadline_ns : now + CH_CLIENT_LOOK_NS) : too_late(c);
        ch_client_look(c, ch_time_monotonic_ns());
    }
    if (err != CH_OK)
        ch_client_drop(c, request);
    return err;
}

ch_err ch_client_call(struct ch_client *c, struct ch_request *request, enum ch_frame_type type, uint16_t flags,
                      const struct ch_bytes *parts, size_t part_count)
{
    uint64_t deadline = ch_client_deadline_ns(c);
    for (bool patient = c->was_connected;; patient = true) {
        ch_err err = ch_client_reach(c, deadline, patient);
        if (err != CH_OK)
            return err;
        err = start_with_room(c, request, type, flags, parts, part_count, deadline);
        if (err == CH_OK)
            err = wait_for(c, request, deadline);
        if (err == CH_OK && request->result != CH_ERR_CLOSED)
            return ch_client_outcome(c, request);
        if (err == CH_OK || err == CH_ERR_CLOSED)
            err = end_of(c);
        if (!may_pass(err) || ch_time_monotonic_ns() >= deadline)
            return err;
    }
}

uint16_t ch_client_status(const struct ch_client *c)
{
    return c->status;
}

const char *ch_client_why(const struct ch_client *c)
{
    return c->why;
}

int64_t ch_client_clock_ms(const struct ch_client *c)
{
    return c->clock_ms;
}
