#!/usr/bin/env python3
"""Reads docs/protocol-vectors.txt as somebody would who has docs/protocol.md and nothing else: every digest, signature and
layout is made again here, from hashlib and RFC 8032's own formulas: read_vectors.py FILE."""
import base64
import hashlib
import struct
import sys

import rfc8032

v = {}
with open(sys.argv[1], encoding="ascii") as file:
    for line in file:
        name, _, value = line.strip().partition(" = ")
        if value and not line.startswith("#"):
            v[name] = value if "_text" in name or name == "holders" else bytes.fromhex(value)
checked = set()


def same(name, made):
    if made != v[name]:
        sys.exit(f"{name}\n  is   {v[name].hex() if isinstance(v[name], bytes) else v[name]}\n  not  "
                 f"{made.hex() if isinstance(made, bytes) else made}")
    checked.add(name)


def number(width, *values):
    return b"".join(value.to_bytes(width, "little") for value in values)


def H(domain, *parts):
    return hashlib.sha256(domain.encode() + b"\0" + b"".join(parts)).digest()


def signed(name, key, domain, message, signature=None):
    """A signature over "domain" 0 | chain id | message."""
    if not rfc8032.holds(key, domain.encode() + b"\0" + v["chain_id"] + message, signature or v[name]):
        sys.exit(f"the signature of {name} does not hold")
    checked.add(name)


def keys():
    for i, who in enumerate(["validator", "registrar", "alice", "bob"], 1):
        same(f"{who}_seed", bytes([i]) * 32)
        same(f"{who}_key", rfc8032.public_key(v[f"{who}_seed"]))


# --- 2 ---
START, TX_MS = 1767225600000, 1767225660000
LIMITS = [120000, 30000, 4194304, 30 * 86400000, 86400000, 7 * 86400000, 1000]
PARAMETERS = [1, 1, 200, 1 << 20, 16384, 16, 4, 32, 0, 0, 0]


def genesis():
    address = b"192.0.2.1:4740"
    same("genesis", number(2, 1) + b"\7vectors" + number(8, START) + b"\1" + number(2, 1) + v["validator_key"] + number(4, 1) +
         number(2, len(address)) + address + number(2, 1) + v["registrar_key"] + number(8, *LIMITS, *PARAMETERS))
    same("chain_id", H("chappe/chain/1", v["genesis"]))


# --- 3 ---
def transactions():
    alice, bob = v["alice_key"], v["bob_key"]
    message_size = struct.pack("<H", len(v["inline_ciphertext"]))
    expires = struct.unpack("<Q", v["tx_REGISTER"][176:184])[0]
    same("approval_message", alice + v["alice_seal_key"] + number(8, expires) + b"\5alice")
    signed("approval", v["registrar_key"], "chappe/sig/approve/1", v["approval_message"])
    hello = v["tx_BIND_REQUEST"][146:], v["tx_BIND_ACCEPT"][146:]
    bodies = {
        "REGISTER": (0x0101, alice, v["alice_seal_key"] + v["registrar_key"] + number(8, expires) + v["approval"] + b"\5alice"),
        "ROTATE_SEAL_KEY": (0x0102, None, None),
        "REVOKE": (0x0103, alice, alice),
        "BIND_REQUEST": (0x0201, alice, bob + number(2, len(hello[0])) + hello[0]),
        "BIND_ACCEPT": (0x0202, bob, alice + number(2, len(hello[1])) + hello[1]),
        "BIND_REFUSE": (0x0203, bob, alice),
        "UNBIND_REQUEST": (0x0204, alice, bob),
        "UNBIND_CONFIRM": (0x0205, bob, alice),
        "MESSAGE": (0x0301, alice, bob + v["commitment"] + bytes(36) + number(8, 0) + message_size + v["inline_ciphertext"]),
    }
    for kind, (code, sender, body) in bodies.items():
        name, tx = f"tx_{kind}", v[f"tx_{kind}"]
        sender = sender or tx[64:96]
        body = tx[112:] if body is None else body
        salt = tx[108:112]
        same(name, tx[:64] + sender + number(8, TX_MS) + number(2, code, 112 + len(body)) + salt + body)
        signed(name, sender, "chappe/sig/tx/1", tx[64:], tx[:64])
        same(f"tx_id_{kind}", hashlib.sha256(tx).digest())
    if len(v["tx_ROTATE_SEAL_KEY"]) != 144:
        sys.exit("ROTATE_SEAL_KEY has another length")


# --- 4, 5, 8, 13 ---
def frame(name, kind, flags, request, body):
    same(name, number(4, len(body)) + number(2, kind, flags) + number(8, request) + body)


def frames():
    frame("frame_HELLO", 0x01, 0, 1, number(2, 1, 0) + number(4, 0) + number(8, TX_MS) + v["chain_id"] + bytes(20))
    def query(first):
        return v["bob_key"] + number(8, first) + number(2, 20)
    tx = v["tx_MESSAGE"]
    frame("frame_SUBMIT", 0x03, 3, 2, tx)
    frame("frame_STATUS", 0x02, 0, 3, number(2, 84))
    frame("frame_GET_ACCOUNT", 0x10, 0, 4, v["alice_key"])
    frame("frame_GET_HANDLE", 0x11, 0, 5, b"alice")
    frame("frame_GET_INBOX", 0x15, 0, 6, query(1))
    frame("frame_WATCH_INBOX", 0x16, 0, 7, query(1))
    frame("frame_GET_RELATIONS", 0x13, 0, 8, query(0))
    frame("frame_GET_RECORD_by_tx_id", 0x17, 0, 9, b"\1" + v["tx_id_MESSAGE"])
    same("abc_cid", bytes([1, 0x55, 0x12, 0x20]) + hashlib.sha256(b"abc").digest())
    frame("frame_PUT_OBJECT", 0x20, 0, 10, v["abc_cid"] + b"abc")
    frame("frame_GET_OBJECT", 0x21, 0, 11, v["abc_cid"])
    frame("frame_RECORDS", 0x18, 0, 6, number(2, 0, 1) + number(8, 1) + number(8, 1, 4, 7, TX_MS + 5) + tx)
    same("hose_datagram", b"Ch\1\0" + number(2, 1, 8 + len(tx)) + tx)


# --- 6 ---
def receipts():
    def leaf(bytes_):
        return hashlib.sha256(b"\0" + bytes_).digest()

    def node(left, right):
        return hashlib.sha256(b"\1" + left + right).digest()
    ids = [bytes(32), v["tx_id_MESSAGE"], bytes([2]) * 32]
    for i in range(3):
        same(f"receipt_{i}", ids[i] + number(2, 0) + b"\1\0" + number(8, 7, i, int(i == 1), TX_MS + 5))
    leaves = [leaf(v[f"receipt_{i}"]) for i in range(3)]
    same("receipts_root", node(node(leaves[0], leaves[1]), leaves[2]))
    signed("receipts_signature", v["validator_key"], "chappe/sig/receipt/1", v["receipts_root"] + number(4, 3))
    same("receipt_1_path", leaves[0] + leaves[2])
    frame("frame_RECEIPTS_signed", 0x04, 4, 2, number(2, 1) + v["receipt_1"] + number(4, 3) + v["receipts_signature"] +
          number(4, 1) + b"\2" + v["receipt_1_path"])


# --- 7 ---
def rows():
    same("inbox_head", H("chappe/inbox/1", bytes(32), v["tx_id_MESSAGE"], number(8, 1)))
    same("log_leaf", hashlib.sha256(b"\0" + v["tx_id_MESSAGE"] + number(8, 7, TX_MS + 5, 1) + v["inbox_head"]).digest())
    same("account_row", v["bob_key"] + v["bob_seal_key"] + v["registrar_key"] + v["inbox_head"] + number(8, 3, TX_MS, 1) +
         number(4, 0) + b"\0\3" + number(2, 0) + b"bob".ljust(32, b"\0"))
    smaller, larger = sorted([v["alice_key"], v["bob_key"]])
    same("relation_row", smaller + larger + number(8, TX_MS, 2, 3) + bytes([3, int(larger == v["alice_key"])]) + bytes(6))


# --- 9 ---
def sealing():
    plain = v["inline_plaintext"]
    same("inline_plaintext", bytes(range(32)) + b"\1" + plain[33:41] + b"\1" + number(2, 0) + b"Hello Bob")
    same("commitment", hashlib.blake2b(plain[32:], key=plain[:32], digest_size=32).digest())
    envelope = b"\1" + plain[33:41] + b"\2" + number(2, 5) + b"a.txt" + b"abc"
    drawn = 32 + 32 + 24  # stream key, the sealed box's own key, stream header: then the commitment's
    same("object_commitment", hashlib.blake2b(envelope, key=bytes(range(drawn, drawn + 32)), digest_size=32).digest())
    same("object_cid", bytes([1, 0x55, 0x12, 0x20]) + hashlib.sha256(v["object"]).digest())


# --- 14 ---
def consensus():
    epoch, zeros = number(4, 0), bytes(32)
    same("committee_digest", H("chappe/committee/1", v["chain_id"], epoch, number(2, 1), v["validator_key"], number(4, 1),
                               number(8, *PARAMETERS)))
    same("genesis_reference", number(4, 0) + number(2, 0, 0) + H("chappe/genesis/1", v["chain_id"], epoch, number(2, 0), zeros))
    payload = v["tx_MESSAGE"]
    header = (number(2, 1, 0) + epoch + number(4, 1) + number(2, 1, 0, 0, 0) + number(4, len(payload), 1, 0) + number(8, TX_MS + 5) +
              H("chappe/payload/0", payload) + v["genesis_reference"])
    same("block_digest", H("chappe/block/1", v["chain_id"], header))
    same("block", header + v["block"][-64:])
    signed("block", v["validator_key"], "chappe/sig/block/1", v["block_digest"], v["block"][-64:])
    first = number(4, 1) + number(2, 0, 0) + v["block_digest"]
    later = v["later_block"]
    votes = number(8, 1) + v["commit_digest"] + number(8, 2) + bytes([7]) * 32
    checkpoint = number(8, 5) + bytes([8]) * 32 + bytes([9]) * 64
    header = (number(2, 1, 0) + epoch + number(4, 2) + number(2, 1, 2, 1, 0) + number(4, 0, 0, 0) + number(8, TX_MS + 6) + zeros + first +
              votes + checkpoint)
    same("later_block", header + later[-64:])
    same("later_block_digest", H("chappe/block/1", v["chain_id"], header))
    signed("later_block", v["validator_key"], "chappe/sig/block/1", v["later_block_digest"], later[-64:])
    same("commit", number(2, 1) + epoch + number(8, 1) + v["chain_id"] + first + number(2, 0) + number(4, 0) + number(8, TX_MS + 5) +
         number(4, 0, 1) + first)
    same("commit_digest", H("chappe/commit/1", v["chain_id"], v["commit"]))


# --- 15 ---
def spread():
    data = bytes(i % 251 for i in range(20000))
    same("block_cid", bytes([1, 0x55, 0x12, 0x20]) + hashlib.sha256(data).digest())
    keys_ = [bytes([i]) * 32 for i in range(1, 5)]
    order = sorted(range(4), key=lambda i: H("chappe/place/1", v["block_cid"], keys_[i]))
    same("holders", " ".join(map(str, order)))

    def product(a, b):
        result = 0
        while b:
            result ^= a if b & 1 else 0
            a, b = a << 1 ^ (0x11d if a & 0x80 else 0), b >> 1
        return result
    inverse = {a: b for a in range(1, 256) for b in range(1, 256) if product(a, b) == 1}
    size = -(-10000 // 64) * 64
    shards = [data[:size], data[size:].ljust(size, b"\0")]
    for i in (2, 3):
        tables = [bytes(product(inverse[i ^ j], x) for x in range(256)) for j in range(2)]
        parts = [shards[j].translate(tables[j]) for j in range(2)]
        shards.append(bytes(a ^ b for a, b in zip(*parts)))
        same(f"shard_{i}_first_64", shards[i][:64])
    same("manifest", number(2, 1, 4, 2, 0) + number(4, len(data), size) + v["block_cid"] +
         b"".join(hashlib.sha256(shard).digest() for shard in shards))
    same("manifest_digest", H("chappe/manifest/1", v["manifest"]))
    signed("shard_signature", v["validator_key"], "chappe/sig/shard/1", v["block_cid"] + number(4, len(data)) + v["manifest_digest"])
    same("certificate", v["block_cid"] + number(4, len(data)) + v["manifest_digest"] + number(2, 1, 2) + v["shard_signature"])


# --- 8 ---
def addresses():
    raw = bytes([1, 0x55, 0x12, 0x20])
    same("leaf_0_cid", raw + hashlib.sha256(bytes(1 << 20)).digest())
    same("leaf_1_cid", raw + hashlib.sha256(bytes(1)).digest())
    same("node_cid", bytes([1, 0x70, 0x12, 0x20]) + hashlib.sha256(v["node"]).digest())
    for name in [name for name in v if name.endswith("_cid")]:
        same(name + "_text", "b" + base64.b32encode(v[name]).decode().lower().rstrip("="))


for part in (keys, genesis, transactions, frames, receipts, rows, sealing, consensus, spread, addresses):
    part()
left = set(v) - checked
print(f"{len(checked)} of {len(v)} vectors made again; not: {', '.join(sorted(left))}")
# What needs X25519 and XSalsa20; and the UnixFS node, which tests/interop holds against an IPFS implementation.
if left != {"alice_seal_secret", "alice_seal_key", "bob_seal_secret", "bob_seal_key", "inline_ciphertext", "object", "node"}:
    sys.exit("a vector that nobody reads, or one that is gone")
