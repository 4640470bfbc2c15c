/* base/pages.h - zeroed memory for large tables, in huge pages where the kernel gives them: a table looked up at random
 * otherwise misses the TLB each time, and faults once for every 4 KiB. Memory becomes resident as it is touched.
 *
 * Thread: any.
 */
#ifndef CHAPPE_BASE_PAGES_H
#define CHAPPE_BASE_PAGES_H

#include <stddef.h>

/* `bytes` zeroed bytes, page-aligned; NULL if there are none, or bytes is 0. */
void *ch_pages_alloc(size_t bytes);
/* NULL is fine; `bytes` as given to alloc. */
void ch_pages_free(void *pages, size_t bytes);

#endif
