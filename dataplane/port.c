#include "dataplane/port_kind.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

ch_err ch_port_fail(char why[CH_PORT_WHY_BYTES], ch_err err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, CH_PORT_WHY_BYTES, format, arguments);
    va_end(arguments);
    return err;
}

ch_err ch_port_init(struct ch_port *port, const struct ch_port_ops *ops, const struct ch_port_config *config,
                    char why[CH_PORT_WHY_BYTES])
{
    uint32_t mtu = config->mtu_bytes ? config->mtu_bytes : CH_PORT_MTU_BYTES;
    if (config->local_count < 1 || config->local_count > CH_PORT_LOCALS_MAX)
        return ch_port_fail(why, CH_ERR_INVALID, "a port needs 1 to %d local addresses", CH_PORT_LOCALS_MAX);
    if (mtu < 1280 || mtu > CH_PORT_MTU_BYTES)
        return ch_port_fail(why, CH_ERR_INVALID, "an MTU of %u bytes; 1280 to %d are possible", mtu, CH_PORT_MTU_BYTES);
    *port = (struct ch_port){.ops = ops,
                             .profile = config->profile,
                             .payload_bytes_max = mtu - CH_PORT_IP_UDP_BYTES,
                             .local_count = config->local_count};
    memcpy(port->locals, config->locals, config->local_count * sizeof *config->locals);
    port->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (port->wake_fd < 0)
        return ch_port_fail(why, CH_ERR_IO, "no eventfd: %m");
    return CH_OK;
}

void ch_port_fini(struct ch_port *port)
{
    if (port->wake_fd >= 0)
        close(port->wake_fd);
    port->wake_fd = -1;
}

void ch_port_close(struct ch_port *port)
{
    if (port)
        port->ops->close(port);
}

/* The owner sets `asleep` and then looks at `wake_wanted`; we set `wake_wanted` and then look at `asleep`. Sequentially
 * consistent accesses make sure that at least one of the two sees the other. */
void ch_port_wake(struct ch_port *port)
{
    if (atomic_exchange(&port->wake_wanted, 1) == 0 && atomic_load(&port->asleep)) {
        uint64_t one = 1;
        ssize_t written = write(port->wake_fd, &one, sizeof one);
        (void)written; /* fails only where the count would overflow: then it is readable anyway */
    }
}

const char *ch_port_counter_name(enum ch_port_counter counter)
{
    static const char *const names[] = {
#define X(name, text) #name,
        CH_PORT_COUNTER_LIST(X)
#undef X
    };
    return (size_t)counter < CH_PORT_COUNTER_COUNT ? names[counter] : NULL;
}

const char *ch_port_counter_text(enum ch_port_counter counter)
{
    static const char *const texts[] = {
#define X(name, text) text,
        CH_PORT_COUNTER_LIST(X)
#undef X
    };
    return (size_t)counter < CH_PORT_COUNTER_COUNT ? texts[counter] : NULL;
}

ch_err ch_port_profile_parse(const char *name, enum ch_port_profile *profile)
{
#define X(symbol, number, word, text)                                                                                  \
    if (strcmp(name, word) == 0) {                                                                                     \
        *profile = CH_PORT_##symbol;                                                                                   \
        return CH_OK;                                                                                                  \
    }
    CH_PORT_PROFILE_LIST(X)
#undef X
    return CH_ERR_NOT_FOUND;
}

const char *ch_port_profile_name(enum ch_port_profile profile)
{
    switch (profile) {
#define X(symbol, number, word, text)                                                                                  \
    case CH_PORT_##symbol:                                                                                             \
        return word;
        CH_PORT_PROFILE_LIST(X)
#undef X
    }
    return "unknown";
}
