#!/usr/bin/env python3
"""Objects over a committee on this machine: what is put and got a second, by clients over QUIC, beside what the disk and the raw
stages give in the same run; with validators gone; how fast an erased one is whole again; memory, disk, processor time.

    bench/objects.py BUILD [--n 4] [--repeats 3] [--mib 128] [--only PART,...] [--json FILE]

BUILD is a release build. Parts: raw (hash, cipher, erasure code, the store without a network, memory of its index), local (one
validator), coded (a committee), degraded (the same read while f validators are gone), whole (a client moves 1 GB; a validator
whose disk was erased becomes whole). Needs fio. All validators share this machine: the rates are of all their work together,
and `/ all stages` holds them against the same work by the raw stages one after another, counted for every validator. Scrubbing is
off: each validator would read its disk beside what is measured.
A figure is the median of the repeats, with the least and the most. Processor time is disturbed less by other work than rates."""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from machine import cpu_by_thread, described, durable_write, spread

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/cluster"))
import lab
from people import Person, new_registrar, register

PARTS = ["raw", "local", "coded", "degraded", "whole"]
parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
parser.add_argument("build", type=pathlib.Path)
parser.add_argument("--n", type=int, default=4)
parser.add_argument("--repeats", type=int, default=3)
parser.add_argument("--mib", type=int, default=128, help="moved by one figure of large objects; an eighth of small ones")
parser.add_argument("--clients", type=int, default=8, help="at once, where what is carried at most is looked for")
parser.add_argument("--large", type=int, default=1_000_000_000, help="bytes of the file whose client's memory is looked at")
parser.add_argument("--blocks", type=int, default=1_000_000, help="in the index whose memory is looked at")
parser.add_argument("--repair-mib", default="32,1024", help="bounds of repair, a second, to be tried")
parser.add_argument("--only", default=",".join(PARTS))
parser.add_argument("--json", type=pathlib.Path, help="write every single result there")
args = parser.parse_args()
ONLY = args.only.split(",")
CHAPPE, LOAD = args.build / "node/program/chappe", (args.build / "bench/object_load").resolve()
SIZES = {"4 KiB": 4096, "1 MiB": 1 << 20, "100 MB": 100_000_000}
F = (args.n - 1) // 3
found, threads = {}, {}  # values by the name of a figure; processor time by thread


def many(size):
    """Clients at once, where what is carried at most is looked for."""
    return args.clients if size != "100 MB" else 2


def note(name, value):
    found.setdefault(name, []).append(value)


def middle(name):
    values = sorted(found[name])
    return values[len(values) // 2]


def told(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    lab.expect(done.returncode == 0, f"{' '.join(map(str, words))}: {done.stderr or done.stdout}")
    return json.loads(done.stdout)


# ---- the stages ----

def raw(folder):
    work = folder / "raw"
    for repeat in range(args.repeats):
        fio = durable_write(folder, args.mib)[0]
        work.mkdir()
        one = told(args.build / "bench/bench_object", work, max(args.mib, 100), 1000 if repeat else args.blocks)
        shutil.rmtree(work)
        fio = max(fio, durable_write(folder, args.mib)[0])
        note("fio", fio)
        for size in ("4 KiB", "1 MiB"):
            note(f"hash {size}", one[size]["hash_mb_s"])
            note(f"cipher {size}", one[size]["cipher_mb_s"])
        for size in ("4 KiB", "1 MiB", "100 MiB"):
            for what in ("put", "get"):
                note(f"store {what} {size}", one[size][f"{what}_mb_s"])
            note(f"store put {size} / fio", one[size]["put_mb_s"] / fio)
        if not repeat:
            note("index bytes a block", one["index"]["bytes_per_block"])
            note("index resident MB a million", one["index"]["resident_bytes_per_block"])
        code = told(args.build / "bench/bench_erasure", args.n)
        note("code", code["encode_mb_s"])
        note("decode", code["decode_mb_s"])


def stages(what, size, n, fio):
    """MB/s of the raw stages one after another: each once, and as often as this machine does it for all validators. A put: the
    client and the validator that takes the block hash it, that one codes and hashes the shards, the others hash theirs; all
    encrypt and write. A get: decrypt, hash the shards that came, decode, code again, hash the shards made and the block, at the
    client too."""
    block = "4 KiB" if size == "4 KiB" else "1 MiB"
    hashed, cipher = middle(f"hash {block}"), middle(f"cipher {block}")
    code, decode = (middle("code"), middle("decode")) if n > 1 and block != "4 KiB" else (float("inf"), float("inf"))
    f = (n - 1) // 3
    k = 1 if block == "4 KiB" else f + 1
    kept = (2 * f + 1 if k == 1 else n) / k  # bytes kept a byte put
    if what == "put":
        once = 1 / hashed + 1 / cipher + 1 / code + 1 / fio
        shards = kept + (kept - 1 / k) if n > 1 else 0
        return 1 / once, 1 / ((2 + shards) / hashed + kept / cipher + 1 / code + kept / fio)
    once = 1 / hashed + 1 / cipher + 1 / decode
    shards = (k - 1) / k + kept - 1 if k > 1 else 0
    return 1 / once, 1 / ((2 + shards) / hashed + 1 / cipher + 1 / decode + (1 / code if k > 1 else 0))


# ---- a committee ----

class Committee(lab.Devnet):
    def __init__(self, n):
        super().__init__(CHAPPE, n, "--no-relation")
        self.n, self.segment_mib = n, 64

    def __enter__(self):
        super().__enter__()
        genesis = self.folder_of(1) / "chain.genesis"
        registrar = new_registrar(self, self.folder_of(1), self.address_of(1))
        self.person = Person(self, "writer", genesis, self.address_of(1))
        register(self, self.person, registrar, "writer")
        self.nodes = [self.address_of(i) for i in range(1, self.n + 1)]
        self.common = ["--genesis", str(genesis), "--account", str(self.person.home / "account.key")]
        self.restart(upkeep_mib_s=0)
        return self

    def cpu(self):
        total = {}
        for validator in self.every():
            for name, seconds in cpu_by_thread(validator["pid"]).items() if validator["alive"] else []:
                total[name] = total.get(name, 0) + seconds
        return total

    def load(self, what, size, clients, nodes=None):
        """MB/s, and what it took; the objects' addresses are kept by size."""
        length = SIZES[size]
        count = max(clients, args.mib * 2**20 // (8 if size == "4 KiB" else 1) // length)
        if clients == 1 and size != "1 MiB":
            count = max(1, count // 4)
        words = [str(LOAD), what, *self.common, "--addresses", str(self.folder / f"addresses.{length}.{clients}"), "--bytes",
                 str(length), "--count", str(count), "--clients", str(clients)]
        for node in nodes or self.nodes:
            words += ["--node", node]
        before = self.cpu()
        one = told(*self.among_people(words))
        after = self.cpu()
        gb = one["bytes"] / 1e9
        one["mb_s"] = one["bytes"] / 1e6 / one["seconds"]
        one["client_cpu_s_gb"] = one["cpu_s"] / gb
        one["threads_s_gb"] = {name: (after[name] - before.get(name, 0)) / gb for name in after}
        one["nodes_cpu_s_gb"] = sum(one["threads_s_gb"].values())
        return one

    def restart(self, **settings):
        self.devnet("stop")
        for i in range(1, self.n + 1):
            self.configure_stopped(i, **settings)
        self.devnet("start")
        self.wait_until(lambda: all((v["status"] or {}).get("ready") for v in self.every()), 60, "all are ready")

    def sealed_bytes(self):
        """Of all objects on all disks, once no segment is open: one of another size than is set is sealed at a start."""
        self.segment_mib ^= 1
        self.restart(object_segment_mib=self.segment_mib)
        return {name: sum(path.stat().st_blocks * 512 for path in self.net.glob(f"*/{name}/**/*") if path.is_file())
                for name in ("obj", "wal", "lmdb")}

    def kill(self, numbers):
        for i in numbers:
            self.devnet("kill", str(i))

    def revive(self, numbers):
        for i in numbers:
            self.devnet("restart", str(i))
        self.wait_until(lambda: all((v["status"] or {}).get("ready") for v in self.every()), 60, "all are ready")
        self.expect_equal(60)


def puts_and_gets(net, name):
    beside = net.sealed_bytes()
    for size in SIZES:
        stored = 0
        for _ in range(args.repeats):
            fio = durable_write(net.folder, args.mib)[0]
            busy = net.load("put", size, many(size))
            fio = max(fio, durable_write(net.folder, args.mib)[0])
            one = net.load("put", size, 1)
            stored += busy["bytes"] + one["bytes"]
            note_put(net, name, size, busy, one, fio)
        now = net.sealed_bytes()
        note(f"{name} {size}, bytes on all disks a byte", (now["obj"] - beside["obj"]) / stored)
        note(f"{name} {size}, of the log a byte", (now["wal"] - beside["wal"]) / stored)
        note(f"{name} {size}, of LMDB a byte", (now["lmdb"] - beside["lmdb"]) / stored)
        beside = now
        for _ in range(args.repeats):
            note_get(net, name, size, net.load("get", size, many(size)), net.load("get", size, 1))


def note_rates(name, what, size, busy, one):
    note(f"{name} {what} {size}", busy["mb_s"])
    note(f"{name} {what} {size}, one client", one["mb_s"])
    note(f"{name} {what} {size}, one client p50 ms", one["p50_ms"])
    note(f"{name} {what} {size}, validators' s/GB", busy["nodes_cpu_s_gb"])
    note(f"{name} {what} {size}, clients' s/GB", busy["client_cpu_s_gb"])
    threads.setdefault(f"{name} {what} {size}", []).append(busy["threads_s_gb"])


def note_put(net, name, size, busy, one, fio):
    note_rates(name, "put", size, busy, one)
    note(f"{name} put {size} / fio", busy["mb_s"] / fio)
    if "raw" in ONLY:
        once, every = stages("put", size, net.n, fio)
        note(f"{name} put {size} / stages once", busy["mb_s"] / once)
        note(f"{name} put {size} / all stages", busy["mb_s"] / every)


def note_get(net, name, size, busy, one):
    note_rates(name, "get", size, busy, one)
    if "raw" in ONLY:
        once, every = stages("get", size, net.n, None)
        note(f"{name} get {size} / stages once", busy["mb_s"] / once)
        note(f"{name} get {size} / all stages", busy["mb_s"] / every)


def degraded(net):
    """The same objects by the same clients of the same validators, with all and with f gone, in turn."""
    gone = list(range(args.n - F + 1, args.n + 1))
    there = net.nodes[:args.n - F]
    if "coded" not in ONLY:
        for size in SIZES:
            net.load("put", size, many(size))
    for _ in range(args.repeats):
        healthy = {size: net.load("get", size, many(size), there)["mb_s"] for size in SIZES}
        net.kill(gone)
        for size in SIZES:
            rate = net.load("get", size, many(size), there)["mb_s"]
            note(f"degraded get {size}", rate)
            note(f"degraded get {size} / healthy", rate / healthy[size])
        net.revive(gone)


# ---- one large file, and repair ----

def measured(net, *words):
    """Runs a command of the writer's: seconds, MiB of memory at most, processor seconds, what it told."""
    out = open(net.folder / "told", "w+b")
    began = time.monotonic()
    process = subprocess.Popen(net.person.words(*words, "--json"), stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    out.seek(0)
    text = out.read().decode()
    lab.expect(process.returncode == 0, f"{' '.join(words)}: {text}")
    return seconds, used.ru_maxrss / 1024, used.ru_utime + used.ru_stime, json.loads(text.splitlines()[-1])


def move_large(net):
    path, got = net.folder / "large", net.folder / "large.got"
    with open(path, "wb") as file:
        for at in range(0, args.large, 1 << 20):
            file.write(os.urandom(min(1 << 20, args.large - at)))
    seconds, mib, cpu, receipt = measured(net, "send", "writer", "--attach", str(path))
    note("large file sent, client's MiB", mib)
    note("large file sent, MB/s", args.large / 1e6 / seconds)
    note("large file sent, client's s/GB", cpu / (args.large / 1e9))
    seconds, mib, cpu, _ = measured(net, "fetch", str(receipt["inbox_sequence"]), "--out", str(got))
    note("large file fetched, client's MiB", mib)
    note("large file fetched, MB/s", args.large / 1e6 / seconds)
    note("large file fetched, client's s/GB", cpu / (args.large / 1e9))
    lab.expect(subprocess.run(["cmp", path, got]).returncode == 0, "another file came back")
    path.unlink()
    got.unlink()


def repair(net, bound_mib):
    """The last validator's disk is erased; MB/s from the first block that it restores until it is whole."""
    net.kill([args.n])
    for name in ("wal", "lmdb", "obj", "guard"):
        path = net.folder_of(args.n) / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    net.configure_stopped(args.n, repair_mib=bound_mib)
    net.devnet("restart", str(args.n), "--rejoin")
    before, points = net.cpu(), []

    def whole():
        status = net.status_of(args.n)
        counters = status.get("counters", {})
        if counters.get("serve_blocks_restored_total"):
            points.append((time.monotonic(), counters["serve_blocks_restored_bytes_total"]))
        return points and counters.get("serve_repair_left") == 0 and counters.get("serve_repair_waiting") == 0
    net.wait_until(whole, 120 + args.large / 1e6, f"validator {args.n} is whole")
    after = net.cpu()
    (t0, b0), (t1, b1) = points[0], next(point for point in points if point[1] == points[-1][1])
    lab.expect(b1 > 0.9 * args.large, f"{b1} bytes were restored")
    note(f"repair, MB/s of blocks, bound {bound_mib * 2**20 / 1e6:.0f}", (b1 - b0) / 1e6 / (t1 - t0) if t1 > t0 else b1 / 1e6)
    note(f"repair, validators' s/GB, bound {bound_mib * 2**20 / 1e6:.0f}", (sum(after.values()) - sum(before.values())) / (b1 / 1e9))



def tell(seconds):
    print(f"objects, committee of {args.n}, {seconds:.0f} s; median, least .. most of {args.repeats}; MB/s unless it says otherwise")
    print(json.dumps(described()))
    for name, values in found.items():
        print(f"{name:<52}{spread(values, 3 if max(values) < 10 else 1)}" + ("" if len(values) > 1 else "   (once)"))
    for name, runs in threads.items():
        by = {thread: sorted(run.get(thread, 0) for run in runs)[len(runs) // 2] for thread in runs[0]}
        print(f"{name}, s/GB by thread: " + ", ".join(f"{thread} {value:.2f}" for thread, value in sorted(by.items(), key=lambda t: -t[1])
                                                       if value >= 0.05))
    if args.json:
        args.json.write_text(json.dumps({"machine": described(), "arguments": {k: str(v) for k, v in vars(args).items()},
                                         "figures": found, "threads": threads}, indent=1) + "\n")


def run():
    began = time.monotonic()
    lab.expect(set(ONLY) <= set(PARTS), f"the parts are {', '.join(PARTS)}")
    lab.expect(shutil.which("fio"), "fio is missing (Debian: fio)")
    with lab.Lab(CHAPPE, networked=False) as here:
        if "raw" in ONLY:
            raw(here.folder)
    if "local" in ONLY:
        with Committee(1) as net:
            puts_and_gets(net, "local")
    if {"coded", "degraded", "whole"} & set(ONLY):
        with Committee(args.n) as net:
            if "coded" in ONLY:
                puts_and_gets(net, "coded")
            if "degraded" in ONLY:
                degraded(net)
            if "whole" in ONLY:
                move_large(net)
                for bound in args.repair_mib.split(","):
                    repair(net, int(bound))
    tell(time.monotonic() - began)


lab.main(run)
