#include "tests/client/fake_node.h"

#include "base/merkle.h"
#include "base/time.h"
#include "crypto/ed25519.h"
#include "dataplane/quic.h"
#include "wire/cid.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCOUNTS_MAX 16
#define RECORDS_MAX  256
#define BLOCKS_MAX   64
#define WATCHES_MAX  8

struct stored_record {
    uint8_t bytes[CH_TX_BYTES_MAX];
    uint16_t length;
    uint8_t tx_id[32];
    uint64_t inbox_sequence;
};

struct block {
    struct ch_cid cid;
    uint8_t *bytes;
    size_t length;
};

struct watch {
    uint64_t conn, request, next;
    uint8_t account[32];
};

struct fake_node {
    struct ch_quic *engine;
    struct ch_sign_key key;
    uint8_t chain_id[32];
    int fd;
    char address[CH_ADDRESS_TEXT_BYTES];
    pthread_t thread;
    _Atomic bool stop;
    struct fake_faults faults;
    _Atomic unsigned applied, block_count, put_count;
    struct ch_account accounts[ACCOUNTS_MAX];
    unsigned account_count, record_count;
    struct stored_record records[RECORDS_MAX];
    struct block blocks[BLOCKS_MAX];
    struct watch watches[WATCHES_MAX];
    unsigned watch_count;
    uint8_t body[CH_FRAME_BODY_BYTES_MAX]; /* of an answer */
};

static bool once(_Atomic int *fault)
{
    return atomic_load(fault) > 0 && atomic_fetch_sub(fault, 1) > 0;
}

static void answer(struct fake_node *n, uint64_t conn, uint64_t request, uint16_t type, uint16_t flags,
                   const void *body, size_t length)
{
    const struct ch_frame_header header = {.type = type, .flags = flags, .request = request};
    if (ch_quic_send(n->engine, conn, &header, &(struct ch_bytes){body, length}, 1) != CH_OK)
        fprintf(stderr, "fake node: an answer was lost\n");
}

static void answer_status(struct fake_node *n, uint64_t conn, uint64_t request, uint16_t status)
{
    answer(n, conn, request, CH_FRAME_STATUS, 0, &status, 2);
}

static struct ch_account *find_key(struct fake_node *n, const uint8_t *key)
{
    for (unsigned i = 0; i < n->account_count; i++)
        if (memcmp(n->accounts[i].key, key, 32) == 0)
            return &n->accounts[i];
    return NULL;
}

static struct ch_account *find_handle(struct fake_node *n, const uint8_t *handle, size_t length)
{
    for (unsigned i = 0; i < n->account_count; i++)
        if (n->accounts[i].handle_length == length && memcmp(n->accounts[i].handle, handle, length) == 0)
            return &n->accounts[i];
    return NULL;
}

/* A record of an inbox, ready to be sent. */
static void write_record(struct fake_node *n, struct ch_writer *w, const struct stored_record *stored,
                         uint64_t log_index)
{
    struct ch_record record = {.inbox_sequence = stored->inbox_sequence,
                               .log_index = log_index,
                               .commit_index = 7,
                               .commit_time_ms = ch_time_unix_ms()};
    record.tx.bytes = stored->bytes;
    record.tx.length = stored->length;
    size_t at = w->used;
    ch_record_write(w, &record);
    if (once(&n->faults.forge_record))
        w->start[at + CH_RECORD_HEADER_BYTES + 108] ^= 1; /* the salt */
}

static uint64_t inbox_newest(struct fake_node *n, const uint8_t *account)
{
    struct ch_account *a = find_key(n, account);
    return a ? a->inbox_sequence : 0;
}

static void send_inbox(struct fake_node *n, uint64_t conn, uint64_t request, const struct ch_query *q, bool more)
{
    uint8_t *body = n->body;
    struct ch_writer w = ch_writer(body, sizeof n->body);
    uint16_t count = 0;
    ch_write16(&w, CH_STATUS_OK);
    uint8_t *count_at = ch_write_room(&w, 2);
    ch_write64(&w, inbox_newest(n, q->account));
    for (unsigned i = 0; i < n->record_count && count < q->limit; i++) {
        struct ch_tx tx;
        if (ch_tx_parse(n->records[i].bytes, n->records[i].length, &tx) == CH_STATUS_OK && tx.kind == CH_TX_MESSAGE &&
            memcmp(tx.peer, q->account, 32) == 0 && n->records[i].inbox_sequence >= q->from) {
            write_record(n, &w, &n->records[i], i);
            count++;
        }
    }
    ch_store16(count_at, count);
    answer(n, conn, request, CH_FRAME_RECORDS, more ? CH_FRAME_FLAG_MORE : 0, body, w.used);
}

static enum ch_status apply(struct fake_node *n, const struct ch_tx *tx, struct ch_receipt *receipt)
{
    struct ch_account *sender = find_key(n, tx->sender), *peer = tx->peer ? find_key(n, tx->peer) : NULL;
    ch_hash(tx->bytes, tx->length, receipt->tx_id);
    for (unsigned i = 0; i < n->record_count; i++)
        if (memcmp(n->records[i].tx_id, receipt->tx_id, 32) == 0) {
            receipt->log_index = i;
            receipt->inbox_sequence = n->records[i].inbox_sequence;
            return CH_STATUS_DUPLICATE;
        }
    if (tx->kind == CH_TX_REGISTER) {
        if (sender)
            return CH_STATUS_KEY_TAKEN;
        if (find_handle(n, tx->handle, tx->handle_length))
            return CH_STATUS_HANDLE_TAKEN;
        sender = &n->accounts[n->account_count++];
        memcpy(sender->key, tx->sender, 32);
        memcpy(sender->seal_key, tx->seal_key, 32);
        memcpy(sender->registrar, tx->registrar, 32);
        sender->handle_length = tx->handle_length;
        memcpy(sender->handle, tx->handle, tx->handle_length);
    } else if (!sender) {
        return CH_STATUS_NO_SUCH_ACCOUNT;
    } else if (tx->kind == CH_TX_ROTATE_SEAL_KEY) {
        memcpy(sender->seal_key, tx->seal_key, 32);
        sender->seal_epoch++;
    } else if (!peer) {
        return CH_STATUS_NO_SUCH_PEER;
    } else if (tx->kind == CH_TX_REVOKE) {
        peer->status = CH_ACCOUNT_REVOKED;
    }
    struct stored_record *stored = &n->records[n->record_count];
    memcpy(stored->bytes, tx->bytes, tx->length);
    stored->length = tx->length;
    memcpy(stored->tx_id, receipt->tx_id, 32);
    stored->inbox_sequence = tx->kind == CH_TX_MESSAGE ? ++peer->inbox_sequence : 0;
    receipt->log_index = n->record_count++;
    receipt->inbox_sequence = stored->inbox_sequence;
    receipt->commit_index = 7;
    atomic_fetch_add(&n->applied, 1);
    return CH_STATUS_OK;
}

/* RECEIPTS with one receipt; signed: as the second leaf of three. */
static void send_receipt(struct fake_node *n, uint64_t conn, uint64_t request, const struct ch_receipt *receipt,
                         bool is_signed)
{
    uint8_t body[512], leaves[CH_MERKLE_NODES(3)][32] = {{1}, {0}, {3}}, path[CH_MERKLE_DEPTH_MAX][32], message[36];
    struct ch_writer w = ch_writer(body, sizeof body);
    ch_write16(&w, 1);
    uint8_t *bytes = ch_write_room(&w, CH_RECEIPT_BYTES);
    ch_receipt_write(receipt, bytes);
    if (is_signed) {
        uint8_t prefix[CH_SIGN_PREFIX_BYTES_MAX];
        ch_merkle_leaf(bytes, CH_RECEIPT_BYTES, leaves[1]);
        ch_merkle_build(leaves, 3, message);
        ch_store32(message + 32, 3);
        uint32_t length = ch_merkle_path((const uint8_t(*)[32])leaves, 3, 1, path);
        if (once(&n->faults.corrupt_proof))
            path[0][0] ^= 1;
        ch_write32(&w, 3);
        ch_sign(&n->key, prefix, ch_sign_prefix(CH_DOMAIN_RECEIPT, n->chain_id, prefix), message, sizeof message,
                ch_write_room(&w, 64));
        ch_write32(&w, 1);
        ch_write8(&w, (uint8_t)length);
        ch_write(&w, path, length * 32);
    }
    answer(n, conn, request, CH_FRAME_RECEIPTS, is_signed ? CH_FRAME_FLAG_SIGNED : 0, body, w.used);
}

static void push_watches(struct fake_node *n)
{
    for (unsigned i = 0; i < n->watch_count; i++) {
        struct watch *watch = &n->watches[i];
        if (inbox_newest(n, watch->account) < watch->next)
            continue;
        struct ch_query q = {.from = watch->next, .limit = 1000};
        memcpy(q.account, watch->account, 32);
        send_inbox(n, watch->conn, watch->request, &q, true);
        watch->next = inbox_newest(n, watch->account) + 1;
    }
}

static bool signed_well(struct fake_node *n, const struct ch_tx *tx)
{
    uint8_t prefix[CH_SIGN_PREFIX_BYTES_MAX];
    size_t length = ch_sign_prefix(CH_DOMAIN_TX, n->chain_id, prefix);
    const struct ch_ed25519_item item = {tx->sender,     tx->bytes,        prefix,
                                         tx->bytes + 64, (uint32_t)length, tx->length - 64u};
    return ch_ed25519_verify_reference(&item);
}

static void on_submit(struct fake_node *n, uint64_t conn, const struct ch_frame_header *h, const uint8_t *body)
{
    struct ch_tx tx;
    struct ch_receipt receipt = {.level = CH_LEVEL_EARLY};
    if (ch_tx_parse(body, h->length, &tx) != CH_STATUS_OK) {
        answer_status(n, conn, h->request, CH_STATUS_MALFORMED);
        return;
    }
    ch_hash(tx.bytes, tx.length, receipt.tx_id);
    int refuse = atomic_exchange(&n->faults.refuse_status, 0),
        refuse_frame = atomic_exchange(&n->faults.refuse_frame, 0);
    if (refuse_frame) {
        send_receipt(n, conn, h->request, &(struct ch_receipt){.status = (uint16_t)refuse_frame}, false);
        return;
    }
    receipt.status = refuse ? (uint16_t)refuse : signed_well(n, &tx) ? CH_STATUS_OK : CH_STATUS_BAD_SIGNATURE;
    send_receipt(n, conn, h->request, &receipt, false);
    if (receipt.status != CH_STATUS_OK)
        return;
    receipt.level = CH_LEVEL_FINAL;
    receipt.status = (uint16_t)apply(n, &tx, &receipt);
    if (once(&n->faults.hang_up_before_final)) {
        ch_quic_hang_up(n->engine, conn, CH_QUIC_CODE_STOPPING, NULL);
        return;
    }
    bool applied = receipt.status == CH_STATUS_OK || receipt.status == CH_STATUS_DUPLICATE;
    send_receipt(n, conn, h->request, &receipt, applied && h->flags & CH_FRAME_FLAG_WANT_SIGNED);
    push_watches(n);
}

static void on_account(struct fake_node *n, uint64_t conn, uint64_t request, const struct ch_account *a)
{
    uint8_t body[2 + 8 + CH_ACCOUNT_ROW_BYTES] = {0};
    ch_store16(body, a ? CH_STATUS_OK : CH_STATUS_NOT_FOUND);
    if (a)
        ch_account_write(a, body + 10);
    answer(n, conn, request, CH_FRAME_ACCOUNT, 0, body, sizeof body);
}

static struct block *find_block(struct fake_node *n, const uint8_t *cid)
{
    for (unsigned i = 0; i < n->block_count; i++)
        if (memcmp(n->blocks[i].cid.bytes, cid, CH_CID_BYTES) == 0)
            return &n->blocks[i];
    return NULL;
}

static uint16_t put_block(struct fake_node *n, const uint8_t *body, size_t length)
{
    struct ch_cid cid;
    if (length < CH_CID_BYTES || !ch_cid_valid(body))
        return CH_STATUS_MALFORMED;
    memcpy(cid.bytes, body, CH_CID_BYTES);
    if (!ch_cid_matches(&cid, body + CH_CID_BYTES, length - CH_CID_BYTES))
        return CH_STATUS_BAD_OBJECT;
    if (find_block(n, body))
        return CH_STATUS_OK;
    if (n->block_count == BLOCKS_MAX)
        return CH_STATUS_QUOTA;
    struct block *b = &n->blocks[n->block_count];
    b->cid = cid;
    b->length = length - CH_CID_BYTES;
    b->bytes = malloc(b->length);
    memcpy(b->bytes, body + CH_CID_BYTES, b->length);
    atomic_fetch_add(&n->block_count, 1);
    return CH_STATUS_OK;
}

static void get_block(struct fake_node *n, uint64_t conn, uint64_t request, const uint8_t *cid)
{
    uint8_t *body = n->body;
    struct block *b = find_block(n, cid);
    ch_store16(body, b ? CH_STATUS_OK : CH_STATUS_NOT_FOUND);
    if (b)
        memcpy(body + 2, b->bytes, b->length);
    if (b && once(&n->faults.corrupt_object))
        body[2 + b->length / 2] ^= 1;
    answer(n, conn, request, CH_FRAME_OBJECT, 0, body, 2 + (b ? b->length : 0));
}

static void get_record(struct fake_node *n, uint64_t conn, uint64_t request, const uint8_t *body, size_t length)
{
    uint8_t out[2 + 2 + 8 + CH_RECORD_HEADER_BYTES + CH_TX_BYTES_MAX];
    struct ch_writer w = ch_writer(out, sizeof out);
    unsigned found = n->record_count;
    if (length == 9 && body[0] == 0 && ch_load64(body + 1) < n->record_count)
        found = (unsigned)ch_load64(body + 1);
    for (unsigned i = 0; length == 33 && body[0] == 1 && i < n->record_count; i++)
        if (memcmp(n->records[i].tx_id, body + 1, 32) == 0)
            found = i;
    ch_write16(&w, found < n->record_count ? CH_STATUS_OK : CH_STATUS_NOT_FOUND);
    ch_write16(&w, found < n->record_count);
    ch_write64(&w, 0);
    if (found < n->record_count)
        write_record(n, &w, &n->records[found], found);
    answer(n, conn, request, CH_FRAME_RECORDS, 0, out, w.used);
}

static void on_hello(struct fake_node *n, uint64_t conn, const struct ch_frame_header *h, const uint8_t *body)
{
    uint8_t out[CH_HELLO_FRAME_BYTES];
    struct ch_hello theirs,
        ours = {.version = CH_PROTOCOL_VERSION, .role = CH_ROLE_VALIDATOR, .time_ms = ch_time_unix_ms()};
    memcpy(ours.chain_id, n->chain_id, 32);
    if (!ch_hello_read(body, h->length, &theirs)) {
        ch_quic_hang_up(n->engine, conn, CH_QUIC_CODE_BAD_FRAME, NULL);
    } else if (memcmp(theirs.chain_id, n->chain_id, 32) != 0) {
        ch_quic_hang_up(n->engine, conn, CH_QUIC_CODE_WRONG_CHAIN, NULL);
    } else {
        ch_hello_write(&ours, out);
        answer(n, conn, h->request, CH_FRAME_HELLO, 0, out, sizeof out);
    }
}

static bool on_frame(void *context, uint64_t conn, const struct ch_frame_header *h, const uint8_t *body)
{
    struct fake_node *n = context;
    struct ch_query q;
    if (h->type != CH_FRAME_HELLO && once(&n->faults.silent))
        return true;
    switch (h->type) {
    case CH_FRAME_HELLO:
        on_hello(n, conn, h, body);
        break;
    case CH_FRAME_SUBMIT:
        on_submit(n, conn, h, body);
        break;
    case CH_FRAME_GET_ACCOUNT:
        on_account(n, conn, h->request, h->length == 32 ? find_key(n, body) : NULL);
        break;
    case CH_FRAME_GET_HANDLE:
        on_account(n, conn, h->request, find_handle(n, body, h->length));
        break;
    case CH_FRAME_GET_INBOX:
        if (ch_query_read(body, h->length, &q))
            send_inbox(n, conn, h->request, &q, false);
        break;
    case CH_FRAME_WATCH_INBOX:
        if (ch_query_read(body, h->length, &q) && n->watch_count < WATCHES_MAX) {
            struct watch *watch = &n->watches[n->watch_count++];
            *watch = (struct watch){.conn = conn, .request = h->request, .next = q.from};
            memcpy(watch->account, q.account, 32);
            push_watches(n);
        }
        break;
    case CH_FRAME_GET_RECORD:
        get_record(n, conn, h->request, body, h->length);
        break;
    case CH_FRAME_PUT_OBJECT:
        atomic_fetch_add(&n->put_count, 1);
        if (once(&n->faults.hang_up_at_put))
            ch_quic_hang_up(n->engine, conn, CH_QUIC_CODE_STOPPING, NULL);
        else
            answer_status(n, conn, h->request,
                          once(&n->faults.overloaded) ? CH_STATUS_OVERLOADED : put_block(n, body, h->length));
        break;
    case CH_FRAME_GET_OBJECT:
        get_block(n, conn, h->request, body);
        break;
    case CH_FRAME_HAS_OBJECT:
        answer_status(n, conn, h->request, find_block(n, body) ? CH_STATUS_OK : CH_STATUS_NO_SUCH_OBJECT);
        break;
    default:
        answer_status(n, conn, h->request, CH_STATUS_UNKNOWN_FRAME);
    }
    return true;
}

static void on_connected(void *context, uint64_t conn, const struct ch_quic_peer *peer)
{
}

static void on_closed(void *context, uint64_t conn, const struct ch_quic_closed *closed)
{
    struct fake_node *n = context;
    for (unsigned i = 0; i < n->watch_count;)
        if (ch_quic_conn_of(n->watches[i].conn) == ch_quic_conn_of(conn))
            n->watches[i] = n->watches[--n->watch_count];
        else
            i++;
}

static void send_all(struct fake_node *n)
{
    uint8_t datagram[CH_QUIC_DATAGRAM_BYTES_MAX];
    struct ch_quic_route to;
    struct sockaddr_storage address;
    size_t length;
    while ((length = ch_quic_next_datagram(n->engine, datagram, sizeof datagram, &to, ch_time_monotonic_ns())) > 0) {
        socklen_t address_length = ch_address_to_sockaddr(&to.remote, &address);
        (void)!sendto(n->fd, datagram, length, 0, (struct sockaddr *)&address, address_length);
    }
}

static void *run(void *context)
{
    struct fake_node *n = context;
    uint8_t datagram[2048];
    while (!n->stop) {
        struct pollfd p = {.fd = n->fd, .events = POLLIN};
        send_all(n);
        uint64_t expiry = ch_quic_expiry_ns(n->engine), now = ch_time_monotonic_ns();
        uint64_t wait_ms = expiry > now ? (expiry - now) / 1000000 : 0;
        (void)poll(&p, 1, wait_ms < 20 ? (int)wait_ms : 20);
        for (int i = 0; i < 256; i++) {
            struct sockaddr_storage address;
            socklen_t length = sizeof address;
            struct ch_quic_route from = {0};
            ssize_t got =
                recvfrom(n->fd, datagram, sizeof datagram, MSG_DONTWAIT, (struct sockaddr *)&address, &length);
            if (got < 0)
                break;
            if (ch_address_from_sockaddr((struct sockaddr *)&address, length, &from.remote) == CH_OK)
                ch_quic_receive(n->engine, &from, datagram, (size_t)got, ch_time_monotonic_ns());
        }
        ch_quic_tick(n->engine, ch_time_monotonic_ns());
    }
    ch_quic_hang_up_all(n->engine, CH_QUIC_CODE_STOPPING);
    send_all(n);
    return NULL;
}

struct fake_node *fake_node_start(const uint8_t chain_id[32])
{
    struct fake_node *n = calloc(1, sizeof *n);
    memcpy(n->chain_id, chain_id, 32);
    ch_sign_key_new(&n->key);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof any;
    struct ch_address bound;
    n->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const struct ch_quic_options options = {
        .seed = n->key.seed,
        .listen = true,
        .callbacks = {.connected = on_connected, .frame = on_frame, .closed = on_closed},
        .context = n,
        .initial_rtt_ns = 1000000,
    };
    if (n->fd < 0 || bind(n->fd, (struct sockaddr *)&any, sizeof any) != 0 ||
        getsockname(n->fd, (struct sockaddr *)&any, &length) != 0 ||
        ch_address_from_sockaddr((struct sockaddr *)&any, length, &bound) != CH_OK ||
        ch_quic_open(&options, &n->engine) != CH_OK || pthread_create(&n->thread, NULL, run, n) != 0)
        abort();
    ch_address_format(&bound, n->address);
    return n;
}

void fake_node_set_chain(struct fake_node *n, const uint8_t chain_id[32])
{
    memcpy(n->chain_id, chain_id, 32);
}

void fake_node_stop(struct fake_node *n)
{
    n->stop = true;
    pthread_join(n->thread, NULL);
    ch_quic_close(n->engine);
    close(n->fd);
    for (unsigned i = 0; i < n->block_count; i++)
        free(n->blocks[i].bytes);
    free(n);
}

const char *fake_node_address(const struct fake_node *n)
{
    return n->address;
}

const uint8_t *fake_node_key(const struct fake_node *n)
{
    return n->key.public_key;
}

struct fake_faults *fake_node_faults(struct fake_node *n)
{
    return &n->faults;
}

unsigned fake_node_applied(const struct fake_node *n)
{
    return n->applied;
}

unsigned fake_node_blocks(const struct fake_node *n)
{
    return n->block_count;
}

unsigned fake_node_puts(const struct fake_node *n)
{
    return n->put_count;
}
