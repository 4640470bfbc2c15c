#!/usr/bin/env python3
"""Objects in a Ceph pool against `rados bench` on the same pool, before and after; the better one counts. On a cluster of one
machine, which tests/cluster/ceph.py starts: the ratios tell something, the rates are this machine's.

    bench/pool_against_rados.py build/bench/bench_object [--mib 128] [--repeats 3] [--osds 1] [--seconds 5]
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "cluster"))
import ceph

parser = argparse.ArgumentParser()
parser.add_argument("bench_object")
parser.add_argument("--mib", type=int, default=128)
parser.add_argument("--repeats", type=int, default=3)
parser.add_argument("--osds", type=int, default=1)
parser.add_argument("--seconds", type=int, default=5)
args = parser.parse_args()
# As many under way as bench_object has: 1,024 blocks of 4 KiB go in batches of 1 MiB, gets are one after another.
SIZES = {"4 KiB": (4096, 256), "1 MiB": (1 << 20, 16)}


def rates(cluster):
    """MB/s of rados bench: writes, and random reads one after another."""
    found = {}
    for name, (length, depth) in SIZES.items():
        for what, words in (("put", ["write", "-b", str(length), "-t", str(depth), "--no-cleanup"]), ("get", ["rand", "-t", "1"])):
            told = cluster.rados("bench", str(args.seconds), *words, "--run-name", name.replace(" ", ""))
            found[name, what] = float(re.search(r"Bandwidth \(MB/sec\): +([\d.]+)", told)[1]) * 1.048576  # it says MB of MiB
        cluster.rados("cleanup", "--run-name", name.replace(" ", ""))
    return found


def one_run(cluster, number):
    before = rates(cluster)
    told = subprocess.run([args.bench_object, f"run{number}", str(args.mib), "20000"], check=True, capture_output=True, text=True,
                          env=cluster.environment())
    ours = json.loads(told.stdout)
    for name in filter(None, cluster.rados("-N", "bench", "ls").split("\n")):
        cluster.rados("-N", "bench", "rm", name)
    after = rates(cluster)
    return {key: (ours[key[0]][f"{key[1]}_mb_s"], max(before[key], after[key])) for key in before}


def spread(values):
    return f"{statistics.median(values):8.2f}  ({min(values):.2f} .. {max(values):.2f})"


ceph.enter_network()
with ceph.Ceph(args.osds) as started:
    runs = [one_run(started, i) for i in range(args.repeats)]
print(f"median (least .. most) of {args.repeats} runs, {args.osds} OSDs; MB/s")
for name in SIZES:
    for what in ("put", "get"):
        pairs = [run[name, what] for run in runs]
        print(f"{what} {name}   {spread([a for a, b in pairs])}   rados bench {spread([b for a, b in pairs])}"
              f"   ratio {spread([a / b for a, b in pairs])}")
