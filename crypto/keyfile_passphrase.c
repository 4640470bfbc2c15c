#include "crypto/keyfile.h"

#include "crypto/keyfile_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* What stands in `bytes`, less one line end. */
static ch_err take(const char *bytes, size_t length, struct ch_passphrase *out)
{
    if (length && bytes[length - 1] == '\n')
        length--;
    if (length && bytes[length - 1] == '\r')
        length--;
    if (length == 0 || length > CH_PASSPHRASE_BYTES_MAX || memchr(bytes, 0, length))
        return CH_ERR_INVALID;
    memset(out, 0, sizeof *out);
    memcpy(out->text, bytes, length);
    out->length = length;
    return CH_OK;
}

static ch_err from_file(const char *path, bool guarded, struct ch_passphrase *out)
{
    uint8_t bytes[CH_PASSPHRASE_BYTES_MAX + 3];
    size_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ch_err_of_errno(errno);
    ch_err err = guarded ? ch_check_private(fd, false) : CH_OK;
    if (err == CH_OK)
        err = ch_read_all(fd, bytes, sizeof bytes, &length);
    (void)close(fd);
    if (err == CH_OK)
        err = take((const char *)bytes, length, out);
    sodium_memzero(bytes, sizeof bytes);
    return err;
}

static volatile sig_atomic_t interrupted; /* the signal that ended an entry, or 0 */

static void interrupt(int number)
{
    interrupted = number;
}

static ch_err read_line(int terminal, const char *prompt, struct ch_passphrase *out)
{
    char line[CH_PASSPHRASE_BYTES_MAX + 3];
    size_t length = 0;
    (void)!write(terminal, prompt, strlen(prompt));
    while (length < sizeof line) {
        ssize_t n = read(terminal, line + length, 1);
        if (n < 0 && errno == EINTR && !interrupted)
            continue;
        if (n <= 0 || line[length] == '\n')
            break;
        length++;
    }
    (void)!write(terminal, "\n", 1);
    ch_err err = interrupted ? CH_ERR_INVALID : take(line, length, out);
    sodium_memzero(line, sizeof line);
    return err;
}

static ch_err from_terminal(const char *prompt, bool again, struct ch_passphrase *out)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP};
    struct sigaction before[sizeof ends / sizeof *ends], caught = {.sa_handler = interrupt}; /* no SA_RESTART */
    struct termios shown, hidden;
    struct ch_passphrase second;
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (terminal < 0)
        return CH_ERR_NOT_FOUND;
    if (tcgetattr(terminal, &shown) != 0) {
        (void)close(terminal);
        return CH_ERR_NOT_FOUND;
    }
    /* Echo has to come back before a Ctrl-C takes effect: note the signal, raise it again at the end. */
    interrupted = 0;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        (void)sigaction(ends[i], &caught, &before[i]);
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)ECHO;
    ch_err err = tcsetattr(terminal, TCSAFLUSH, &hidden) == 0 ? CH_OK : CH_ERR_IO;
    if (err == CH_OK)
        err = read_line(terminal, prompt, out);
    if (err == CH_OK && again) {
        err = read_line(terminal, "The same again: ", &second);
        if (err == CH_OK && (second.length != out->length || sodium_memcmp(second.text, out->text, out->length) != 0))
            err = CH_ERR_INVALID;
        sodium_memzero(&second, sizeof second);
    }
    (void)tcsetattr(terminal, TCSAFLUSH, &shown);
    (void)close(terminal);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        (void)sigaction(ends[i], &before[i], NULL);
    if (interrupted)
        (void)raise(interrupted);
    return err;
}

ch_err ch_passphrase_get(const char *file, const char *credential, const char *prompt, bool again,
                         struct ch_passphrase *out)
{
    if (file)
        return from_file(file, true, out);
    const char *named = getenv("CHAPPE_PASSPHRASE_FILE");
    if (named && *named)
        return from_file(named, true, out);
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    if (folder && *folder && credential) {
        char path[4096];
        if (snprintf(path, sizeof path, "%s/%s", folder, credential) >= (int)sizeof path)
            return CH_ERR_INVALID;
        /* systemd guards its folder itself: with its own owner and access lists. */
        ch_err err = from_file(path, false, out);
        if (err != CH_ERR_NOT_FOUND)
            return err;
    }
    return prompt ? from_terminal(prompt, again, out) : CH_ERR_NOT_FOUND;
}
