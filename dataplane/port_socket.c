/* UDP on the kernel's stack: one io_uring for all sockets of a port.
 *
 * Receiving: a multishot recvmsg for each socket picks its buffers from a provided-buffer ring.
 * Sending:   a sendmsg for what goes to one address in one size (UDP_SEGMENT), submitted together at a flush.
 *            Completions of both come in rx.
 * Memory:    slots of SLOT_BYTES, named by struct buffer; a handle is a struct buffer. Any thread gives one back by
 *            pushing it onto `returned`; the owner takes the whole list in rx.
 * Together:  what a sender sent at once the kernel hands over at once where a local is `brief` (UDP_GRO), into a slot
 *            of WIDE_BYTES that several datagrams then share. Such slots are a ring of their own: few, because nobody
 *            holds a datagram of that local for long.
 */
#include "dataplane/port_kind.h"

#include <errno.h>
#include <liburing.h>
#include <linux/sock_diag.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SLOT_BYTES         2048 /* an MTU of 1500 with the kernel's recvmsg header and the sender's address in front */
#define RX_BUFFERS_DEFAULT 4096
#define TX_BUFFERS_DEFAULT 1024
#define RX_BUFFERS_MAX     32768 /* entries of a provided-buffer ring */
#define TX_BUFFERS_MAX     16384 /* with the above, completions fit the largest completion queue */
#define SQ_ENTRIES         256
#define TOGETHER_MAX       64    /* datagrams by one sendmsg: the kernel's UDP_MAX_SEGMENTS */
#define TOGETHER_BYTES     65507 /* their bytes: of one UDP datagram */
#define WIDE_BYTES         (66u << 10) /* a UDP datagram of any length, with the kernel's words about it in front */
#define WIDE_BUFFERS       256 /* the kernel wants a power of two, and their ring to fill whole pages */
#define NAME_BYTES         ((sizeof(struct sockaddr_in6) + 7) / 8 * 8) /* what follows it in a slot is aligned */
#define CONTROL_BYTES      CMSG_SPACE(sizeof(int))
enum group { GROUP_SINGLE, GROUP_WIDE, GROUPS };

/* What a completion is for: the low bits of its user_data. */
enum tag { TAG_SEND, TAG_RECEIVE, TAG_WAKE, TAG_MASK = 3 };

struct buffer {
    struct buffer *next; /* in `returned`, in the list of free sending buffers, or of those sent together */
    uint8_t *slot;
    uint32_t index; /* of a receiving buffer in its ring; sending buffers: SENDING */
    uint32_t length;
    enum group group;
    _Atomic uint32_t holders; /* datagrams in a receiving buffer that are not released */
    int local;
    struct sockaddr_storage to;
    struct msghdr message;
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
};
#define SENDING UINT32_MAX

/* A receiving buffer of several datagrams that are being handed over. */
struct shared {
    struct buffer *buffer; /* NULL: none */
    uint8_t *at;
    uint32_t left, each, local;
    struct ch_address remote;
};

struct socket_port {
    struct ch_port port;
    struct io_uring ring;
    bool ring_open, enabled;
    int fds[CH_PORT_LOCALS_MAX];
    bool armed[CH_PORT_LOCALS_MAX];
    bool brief[CH_PORT_LOCALS_MAX]; /* several datagrams are taken at once */
    bool alone[CH_PORT_LOCALS_MAX]; /* the kernel can't send several at once */
    struct msghdr receive; /* only its name and control lengths matter to a multishot recvmsg */
    uint64_t wake_count;
    bool wake_armed;

    uint32_t rx_buffers[GROUPS], tx_buffers;
    struct io_uring_buf_ring *provided[GROUPS];
    size_t provided_bytes, slots_bytes;
    uint8_t *slots;
    struct buffer *buffers; /* those for receiving by group, then tx_buffers for sending */
    uint32_t provided_count[GROUPS];
    struct shared shared;

    struct buffer *tx_free;
    struct buffer **commits; /* a ring of tx_buffers entries: committed, not yet submitted */
    struct iovec *payloads;  /* theirs */
    uint32_t commit_first, commit_count;
    uint32_t tx_in_kernel;

    _Alignas(64) _Atomic(struct buffer *) returned; /* pushed by any thread, taken whole by the owner */
    _Atomic bool starved;                           /* the owner ran out of receiving buffers: a return wakes it */
};

static struct socket_port *of(struct ch_port *port)
{
    return (struct socket_port *)port;
}

static void provide(struct socket_port *s, struct buffer *b)
{
    struct io_uring_buf_ring *ring = s->provided[b->group];
    io_uring_buf_ring_add(ring, b->slot, b->group == GROUP_WIDE ? WIDE_BYTES : SLOT_BYTES, (uint16_t)b->index,
                          io_uring_buf_ring_mask(s->rx_buffers[b->group]), 0);
    io_uring_buf_ring_advance(ring, 1);
    s->provided_count[b->group]++;
}

static enum group group_of(const struct socket_port *s, size_t local)
{
    return s->brief[local] ? GROUP_WIDE : GROUP_SINGLE;
}

static void tx_free(struct socket_port *s, struct buffer *b)
{
    b->next = s->tx_free;
    s->tx_free = b;
}

static void take_returned(struct socket_port *s)
{
    if (!atomic_load_explicit(&s->returned, memory_order_relaxed))
        return;
    struct buffer *b = atomic_exchange_explicit(&s->returned, NULL, memory_order_acquire);
    while (b) {
        struct buffer *next = b->next;
        if (b->index == SENDING)
            tx_free(s, b);
        else
            provide(s, b);
        b = next;
    }
}

/* Puts back in place what the last completions ended: receiving on each socket, and the read of the eventfd. */
static void arm(struct socket_port *s)
{
    if (!s->enabled) {
        /* the first thread to use the port is the one whose work the kernel defers to (IORING_SETUP_SINGLE_ISSUER) */
        CH_ASSERT(syscall(SYS_io_uring_register, s->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) == 0);
        s->enabled = true;
    }
    bool submit = false;
    for (size_t i = 0; i < s->port.local_count; i++) {
        const bool can = !s->armed[i] && s->provided_count[group_of(s, i)] > 0;
        struct io_uring_sqe *sqe = can ? io_uring_get_sqe(&s->ring) : NULL;
        if (!sqe)
            continue;
        io_uring_prep_recvmsg_multishot(sqe, s->fds[i], &s->receive, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = (uint16_t)group_of(s, i);
        io_uring_sqe_set_data64(sqe, i << 2 | TAG_RECEIVE);
        s->armed[i] = submit = true;
    }
    if (!s->wake_armed) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);
        if (sqe) {
            io_uring_prep_read(sqe, s->port.wake_fd, &s->wake_count, sizeof s->wake_count, 0);
            io_uring_sqe_set_data64(sqe, TAG_WAKE);
            s->wake_armed = submit = true;
        }
    }
    if (submit)
        io_uring_submit(&s->ring); /* what the kernel has no room for now stays in the queue for the next submit */
}

/* How long each of the datagrams is that came together. */
static uint32_t each_of(struct socket_port *s, struct io_uring_recvmsg_out *out, uint32_t length)
{
    for (struct cmsghdr *c = io_uring_recvmsg_cmsg_firsthdr(out, &s->receive); c;
         c = io_uring_recvmsg_cmsg_nexthdr(out, &s->receive, c))
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int bytes;
            memcpy(&bytes, CMSG_DATA(c), sizeof bytes);
            return bytes > 0 && (uint32_t)bytes < length ? (uint32_t)bytes : length;
        }
    return length;
}

/* A completion of a receive: what is in its buffer becomes s->shared. */
static void received(struct socket_port *s, const struct io_uring_cqe *cqe)
{
    size_t local = cqe->user_data >> 2;
    if (!(cqe->flags & IORING_CQE_F_MORE))
        s->armed[local] = false;
    if (cqe->res < 0) {
        if (cqe->res != -ENOBUFS && cqe->res != -ECANCELED)
            ch_port_count(&s->port, CH_PORT_COUNTER_rx_errors, 1);
        if (!(cqe->flags & IORING_CQE_F_BUFFER))
            return;
    }
    enum group group = group_of(s, local);
    struct buffer *b = &s->buffers[(group ? s->rx_buffers[GROUP_SINGLE] : 0) + (cqe->flags >> IORING_CQE_BUFFER_SHIFT)];
    s->provided_count[group]--;
    struct io_uring_recvmsg_out *out = cqe->res < 0 ? NULL : io_uring_recvmsg_validate(b->slot, cqe->res, &s->receive);
    struct ch_address remote;
    if (!out) {
        provide(s, b);
        return;
    }
    uint32_t length = io_uring_recvmsg_payload_length(out, cqe->res, &s->receive), each = each_of(s, out, length);
    uint32_t count = each ? (length + each - 1) / each : 1;
    ch_port_count(&s->port, CH_PORT_COUNTER_rx_frames, count);
    enum ch_port_counter drop = CH_PORT_COUNTER_COUNT;
    if (out->flags & MSG_TRUNC)
        drop = CH_PORT_COUNTER_rx_drop_truncated;
    else if (ch_address_from_sockaddr(io_uring_recvmsg_name(out), out->namelen, &remote) != CH_OK || remote.port == 0)
        drop = CH_PORT_COUNTER_rx_drop_malformed;
    if (drop != CH_PORT_COUNTER_COUNT) {
        ch_port_count(&s->port, drop, count);
        provide(s, b);
        return;
    }
    atomic_store_explicit(&b->holders, count, memory_order_relaxed);
    s->shared = (struct shared){.buffer = b,
                                .at = io_uring_recvmsg_payload(out, &s->receive),
                                .left = length,
                                .each = each,
                                .local = (uint32_t)local,
                                .remote = remote};
    ch_port_count(&s->port, CH_PORT_COUNTER_rx_datagrams, count);
    ch_port_count(&s->port, CH_PORT_COUNTER_rx_bytes, length);
}

/* The next datagram of the buffer that is being handed over. */
static struct ch_packet next_shared(struct shared *h)
{
    uint32_t length = h->left < h->each ? h->left : h->each;
    const struct ch_packet packet = {
        .remote = h->remote, .payload = h->at, .handle = h->buffer, .length = length, .local = h->local};
    h->at += length;
    h->left -= length;
    if (!h->left)
        h->buffer = NULL;
    return packet;
}

static void sent(struct socket_port *s, const struct io_uring_cqe *cqe)
{
    struct buffer *b = (struct buffer *)(uintptr_t)(cqe->user_data & ~(uint64_t)TAG_MASK);
    bool unreachable = cqe->res == -ENETUNREACH || cqe->res == -EHOSTUNREACH || cqe->res == -EADDRNOTAVAIL;
    if (b->next && (cqe->res == -EIO || cqe->res == -EINVAL))
        s->alone[b->local] = true; /* this path's device can't; what is lost now is sent again */
    while (b) {
        struct buffer *next = b->next;
        s->tx_in_kernel--;
        if (cqe->res >= 0) {
            ch_port_count(&s->port, CH_PORT_COUNTER_tx_sent, 1);
            ch_port_count(&s->port, CH_PORT_COUNTER_tx_bytes, b->length);
        } else {
            ch_port_count(&s->port, unreachable ? CH_PORT_COUNTER_tx_drop_no_route : CH_PORT_COUNTER_tx_drop_error, 1);
        }
        tx_free(s, b);
        b = next;
    }
}

static size_t socket_rx(struct ch_port *port, uint64_t now_ns, struct ch_packet *packets, size_t count_max)
{
    (void)now_ns;
    struct socket_port *s = of(port);
    take_returned(s);
    arm(s);
    size_t count = 0;
    unsigned seen = 0;
    struct io_uring_cqe *cqe;
    while (s->shared.buffer && count < count_max)
        packets[count++] = next_shared(&s->shared);
    if (count < count_max && io_uring_peek_cqe(&s->ring, &cqe) == 0) {
        unsigned head;
        io_uring_for_each_cqe(&s->ring, head, cqe)
        {
            if (count == count_max)
                break;
            seen++;
            switch (cqe->user_data & TAG_MASK) {
            case TAG_RECEIVE:
                received(s, cqe);
                while (s->shared.buffer && count < count_max)
                    packets[count++] = next_shared(&s->shared);
                break;
            case TAG_SEND:
                sent(s, cqe);
                break;
            case TAG_WAKE:
                s->wake_armed = false;
                break;
            }
        }
        io_uring_cq_advance(&s->ring, seen);
    }
    /* No buffer left: say so. A return that did not see it yet is seen by the next rx or wait. */
    bool starved = false;
    for (size_t i = 0; i < port->local_count; i++)
        starved |= s->provided_count[group_of(s, i)] == 0;
    if (starved != atomic_load_explicit(&s->starved, memory_order_relaxed))
        atomic_store(&s->starved, starved);
    ch_port_count(port, CH_PORT_COUNTER_polls, 1);
    ch_port_count(port, CH_PORT_COUNTER_polls_empty, count == 0);
    return count;
}

static ch_err socket_tx_get(struct ch_port *port, struct ch_packet *packet)
{
    struct socket_port *s = of(port);
    struct buffer *b = s->tx_free;
    if (!b) {
        ch_port_count(port, CH_PORT_COUNTER_tx_refused_no_buffer, 1);
        return CH_ERR_FULL;
    }
    s->tx_free = b->next;
    packet->handle = b;
    packet->payload = b->slot;
    packet->length = port->payload_bytes_max;
    return CH_OK;
}

/* Takes the next committed buffers that can go together off the ring: as a list, the first with the message of all. */
static struct buffer *take_together(struct socket_port *s)
{
    const uint32_t first = s->commit_first;
    struct buffer *head = s->commits[first], *last = head;
    uint32_t count = 1, bytes = head->length;
    while (count < s->commit_count && count < TOGETHER_MAX && first + count < s->tx_buffers && !s->alone[head->local] &&
           last->length == head->length) {
        struct buffer *b = s->commits[first + count];
        if (b->local != head->local || b->length > head->length || bytes + b->length > TOGETHER_BYTES || !b->length ||
            b->message.msg_namelen != head->message.msg_namelen ||
            memcmp(&b->to, &head->to, b->message.msg_namelen) != 0)
            break;
        last->next = b;
        last = b;
        bytes += b->length;
        count++;
    }
    last->next = NULL;
    s->commit_first = (first + count) % s->tx_buffers;
    s->commit_count -= count;
    s->tx_in_kernel += count;
    head->message.msg_iov = &s->payloads[first];
    head->message.msg_iovlen = count;
    if (count > 1) {
        const uint16_t each = (uint16_t)head->length;
        head->message.msg_control = head->control;
        head->message.msg_controllen = sizeof head->control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&head->message);
        *c = (struct cmsghdr){.cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof each)};
        memcpy(CMSG_DATA(c), &each, sizeof each);
    }
    return head;
}

static void socket_tx_flush(struct ch_port *port)
{
    struct socket_port *s = of(port);
    if (s->commit_count == 0)
        return;
    if (!s->enabled)
        arm(s);
    while (s->commit_count > 0) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);
        if (!sqe) {
            if (io_uring_submit(&s->ring) <= 0)
                return;
            continue;
        }
        struct buffer *b = take_together(s);
        io_uring_prep_sendmsg(sqe, s->fds[b->local], &b->message, 0);
        io_uring_sqe_set_data64(sqe, (uintptr_t)b | TAG_SEND);
    }
    io_uring_submit(&s->ring);
}

static void socket_tx_commit(struct ch_port *port, uint64_t now_ns, const struct ch_packet *packet)
{
    (void)now_ns;
    struct socket_port *s = of(port);
    struct buffer *b = packet->handle;
    CH_ASSERT(packet->local < port->local_count && b->index == SENDING && packet->payload >= b->slot &&
              packet->payload + packet->length <= b->slot + port->payload_bytes_max);
    ch_port_count(port, CH_PORT_COUNTER_tx_datagrams, 1);
    if (ch_address_is4(&packet->remote) != ch_address_is4(&port->locals[packet->local].address) ||
        packet->remote.port == 0) {
        ch_port_count(port, CH_PORT_COUNTER_tx_drop_no_route, 1);
        tx_free(s, b);
        return;
    }
    b->length = packet->length;
    b->local = (int)packet->local;
    b->message = (struct msghdr){.msg_name = &b->to};
    b->message.msg_namelen = ch_address_to_sockaddr(&packet->remote, &b->to);
    const uint32_t at = (s->commit_first + s->commit_count) % s->tx_buffers;
    s->commits[at] = b;
    s->payloads[at] = (struct iovec){.iov_base = packet->payload, .iov_len = packet->length};
    if (++s->commit_count >= CH_PORT_BURST_MAX)
        socket_tx_flush(port);
}

static size_t socket_tx_pending(const struct ch_port *port)
{
    const struct socket_port *s = (const struct socket_port *)port;
    return s->commit_count + s->tx_in_kernel;
}

static void socket_release(struct ch_port *port, void *const *handles, size_t count)
{
    struct socket_port *s = of(port);
    struct buffer *first = NULL, *last = NULL;
    for (size_t i = 0; i < count; i++) {
        struct buffer *b = handles[i];
        if (b->index != SENDING && atomic_fetch_sub_explicit(&b->holders, 1, memory_order_acq_rel) != 1)
            continue; /* others have datagrams in it */
        b->next = first;
        first = b;
        last = last ? last : b;
    }
    if (!first)
        return;
    struct buffer *top = atomic_load_explicit(&s->returned, memory_order_relaxed);
    do
        last->next = top;
    while (!atomic_compare_exchange_weak(&s->returned, &top, first));
    if (atomic_load(&s->starved))
        ch_port_wake(port);
}

static void socket_wait(struct ch_port *port, uint64_t timeout_ns)
{
    struct socket_port *s = of(port);
    take_returned(s);
    arm(s);
    struct io_uring_cqe *cqe;
    struct __kernel_timespec timeout = {.tv_sec = (long long)(timeout_ns / 1000000000u),
                                        .tv_nsec = (long long)(timeout_ns % 1000000000u)};
    atomic_store(&port->asleep, 1);
    bool woken = ch_port_wake_take(port);
    if (!woken && !s->shared.buffer) {
        ch_port_count(port, CH_PORT_COUNTER_sleeps, 1);
        io_uring_wait_cqe_timeout(&s->ring, &cqe, &timeout); /* a timeout and a signal are as good as a datagram */
        woken = ch_port_wake_take(port);
        ch_port_count(port, CH_PORT_COUNTER_wakeups, woken);
    }
    atomic_store(&port->asleep, 0);
}

static void socket_counters(struct ch_port *port, uint64_t values[CH_PORT_COUNTER_COUNT])
{
    ch_port_counters_load(port, values);
    for (size_t i = 0; i < port->local_count; i++) {
        uint32_t meminfo[SK_MEMINFO_VARS];
        socklen_t length = sizeof meminfo;
        if (getsockopt(of(port)->fds[i], SOL_SOCKET, SO_MEMINFO, meminfo, &length) == 0 && length == sizeof meminfo)
            values[CH_PORT_COUNTER_rx_missed] += meminfo[SK_MEMINFO_DROPS];
    }
}

static bool socket_link_up(struct ch_port *port)
{
    (void)port;
    return true;
}

static void socket_close(struct ch_port *port)
{
    struct socket_port *s = of(port);
    if (s->ring_open)
        io_uring_queue_exit(&s->ring);
    for (size_t i = 0; i < port->local_count; i++)
        if (s->fds[i] >= 0)
            close(s->fds[i]);
    if (s->provided[GROUP_WIDE])
        munmap(s->provided[GROUP_WIDE], s->provided_bytes);
    if (s->slots)
        munmap(s->slots, s->slots_bytes);
    free(s->buffers);
    free(s->commits);
    free(s->payloads);
    ch_port_fini(port);
    free(s);
}

static const struct ch_port_ops socket_ops = {
    .rx = socket_rx,
    .tx_get = socket_tx_get,
    .tx_commit = socket_tx_commit,
    .tx_flush = socket_tx_flush,
    .tx_pending = socket_tx_pending,
    .release = socket_release,
    .wait = socket_wait,
    .counters = socket_counters,
    .link_up = socket_link_up,
    .close = socket_close,
};

/* A bound socket for locals[i], with the port that it got. */
static ch_err open_socket(struct socket_port *s, size_t i, uint32_t rx_bytes, char why[CH_PORT_WHY_BYTES])
{
    struct ch_address *address = &s->port.locals[i].address;
    char text[CH_ADDRESS_TEXT_BYTES];
    ch_address_format(address, text);
    struct sockaddr_storage at;
    socklen_t length = ch_address_to_sockaddr(address, &at);
    int yes = 1, probe = IP_PMTUDISC_PROBE, bytes = (int)rx_bytes;
    int fd = s->fds[i] = socket(at.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return ch_port_fail(why, errno == EAFNOSUPPORT ? CH_ERR_UNSUPPORTED : CH_ERR_IO, "no UDP socket for %s: %m",
                            text);
    /* never fragment, whatever the route's MTU was learned to be */
    bool is6 = at.ss_family == AF_INET6;
    if ((is6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes) != 0) ||
        setsockopt(fd, is6 ? IPPROTO_IPV6 : IPPROTO_IP, is6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, &probe,
                   sizeof probe) != 0)
        return ch_port_fail(why, CH_ERR_IO, "can't set up the UDP socket for %s: %m", text);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) != 0)
        return ch_port_fail(why, CH_ERR_IO, "no receive queue of %u bytes for %s: %m", rx_bytes, text);
    s->brief[i] = s->port.locals[i].brief && setsockopt(fd, SOL_UDP, UDP_GRO, &yes, sizeof yes) == 0;
    if (bind(fd, (struct sockaddr *)&at, length) != 0) {
        ch_err err = errno == EADDRINUSE                         ? CH_ERR_BUSY
                     : errno == EACCES                           ? CH_ERR_DENIED
                     : errno == EADDRNOTAVAIL || errno == ENODEV ? CH_ERR_INVALID
                                                                 : CH_ERR_IO;
        return ch_port_fail(why, err, "can't take UDP %s: %m", text);
    }
    length = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &length) != 0 ||
        ch_address_from_sockaddr((struct sockaddr *)&at, length, address) != CH_OK)
        return ch_port_fail(why, CH_ERR_IO, "can't read the address of the UDP socket for %s: %m", text);
    return CH_OK;
}

static ch_err open_ring(struct socket_port *s, char why[CH_PORT_WHY_BYTES])
{
    uint32_t completions = SQ_ENTRIES * 2;
    while (completions < s->rx_buffers[GROUP_SINGLE] + s->rx_buffers[GROUP_WIDE] + s->tx_buffers + SQ_ENTRIES)
        completions *= 2;
    struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                                              IORING_SETUP_R_DISABLED,
                                     .cq_entries = completions};
    int result = io_uring_queue_init_params(SQ_ENTRIES, &s->ring, &params);
    if (result == -ENOSYS || result == -EPERM || result == -EINVAL)
        return ch_port_fail(why, CH_ERR_UNSUPPORTED,
                            "no io_uring (%s): Linux 6.1 or newer is needed, and kernel.io_uring_disabled=0, and a "
                            "container that allows it",
                            strerror(-result));
    if (result != 0)
        return ch_port_fail(why, result == -ENOMEM ? CH_ERR_NO_MEMORY : CH_ERR_IO, "no io_uring: %s",
                            strerror(-result));
    s->ring_open = true;
    for (int group = 0; result == 0 && group < GROUPS; group++) {
        struct io_uring_buf_reg provided = {.ring_addr = (uintptr_t)s->provided[group],
                                            .ring_entries = s->rx_buffers[group],
                                            .bgid = (uint16_t)group};
        result = io_uring_register_buf_ring(&s->ring, &provided, 0);
    }
    if (result != 0)
        return ch_port_fail(why, CH_ERR_UNSUPPORTED, "no provided-buffer ring in io_uring: %s", strerror(-result));
    return CH_OK;
}

static void *map(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static ch_err open_buffers(struct socket_port *s, char why[CH_PORT_WHY_BYTES])
{
    const size_t single = s->rx_buffers[GROUP_SINGLE], wide = s->rx_buffers[GROUP_WIDE];
    const size_t count = single + wide + s->tx_buffers;
    s->slots_bytes = (single + s->tx_buffers) * SLOT_BYTES + wide * WIDE_BYTES;
    s->provided_bytes = (single + wide) * sizeof(struct io_uring_buf);
    s->slots = map(s->slots_bytes);
    s->provided[GROUP_WIDE] = map(s->provided_bytes);
    s->buffers = calloc(count, sizeof *s->buffers);
    s->commits = calloc(s->tx_buffers, sizeof(struct buffer *));
    s->payloads = calloc(s->tx_buffers, sizeof *s->payloads);
    if (!s->slots || !s->provided[GROUP_WIDE] || !s->buffers || !s->commits || !s->payloads)
        return ch_port_fail(why, CH_ERR_NO_MEMORY, "no memory for %zu datagram buffers", count);
    s->provided[GROUP_SINGLE] = s->provided[GROUP_WIDE] + wide; /* an entry is as large as the ring's head */
    for (int group = 0; group < GROUPS; group++)
        io_uring_buf_ring_init(s->provided[group]);
    uint8_t *slot = s->slots;
    for (size_t i = 0; i < count; i++) {
        struct buffer *b = &s->buffers[i];
        const bool is_wide = i >= single && i < single + wide;
        *b = (struct buffer){.slot = slot,
                             .group = is_wide ? GROUP_WIDE : GROUP_SINGLE,
                             .index = (uint32_t)(i < single ? i : is_wide ? i - single : SENDING)};
        slot += is_wide ? WIDE_BYTES : SLOT_BYTES;
        if (b->index == SENDING)
            tx_free(s, b);
        else
            provide(s, b);
    }
    return CH_OK;
}

ch_err ch_port_open_socket(const struct ch_port_config *config, struct ch_port **out, char why[CH_PORT_WHY_BYTES])
{
    if (config->profile != CH_PORT_SOCKET)
        return ch_port_fail(why, CH_ERR_INVALID, "profile %s is none of sockets",
                            ch_port_profile_name(config->profile));
    uint32_t rx_wanted = config->rx_buffers ? config->rx_buffers : RX_BUFFERS_DEFAULT;
    uint32_t tx_buffers = config->tx_buffers ? config->tx_buffers : TX_BUFFERS_DEFAULT;
    if (rx_wanted > RX_BUFFERS_MAX || tx_buffers > TX_BUFFERS_MAX)
        return ch_port_fail(why, CH_ERR_INVALID, "at most %d receiving and %d sending buffers on sockets",
                            RX_BUFFERS_MAX, TX_BUFFERS_MAX);
    struct socket_port *s = aligned_alloc(64, (sizeof *s + 63) / 64 * 64);
    if (!s)
        return ch_port_fail(why, CH_ERR_NO_MEMORY, "no memory for a port");
    *s = (struct socket_port){.tx_buffers = tx_buffers,
                              .rx_buffers[GROUP_WIDE] = WIDE_BUFFERS,
                              .receive = {.msg_namelen = NAME_BYTES, .msg_controllen = CONTROL_BYTES}};
    for (size_t i = 0; i < CH_PORT_LOCALS_MAX; i++)
        s->fds[i] = -1;
    for (s->rx_buffers[GROUP_SINGLE] = 64; s->rx_buffers[GROUP_SINGLE] < rx_wanted;)
        s->rx_buffers[GROUP_SINGLE] *= 2; /* the kernel wants a power of two */
    ch_err err = ch_port_init(&s->port, &socket_ops, config, why);
    if (err != CH_OK) {
        free(s);
        return err;
    }
    err = open_buffers(s, why);
    for (size_t i = 0; err == CH_OK && i < s->port.local_count; i++)
        err = open_socket(s, i, config->socket_rx_bytes ? config->socket_rx_bytes : 4u << 20, why);
    if (err == CH_OK)
        err = open_ring(s, why);
    if (err != CH_OK) {
        socket_close(&s->port);
        return err;
    }
    *out = &s->port;
    return CH_OK;
}
