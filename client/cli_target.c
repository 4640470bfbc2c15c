/* A file that gets its name when all of it is there. */
#include "client/cli_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

ch_err cli_target_write(void *target, const uint8_t *bytes, size_t length)
{
    struct cli_target *t = target;
    for (size_t done = 0; done < length;) {
        ssize_t n = write(t->fd, bytes + done, length - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            t->error = errno;
            return errno == ENOSPC ? CH_ERR_NO_SPACE : CH_ERR_IO;
        }
        done += (size_t)n;
    }
    return CH_OK;
}

static int exists(struct cli *cli, const struct cli_target *t)
{
    return cli_fail(cli, CH_CLI_REFUSED, "EXISTS", "%s exists already: --out FILE, or --force", t->path);
}

int cli_target_open(struct cli *cli, const char *wanted, struct cli_target *t)
{
    *t = (struct cli_target){.fd = -1};
    if (!wanted) {
        FILE *nameless = tmpfile();
        t->fd = nameless ? dup(fileno(nameless)) : -1;
        if (nameless)
            (void)fclose(nameless);
        return t->fd >= 0 ? CH_CLI_OK : cli_fail(cli, CH_CLI_LOCAL, "IO", "no temporary file: %s", strerror(errno));
    }
    if (snprintf(t->path, sizeof t->path, "%s", wanted) >= PATH_MAX)
        return cli_fail(cli, CH_CLI_USAGE, "USAGE", "the file's name is too long");
    if (!cli->option[OPTION_force] && access(t->path, F_OK) == 0)
        return exists(cli, t);
    (void)snprintf(t->partial, sizeof t->partial, "%s.XXXXXX", t->path);
    t->fd = mkostemp(t->partial, O_CLOEXEC);
    if (t->fd >= 0)
        return CH_CLI_OK;
    int code = cli_fail(cli, CH_CLI_LOCAL, "IO", "%s: %s", t->partial, strerror(errno));
    t->partial[0] = 0;
    return code;
}

/* The name itself is durable once its folder is. */
static bool sync_folder(const char *path)
{
    char copy[PATH_MAX];
    (void)snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL); /* some file systems know no such thing */
    if (fd >= 0)
        (void)close(fd);
    return good;
}

int cli_target_keep(struct cli *cli, struct cli_target *t)
{
    mode_t mask = umask(0);
    (void)umask(mask);
    if (fchmod(t->fd, 0666 & ~mask) != 0 || fsync(t->fd) != 0 ||
        renameat2(AT_FDCWD, t->partial, AT_FDCWD, t->path, cli->option[OPTION_force] ? 0 : RENAME_NOREPLACE) != 0)
        return errno == EEXIST ? exists(cli, t)
                               : cli_fail(cli, CH_CLI_LOCAL, "IO", "%s: %s", t->path, strerror(errno));
    t->partial[0] = 0;
    return sync_folder(t->path) ? CH_CLI_OK
                                : cli_fail(cli, CH_CLI_LOCAL, "IO", "the folder of %s: %s", t->path, strerror(errno));
}

int cli_target_copy_out(struct cli *cli, struct cli_target *t)
{
    char piece[65536];
    ssize_t n;
    if (lseek(t->fd, 0, SEEK_SET) < 0)
        return cli_fail(cli, CH_CLI_LOCAL, "IO", "%s", strerror(errno));
    while ((n = read(t->fd, piece, sizeof piece)) > 0)
        if (fwrite(piece, 1, (size_t)n, stdout) != (size_t)n)
            return cli_fail(cli, CH_CLI_LOCAL, "IO", "standard output: %s", strerror(errno));
    return CH_CLI_OK;
}

void cli_target_close(struct cli_target *t)
{
    if (t->partial[0])
        (void)unlink(t->partial);
    if (t->fd >= 0)
        (void)close(t->fd);
}
