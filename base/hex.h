/* base/hex.h - bytes as hexadecimal digits. Writes lower case, reads both. Thread: no state. */
#ifndef CHAPPE_BASE_HEX_H
#define CHAPPE_BASE_HEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `text` holds 2 * length + 1; returns it. */
static inline char *ch_hex_write(const uint8_t *bytes, size_t length, char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < length; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * length] = 0;
    return text;
}

static inline int ch_hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* False unless `text` is exactly 2 * length digits; `bytes` is written as far as it was one then. */
static inline bool ch_hex_read(const char *text, uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        int high = ch_hex_digit(text[2 * i]), low = high < 0 ? -1 : ch_hex_digit(text[2 * i + 1]);
        if (low < 0)
            return false;
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return text[2 * length] == 0;
}

#endif
