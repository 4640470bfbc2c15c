/* crypto/keyfile.h - secrets on disk: one small file, 0600, its owner's alone, wrapped by a passphrase.
 *
 *   offset size field
 *   0      8    magic "chappek1"
 *   8      1    wrap: 0 plain, 1 passphrase
 *   9      1    purpose: CH_KEYFILE_*
 *   10     2    length of the secret, bytes
 *   12     4    Argon2id passes        (0 when plain)
 *   16     8    Argon2id memory, bytes (0 when plain)
 *   24     16   Argon2id salt          (0 when plain)
 *   40     32   public part: whatever may be read without the passphrase, such as the public key
 *   72     24   nonce
 *   96     ..   XChaCha20-Poly1305 of the secret; bytes [0, 96) are its associated data
 *
 * A plain file is sealed with a key of zeros, so damage is noticed in it too; it protects by its mode alone and is for
 * tests, devnets and machines whose disk is guarded otherwise.
 *
 * What:    writes atomically (temporary file, fsync, rename, fsync of the folder); reads only what nobody else can have
 *          read or put there: a regular file, no symbolic link, owned by this user, no bits for group and others.
 * Not:     no meaning of the secret (client/account.h, node/).
 * Thread:  no state, but for the entry at a terminal, which takes SIGINT, SIGTERM, SIGQUIT and SIGHUP for its time: one
 *          thread, before others run. Time: a passphrase costs about 0.1 s and 64 MiB on purpose.
 * Needs:   ch_sign_init before.
 */
#ifndef CHAPPE_CRYPTO_KEYFILE_H
#define CHAPPE_CRYPTO_KEYFILE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CH_KEYFILE_SECRET_BYTES_MAX 16384 /* an account with 400 rotated seal keys */
#define CH_KEYFILE_PUBLIC_BYTES     32
#define CH_PASSPHRASE_BYTES_MAX     1024
#define CH_KEYFILE_PASSES           3 /* RFC 9106 section 4, the second recommended option */
#define CH_KEYFILE_MEMORY_BYTES     (64u << 20)
#define CH_KEYFILE_PASSES_MAX       16         /* what a file may ask for when it is read: a forged header mustn't */
#define CH_KEYFILE_MEMORY_BYTES_MAX (1u << 30) /* hang the machine */

enum ch_keyfile_purpose {
    CH_KEYFILE_ACCOUNT = 1,   /* client/account.h */
    CH_KEYFILE_VALIDATOR = 2, /* an Ed25519 seed */
    CH_KEYFILE_MASTER = 3,    /* the object store's master key */
    CH_KEYFILE_REGISTRAR = 4, /* an Ed25519 seed */
};

/* Secret: ch_wipe it after use. */
struct ch_passphrase {
    size_t length; /* 0: none, the file is plain */
    char text[CH_PASSPHRASE_BYTES_MAX + 1];
};

/* Writes `secret` (1..CH_KEYFILE_SECRET_BYTES_MAX bytes) to `path`. A passphrase of length 0, or NULL, makes a plain
 * file. CH_ERR_EXISTS: there is a file and `replace` is false; else CH_ERR_IO, _DENIED, _NO_SPACE, _NOT_FOUND (no such
 * folder), _NO_MEMORY. On failure the old file, if any, is untouched. */
CH_MUST_CHECK ch_err ch_keyfile_write(const char *path, enum ch_keyfile_purpose purpose,
                                      const uint8_t public_part[CH_KEYFILE_PUBLIC_BYTES], const uint8_t *secret,
                                      size_t length, const struct ch_passphrase *passphrase, bool replace);

/* Reads the secret into `secret` of `capacity` bytes; *length says how many. The passphrase isn't looked at for a plain
 * file and may then be NULL.
 * CH_ERR_NOT_FOUND; CH_ERR_READABLE_BY_OTHERS; CH_ERR_DENIED: a symbolic link, another owner, not a regular file, or no
 * right to read; CH_ERR_INVALID: no key file, or one for another purpose; CH_ERR_BAD_PASSPHRASE: wrong, missing, or the
 * file is damaged; CH_ERR_FULL: longer than capacity; CH_ERR_NO_MEMORY, _IO. */
CH_MUST_CHECK ch_err ch_keyfile_read(const char *path, enum ch_keyfile_purpose purpose,
                                     const struct ch_passphrase *passphrase, uint8_t *secret, size_t capacity,
                                     size_t *length);

/* What can be known without the passphrase; not authenticated. Errors as ch_keyfile_read's. */
struct ch_keyfile_info {
    bool wrapped; /* by a passphrase */
    uint8_t public_part[CH_KEYFILE_PUBLIC_BYTES];
};
CH_MUST_CHECK ch_err ch_keyfile_inspect(const char *path, enum ch_keyfile_purpose purpose,
                                        struct ch_keyfile_info *info);

/* Where a passphrase comes from, in this order; never from an argument:
 *   1. `file`, when not NULL (an option --passphrase-file)
 *   2. the file that the environment's CHAPPE_PASSPHRASE_FILE names
 *   3. $CREDENTIALS_DIRECTORY/`credential`, when `credential` isn't NULL (systemd's LoadCredential=)
 *   4. the terminal, without echo, after showing `prompt`, when `prompt` isn't NULL; twice where `again` is set
 * The first that exists is taken; one trailing newline isn't part of it. A regular file of 1 and 2 must be as closed as
 * a key file; a pipe will do. CH_ERR_NOT_FOUND: none of them; CH_ERR_INVALID: empty, too long, holding a zero byte, or
 * the two entries differ; CH_ERR_READABLE_BY_OTHERS, _DENIED, _IO. */
CH_MUST_CHECK ch_err ch_passphrase_get(const char *file, const char *credential, const char *prompt, bool again,
                                       struct ch_passphrase *out);

#endif
