#include "crypto/keyfile.h"

#include "base/bytes.h"
#include "crypto/keyfile_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_BYTES   96
#define OFFSET_SALT    24
#define OFFSET_PUBLIC  40
#define OFFSET_NONCE   72
#define TAG_BYTES      crypto_aead_xchacha20poly1305_ietf_ABYTES
#define FILE_BYTES_MAX (HEADER_BYTES + CH_KEYFILE_SECRET_BYTES_MAX + TAG_BYTES)
#define KEY_BYTES      crypto_aead_xchacha20poly1305_ietf_KEYBYTES
#define PATH_BYTES_MAX 4096

enum wrap { WRAP_PLAIN = 0, WRAP_PASSPHRASE = 1 };

static const uint8_t magic[8] = {'c', 'h', 'a', 'p', 'p', 'e', 'k', '1'};

struct header {
    enum wrap wrap;
    uint8_t purpose;
    uint16_t secret_length;
    uint32_t passes;
    uint64_t memory_bytes;
    const uint8_t *salt, *public_part, *nonce;
};

ch_err ch_err_of_errno(int number)
{
    switch (number) {
    case ENOENT:
    case ENOTDIR:
        return CH_ERR_NOT_FOUND;
    case EACCES:
    case EPERM:
    case ELOOP: /* a symbolic link where O_NOFOLLOW forbids one */
    case EROFS:
        return CH_ERR_DENIED;
    case EEXIST:
        return CH_ERR_EXISTS;
    case ENOSPC:
    case EDQUOT:
        return CH_ERR_NO_SPACE;
    case ENOMEM:
        return CH_ERR_NO_MEMORY;
    default:
        return CH_ERR_IO;
    }
}

ch_err ch_read_all(int fd, uint8_t *to, size_t capacity, size_t *length)
{
    size_t have = 0;
    while (have < capacity) {
        ssize_t n = read(fd, to + have, capacity - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return ch_err_of_errno(errno);
        if (n == 0)
            break;
        have += (size_t)n;
    }
    *length = have;
    return CH_OK;
}

ch_err ch_check_private(int fd, bool regular_only)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return ch_err_of_errno(errno);
    if (!S_ISREG(st.st_mode))
        return regular_only ? CH_ERR_DENIED : CH_OK;
    if (st.st_uid != geteuid())
        return CH_ERR_DENIED;
    return st.st_mode & (S_IRWXG | S_IRWXO) ? CH_ERR_READABLE_BY_OTHERS : CH_OK;
}

static bool header_parse(const uint8_t *file, size_t file_length, struct header *h)
{
    struct ch_reader r = ch_reader(file, file_length);
    const uint8_t *seen = ch_read(&r, sizeof magic);
    if (!seen || memcmp(seen, magic, sizeof magic) != 0)
        return false;
    uint8_t wrap = ch_read8(&r);
    h->wrap = wrap == WRAP_PASSPHRASE ? WRAP_PASSPHRASE : WRAP_PLAIN;
    h->purpose = ch_read8(&r);
    h->secret_length = ch_read16(&r);
    h->passes = ch_read32(&r);
    h->memory_bytes = ch_read64(&r);
    h->salt = ch_read(&r, crypto_pwhash_SALTBYTES);
    h->public_part = ch_read(&r, CH_KEYFILE_PUBLIC_BYTES);
    h->nonce = ch_read(&r, crypto_aead_xchacha20poly1305_ietf_NPUBBYTES);
    if (r.bad || wrap > WRAP_PASSPHRASE || h->secret_length == 0 || h->secret_length > CH_KEYFILE_SECRET_BYTES_MAX ||
        file_length != HEADER_BYTES + (size_t)h->secret_length + TAG_BYTES)
        return false;
    return h->wrap == WRAP_PLAIN ||
           (h->passes >= crypto_pwhash_argon2id_OPSLIMIT_MIN && h->passes <= CH_KEYFILE_PASSES_MAX &&
            h->memory_bytes >= crypto_pwhash_argon2id_MEMLIMIT_MIN && h->memory_bytes <= CH_KEYFILE_MEMORY_BYTES_MAX);
}

static ch_err wrapping_key(const struct header *h, const struct ch_passphrase *passphrase, uint8_t key[KEY_BYTES])
{
    memset(key, 0, KEY_BYTES);
    if (h->wrap == WRAP_PLAIN)
        return CH_OK;
    if (!passphrase || passphrase->length == 0)
        return CH_ERR_BAD_PASSPHRASE;
    if (crypto_pwhash(key, KEY_BYTES, passphrase->text, passphrase->length, h->salt, h->passes, (size_t)h->memory_bytes,
                      crypto_pwhash_ALG_ARGON2ID13) != 0)
        return CH_ERR_NO_MEMORY;
    return CH_OK;
}

/* A whole key file in memory; `file` holds FILE_BYTES_MAX. */
static ch_err seal(enum ch_keyfile_purpose purpose, const uint8_t public_part[CH_KEYFILE_PUBLIC_BYTES],
                   const uint8_t *secret, size_t length, const struct ch_passphrase *passphrase, uint8_t *file,
                   size_t *file_length)
{
    bool wrapped = passphrase && passphrase->length > 0;
    memset(file, 0, HEADER_BYTES);
    memcpy(file, magic, sizeof magic);
    file[8] = wrapped ? WRAP_PASSPHRASE : WRAP_PLAIN;
    file[9] = (uint8_t)purpose;
    ch_store16(file + 10, (uint16_t)length);
    if (wrapped) {
        ch_store32(file + 12, CH_KEYFILE_PASSES);
        ch_store64(file + 16, CH_KEYFILE_MEMORY_BYTES);
        randombytes_buf(file + OFFSET_SALT, crypto_pwhash_SALTBYTES);
    }
    memcpy(file + OFFSET_PUBLIC, public_part, CH_KEYFILE_PUBLIC_BYTES);
    randombytes_buf(file + OFFSET_NONCE, crypto_aead_xchacha20poly1305_ietf_NPUBBYTES);

    struct header h;
    CH_ASSERT(header_parse(file, HEADER_BYTES + length + TAG_BYTES, &h));
    uint8_t key[KEY_BYTES];
    ch_err err = wrapping_key(&h, passphrase, key);
    if (err == CH_OK) {
        crypto_aead_xchacha20poly1305_ietf_encrypt(file + HEADER_BYTES, NULL, secret, length, file, HEADER_BYTES, NULL,
                                                   h.nonce, key);
        *file_length = HEADER_BYTES + length + TAG_BYTES;
    }
    sodium_memzero(key, sizeof key);
    return err;
}

static ch_err write_synced(int fd, const uint8_t *bytes, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = write(fd, bytes + done, length - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return ch_err_of_errno(errno);
        done += (size_t)n;
    }
    return fsync(fd) == 0 ? CH_OK : ch_err_of_errno(errno);
}

ch_err ch_keyfile_write(const char *path, enum ch_keyfile_purpose purpose,
                        const uint8_t public_part[CH_KEYFILE_PUBLIC_BYTES], const uint8_t *secret, size_t length,
                        const struct ch_passphrase *passphrase, bool replace)
{
    CH_ASSERT(length >= 1 && length <= CH_KEYFILE_SECRET_BYTES_MAX);
    uint8_t file[FILE_BYTES_MAX];
    size_t file_length;
    char folder[PATH_BYTES_MAX], temporary[PATH_BYTES_MAX];
    if (snprintf(folder, sizeof folder, "%s", path) >= (int)sizeof folder ||
        snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= (int)sizeof temporary)
        return CH_ERR_INVALID;
    ch_err err = seal(purpose, public_part, secret, length, passphrase, file, &file_length);
    if (err != CH_OK)
        return err;

    int folder_fd = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0)
        return ch_err_of_errno(errno);
    int fd = mkostemp(temporary, O_CLOEXEC); /* 0600 */
    if (fd < 0) {
        err = ch_err_of_errno(errno);
        goto done;
    }
    err = write_synced(fd, file, file_length);
    if (close(fd) != 0 && err == CH_OK)
        err = ch_err_of_errno(errno);
    if (err == CH_OK && renameat2(AT_FDCWD, temporary, AT_FDCWD, path, replace ? 0 : RENAME_NOREPLACE) != 0)
        err = ch_err_of_errno(errno);
    if (err != CH_OK)
        (void)unlink(temporary);
    else if (fsync(folder_fd) != 0)
        err = ch_err_of_errno(errno);
done:
    (void)close(folder_fd);
    return err;
}

/* The checked bytes of a key file; `file` holds FILE_BYTES_MAX. */
static ch_err load(const char *path, enum ch_keyfile_purpose purpose, uint8_t *file, struct header *h)
{
    size_t length = 0;
    uint8_t beyond;
    size_t more = 0;
    /* Non-blocking, so that a FIFO put in the file's place can't hold us. */
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return ch_err_of_errno(errno);
    ch_err err = ch_check_private(fd, true);
    if (err == CH_OK)
        err = ch_read_all(fd, file, FILE_BYTES_MAX, &length);
    if (err == CH_OK && length == FILE_BYTES_MAX)
        err = ch_read_all(fd, &beyond, 1, &more);
    (void)close(fd);
    if (err != CH_OK)
        return err;
    if (more || !header_parse(file, length, h) || h->purpose != purpose)
        return CH_ERR_INVALID;
    return CH_OK;
}

ch_err ch_keyfile_read(const char *path, enum ch_keyfile_purpose purpose, const struct ch_passphrase *passphrase,
                       uint8_t *secret, size_t capacity, size_t *length)
{
    uint8_t file[FILE_BYTES_MAX], key[KEY_BYTES], opened[CH_KEYFILE_SECRET_BYTES_MAX];
    struct header h;
    ch_err err = load(path, purpose, file, &h);
    if (err != CH_OK)
        return err;
    if (h.secret_length > capacity)
        return CH_ERR_FULL;
    err = wrapping_key(&h, passphrase, key);
    if (err == CH_OK && crypto_aead_xchacha20poly1305_ietf_decrypt(opened, NULL, NULL, file + HEADER_BYTES,
                                                                   (unsigned long long)h.secret_length + TAG_BYTES,
                                                                   file, HEADER_BYTES, h.nonce, key) != 0)
        err = CH_ERR_BAD_PASSPHRASE;
    if (err == CH_OK) {
        memcpy(secret, opened, h.secret_length);
        *length = h.secret_length;
    }
    sodium_memzero(key, sizeof key);
    sodium_memzero(opened, sizeof opened);
    return err;
}

ch_err ch_keyfile_inspect(const char *path, enum ch_keyfile_purpose purpose, struct ch_keyfile_info *info)
{
    uint8_t file[FILE_BYTES_MAX];
    struct header h;
    ch_err err = load(path, purpose, file, &h);
    if (err != CH_OK)
        return err;
    info->wrapped = h.wrap == WRAP_PASSPHRASE;
    memcpy(info->public_part, h.public_part, CH_KEYFILE_PUBLIC_BYTES);
    return CH_OK;
}
