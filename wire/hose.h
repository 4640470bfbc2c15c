/* wire/hose.h - the fire hose: a UDP datagram of whole transactions, which nobody answers.
 *
 *   offset size field
 *   0      2    magic "Ch"
 *   2      1    version 1
 *   3      1    flags 0
 *   4      2    count, 1..
 *   6      2    length of the whole datagram
 *   8      ..   the transactions, one behind the other
 *
 * Thread: no state. Errors: a malformed datagram is refused as a whole, and so is one with bytes behind its
 * transactions; a malformed transaction inside it ends the walk.
 */
#ifndef CHAPPE_WIRE_HOSE_H
#define CHAPPE_WIRE_HOSE_H

#include "wire/tx.h"

#define CH_HOSE_HEADER_BYTES 8
#define CH_HOSE_MAGIC        0x6843 /* "Ch", little-endian */
#define CH_HOSE_VERSION      1

/* True when header and length fit; *count is what the header promises. */
static inline bool ch_hose_check(const uint8_t *datagram, size_t length, uint16_t *count)
{
    if (length < CH_HOSE_HEADER_BYTES + CH_TX_BYTES_MIN || ch_load16(datagram) != CH_HOSE_MAGIC ||
        datagram[2] != CH_HOSE_VERSION || datagram[3] != 0 || ch_load16(datagram + 6) != length ||
        ch_load16(datagram + 4) == 0)
        return false;
    *count = ch_load16(datagram + 4);
    return true;
}

/* A walk over the transactions of a datagram that ch_hose_check passed. */
struct ch_hose_walk {
    const uint8_t *datagram;
    size_t length, at;
    uint16_t left; /* promised and not met yet */
};

static inline struct ch_hose_walk ch_hose_walk(const uint8_t *datagram, size_t length, uint16_t count)
{
    return (struct ch_hose_walk){datagram, length, CH_HOSE_HEADER_BYTES, count};
}

/* The next transaction; false at the end, or at a malformed one: `left` says how many are lost with it. */
static inline bool ch_hose_next(struct ch_hose_walk *walk, struct ch_tx *tx)
{
    if (!walk->left || ch_tx_parse(walk->datagram + walk->at, walk->length - walk->at, tx) != CH_STATUS_OK)
        return false;
    walk->at += tx->length;
    walk->left--;
    return true;
}

/* Bytes behind the promised transactions: the header does not fit what follows it. */
static inline bool ch_hose_surplus(const struct ch_hose_walk *walk)
{
    return walk->left == 0 && walk->at != walk->length;
}

static inline void ch_hose_header_write(uint8_t *datagram, uint16_t count, uint16_t length)
{
    ch_store16(datagram, CH_HOSE_MAGIC);
    datagram[2] = CH_HOSE_VERSION;
    datagram[3] = 0;
    ch_store16(datagram + 4, count);
    ch_store16(datagram + 6, length);
}

#endif
