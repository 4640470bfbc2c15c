/* base/bytes.h - little-endian loads and stores, and cursors that can't run past their bytes.
 *
 * Thread: no state. Errors: a cursor that was asked for more than it has turns `bad` and stays so; every later read
 * gives zeros, every later write does nothing. Check `bad` (or ch_reader_done) once, at the end.
 */
#ifndef CHAPPE_BASE_BYTES_H
#define CHAPPE_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t ch_load16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t ch_load32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t ch_load64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static inline void ch_store16(void *p, uint16_t v)
{
    memcpy(p, &v, 2);
}
static inline void ch_store32(void *p, uint32_t v)
{
    memcpy(p, &v, 4);
}
static inline void ch_store64(void *p, uint64_t v)
{
    memcpy(p, &v, 8);
}

/* Bytes somebody else owns. */
struct ch_bytes {
    const uint8_t *data;
    size_t length;
};

struct ch_reader {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static inline struct ch_reader ch_reader(const void *data, size_t length)
{
    return (struct ch_reader){.at = data, .left = length, .bad = false};
}
/* The next `length` bytes in place, or NULL (and bad) where there are fewer. */
static inline const uint8_t *ch_read(struct ch_reader *r, size_t length)
{
    if (r->bad || r->left < length) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += length;
    r->left -= length;
    return p;
}
static inline uint8_t ch_read8(struct ch_reader *r)
{
    const uint8_t *p = ch_read(r, 1);
    return p ? *p : 0;
}
static inline uint16_t ch_read16(struct ch_reader *r)
{
    const uint8_t *p = ch_read(r, 2);
    return p ? ch_load16(p) : 0;
}
static inline uint32_t ch_read32(struct ch_reader *r)
{
    const uint8_t *p = ch_read(r, 4);
    return p ? ch_load32(p) : 0;
}
static inline uint64_t ch_read64(struct ch_reader *r)
{
    const uint8_t *p = ch_read(r, 8);
    return p ? ch_load64(p) : 0;
}
/* Copies out; zeros where there were too few. */
static inline void ch_read_to(struct ch_reader *r, void *to, size_t length)
{
    const uint8_t *p = ch_read(r, length);
    if (p)
        memcpy(to, p, length);
    else
        memset(to, 0, length);
}
/* True when nothing was missing and nothing is left over. */
static inline bool ch_reader_done(const struct ch_reader *r)
{
    return !r->bad && r->left == 0;
}

struct ch_writer {
    uint8_t *start;
    size_t used;
    size_t capacity;
    bool bad;
};

static inline struct ch_writer ch_writer(void *data, size_t capacity)
{
    return (struct ch_writer){.start = data, .used = 0, .capacity = capacity, .bad = false};
}
/* Room for `length` bytes, or NULL (and bad). */
static inline uint8_t *ch_write_room(struct ch_writer *w, size_t length)
{
    if (w->bad || w->capacity - w->used < length) {
        w->bad = true;
        return NULL;
    }
    uint8_t *p = w->start + w->used;
    w->used += length;
    return p;
}
static inline void ch_write(struct ch_writer *w, const void *data, size_t length)
{
    if (w->bad || w->capacity - w->used < length) {
        w->bad = true;
        return;
    }
    if (length)
        memcpy(w->start + w->used, data, length);
    w->used += length;
}
static inline void ch_write8(struct ch_writer *w, uint8_t v)
{
    ch_write(w, &v, 1);
}
static inline void ch_write16(struct ch_writer *w, uint16_t v)
{
    ch_write(w, &v, 2);
}
static inline void ch_write32(struct ch_writer *w, uint32_t v)
{
    ch_write(w, &v, 4);
}
static inline void ch_write64(struct ch_writer *w, uint64_t v)
{
    ch_write(w, &v, 8);
}

#endif
