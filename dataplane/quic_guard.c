#include "dataplane/quic_guard_impl.h"

#include "dataplane/quic.h"

struct walk {
    const uint8_t *at, *end;
    bool bad;
};

static uint64_t varint(struct walk *w)
{
    if (w->at == w->end) {
        w->bad = true;
        return 0;
    }
    size_t length = (size_t)1 << (*w->at >> 6);
    if ((size_t)(w->end - w->at) < length) {
        w->bad = true;
        w->at = w->end;
        return 0;
    }
    uint64_t v = *w->at++ & 0x3f;
    while (--length > 0)
        v = v << 8 | *w->at++;
    return v;
}

static void skip(struct walk *w, uint64_t length)
{
    if ((uint64_t)(w->end - w->at) < length) {
        w->bad = true;
        w->at = w->end;
        return;
    }
    w->at += length;
}

static void skip_varints(struct walk *w, unsigned int count)
{
    while (count-- > 0)
        (void)varint(w);
}

/* Every range must lie above zero (RFC 9000 19.3.1). */
static void acknowledgement(struct walk *w, bool ecn)
{
    uint64_t smallest = varint(w);
    (void)varint(w); /* delay */
    uint64_t count = varint(w), first = varint(w);
    if (first > smallest)
        w->bad = true;
    smallest -= first;
    for (; count > 0 && !w->bad; count--) {
        uint64_t gap = varint(w), length = varint(w);
        if (gap + 2 + length > smallest)
            w->bad = true;
        smallest -= gap + 2 + length;
    }
    if (ecn)
        skip_varints(w, 3);
}

/* 0, 4, 8 or 12: what the dialling side may open. */
static void stream_id(struct walk *w)
{
    uint64_t id = varint(w);
    if (id % 4 != 0 || id / 4 >= CH_QUIC_STREAMS_MAX)
        w->bad = true;
}

static void stream(struct walk *w, uint64_t type)
{
    stream_id(w);
    if (type & 4)
        (void)varint(w);
    skip(w, type & 2 ? varint(w) : (uint64_t)(w->end - w->at));
}

static void new_connection_id(struct walk *w)
{
    (void)varint(w);
    if (varint(w) != 0 || w->at == w->end) { /* retire prior to */
        w->bad = true;
        return;
    }
    uint8_t length = *w->at++;
    if (length < 1 || length > 20)
        w->bad = true;
    skip(w, (uint64_t)length + 16);
}

static void one_rtt_frame(struct walk *w, uint64_t type, bool from_dialler)
{
    switch (type) {
    case 0x04: /* RESET_STREAM */
        stream_id(w);
        skip_varints(w, 2);
        return;
    case 0x05: /* STOP_SENDING */
    case 0x11: /* MAX_STREAM_DATA */
    case 0x15: /* STREAM_DATA_BLOCKED */
        stream_id(w);
        (void)varint(w);
        return;
    case 0x07: /* NEW_TOKEN */
        if (from_dialler)
            w->bad = true;
        skip(w, varint(w));
        return;
    case 0x10: /* MAX_DATA */
    case 0x12: /* MAX_STREAMS, either kind */
    case 0x13:
    case 0x14: /* DATA_BLOCKED */
    case 0x16: /* STREAMS_BLOCKED, either kind */
    case 0x17:
    case 0x19: /* RETIRE_CONNECTION_ID */
        (void)varint(w);
        return;
    case 0x18:
        new_connection_id(w);
        return;
    case 0x1a: /* PATH_CHALLENGE */
    case 0x1b: /* PATH_RESPONSE */
        skip(w, 8);
        return;
    case 0x1d: /* CONNECTION_CLOSE of the application */
        (void)varint(w);
        skip(w, varint(w));
        return;
    case 0x1e: /* HANDSHAKE_DONE */
        if (from_dialler)
            w->bad = true;
        return;
    default:
        if (type >= 0x08 && type <= 0x0f)
            stream(w, type);
        else
            w->bad = true;
    }
}

bool ch_quic_guard(const uint8_t *payload, size_t length, bool one_rtt, bool from_dialler)
{
    struct walk w = {payload, payload + length, length == 0};
    while (w.at < w.end && !w.bad) {
        uint64_t type = varint(&w);
        switch (type) {
        case 0x00: /* PADDING */
        case 0x01: /* PING */
            break;
        case 0x02:
        case 0x03:
            acknowledgement(&w, type == 0x03);
            break;
        case 0x06: /* CRYPTO */
            (void)varint(&w);
            skip(&w, varint(&w));
            break;
        case 0x1c: /* CONNECTION_CLOSE of QUIC */
            skip_varints(&w, 2);
            skip(&w, varint(&w));
            break;
        default:
            if (one_rtt)
                one_rtt_frame(&w, type, from_dialler);
            else
                w.bad = true;
        }
    }
    return !w.bad;
}
