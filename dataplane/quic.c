/* The library's side of the engine: every call of libngtcp2 0.12.1 but those that TLS needs (quic_tls.c).
 *
 * What is known of that version, and designed around: unidirectional streams leak (none are granted); migration had
 * assertion failures (a connection sees one path only, ever); retired connection ids are not limited (CIDS_MAX is);
 * pacing is off unless update_pkt_tx_time is called after each burst. A `false` from the library's callbacks would end
 * in its own error code, so what we want to say to a peer is noted by ch_quic_want_hang_up and said after the call.
 */
#include "dataplane/quic_impl.h"

#include "dataplane/quic_guard_impl.h"

#include <ngtcp2/ngtcp2_crypto.h>
#include <sodium.h>
#include <stdlib.h>

#define PIECES_MAX 8 /* of a stream's queue in one packet: frames are gathered, so two chunks are usual */

/* Callbacks of the library. */

/* Whose datagram the library reads now: its decrypt callback has no user pointer. An engine, and so a connection,
 * belongs to one thread. */
static _Thread_local struct conn *reading;

static int on_decrypt(uint8_t *to, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *context,
                      const uint8_t *from, size_t length, const uint8_t *nonce, size_t nonce_length, const uint8_t *aad,
                      size_t aad_length)
{
    int rv = ngtcp2_crypto_decrypt_cb(to, aead, context, from, length, nonce, nonce_length, aad, aad_length);
    if (rv != 0)
        return rv;
    if (length >= aead->max_overhead &&
        ch_quic_guard(to, length - aead->max_overhead, !(aad[0] & 0x80), !reading->peer.dialled))
        return 0;
    reading->guarded = true;
    return NGTCP2_ERR_DECRYPT;
}

/* Without the peer's transport parameters there is no negotiated version, and the server's first own packet would hit
 * an assert. */
static int on_tx_key(ngtcp2_conn *quic, ngtcp2_crypto_level level, void *user)
{
    if (level != NGTCP2_CRYPTO_LEVEL_APPLICATION || ngtcp2_conn_get_remote_transport_params(quic))
        return 0;
    ((struct conn *)user)->mute = true;
    return NGTCP2_ERR_CALLBACK_FAILURE;
}

static void on_rand(uint8_t *to, size_t length, const ngtcp2_rand_ctx *context)
{
    randombytes_buf(to, length);
}

static void cid_new(ngtcp2_cid *cid, size_t length)
{
    cid->datalen = length;
    randombytes_buf(cid->data, length);
}

static bool reset_token(const struct ch_quic *e, const ngtcp2_cid *cid, uint8_t *token)
{
    return ngtcp2_crypto_generate_stateless_reset_token(token, e->reset_secret, sizeof e->reset_secret, cid) == 0;
}

static int on_new_cid(ngtcp2_conn *quic, ngtcp2_cid *cid, uint8_t *token, size_t length, void *user)
{
    struct conn *c = user;
    cid_new(cid, length);
    return reset_token(c->engine, cid, token) && ch_quic_cid_add(c, cid) ? 0 : NGTCP2_ERR_CALLBACK_FAILURE;
}

static int on_remove_cid(ngtcp2_conn *quic, const ngtcp2_cid *cid, void *user)
{
    ch_quic_cid_remove(user, cid);
    return 0;
}

static int on_dcid_status(ngtcp2_conn *quic, int type, uint64_t sequence, const ngtcp2_cid *cid, const uint8_t *token,
                          void *user)
{
    if (type == NGTCP2_CONNECTION_ID_STATUS_TYPE_DEACTIVATE)
        ch_quic_token_remove(user, sequence);
    else if (token)
        ch_quic_token_add(user, sequence, token);
    return 0;
}

static int on_stateless_reset(ngtcp2_conn *quic, const ngtcp2_pkt_stateless_reset *reset, void *user)
{
    struct conn *c = user;
    c->reset_seen = true;
    return 0;
}

/* A key that opens more connections than it may loses its oldest: after a crash the new one must get in. */
static void limit_key(struct conn *c)
{
    struct ch_quic *e = c->engine;
    struct ch_quic_table_key key = ch_quic_peer_key(c->peer.key);
    c->counted_key = ch_quic_count_up(&e->keys, &key);
    const uint32_t *count = ch_quic_table_find(&e->keys, &key);
    if (!count || *count <= e->options.connections_per_key)
        return;
    struct conn *oldest = c;
    for (uint32_t i = 0; i < e->options.connections_max; i++) {
        struct conn *o = &e->conns[i];
        if (o->state == CONN_LIVE && o->counted_key && !o->hang_up && o->serial < oldest->serial &&
            memcmp(o->peer.key, c->peer.key, sizeof c->peer.key) == 0)
            oldest = o;
    }
    ch_quic_want_hang_up(oldest, CH_QUIC_CODE_REPLACED, NULL);
}

/* Called once, when TLS has proven both sides. */
static void connected(struct conn *c)
{
    struct ch_quic *e = c->engine;
    if (c->peer.connected || c->hang_up)
        return;
    if (!c->tls_peer.proven) {
        /* TLS can't finish without our verify function; but a peer would be behind it if it did. */
        ch_quic_want_hang_up(c, CH_QUIC_CODE_NOT_ALLOWED, NULL);
        return;
    }
    memcpy(c->peer.key, c->tls_peer.key, sizeof c->peer.key);
    c->peer.connected = true;
    c->serial = ++e->serial;
    e->counters.connected++;
    if (!c->peer.dialled) {
        e->usage.handshakes--;
        limit_key(c);
    }
    e->options.callbacks.connected(e->options.context, ch_quic_number(c, 0), &c->peer);
}

static bool take_frame(void *context, const struct ch_frame_header *header, const uint8_t *body)
{
    struct stream *s = context;
    struct conn *c = s->conn;
    struct ch_quic *e = c->engine;
    if (c->hang_up)
        return true; /* nobody wants it any more */
    if (c->paused)
        return false;
    unsigned int which = (unsigned int)(s - c->streams);
    if (!e->options.callbacks.frame(e->options.context, ch_quic_number(c, which), header, body)) {
        c->paused = true;
        e->counters.rx_frames_refused++;
        return false;
    }
    c->stats.rx_frames++;
    e->counters.rx_frames++;
    return true;
}

/* Gives `s` what it may still get, and the peer room for what was taken. */
static void after_frames(struct stream *s, enum ch_stream_verdict verdict)
{
    struct conn *c = s->conn;
    switch (verdict) {
    case CH_STREAM_WAITS:
        return;
    case CH_STREAM_TOO_LONG:
        ch_quic_want_hang_up(c, CH_QUIC_CODE_FRAME_TOO_LONG, NULL);
        return;
    case CH_STREAM_NO_MEMORY:
        ch_quic_want_hang_up(c, CH_QUIC_CODE_OVERLOADED, NULL);
        return;
    case CH_STREAM_OK:
        break;
    }
    if (s->ended && !ch_stream_in_between(&s->in)) {
        ch_quic_want_hang_up(c, CH_QUIC_CODE_BAD_STREAM, NULL);
        return;
    }
    if (s->ungranted == 0)
        return;
    int64_t id = 4 * (s - c->streams);
    if (ngtcp2_conn_extend_max_stream_offset(c->quic, id, s->ungranted) != 0)
        ch_quic_want_hang_up(c, CH_QUIC_CODE_BAD_STREAM, NULL);
    ngtcp2_conn_extend_max_offset(c->quic, s->ungranted);
    s->ungranted = 0;
}

/* Bidirectional streams that the dialling side opens have the ids 0, 4, 8, 12 (RFC 9000 2.1). */
static struct stream *stream_of(struct conn *c, int64_t id)
{
    return id >= 0 && id % 4 == 0 && id / 4 < CH_QUIC_STREAMS_MAX ? &c->streams[id / 4] : NULL;
}

static int on_stream_open(ngtcp2_conn *quic, int64_t id, void *user)
{
    struct conn *c = user;
    struct stream *s = stream_of(c, id);
    if (!s || s->open)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    s->open = true;
    if (ch_stream_out_waiting(&s->out) > 0)
        ch_quic_mark_ready(c);
    return 0;
}

static int on_stream_data(ngtcp2_conn *quic, uint32_t flags, int64_t id, uint64_t offset, const uint8_t *data,
                          size_t length, void *user, void *stream_user)
{
    struct conn *c = user;
    struct stream *s = stream_of(c, id);
    if (!s)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    connected(c);
    if (c->hang_up)
        return 0;
    s->ended |= (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0;
    s->ungranted += length;
    after_frames(s, ch_stream_in_add(&s->in, &c->engine->receive_budget, data, length, take_frame, s));
    return 0;
}

static int on_acknowledged(ngtcp2_conn *quic, int64_t id, uint64_t offset, uint64_t length, void *user,
                           void *stream_user)
{
    struct conn *c = user;
    struct stream *s = stream_of(c, id);
    if (!s || offset + length > s->out.sent || offset + length < s->out.acknowledged)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    c->send_waiting -= offset + length - s->out.acknowledged;
    ch_stream_out_acknowledged(&s->out, &c->engine->send_budget, offset + length);
    if (c->want_writable && c->send_waiting <= c->engine->options.send_bytes_max / 2)
        ch_quic_mark_due(c);
    return 0;
}

static int on_stream_reset(ngtcp2_conn *quic, int64_t id, uint64_t final_size, uint64_t code, void *user,
                           void *stream_user)
{
    ch_quic_want_hang_up(user, CH_QUIC_CODE_BAD_STREAM, NULL);
    return 0;
}

static int on_stream_close(ngtcp2_conn *quic, uint32_t flags, int64_t id, uint64_t code, void *user, void *stream_user)
{
    ch_quic_want_hang_up(user, CH_QUIC_CODE_BAD_STREAM, NULL);
    return 0;
}

void ch_quic_lib_init(struct ch_quic *e)
{
    e->callbacks = (ngtcp2_callbacks){
        .client_initial = ngtcp2_crypto_client_initial_cb,
        .recv_client_initial = ngtcp2_crypto_recv_client_initial_cb,
        .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
        .encrypt = ngtcp2_crypto_encrypt_cb,
        .decrypt = on_decrypt,
        .hp_mask = ngtcp2_crypto_hp_mask_cb,
        .recv_retry = ngtcp2_crypto_recv_retry_cb,
        .update_key = ngtcp2_crypto_update_key_cb,
        .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
        .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
        .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
        .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
        .rand = on_rand,
        .get_new_connection_id = on_new_cid,
        .remove_connection_id = on_remove_cid,
        .recv_stateless_reset = on_stateless_reset,
        .dcid_status = on_dcid_status,
        .recv_tx_key = on_tx_key,
        .stream_open = on_stream_open,
        .stream_close = on_stream_close,
        .stream_reset = on_stream_reset,
        .recv_stream_data = on_stream_data,
        .acked_stream_data_offset = on_acknowledged,
    };
}

static ngtcp2_conn *get_conn(ngtcp2_crypto_conn_ref *ref)
{
    return ((struct conn *)ref->user_data)->quic;
}

/* What both sides have in common. `params` gets the connection ids of the handshake from the caller. */
static void settings_fill(const struct ch_quic *e, ngtcp2_settings *settings, ngtcp2_transport_params *params,
                          bool server, uint64_t now_ns)
{
    const struct ch_quic_options *o = &e->options;
    ngtcp2_settings_default(settings);
    settings->initial_ts = now_ns;
    settings->initial_rtt = o->initial_rtt_ns;
    settings->handshake_timeout = o->handshake_timeout_ns;
    settings->max_tx_udp_payload_size = o->datagram_bytes_max;
    settings->no_tx_udp_payload_size_shaping = o->path_carries_max;
    settings->no_pmtud = o->path_carries_max || o->datagram_bytes_max == CH_QUIC_DATAGRAM_BYTES_MIN;
    ngtcp2_transport_params_default(params);
    params->initial_max_stream_data_bidi_local = o->stream_window_bytes;
    params->initial_max_stream_data_bidi_remote = o->stream_window_bytes;
    params->initial_max_data = o->connection_window_bytes;
    params->initial_max_streams_bidi = server ? CH_QUIC_STREAMS_MAX : 0;
    params->initial_max_streams_uni = 0;
    params->max_idle_timeout = o->idle_timeout_ns;
    params->disable_active_migration = 1;
}

static void path_set(struct conn *c, const struct ch_quic_route *route)
{
    struct ch_address any = {.port = 1};
    memcpy(any.ip, route->remote.ip, sizeof any.ip);
    if (ch_address_is4(&any))
        memset(any.ip + 12, 0, 4);
    else
        memset(any.ip, 0, sizeof any.ip);
    c->peer.route = *route;
    c->path = (ngtcp2_path){
        .local = {(struct sockaddr *)&c->local, ch_address_to_sockaddr(&any, &c->local)},
        .remote = {(struct sockaddr *)&c->remote, ch_address_to_sockaddr(&route->remote, &c->remote)},
    };
}

/* TLS for a connection that the library knows; false: no memory. */
static bool tls_start(struct conn *c, bool server)
{
    c->tls_peer.ref = (ngtcp2_crypto_conn_ref){get_conn, c};
    if (ch_quic_tls_session(&c->engine->tls, server, &c->tls_peer, &c->tls) != CH_OK)
        return false;
    ngtcp2_conn_set_tls_native_handle(c->quic, c->tls);
    if (c->engine->options.keep_alive_ns)
        ngtcp2_conn_set_keep_alive_timeout(c->quic, c->engine->options.keep_alive_ns);
    return true;
}

void ch_quic_lib_free(struct conn *c)
{
    if (c->quic)
        ngtcp2_conn_del(c->quic);
    if (c->tls)
        gnutls_deinit(c->tls);
    c->quic = NULL;
    c->tls = NULL;
}

ch_err ch_quic_connect(struct ch_quic *e, const struct ch_quic_route *to, const uint8_t *expected_key, void *user,
                       uint64_t now_ns, uint64_t *conn)
{
    struct conn *c = ch_quic_slot_take(e);
    if (!c)
        return CH_ERR_FULL;
    ngtcp2_cid dcid, scid;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    cid_new(&dcid, CID_BYTES);
    cid_new(&scid, CID_BYTES);
    c->peer.dialled = true;
    c->user = user;
    if (expected_key) {
        memcpy(c->expected_key, expected_key, sizeof c->expected_key);
        memcpy(c->peer.key, expected_key, sizeof c->peer.key);
        c->tls_peer.expected = c->expected_key;
    }
    path_set(c, to);
    settings_fill(e, &settings, &params, false, now_ns);
    if (!ch_quic_cid_add(c, &scid) ||
        ngtcp2_conn_client_new(&c->quic, &dcid, &scid, &c->path, NGTCP2_PROTO_VER_V1, &e->callbacks, &settings, &params,
                               NULL, c) != 0 ||
        !tls_start(c, false)) {
        ch_quic_slot_free(c);
        return CH_ERR_NO_MEMORY;
    }
    e->counters.dialled++;
    ch_quic_mark_ready(c);
    *conn = ch_quic_number(c, 0);
    return CH_OK;
}

/* How connections end. */

static void close_with(struct conn *c, enum ch_quic_end end, const ngtcp2_connection_close_error *error,
                       uint64_t now_ns)
{
    uint8_t packet[CH_QUIC_DATAGRAM_BYTES_MAX];
    uint64_t linger_ns = 3 * ngtcp2_conn_get_pto(c->quic);
    ngtcp2_ssize n = 0;
    if (!c->mute)
        n = ngtcp2_conn_write_connection_close(c->quic, NULL, NULL, packet, c->engine->options.datagram_bytes_max,
                                               error, now_ns);
    if (n > 0 && (c->close_packet = malloc((size_t)n))) {
        memcpy(c->close_packet, packet, (size_t)n);
        c->close_packet_length = (size_t)n;
    }
    ch_quic_conn_end(c, end, error->error_code, c->close_packet ? linger_ns : 0, now_ns);
}

void ch_quic_lib_hang_up(struct conn *c, uint64_t now_ns)
{
    ngtcp2_connection_close_error error;
    ngtcp2_connection_close_error_default(&error);
    ngtcp2_connection_close_error_set_application_error(&error, c->hang_up_code, (uint8_t *)c->closed.reason,
                                                        strlen(c->closed.reason));
    close_with(c, CH_QUIC_END_LOCAL, &error, now_ns);
}

/* The peer has closed (or forgotten) the connection. */
static void peer_closed(struct conn *c, uint64_t now_ns)
{
    ngtcp2_connection_close_error error;
    if (c->reset_seen) {
        ch_quic_conn_end(c, CH_QUIC_END_RESET, 0, 0, now_ns);
        return;
    }
    ngtcp2_conn_get_connection_close_error(c->quic, &error);
    size_t length = error.reasonlen < CH_QUIC_REASON_BYTES - 1 ? error.reasonlen : CH_QUIC_REASON_BYTES - 1;
    for (size_t i = 0; i < length; i++)
        c->closed.reason[i] = error.reason[i] >= 0x20 && error.reason[i] < 0x7f ? (char)error.reason[i] : '?';
    c->closed.reason[length] = 0;
    ch_quic_conn_end(c,
                     error.type == NGTCP2_CONNECTION_CLOSE_ERROR_CODE_TYPE_APPLICATION ? CH_QUIC_END_PEER
                                                                                       : CH_QUIC_END_PEER_TRANSPORT,
                     error.error_code, 3 * ngtcp2_conn_get_pto(c->quic), now_ns);
}

static void failed(struct conn *c, int rv, uint64_t now_ns)
{
    ngtcp2_connection_close_error error;
    ngtcp2_connection_close_error_default(&error);
    snprintf(c->closed.reason, sizeof c->closed.reason, "%s", ngtcp2_strerror(rv));
    switch (rv) {
    case NGTCP2_ERR_DRAINING:
        peer_closed(c, now_ns);
        return;
    case NGTCP2_ERR_IDLE_CLOSE:
    case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
        ch_quic_conn_end(c, CH_QUIC_END_TIMEOUT, 0, 0, now_ns);
        return;
    case NGTCP2_ERR_RECV_VERSION_NEGOTIATION:
        ch_quic_conn_end(c, CH_QUIC_END_VERSION, 0, 0, now_ns);
        return;
    case NGTCP2_ERR_DROP_CONN:
        ch_quic_conn_end(c, CH_QUIC_END_PROTOCOL, 0, 0, now_ns);
        return;
    case NGTCP2_ERR_CRYPTO: {
        uint8_t alert = ngtcp2_conn_get_tls_alert(c->quic);
        ngtcp2_connection_close_error_set_transport_error_tls_alert(
            &error, alert ? alert : (uint8_t)GNUTLS_A_HANDSHAKE_FAILURE, NULL, 0);
        snprintf(c->closed.reason, sizeof c->closed.reason, "%s",
                 alert ? gnutls_alert_get_name((gnutls_alert_description_t)alert) : "TLS handshake failed");
        close_with(c, c->tls_peer.wrong_key ? CH_QUIC_END_WRONG_KEY : CH_QUIC_END_TLS, &error, now_ns);
        return;
    }
    default:
        ngtcp2_connection_close_error_set_transport_error_liberr(&error, rv, NULL, 0);
        close_with(c,
                   rv == NGTCP2_ERR_CALLBACK_FAILURE || rv == NGTCP2_ERR_NOMEM || rv == NGTCP2_ERR_INTERNAL
                       ? CH_QUIC_END_INTERNAL
                       : CH_QUIC_END_PROTOCOL,
                   &error, now_ns);
    }
}

static void guarded(struct conn *c, uint64_t now_ns)
{
    static const char reason[] = "a QUIC frame that is not whole or has no place here";
    ngtcp2_connection_close_error error;
    ngtcp2_connection_close_error_default(&error);
    ngtcp2_connection_close_error_set_transport_error(&error, NGTCP2_PROTOCOL_VIOLATION, (uint8_t *)(uintptr_t)reason,
                                                      sizeof reason - 1);
    snprintf(c->closed.reason, sizeof c->closed.reason, "%s", reason);
    close_with(c, CH_QUIC_END_PROTOCOL, &error, now_ns);
}

void ch_quic_lib_expired(struct conn *c, uint64_t now_ns)
{
    ch_quic_timer_set(c, UINT64_MAX);
    int rv = ngtcp2_conn_handle_expiry(c->quic, now_ns);
    if (rv != 0)
        failed(c, rv, now_ns);
    else
        ch_quic_mark_ready(c);
}

void ch_quic_lib_resume(struct conn *c, uint64_t now_ns)
{
    c->paused = false;
    for (unsigned int i = 0; i < CH_QUIC_STREAMS_MAX && !c->paused && !c->hang_up; i++) {
        struct stream *s = &c->streams[i];
        if (s->in.waits)
            after_frames(s, ch_stream_in_resume(&s->in, &c->engine->receive_budget, take_frame, s));
    }
    ch_quic_mark_ready(c);
}

/* Strangers. */

static void stateless_add(struct ch_quic *e, const struct ch_quic_route *route, const uint8_t *bytes,
                          ngtcp2_ssize length, uint64_t *counter)
{
    if (length <= 0 || length > STATELESS_BYTES || e->stateless_count == STATELESS_MAX) {
        e->counters.tx_drop_stateless++;
        return;
    }
    struct stateless *s = &e->stateless[(e->stateless_first + e->stateless_count++) % STATELESS_MAX];
    s->route = *route;
    s->length = (uint32_t)length;
    memcpy(s->bytes, bytes, (size_t)length);
    ++*counter;
}

static void send_retry(struct ch_quic *e, const struct ch_quic_route *to, const ngtcp2_pkt_hd *hd, uint64_t now_ns)
{
    uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN], packet[STATELESS_BYTES];
    struct sockaddr_storage remote;
    socklen_t remote_length = ch_address_to_sockaddr(&to->remote, &remote);
    ngtcp2_cid scid;
    cid_new(&scid, CID_BYTES);
    ngtcp2_ssize token_length =
        ngtcp2_crypto_generate_retry_token(token, e->retry_secret, sizeof e->retry_secret, hd->version,
                                           (struct sockaddr *)&remote, remote_length, &scid, &hd->dcid, now_ns);
    ngtcp2_ssize n = token_length < 0 ? -1
                                      : ngtcp2_crypto_write_retry(packet, sizeof packet, hd->version, &hd->scid, &scid,
                                                                  &hd->dcid, token, (size_t)token_length);
    stateless_add(e, to, packet, n, &e->counters.tx_retry);
}

static void send_refusal(struct ch_quic *e, const struct ch_quic_route *to, const ngtcp2_pkt_hd *hd, uint64_t code)
{
    uint8_t packet[STATELESS_BYTES];
    ngtcp2_ssize n =
        ngtcp2_crypto_write_connection_close(packet, sizeof packet, hd->version, &hd->scid, &hd->dcid, code, NULL, 0);
    stateless_add(e, to, packet, n, &e->counters.tx_refusals);
}

static void send_versions(struct ch_quic *e, const struct ch_quic_route *to, const ngtcp2_version_cid *vc)
{
    static const uint32_t versions[] = {NGTCP2_PROTO_VER_V1};
    uint8_t packet[STATELESS_BYTES], any;
    if (vc->dcidlen > NGTCP2_MAX_CIDLEN || vc->scidlen > NGTCP2_MAX_CIDLEN)
        return;
    randombytes_buf(&any, 1);
    ngtcp2_ssize n = ngtcp2_pkt_write_version_negotiation(packet, sizeof packet, any, vc->scid, vc->scidlen, vc->dcid,
                                                          vc->dcidlen, versions, 1);
    stateless_add(e, to, packet, n, &e->counters.tx_version_negotiation);
}

/* Shorter than what caused it, so that two ends can't keep each other busy (RFC 9000 10.3). */
static void send_reset(struct ch_quic *e, const struct ch_quic_route *to, const ngtcp2_version_cid *vc, size_t length)
{
    enum { LONGEST = 43, SHORTEST = NGTCP2_MIN_STATELESS_RESET_RANDLEN + NGTCP2_STATELESS_RESET_TOKENLEN };
    uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN], random[LONGEST], packet[STATELESS_BYTES];
    if (length <= SHORTEST)
        return;
    size_t total = length - 1 < LONGEST ? length - 1 : LONGEST;
    ngtcp2_cid cid;
    ngtcp2_cid_init(&cid, vc->dcid, vc->dcidlen);
    randombytes_buf(random, sizeof random);
    if (!reset_token(e, &cid, token))
        return;
    stateless_add(e, to, packet, ngtcp2_pkt_write_stateless_reset(packet, total, token, random, total - sizeof token),
                  &e->counters.tx_stateless_reset);
}

/* Whether a newcomer may be taken in; answers or drops where not. *odcid is its first guess at our id; *validated: it
 * came by Retry. */
static bool admitted(struct ch_quic *e, const struct ch_quic_route *from, const ngtcp2_pkt_hd *hd, uint64_t now_ns,
                     ngtcp2_cid *odcid, bool *validated)
{
    const struct ch_quic_options *o = &e->options;
    *odcid = hd->dcid;
    *validated = false;
    if (hd->token.len > 0 && hd->token.base[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY) {
        struct sockaddr_storage remote;
        socklen_t length = ch_address_to_sockaddr(&from->remote, &remote);
        if (ngtcp2_crypto_verify_retry_token(odcid, hd->token.base, hd->token.len, e->retry_secret,
                                             sizeof e->retry_secret, hd->version, (struct sockaddr *)&remote, length,
                                             &hd->dcid, RETRY_TOKEN_LIFE_NS, now_ns) != 0) {
            e->counters.rx_drop_token++;
            send_refusal(e, from, hd, NGTCP2_INVALID_TOKEN);
            return false;
        }
        *validated = true;
    }
    struct ch_quic_table_key key = ch_quic_address_key(&from->remote);
    const uint32_t *found = ch_quic_table_find(&e->addresses, &key);
    uint32_t count = found ? *found : 0;
    /* From half of its limit on an address must show that it is where it says, lest others use up its limit. */
    if (!*validated && (o->retry_always || e->usage.handshakes >= o->handshakes_max ||
                        count >= (o->connections_per_address + 1) / 2 || e->free_count == 0)) {
        send_retry(e, from, hd, now_ns);
        return false;
    }
    if (count >= o->connections_per_address || e->free_count == 0) {
        e->counters.rx_drop_limits++;
        send_refusal(e, from, hd, NGTCP2_CONNECTION_REFUSED);
        return false;
    }
    return true;
}

static struct conn *accept_new(struct ch_quic *e, const struct ch_quic_route *from, const ngtcp2_pkt_hd *hd,
                               uint64_t now_ns)
{
    ngtcp2_cid odcid, scid;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    bool validated;
    if (!admitted(e, from, hd, now_ns, &odcid, &validated))
        return NULL;
    struct conn *c = ch_quic_slot_take(e);
    struct ch_quic_table_key key = ch_quic_address_key(&from->remote);
    CH_ASSERT(c);
    e->usage.handshakes++;
    path_set(c, from);
    c->counted_address = ch_quic_count_up(&e->addresses, &key);
    cid_new(&scid, CID_BYTES);
    settings_fill(e, &settings, &params, true, now_ns);
    params.original_dcid = odcid;
    if (validated) {
        settings.token = hd->token;
        params.retry_scid = hd->dcid;
        params.retry_scid_present = 1;
    }
    params.stateless_reset_token_present = 1;
    if (!reset_token(e, &scid, params.stateless_reset_token) || !ch_quic_cid_add(c, &scid) ||
        !ch_quic_cid_add(c, &hd->dcid) ||
        ngtcp2_conn_server_new(&c->quic, &hd->scid, &scid, &c->path, hd->version, &e->callbacks, &settings, &params,
                               NULL, c) != 0 ||
        !tls_start(c, true)) {
        ch_quic_slot_free(c);
        e->counters.rx_drop_limits++;
        return NULL;
    }
    e->counters.accepted++;
    return c;
}

/* A datagram that no connection of ours is named in. NULL: dealt with. */
static struct conn *stranger(struct ch_quic *e, const struct ch_quic_route *from, const ngtcp2_version_cid *vc,
                             const uint8_t *bytes, size_t length, uint64_t now_ns, ngtcp2_pkt_hd *hd)
{
    if (!(bytes[0] & 0x80)) {
        e->counters.rx_drop_unknown++;
        send_reset(e, from, vc, length);
        return NULL;
    }
    if (!e->options.listen || length < CH_QUIC_DATAGRAM_BYTES_MIN || vc->version == 0) {
        e->counters.rx_drop_unknown++;
        return NULL;
    }
    if (vc->version != NGTCP2_PROTO_VER_V1) {
        e->counters.rx_drop_unknown++;
        send_versions(e, from, vc);
        return NULL;
    }
    if (ngtcp2_accept(hd, bytes, length) != 0) {
        e->counters.rx_drop_unknown++;
        return NULL;
    }
    return accept_new(e, from, hd, now_ns);
}

void ch_quic_receive(struct ch_quic *e, const struct ch_quic_route *from, const uint8_t *bytes, size_t length,
                     uint64_t now_ns)
{
    const struct ch_quic_callbacks *callbacks = &e->options.callbacks;
    ngtcp2_version_cid vc;
    ngtcp2_pkt_hd hd;
    bool newcomer = false;

    e->counters.rx_datagrams++;
    e->counters.rx_bytes += length;
    if (callbacks->allow && !callbacks->allow(e->options.context, &from->remote)) {
        e->counters.rx_drop_not_allowed++;
        return;
    }
    int rv = length == 0 ? NGTCP2_ERR_INVALID_ARGUMENT : ngtcp2_pkt_decode_version_cid(&vc, bytes, length, CID_BYTES);
    if (rv != 0 && rv != NGTCP2_ERR_VERSION_NEGOTIATION) {
        e->counters.rx_drop_garbage++;
        return;
    }
    struct conn *c = vc.dcidlen <= NGTCP2_MAX_CIDLEN ? ch_quic_slot_of_cid(e, vc.dcid, vc.dcidlen) : NULL;
    if (!c && !(bytes[0] & 0x80) && length >= NGTCP2_MIN_STATELESS_RESET_RANDLEN + NGTCP2_STATELESS_RESET_TOKENLEN)
        c = ch_quic_slot_of_token(e, bytes + length - NGTCP2_STATELESS_RESET_TOKENLEN);
    if (!c) {
        if (!(c = stranger(e, from, &vc, bytes, length, now_ns, &hd)))
            return;
        newcomer = true;
    }
    if (!ch_address_equal(&c->peer.route.remote, &from->remote)) {
        e->counters.rx_drop_other_path++;
        return;
    }
    if (c->state == CONN_LINGERING) {
        uint32_t n = ++c->lingered_rx;
        if (c->close_packet && (n & (n - 1)) == 0)
            ch_quic_mark_ready(c);
        return;
    }
    c->stats.rx_bytes += length;
    reading = c;
    rv = ngtcp2_conn_read_pkt(c->quic, &c->path, NULL, bytes, length, now_ns);
    reading = NULL;
    if (rv == NGTCP2_ERR_RETRY && newcomer) {
        /* The library wants the address proven before it goes on. */
        send_retry(e, from, &hd, now_ns);
        ch_quic_slot_free(c);
        return;
    }
    if (rv == 0 && c->guarded) {
        guarded(c, now_ns);
        return;
    }
    if (rv != 0) {
        failed(c, rv, now_ns);
        return;
    }
    if (ngtcp2_conn_get_handshake_completed(c->quic) && !c->peer.connected)
        connected(c);
    if (c->peer.dialled && c->peer.connected && !c->streams[0].open && !c->hang_up) {
        int64_t id;
        if (ngtcp2_conn_open_bidi_stream(c->quic, &id, NULL) != 0 || id != 0)
            ch_quic_want_hang_up(c, CH_QUIC_CODE_BAD_STREAM, "the peer grants no stream");
        else
            c->streams[0].open = true;
    }
    if (c->hang_up)
        ch_quic_lib_hang_up(c, now_ns);
    else
        ch_quic_mark_ready(c);
}

/* Sending. */

/* One datagram with as much of the streams' queues as fits. As ngtcp2_conn_writev_stream: 0 nothing now, < 0 an error.
 */
static ngtcp2_ssize write_streams(struct conn *c, uint8_t *to, size_t room, uint64_t now_ns)
{
    unsigned int i = c->peer.connected ? 0 : CH_QUIC_STREAMS_MAX;
    while (i < CH_QUIC_STREAMS_MAX) {
        struct stream *s = &c->streams[i];
        struct ch_bytes pieces[PIECES_MAX];
        ngtcp2_vec vectors[PIECES_MAX];
        size_t count = s->open ? ch_stream_out_peek(&s->out, pieces, PIECES_MAX) : 0;
        if (count == 0) {
            i++;
            continue;
        }
        for (size_t k = 0; k < count; k++)
            vectors[k] = (ngtcp2_vec){(uint8_t *)(uintptr_t)pieces[k].data, pieces[k].length};
        ngtcp2_ssize taken = -1;
        ngtcp2_ssize n = ngtcp2_conn_writev_stream(c->quic, NULL, NULL, to, room, &taken, NGTCP2_WRITE_STREAM_FLAG_MORE,
                                                   4 * (int64_t)i, vectors, count, now_ns);
        if (taken > 0)
            ch_stream_out_sent(&s->out, (uint64_t)taken);
        switch (n) {
        case NGTCP2_ERR_WRITE_MORE:
            continue;
        case NGTCP2_ERR_STREAM_DATA_BLOCKED:
            i++;
            continue;
        case NGTCP2_ERR_STREAM_NOT_FOUND:
        case NGTCP2_ERR_STREAM_SHUT_WR:
            /* The peer asked to stop sending. */
            ch_quic_want_hang_up(c, CH_QUIC_CODE_BAD_STREAM, NULL);
            i++;
            continue;
        default:
            return n;
        }
    }
    return ngtcp2_conn_writev_stream(c->quic, NULL, NULL, to, room, NULL, NGTCP2_WRITE_STREAM_FLAG_NONE, -1, NULL, 0,
                                     now_ns);
}

static void update_key(struct conn *c, uint64_t now_ns)
{
    uint64_t limit = c->engine->options.key_update_bytes;
    if (c->sent_with_key < limit)
        return;
    if (ngtcp2_conn_initiate_key_update(c->quic, now_ns) == 0) {
        c->sent_with_key = 0;
        c->engine->counters.key_updates++;
    } else {
        c->sent_with_key -= limit / 8; /* the last one isn't confirmed yet */
    }
}

size_t ch_quic_lib_write(struct conn *c, uint8_t *to, size_t room, uint64_t now_ns)
{
    ngtcp2_ssize n = write_streams(c, to, room, now_ns);
    if (n < 0) {
        failed(c, (int)n, now_ns);
        return 0;
    }
    c->burst_bytes += (uint64_t)n;
    c->sent_with_key += (uint64_t)n;
    c->stats.tx_bytes += (uint64_t)n;
    if (n == 0 || c->burst_bytes >= ngtcp2_conn_get_send_quantum(c->quic)) {
        /* The end of a burst: pace the next, and let others go first. */
        ngtcp2_conn_update_pkt_tx_time(c->quic, now_ns);
        c->burst_bytes = 0;
        ch_quic_unmark_ready(c);
        if (n > 0)
            ch_quic_mark_ready(c);
    }
    if (n == 0) {
        uint64_t expiry_ns = ngtcp2_conn_get_expiry(c->quic);
        /* Not before the clock can have moved on. */
        ch_quic_timer_set(c, expiry_ns <= now_ns ? now_ns + NGTCP2_MICROSECONDS : expiry_ns);
        update_key(c, now_ns);
    }
    return (size_t)n;
}

ch_err ch_quic_conn_stats(const struct ch_quic *e, uint64_t number, struct ch_quic_conn_stats *out)
{
    const struct conn *c = ch_quic_find_live(e, number);
    if (!c)
        return CH_ERR_CLOSED;
    ngtcp2_conn_stat stat;
    ngtcp2_conn_get_conn_stat(c->quic, &stat);
    *out = c->stats;
    out->send_bytes_waiting = c->send_waiting;
    out->rtt_ns = stat.smoothed_rtt;
    out->window_bytes = stat.cwnd;
    return CH_OK;
}
