/* store/io_rados.h - a Ceph pool behind the seam (librados): a file is an object of the pool, its path the object's
 * name.
 *
 * What:    an answered write is durable on all replicas that the pool asks for, so a sync has nothing left to do.
 *          A file opened for writing belongs to this opening: what an earlier one still has on its way no longer
 *          changes it. ch_io_lock refuses (CH_ERR_BUSY) where another name has the lock, or a living process of the
 *          same name; one of the same name that does not answer is shut out of the cluster and can change nothing.
 * Not:     no folders, no rename; ch_io_allocate sets aside the pool's quota, not space of the cluster. Pools that
 *          refuse to overwrite (erasure coding without allow_ec_overwrites) won't do.
 * Thread:  as the seam says. librados has threads of its own; the caller blocks the signals that they shall not get.
 * Limits:  a file holds at most the cluster's osd_max_object_size (128 MiB by default).
 * Errors:  CH_ERR_TIMEOUT: the cluster did not answer in time. The call may have been done, or be done later; the same
 *          call may be made again. From then on blocking calls and reads fail with it at once, until the cluster is
 *          heard again; writes are tried each time. CH_ERR_POOL_FULL: the pool or the cluster is full; the same may be
 *          written again. CH_ERR_BUSY of a write: another has opened the file for writing. CH_ERR_DENIED: the user
 *          lacks a right (ch_io_lock: to shut others out), or was shut out itself.
 */
#ifndef CHAPPE_STORE_IO_RADOS_H
#define CHAPPE_STORE_IO_RADOS_H

#include "store/io.h"

struct ch_io_rados_options {
    const char *config; /* file with the monitors and the keyring (ceph.conf) */
    const char *user;   /* as in client.chappe, without "client." */
    const char *pool;
    const char *space;        /* namespace in the pool */
    const char *holder;       /* whose ch_io_lock it is */
    unsigned timeout_seconds; /* of each call */
};

/* Connects. CH_ERR_INVALID: the file can't be read or says what librados doesn't know. CH_ERR_TIMEOUT: no monitor
 * answered. CH_ERR_DENIED: the user has no keyring, or the key isn't theirs. CH_ERR_NOT_FOUND: no such pool.
 * CH_ERR_UNSUPPORTED: built without librados. */
CH_MUST_CHECK ch_err ch_io_rados_open(const struct ch_io_rados_options *options, struct ch_io **out);

#endif
