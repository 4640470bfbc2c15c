#!/usr/bin/env python3
"""Objects over the committee: f validators are killed and their disks erased while people write and read. Every file whose
message has a receipt is read back equal, at other validators, also when f others are gone; the replaced ones become whole."""
import argparse
import hashlib
import json
import os
import random
import re
import shutil
import threading
import time
import urllib.request

import ipld
import lab
from people import Person, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("--validators", type=int, default=4)
parser.add_argument("--people", type=int, default=3)
parser.add_argument("--mib", type=int, default=8, help="to be stored, at least")
args = parser.parse_args()
N, F = args.validators, (args.validators - 1) // 3
SIZES = [700, 9000, 30000, 300000, 1200000] if args.mib < 100 else [700, 30000, 1200000, 30000000, 110000000]

FILES = 10 if args.mib < 100 else 10**9  # of one person, but for the bytes


class Writer(threading.Thread):
    """Sends files to itself through validators that are up; reads one back at another validator now and then."""

    def __init__(self, person, up, seed, share):
        super().__init__(daemon=True)
        self.person, self.up, self.chance, self.share = person, up, random.Random(seed), share
        self.done, self.bytes, self.read, self.refused, self.wrong, self.over = [], 0, 0, 0, [], False

    def run(self):
        while not self.over or self.bytes < self.share:
            if len(self.done) >= FILES and not self.over:
                time.sleep(0.1)
                continue
            size = self.chance.choice(SIZES) + self.chance.randrange(1000)
            path = self.person.home / "file"
            content = self.chance.randbytes(size)
            path.write_bytes(content)
            answer = self.attempt("send", self.person.name, "--attach", str(path))
            if answer.returncode != 0:
                self.refused += 1
                time.sleep(0.2)
                continue
            receipt = json.loads(answer.stdout.splitlines()[-1])
            self.done.append((receipt["inbox_sequence"], hashlib.sha256(content).hexdigest()))
            self.bytes += size
            if self.chance.random() < 0.3:
                self.read_back(*self.chance.choice(self.done), self.chance.choice(self.up))

    def attempt(self, *words):
        node = self.chance.choice(self.up)
        return self.person.attempt(*words, "--json", "--timeout", "15", "--node", node)

    def read_back(self, sequence, digest, node, patience=1):
        out = self.person.home / "back"
        for _ in range(patience):
            answer = self.person.attempt("fetch", str(sequence), "--force", "--out", str(out), "--timeout", "30", "--node",
                                         node)
            if answer.returncode == 0:
                break
        if answer.returncode != 0:
            return f"{self.person.name} {sequence} at {node}: {answer.returncode} {answer.stderr.strip()}"
        if hashlib.sha256(out.read_bytes()).hexdigest() != digest:
            self.wrong.append(f"{self.person.name} {sequence} at {node}: other bytes")
            return self.wrong[-1]
        self.read += 1
        return None


def open_gateways(net):
    """Each validator serves IPFS clients, at a port of its own."""
    net.devnet("stop")
    ports = {i: 45000 + i for i in range(1, N + 1)}
    for i, port in ports.items():
        path = net.folder_of(i) / "chappe.yaml"
        path.write_text(re.sub(r"ipfs_port: 0", f"ipfs_port: {port}", path.read_text()))
    net.devnet("start")
    return ports


def check_gateways(writer, node, ports, chance):
    """An IPFS client gets what lies over the committee, block by block and as a CAR, from a validator like any other."""
    inbox = writer.person.run("inbox", "--json", "--from", "1", "--limit", "1000000", "--node", node)
    cids = [message["cid"] for message in map(json.loads, inbox.splitlines()) if "cid" in message]
    for cid in chance.sample(cids, min(5, len(cids))):
        at = f"http://127.0.0.1:{chance.choice(ports)}/ipfs/{cid}"
        with urllib.request.urlopen(f"{at}?format=raw", timeout=60) as answer:
            block = answer.read()
        lab.expect(ipld.matches(cid, block), f"{at}: another block")
        if ipld.is_raw(cid):
            continue
        with urllib.request.urlopen(f"{at}?format=car", timeout=60) as answer:
            roots, blocks = ipld.read_car(answer.read())
        lab.expect(roots == [cid] and len(blocks) > 2 and all(ipld.matches(*one) for one in blocks), f"{at}: a wrong CAR")


def erase(net, i):
    """Keys, genesis and settings come from a backup; all else is gone."""
    net.devnet("kill", str(i))
    net.objects_of(i).erase()
    for name in ("wal", "lmdb", "guard"):
        path = net.folder_of(i) / name
        if path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def counters(net, i):
    return net.status_of(i).get("counters", {})


def whole(net, i):
    """It has gone through all lists, and nothing of them is missing."""
    c = counters(net, i)
    return c and c["serve_repair_left"] == 0 and c["serve_repair_waiting"] == 0 and c["serve_blocks_restored_total"] > 0


def run():
    seed = int(os.environ.get("CHAPPE_SEED", time.time_ns()))
    print(f"seed {seed} (CHAPPE_SEED)")
    chance = random.Random(seed)
    with lab.Devnet(args.chappe, N) as net:
        ports = open_gateways(net)
        genesis = net.folder_of(1) / "chain.genesis"
        addresses = {i: net.address_of(i) for i in range(1, N + 1)}
        registrar = new_registrar(net, net.folder_of(1), addresses[1])
        up = list(addresses.values())
        writers = []
        for k in range(args.people):
            person = Person(net, f"person{k}", genesis, addresses[1 + k % N])
            register(net, person, registrar, person.name)
            writers.append(Writer(person, up, seed + k, args.mib * 2**20 / args.people))
        began = time.monotonic()
        for writer in writers:
            writer.start()
        net.wait_until(lambda: all(w.done for w in writers), 60 + 2 * args.mib, "each person has stored something")
        lost = chance.sample(range(1, N + 1), F)
        for i in lost:
            up.remove(addresses[i])
            erase(net, i)
        before = sum(len(w.done) for w in writers)
        net.wait_until(lambda: sum(len(w.done) for w in writers) >= before + args.people, 120 + 2 * args.mib,
                       f"files are stored while {lost} are gone")
        print(f"{lost} killed and erased; {sum(len(w.done) for w in writers)} files stored")
        for i in lost:
            net.devnet("restart", str(i), "--rejoin")
        for writer in writers:
            writer.over = True
        for writer in writers:
            writer.join(2400)
            lab.expect(not writer.is_alive(), "a person hangs")
        seconds = time.monotonic() - began
        files, stored = sum(len(w.done) for w in writers), sum(w.bytes for w in writers)
        print(f"{files} files, {stored / 2**20:.1f} MiB in {seconds:.1f} s with commands of their own; "
              f"{sum(w.refused for w in writers)} refused, {sum(w.read for w in writers)} read back meanwhile")
        began = time.monotonic()
        for i in lost:
            net.wait_until(lambda: whole(net, i), 600, f"validator {i} is whole again")
            c = counters(net, i)
            print(f"validator {i} whole after {time.monotonic() - began:.1f} s: {c['serve_blocks_restored_total']} blocks, "
                  f"{c['serve_blocks_restored_bytes_total'] / 2**20:.1f} MiB restored")
        gone = chance.sample([i for i in range(1, N + 1) if i not in lost], F)
        for i in gone:
            net.devnet("kill", str(i))
        left = [addresses[i] for i in range(1, N + 1) if i not in gone]
        for writer in writers:
            for sequence, digest in writer.done:
                told = writer.read_back(sequence, digest, chance.choice(left), 2)
                lab.expect(told is None, f"stored, and then: {told}")
            lab.expect(not writer.wrong, f"{writer.wrong}")
            check_gateways(writer, left[0], [ports[i] for i in range(1, N + 1) if i not in gone], chance)
        print(f"{gone} gone too: all {files} read back equal at {len(left)} validators")
        for i in range(1, N + 1):
            if i not in gone:
                c = counters(net, i)
                lab.expect(c["serve_block_manifests_wrong_total"] == 0, f"validator {i} met a wrong manifest")


lab.main(run)
