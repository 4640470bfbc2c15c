#include "node/ipfs_request.h"

#include <stdlib.h>
#include <strings.h>

#define RAW_TYPE "application/vnd.ipld.raw"
#define CAR_TYPE "application/vnd.ipld.car"

/* A piece of a header, without the blanks around it. */
struct piece {
    const char *at;
    size_t length;
};

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct piece trimmed(const char *at, size_t length)
{
    while (length && blank(*at)) {
        at++;
        length--;
    }
    while (length && blank(at[length - 1]))
        length--;
    return (struct piece){at, length};
}

static bool is(struct piece p, const char *text)
{
    return strlen(text) == p.length && strncasecmp(p.at, text, p.length) == 0;
}

/* Cuts off what stands before the next `separator`, out of *text; quoted strings may hold separators. */
static bool next_piece(const char **text, const char *end, char separator, struct piece *out)
{
    const char *at = *text;
    bool quoted = false;
    if (at >= end)
        return false;
    for (; at < end && (quoted || *at != separator); at++) {
        if (*at == '"')
            quoted = !quoted;
        else if (quoted && *at == '\\' && at + 1 < end)
            at++;
    }
    *out = trimmed(*text, (size_t)(at - *text));
    *text = at < end ? at + 1 : end;
    return true;
}

/* "q=0.5" in thousandths; 1000 for what is no number. */
static unsigned quality(struct piece value)
{
    unsigned thousandths = 0, digit = 100;
    if (value.length == 0 || value.at[0] != '0')
        return 1000;
    for (size_t i = 2; i < value.length && i < 5; i++, digit /= 10)
        if (value.at[i] >= '0' && value.at[i] <= '9')
            thousandths += (unsigned)(value.at[i] - '0') * digit;
    return thousandths;
}

/* The parameters of a CAR, wherever they stand; false for one that we can't give. */
static bool car_version_fits(struct piece value)
{
    return is(value, "1");
}
static bool car_order_fits(struct piece value)
{
    return is(value, "dfs") || is(value, "unk");
}
static bool car_dups_fit(struct piece value, bool *dups)
{
    *dups = is(value, "y");
    return *dups || is(value, "n");
}

/* One media range of Accept. False: not ours, or refused by q=0. */
static bool read_media_range(struct piece range, struct ch_ipfs_request *request, unsigned *q)
{
    const char *text = range.at, *end = range.at + range.length;
    struct piece part;
    bool good = true;
    if (!next_piece(&text, end, ';', &part))
        return false;
    if (is(part, RAW_TYPE))
        request->format = CH_IPFS_RAW;
    else if (is(part, CAR_TYPE))
        request->format = CH_IPFS_CAR;
    else
        return false;
    *q = 1000;
    request->dups = false;
    while (next_piece(&text, end, ';', &part)) {
        const char *equals = memchr(part.at, '=', part.length);
        if (!equals)
            continue;
        struct piece name = trimmed(part.at, (size_t)(equals - part.at));
        struct piece value = trimmed(equals + 1, (size_t)(part.at + part.length - equals - 1));
        if (value.length >= 2 && value.at[0] == '"' && value.at[value.length - 1] == '"')
            value = (struct piece){value.at + 1, value.length - 2};
        if (is(name, "q"))
            *q = quality(value);
        else if (request->format == CH_IPFS_CAR && is(name, "version"))
            good = good && car_version_fits(value);
        else if (request->format == CH_IPFS_CAR && is(name, "order"))
            good = good && car_order_fits(value);
        else if (request->format == CH_IPFS_CAR && is(name, "dups"))
            good = good && car_dups_fit(value, &request->dups);
    }
    return good && *q > 0;
}

/* The best of Accept's media ranges that we can give; with `wanted` of that format only. */
static bool read_accept(const char *accept, const enum ch_ipfs_format *wanted, struct ch_ipfs_request *request)
{
    const char *end = accept + strlen(accept);
    struct piece range;
    unsigned best = 0;
    while (next_piece(&accept, end, ',', &range)) {
        struct ch_ipfs_request one = *request;
        unsigned q;
        if (!read_media_range(range, &one, &q) || q <= best || (wanted && one.format != *wanted))
            continue;
        best = q;
        *request = one;
    }
    return best > 0;
}

static struct piece piece_of(const char *text)
{
    return (struct piece){text, strlen(text)};
}

/* The parameters in the query, which come before those of Accept. */
static bool read_query(const struct ch_ipfs_question *q, struct ch_ipfs_request *request)
{
    if (request->format != CH_IPFS_CAR)
        return true;
    return (!q->car_version || car_version_fits(piece_of(q->car_version))) &&
           (!q->car_order || car_order_fits(piece_of(q->car_order))) &&
           (!q->car_dups || car_dups_fit(piece_of(q->car_dups), &request->dups));
}

static unsigned read_format(const struct ch_ipfs_question *q, struct ch_ipfs_request *request, const char **why)
{
    if (q->format) {
        if (strcmp(q->format, "raw") == 0)
            request->format = CH_IPFS_RAW;
        else if (strcmp(q->format, "car") == 0)
            request->format = CH_IPFS_CAR;
        else {
            *why = "format is neither raw nor car";
            return 406;
        }
        const enum ch_ipfs_format wanted = request->format;
        if (q->accept)
            (void)read_accept(q->accept, &wanted, request);
    } else if (!q->accept) {
        *why = "ask for ?format=raw or ?format=car, or by Accept";
        return 400;
    } else if (!read_accept(q->accept, NULL, request)) {
        *why = "there are " RAW_TYPE " and " CAR_TYPE "; version=1; order=dfs alone: ?format=raw or ?format=car";
        return 406;
    }
    if (!read_query(q, request)) {
        *why = "CARs are of version 1, in order dfs, dups y or n";
        return 406;
    }
    if (q->dag_scope && strcmp(q->dag_scope, "block") == 0) {
        request->root_alone = true;
    } else if (q->dag_scope && strcmp(q->dag_scope, "entity") != 0 && strcmp(q->dag_scope, "all") != 0) {
        *why = "dag-scope is block, entity or all";
        return 400;
    }
    return 200;
}

unsigned ch_ipfs_request_read(const struct ch_ipfs_question *q, struct ch_ipfs_request *request, const char **why)
{
    static const char prefix[] = "/ipfs/", probe[] = "bafkqaaa";
    char text[CH_CID_TEXT_BYTES] = "";
    struct ch_ipfs_request read = {0};
    if (!q->path || strncmp(q->path, prefix, sizeof prefix - 1) != 0) {
        *why = "there is /ipfs/{cid} alone";
        return 404;
    }
    const char *name = q->path + sizeof prefix - 1;
    size_t length = strcspn(name, "/");
    if (length < sizeof text)
        memcpy(text, name, length);
    read.probe = strcmp(text, probe) == 0;
    if (!read.probe && !ch_cid_from_text(text, &read.cid)) {
        *why = "not a CID that objects here have: version 1 in base32, raw or dag-pb, sha2-256";
        return 400;
    }
    if (name[length] == '/' && name[length + 1]) {
        *why = "an object is a file: there is no path below it";
        return 404;
    }
    unsigned code = read_format(q, &read, why);
    if (code == 200 && read.probe && read.format == CH_IPFS_CAR) {
        *why = "the empty block is there as ?format=raw alone";
        return 406;
    }
    if (code == 200)
        *request = read;
    return code;
}

/* Decimal digits up to `end`; false for none, or for too many. */
static bool number(const char **at, uint64_t *value)
{
    const char *start = *at;
    for (*value = 0; **at >= '0' && **at <= '9'; (*at)++) {
        if (*at - start >= 18)
            return false;
        *value = *value * 10 + (uint64_t)(**at - '0');
    }
    return *at > start;
}

enum ch_ipfs_range ch_ipfs_range_read(const char *range, uint64_t length, uint64_t *from, uint64_t *count)
{
    uint64_t first, last;
    if (!range || strncasecmp(range, "bytes=", 6) != 0)
        return CH_IPFS_WHOLE;
    range += 6;
    while (blank(*range))
        range++;
    if (*range == '-') { /* the last so many */
        range++;
        if (!number(&range, &last) || *range)
            return CH_IPFS_WHOLE;
        if (last == 0 || length == 0)
            return CH_IPFS_UNSATISFIABLE;
        *count = last < length ? last : length;
        *from = length - *count;
        return CH_IPFS_PART;
    }
    if (!number(&range, &first) || *range++ != '-')
        return CH_IPFS_WHOLE;
    last = UINT64_MAX;
    if (*range && (!number(&range, &last) || *range || last < first))
        return CH_IPFS_WHOLE;
    if (first >= length)
        return CH_IPFS_UNSATISFIABLE;
    *from = first;
    *count = (last < length ? last + 1 : length) - first;
    return CH_IPFS_PART;
}
