/* Prints docs/protocol-vectors.txt: the bytes of docs/protocol.md's tables as this code writes them, from fixed seeds.
 * Randomness is a counter, so that sealing gives the same bytes every time. */
#include "base/merkle.h"
#include "crypto/seal.h"
#include "ledger/ledger.h"
#include "store/erasure.h"
#include "wire/block.h"
#include "wire/cid.h"
#include "wire/frame.h"
#include "wire/hose.h"

#include <sodium.h>
#include <stdio.h>

#define START_MS 1767225600000u /* 2026-01-01T00:00:00Z */
#define TX_MS    (START_MS + 60000)

static struct ch_sign_key validator, registrar, alice, bob;
static struct ch_seal_key alice_seal, bob_seal;
static struct ch_genesis genesis;
static uint8_t chain_id[CH_HASH_BYTES];

static void say(const char *text)
{
    printf("\n# %s\n", text);
}

static void show(const char *name, const void *bytes, size_t length)
{
    printf("%s = ", name);
    for (size_t i = 0; i < length; i++)
        printf("%02x", ((const uint8_t *)bytes)[i]);
    printf("\n");
}

/* --- randomness --- */

static uint8_t counter;

static void count_up(void *const to, const size_t length)
{
    for (size_t i = 0; i < length; i++)
        ((uint8_t *)to)[i] = counter++;
}

static uint32_t count_up_32(void)
{
    uint32_t value;
    count_up(&value, sizeof value);
    return value;
}

static const char *counter_name(void)
{
    return "counter";
}

static struct randombytes_implementation counting = {
    .implementation_name = counter_name, .random = count_up_32, .buf = count_up};

/* --- keys and genesis --- */

static void make_key(struct ch_sign_key *key, const char *name, uint8_t byte)
{
    uint8_t seed[CH_SIGN_SEED_BYTES];
    char line[64];
    memset(seed, byte, sizeof seed);
    ch_sign_key_from_seed(seed, key);
    (void)snprintf(line, sizeof line, "%s_seed", name);
    show(line, seed, sizeof seed);
    (void)snprintf(line, sizeof line, "%s_key", name);
    show(line, key->public_key, 32);
}

static void make_seal_key(struct ch_seal_key *key, const char *name, uint8_t byte)
{
    uint8_t secret[32];
    char line[64];
    memset(secret, byte, sizeof secret);
    ch_seal_key_from_secret(secret, key);
    (void)snprintf(line, sizeof line, "%s_seal_secret", name);
    show(line, secret, sizeof secret);
    (void)snprintf(line, sizeof line, "%s_seal_key", name);
    show(line, key->public_key, 32);
}

static void show_genesis(void)
{
    static uint8_t bytes[CH_GENESIS_BYTES_MAX];
    say("genesis of a chain \"vectors\": one validator of stake 1, one registrar, the defaults");
    ch_genesis_defaults(&genesis, 1);
    (void)snprintf(genesis.name, sizeof genesis.name, "vectors");
    genesis.start_ms = START_MS;
    genesis.validator_count = genesis.registrar_count = 1;
    memcpy(genesis.validators[0].key, validator.public_key, 32);
    genesis.validators[0].stake = 1;
    (void)snprintf(genesis.validators[0].address, sizeof genesis.validators[0].address, "192.0.2.1:4740");
    memcpy(genesis.registrars[0], registrar.public_key, 32);
    size_t length = ch_genesis_encode(&genesis, bytes);
    CH_ASSERT(length);
    show("genesis", bytes, length);
    ch_genesis_chain_id(bytes, length, chain_id);
    show("chain_id", chain_id, sizeof chain_id);
}

static void sign(const struct ch_sign_key *key, const char *domain, const uint8_t *message, size_t length,
                 uint8_t signature[CH_SIGNATURE_BYTES])
{
    uint8_t prefix[CH_SIGN_PREFIX_BYTES_MAX];
    size_t prefix_length = ch_sign_prefix(domain, chain_id, prefix);
    ch_sign(key, prefix, prefix_length, message, length, signature);
}

/* --- transactions --- */

struct made {
    uint8_t bytes[CH_TX_BYTES_MAX], id[CH_HASH_BYTES];
    size_t length;
};

static struct made show_tx(const struct ch_sign_key *signer, struct ch_tx tx, uint32_t salt)
{
    struct made made;
    char name[64];
    tx.sender = signer->public_key;
    tx.timestamp_ms = TX_MS;
    tx.salt = salt;
    made.length = ch_tx_encode(&tx, made.bytes);
    CH_ASSERT(made.length);
    sign(signer, CH_DOMAIN_TX, made.bytes + CH_TX_SIGNED_OFFSET, made.length - CH_TX_SIGNED_OFFSET, made.bytes);
    ch_hash(made.bytes, made.length, made.id);
    (void)snprintf(name, sizeof name, "tx_%s", ch_tx_kind_name(tx.kind));
    show(name, made.bytes, made.length);
    (void)snprintf(name, sizeof name, "tx_id_%s", ch_tx_kind_name(tx.kind));
    show(name, made.id, sizeof made.id);
    return made;
}

static void show_register(void)
{
    uint8_t message[CH_APPROVAL_MESSAGE_BYTES_MAX], approval[CH_SIGNATURE_BYTES] = {0};
    struct ch_tx tx = {.kind = CH_TX_REGISTER,
                       .sender = alice.public_key,
                       .seal_key = alice_seal.public_key,
                       .registrar = registrar.public_key,
                       .approval = approval,
                       .approval_expires_ms = TX_MS + 86400000,
                       .handle = (const uint8_t *)"alice",
                       .handle_length = 5};
    size_t length = ch_tx_approval_message(&tx, message);
    sign(&registrar, CH_DOMAIN_APPROVE, message, length, approval);
    show("approval_message", message, length);
    show("approval", approval, sizeof approval);
    show_tx(&alice, tx, 1);
}

static struct made show_transactions(void)
{
    say("the envelope \"Hello Bob\", sealed inline to bob's key of epoch 0; the random bytes are 00 01 02 ..");
    const struct ch_envelope envelope = {.written_ms = TX_MS,
                                         .type = CH_ENVELOPE_TEXT,
                                         .content = (const uint8_t *)"Hello Bob",
                                         .content_length = 9};
    uint8_t sealed[256], plain[256], commitment[CH_COMMITMENT_BYTES];
    size_t sealed_length;
    counter = 0;
    CH_ASSERT(ch_seal_inline(bob_seal.public_key, 0, &envelope, sealed, sizeof sealed, &sealed_length, commitment) ==
              CH_OK);
    const struct ch_seal_epoch_key key = {.epoch = 0, .key = bob_seal};
    struct ch_envelope opened;
    CH_ASSERT(ch_open_inline(&key, 1, sealed, sealed_length, commitment, plain, &opened) == CH_SEAL_OK);
    show("inline_ciphertext", sealed, sealed_length);
    show("inline_plaintext", plain, sealed_length - 5 - crypto_box_SEALBYTES);
    show("commitment", commitment, sizeof commitment);

    say("one transaction of each kind; tx_id is SHA-256 of all its bytes");
    const uint8_t *hello = (const uint8_t *)"it is me";
    show_register();
    show_tx(&alice, (struct ch_tx){.kind = CH_TX_ROTATE_SEAL_KEY, .seal_key = alice_seal.public_key}, 2);
    show_tx(&alice, (struct ch_tx){.kind = CH_TX_REVOKE, .peer = alice.public_key}, 3);
    show_tx(&alice,
            (struct ch_tx){.kind = CH_TX_BIND_REQUEST, .peer = bob.public_key, .hello = hello, .hello_length = 8}, 4);
    show_tx(&bob, (struct ch_tx){.kind = CH_TX_BIND_ACCEPT, .peer = alice.public_key}, 5);
    show_tx(&bob, (struct ch_tx){.kind = CH_TX_BIND_REFUSE, .peer = alice.public_key}, 6);
    show_tx(&alice, (struct ch_tx){.kind = CH_TX_UNBIND_REQUEST, .peer = bob.public_key}, 7);
    show_tx(&bob, (struct ch_tx){.kind = CH_TX_UNBIND_CONFIRM, .peer = alice.public_key}, 8);
    return show_tx(&alice,
                   (struct ch_tx){.kind = CH_TX_MESSAGE,
                                  .peer = bob.public_key,
                                  .commitment = commitment,
                                  .inline_bytes = sealed,
                                  .inline_length = (uint16_t)sealed_length},
                   9);
}

/* --- objects --- */

struct gathered {
    uint8_t bytes[512];
    size_t length;
};

static ch_err gather(void *context, const uint8_t *bytes, size_t length)
{
    struct gathered *to = context;
    CH_ASSERT(length <= sizeof to->bytes - to->length);
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
    return CH_OK;
}

static void show_cid(const char *name, const struct ch_cid *cid)
{
    char text[CH_CID_TEXT_BYTES], line[64];
    show(name, cid->bytes, sizeof cid->bytes);
    ch_cid_to_text(cid, text);
    (void)snprintf(line, sizeof line, "%s_text", name);
    printf("%s = %s\n", line, text);
}

static void show_objects(void)
{
    struct gathered object = {.length = 0};
    struct ch_sealer *sealer;
    struct ch_cid cid;
    uint8_t commitment[CH_COMMITMENT_BYTES];
    say("a file \"a.txt\" that holds \"abc\", sealed as an object to bob's key of epoch 0; random bytes from 00 on");
    const struct ch_envelope file = {
        .written_ms = TX_MS, .type = CH_ENVELOPE_FILE, .name_length = 5, .name = (const uint8_t *)"a.txt",
        .content_length = 3};
    counter = 0;
    CH_ASSERT(ch_sealer_open(bob_seal.public_key, 0, &file, gather, &object, &sealer) == CH_OK);
    CH_ASSERT(ch_sealer_add(sealer, (const uint8_t *)"abc", 3) == CH_OK);
    CH_ASSERT(ch_sealer_end(sealer, commitment) == CH_OK);
    ch_sealer_close(sealer);
    show("object", object.bytes, object.length);
    show("object_commitment", commitment, sizeof commitment);
    ch_cid_of(CH_CID_RAW, object.bytes, object.length, &cid);
    show_cid("object_cid", &cid);

    say("the address of the block \"abc\", and the tree over a file of 1 MiB + 1 zero bytes");
    ch_cid_of(CH_CID_RAW, "abc", 3, &cid);
    show_cid("abc_cid", &cid);
    static uint8_t leaf[CH_UNIXFS_LEAF_BYTES], node[CH_UNIXFS_NODE_BYTES_MAX];
    struct ch_unixfs_link links[2] = {{.tree_bytes = sizeof leaf, .file_bytes = sizeof leaf},
                                      {.tree_bytes = 1, .file_bytes = 1}},
                          self;
    ch_cid_of(CH_CID_RAW, leaf, sizeof leaf, &links[0].cid);
    ch_cid_of(CH_CID_RAW, leaf, 1, &links[1].cid);
    show_cid("leaf_0_cid", &links[0].cid);
    show_cid("leaf_1_cid", &links[1].cid);
    show("node", node, ch_unixfs_encode(links, 2, node, &self));
    show_cid("node_cid", &self.cid);
}

/* --- objects between validators --- */

static void show_spread(void)
{
    static uint8_t block[20000], shards[4 * 10048];
    static struct ch_erasure code;
    uint8_t keys[4][CH_KEY_BYTES], bytes[CH_STORED_BYTES_MAX], prefix[CH_SIGN_PREFIX_BYTES_MAX];
    uint8_t message[CH_SHARD_MESSAGE_BYTES];
    uint16_t holder[CH_SHARDS_MAX];
    struct ch_manifest m;
    struct ch_cid cid;
    say("a block of 20,000 bytes, byte i is i mod 251; four validators with keys of 32 bytes 01, 02, 03, 04: who has index 0 to 3");
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (uint8_t)(i % 251);
    for (unsigned i = 0; i < 4; i++)
        memset(keys[i], (int)i + 1, CH_KEY_BYTES);
    ch_cid_of(CH_CID_RAW, block, sizeof block, &cid);
    show_cid("block_cid", &cid);
    CH_ASSERT(ch_placement(&cid, (const uint8_t(*)[CH_HASH_BYTES])keys, 4, holder) == 4);
    printf("holders = %u %u %u %u\n", holder[0], holder[1], holder[2], holder[3]);
    memset(&m, 0, sizeof m);
    ch_manifest_shape(&cid, sizeof block, 4, &m);
    CH_ASSERT(m.k == 2 && (size_t)m.n * m.shard_bytes == sizeof shards);
    memcpy(shards, block, sizeof block);
    ch_erasure_init(&code, m.n, m.k);
    ch_erasure_encode(&code, shards, m.shard_bytes);
    for (unsigned i = 0; i < m.n; i++)
        ch_hash(shards + (size_t)i * m.shard_bytes, m.shard_bytes, m.hash[i]);
    show("shard_2_first_64", shards + 2 * (size_t)m.shard_bytes, 64);
    show("shard_3_first_64", shards + 3 * (size_t)m.shard_bytes, 64);
    show("manifest", bytes, ch_manifest_write(&m, bytes));

    struct ch_stored stored = {.cid = cid, .length = sizeof block, .count = 1, .validator = {2}};
    ch_manifest_digest(&m, stored.manifest);
    show("manifest_digest", stored.manifest, sizeof stored.manifest);
    say("the validator's signature for its part, on this chain; and as it stands in a certificate, as validator 2");
    ch_shard_message(&cid, m.length, stored.manifest, message);
    ch_sign(&validator, prefix, ch_sign_prefix(CH_DOMAIN_SHARD, chain_id, prefix), message, sizeof message,
            stored.signature[0]);
    show("shard_signature", stored.signature[0], sizeof stored.signature[0]);
    show("certificate", bytes, ch_stored_write(&stored, bytes));
}

/* --- frames --- */

static void show_frame(const char *name, uint16_t type, uint16_t flags, uint64_t request, const void *body,
                       size_t length)
{
    static uint8_t frame[CH_FRAME_HEADER_BYTES + 4096];
    CH_ASSERT(length <= sizeof frame - CH_FRAME_HEADER_BYTES);
    const struct ch_frame_header header = {
        .length = (uint32_t)length, .type = type, .flags = flags, .request = request};
    ch_frame_header_write(&header, frame);
    memcpy(frame + CH_FRAME_HEADER_BYTES, body, length);
    show(name, frame, CH_FRAME_HEADER_BYTES + length);
}

static void show_receipts(const struct made *message)
{
    say("final receipts of three transactions in one batch; the answer to the second one's SUBMIT, signed");
    uint8_t bytes[3][CH_RECEIPT_BYTES], leaves[CH_MERKLE_NODES(3)][CH_HASH_BYTES], root[CH_HASH_BYTES + 4];
    uint8_t path[CH_MERKLE_DEPTH_MAX][CH_HASH_BYTES], signature[CH_SIGNATURE_BYTES], body[512];
    for (unsigned i = 0; i < 3; i++) {
        struct ch_receipt receipt = {.status = CH_STATUS_OK,
                                     .level = CH_LEVEL_FINAL,
                                     .commit_index = 7,
                                     .log_index = i,
                                     .inbox_sequence = i == 1,
                                     .commit_time_ms = TX_MS + 5};
        memcpy(receipt.tx_id, message->id, CH_HASH_BYTES);
        if (i != 1)
            memset(receipt.tx_id, (int)i, CH_HASH_BYTES);
        ch_receipt_write(&receipt, bytes[i]);
        ch_merkle_leaf(bytes[i], CH_RECEIPT_BYTES, leaves[i]);
    }
    show("receipt_0", bytes[0], CH_RECEIPT_BYTES);
    show("receipt_1", bytes[1], CH_RECEIPT_BYTES);
    show("receipt_2", bytes[2], CH_RECEIPT_BYTES);
    ch_merkle_build(leaves, 3, root);
    ch_store32(root + CH_HASH_BYTES, 3);
    show("receipts_root", root, CH_HASH_BYTES);
    sign(&validator, CH_DOMAIN_RECEIPT, root, sizeof root, signature);
    show("receipts_signature", signature, sizeof signature);
    uint32_t path_length = ch_merkle_path((const uint8_t(*)[CH_HASH_BYTES])leaves, 3, 1, path);
    show("receipt_1_path", path, path_length * (size_t)CH_HASH_BYTES);
    struct ch_writer w = ch_writer(body, sizeof body);
    ch_write16(&w, 1);
    ch_write(&w, bytes[1], CH_RECEIPT_BYTES);
    ch_write32(&w, 3);
    ch_write(&w, signature, sizeof signature);
    ch_write32(&w, 1);
    ch_write8(&w, (uint8_t)path_length);
    ch_write(&w, path, path_length * (size_t)CH_HASH_BYTES);
    CH_ASSERT(!w.bad);
    show_frame("frame_RECEIPTS_signed", CH_FRAME_RECEIPTS, CH_FRAME_FLAG_SIGNED, 2, body, w.used);
}

static void show_frames(const struct made *message)
{
    uint8_t hello[CH_HELLO_FRAME_BYTES], query[CH_QUERY_BYTES], body[2048] = {0};
    say("frames");
    struct ch_hello h = {.version = CH_PROTOCOL_VERSION, .role = CH_ROLE_CLIENT, .time_ms = TX_MS};
    memcpy(h.chain_id, chain_id, CH_HASH_BYTES);
    ch_hello_write(&h, hello);
    show_frame("frame_HELLO", CH_FRAME_HELLO, 0, 1, hello, sizeof hello);
    show_frame("frame_SUBMIT", CH_FRAME_SUBMIT, CH_FRAME_FLAG_WANT_FINAL | CH_FRAME_FLAG_WANT_SIGNED, 2, message->bytes,
               message->length);
    ch_store16(body, CH_STATUS_UNKNOWN_FRAME);
    show_frame("frame_STATUS", CH_FRAME_STATUS, 0, 3, body, 2);
    show_frame("frame_GET_ACCOUNT", CH_FRAME_GET_ACCOUNT, 0, 4, alice.public_key, 32);
    show_frame("frame_GET_HANDLE", CH_FRAME_GET_HANDLE, 0, 5, "alice", 5);
    struct ch_query q = {.from = 1, .limit = 20};
    memcpy(q.account, bob.public_key, 32);
    ch_query_write(&q, query);
    show_frame("frame_GET_INBOX", CH_FRAME_GET_INBOX, 0, 6, query, sizeof query);
    show_frame("frame_WATCH_INBOX", CH_FRAME_WATCH_INBOX, 0, 7, query, sizeof query);
    q.from = 0;
    ch_query_write(&q, query);
    show_frame("frame_GET_RELATIONS", CH_FRAME_GET_RELATIONS, 0, 8, query, sizeof query);
    body[0] = 1;
    memcpy(body + 1, message->id, CH_HASH_BYTES);
    show_frame("frame_GET_RECORD_by_tx_id", CH_FRAME_GET_RECORD, 0, 9, body, 1 + CH_HASH_BYTES);
    struct ch_cid cid;
    ch_cid_of(CH_CID_RAW, "abc", 3, &cid);
    memcpy(body, cid.bytes, CH_CID_BYTES);
    memcpy(body + CH_CID_BYTES, "abc", 3);
    show_frame("frame_PUT_OBJECT", CH_FRAME_PUT_OBJECT, 0, 10, body, CH_CID_BYTES + 3);
    show_frame("frame_GET_OBJECT", CH_FRAME_GET_OBJECT, 0, 11, cid.bytes, CH_CID_BYTES);

    struct ch_record record = {.inbox_sequence = 1, .log_index = 4, .commit_index = 7, .commit_time_ms = TX_MS + 5};
    CH_ASSERT(ch_tx_parse(message->bytes, message->length, &record.tx) == CH_STATUS_OK);
    struct ch_writer w = ch_writer(body, sizeof body);
    ch_write16(&w, CH_STATUS_OK);
    ch_write16(&w, 1);
    ch_write64(&w, 1);
    ch_record_write(&w, &record);
    CH_ASSERT(!w.bad);
    show_frame("frame_RECORDS", CH_FRAME_RECORDS, 0, 6, body, w.used);

    say("a fire hose datagram with that message");
    uint8_t datagram[CH_HOSE_HEADER_BYTES + CH_TX_BYTES_MAX];
    ch_hose_header_write(datagram, 1, (uint16_t)(CH_HOSE_HEADER_BYTES + message->length));
    memcpy(datagram + CH_HOSE_HEADER_BYTES, message->bytes, message->length);
    show("hose_datagram", datagram, CH_HOSE_HEADER_BYTES + message->length);
}

/* --- rows --- */

static void show_rows(const struct made *message)
{
    uint8_t account[CH_ACCOUNT_ROW_BYTES], relation[CH_RELATION_ROW_BYTES], head[CH_HASH_BYTES] = {0},
                                                                           leaf[CH_HASH_BYTES];
    say("bob's inbox after that message as its first; the leaf of the log tree; account and relation rows");
    ch_ledger_inbox_head(head, message->id, 1, head);
    show("inbox_head", head, sizeof head);
    struct ch_log_entry entry = {.commit_index = 7, .commit_time_ms = TX_MS + 5, .inbox_sequence = 1};
    memcpy(entry.inbox_head, head, sizeof head);
    ch_ledger_log_leaf(message->id, &entry, leaf);
    show("log_leaf", leaf, sizeof leaf);

    struct ch_account a = {.registered_commit = 3,
                           .registered_ms = TX_MS,
                           .inbox_sequence = 1,
                           .status = CH_ACCOUNT_ACTIVE,
                           .handle_length = 3};
    memcpy(a.key, bob.public_key, 32);
    memcpy(a.seal_key, bob_seal.public_key, 32);
    memcpy(a.registrar, registrar.public_key, 32);
    memcpy(a.inbox_head, head, 32);
    memcpy(a.handle, "bob", 3);
    ch_account_write(&a, account);
    show("account_row", account, sizeof account);

    bool alice_smaller = memcmp(alice.public_key, bob.public_key, 32) < 0;
    struct ch_relation r = {.since_ms = TX_MS,
                            .request_log_index = 2,
                            .accept_log_index = 3,
                            .state = CH_RELATION_BOUND,
                            .by = !alice_smaller};
    memcpy(r.smaller, alice_smaller ? alice.public_key : bob.public_key, 32);
    memcpy(r.larger, alice_smaller ? bob.public_key : alice.public_key, 32);
    ch_relation_write(&r, relation);
    show("relation_row", relation, sizeof relation);
}

/* --- consensus --- */

static void show_later_block(const struct ch_committee *committee, const struct ch_ref *parent,
                             const uint8_t commit_digest[CH_HASH_BYTES])
{
    static uint8_t bytes[4096];
    uint8_t votes[2 * CH_BLOCK_VOTE_BYTES], cksig[CH_BLOCK_CKSIG_BYTES], digest[CH_HASH_BYTES];
    say("the block of round 2: no payload, a vote for that commit and one for a second (digest 07 07 ..), a checkpoint signature");
    ch_store64(votes, 1);
    memcpy(votes + 8, commit_digest, CH_HASH_BYTES);
    ch_store64(votes + CH_BLOCK_VOTE_BYTES, 2);
    memset(votes + CH_BLOCK_VOTE_BYTES + 8, 7, CH_HASH_BYTES);
    ch_store64(cksig, 5);
    memset(cksig + 8, 8, CH_HASH_BYTES);
    memset(cksig + 8 + CH_HASH_BYTES, 9, CH_BLOCK_SIGNATURE_BYTES);
    const struct ch_block_draft draft = {.round = 2,
                                         .ancestor_count = 1,
                                         .vote_count = 2,
                                         .cksig_count = 1,
                                         .timestamp_ms = TX_MS + 6,
                                         .ancestors = parent,
                                         .votes = votes,
                                         .cksigs = cksig};
    uint32_t length = ch_block_write(&draft, bytes);
    struct ch_block block;
    CH_ASSERT(ch_block_parse(committee, bytes, length, &block) == CH_BLOCK_OK);
    ch_block_digest(committee, &block, digest);
    sign(&validator, CH_DOMAIN_BLOCK_SIGNATURE, digest, sizeof digest, bytes + length - CH_BLOCK_SIGNATURE_BYTES);
    show("later_block", bytes, length);
    show("later_block_digest", digest, sizeof digest);
}

static void show_consensus(const struct made *message)
{
    static struct ch_committee committee;
    static uint8_t block_bytes[4096];
    uint8_t digest[CH_HASH_BYTES], commit_bytes[CH_COMMIT_FIXED_BYTES + CH_REF_BYTES];
    say("consensus: committee, the block of round 1 with that message as its payload, a commit of it");
    ch_committee_from_genesis(&genesis, chain_id, &committee);
    ch_committee_digest(&committee, digest);
    show("committee_digest", digest, sizeof digest);
    struct ch_ref parent = ch_committee_genesis_ref(&committee, 0);
    show("genesis_reference", &parent, sizeof parent);
    struct ch_block_draft draft = {.round = 1,
                                   .ancestor_count = 1,
                                   .payload_length = (uint32_t)message->length,
                                   .payload_items = 1,
                                   .timestamp_ms = TX_MS + 5,
                                   .ancestors = &parent};
    ch_payload_root(message->bytes, message->length, draft.payload_root);
    uint32_t length = ch_block_write(&draft, block_bytes);
    struct ch_block block;
    CH_ASSERT(ch_block_parse(&committee, block_bytes, length, &block) == CH_BLOCK_OK);
    ch_block_digest(&committee, &block, digest);
    sign(&validator, CH_DOMAIN_BLOCK_SIGNATURE, digest, sizeof digest, block_bytes + length - CH_BLOCK_SIGNATURE_BYTES);
    show("block", block_bytes, length);
    show("block_digest", digest, sizeof digest);

    struct ch_ref leader = {.round = 1};
    memcpy(leader.digest, digest, sizeof digest);
    struct ch_commit commit = {.index = 1, .leader = leader, .timestamp_ms = TX_MS + 5, .block_count = 1};
    memcpy(commit.previous, chain_id, CH_HASH_BYTES); /* the first commit's */
    ch_commit_write(&commit, commit_bytes);
    memcpy(commit_bytes + CH_COMMIT_FIXED_BYTES, &leader, CH_REF_BYTES);
    CH_ASSERT(ch_commit_parse(commit_bytes, sizeof commit_bytes, &commit));
    ch_commit_digest(&committee, commit_bytes, sizeof commit_bytes, digest);
    show("commit", commit_bytes, sizeof commit_bytes);
    show("commit_digest", digest, sizeof digest);
    show_later_block(&committee, &leader, digest);
}

int main(void)
{
    randombytes_set_implementation(&counting);
    if (ch_sign_init() != CH_OK)
        return 1;
    printf("# Test vectors of docs/protocol.md, printed by tests/tools/protocol_vectors.c: name = bytes in hex.\n");
    say("keys: Ed25519 seeds and X25519 secrets of one repeated byte");
    make_key(&validator, "validator", 1);
    make_key(&registrar, "registrar", 2);
    make_key(&alice, "alice", 3);
    make_key(&bob, "bob", 4);
    make_seal_key(&alice_seal, "alice", 5);
    make_seal_key(&bob_seal, "bob", 6);
    show_genesis();
    struct made message = show_transactions();
    show_objects();
    show_spread();
    show_frames(&message);
    show_receipts(&message);
    show_rows(&message);
    show_consensus(&message);
    return 0;
}
