/* A ledger to play on, over rows in memory or in a state on disk: one transaction or commit at a time. People are small
 * numbers with real Ed25519 keys; 0..9 are in no order of their keys. */
#ifndef CHAPPE_TESTS_LEDGER_CHAIN_H
#define CHAPPE_TESTS_LEDGER_CHAIN_H

#include "tests/ledger/memory_rows.h"
#include "tests/test.h"

#include "store/state.h"

#define PEOPLE_MAX 64
#define REGISTRAR  0 /* of registrars: 0, 1 are in the genesis, 2 is not */
#define START_MS   1700000000000ull
#define ITEMS_MAX  4096

enum backend { IN_MEMORY, ON_DISK };
extern enum backend chain_backend;

struct chain {
    struct ch_genesis genesis;
    enum backend backend;
    struct ch_ledger *ledger;
    struct memory_rows *memory;
    struct ch_state *state;
    struct ch_state_reader *reader;
    char folder[64];
    uint64_t now_ms; /* time of the next commit */
    uint32_t salt;
    bool signature_ok, approval_ok; /* verdicts of the transactions to come */
    bool crash;                     /* the next commit is applied, lost in a crash, and applied again */
    /* Every applied transaction, for a restart: id and timestamp by log index. */
    uint64_t *timestamps;
    uint8_t (*ids)[CH_HASH_BYTES];
};

/* One person's keys. */
const uint8_t *person(unsigned number);
const uint8_t *registrar(unsigned number);
const uint8_t *seal_key(unsigned number);

/* A chain of the defaults with two registrars; `change` may alter the genesis first. */
void chain_open(struct chain *c, void (*change)(struct ch_genesis *));
void chain_close(struct chain *c);
/* Closes ledger and state as a crash would, after the last commit, and opens them again. */
void chain_restart(struct chain *c);

/* A transaction of this kind with what the test needs filled in; more is set by the caller. */
struct ch_tx chain_tx(struct chain *c, uint16_t kind, unsigned sender, unsigned peer);
/* Applies it alone in a commit of time now_ms. */
struct ch_receipt chain_apply(struct chain *c, const struct ch_tx *tx);
/* Both in one; REGISTER registers `sender` with the handle "person.N". */
enum ch_status chain_do(struct chain *c, uint16_t kind, unsigned sender, unsigned peer);
void chain_register(struct chain *c, unsigned people); /* 0 .. people - 1 */
void chain_bind(struct chain *c, unsigned one, unsigned other);
/* Applies many in one commit. */
void chain_apply_many(struct chain *c, const struct ch_tx *txs, size_t count, struct ch_receipt *receipts);

void chain_account(struct chain *c, unsigned number, struct ch_account *row);
/* False when there is none. */
bool chain_relation(struct chain *c, unsigned one, unsigned other, struct ch_relation *row);
/* Over head, every row, every log entry, every inbox. */
void chain_digest(struct chain *c, uint8_t digest[CH_HASH_BYTES]);

void remove_folder(const char *folder);
void from_hex(const char *hex, uint8_t *out, size_t length);

#endif
