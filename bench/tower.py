#!/usr/bin/env python3
"""What one validator carries, in one run: packets into its verify ring against dpdk-testpmd, transactions verified, applied and
durable, and which stage limits; the same with every signature taken for good; latency; what it costs when idle.

    bench/tower.py [--repeats N] [--messages N] [--rate N] [--build DIR] [--only PART,...] [--json FILE]

Builds what it measures in build/bench and build/bench-accept-all. Parts: packets, pipeline, latency, idle. A figure is the
median of the repeats, with the smallest and the largest one. Worth something only where nothing else runs; where something
must, `chrt -f 1 bench/tower.py` takes the cores from it (root; not for packets, where the kernel would get none). The processor
time of each thread is disturbed less and told too.
The part packets needs dpdk-testpmd (Debian: dpdk-dev).
"""
import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
PARTS = ["packets", "pipeline", "latency", "idle"]
ACCOUNTS = 1000

parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
parser.add_argument("--repeats", type=int, default=5)
parser.add_argument("--messages", type=int, default=1000000, help="transactions of one pipeline run")
parser.add_argument("--rate", type=int, default=0, help="of the latency run, a second; default: a tenth of what was verified")
parser.add_argument("--build", default=str(ROOT / "build"), help="folder of the builds")
parser.add_argument("--only", default=",".join(PARTS), help="parts to run")
parser.add_argument("--json", help="write every single result there")
args = parser.parse_args()


def build(name, *options):
    folder = pathlib.Path(args.build) / name
    if not folder.is_dir():
        run("meson", "setup", str(folder), str(ROOT), *options)
    print(f"building {folder} ...", file=sys.stderr, flush=True)
    run("ninja", "-C", str(folder), "node/program/chappe", "tests/tools/hose_pcap", "tests/tools/submit_load", "bench/bench_port")
    return folder


def run(*words, **options):
    done = subprocess.run(words, capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


class Node:
    """A validator in a folder; its threads' processor time, and its counters, at any moment."""

    def __init__(self, chappe, folder):
        self.chappe, self.folder, self.process = str(chappe), pathlib.Path(folder), None

    def init(self, *options):
        run(self.chappe, "init", "--folder", str(self.folder), "--plain-keys", "--no-relation", *options)
        return self

    def setting(self, key, value):
        path = self.folder / "chappe.yaml"
        text, count = re.subn(rf"(?m)^(\s+{key}:).*$", rf"\1 {value}", path.read_text())
        if count != 1:
            sys.exit(f"{path}: {count} lines for {key}")
        path.write_text(text)

    def start(self):
        self.log = open(self.folder / "run.log", "ab")
        self.process = subprocess.Popen([self.chappe, "run", "--folder", str(self.folder)], stdout=self.log, stderr=self.log)
        self.wait(lambda status: status, 60)

    def status(self):
        done = subprocess.run([self.chappe, "status", "--folder", str(self.folder), "--json"], capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def wait(self, condition, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            status = self.status()
            if condition(status):
                return status
            time.sleep(0.1)
        sys.exit(f"the node did not get there: {(self.folder / 'run.log').read_text()[-2000:]}")

    def stop(self):
        run(self.chappe, "stop", "--folder", str(self.folder))
        self.process.wait(60)
        self.log.close()

    def threads(self):
        """Processor seconds of each thread by name."""
        used = {}
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            text = (task / "stat").read_text()
            fields = text[text.rindex(")") + 2:].split()
            name = re.sub(r"^iou-.*", "kernel's io_uring", text[text.index("(") + 1:text.rindex(")")])
            used[name] = used.get(name, 0) + (int(fields[11]) + int(fields[12])) / TICK
        return used

    def memory_mib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0.0


def spread(values, digits=0):
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def packets(builds, work):
    if not shutil.which("dpdk-testpmd"):
        print("packets: left out, dpdk-testpmd is missing (apt-get install dpdk-dev)")
        return
    ratios = {}
    for _ in range(args.repeats):
        told = run(sys.executable, str(ROOT / "bench/port_against_testpmd.py"), str(builds["real"] / "bench/bench_port"),
                   env={name: value for name, value in os.environ.items() if name != "CHAPPE_BENCH_NAMESPACE"})
        for name, mine, theirs, ratio, by_time in re.findall(
                r"(?m)^(\S.*?): ours ([\d.]+) M/s.*testpmd rxonly ([\d.]+) M/s.*ours / theirs ([\d.]+) by rate, ([\d.]+) by", told):
            ratios.setdefault(name, []).append({"ours": float(mine), "testpmd": float(theirs), "by_rate": float(ratio),
                                                "by_time": float(by_time)})
    for name, found in ratios.items():
        of = {key: [one[key] for one in found] for key in found[0]}
        print(f"packets, {name}: ours {spread(of['ours'], 2)} M/s, testpmd {spread(of['testpmd'], 2)} M/s; ours / testpmd "
              f"{spread(of['by_rate'], 2)} by rate, {spread(of['by_time'], 2)} by processor time")
    results["packets"] = ratios


def feed(builds, work):
    """A chain, and captures of registrations and of messages signed for it: made once, since it takes longest."""
    node = Node(builds["real"] / "node/program/chappe", work / "chain").init(
        "--profile", "pcap", "--interface", "none", "--window-back", "3600", "--address", "10.77.0.2", "--hose-port", "4741",
        "--hose-allow", "10.77.0.0/24")
    node.setting("tx_rate_per_peer", 100000000)
    print(f"signing {args.messages} transactions ...", file=sys.stderr, flush=True)
    first, second = work / "first.pcap", work / "second.pcap"
    run(str(builds["real"] / "tests/tools/hose_pcap"), "--genesis", str(node.folder / "chain.genesis"), "--registrar",
        str(node.folder / "registrar.key"), "--registrations", str(first), "--out", str(second), "--target-mac", "02:00:0a:4d:00:02",
        "--source-mac", "02:00:0a:4d:00:01", "--target-ip", "10.77.0.2", "--source-ip", "10.77.0.1", "--accounts", str(ACCOUNTS),
        "--messages", str(args.messages))
    return node.folder, first, second


def replay(node, capture, count):
    """Runs the node on a capture until all of it is applied; what the threads used and how long it took, from the first
    transactions applied on. What was verified by then is not counted."""
    node.setting("interface", capture)
    node.start()
    begin = None
    while True:
        status, now, used = node.status(), time.monotonic(), node.threads()
        applied = status["counters"]["apply_transactions_applied_total"]
        refused = status["counters"]["apply_transactions_refused_total"] + status["counters"]["net_hose_transactions_refused_total"]
        if begin is None and applied:
            begin = (now, max(applied, status["counters"]["verify_signatures_checked_total"]), used)
        if applied + refused >= count:
            break
        if node.process.poll() is not None:
            sys.exit((node.folder / "run.log").read_text()[-2000:])
        time.sleep(0.02)
    memory = node.memory_mib()
    node.stop()
    return {"seconds": now - begin[0], "transactions": applied - begin[1], "refused": refused, "memory_mib": memory,
            "threads": {name: used[name] - begin[2].get(name, 0) for name in used}}


def pipeline(builds, work):
    chain, first, second = feed(builds, work)
    for kind, folder in builds.items():
        found = []
        for i in range(args.repeats):
            shutil.copytree(chain, work / "node")
            node = Node(folder / "node/program/chappe", work / "node")
            replay(node, first, ACCOUNTS)
            found.append(replay(node, second, args.messages))
            shutil.rmtree(node.folder)
        results[f"pipeline_{kind}"] = found
        rates = [one["transactions"] / one["seconds"] for one in found]
        names = sorted({name for one in found for name in one["threads"]})
        costs = {name: [one["threads"].get(name, 0) * 1e9 / one["transactions"] for one in found] for name in names}
        busy = {name: statistics.median(one["threads"].get(name, 0) / one["seconds"] for one in found) for name in names}
        print(f"pipeline, signatures {'verified' if kind == 'real' else 'taken for good'}: {spread(rates)} transactions/s applied and "
              f"durable; refused {sum(one['refused'] for one in found)}")
        for name in sorted(names, key=lambda n: -statistics.median(costs[n])):
            if statistics.median(costs[name]) >= 10:
                print(f"    {name:18} {spread(costs[name])} ns of processor a transaction, busy {busy[name] * 100:.0f} %")
        every = [sum(one["threads"].values()) * 1e9 / one["transactions"] for one in found]
        print(f"    together           {spread(every)} ns: {2e9 / statistics.median(every):,.0f} transactions/s if two cores did nothing else")
        print(f"    memory             {spread([one['memory_mib'] for one in found])} MiB; the busiest thread limits: "
              f"{max(busy, key=busy.get)}")


def latency(builds, work):
    verified = [one["transactions"] / one["seconds"] for one in results.get("pipeline_real", [])]
    rate = args.rate or (int(statistics.median(verified) / 10) if verified else 5000)
    found = []
    for i in range(args.repeats):
        node = Node(builds["real"] / "node/program/chappe", work / f"latency{i}").init()
        node.start()
        node.wait(lambda status: status.get("ready"), 60)
        found.append(json.loads(run(str(builds["real"] / "tests/tools/submit_load"), "--node", "127.0.0.1:4740", "--genesis",
                                    str(node.folder / "chain.genesis"), "--registrar", str(node.folder / "registrar.key"), "--handle", "load",
                                    "--messages", str(rate * 5), "--per-frame", "1", "--in-flight", "256", "--rate", str(rate))))
        node.stop()
        shutil.rmtree(node.folder)
    results["latency"] = found
    print(f"latency submit to final at {rate} transactions/s, one a frame: p50 {spread([one['final_p50_ms'] for one in found], 2)} ms, "
          f"p99 {spread([one['final_p99_ms'] for one in found], 2)} ms; reached "
          f"{spread([one['sent'] / one['seconds'] for one in found])} transactions/s")


def idle(builds, work):
    found = []
    for profile in (["--profile", "socket"], ["--profile", "af_packet", "--interface", "idle0", "--address", "10.78.0.2"]):
        if profile[1] == "af_packet":
            if os.geteuid() != 0:
                print("idle, af_packet: left out, needs root")
                continue
            for command in ("ip link add idle0 type veth peer name idle1", "ip link set idle0 up", "ip link set idle1 up"):
                run(*command.split())
        seconds, cores, memory = 10, [], []
        for i in range(args.repeats):
            node = Node(builds["real"] / "node/program/chappe", work / f"idle{i}").init(*profile)
            node.start()
            node.wait(lambda status: status.get("ready"), 60)
            time.sleep(2)
            before = sum(node.threads().values())
            time.sleep(seconds)
            cores.append((sum(node.threads().values()) - before) / seconds * 100)
            memory.append(node.memory_mib())
            node.stop()
            shutil.rmtree(node.folder)
        found.append({"profile": profile[1], "percent_of_a_core": cores, "memory_mib": memory})
        print(f"idle, {profile[1]}: {spread(cores, 1)} % of a core, {spread(memory)} MiB resident")
    results["idle"] = found


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()).group(1)
    load = os.getloadavg()[0]
    pages = re.search(r"HugePages_Free:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1)
    commit = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return f"{commit} on {os.cpu_count()} x {model}, Linux {platform.release()}, {pages} free hugepages, load {load:.1f} before the run"


results = {}


def main():
    if os.geteuid() == 0 and os.environ.get("CHAPPE_BENCH_NAMESPACE") != "1":
        builds = {"real": build("bench"), "accept_all": build("bench-accept-all", "-Daccept_all=true")}
        os.environ["CHAPPE_BENCH_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", sys.executable, *sys.argv])
    builds = {"real": pathlib.Path(args.build) / "bench", "accept_all": pathlib.Path(args.build) / "bench-accept-all"}
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="chappe-bench-") as work:
        for part in args.only.split(","):
            globals()[part](builds, pathlib.Path(work))
            sys.stdout.flush()
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=1))


main()
