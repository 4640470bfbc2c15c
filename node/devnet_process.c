#include "node/devnet_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define BOOT_ID_BYTES 37

static bool boot_id(char id[BOOT_ID_BYTES])
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    bool read = file && fscanf(file, "%36s", id) == 1;
    if (file)
        fclose(file);
    return read;
}

/* Field 22 of /proc/PID/stat, proc(5): clock ticks from the boot to its start; 0: no such process. */
static unsigned long long start_time(pid_t pid)
{
    char path[64], stat[1024];
    unsigned long long ticks = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    size_t length = fread(stat, 1, sizeof stat - 1, file);
    fclose(file);
    stat[length] = 0;
    char *rest = strrchr(stat, ')'); /* the name before it may hold anything */
    if (!rest || sscanf(rest + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
                        &ticks) != 1)
        return 0;
    return ticks;
}

bool ch_process_ended(const struct ch_process *process, int patience_ms)
{
    struct pollfd end = {.fd = process->fd, .events = POLLIN};
    int ready;
    do
        ready = poll(&end, 1, patience_ms);
    while (ready < 0 && errno == EINTR);
    return ready > 0;
}

bool ch_process_find(const char *pid_file, struct ch_process *out)
{
    int pid = 0;
    unsigned long long ticks = 0;
    char boot[BOOT_ID_BYTES], now[BOOT_ID_BYTES];
    FILE *file = fopen(pid_file, "re");
    if (!file)
        return false;
    bool read = fscanf(file, "%d %llu %36s", &pid, &ticks, boot) == 3;
    fclose(file);
    if (!read || pid <= 0 || !boot_id(now) || strcmp(boot, now) != 0)
        return false;
    struct ch_process found = {.pid = pid, .fd = pidfd_open(pid, 0)};
    if (found.fd < 0)
        return false;
    if (start_time(pid) != ticks || ch_process_ended(&found, 0)) {
        close(found.fd);
        return false;
    }
    *out = found;
    return true;
}

void ch_process_forget(struct ch_process *process)
{
    close(process->fd);
    process->fd = -1;
}

ch_err ch_process_signal(const struct ch_process *process, int signal)
{
    if (pidfd_send_signal(process->fd, signal, NULL, 0) == 0 || errno == ESRCH)
        return CH_OK;
    return errno == EPERM ? CH_ERR_DENIED : CH_ERR_IO;
}

static ch_err write_pid_file(const char *path, pid_t pid)
{
    char boot[BOOT_ID_BYTES];
    unsigned long long ticks = start_time(pid);
    FILE *file = ticks && boot_id(boot) ? fopen(path, "we") : NULL;
    if (!file)
        return CH_ERR_IO;
    fprintf(file, "%d %llu %s\n", (int)pid, ticks, boot);
    return fclose(file) == 0 ? CH_OK : CH_ERR_IO;
}

static void detach(const char *log, int keep)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int empty = open("/dev/null", O_RDONLY), out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (setsid() < 0 || chdir("/") != 0 || empty < 0 || out < 0 || dup2(empty, 0) < 0 || dup2(out, 1) < 0 ||
        dup2(out, 2) < 0 || (keep >= 0 && keep != 3 && dup2(keep, 3) < 0))
        _exit(127);
    close_range(keep >= 0 ? 4 : 3, ~0u, 0);
}

ch_err ch_process_fork(const char *pid_file, const char *log, int keep, pid_t *child)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return CH_ERR_NO_MEMORY;
    if (pid == 0) {
        detach(log, keep);
        *child = 0;
        return CH_OK;
    }
    ch_err err = write_pid_file(pid_file, pid);
    if (err != CH_OK) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return err;
    }
    *child = pid;
    return CH_OK;
}
