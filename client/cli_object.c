/* Objects as they are: cid, import, export. */
#include "client/cli_impl.h"
#include "wire/car.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES CH_UNIXFS_LEAF_BYTES

struct source {
    struct cli *cli;
    const char *path;
    int fd;
    uint64_t bytes;
    uint8_t *piece; /* PIECE_BYTES */
};

static int open_source(struct cli *cli, const char *path, struct source *s)
{
    struct stat st;
    *s = (struct source){.cli = cli, .path = path, .fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (s->fd < 0 || fstat(s->fd, &st) != 0)
        return cli_fail(cli, CH_CLI_LOCAL, errno == ENOENT ? "NOT_FOUND" : "IO", "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return cli_fail(cli, CH_CLI_LOCAL, "INVALID", "%s is not a plain file", path);
    s->bytes = (uint64_t)st.st_size;
    s->piece = malloc(PIECE_BYTES);
    return s->piece ? CH_CLI_OK : cli_fail(cli, CH_CLI_LOCAL, "NO_MEMORY", "out of memory");
}

static void close_source(struct source *s)
{
    if (s->fd >= 0)
        (void)close(s->fd);
    free(s->piece);
}

/* Gives the file on in pieces, all but the last of them PIECE_BYTES long; an empty file as one empty piece. */
static ch_err feed(struct source *s, ch_sink sink, void *context)
{
    ch_err err = CH_OK;
    for (uint64_t at = 0; err == CH_OK && (at < s->bytes || at == 0);) {
        size_t want = s->bytes - at < PIECE_BYTES ? (size_t)(s->bytes - at) : PIECE_BYTES, have = 0;
        while (have < want) {
            ssize_t n = pread(s->fd, s->piece + have, want - have, (off_t)(at + have));
            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0)
                return CH_ERR_IO;
            have += (size_t)n;
        }
        err = sink(context, s->piece, have);
        at += have;
        if (at == 0)
            break;
    }
    return err;
}

static int tell_object(struct cli *cli, const struct ch_cid *cid, uint64_t bytes)
{
    char text[CH_CID_TEXT_BYTES];
    ch_cid_to_text(cid, text);
    if (cli->option[OPTION_json])
        cli_json(json_pack("{s:s, s:I}", "cid", text, "bytes", (json_int_t)bytes));
    else
        printf("%s\n", text);
    return CH_CLI_OK;
}

/* ---- cid ---- */

static ch_err add_leaf(void *builder, const uint8_t *bytes, size_t length)
{
    struct ch_cid cid;
    ch_cid_of(CH_CID_RAW, bytes, length, &cid);
    return ch_unixfs_add(builder, &cid, (uint32_t)length);
}

static ch_err keep_no_node(void *context, const struct ch_cid *cid, const uint8_t *block, size_t length)
{
    return CH_OK;
}

int cli_object_cid(struct cli *cli, int operand_count, char **operands)
{
    struct source s;
    struct ch_unixfs_builder *builder = NULL;
    struct ch_unixfs_link root;
    int code = open_source(cli, operands[0], &s);
    if (code == CH_CLI_OK) {
        ch_err err = ch_unixfs_open(keep_no_node, NULL, &builder);
        if (err == CH_OK)
            err = feed(&s, add_leaf, builder);
        if (err == CH_OK)
            err = ch_unixfs_end(builder, &root);
        code = err == CH_OK ? tell_object(cli, &root.cid, s.bytes)
                            : cli_fail(cli, CH_CLI_LOCAL, ch_err_name(err), "%s: %s", s.path, ch_err_text(err));
    }
    ch_unixfs_close(builder);
    close_source(&s);
    return code;
}

/* ---- import ---- */

/* A CAR on its way to the store; its root waits until all else is there. */
struct import {
    struct ch_putter *putter;
    struct ch_car_reader *reader;
    enum ch_car_verdict verdict;
    ch_err err; /* of the putter */
    bool root_known, root_seen;
    struct ch_cid root;
    size_t root_length;
    uint8_t root_block[CH_BLOCK_BYTES_MAX];
};

static ch_err take_block(void *context, const struct ch_cid *cid, const uint8_t *block, size_t length)
{
    struct import *im = context;
    if (memcmp(cid->bytes, im->root.bytes, CH_CID_BYTES) == 0) {
        im->root_seen = true;
        im->root_length = length;
        memcpy(im->root_block, block, length);
        return CH_OK;
    }
    return im->err = ch_putter_add_block(im->putter, cid, block, length);
}

static ch_err add_car(void *context, const uint8_t *bytes, size_t length)
{
    struct import *im = context;
    if (!im->root_known && length >= CH_CAR_HEADER_BYTES) /* what isn't a header the reader refuses */
        memcpy(im->root.bytes, bytes + CH_CAR_HEADER_BYTES - 9 - CH_CID_BYTES, CH_CID_BYTES);
    im->root_known = true;
    im->verdict = ch_car_reader_add(im->reader, bytes, length);
    return im->verdict == CH_CAR_OK ? CH_OK : im->err != CH_OK ? im->err : CH_ERR_CORRUPT;
}

static ch_err pass_car(struct source *s, struct import *im)
{
    struct ch_cid root;
    im->root_known = im->root_seen = false;
    im->err = CH_OK;
    ch_err err = ch_car_reader_open(take_block, im, &im->reader);
    if (err == CH_OK)
        err = feed(s, add_car, im);
    if (err == CH_OK)
        im->verdict = ch_car_reader_end(im->reader, &root);
    ch_car_reader_close(im->reader);
    if (err == CH_OK && (im->verdict != CH_CAR_OK || !im->root_seen))
        err = CH_ERR_CORRUPT;
    return err == CH_OK ? ch_putter_end_blocks(im->putter, &im->root, im->root_block, im->root_length) : err;
}

static int import_car(struct cli *cli, struct source *s, struct ch_putter *putter, struct ch_cid *root)
{
    struct import *im = calloc(1, sizeof *im);
    if (!im)
        return cli_fail(cli, CH_CLI_LOCAL, "NO_MEMORY", "out of memory");
    im->putter = putter;
    ch_err err = pass_car(s, im);
    while (err == CH_ERR_AGAIN && (err = ch_putter_again(putter)) == CH_OK)
        err = pass_car(s, im);
    *root = im->root;
    const char *why = im->verdict == CH_CAR_OK ? "it lacks the block of its root" : ch_car_verdict_text(im->verdict);
    bool bad_car = err == CH_ERR_CORRUPT && im->err == CH_OK;
    free(im);
    if (bad_car)
        return cli_fail(cli, CH_CLI_UNREADABLE, "BAD_CAR", "%s: %s", s->path, why);
    return err == CH_OK ? CH_CLI_OK : cli_fail_client(cli, err);
}

static int import_file(struct cli *cli, struct source *s, struct ch_putter *putter, struct ch_cid *root)
{
    uint64_t length;
    if (s->bytes == 0)
        return cli_fail(cli, CH_CLI_LOCAL, "INVALID", "%s is empty: there is nothing to store", s->path);
    ch_err err;
    do {
        err = feed(s, ch_putter_add, putter);
        if (err == CH_OK)
            err = ch_putter_end(putter, root, &length);
    } while (err == CH_ERR_AGAIN && (err = ch_putter_again(putter)) == CH_OK);
    return err == CH_OK ? CH_CLI_OK : cli_fail_client(cli, err);
}

int cli_object_import(struct cli *cli, int operand_count, char **operands)
{
    struct source s;
    struct ch_putter *putter = NULL;
    struct ch_cid root;
    int code = open_source(cli, operands[0], &s);
    if (code == CH_CLI_OK)
        code = cli_begin(cli);
    if (code == CH_CLI_OK && ch_putter_open(cli->client, s.bytes, cli_progress, cli, &putter) != CH_OK)
        code = cli_fail(cli, CH_CLI_LOCAL, "NO_MEMORY", "out of memory");
    if (code == CH_CLI_OK) {
        ch_putter_ask_first(putter);
        code = (cli->option[OPTION_car] ? import_car : import_file)(cli, &s, putter, &root);
    }
    if (code == CH_CLI_OK)
        code = tell_object(cli, &root, s.bytes);
    ch_putter_close(putter);
    close_source(&s);
    return code;
}

/* ---- export ---- */

struct export
{
    struct cli_target target;
    bool car;
    uint64_t bytes;
};

static ch_err write_block(void *context, const struct ch_cid *cid, const uint8_t *block, size_t length)
{
    struct export *ex = context;
    uint8_t head[CH_CAR_SECTION_BYTES_MAX];
    if (!ex->car && ch_cid_codec(cid) != CH_CID_RAW)
        return CH_OK;
    size_t head_length = ex->car ? ch_car_section(cid, length, head) : 0;
    ex->bytes += head_length + length;
    ch_err err = cli_target_write(&ex->target, head, head_length);
    return err == CH_OK ? cli_target_write(&ex->target, block, length) : err;
}

static ch_err export_to(struct cli *cli, const struct ch_cid *root, struct export *ex)
{
    uint8_t header[CH_CAR_HEADER_BYTES];
    ch_err err = CH_OK;
    if (ex->car) {
        ch_car_header(root, header);
        ex->bytes = sizeof header;
        err = cli_target_write(&ex->target, header, sizeof header);
    }
    return err == CH_OK ? ch_client_get_blocks(cli->client, root, UINT64_MAX, write_block, ex, cli_progress, cli) : err;
}

int cli_object_export(struct cli *cli, int operand_count, char **operands)
{
    static struct export ex;
    struct ch_cid root;
    char name[CH_CID_TEXT_BYTES + 4];
    const char *out = cli->option[OPTION_out];
    bool to_stdout = out && strcmp(out, "-") == 0;
    ex.car = cli->option[OPTION_car] != NULL;
    if (!ch_cid_from_text(operands[0], &root))
        return cli_fail(cli, CH_CLI_USAGE, "USAGE", "\"%.80s\" is no CID of an object", operands[0]);
    (void)snprintf(name, sizeof name, "%s.%s", operands[0], ex.car ? "car" : "bin");
    int code = cli_begin(cli);
    if (code == CH_CLI_OK)
        code = cli_target_open(cli, to_stdout ? NULL : out ? out : name, &ex.target);
    if (code != CH_CLI_OK)
        return code;
    ch_err err = export_to(cli, &root, &ex);
    if (err != CH_OK && ex.target.error)
        code = cli_fail(cli, CH_CLI_LOCAL, ch_err_name(err), "%s: %s", ex.target.partial, strerror(ex.target.error));
    else if (err != CH_OK)
        code = cli_fail_client(cli, err);
    else
        code = to_stdout ? cli_target_copy_out(cli, &ex.target) : cli_target_keep(cli, &ex.target);
    if (code != CH_CLI_OK || to_stdout)
        ; /* said already, or the object says it */
    else if (cli->option[OPTION_json])
        cli_json(json_pack("{s:o, s:I}", "file", cli_json_text((const uint8_t *)ex.target.path, strlen(ex.target.path)),
                           "bytes", (json_int_t)ex.bytes));
    else
        printf("%s\n", ex.target.path);
    cli_target_close(&ex.target);
    return code;
}
