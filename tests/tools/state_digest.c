/* tests/tools/state_digest - one hash over the whole state of a validator that does not run: accounts, handles,
 * relations, inboxes and log entries, but not where its own log has them. Equal at all validators that applied the
 * same.
 */
#include "store/state.h"

#include <stdio.h>
#include <stdlib.h>

#define INBOX_READ 256

static uint8_t chain[2 * CH_HASH_BYTES]; /* the digest so far, then the hash of what comes */
static struct ch_state_reader *reader;

static _Noreturn void die(const char *what, ch_err err)
{
    fprintf(stderr, "state_digest: %s: %s\n", what, ch_err_text(err));
    exit(1);
}

static void add(const void *bytes, size_t length)
{
    ch_hash(bytes, length, chain + CH_HASH_BYTES);
    ch_hash(chain, sizeof chain, chain);
}

static bool there(const char *what, ch_err err)
{
    if (err != CH_OK && err != CH_ERR_NOT_FOUND)
        die(what, err);
    return err == CH_OK;
}

static void add_account(uint64_t serial)
{
    uint8_t row[CH_ACCOUNT_ROW_BYTES];
    struct ch_account account, again;
    uint64_t by_key, by_handle, indices[INBOX_READ], last = 0, from = 1;
    if (!there("an account", ch_state_read_account(reader, serial, &account)))
        return;
    if (!there("its key", ch_state_read_account_by_key(reader, account.key, &by_key, &again)) || by_key != serial ||
        !there("its handle",
               ch_state_read_account_by_handle(reader, account.handle, account.handle_length, &by_handle, &again)) ||
        by_handle != serial)
        die("an account is not found by its key and handle", CH_ERR_CORRUPT);
    ch_account_write(&account, row);
    add(row, sizeof row);
    for (size_t count = 1; count; from += count) {
        if (!there("an inbox", ch_state_read_inbox(reader, serial, from, INBOX_READ, indices, &count, &last)))
            break;
        add(indices, count * sizeof *indices);
    }
    if (from != account.inbox_sequence + 1)
        die("an inbox has other messages than its account says", CH_ERR_CORRUPT);
}

static void add_relation(uint64_t serial)
{
    uint8_t row[CH_RELATION_ROW_BYTES];
    struct ch_relation relation;
    if (!there("a relation", ch_state_read_relation(reader, serial, &relation)))
        return;
    ch_relation_write(&relation, row);
    add(row, sizeof row);
}

static void add_log_entry(uint64_t log_index)
{
    uint8_t row[CH_LOG_ENTRY_BYTES];
    struct ch_log_entry entry;
    ch_err err = ch_state_read_log_entry(reader, log_index, &entry);
    if (err != CH_OK)
        die("a log entry", err);
    entry.position = 0;
    ch_log_entry_write(&entry, row);
    add(row, sizeof row);
}

int main(int argc, char **argv)
{
    struct ch_state *state;
    struct ch_state_meta meta;
    const struct ch_state_options options = {
        .folder = argc == 2 ? argv[1] : "", .accounts_cached = 1, .relations_cached = 1};
    if (argc != 2) {
        fprintf(stderr, "usage: state_digest FOLDER/lmdb\n");
        return 2;
    }
    ch_err err = ch_state_open(&options, &state);
    if (err == CH_OK)
        err = ch_state_reader_open(state, &reader);
    if (err == CH_OK)
        err = ch_state_read_meta(reader, &meta);
    if (err != CH_OK)
        die(argv[1], err);
    const uint64_t counts[] = {meta.accounts, meta.relations, meta.log_size};
    add(counts, sizeof counts);
    for (uint64_t i = 0; i <= meta.accounts; i++)
        add_account(i);
    for (uint64_t i = 0; i <= meta.relations; i++)
        add_relation(i);
    for (uint64_t i = 0; i < meta.log_size; i++)
        add_log_entry(i);
    for (unsigned i = 0; i < CH_HASH_BYTES; i++)
        printf("%02x", chain[i]);
    printf(" %llu accounts %llu relations %llu transactions\n", (unsigned long long)counts[0],
           (unsigned long long)counts[1], (unsigned long long)counts[2]);
    ch_state_reader_close(reader);
    ch_state_close(state);
    return 0;
}
