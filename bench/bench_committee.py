#!/usr/bin/env python3
"""Committees on this machine: how long a commit takes, how much they carry, what it costs. One line of JSON a run, then a summary.

    bench/bench_committee.py BUILD [--repeats 3] [--n 1,4,7,10] [--delay-ms 20] [--messages 40000]

BUILD is a release build. `throughput`: transactions a second with a feeder at each of up to four validators, CPU a transaction by stage, bytes sent a byte
committed. `latency`: hosts of their own with a set one-way delay on each link, for commits on an idle network and at half of a
load that they carry. Needs the rights to make network namespaces for the latter."""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from machine import cpu_by_thread

parser = argparse.ArgumentParser()
parser.add_argument("build", type=pathlib.Path)
parser.add_argument("--repeats", type=int, default=3)
parser.add_argument("--n", default="1,4,7,10")
parser.add_argument("--messages", type=int, default=40000)
parser.add_argument("--delay-ms", type=int, default=20)
parser.add_argument("--only", choices=["throughput", "latency", "idle"])
args = parser.parse_args()
CHAPPE, LOAD = args.build / "node/program/chappe", args.build / "tests/tools/submit_load"


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Net:
    def __init__(self, n, *options):
        self.n, self.folder = n, pathlib.Path(tempfile.mkdtemp(prefix="chappe-bench-"))
        self.options = options

    def __enter__(self):
        self.devnet("start", "--n", self.n, "--port", 24000, *self.options)
        return self

    def __exit__(self, *_):
        subprocess.run([CHAPPE, "devnet", "stop", "--folder", self.folder / "net"], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def devnet(self, command, *words):
        return run(CHAPPE, "devnet", command, "--folder", self.folder / "net", *words)

    def every(self):
        return json.loads(self.devnet("status", "--json"))["validators"]

    def load(self, handle, messages, *options, at=1):
        first = self.folder / "net" / "1"
        return json.loads(self.devnet("exec", "--", LOAD.resolve(), "--node", self.every()[at - 1]["address"], "--genesis", first / "chain.genesis",
                                      "--registrar", first / "registrar.key", "--handle", handle, "--messages", messages, *options))


def snapshot(net):
    every = net.every()
    cpu = {}
    for validator in every:
        for name, seconds in cpu_by_thread(validator["pid"]).items():
            cpu[name] = cpu.get(name, 0) + seconds
    status = [validator["status"] for validator in every]
    return {"cpu": cpu, "sent": sum(s["port"]["tx_bytes"] for s in status), "logged": status[0]["counters"]["log_bytes_appended_total"],
            "commits": status[0]["commit_index"], "rounds": status[0]["round"], "time": time.monotonic(),
            "checked": sum(s["counters"]["apply_signatures_checked_total"] for s in status)}


def settle(net):
    """Until all have applied the same."""
    for _ in range(600):
        if len({v["status"]["log_root"] for v in net.every()}) == 1:
            return
        time.sleep(0.05)


def feed(net, n):
    """Feeders side by side, their messages shared out; what each was told."""
    feeders, told = min(n, 4), []
    threads = [threading.Thread(target=lambda i=i: told.append(net.load(f"feeder{i}", args.messages // feeders, "--in-flight", 64,
                                                                        "--per-frame", 64, at=i))) for i in range(1, feeders + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def throughput(n):
    with Net(n) as net:
        net.load("warm", 2000)
        settle(net)
        before = snapshot(net)
        all_told = feed(net, n)
        settle(net)
        after = snapshot(net)
    tx, bytes_each = sum(told["final"].get("OK", 0) for told in all_told), 112 + 110 + 120
    seconds = max(told["seconds"] for told in all_told)
    cpu = {name: round((after["cpu"][name] - before["cpu"].get(name, 0)) / tx / n * 1e6, 2) for name in sorted(after["cpu"])}
    return {"what": "throughput", "n": n, "transactions_a_second": round(tx / seconds),
            "p50_ms": max(told["final_p50_ms"] for told in all_told), "p99_ms": max(told["final_p99_ms"] for told in all_told), "cpu_us_a_transaction_and_validator": round(sum(cpu.values()), 2), "by_stage": cpu,
            "sent_a_committed_byte": round((after["sent"] - before["sent"]) / (tx * bytes_each), 2),
            "commits": after["commits"] - before["commits"], "rounds": after["rounds"] - before["rounds"]}


def percentile(values, percent):
    values = sorted(values)
    return values[(len(values) - 1) * percent // 100]


def delay_all(net):
    """The connections begin anew with it: one that was begun without holds the sudden delay for congestion, for long."""
    for a in range(1, net.n + 1):
        for b in range(a + 1, net.n + 1):
            net.devnet("delay", a, b, args.delay_ms)
    for i in range(1, net.n + 1):
        net.devnet("restart", i)
    time.sleep(3)


def latency(n, rate=None):
    """A lone transaction at a time beside nothing, or beside a load; in milliseconds, one-way delays and rounds."""
    with Net(n, "--netns") as net:
        delay_all(net)
        net.load("warm", 4000)
        feeder = None
        if rate:
            feeder = threading.Thread(target=net.load, args=("feeder", rate * 20, "--per-frame", 16, "--in-flight", 64, "--rate", rate))
            feeder.start()
            time.sleep(2)
        before = snapshot(net)
        told = net.load("probe", 100, "--per-frame", 1, "--in-flight", 1)
        after = snapshot(net)
        if feeder:
            feeder.join()
    round_ms = (after["time"] - before["time"]) * 1000 / max(after["rounds"] - before["rounds"], 1)
    return {"what": "latency", "n": n, "beside_a_second": rate or 0, "delay_ms": args.delay_ms,
            **{f"p{p}_{unit}": round(told[f"final_p{p}_ms"] / by, 2) for p in (50, 99)
               for unit, by in (("ms", 1), ("delays", args.delay_ms), ("rounds", round_ms))}}


def idle(n, *options):
    with Net(n, *options) as net:
        time.sleep(3)
        before = snapshot(net)
        time.sleep(30)
        after = snapshot(net)
    return {"what": "idle", "n": n, "on": "hosts of their own" if options else "sockets",
            "cores": round((sum(after["cpu"].values()) - sum(before["cpu"].values())) / (after["time"] - before["time"]), 4)}


def carried_with_delays():
    """What four on hosts of their own carry with the delay set."""
    with Net(4, "--netns") as net:
        delay_all(net)
        net.load("warm", 4000)
        told = net.load("feeder", args.messages // 2, "--in-flight", 64, "--per-frame", 64)
        carried = round(told["final"].get("OK", 0) / told["seconds"])
    print(json.dumps({"what": "carried with delays", "transactions_a_second": carried}), flush=True)
    return carried


def repeat(measure, *words):
    runs = [measure(*words) for _ in range(args.repeats)]
    for one in runs:
        print(json.dumps(one), flush=True)
    numbers = [name for name, value in runs[0].items() if isinstance(value, (int, float)) and name not in ("n", "delay_ms")]
    spread = {name: [min(r[name] for r in runs), statistics.median(r[name] for r in runs), max(r[name] for r in runs)] for name in numbers}
    print(json.dumps({"summary_of": runs[0]["what"], "n": runs[0]["n"], "least_median_most": spread}), flush=True)
    return spread


def main():
    committees = [int(n) for n in args.n.split(",")]
    print(json.dumps({"cores": os.cpu_count(), "load": os.getloadavg()}), flush=True)
    if args.only in (None, "idle"):
        repeat(idle, 4)
        if os.geteuid() == 0:
            repeat(idle, 4, "--netns")
    for n in committees if args.only in (None, "throughput") else []:
        repeat(throughput, n)
    if args.only in (None, "latency"):
        repeat(latency, 4)
        repeat(latency, 4, carried_with_delays() // 2)

main()
