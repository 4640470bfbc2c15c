/* store/crc32c_impl.h - CRC-32C as RFC 3720 has it, by ISA-L: what every structure on the disk is checked with. */
#ifndef CHAPPE_STORE_CRC32C_IMPL_H
#define CHAPPE_STORE_CRC32C_IMPL_H

#include <isa-l.h>
#include <stddef.h>
#include <stdint.h>

static inline uint32_t crc32c(const void *data, size_t length)
{
    return ~crc32_iscsi((unsigned char *)(uintptr_t)data, (int)length, ~0u);
}

#endif
