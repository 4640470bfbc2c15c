#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>

const char *ch_err_name(ch_err err)
{
    switch (err) {
#define X(name, number, text)                                                                                          \
    case number:                                                                                                       \
        return #name;
        CH_ERR_LIST(X)
#undef X
    }
    return "UNKNOWN";
}

const char *ch_err_text(ch_err err)
{
    switch (err) {
#define X(name, number, text)                                                                                          \
    case number:                                                                                                       \
        return text;
        CH_ERR_LIST(X)
#undef X
    }
    return "unknown error";
}

_Noreturn void ch_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "<0>chappe: assertion failed: %s (%s:%d)\n", condition, file, line);
    abort();
}
