#include "node/ipfs.h"

#include "base/time.h"
#include "dataplane/address.h"
#include "node/ipfs_request.h"
#include "wire/car.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define SECOND_NS     UINT64_C(1000000000)
#define STACK_BYTES           (1u << 20)
#define REQUEST_BYTES (32u << 10) /* of a connection: its request's line and headers, and our headers */
#define PIECE_BYTES   (64u << 10) /* handed to the socket at once */
#define SOCKET_BYTES  (1 << 20)   /* what the kernel may hold for a reader, where it allows as much */
#define BLOCKS_REMEMBERED_MAX                                                                                          \
    65536               /* of a CAR without doubles: a file of 64 GiB. A longer one says dups=y; a tree                \
                             of more and smaller blocks than ours make is cut off */
#define DIGEST_BYTES 16 /* remembered of each: who finds two alike spoils his own object's CAR */

/* One connection, as long as it is open. */
struct caller {
    int fd; /* -1: free */
    bool ended;
    uint64_t since_ns;                /* its last request, or its last answer's end */
    atomic_uint_fast64_t given_bytes; /* since then */
};

/* What an answer needs, from the pool and back to it. */
struct session {
    struct ch_ipfs *ipfs;
    struct session *next;
    struct caller *caller;
    void *reader;
    bool whole;                                                   /* all that was to be given was given */
    uint64_t from;                                                /* of a range, in the block */
    uint8_t head[CH_CAR_HEADER_BYTES + CH_CAR_SECTION_BYTES_MAX]; /* what stands before the block */
    size_t head_length, block_length, given;                      /* given: of both */
    bool root_alone, dups;
    uint8_t (*seen)[DIGEST_BYTES]; /* of a CAR without doubles. Open addressing; zeros are empty */
    size_t seen_slots, seen_count;
    struct ch_unixfs_walk walk;
    uint8_t block[CH_BLOCK_BYTES_MAX];
};

struct ch_ipfs {
    struct MHD_Daemon *http;
    struct ch_ipfs_source source;
    struct ch_metrics *metrics;
    uint32_t callers_max, idle_s;
    pthread_mutex_t lock; /* of what follows */
    struct session *free;
    struct caller *callers;
};

/* ---- sessions ---- */

static struct session *take_session(struct ch_ipfs *ipfs)
{
    pthread_mutex_lock(&ipfs->lock);
    struct session *s = ipfs->free;
    if (s)
        ipfs->free = s->next;
    pthread_mutex_unlock(&ipfs->lock);
    if (s)
        return s;
    s = calloc(1, sizeof *s);
    if (s && ipfs->source.open(ipfs->source.context, &s->reader) != CH_OK) {
        free(s);
        s = NULL;
    }
    if (s)
        s->ipfs = ipfs;
    return s;
}

static void give_session(struct session *s)
{
    struct ch_ipfs *ipfs = s->ipfs;
    free(s->seen);
    s->seen = NULL;
    s->seen_slots = s->seen_count = 0;
    pthread_mutex_lock(&ipfs->lock);
    s->next = ipfs->free;
    ipfs->free = s;
    pthread_mutex_unlock(&ipfs->lock);
}

/* An answer's end: MHD is done with it. */
static void end_answer(void *self)
{
    struct session *s = self;
    ch_count_shared(&s->ipfs->metrics->ipfs_answers_broken_off_total, !s->whole);
    give_session(s);
}

/* ---- CARs ---- */

static uint8_t *slot_of(uint8_t (*seen)[DIGEST_BYTES], size_t slots, const uint8_t *digest, bool *is)
{
    static const uint8_t empty[DIGEST_BYTES];
    size_t at = ch_load64(digest) & (slots - 1);
    while (memcmp(seen[at], digest, DIGEST_BYTES) != 0 && memcmp(seen[at], empty, DIGEST_BYTES) != 0)
        at = (at + 1) & (slots - 1);
    *is = memcmp(seen[at], digest, DIGEST_BYTES) == 0;
    return seen[at];
}

/* Twice the room for digests. CH_ERR_FULL: more than BLOCKS_REMEMBERED_MAX. */
static ch_err grow_seen(struct session *s)
{
    size_t slots = s->seen_slots ? 2 * s->seen_slots : 64;
    if (slots > 4 * (size_t)BLOCKS_REMEMBERED_MAX)
        return CH_ERR_FULL;
    uint8_t(*seen)[DIGEST_BYTES] = calloc(slots, sizeof *seen);
    bool is;
    if (!seen)
        return CH_ERR_NO_MEMORY;
    for (size_t i = 0; i < s->seen_slots; i++)
        memcpy(slot_of(seen, slots, s->seen[i], &is), s->seen[i], DIGEST_BYTES);
    free(s->seen);
    s->seen = seen;
    s->seen_slots = slots;
    return CH_OK;
}

/* Whether this block was not given yet; it counts as given from now on. */
static ch_err is_new(struct session *s, const struct ch_cid *cid, bool *new)
{
    *new = true;
    if (s->dups)
        return CH_OK;
    if (s->seen_count * 2 >= s->seen_slots) {
        ch_err err = grow_seen(s);
        if (err != CH_OK)
            return err;
    }
    uint8_t key[DIGEST_BYTES]; /* a leaf may have the bytes of a node */
    memcpy(key, ch_cid_digest(cid), sizeof key);
    key[0] ^= ch_cid_codec(cid) == CH_CID_DAG_PB;
    uint8_t *slot = slot_of(s->seen, s->seen_slots, key, new);
    *new = !*new;
    s->seen_count += *new;
    memcpy(slot, key, sizeof key);
    return CH_OK;
}

/* Gets the next block of the walk with what stands before it; *over: there is none. */
static ch_err next_block(struct session *s, bool *over)
{
    struct ch_unixfs_link link;
    ch_err err = CH_OK;
    bool new = false;
    while (err == CH_OK && !new) {
        *over = !ch_unixfs_walk_next(&s->walk, &link);
        if (*over)
            return CH_OK;
        err = is_new(s, &link.cid, &new);
    }
    if (err == CH_OK)
        err = s->ipfs->source.get(s->reader, &link.cid, s->block, sizeof s->block, &s->block_length);
    if (err != CH_OK)
        return err;
    if (ch_cid_codec(&link.cid) == CH_CID_DAG_PB && !s->root_alone &&
        !ch_unixfs_walk_enter(&s->walk, &link, s->block, s->block_length))
        return CH_ERR_INVALID;
    s->head_length = ch_car_section(&link.cid, s->block_length, s->head);
    s->given = 0;
    return CH_OK;
}

static size_t give_some(struct session *s, char *to, size_t room)
{
    size_t done = 0;
    if (s->given < s->head_length) {
        done = s->head_length - s->given < room ? s->head_length - s->given : room;
        memcpy(to, s->head + s->given, done);
    }
    size_t in_block = s->given + done - s->head_length, left = s->block_length - in_block;
    if (s->given + done >= s->head_length) {
        size_t take = left < room - done ? left : room - done;
        memcpy(to + done, s->block + in_block, take);
        done += take;
    }
    s->given += done;
    atomic_fetch_add_explicit(&s->caller->given_bytes, done, memory_order_relaxed);
    ch_count_shared(&s->ipfs->metrics->ipfs_bytes_sent_total, done);
    return done;
}

static ssize_t on_car(void *self, uint64_t position, char *to, size_t room)
{
    struct session *s = self;
    if (s->given == s->head_length + s->block_length) {
        bool over;
        if (next_block(s, &over) != CH_OK)
            return MHD_CONTENT_READER_END_WITH_ERROR; /* the reader sees that it is cut off */
        if (over) {
            s->whole = true;
            return MHD_CONTENT_READER_END_OF_STREAM;
        }
    }
    return (ssize_t)give_some(s, to, room);
}

static ssize_t on_raw(void *self, uint64_t position, char *to, size_t room)
{
    struct session *s = self;
    s->given = (size_t)(s->from + position);
    size_t done = give_some(s, to, room);
    s->whole = s->given == s->block_length;
    return (ssize_t)done;
}

/* ---- answers ---- */

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    (void)MHD_add_response_header(response, name, value); /* memory alone can be missing: then a header is */
}

/* Takes the response over. */
static enum MHD_Result send_answer(struct ch_ipfs *ipfs, struct MHD_Connection *connection, unsigned code,
                                   struct MHD_Response *response)
{
    if (!response)
        return MHD_NO;
    add_header(response, "X-Content-Type-Options", "nosniff");
    add_header(response, "Access-Control-Allow-Origin", "*");
    ch_count_shared(&ipfs->metrics->ipfs_requests_total, 1);
    ch_count_shared(&ipfs->metrics->ipfs_requests_refused_total, code >= 400);
    enum MHD_Result result = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result refuse(struct ch_ipfs *ipfs, struct MHD_Connection *connection, unsigned code, const char *why,
                              const char *range)
{
    char line[256];
    int length = snprintf(line, sizeof line, "%s\n", why);
    struct MHD_Response *response = MHD_create_response_from_buffer((size_t)length, line, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    add_header(response, "Content-Type", "text/plain; charset=utf-8");
    add_header(response, "Cache-Control", "no-store");
    if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
        add_header(response, "Allow", "GET, HEAD");
    if (range)
        add_header(response, "Content-Range", range);
    return send_answer(ipfs, connection, code, response);
}

/* What the store's word means to who asks. */
static enum MHD_Result refuse_error(struct ch_ipfs *ipfs, struct MHD_Connection *connection, ch_err err)
{
    if (err == CH_ERR_NOT_FOUND)
        return refuse(ipfs, connection, MHD_HTTP_NOT_FOUND, "this object is not here", NULL);
    if (err == CH_ERR_INVALID)
        return refuse(ipfs, connection, MHD_HTTP_NOT_FOUND, "no whole file is under this CID; ask for its blocks",
                      NULL);
    return refuse(ipfs, connection, MHD_HTTP_SERVICE_UNAVAILABLE, "the object can't be read now", NULL);
}

/* Everything under an address stays as it is for ever. */
static void add_object_headers(struct MHD_Response *response, const char *cid, const char *etag, const char *ending)
{
    char text[CH_CID_TEXT_BYTES + 64];
    add_header(response, "Cache-Control", "public, max-age=29030400, immutable");
    add_header(response, "Etag", etag);
    add_header(response, "Vary", "Accept");
    (void)snprintf(text, sizeof text, "/ipfs/%s", cid);
    add_header(response, "X-Ipfs-Path", text);
    add_header(response, "X-Ipfs-Roots", cid);
    (void)snprintf(text, sizeof text, "attachment; filename=\"%s.%s\"", cid, ending);
    add_header(response, "Content-Disposition", text);
}

/* If-None-Match: a list of tags, or *. Its comparison is the weak one (RFC 9110 13.1.2). */
static bool tag_listed(const char *list, const char *etag)
{
    const char *strong = strncmp(etag, "W/", 2) == 0 ? etag + 2 : etag;
    return list && (strcmp(list, "*") == 0 || strstr(list, strong) != NULL);
}

static enum MHD_Result not_modified(struct ch_ipfs *ipfs, struct MHD_Connection *connection, const char *cid,
                                    const char *etag, const char *ending)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (!response)
        return MHD_NO;
    add_object_headers(response, cid, etag, ending);
    return send_answer(ipfs, connection, MHD_HTTP_NOT_MODIFIED, response);
}

static const char *header(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static enum MHD_Result answer_raw(struct session *s, struct MHD_Connection *connection,
                                  const struct ch_ipfs_request *request, bool head)
{
    struct ch_ipfs *ipfs = s->ipfs;
    char cid[CH_CID_TEXT_BYTES] = "bafkqaaa", etag[CH_CID_TEXT_BYTES + 16], content_range[64];
    uint64_t from = 0, count;
    unsigned code = MHD_HTTP_OK;
    ch_err err = CH_OK;
    s->block_length = 0;
    if (!request->probe) {
        ch_cid_to_text(&request->cid, cid);
        err = ipfs->source.get(s->reader, &request->cid, s->block, sizeof s->block, &s->block_length);
    }
    if (err != CH_OK) {
        end_answer(s);
        return refuse_error(ipfs, connection, err);
    }
    (void)snprintf(etag, sizeof etag, "\"%s.raw\"", cid);
    if (tag_listed(header(connection, "If-None-Match"), etag)) { /* any, as far as it is here; or the empty block */
        end_answer(s);
        return not_modified(ipfs, connection, cid, etag, "bin");
    }
    count = s->block_length;
    const char *if_range = header(connection, "If-Range"), *range = header(connection, "Range");
    if (!head && range && (!if_range || strcmp(if_range, etag) == 0)) {
        enum ch_ipfs_range part = ch_ipfs_range_read(range, s->block_length, &from, &count);
        (void)snprintf(content_range, sizeof content_range, "bytes */%zu", s->block_length);
        if (part == CH_IPFS_UNSATISFIABLE) {
            end_answer(s);
            return refuse(ipfs, connection, MHD_HTTP_RANGE_NOT_SATISFIABLE, "the block is shorter", content_range);
        }
        if (part == CH_IPFS_PART) {
            code = MHD_HTTP_PARTIAL_CONTENT;
            (void)snprintf(content_range, sizeof content_range, "bytes %llu-%llu/%zu", (unsigned long long)from,
                           (unsigned long long)(from + count - 1), s->block_length);
        }
    }
    s->from = from;
    s->block_length = (size_t)(from + count);
    s->head_length = 0;
    s->whole = head || count == 0;
    struct MHD_Response *response = MHD_create_response_from_callback(count, PIECE_BYTES, on_raw, s, end_answer);
    if (!response) {
        end_answer(s);
        return MHD_NO;
    }
    add_header(response, "Content-Type", "application/vnd.ipld.raw");
    add_header(response, "Accept-Ranges", "bytes");
    if (code == MHD_HTTP_PARTIAL_CONTENT)
        add_header(response, "Content-Range", content_range);
    add_object_headers(response, cid, etag, "bin");
    return send_answer(ipfs, connection, code, response);
}

static enum MHD_Result answer_car(struct session *s, struct MHD_Connection *connection,
                                  const struct ch_ipfs_request *request, bool head)
{
    struct ch_ipfs *ipfs = s->ipfs;
    char cid[CH_CID_TEXT_BYTES], etag[CH_CID_TEXT_BYTES + 32], type[96];
    uint64_t file_bytes = 0;
    size_t length;
    ch_cid_to_text(&request->cid, cid);
    /* All of it must be there before anything is said: nobody likes an answer that is cut off. */
    ch_err err = request->root_alone ? ipfs->source.get(s->reader, &request->cid, s->block, sizeof s->block, &length)
                                     : ipfs->source.has_tree(s->reader, &request->cid, &file_bytes);
    if (err != CH_OK) {
        end_answer(s);
        return refuse_error(ipfs, connection, err);
    }
    s->dups = request->dups || file_bytes / CH_UNIXFS_LEAF_BYTES >= BLOCKS_REMEMBERED_MAX;
    (void)snprintf(etag, sizeof etag, "W/\"%s.car.%s.%c\"", cid, request->root_alone ? "block" : "all",
                   s->dups ? 'y' : 'n');
    if (tag_listed(header(connection, "If-None-Match"), etag)) {
        end_answer(s);
        return not_modified(ipfs, connection, cid, etag, "car");
    }
    ch_unixfs_walk_begin(&s->walk, &request->cid, UINT64_MAX);
    s->root_alone = request->root_alone;
    ch_car_header(&request->cid, s->head);
    s->head_length = CH_CAR_HEADER_BYTES;
    s->block_length = s->given = 0;
    s->whole = head;
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE_BYTES, on_car, s, end_answer);
    if (!response) {
        end_answer(s);
        return MHD_NO;
    }
    (void)snprintf(type, sizeof type, "application/vnd.ipld.car; version=1; order=dfs; dups=%c", s->dups ? 'y' : 'n');
    add_header(response, "Content-Type", type);
    add_header(response, "Accept-Ranges", "none");
    add_object_headers(response, cid, etag, "car");
    return send_answer(ipfs, connection, MHD_HTTP_OK, response);
}

/* A raw block whose tag If-None-Match lists need not even be read. */
static bool raw_known(struct MHD_Connection *connection, const struct ch_ipfs_request *request, char *cid, char *etag,
                      size_t etag_bytes)
{
    const char *list = header(connection, "If-None-Match");
    if (!list || request->probe || request->format != CH_IPFS_RAW)
        return false;
    ch_cid_to_text(&request->cid, cid);
    (void)snprintf(etag, etag_bytes, "\"%s.raw\"", cid);
    return strcmp(list, "*") != 0 && tag_listed(list, etag);
}

static struct caller *caller_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static enum MHD_Result on_request(void *self, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_length, void **state)
{
    struct ch_ipfs *ipfs = self;
    struct ch_ipfs_request request;
    struct caller *caller = caller_of(connection);
    char cid[CH_CID_TEXT_BYTES], etag[CH_CID_TEXT_BYTES + 16];
    const char *why = NULL;
    bool head = strcmp(method, "HEAD") == 0;
    if (!caller)
        return MHD_NO;
    if (!head && strcmp(method, "GET") != 0)
        return refuse(ipfs, connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD alone", NULL);
#define QUERY(name) MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, name)
    const struct ch_ipfs_question question = {
        .path = url,
        .format = QUERY("format"),
        .car_version = QUERY("car-version"),
        .car_order = QUERY("car-order"),
        .car_dups = QUERY("car-dups"),
        .dag_scope = QUERY("dag-scope"),
        .accept = header(connection, "Accept"),
    };
#undef QUERY
    unsigned code = ch_ipfs_request_read(&question, &request, &why);
    if (code != MHD_HTTP_OK)
        return refuse(ipfs, connection, code, why, NULL);
    if (raw_known(connection, &request, cid, etag, sizeof etag))
        return not_modified(ipfs, connection, cid, etag, "bin");
    struct session *s = take_session(ipfs);
    if (!s)
        return refuse(ipfs, connection, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory", NULL);
    s->caller = caller;
    s->whole = true;
    s->from = 0;
    return (request.format == CH_IPFS_RAW ? answer_raw : answer_car)(s, connection, &request, head);
}

/* ---- connections ---- */

static void begin_patience(struct caller *caller)
{
    caller->since_ns = ch_time_monotonic_ns();
    atomic_store(&caller->given_bytes, 0);
}

static void on_connection(void *self, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct ch_ipfs *ipfs = self;
    pthread_mutex_lock(&ipfs->lock);
    if (what == MHD_CONNECTION_NOTIFY_CLOSED && *context) {
        ((struct caller *)*context)->fd = -1;
        *context = NULL;
        ch_count_shared(&ipfs->metrics->ipfs_connections, (uint64_t)-1);
    } else if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct caller *caller = ipfs->callers;
        while (caller < ipfs->callers + ipfs->callers_max && caller->fd >= 0)
            caller++;
        if (info && caller < ipfs->callers + ipfs->callers_max) {
            int bytes = SOCKET_BYTES;
            (void)setsockopt(info->connect_fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
            caller->fd = info->connect_fd;
            caller->ended = false;
            begin_patience(caller);
            *context = caller;
            ch_count_shared(&ipfs->metrics->ipfs_connections, 1);
        }
    }
    pthread_mutex_unlock(&ipfs->lock);
}

static void on_completed(void *self, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode why)
{
    struct ch_ipfs *ipfs = self;
    struct caller *caller = caller_of(connection);
    pthread_mutex_lock(&ipfs->lock);
    if (caller)
        begin_patience(caller);
    pthread_mutex_unlock(&ipfs->lock);
}

void ch_ipfs_look(struct ch_ipfs *ipfs, uint64_t now_ns)
{
    if (!ipfs)
        return;
    pthread_mutex_lock(&ipfs->lock);
    for (struct caller *c = ipfs->callers; c < ipfs->callers + ipfs->callers_max; c++) {
        if (c->fd < 0 || c->ended || now_ns < c->since_ns)
            continue;
        uint64_t earned_s = atomic_load(&c->given_bytes) / CH_IPFS_BYTES_A_SECOND_MIN;
        if ((now_ns - c->since_ns) / SECOND_NS <= ipfs->idle_s + earned_s)
            continue;
        c->ended = true;
        (void)shutdown(c->fd, SHUT_RDWR); /* its thread notices and closes it */
    }
    pthread_mutex_unlock(&ipfs->lock);
}

/* ---- opening ---- */

static ch_err listen_on(struct ch_ipfs *ipfs, const struct ch_ipfs_options *options)
{
    struct ch_address address;
    struct sockaddr_storage local;
    if (ch_address_parse(options->address, &address, NULL) != CH_OK || address.port)
        return CH_ERR_INVALID;
    address.port = options->port;
    (void)ch_address_to_sockaddr(&address, &local);
    unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL;
    if (local.ss_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    ipfs->http = MHD_start_daemon(flags, 0, NULL, NULL, on_request, ipfs, MHD_OPTION_SOCK_ADDR, &local,
                                  MHD_OPTION_CONNECTION_LIMIT, (unsigned)options->connections_max,
                                  MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)options->connections_per_address,
                                  MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)options->idle_s,
                                  MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                  (size_t)(REQUEST_BYTES + PIECE_BYTES), MHD_OPTION_NOTIFY_CONNECTION, on_connection,
                                  ipfs, MHD_OPTION_NOTIFY_COMPLETED, on_completed, ipfs, MHD_OPTION_END);
    return ipfs->http ? CH_OK : CH_ERR_BUSY;
}

ch_err ch_ipfs_open(const struct ch_ipfs_options *options, struct ch_ipfs **out)
{
    struct ch_ipfs *ipfs = calloc(1, sizeof *ipfs);
    if (!ipfs)
        return CH_ERR_NO_MEMORY;
    pthread_mutex_init(&ipfs->lock, NULL);
    ipfs->source = options->source;
    ipfs->metrics = options->metrics;
    ipfs->callers_max = options->connections_max;
    ipfs->idle_s = options->idle_s;
    ipfs->callers = calloc(ipfs->callers_max, sizeof *ipfs->callers);
    ch_err err = ipfs->callers ? CH_OK : CH_ERR_NO_MEMORY;
    for (uint32_t i = 0; err == CH_OK && i < ipfs->callers_max; i++)
        ipfs->callers[i].fd = -1;
    if (err == CH_OK)
        err = listen_on(ipfs, options);
    if (err != CH_OK) {
        ch_ipfs_close(ipfs);
        return err;
    }
    *out = ipfs;
    return CH_OK;
}

void ch_ipfs_close(struct ch_ipfs *ipfs)
{
    if (!ipfs)
        return;
    if (ipfs->http)
        MHD_stop_daemon(ipfs->http);
    for (struct session *s; (s = ipfs->free);) {
        ipfs->free = s->next;
        ipfs->source.close(s->reader);
        free(s);
    }
    free(ipfs->callers);
    pthread_mutex_destroy(&ipfs->lock);
    free(ipfs);
}
