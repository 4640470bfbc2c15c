/* store/io_impl.h - what an implementation of the seam fills in; store/io.c passes every call on. */
#ifndef CHAPPE_STORE_IO_IMPL_H
#define CHAPPE_STORE_IO_IMPL_H

#include "store/io.h"

struct ch_io_ops {
    ch_err (*open_another)(struct ch_io *, struct ch_io **);
    void (*close)(struct ch_io *);
    ch_err (*make_dir)(struct ch_io *, const char *);
    ch_err (*open)(struct ch_io *, const char *, unsigned, struct ch_file **);
    void (*close_file)(struct ch_io *, struct ch_file *);
    ch_err (*size)(struct ch_io *, struct ch_file *, uint64_t *);
    ch_err (*allocate)(struct ch_io *, struct ch_file *, uint64_t);
    ch_err (*truncate)(struct ch_io *, struct ch_file *, uint64_t);
    ch_err (*read)(struct ch_io *, struct ch_file *, void *, size_t, uint64_t, size_t *);
    void (*want)(struct ch_io *, struct ch_file *, size_t, uint64_t); /* NULL: nothing */
    ch_err (*write)(struct ch_io *, struct ch_file *, const void *, size_t, uint64_t);
    ch_err (*sync)(struct ch_io *, struct ch_file *);
    ch_err (*lock)(struct ch_io *, struct ch_file *);
    ch_err (*list)(struct ch_io *, const char *, void (*)(void *, const char *), void *);
    ch_err (*rename)(struct ch_io *, const char *, const char *);
    ch_err (*unlink)(struct ch_io *, const char *);
    ch_err (*sync_dir)(struct ch_io *, const char *);
    ch_err (*free_bytes)(struct ch_io *, const char *, uint64_t *);
    void (*register_memory)(struct ch_io *, void *, size_t);
    ch_err (*submit)(struct ch_io *, const struct ch_io_request *);
    size_t (*poll)(struct ch_io *, struct ch_io_done *, size_t);
    ch_err (*wait)(struct ch_io *);
    int (*fd)(const struct ch_io *);
};

/* First member of every implementation's state. */
struct ch_io {
    const struct ch_io_ops *ops;
};

#endif
