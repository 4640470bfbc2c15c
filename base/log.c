#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

void ch_log(enum ch_log_level level, const char *format, ...)
{
    char line[1024];
    int used = snprintf(line, sizeof line, "<%d>", (int)level);
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + used, sizeof line - 1 - (size_t)used, format, args);
    va_end(args);
    if (more < 0)
        return;
    used += more;
    if (used > (int)sizeof line - 2)
        used = (int)sizeof line - 2;
    line[used++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, (size_t)used);
    (void)written; /* nowhere to report it */
}
