#!/usr/bin/env python3
"""The fire hose, fed by tcpreplay over a virtual cable through DPDK: where each transaction went, to the last one."""
import argparse
import json
import re
import subprocess
import time

import lab

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("hose_pcap")
parser.add_argument("--messages", type=int, default=100000)
parser.add_argument("--rate", type=int, default=4000, help="datagrams a second")
args = parser.parse_args()
ACCOUNTS, A_DATAGRAM = 500, 4


def replay(the_lab, capture, rate):
    done = subprocess.run(the_lab.in_host(the_lab.peer_host, ["tcpreplay", "-i", "peer0", "--preload-pcap", f"--pps={rate}",
                                                             str(capture)]), capture_output=True, text=True)
    lab.expect(done.returncode == 0, f"tcpreplay: {done.stderr}")
    return int(re.search(r"Successful packets:\s+(\d+)", done.stdout).group(1))


def settle(the_lab, folder, process):
    """The status once its counters have stopped moving: where something is under way yet, only after they stood for long."""
    before, stood = None, 0
    for _ in range(600):
        lab.expect(process.poll() is None, "the node ended")
        now = the_lab.status(folder)
        counters = now["counters"]
        interesting = {k: v for k, v in counters.items() if "hose" in k or "transactions" in k}
        stood = stood + 1 if interesting == before else 0
        judged = counters["apply_transactions_applied_total"] + counters["apply_transactions_refused_total"]
        if stood >= (1 if judged == counters["order_transactions_pooled_total"] else 30):
            return now
        before = interesting
        time.sleep(0.7)
    raise lab.Failed("the counters never settle")


def run():
    with lab.Lab(args.chappe, networked=True) as the_lab:
        folder = the_lab.init("node", "--window-back", "3600", "--hose-port", str(lab.HOSE_PORT), "--hose-allow",
                              "10.77.0.0/24")
        process = the_lab.start(folder)
        made = subprocess.run(
            [args.hose_pcap, "--genesis", f"{folder}/chain.genesis", "--registrar", f"{folder}/registrar.key",
             "--registrations", f"{the_lab.folder}/first.pcap", "--out", f"{the_lab.folder}/second.pcap", "--target-mac",
             the_lab.mac(the_lab.node_host, "node0"), "--source-mac", the_lab.mac(the_lab.peer_host, "peer0"),
             "--target-ip", lab.NODE_IP, "--source-ip", lab.PEER_IP, "--port", str(lab.HOSE_PORT), "--accounts",
             str(ACCOUNTS), "--messages", str(args.messages), "--bad-every", "1000", "--duplicate-every", "997",
             "--stranger-every", "991"], capture_output=True, text=True)
        lab.expect(made.returncode == 0, f"hose_pcap: {made.stderr}")
        plan = json.loads(made.stdout)
        replay(the_lab, the_lab.folder / "first.pcap", 500)
        the_lab.wait_until(lambda: the_lab.status(folder)["counters"]["apply_transactions_applied_total"] == ACCOUNTS, 60,
                           "all accounts are registered", process)
        first = the_lab.status(folder)
        wire_before = the_lab.packets_received(the_lab.node_host, "node0")
        sent = replay(the_lab, the_lab.folder / "second.pcap", args.rate)
        last = settle(the_lab, folder, process)
        wire = the_lab.packets_received(the_lab.node_host, "node0") - wire_before

        def more(group, name):
            return last[group].get(name, 0) - first[group].get(name, 0)

        def counter(name):
            return more("counters", name)

        frames = more("port", "rx_frames")
        port_drops = sum(more("port", name) for name in last["port"] if name.startswith("rx_drop"))
        hose = counter("net_hose_datagrams_received_total")
        other = frames - hose - port_drops
        received = counter("net_hose_transactions_received_total")
        malformed = counter("net_hose_transactions_malformed_total")
        shed = counter("net_hose_transactions_shed_total")
        refused_early = counter("net_hose_transactions_refused_total")
        pooled = counter("order_transactions_pooled_total")
        applied = counter("apply_transactions_applied_total")
        refused_late = counter("apply_transactions_refused_total")
        lost = sent - hose
        early = {k: more("early", k) for k in last["early"] if k != "OK"}
        final = {k: more("final", k) for k in last["final"]}
        print(f"sent {sent} datagrams with {plan['transactions']} transactions; cable {wire}, port {frames} "
              f"(dropped {port_drops}, other {other}), hose {hose}, lost before the port {lost}")
        print(f"received {received}: malformed {malformed}, shed {shed}, refused early {refused_early} {early}, "
              f"pooled {pooled}: applied {applied}, refused late {refused_late} {final}")
        lab.expect(received == malformed + shed + refused_early + pooled, "what net received is not what it passed on")
        lab.expect(pooled == applied + refused_late, "what was pooled is not what the ledger judged")
        lab.expect(refused_early == sum(early.values()), "reasons of early refusals don't add up")
        lab.expect(applied + refused_late == sum(final.values()), "reasons of the ledger don't add up")
        # Every datagram but the last is full, so what was lost on the way is known to the transaction.
        lab.expect(received + lost * A_DATAGRAM >= plan["transactions"] >= received + (lost - 1) * A_DATAGRAM,
                   "sent is not received plus lost")
        if lost == 0:
            lab.expect(received == plan["transactions"], "all datagrams came and not all transactions")
            if shed == 0:
                lab.expect(early.get("BAD_SIGNATURE", 0) == plan["bad"], "bad signatures")
                lab.expect(early.get("NO_SUCH_ACCOUNT", 0) == plan["strangers"], "strangers")
                lab.expect(final.get("DUPLICATE", 0) == plan["duplicates"], "duplicates")
        good = plan["messages"] - plan["bad"] - plan["strangers"]
        lab.expect(applied >= 0.95 * good, f"applied only {applied} of {good}")
        the_lab.stop(folder, process)


lab.enter_namespace()
lab.main(run)
