#include "base/pages.h"

#include <sys/mman.h>

void *ch_pages_alloc(size_t bytes)
{
    if (bytes == 0)
        return NULL;
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED)
        return NULL;
    (void)madvise(pages, bytes, MADV_HUGEPAGE); /* without it, only slower */
    return pages;
}

void ch_pages_free(void *pages, size_t bytes)
{
    if (pages)
        munmap(pages, bytes);
}
