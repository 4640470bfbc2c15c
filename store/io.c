#include "store/io.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "store/io_impl.h"

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

ch_err ch_io_open_another(struct ch_io *io, struct ch_io **out)
{
    return io->ops->open_another(io, out);
}

void ch_io_close(struct ch_io *io)
{
    if (io)
        io->ops->close(io);
}

ch_err ch_io_make_dir(struct ch_io *io, const char *path)
{
    return io->ops->make_dir(io, path);
}

ch_err ch_io_open(struct ch_io *io, const char *path, unsigned flags, struct ch_file **out)
{
    CH_ASSERT((flags & CH_IO_WRITE) || !(flags & CH_IO_CREATE));
    return io->ops->open(io, path, flags, out);
}

void ch_io_close_file(struct ch_io *io, struct ch_file *file)
{
    if (file)
        io->ops->close_file(io, file);
}

ch_err ch_io_size(struct ch_io *io, struct ch_file *file, uint64_t *bytes)
{
    return io->ops->size(io, file, bytes);
}

ch_err ch_io_allocate(struct ch_io *io, struct ch_file *file, uint64_t bytes)
{
    return io->ops->allocate(io, file, bytes);
}

ch_err ch_io_truncate(struct ch_io *io, struct ch_file *file, uint64_t bytes)
{
    return io->ops->truncate(io, file, bytes);
}

ch_err ch_io_read(struct ch_io *io, struct ch_file *file, void *to, size_t length, uint64_t offset, size_t *got)
{
    return io->ops->read(io, file, to, length, offset, got);
}

void ch_io_want(struct ch_io *io, struct ch_file *file, size_t length, uint64_t offset)
{
    if (io->ops->want)
        io->ops->want(io, file, length, offset);
}

ch_err ch_io_write(struct ch_io *io, struct ch_file *file, const void *from, size_t length, uint64_t offset)
{
    return io->ops->write(io, file, from, length, offset);
}

ch_err ch_io_sync(struct ch_io *io, struct ch_file *file)
{
    return io->ops->sync(io, file);
}

ch_err ch_io_lock(struct ch_io *io, struct ch_file *file)
{
    return io->ops->lock(io, file);
}

ch_err ch_io_list(struct ch_io *io, const char *dir, void (*each)(void *context, const char *name), void *context)
{
    return io->ops->list(io, dir, each, context);
}

ch_err ch_io_rename(struct ch_io *io, const char *from, const char *to)
{
    return io->ops->rename(io, from, to);
}

ch_err ch_io_unlink(struct ch_io *io, const char *path)
{
    return io->ops->unlink(io, path);
}

ch_err ch_io_sync_dir(struct ch_io *io, const char *dir)
{
    return io->ops->sync_dir(io, dir);
}

ch_err ch_io_free_bytes(struct ch_io *io, const char *dir, uint64_t *bytes)
{
    return io->ops->free_bytes(io, dir, bytes);
}

static size_t in_units(size_t bytes, size_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

/* Mapped: malloc would take a hole as large again for the alignment, and seldom find it again (glibc bug 14581). */
void *ch_io_memory(size_t bytes)
{
    const bool large = bytes > HUGE_PAGE_BYTES / 2;
    const size_t unit = large ? HUGE_PAGE_BYTES : CH_IO_BLOCK_BYTES, whole = in_units(bytes, unit);
    const size_t more = large ? HUGE_PAGE_BYTES : 0;
    uint8_t *mapped = mmap(NULL, whole + more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    const size_t before = in_units((uintptr_t)mapped, unit) - (uintptr_t)mapped;
    if (before)
        (void)munmap(mapped, before);
    if (more > before)
        (void)munmap(mapped + before + whole, more - before);
    if (large)
        (void)madvise(mapped + before, whole, MADV_HUGEPAGE);
    memset(mapped + before, 0, whole); /* it is there before it is used */
    return mapped + before;
}

void ch_io_memory_free(void *memory, size_t bytes)
{
    if (memory)
        (void)munmap(memory, in_units(bytes, bytes > HUGE_PAGE_BYTES / 2 ? HUGE_PAGE_BYTES : CH_IO_BLOCK_BYTES));
}

void ch_io_copy(void *to, const void *from, size_t bytes)
{
#ifdef __SSE2__
    uint8_t *t = to;
    const uint8_t *f = from;
    if ((uintptr_t)t % 64 == 0) {
        for (; bytes >= 64; bytes -= 64, t += 64, f += 64)
            for (int i = 0; i < 64; i += 16)
                _mm_stream_si128((__m128i *)(void *)(t + i), _mm_loadu_si128((const __m128i *)(const void *)(f + i)));
        _mm_sfence();
    }
    memcpy(t, f, bytes);
#else
    memcpy(to, from, bytes);
#endif
}

void ch_io_register(struct ch_io *io, void *memory, size_t bytes)
{
    CH_ASSERT((uintptr_t)memory % CH_IO_BLOCK_BYTES == 0 && bytes <= (size_t)1 << 30);
    io->ops->register_memory(io, memory, bytes);
}

ch_err ch_io_submit(struct ch_io *io, const struct ch_io_request *request)
{
    CH_ASSERT((!request->then_sync && !request->after_sync_of) || request->kind == CH_IO_OP_WRITE);
    return io->ops->submit(io, request);
}

size_t ch_io_poll(struct ch_io *io, struct ch_io_done *done, size_t max)
{
    return io->ops->poll(io, done, max);
}

ch_err ch_io_wait(struct ch_io *io)
{
    return io->ops->wait(io);
}

int ch_io_fd(const struct ch_io *io)
{
    return io->ops->fd(io);
}
