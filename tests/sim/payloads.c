/* Clients, and what travels in payloads: real transactions of the ledger, some of them broken, old, or sent twice. Each
 * payload is taken apart and its signatures are verified once, for all nodes. */
#include <sodium.h>

#include "tests/sim/sim.h"

#define REGISTRAR SIM_PEOPLE /* a person that may approve registrations */

const uint8_t *sim_person(unsigned number)
{
    static uint8_t keys[SIM_PEOPLE + 1][32];
    static bool made;
    for (unsigned i = 0; !made && i <= SIM_PEOPLE; i++) {
        uint8_t seed[32] = {(uint8_t)i, 77}, secret[64];
        crypto_sign_seed_keypair(keys[i], secret, seed);
    }
    made = true;
    return keys[number];
}

static void signature_of(const uint8_t *key, const char *domain, const uint8_t *message, size_t length, uint8_t out[64])
{
    const struct ch_bytes parts[] = {{key, 32}, {message, length}};
    ch_hash_domain(domain, parts, 2, out);
    memcpy(out + CH_HASH_BYTES, out, CH_HASH_BYTES);
}

static uint16_t kind_of(struct sim *sim)
{
    static const uint16_t kinds[] = {CH_TX_MESSAGE,      CH_TX_MESSAGE,     CH_TX_MESSAGE,     CH_TX_MESSAGE,
                                     CH_TX_BIND_REQUEST, CH_TX_BIND_ACCEPT, CH_TX_BIND_ACCEPT, CH_TX_BIND_REFUSE,
                                     CH_TX_UNBIND_REQUEST, CH_TX_UNBIND_CONFIRM, CH_TX_ROTATE_SEAL_KEY, CH_TX_REGISTER};
    if (sim->person_next < SIM_PEOPLE)
        return CH_TX_REGISTER;
    return sim_chance(sim, 3) ? CH_TX_REVOKE : kinds[sim_below(sim, sizeof kinds / sizeof *kinds)];
}

/* A transaction of a random kind as its sender would sign it. */
static size_t compose(struct sim *sim, uint8_t out[CH_TX_BYTES_MAX], uint64_t timestamp_ms)
{
    uint8_t bytes[64], approval[64], message[CH_APPROVAL_MESSAGE_BYTES_MAX];
    char handle[16];
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)sim_below(sim, 256);
    const uint16_t kind = kind_of(sim);
    const unsigned person =
        kind == CH_TX_REGISTER ? sim->person_next++ % SIM_PEOPLE : (unsigned)sim_below(sim, SIM_PEOPLE);
    const unsigned peer = (unsigned)sim_below(sim, SIM_PEOPLE);
    struct ch_tx tx = {
        .kind = kind, .salt = (uint32_t)sim->tx_count, .timestamp_ms = timestamp_ms, .sender = sim_person(person)};
    if (kind == CH_TX_REGISTER) {
        snprintf(handle, sizeof handle, "person.%u", person);
        tx.seal_key = sim_person(peer);
        tx.registrar = sim_person(REGISTRAR);
        tx.approval_expires_ms = timestamp_ms + 3600 * 1000;
        tx.handle = (const uint8_t *)handle;
        tx.handle_length = (uint8_t)strlen(handle);
        const size_t length = ch_tx_approval_message(&tx, message);
        signature_of(tx.registrar, CH_DOMAIN_APPROVE, message, length, approval);
        approval[0] ^= sim_chance(sim, 30);
        tx.approval = approval;
    } else if (kind == CH_TX_ROTATE_SEAL_KEY) {
        tx.seal_key = sim_person(peer);
    } else {
        tx.peer = sim_person(peer);
        tx.commitment = bytes;
        tx.inline_bytes = bytes;
        tx.inline_length = kind == CH_TX_MESSAGE ? 1 + (uint16_t)sim_below(sim, 60) : 0;
        tx.hello = bytes;
        tx.hello_length = kind == CH_TX_BIND_REQUEST || kind == CH_TX_BIND_ACCEPT ? (uint16_t)sim_below(sim, 32) : 0;
    }
    const size_t length = ch_tx_encode(&tx, out);
    signature_of(tx.sender, CH_DOMAIN_TX, out + CH_TX_SIGNED_OFFSET, length - CH_TX_SIGNED_OFFSET, out);
    return length;
}

uint32_t sim_client(struct sim *sim)
{
    uint8_t bytes[CH_TX_BYTES_MAX];
    if (sim->tx_count > 1 && sim_chance(sim, 50))
        return 1 + (uint32_t)sim_below(sim, sim->tx_count - 1); /* again, maybe at another node */
    if (!sim->tx_count)
        sim->tx_count = 1;
    const uint64_t timestamp_ms = sim->chain_ms + sim_below(sim, 2000) - (sim_chance(sim, 30) ? 130000 : 0);
    const size_t length = compose(sim, bytes, timestamp_ms);
    CH_ASSERT(length);
    if (sim_chance(sim, 30))
        bytes[sim_below(sim, CH_TX_SIGNED_OFFSET)] ^= 1;
    if (sim_chance(sim, 20))
        ch_store16(bytes + 104, 0x7777); /* no such kind */
    sim->txs = sim_grow(sim->txs, sim->tx_count, &sim->tx_room, sizeof *sim->txs);
    struct sim_tx *tx = &sim->txs[sim->tx_count];
    *tx = (struct sim_tx){.bytes = sim_alloc(length), .length = (uint16_t)length, .timestamp_ms = timestamp_ms};
    memcpy(tx->bytes, bytes, length);
    return (uint32_t)sim->tx_count++;
}

static void verify(struct sim_payload_tx *item, const uint8_t *bytes, size_t length)
{
    uint8_t expected[64], message[CH_APPROVAL_MESSAGE_BYTES_MAX];
    item->parsed = ch_tx_parse(bytes, length, &item->tx) == CH_STATUS_OK;
    ch_hash(bytes, length, item->id);
    if (!item->parsed)
        return;
    const struct ch_tx *tx = &item->tx;
    signature_of(tx->sender, CH_DOMAIN_TX, bytes + CH_TX_SIGNED_OFFSET, length - CH_TX_SIGNED_OFFSET, expected);
    item->signature_ok = memcmp(bytes, expected, sizeof expected) == 0;
    if (tx->kind != CH_TX_REGISTER)
        return;
    signature_of(tx->registrar, CH_DOMAIN_APPROVE, message, ch_tx_approval_message(tx, message), expected);
    item->approval_ok = memcmp(tx->approval, expected, sizeof expected) == 0;
}

/* docs/consensus.md 2.2: from the start; the first record that can't be one discards the rest. */
static void take_apart(struct sim_payload *p)
{
    p->txs = sim_alloc((p->length / CH_TX_BYTES_MIN + 1) * sizeof *p->txs);
    for (uint32_t at = 0, length; (length = ch_tx_length(p->bytes + at, p->length - at)) != 0; at += length)
        verify(&p->txs[p->count++], p->bytes + at, length);
}

uint64_t sim_payload_make(struct sim *sim, const uint32_t *txs, size_t count, size_t junk)
{
    if (!sim->payload_count)
        sim->payload_count = 1;
    sim->payloads = sim_grow(sim->payloads, sim->payload_count, &sim->payload_room, sizeof *sim->payloads);
    struct sim_payload *p = &sim->payloads[sim->payload_count];
    *p = (struct sim_payload){.length = (uint32_t)junk};
    for (size_t i = 0; i < count; i++)
        p->length += sim->txs[txs[i]].length;
    p->bytes = sim_alloc(p->length);
    size_t at = 0;
    for (size_t i = 0; i < count; at += sim->txs[txs[i++]].length)
        memcpy(p->bytes + at, sim->txs[txs[i]].bytes, sim->txs[txs[i]].length);
    for (; at < p->length; at++)
        p->bytes[at] = (uint8_t)sim_below(sim, 256);
    ch_payload_root(p->bytes, p->length, p->root);
    take_apart(p);
    for (size_t i = 0; i < count && i < p->count; i++)
        p->txs[i].client = txs[i];
    return sim->payload_count++;
}

void sim_payloads_free(struct sim *sim)
{
    for (size_t i = 1; i < sim->payload_count; i++) {
        free(sim->payloads[i].bytes);
        free(sim->payloads[i].txs);
    }
    for (size_t i = 1; i < sim->tx_count; i++)
        free(sim->txs[i].bytes);
    free(sim->payloads);
    free(sim->txs);
}
