/* base/time.h - the machine's clocks. The pure layers never call these; time comes to them as an argument. */
#ifndef CHAPPE_BASE_TIME_H
#define CHAPPE_BASE_TIME_H

#include <stdint.h>

uint64_t ch_time_monotonic_ns(void); /* CLOCK_MONOTONIC */
uint64_t ch_time_unix_ms(void);      /* CLOCK_REALTIME */

#endif
