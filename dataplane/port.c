#include "dataplane/port.h"

#include <string.h>
#include <unistd.h>

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
