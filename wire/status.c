#include "wire/status.h"

const char *ch_status_name(uint16_t status)
{
    switch (status) {
#define X(name, number, text)                                                                                          \
    case number:                                                                                                       \
        return #name;
        CH_STATUS_LIST(X)
#undef X
    }
    return "UNKNOWN";
}

const char *ch_status_text(uint16_t status)
{
    switch (status) {
#define X(name, number, text)                                                                                          \
    case number:                                                                                                       \
        return text;
        CH_STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}
