#include "node/control.h"

#include "base/hex.h"
#include "base/merkle.h"
#include "base/time.h"
#include "ledger/ledger.h"
#include "node/net.h"
#include "node/order.h"
#include "node/verify.h"

#include <errno.h>
#include <jansson.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_BYTES_MAX 64
#define ANSWER_BYTES_MAX  (1u << 20)

struct ch_control {
    struct ch_node *node;
    int fd;
    struct sockaddr_un address;
    struct ch_state_reader *state;
    struct MHD_Daemon *http;
};

static ch_err socket_address(const char *folder, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(address->sun_path, sizeof address->sun_path, "%s/control", folder);
    return n > 0 && (size_t)n < sizeof address->sun_path ? CH_OK : CH_ERR_INVALID;
}

/* The others of the committee; *quorum: with those that are connected we have one. */
static json_t *peers(struct ch_node *n, bool *quorum)
{
    json_t *list = json_array();
    uint32_t stake = n->committee.stake[n->me];
    char key[65];
    for (uint16_t i = 0; i < n->committee.n; i++) {
        if (i == n->me)
            continue;
        bool up = atomic_load(&n->links.up[i]) & 1;
        stake += up ? n->committee.stake[i] : 0;
        json_array_append_new(list, json_pack("{s:i, s:s, s:b, s:I}", "index", (int)i, "validator",
                                              ch_hex_write(n->committee.key[i], CH_KEY_BYTES, key), "connected",
                                              (int)up, "object_lies", (json_int_t)atomic_load(&n->object_lies[i])));
    }
    *quorum = stake >= n->committee.quorum_stake;
    return list;
}

/* How much of the log is applied, and the root over it: the same at all validators that have applied as much. */
static void applied(struct ch_control *control, uint64_t *size, char root[65])
{
    struct ch_state_meta meta;
    struct ch_ledger_head head = {0};
    uint8_t bytes[CH_HASH_BYTES];
    if (ch_state_read_meta(control->state, &meta) == CH_OK && meta.head_length >= CH_LEDGER_HEAD_BYTES)
        ch_ledger_head_read(meta.head, &head);
    ch_merkle_frontier_root(&head.log, bytes);
    *size = head.log.size;
    ch_hex_write(bytes, CH_HASH_BYTES, root);
}

/* What port, QUIC engine and consensus machine have counted; each list is its header's. */
struct foreign {
    struct ch_core_status core;
    struct ch_core_counters consensus;
    struct ch_quic_counters quic;
    uint64_t port[CH_PORT_COUNTER_COUNT];
};

static void read_foreign(struct ch_node *n, struct foreign *f)
{
    ch_order_status(n->order, &f->core, &f->consensus);
    ch_net_quic_counters(n->net, &f->quic);
    ch_port_counters(ch_net_port(n->net), f->port);
}

/* Calls `each` for every one of them, in words for people. */
static void foreign_each(const struct foreign *f, void (*each)(void *context, const char *whose, const char *name,
                                                              const char *what, uint64_t value), void *context)
{
    for (unsigned i = 0; i < CH_PORT_COUNTER_COUNT; i++) {
        enum ch_port_counter which = (enum ch_port_counter)i;
        each(context, "port", ch_port_counter_name(which), ch_port_counter_text(which), f->port[i]);
    }
#define X(name, text) each(context, "quic", #name, text, f->quic.name);
    CH_QUIC_COUNTER_LIST(X)
#undef X
#define X(name) each(context, "consensus", #name, "of the consensus machine, since the start", f->consensus.name);
    CH_CORE_COUNTER_LIST(X)
#undef X
}

static void foreign_to_json(void *context, const char *whose, const char *name, const char *what, uint64_t value)
{
    json_object_set_new(json_object_get(context, whose), name, json_integer((json_int_t)value));
}

static void foreign_to_metrics(void *context, const char *whose, const char *name, const char *what, uint64_t value)
{
    fprintf(context, "# TYPE chappe_%s_%s counter\n# HELP chappe_%s_%s %s\nchappe_%s_%s_total %llu\n", whose, name,
            whose, name, what, whose, name, (unsigned long long)value);
}

static json_t *status(struct ch_control *control)
{
    struct ch_node *n = control->node;
    uint64_t log_size;
    char root[65];
    bool quorum;
    json_t *others = peers(n, &quorum);
    applied(control, &log_size, root);
    char key[65], chain[65];
    struct foreign foreign;
    read_foreign(n, &foreign);
    const struct ch_core_status core = foreign.core;
    json_t *counters = json_object(), *early = json_object(), *final = json_object();
#define X(stage, name, what)                                                                                           \
    json_object_set_new(counters, #stage "_" #name, json_integer((json_int_t)atomic_load(&n->metrics.stage##_##name)));
    CH_METRICS_LIST(X)
#undef X
    for (uint16_t i = 0; i < CH_STATUS_NUMBERS_MAX; i++) {
        uint64_t e = atomic_load(&n->metrics.early_by_status[i]), f = atomic_load(&n->metrics.final_by_status[i]);
        if (e)
            json_object_set_new(early, ch_status_name(i), json_integer((json_int_t)e));
        if (f)
            json_object_set_new(final, ch_status_name(i), json_integer((json_int_t)f));
    }
    json_t *all = json_pack(
        "{s:s, s:s, s:i, s:o, s:b, s:b, s:I, s:I, s:s, s:s, s:s, s:b, s:b, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I,"
        " s:I, s:s, s:s, s:o, s:o, s:o, s:{}, s:{}, s:{}}",
        "chain", n->genesis.name, "chain_id", ch_hex_write(n->chain_id, 32, chain), "index", (int)n->me, "peers",
        others, "quorum", (int)quorum, "lagging", (int)core.lagging, "quorum_round", (json_int_t)core.quorum_round,
        "log_size", (json_int_t)log_size, "log_root", root, "validator", ch_hex_write(n->key.public_key, 32, key),
        "profile", n->config.network_profile, "ready", (int)atomic_load(&n->ready), "disk_low",
        (int)atomic_load(&n->disk_low), "link", (int)!atomic_load(&n->link_down), "signing", (int)core.signing, "pid",
        (json_int_t)getpid(), "uptime_ms", (json_int_t)(ch_time_unix_ms() - n->started_ms), "round",
        (json_int_t)core.round, "commit_index", (json_int_t)core.delivered_index, "commit_time_ms",
        (json_int_t)core.commit_ms, "log_first", (json_int_t)ch_wal_first(n->wal), "log_bytes",
        (json_int_t)ch_wal_disk_bytes(n->wal), "kernel", ch_verify_kernel(n->verify[0]), "halt",
        core.halt ? ch_halt_name(core.halt) : "none", "counters", counters, "early", early, "final", final, "port",
        "quic", "consensus");
    foreign_each(&foreign, foreign_to_json, all);
    return all;
}

/* OpenMetrics text (https://openmetrics.io), its counters and gauges. */
static char *metrics_text(struct ch_node *n, size_t *length)
{
    char *text = NULL;
    FILE *to = open_memstream(&text, length);
    if (!to)
        return NULL;
#define X(stage, name, what)                                                                                           \
    {                                                                                                                  \
        const char *full = "chappe_" #stage "_" #name;                                                                 \
        size_t family = strlen(full);                                                                                  \
        bool counter = family > 6 && strcmp(full + family - 6, "_total") == 0;                                         \
        int shown = (int)(counter ? family - 6 : family);                                                              \
        fprintf(to, "# TYPE %.*s %s\n# HELP %.*s %s\n%s %llu\n", shown, full, counter ? "counter" : "gauge", shown,    \
                full, what, full, (unsigned long long)atomic_load(&n->metrics.stage##_##name));                        \
    }
    CH_METRICS_LIST(X)
#undef X
    fprintf(to, "# TYPE chappe_ledger_receipts counter\n# HELP chappe_ledger_receipts final receipts by status\n");
    for (uint16_t i = 0; i < CH_STATUS_NUMBERS_MAX; i++)
        if (strcmp(ch_status_name(i), "UNKNOWN") != 0)
            fprintf(to, "chappe_ledger_receipts_total{status=\"%s\"} %llu\n", ch_status_name(i),
                    (unsigned long long)atomic_load(&n->metrics.final_by_status[i]));
    fprintf(to,
            "# TYPE chappe_admission_receipts counter\n# HELP chappe_admission_receipts early receipts by status\n");
    for (uint16_t i = 0; i < CH_STATUS_NUMBERS_MAX; i++)
        if (strcmp(ch_status_name(i), "UNKNOWN") != 0)
            fprintf(to, "chappe_admission_receipts_total{status=\"%s\"} %llu\n", ch_status_name(i),
                    (unsigned long long)atomic_load(&n->metrics.early_by_status[i]));
    struct foreign foreign;
    read_foreign(n, &foreign);
    foreign_each(&foreign, foreign_to_metrics, to);
    fprintf(to, "# EOF\n");
    return fclose(to) == 0 ? text : NULL;
}

static enum MHD_Result on_http(void *self, struct MHD_Connection *connection, const char *url, const char *method,
                               const char *version, const char *upload, size_t *upload_length, void **state)
{
    struct ch_node *n = ((struct ch_control *)self)->node;
    struct MHD_Response *response;
    unsigned code = MHD_HTTP_OK;
    const char *type = "text/plain; charset=utf-8";
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        code = MHD_HTTP_METHOD_NOT_ALLOWED;
    } else if (strcmp(url, "/metrics") == 0) {
        size_t length = 0;
        char *text = metrics_text(n, &length);
        response = text ? MHD_create_response_from_buffer(length, text, MHD_RESPMEM_MUST_FREE) : NULL;
        type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    } else if (strcmp(url, "/health") == 0) {
        bool ready = atomic_load(&n->ready), low = atomic_load(&n->disk_low), down = atomic_load(&n->link_down);
        const char *text = !ready ? "starting\n" : down ? "link down\n" : low ? "disk full: reads only\n" : "ok\n";
        code = ready && !down && !low ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
        response = MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);
    } else {
        response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        code = MHD_HTTP_NOT_FOUND;
    }
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", type);
    enum MHD_Result result = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return result;
}

ch_err ch_control_open(struct ch_node *node, struct ch_control **out, char why[CH_NODE_WHY_BYTES])
{
    struct ch_control *c = calloc(1, sizeof *c);
    if (!c)
        return CH_ERR_NO_MEMORY;
    c->node = node;
    ch_err err = socket_address(node->folder, &c->address);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)unlink(c->address.sun_path); /* of a process that was killed: the log's lock says that none runs */
    mode_t before = umask(0177);
    if (err == CH_OK && (c->fd < 0 || bind(c->fd, (struct sockaddr *)&c->address, sizeof c->address) != 0 ||
                         listen(c->fd, 8) != 0))
        err = CH_ERR_IO;
    umask(before);
    if (err != CH_OK)
        snprintf(why, CH_NODE_WHY_BYTES, "%s/control: %s (at most %zu bytes of path)", node->folder,
                 err == CH_ERR_INVALID ? "the path is too long" : strerror(errno), sizeof c->address.sun_path - 1);
    if (err == CH_OK)
        err = ch_state_reader_open(node->state, &c->state);
    if (err == CH_OK && node->config.network_http_port) {
        struct sockaddr_in local = {.sin_family = AF_INET,
                                    .sin_port = htons((uint16_t)node->config.network_http_port),
                                    .sin_addr = {htonl(INADDR_LOOPBACK)}};
        c->http = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL, on_http, c,
                                   MHD_OPTION_SOCK_ADDR, &local, MHD_OPTION_CONNECTION_LIMIT, 64u,
                                   MHD_OPTION_CONNECTION_TIMEOUT, 10u, MHD_OPTION_END);
        if (!c->http) {
            err = CH_ERR_BUSY;
            snprintf(why, CH_NODE_WHY_BYTES, "network.http_port %llu: %s",
                     (unsigned long long)node->config.network_http_port, ch_err_text(err));
        }
    }
    if (err != CH_OK) {
        ch_control_close(c);
        return err;
    }
    *out = c;
    return CH_OK;
}

int ch_control_fd(const struct ch_control *c)
{
    return c->fd;
}

static void write_all(int fd, const char *text, size_t length)
{
    while (length) {
        ssize_t n = send(fd, text, length, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        text += n;
        length -= (size_t)n;
    }
}

bool ch_control_answer(struct ch_control *c)
{
    bool stop = false;
    for (;;) {
        int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return stop;
        struct timeval patience = {.tv_sec = 1}; /* of the main thread with one who asks */
        char request[REQUEST_BYTES_MAX] = "";
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        ssize_t n = recv(fd, request, sizeof request - 1, 0);
        if (n > 0)
            request[strcspn(request, "\n")] = 0;
        json_t *answer = NULL;
        if (n > 0 && strcmp(request, "status") == 0) {
            answer = status(c);
        } else if (n > 0 && strcmp(request, "stop") == 0) {
            stop = true;
            answer = json_pack("{s:b, s:I}", "stopping", 1, "pid", (json_int_t)getpid());
        } else {
            answer = json_pack("{s:s}", "error", "unknown request");
        }
        char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
        if (text)
            write_all(fd, text, strlen(text));
        free(text);
        json_decref(answer);
        close(fd);
    }
}

void ch_control_close(struct ch_control *c)
{
    if (!c)
        return;
    if (c->http)
        MHD_stop_daemon(c->http);
    ch_state_reader_close(c->state);
    if (c->fd >= 0) {
        close(c->fd);
        (void)unlink(c->address.sun_path);
    }
    free(c);
}

ch_err ch_control_ask(const char *folder, const char *request, char **answer)
{
    struct sockaddr_un address;
    ch_err err = socket_address(folder, &address);
    if (err != CH_OK)
        return err;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return CH_ERR_IO;
    struct timeval patience = {.tv_sec = 5};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return CH_ERR_NOT_FOUND;
    }
    write_all(fd, request, strlen(request));
    char *text = malloc(ANSWER_BYTES_MAX);
    size_t used = 0;
    ssize_t n = 0;
    while (text && used < ANSWER_BYTES_MAX - 1 && (n = recv(fd, text + used, ANSWER_BYTES_MAX - 1 - used, 0)) > 0)
        used += (size_t)n;
    close(fd);
    if (!text || n < 0 || used == 0) {
        free(text);
        return text ? CH_ERR_TIMEOUT : CH_ERR_NO_MEMORY;
    }
    text[used] = 0;
    *answer = text;
    return CH_OK;
}
