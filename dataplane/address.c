#include "dataplane/address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>

/* A decimal number up to `most` that is all of `text`. */
static bool parse_number(const char *text, unsigned long most, unsigned long *out)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 9 || text[digits])
        return false;
    *out = strtoul(text, NULL, 10);
    return *out <= most;
}

/* Cuts `text` at the last `mark`, if there is one, and parses the number behind it. */
static bool cut_number(char *text, char mark, unsigned long most, unsigned long *out)
{
    char *at = strrchr(text, mark);
    if (!at)
        return true;
    *at = 0;
    return parse_number(at + 1, most, out);
}

ch_err ch_address_parse(const char *text, struct ch_address *out, uint8_t *prefix_bits)
{
    char copy[CH_ADDRESS_TEXT_BYTES + 4], *ip = copy;
    unsigned long port = 0, bits = ~0ul;
    if (strlen(text) >= sizeof copy)
        return CH_ERR_INVALID;
    strcpy(copy, text);

    char *bracket = strchr(copy, ']');
    if (copy[0] == '[') {
        if (!bracket || (bracket[1] && bracket[1] != ':' && bracket[1] != '/') ||
            !cut_number(bracket, ':', 65535, &port) || !cut_number(bracket, '/', 128, &bits) || bracket[1])
            return CH_ERR_INVALID;
        *bracket = 0;
        ip = copy + 1;
    } else {
        char *colon = strchr(copy, ':');
        if (colon && !strchr(colon + 1, ':') && !cut_number(copy, ':', 65535, &port))
            return CH_ERR_INVALID;
        if (!cut_number(copy, '/', 128, &bits))
            return CH_ERR_INVALID;
    }
    if (bits != ~0ul && !prefix_bits)
        return CH_ERR_INVALID;

    struct ch_address address = {.port = (uint16_t)port};
    unsigned long scope = 0;
    char *percent = strchr(ip, '%');
    if (percent) {
        *percent = 0;
        scope = if_nametoindex(percent + 1);
        if (scope == 0 && !parse_number(percent + 1, UINT32_MAX, &scope))
            return CH_ERR_INVALID;
    }
    struct in_addr in4;
    if (inet_pton(AF_INET, ip, &in4) == 1 && copy[0] != '[' && !percent)
        address = ch_address_from4(&in4, (uint16_t)port);
    else if (inet_pton(AF_INET6, ip, address.ip) != 1)
        return CH_ERR_INVALID;
    address.scope = (uint32_t)scope;
    unsigned long most = ch_address_is4(&address) ? 32 : 128;
    if (bits != ~0ul && bits > most)
        return CH_ERR_INVALID;
    if (prefix_bits)
        *prefix_bits = (uint8_t)(bits == ~0ul ? most : bits);
    *out = address;
    return CH_OK;
}

const char *ch_address_format(const struct ch_address *address, char text[CH_ADDRESS_TEXT_BYTES])
{
    char ip[INET6_ADDRSTRLEN];
    if (ch_address_is4(address)) {
        inet_ntop(AF_INET, address->ip + 12, ip, sizeof ip);
        snprintf(text, CH_ADDRESS_TEXT_BYTES, "%s:%u", ip, address->port);
        return text;
    }
    inet_ntop(AF_INET6, address->ip, ip, sizeof ip);
    if (address->scope)
        snprintf(text, CH_ADDRESS_TEXT_BYTES, "[%s%%%u]:%u", ip, address->scope, address->port);
    else
        snprintf(text, CH_ADDRESS_TEXT_BYTES, "[%s]:%u", ip, address->port);
    return text;
}

bool ch_address_in_prefix(const struct ch_address *address, const struct ch_address *network, uint8_t prefix_bits)
{
    bool is4 = ch_address_is4(address);
    if (is4 != ch_address_is4(network))
        return false;
    unsigned bits = prefix_bits + (is4 ? 96u : 0u);
    if (bits > 128)
        return false;
    if (memcmp(address->ip, network->ip, bits / 8) != 0)
        return false;
    return bits % 8 == 0 || ((address->ip[bits / 8] ^ network->ip[bits / 8]) >> (8 - bits % 8)) == 0;
}

socklen_t ch_address_to_sockaddr(const struct ch_address *address, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (ch_address_is4(address)) {
        struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(address->port)};
        memcpy(&in4.sin_addr, address->ip + 12, 4);
        memcpy(out, &in4, sizeof in4);
        return sizeof in4;
    }
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(address->port), .sin6_scope_id = address->scope};
    memcpy(&in6.sin6_addr, address->ip, 16);
    memcpy(out, &in6, sizeof in6);
    return sizeof in6;
}

ch_err ch_address_from_sockaddr(const struct sockaddr *from, socklen_t length, struct ch_address *out)
{
    if (length >= sizeof(struct sockaddr_in) && from->sa_family == AF_INET) {
        struct sockaddr_in in4;
        memcpy(&in4, from, sizeof in4);
        *out = ch_address_from4(&in4.sin_addr, ntohs(in4.sin_port));
        return CH_OK;
    }
    if (length >= sizeof(struct sockaddr_in6) && from->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, from, sizeof in6);
        *out = ch_address_from6(&in6.sin6_addr, ntohs(in6.sin6_port));
        out->scope = in6.sin6_scope_id;
        return CH_OK;
    }
    return CH_ERR_INVALID;
}
