/* The ledger's rows as plain arrays, searched from end to end: slow, and easy to believe. */
#ifndef CHAPPE_TESTS_LEDGER_MEMORY_ROWS_H
#define CHAPPE_TESTS_LEDGER_MEMORY_ROWS_H

#include "ledger/ledger.h"

#define MEMORY_ACCOUNTS_MAX  4096
#define MEMORY_RELATIONS_MAX 8192
#define MEMORY_LOG_MAX       65536

struct memory_rows {
    uint64_t account_count, relation_count, log_size;
    struct ch_account accounts[MEMORY_ACCOUNTS_MAX];
    struct ch_relation relations[MEMORY_RELATIONS_MAX];
    struct ch_log_entry log[MEMORY_LOG_MAX];
    uint8_t ids[MEMORY_LOG_MAX][CH_HASH_BYTES];
    uint64_t recipients[MEMORY_LOG_MAX]; /* serial, or UINT64_MAX */
    uint64_t last_account;
};

struct ch_ledger_rows memory_rows(struct memory_rows *rows);

#endif
