/* base/log.h - lines for the operator, on stderr, with the priority prefixes that journald reads.
 *
 * Only programs log; the layers below return errors. Never once per packet. Thread: any; a line is one write.
 */
#ifndef CHAPPE_BASE_LOG_H
#define CHAPPE_BASE_LOG_H

enum ch_log_level { CH_LOG_ERROR = 3, CH_LOG_WARNING = 4, CH_LOG_NOTICE = 5, CH_LOG_INFO = 6, CH_LOG_DEBUG = 7 };

__attribute__((format(printf, 2, 3))) void ch_log(enum ch_log_level level, const char *format, ...);

#endif
