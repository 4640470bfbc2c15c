/* Messages: send, inbox, watch, fetch. */
#include "client/cli_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_BYTES_MAX (16u << 20) /* from standard input; longer things are files */
#define PAGE           200
#define NEWEST         20

/* ---- send ---- */

static int open_attachment(struct cli *cli, const char *path, struct ch_outgoing *out)
{
    struct stat st;
    const char *slash = strrchr(path, '/');
    out->file = open(path, O_RDONLY | O_CLOEXEC);
    if (out->file < 0 || fstat(out->file, &st) != 0)
        return cli_fail(cli, CH_CLI_LOCAL, errno == ENOENT ? "NOT_FOUND" : "IO", "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return cli_fail(cli, CH_CLI_LOCAL, "INVALID", "%s is not a plain file", path);
    out->file_name = slash ? slash + 1 : path;
    out->file_bytes = (uint64_t)st.st_size;
    out->progress = cli_progress;
    out->progress_context = cli;
    return CH_CLI_OK;
}

static int send_it(struct cli *cli, const char *person, const struct ch_outgoing *out)
{
    struct ch_account recipient;
    struct ch_receipt receipt;
    int code = cli_begin(cli);
    if (code == CH_CLI_OK)
        code = cli_find(cli, person, &recipient);
    if (code != CH_CLI_OK)
        return code;
    ch_err err = ch_chat_send(cli->client, &cli->account, &recipient, out, &receipt);
    if (err == CH_ERR_FULL)
        return cli_fail(cli, CH_CLI_USAGE, "TOO_LONG", "the text beside a file may have some 800 bytes; send it apart");
    return err == CH_OK ? cli_receipt(cli, &receipt, "Sent to", person) : cli_fail_client(cli, err);
}

int cli_send(struct cli *cli, int operand_count, char **operands)
{
    struct ch_outgoing out = {.file = -1};
    const char *text = operand_count > 1 ? operands[1] : NULL, *attach = cli->option[OPTION_attach];
    char *read_text = NULL;
    int code = CH_CLI_OK;
    if (!text && !attach)
        return cli_fail(cli, CH_CLI_USAGE, "USAGE", "nothing to send: a TEXT, or --attach FILE, or both");
    out.text = text;
    out.text_length = text ? strlen(text) : 0;
    if (text && strcmp(text, "-") == 0) {
        code = cli_read_file(cli, "-", TEXT_BYTES_MAX, &read_text, &out.text_length);
        out.text = read_text;
    }
    if (code == CH_CLI_OK && attach)
        code = open_attachment(cli, attach, &out);
    if (code == CH_CLI_OK && !attach && out.text_length == 0)
        code = cli_fail(cli, CH_CLI_USAGE, "USAGE", "an empty text is no message");
    if (code == CH_CLI_OK)
        code = send_it(cli, operands[0], &out);
    if (out.file >= 0)
        (void)close(out.file);
    free(read_text);
    return code;
}

/* ---- inbox, watch ---- */

/* The names of senders are asked for afterwards: a taker must not call the client it is called from. */
struct kept {
    struct ch_record record;
    uint8_t bytes[CH_TX_BYTES_MAX];
};

struct page {
    struct kept kept[PAGE];
    unsigned count, capacity;
};

struct listing {
    struct cli *cli;
    struct page *page;
    uint64_t left;   /* messages still wanted */
    bool unreadable; /* one of them could not be opened */
    uint64_t next;   /* sequence */
};

static void print_json(struct cli *cli, const struct ch_record *record, const struct ch_incoming *in,
                       const char *sender)
{
    char cid[CH_CID_TEXT_BYTES];
    json_t *o =
        json_pack("{s:I, s:s, s:o, s:I, s:I, s:I}", "sequence", (json_int_t)record->inbox_sequence, "from", sender,
                  "from_key", cli_json_hex(record->tx.sender, 32), "commit", (json_int_t)record->commit_index,
                  "log_index", (json_int_t)record->log_index, "commit_time_ms", (json_int_t)record->commit_time_ms);
    if (in->verdict != CH_SEAL_OK)
        json_object_set_new(o, "unreadable", json_string(ch_seal_verdict_name(in->verdict)));
    if (in->verdict == CH_SEAL_OK && in->has_inline)
        json_object_set_new(o, "written_ms", json_integer((json_int_t)in->written_ms));
    if (in->text)
        json_object_set_new(o, "text", cli_json_text(in->text, in->text_length));
    if (in->has_object) {
        ch_cid_to_text(&in->object, cid);
        json_t *object = json_pack("{s:s, s:I}", "cid", cid, "object_bytes", (json_int_t)in->object_bytes);
        if (in->name) {
            json_object_set_new(object, "name", cli_json_text(in->name, in->name_length));
            json_object_set_new(object, "bytes", json_integer((json_int_t)in->content_bytes));
        }
        json_object_set_new(o, "object", object);
    }
    cli_json(o);
}

static void print_message(struct cli *cli, const struct ch_record *record, const struct ch_incoming *in,
                          const char *sender)
{
    printf("%llu  ", (unsigned long long)record->inbox_sequence);
    cli_print_time(record->commit_time_ms);
    printf("  %s\n", sender);
    if (in->verdict != CH_SEAL_OK)
        printf("    [unreadable] %s (%s)\n", ch_seal_verdict_text(in->verdict), ch_seal_verdict_name(in->verdict));
    if (in->text && in->text_length) {
        printf("    ");
        cli_print_text(in->text, in->text_length, 4);
        printf("\n");
    }
    if (in->has_object && in->verdict == CH_SEAL_OK) {
        printf("    [%s] ", in->name ? "file" : "long text");
        if (in->name) {
            cli_print_text(in->name, in->name_length, 4);
            printf(", ");
        }
        cli_print_size(in->name ? in->content_bytes : in->object_bytes);
        printf(": %s fetch %llu\n", cli->program, (unsigned long long)record->inbox_sequence);
    }
    (void)fflush(stdout);
}

static bool keep(void *context, const struct ch_record *record)
{
    struct page *page = context;
    struct kept *kept = &page->kept[page->count++];
    memcpy(kept->bytes, record->tx.bytes, record->tx.length);
    kept->record = *record;
    if (ch_tx_parse(kept->bytes, record->tx.length, &kept->record.tx) != CH_STATUS_OK)
        page->count--; /* can't be: it parsed a moment ago */
    return page->count < page->capacity;
}

static void show(struct listing *l, const struct kept *kept)
{
    struct ch_incoming in;
    const char *sender = cli_name(l->cli, kept->record.tx.sender);
    ch_chat_open(&l->cli->account, &kept->record.tx, &in);
    l->unreadable = l->unreadable || in.verdict != CH_SEAL_OK;
    l->next = kept->record.inbox_sequence + 1;
    l->left--;
    (l->cli->option[OPTION_json] ? print_json : print_message)(l->cli, &kept->record, &in, sender);
    ch_wipe(in.plain, sizeof in.plain);
}

static ch_err show_page(struct listing *l, uint64_t *last)
{
    struct page *page = l->page;
    page->count = 0;
    page->capacity = l->left < PAGE ? (unsigned)l->left : PAGE;
    ch_err err = ch_client_get_inbox(l->cli->client, l->cli->account.sign.public_key, l->next, (uint16_t)page->capacity,
                                     keep, page, last);
    for (unsigned i = 0; err == CH_OK && i < page->count; i++)
        show(l, &page->kept[i]);
    return err;
}

/* Where to begin: --from, or so that `newest` are left. */
static int begin_at(struct cli *cli, uint64_t newest, uint64_t *from, bool *any)
{
    struct ch_account own;
    int code = cli_number(cli, OPTION_from, 0, UINT64_MAX - 1, from);
    if (code == CH_CLI_OK)
        code = cli_begin(cli);
    if (code != CH_CLI_OK)
        return code;
    ch_err err = ch_client_get_account(cli->client, cli->account.sign.public_key, &own);
    if (err == CH_ERR_REFUSED && ch_client_status(cli->client) == CH_STATUS_NOT_FOUND)
        return cli_fail(cli, CH_CLI_REFUSED, "NO_SUCH_ACCOUNT", "%s; %s register",
                        ch_status_text(CH_STATUS_NO_SUCH_ACCOUNT), cli->program);
    if (err != CH_OK)
        return cli_fail_client(cli, err);
    if (*from == 0)
        *from = own.inbox_sequence >= newest ? own.inbox_sequence - newest + 1 : 1;
    *any = own.inbox_sequence >= *from;
    return CH_CLI_OK;
}

int cli_inbox(struct cli *cli, int operand_count, char **operands)
{
    struct listing l = {.cli = cli};
    uint64_t limit, last = 0;
    bool any = false;
    int code = cli_number(cli, OPTION_limit, 0, UINT64_MAX - 1, &limit);
    if (code == CH_CLI_OK)
        code = begin_at(cli, limit ? limit : NEWEST, &l.next, &any);
    if (code != CH_CLI_OK)
        return code;
    if (!any) {
        if (!cli->option[OPTION_json])
            printf("No messages\n");
        return CH_CLI_OK;
    }
    l.left = limit ? limit : UINT64_MAX;
    l.page = calloc(1, sizeof *l.page);
    if (!l.page)
        return cli_fail(cli, CH_CLI_LOCAL, "NO_MEMORY", "out of memory");
    ch_err err;
    uint64_t before;
    do {
        before = l.next;
        err = show_page(&l, &last);
        if (err == CH_ERR_REFUSED && ch_client_status(cli->client) == CH_STATUS_PRUNED) {
            fprintf(stderr, "Messages %llu to %llu are no longer kept by this validator\n", (unsigned long long)l.next,
                    (unsigned long long)last - 1);
            l.next = last;
            err = CH_OK;
        }
    } while (err == CH_OK && l.next > before && l.next <= last && l.left);
    free(l.page);
    if (err != CH_OK)
        return cli_fail_client(cli, err);
    return l.unreadable ? CH_CLI_UNREADABLE : CH_CLI_OK;
}

static bool keep_watched(void *context, const struct ch_record *record)
{
    struct listing *l = context;
    return keep(l->page, record);
}

/* More may come in while the sender's name is asked for. */
static bool show_watched(void *context)
{
    struct listing *l = context;
    for (unsigned i = 0; i < l->page->count && l->left; i++)
        show(l, &l->page->kept[i]);
    l->page->count = 0;
    return l->left > 0;
}

int cli_watch(struct cli *cli, int operand_count, char **operands)
{
    struct listing l = {.cli = cli};
    uint64_t limit, quiet_s;
    bool any;
    int code = cli_number(cli, OPTION_limit, UINT64_MAX, UINT64_MAX - 1, &limit);
    if (code == CH_CLI_OK)
        code = cli_number(cli, OPTION_quiet, 0, 1u << 30, &quiet_s);
    if (code == CH_CLI_OK)
        code = begin_at(cli, 0, &l.next, &any);
    if (code != CH_CLI_OK)
        return code;
    l.left = limit;
    l.page = calloc(1, sizeof *l.page);
    if (!l.page)
        return cli_fail(cli, CH_CLI_LOCAL, "NO_MEMORY", "out of memory");
    l.page->capacity = PAGE;
    ch_err err = CH_OK;
    while (err == CH_OK && l.left)
        err = ch_client_watch(cli->client, cli->account.sign.public_key, l.next, quiet_s * 1000, keep_watched,
                              show_watched, &l);
    free(l.page);
    if (err == CH_ERR_TIMEOUT && quiet_s)
        err = CH_OK;
    if (err != CH_OK)
        return cli_fail_client(cli, err);
    return l.unreadable ? CH_CLI_UNREADABLE : CH_CLI_OK;
}

/* ---- fetch ---- */

/* A name from elsewhere, made fit for this folder: no path, no hidden file, no controls. */
static void tame_name(const char *name, char out[NAME_MAX + 1])
{
    const char *slash = strrchr(name, '/');
    (void)snprintf(out, NAME_MAX + 1, "%.*s", NAME_MAX - 8, slash ? slash + 1 : name); /* room for mkostemp's ending */
    for (char *at = out; *at; at++)
        if ((uint8_t)*at < 0x20 || *at == 0x7f || *at == '\\')
            *at = '_';
    if (*out == '.')
        *out = '_';
    if (!*out)
        (void)snprintf(out, NAME_MAX + 1, "unnamed");
}

static int fetched(struct cli *cli, struct cli_target *t, uint64_t sequence, uint64_t bytes, uint8_t type,
                   bool to_stdout)
{
    if (to_stdout)
        return cli_target_copy_out(cli, t);
    int code = cli_target_keep(cli, t);
    if (code != CH_CLI_OK)
        return code;
    if (cli->option[OPTION_json]) {
        cli_json(json_pack("{s:I, s:o, s:I, s:s}", "sequence", (json_int_t)sequence, "file",
                           cli_json_text((const uint8_t *)t->path, strlen(t->path)), "bytes", (json_int_t)bytes, "type",
                           type == CH_ENVELOPE_TEXT ? "text" : "file"));
        return CH_CLI_OK;
    }
    cli_print_text((const uint8_t *)t->path, strlen(t->path), 0);
    printf(": ");
    cli_print_size(bytes);
    printf(", as its sender signed it\n");
    return CH_CLI_OK;
}

static int fetch_object(struct cli *cli, const struct ch_incoming *in, uint64_t sequence)
{
    static struct cli_target t;
    char original[CH_ENVELOPE_NAME_BYTES_MAX + 1], tame[NAME_MAX + 1];
    const char *out = cli->option[OPTION_out];
    /* A text has no name: without --out it goes to standard output. */
    bool to_stdout = out ? strcmp(out, "-") == 0 : in->name == NULL;
    enum ch_seal_verdict verdict = CH_SEAL_BROKEN;
    uint8_t type = 0;
    struct stat st;
    (void)snprintf(original, sizeof original, "%.*s", in->name ? (int)in->name_length : 0,
                   in->name ? (const char *)in->name : "");
    tame_name(original, tame);
    int code = cli_target_open(cli, to_stdout ? NULL : out ? out : tame, &t);
    if (code != CH_CLI_OK)
        return code;
    ch_err err = ch_chat_fetch(cli->client, &cli->account, in, cli_target_write, &t, cli_progress, cli, original, &type,
                               &verdict);
    if (err != CH_OK && t.error)
        code = cli_fail(cli, CH_CLI_LOCAL, ch_err_name(err), "%s: %s", t.partial, strerror(t.error));
    else if (err != CH_OK)
        code = cli_fail_client(cli, err);
    else if (verdict != CH_SEAL_OK)
        code = cli_fail(cli, CH_CLI_UNREADABLE, ch_seal_verdict_name(verdict), "message %llu: %s",
                        (unsigned long long)sequence, ch_seal_verdict_text(verdict));
    else if (fstat(t.fd, &st) != 0)
        code = cli_fail(cli, CH_CLI_LOCAL, "IO", "%s", strerror(errno));
    else
        code = fetched(cli, &t, sequence, (uint64_t)st.st_size, type, to_stdout);
    cli_target_close(&t);
    return code;
}

/* A message without an object: its text is all there is. */
static int fetch_text(struct cli *cli, const struct ch_incoming *in, uint64_t sequence)
{
    static struct cli_target t;
    const char *out = cli->option[OPTION_out];
    if (!out || strcmp(out, "-") == 0)
        return cli_write_file(cli, "-", (const char *)in->text, in->text_length);
    int code = cli_target_open(cli, out, &t);
    if (code != CH_CLI_OK)
        return code;
    if (cli_target_write(&t, in->text, in->text_length) != CH_OK)
        code = cli_fail(cli, CH_CLI_LOCAL, "IO", "%s: %s", t.partial, strerror(t.error));
    else
        code = fetched(cli, &t, sequence, in->text_length, CH_ENVELOPE_TEXT, false);
    cli_target_close(&t);
    return code;
}

int cli_fetch(struct cli *cli, int operand_count, char **operands)
{
    struct ch_incoming in;
    uint64_t sequence, last;
    struct page *page;
    cli->option[OPTION_from] = operands[0];
    int code = cli_number(cli, OPTION_from, 0, UINT64_MAX - 1, &sequence);
    if (code == CH_CLI_OK && sequence == 0)
        code = cli_fail(cli, CH_CLI_USAGE, "USAGE", "messages count from 1");
    if (code == CH_CLI_OK)
        code = cli_begin(cli);
    if (code != CH_CLI_OK)
        return code;
    page = calloc(1, sizeof *page);
    if (!page)
        return cli_fail(cli, CH_CLI_LOCAL, "NO_MEMORY", "out of memory");
    page->capacity = 1;
    ch_err err = ch_client_get_inbox(cli->client, cli->account.sign.public_key, sequence, 1, keep, page, &last);
    if (err != CH_OK) {
        code = cli_fail_client(cli, err);
    } else if (page->count == 0) {
        code = cli_fail(cli, CH_CLI_REFUSED, "NOT_FOUND", "there is no message %llu", (unsigned long long)sequence);
    } else {
        ch_chat_open(&cli->account, &page->kept[0].record.tx, &in);
        if (in.verdict != CH_SEAL_OK)
            code = cli_fail(cli, CH_CLI_UNREADABLE, ch_seal_verdict_name(in.verdict), "message %llu: %s",
                            (unsigned long long)sequence, ch_seal_verdict_text(in.verdict));
        else
            code = in.has_object ? fetch_object(cli, &in, sequence) : fetch_text(cli, &in, sequence);
        ch_wipe(in.plain, sizeof in.plain);
    }
    free(page);
    return code;
}
