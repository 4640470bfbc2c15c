#!/usr/bin/env python3
"""Datagrams a second through a port of ours and through dpdk-testpmd (rxonly), on the same profile, one after the other.

    port_against_testpmd.py BENCH_PORT [TESTPMD] [SECONDS]

testpmd looks at nothing in a frame; ours verifies headers and checksums, and passes datagrams on and gets them back. Needs root for af_packet
(a network namespace with a veth pair of its own); without it, that profile is left out.
"""
import os
import re
import subprocess
import sys
import tempfile
import time

BYTES = 258
NO_HUGE = ["--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m", "192"]
TICK = os.sysconf("SC_CLK_TCK")


def worker_seconds(pid):
    """Processor time of testpmd's forwarding thread."""
    for task in os.listdir(f"/proc/{pid}/task"):
        text = open(f"/proc/{pid}/task/{task}/stat").read()
        name, fields = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
        if name.startswith("rte-worker"):
            return (int(fields[11]) + int(fields[12])) / TICK
    return 0.0


def testpmd(program, vdev, seconds):
    arguments = [program, *NO_HUGE, "--lcores", "0@0,1@1", "--log-level=*:critical", "--vdev", vdev, "--",
                 "--forward-mode=rxonly", "--total-num-mbufs=16384", "--stats-period=1", "--auto-start"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    received, first, last = None, None, None
    for line in process.stdout:
        match = re.search(r"RX-packets: (\d+)", line)
        if match:
            now = (time.monotonic(), int(match.group(1)), worker_seconds(process.pid))
            if first is None and now[1] > 0:
                first = now
            elif first and now[0] - first[0] >= seconds:
                last = now
                break
    process.terminate()
    process.stdout.read()
    process.wait()
    received = last[1] - first[1]
    return received / (last[0] - first[0]) / 1e6, (last[2] - first[2]) * 1e9 / max(received, 1)


def ours(program, arguments):
    text = subprocess.run([program, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout
    print("  " + text.strip().replace("\n", "\n  "))
    match = re.search(r"([0-9.]+) M datagrams/s, ([0-9.]+) ns", text)
    return float(match.group(1)), float(match.group(2))


def compare(name, mine, theirs):
    if not mine[0] or not theirs[0]:
        print(f"{name}: nothing was received; was there no processor left for the kernel?")
        return
    print(f"{name}: ours {mine[0]:.2f} M/s, {mine[1]:.0f} ns of processor each; testpmd rxonly {theirs[0]:.2f} M/s, "
          f"{theirs[1]:.0f} ns; ours / theirs {mine[0] / theirs[0]:.2f} by rate, {theirs[1] / mine[1]:.2f} by processor time")


def main():
    bench = os.path.abspath(sys.argv[1])
    pmd = sys.argv[2] if len(sys.argv) > 2 else "dpdk-testpmd"
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 2.0
    if os.geteuid() == 0 and os.environ.get("CHAPPE_BENCH_NAMESPACE") != "1":
        os.environ["CHAPPE_BENCH_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "-n", sys.executable, *sys.argv])

    with tempfile.TemporaryDirectory() as folder:
        capture = f"{folder}/udp.pcap"
        subprocess.run([bench, "capture", capture, str(BYTES)], check=True)
        theirs = testpmd(pmd, f"net_pcap0,rx_pcap={capture},infinite_rx=1", seconds)
        compare("pcap, one thread", ours(bench, ["pcap", capture, str(seconds), "--alone"]), theirs)
        compare("pcap, into a ring", ours(bench, ["pcap", capture, str(seconds)]), theirs)
    if os.geteuid() != 0:
        print("af_packet left out: needs root")
        return
    for command in ("ip link add cha type veth peer name chb", "ip link set cha addrgenmode none",
                    "ip addr add 10.77.0.1/24 dev chb", "ip link set cha up", "ip link set chb up",
                    "ethtool -K chb tx off"):
        subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)
    mac = open("/sys/class/net/cha/address").read().strip() if os.path.exists("/sys/class/net/cha/address") else \
        re.search(r"ether ([0-9a-f:]+)", subprocess.run(["ip", "link", "show", "cha"], stdout=subprocess.PIPE, text=True).stdout).group(1)
    subprocess.run(["ip", "neigh", "add", "10.77.0.2", "lladdr", mac, "dev", "chb"], check=True)
    results = []
    for receive in (lambda: testpmd(pmd, "net_af_packet0,iface=cha,framecnt=8192,blocksz=65536,framesz=2048", seconds),
                    lambda: ours(bench, ["af_packet", "cha", str(seconds)])):
        flood = subprocess.Popen([bench, "flood", "10.77.0.2:9000", str(BYTES), str(seconds + 4)], stdout=subprocess.PIPE, text=True)
        results.append(receive())
        flood.terminate()
        flood.wait()
    compare("af_packet on veth, into a ring", results[1], results[0])


main()
