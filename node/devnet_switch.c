#include "node/devnet_switch.h"

#include "base/prng.h"
#include "base/time.h"
#include "node/devnet_process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOST_FD            100 /* where the switch keeps the namespace of host 0; host i's is i further */
#define READY_FD           3   /* where it tells its parent: "ok", or what went wrong */
#define FRAME_BYTES_MAX    2048
#define FRAMES_WAITING_MAX 8192
#define BURST              64 /* frames of one cable before the others have their turn */
#define SOCKET_BYTES       (4 << 20)
#define PATH_BYTES_MAX     512
#define REQUEST_BYTES_MAX  64

struct frame {
    struct frame *next;
    uint64_t due_ns;
    size_t length;
    uint8_t bytes[];
};

struct link {
    bool cut;
    uint32_t loss_percent, delay_ms;
    uint32_t waiting;
    uint64_t lost;
    struct frame *first, **last;
};

struct ethernet_switch {
    uint32_t hosts;
    int cables[CH_SWITCH_HOSTS_MAX]; /* packet sockets */
    int control;
    uint32_t waiting;
    uint64_t passed;
    struct ch_prng prng;
    struct link links[CH_SWITCH_HOSTS_MAX][CH_SWITCH_HOSTS_MAX]; /* [from][to] */
};

/* Locally administered addresses with the host's number in the last byte, so there is nothing to learn. */
static const uint8_t mac_prefix[5] = {0x02, 0xc4, 0xa9, 0x9e, 0x00};

__attribute__((noreturn, format(printf, 1, 2))) static void give_up(const char *format, ...)
{
    char text[256];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    if (write(READY_FD, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1) < 0)
        fprintf(stderr, "%s\n", text);
    _exit(1);
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
    if (n < 0)
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* One of iproute2's or ethtool's commands; its words are split at blanks. */
__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
    char text[256], *words[32], *rest = text;
    int count = 0, status = 0;
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    char whole[256];
    snprintf(whole, sizeof whole, "%s", text);
    while (count < 31 && (words[count] = strsep(&rest, " ")))
        count++;
    words[count] = NULL;
    pid_t pid = fork();
    if (pid == 0) {
        execvp(words[0], words);
        fprintf(stderr, "%s: %s\n", words[0], strerror(errno));
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        give_up("`%s` failed; see the switch's log", whole);
}

static void enter_fd(int fd)
{
    if (setns(fd, CLONE_NEWNET) != 0)
        give_up("no network namespace: %s", strerror(errno));
}

static void new_network(void)
{
    if (unshare(CLONE_NEWNET) != 0)
        give_up("no network namespace: %s", strerror(errno));
    write_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
}

/* Without root: a user namespace in which this user is root. */
static void become_root(void)
{
    char map[64];
    unsigned user = geteuid(), group = getegid();
    if (user == 0 && unshare(CLONE_NEWNET) == 0)
        return;
    if (unshare(CLONE_NEWUSER) != 0)
        give_up("neither root nor user namespaces: %s", strerror(errno));
    write_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "0 %u 1", user);
    write_file("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "0 %u 1", group);
    write_file("/proc/self/gid_map", map);
}

/* Hosts and cables: the namespaces are made first, then the cables from the switch's own into them. */
static void lay_cables(struct ethernet_switch *s)
{
    char paths[1024];
    const char *given = getenv("PATH");
    snprintf(paths, sizeof paths, "%s:/usr/sbin:/sbin", given ? given : "/usr/bin"); /* ethtool is only there */
    setenv("PATH", paths, 1);
    become_root();
    for (uint32_t i = 0; i <= s->hosts; i++) { /* the last one is the switch's own */
        new_network();
        int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (fd < 0 || dup2(fd, HOST_FD + (int)i) < 0) /* not closed on exec: the commands below need them */
            give_up("no network namespace: %s", strerror(errno));
        close(fd);
    }
    for (uint32_t i = 0; i < s->hosts; i++) {
        const char *interface = i ? CH_SWITCH_INTERFACE : "people0";
        run("ip link add cable%u type veth peer name %s address %02x:%02x:%02x:%02x:%02x:%02x netns /proc/self/fd/%d",
            i, interface, mac_prefix[0], mac_prefix[1], mac_prefix[2], mac_prefix[3], mac_prefix[4], i,
            HOST_FD + (int)i);
        enter_fd(HOST_FD + (int)i);
        run("ip link set lo up");
        if (i == 0) {
            /* The kernel leaves checksums and segmentation to a device that a virtual cable doesn't have. */
            run("ethtool -K people0 tx off gso off tso off gro off");
            run("ip addr add %s254/24 dev people0", CH_SWITCH_NETWORK);
        }
        run("ip link set %s up", interface);
        enter_fd(HOST_FD + (int)s->hosts);
        run("ip link set cable%u up", i);
    }
}

static int open_cable(uint32_t host)
{
    char name[IF_NAMESIZE];
    snprintf(name, sizeof name, "cable%u", host);
    struct sockaddr_ll where = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(name)};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), bytes = SOCKET_BYTES;
    if (fd < 0 || bind(fd, (struct sockaddr *)&where, sizeof where) != 0)
        give_up("no packet socket on %s: %s", name, strerror(errno));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    return fd;
}

static int open_control(const char *folder)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof address.sun_path, "%s/control", folder);
    if (n < 0 || (size_t)n >= sizeof address.sun_path)
        give_up("%s: the path is too long", folder);
    (void)unlink(address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    umask(0177);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 8) != 0)
        give_up("%s: %s", address.sun_path, strerror(errno));
    return fd;
}

static void emit(struct ethernet_switch *s, uint32_t to, const uint8_t *bytes, size_t length, struct link *link)
{
    if (send(s->cables[to], bytes, length, MSG_DONTWAIT) == (ssize_t)length)
        s->passed++;
    else
        link->lost++;
}

static void pass(struct ethernet_switch *s, uint32_t from, uint32_t to, const uint8_t *bytes, size_t length)
{
    struct link *link = &s->links[from][to];
    if (link->cut || (link->loss_percent && ch_prng_below(&s->prng, 100) < link->loss_percent)) {
        link->lost++;
        return;
    }
    if (!link->delay_ms && !link->first) {
        emit(s, to, bytes, length, link);
        return;
    }
    struct frame *frame = link->waiting < FRAMES_WAITING_MAX ? malloc(sizeof *frame + length) : NULL;
    if (!frame) {
        link->lost++;
        return;
    }
    *frame = (struct frame){.due_ns = ch_time_monotonic_ns() + link->delay_ms * UINT64_C(1000000), .length = length};
    memcpy(frame->bytes, bytes, length);
    if (!link->first)
        link->last = &link->first;
    *link->last = frame;
    link->last = &frame->next;
    link->waiting++;
    s->waiting++;
}

static void take_frames(struct ethernet_switch *s, uint32_t from)
{
    uint8_t bytes[FRAME_BYTES_MAX];
    for (int i = 0; i < BURST; i++) {
        ssize_t length = recv(s->cables[from], bytes, sizeof bytes, MSG_DONTWAIT | MSG_TRUNC);
        if (length < ETH_HLEN)
            return;
        if (length > (ssize_t)sizeof bytes)
            continue;
        if (bytes[0] & 1) { /* to all */
            for (uint32_t to = 0; to < s->hosts; to++)
                if (to != from)
                    pass(s, from, to, bytes, (size_t)length);
        } else if (memcmp(bytes, mac_prefix, sizeof mac_prefix) == 0 && bytes[5] < s->hosts && bytes[5] != from) {
            pass(s, from, bytes[5], bytes, (size_t)length);
        }
    }
}

/* Hands on what has waited long enough; gives when the next one is due, 0 for none. */
static uint64_t deliver(struct ethernet_switch *s)
{
    uint64_t now = ch_time_monotonic_ns(), next = 0;
    if (!s->waiting)
        return 0;
    for (uint32_t from = 0; from < s->hosts; from++)
        for (uint32_t to = 0; to < s->hosts; to++) {
            struct link *link = &s->links[from][to];
            for (struct frame *frame; (frame = link->first) && frame->due_ns <= now;) {
                link->first = frame->next;
                link->waiting--;
                s->waiting--;
                emit(s, to, frame->bytes, frame->length, link);
                free(frame);
            }
            if (link->first && (!next || link->first->due_ns < next))
                next = link->first->due_ns;
        }
    return next;
}

static json_t *status(const struct ethernet_switch *s)
{
    json_t *links = json_array();
    for (uint32_t from = 0; from < s->hosts; from++)
        for (uint32_t to = 0; to < s->hosts; to++) {
            const struct link *link = &s->links[from][to];
            if (link->cut || link->loss_percent || link->delay_ms)
                json_array_append_new(links,
                                      json_pack("{s:i, s:i, s:b, s:i, s:i, s:I}", "from", (int)from, "to", (int)to,
                                                "cut", (int)link->cut, "loss_percent", (int)link->loss_percent,
                                                "delay_ms", (int)link->delay_ms, "lost", (json_int_t)link->lost));
        }
    return json_pack("{s:i, s:I, s:o}", "pid", (int)getpid(), "frames_passed", (json_int_t)s->passed, "links", links);
}

static json_t *answer_to(struct ethernet_switch *s, const char *request)
{
    char verb[8] = "";
    unsigned from = 0, to = 0, value = 0;
    int given = sscanf(request, "%7s %u %u %u", verb, &from, &to, &value);
    if (given == 1 && strcmp(verb, "heal") == 0) {
        for (from = 0; from < s->hosts; from++)
            for (to = 0; to < s->hosts; to++) {
                struct link *link = &s->links[from][to];
                link->cut = false;
                link->loss_percent = link->delay_ms = 0;
            }
    } else if (given >= 3 && from < s->hosts && to < s->hosts && from != to) {
        struct link *link = &s->links[from][to];
        if (given == 3 && strcmp(verb, "cut") == 0)
            link->cut = true;
        else if (given == 4 && strcmp(verb, "loss") == 0 && value <= 100)
            link->loss_percent = value;
        else if (given == 4 && strcmp(verb, "delay") == 0 && value <= CH_SWITCH_DELAY_MS_MAX)
            link->delay_ms = value;
        else
            return json_pack("{s:s}", "error", "unknown request");
    } else if (given != 1 || strcmp(verb, "status") != 0) {
        return json_pack("{s:s}", "error", "unknown request");
    }
    return status(s);
}

static void answer(struct ethernet_switch *s)
{
    int fd = accept4(s->control, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct timeval patience = {.tv_sec = 1};
    char request[REQUEST_BYTES_MAX] = "";
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (recv(fd, request, sizeof request - 1, 0) > 0) {
        json_t *told = answer_to(s, request);
        char *text = json_dumps(told, JSON_COMPACT);
        if (text && send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
            fprintf(stderr, "an answer did not arrive: %s\n", strerror(errno));
        free(text);
        json_decref(told);
    }
    close(fd);
}

__attribute__((noreturn)) static void serve(const char *folder, uint32_t validators)
{
    static struct ethernet_switch s;
    struct pollfd fds[CH_SWITCH_HOSTS_MAX + 1];
    s.hosts = validators + 1;
    ch_prng_seed(&s.prng, ch_time_monotonic_ns());
    lay_cables(&s);
    for (uint32_t i = 0; i < s.hosts; i++)
        fds[i] = (struct pollfd){.fd = s.cables[i] = open_cable(i), .events = POLLIN};
    s.control = open_control(folder);
    fds[s.hosts] = (struct pollfd){.fd = s.control, .events = POLLIN};
    if (write(READY_FD, "ok", 2) != 2)
        _exit(1); /* who started us is gone */
    close(READY_FD);
    for (;;) {
        uint64_t due_ns = deliver(&s), now = ch_time_monotonic_ns(), wait_ns = due_ns > now ? due_ns - now : 0;
        struct timespec wait = {.tv_sec = (time_t)(wait_ns / 1000000000), .tv_nsec = (long)(wait_ns % 1000000000)};
        if (ppoll(fds, s.hosts + 1, due_ns ? &wait : NULL, NULL) <= 0)
            continue;
        for (uint32_t i = 0; i < s.hosts; i++)
            if (fds[i].revents)
                take_frames(&s, i);
        if (fds[s.hosts].revents)
            answer(&s);
    }
}

static const char *pid_file(const char *folder, char path[PATH_BYTES_MAX])
{
    snprintf(path, PATH_BYTES_MAX, "%s/pid", folder);
    return path;
}

ch_err ch_switch_start(const char *folder, uint32_t validators, char *why, size_t why_bytes)
{
    char pid[PATH_BYTES_MAX], log[PATH_BYTES_MAX];
    int pipe_fds[2];
    pid_t child;
    if (validators >= CH_SWITCH_HOSTS_MAX || (mkdir(folder, 0700) != 0 && errno != EEXIST) ||
        pipe2(pipe_fds, O_CLOEXEC) != 0) {
        snprintf(why, why_bytes, "%s: %s", folder, strerror(errno));
        return CH_ERR_IO;
    }
    snprintf(log, sizeof log, "%s/log", folder);
    ch_err err = ch_process_fork(pid_file(folder, pid), log, pipe_fds[1], &child);
    if (err == CH_OK && child == 0)
        serve(folder, validators);
    close(pipe_fds[1]);
    ssize_t n = err == CH_OK ? read(pipe_fds[0], why, why_bytes - 1) : 0;
    close(pipe_fds[0]);
    why[n > 0 ? n : 0] = 0;
    if (n == 2 && memcmp(why, "ok", 2) == 0)
        return CH_OK;
    if (n <= 0)
        snprintf(why, why_bytes, "the switch did not start; see %s", log);
    return CH_ERR_UNSUPPORTED;
}

bool ch_switch_runs(const char *folder)
{
    char path[PATH_BYTES_MAX];
    struct ch_process process;
    if (!ch_process_find(pid_file(folder, path), &process))
        return false;
    ch_process_forget(&process);
    return true;
}

ch_err ch_switch_stop(const char *folder)
{
    char path[PATH_BYTES_MAX];
    struct ch_process process;
    if (!ch_process_find(pid_file(folder, path), &process))
        return CH_OK;
    ch_err err = ch_process_signal(&process, SIGKILL);
    if (err == CH_OK && !ch_process_ended(&process, 5000))
        err = CH_ERR_TIMEOUT;
    ch_process_forget(&process);
    (void)unlink(path);
    snprintf(path, sizeof path, "%s/control", folder);
    (void)unlink(path);
    return err;
}

/* A process can't set its own user namespace again, so only another one is entered. */
static bool in_its_user_namespace(pid_t pid)
{
    char path[64];
    struct stat ours, its;
    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
    return stat("/proc/self/ns/user", &ours) == 0 && stat(path, &its) == 0 && ours.st_ino == its.st_ino;
}

ch_err ch_switch_enter(const char *folder, uint32_t host)
{
    char path[PATH_BYTES_MAX];
    struct ch_process process;
    if (!ch_process_find(pid_file(folder, path), &process))
        return CH_ERR_NOT_FOUND;
    ch_err err = CH_OK;
    if (!in_its_user_namespace(process.pid) && setns(process.fd, CLONE_NEWUSER) != 0)
        err = CH_ERR_DENIED;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)process.pid, HOST_FD + (int)host);
    int fd = err == CH_OK ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (err == CH_OK && (fd < 0 || setns(fd, CLONE_NEWNET) != 0))
        err = CH_ERR_DENIED;
    if (fd >= 0)
        close(fd);
    ch_process_forget(&process);
    return err;
}
