#!/usr/bin/env python3
"""Ordering by a committee of one, read from its log by somebody who has the rules and not the code: every block, vote, commit
and record of a log with crashes in it is made again from docs/consensus.md's text."""
import argparse
import hashlib
import pathlib
import signal
import struct
import subprocess
import sys

import lab

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tools"))
import rfc8032

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("submit_load")
parser.add_argument("--messages", type=int, default=2000)
args = parser.parse_args()
BLOCK, OWN_BLOCK, COMMIT, CHECKPOINT_SIGN, EPOCH_START, EVIDENCE, VOTE_CERT = range(1, 8)
GC_DEPTH, MAX_VOTES, PORT = 200, 16, 4749


def H(domain, *parts):
    return hashlib.sha256(domain.encode() + b"\0" + b"".join(parts)).digest()


def crc32c(data, table=[]):
    if not table:
        for i in range(256):
            for _ in range(8):
                i = i >> 1 ^ (0x82f63b78 if i & 1 else 0)
            table.append(i)
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc ^ 0xffffffff


def records(folder):
    """Type and body of each record, frame by frame as long as the chain of frames holds."""
    previous, generation, lsn = 0, 0, 1
    for segment in sorted((folder / "wal").glob("*.wal")):
        data, at = segment.read_bytes(), 0
        while at + 64 <= len(data):
            magic, crc, records_crc, length, gen, first, durable, position, _, count, before = struct.unpack("<4sIIIQQQQQII", data[at:at + 64])
            if magic != b"CWL1" or crc != crc32c(data[at + 8:at + 64]) or gen < generation or before != previous:
                break
            lab.expect(first == lsn and position == int(segment.stem, 16) << 32 | at and durable < first + count, "a frame out of place")
            lab.expect(records_crc == crc32c(data[at + 64:at + length]), "a frame that is damaged")
            offset = at + 64
            for _ in range(count):
                size, kind = struct.unpack("<IB", data[offset:offset + 5])
                yield kind, data[offset + 5:offset + 5 + size]
                offset += 5 + size
            lab.expect(offset == at + length, "records don't fill their frame")
            previous, generation, lsn = crc, gen, first + count
            at += -(-length // 4096) * 4096


class Chain:
    def __init__(self, genesis):
        name = genesis[2]
        self.id, self.start = H("chappe/chain/1", genesis), struct.unpack("<Q", genesis[3 + name:11 + name])[0]
        self.key, at = genesis[14 + name:46 + name], 46 + name
        stake, address = genesis[at:at + 4], struct.unpack("<H", genesis[at + 4:at + 6])[0]
        at += 6 + address
        at += 2 + 32 * struct.unpack("<H", genesis[at:at + 2])[0]
        parameters = genesis[at + 7 * 8:]
        lab.expect(len(parameters) == 11 * 8, "a genesis of another length")
        lab.expect(struct.unpack("<11Q", parameters) == (1, 1, GC_DEPTH, 1 << 20, 16384, MAX_VOTES, 4, 32, 0, 0, 0), "not the defaults")
        self.committee = H("chappe/committee/1", self.id, bytes(4), b"\1\0", self.key, stake, parameters)
        self.blocks = [(bytes(6) + bytes(2) + H("chappe/genesis/1", self.id, bytes(4), bytes(2), bytes(32)), self.start)]
        self.commits, self.times, self.gc = [self.id], [self.start], 0
        self.voted, self.transactions, self.payloads, self.seen = 0, 0, 0, set()

    def block(self, body):
        version, author, epoch, round_, ancestors, votes, checkpoints, flags, length, items, zero, time = \
            struct.unpack("<HHIIHHHHIIIQ", body[:40])
        lab.expect((version, author, epoch, flags, zero, checkpoints) == (1, 0, 0, 0, 0, 0), "a fixed field")
        lab.expect(round_ == len(self.blocks) and ancestors == 1, "rounds do not follow one another")
        lab.expect(body[72:112] == self.blocks[-1][0], "a block is not on the one before")
        size = 72 + 40 + 40 * votes
        header, signature, payload = body[:size], body[size:size + 64], body[size + 64:]
        lab.expect(len(payload) == length <= 1 << 20 and votes <= MAX_VOTES, "lengths")
        lab.expect(body[40:72] == (H("chappe/payload/0", payload) if length else bytes(32)), "the payload's root")
        digest = H("chappe/block/1", self.id, header)
        self.signed(digest, signature)
        last = self.voted
        for i in range(votes):  # those not voted for before, ascending, and only what stands before in the log
            index, voted = struct.unpack("<Q32s", header[112 + 40 * i:152 + 40 * i])
            lab.expect(index == last + 1 if votes < MAX_VOTES or i else index > last, f"vote {index} after {last}")
            lab.expect(index < len(self.commits) and self.commits[index] == voted, "a vote for what is not committed")
            last = index
        self.voted = last
        count, at = 0, 0
        while at < length:
            size = struct.unpack("<H", payload[at + 106:at + 108])[0]
            tx_id = hashlib.sha256(payload[at:at + size]).digest()
            lab.expect(112 <= size <= 1200 and tx_id not in self.seen, "a transaction twice, or of a length that can't be")
            self.seen.add(tx_id)
            count, at = count + 1, at + size
        lab.expect(count == items and at == length and (items or not length), "the payload's items")
        self.transactions, self.payloads = self.transactions + count, self.payloads + (count > 0)
        self.blocks.append((struct.pack("<IHH", round_, 0, 0) + digest, time))

    def signed(self, digest, signature):
        if len(self.blocks) % 20 == 1:  # it is slow
            lab.expect(rfc8032.holds(self.key, b"chappe/sig/block/1\0" + self.id + digest, signature), "a block's signature")

    def commit(self, body):
        """One leader a round, voted for by the next and certified by the one after that: each round is a commit of one block."""
        index = len(self.commits)
        lab.expect(len(self.blocks) > index + 2, "a commit before its certificate")
        leader, _ = self.blocks[index]
        self.gc = max(self.gc, index - 1 - GC_DEPTH, 0)
        time = max(self.times[-1], self.blocks[index - 1][1])
        made = struct.pack("<HIQ", 1, 0, index) + self.commits[-1] + leader + struct.pack("<HIQII", 0, self.gc, time, 0, 1) + leader
        lab.expect(body == made, f"commit {index} is {body.hex()}, not {made.hex()}")
        self.commits.append(H("chappe/commit/1", self.id, body))
        self.times.append(time)

    def vote_cert(self, body):
        index, digest = struct.unpack("<Q32s", body[:40])
        lab.expect(self.commits[index] == digest, "a proof of another commit")


def read(folder, guard):
    chain = Chain((folder / "chain.genesis").read_bytes())
    kinds = {}
    for number, (kind, body) in enumerate(records(folder)):
        kinds[kind] = kinds.get(kind, 0) + 1
        if number == 0:
            lab.expect(kind == EPOCH_START and body == bytes(4) + chain.committee, "the log does not begin with its epoch")
        else:
            {OWN_BLOCK: chain.block, COMMIT: chain.commit, VOTE_CERT: chain.vote_cert}[kind](body)
    slots = [guard[i * 4096:i * 4096 + 64] for i in (0, 1)]
    for slot in slots:
        lab.expect(slot[56:64] == H("chappe/guard/1", slot[8:56])[:8], "a guard's slot is damaged")
    count, epoch, round_, digest, seq = max(struct.unpack("<QII32sQ", slot[:56]) for slot in slots)
    lab.expect(epoch == seq == 0 and round_ <= len(chain.blocks) - 1, "the guard is ahead of the log")
    lab.expect(round_ == 0 or digest == chain.blocks[round_][0][8:], "the guard names another block")
    return chain, round_, kinds


def run():
    with lab.Lab(args.chappe, networked=False) as net:
        folder = net.init("node", "--port", str(PORT))
        total = 0
        for turn in range(3):
            process = net.start(folder)
            done = subprocess.run([args.submit_load, "--node", f"127.0.0.1:{PORT}", "--genesis", str(folder / "chain.genesis"),
                                   "--registrar", str(folder / "registrar.key"), "--handle", f"account{turn}", "--messages",
                                   str(args.messages), "--per-frame", "16"], capture_output=True, text=True, timeout=120)
            lab.expect(done.returncode == 0, f"submit_load: {done.stderr}")
            total += args.messages + 1
            if turn < 2:
                process.send_signal(signal.SIGKILL)
                process.wait()
        net.wait_until(lambda: net.status(folder)["commit_index"] > GC_DEPTH + 20, 60, "rounds are collected", process)
        status = net.status(folder)
        net.stop(folder, process)
        chain, guarded, kinds = read(folder, (folder / "guard").read_bytes())
        print(f"{len(chain.blocks) - 1} rounds, {len(chain.commits) - 1} commits, {chain.transactions} transactions in {chain.payloads} "
              f"payloads, votes up to {chain.voted}, guard at {guarded}, records by type {kinds}")
        lab.expect(len(chain.commits) - 1 >= status["commit_index"] and guarded >= status["round"], "the log lacks what was told")
        lab.expect(chain.transactions == total, f"{total} transactions were taken")
        lab.expect(chain.gc > 0 and chain.voted > 0 and chain.payloads > 3, "too little happened")
        lab.expect(len(chain.commits) - 1 == len(chain.blocks) - 1 - 2, "a decided round is not committed")


lab.main(run)
