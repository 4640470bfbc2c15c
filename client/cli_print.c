/* What commands say, to people and to machines. */
#include "client/cli_impl.h"

#include "base/time.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define BAR_CELLS     30
#define BAR_PAUSE_NS  UINT64_C(100000000)
#define MESSAGE_BYTES 512

void cli_json(json_t *object)
{
    char *line = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    printf("%s\n", line ? line : "{}");
    (void)fflush(stdout);
    free(line);
    json_decref(object);
}

static void end_bar(struct cli *cli)
{
    if (cli->bar_shown)
        fputc('\n', stderr);
    cli->bar_shown = false;
}

int cli_fail(struct cli *cli, enum ch_cli_exit code, const char *name, const char *format, ...)
{
    char text[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    end_bar(cli);
    if (cli->option[OPTION_json])
        cli_json(json_pack("{s:{s:s, s:o, s:i}}", "error", "name", name, "text",
                           cli_json_text((const uint8_t *)text, strlen(text)), "exit", (int)code));
    else
        fprintf(stderr, "%s: %s\n", cli->program, text);
    return code;
}

int cli_fail_client(struct cli *cli, ch_err err)
{
    const char *why = ch_client_why(cli->client);
    int64_t off_s = ch_client_clock_ms(cli->client) / 1000;
    uint16_t status = ch_client_status(cli->client);
    if (err == CH_ERR_REFUSED && (status == CH_STATUS_TOO_OLD || status == CH_STATUS_TOO_EARLY))
        return cli_fail(cli, CH_CLI_REFUSED, ch_status_name(status),
                        "%s (the node's clock is %+lld s from this machine's)", why, (long long)off_s);
    switch (err) {
    case CH_ERR_REFUSED:
        return cli_fail(cli, CH_CLI_REFUSED, ch_status_name(status), "%s", why);
    case CH_ERR_CLOSED:
    case CH_ERR_TIMEOUT:
    case CH_ERR_DENIED:
    case CH_ERR_WRONG_CHAIN:
    case CH_ERR_PROTOCOL:
        return cli_fail(cli, CH_CLI_UNREACHABLE, ch_err_name(err), "%s", why);
    default:
        return cli_fail(cli, CH_CLI_LOCAL, ch_err_name(err), "%s", *why ? why : ch_err_text(err));
    }
}

json_t *cli_json_hex(const uint8_t *bytes, size_t length)
{
    char text[2 * 64 + 1];
    CH_ASSERT(length <= 64);
    return json_string(ch_hex_write(bytes, length, text));
}

/* How many bytes the UTF-8 character at `at` has, and its value; 0 where there is none (RFC 3629). */
static size_t utf8_at(const uint8_t *at, size_t left, uint32_t *value)
{
    size_t length = at[0] < 0x80                    ? 1
                    : at[0] >= 0xc2 && at[0] < 0xe0 ? 2
                    : (at[0] & 0xf0) == 0xe0        ? 3
                    : (at[0] & 0xf8) == 0xf0        ? 4
                                                    : 0;
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (length == 0 || length > left)
        return 0;
    uint32_t v = length == 1 ? at[0] : at[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        v = v << 6 | (at[i] & 0x3f);
    }
    if (v < smallest[length] || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
        return 0;
    *value = v;
    return length;
}

json_t *cli_json_text(const uint8_t *text, size_t length)
{
    static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */
    char *clean = malloc(length * 3 + 1);
    size_t used = 0;
    uint32_t value;
    if (!clean)
        return json_null();
    for (size_t at = 0; at < length;) {
        size_t n = utf8_at(text + at, length - at, &value);
        memcpy(clean + used, n ? (const char *)text + at : replacement, n ? n : 3);
        used += n ? n : 3;
        at += n ? n : 1;
    }
    json_t *string = json_stringn(clean, used);
    free(clean);
    return string;
}

/* Controls that a terminal might obey, among them those that turn the direction of writing. */
static bool harmful(uint32_t v)
{
    return v < 0x20 || (v >= 0x7f && v < 0xa0) || (v >= 0x202a && v <= 0x202e) || (v >= 0x2066 && v <= 0x2069);
}

void cli_print_text(const uint8_t *text, size_t length, int indent)
{
    uint32_t value = 0;
    for (size_t at = 0; at < length;) {
        size_t n = utf8_at(text + at, length - at, &value);
        if (n == 0)
            printf("\\x%02x", text[at]);
        else if (value == '\n')
            printf("\n%*s", indent, "");
        else if (value == '\t' || !harmful(value))
            (void)fwrite(text + at, 1, n, stdout);
        else
            printf("\\u{%x}", (unsigned)value);
        at += n ? n : 1;
    }
}

void cli_print_size(uint64_t bytes)
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    unsigned unit = 0;
    double value = (double)bytes;
    while (value >= 1000 && unit < 4) {
        value /= 1000;
        unit++;
    }
    printf(unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

void cli_print_time(uint64_t unix_ms)
{
    char text[64];
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm local;
    if (localtime_r(&seconds, &local) && strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local))
        fputs(text, stdout);
    else
        printf("%llu ms", (unsigned long long)unix_ms);
}

void cli_progress(void *context, uint64_t done, uint64_t total)
{
    static uint64_t shown_ns;
    struct cli *cli = context;
    uint64_t now = ch_time_monotonic_ns();
    if (cli->option[OPTION_json] || !isatty(STDERR_FILENO) || (now - shown_ns < BAR_PAUSE_NS && done < total))
        return;
    shown_ns = now;
    done = done < total ? done : total;
    unsigned cells = total ? (unsigned)((double)done / (double)total * BAR_CELLS) : BAR_CELLS;
    fprintf(stderr, "\r[%.*s%*s] %3u%%  %.1f of %.1f MB", (int)cells, "##############################",
            (int)(BAR_CELLS - cells), "", total ? (unsigned)((double)done / (double)total * 100) : 100,
            (double)done / 1e6, (double)total / 1e6);
    cli->bar_shown = true;
    if (done == total)
        end_bar(cli);
}

int cli_receipt(struct cli *cli, const struct ch_receipt *r, const char *what, const char *who)
{
    end_bar(cli);
    if (cli->option[OPTION_json]) {
        json_t *o = json_pack("{s:s, s:o, s:I, s:I, s:I}", "status", ch_status_name(r->status), "tx_id",
                              cli_json_hex(r->tx_id, CH_HASH_BYTES), "commit", (json_int_t)r->commit_index, "log_index",
                              (json_int_t)r->log_index, "commit_time_ms", (json_int_t)r->commit_time_ms);
        if (r->inbox_sequence)
            json_object_set_new(o, "inbox_sequence", json_integer((json_int_t)r->inbox_sequence));
        cli_json(o);
        return CH_CLI_OK;
    }
    printf("%s%s%s: on the chain, record %llu in commit %llu\n", what, *who ? " " : "", who,
           (unsigned long long)r->log_index, (unsigned long long)r->commit_index);
    return CH_CLI_OK;
}

bool cli_confirm(struct cli *cli, const char *question)
{
    char answer[16] = "";
    if (cli->option[OPTION_yes])
        return true;
    if (!isatty(STDIN_FILENO))
        return false;
    fprintf(stderr, "%s [y/N] ", question);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}
