#!/usr/bin/env python3
"""Two people and a validator: register, bind, write, send files, part; over sockets, or over a virtual cable through DPDK.

A canary in every plaintext is looked for in each captured packet and in each file of the node, and pieces of the objects'
own ciphertext in each file of the node."""
import argparse
import json
import os
import subprocess

import lab
from ciphertext import check_no_ciphertext, pieces_of_objects
from people import Person, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("--network", choices=["socket", "af_packet"], default="socket")
args = parser.parse_args()
CANARY = "canary-5f2d9c-in-the-clear"
FILE_BYTES = 5_000_000


def forged_approval(path, to):
    """The registrar's approval with a bit of its signature changed."""
    approval = json.loads(path.read_text())
    key = next(name for name in approval if name in ("approval", "signature"))
    value = approval[key]
    approval[key] = ("0" if value[0] != "0" else "1") + value[1:]
    to.write_text(json.dumps(approval))
    return to


def check_no_canary(folder, capture):
    needle = CANARY.encode()
    places = [path for path in folder.rglob("*") if path.is_file() and not path.is_socket()]
    lab.expect(len(places) > 5, "the node has no files to look into")
    if capture:
        lab.expect(capture.stat().st_size > FILE_BYTES, "the capture is too small to have seen the files")
        places.append(capture)
    for path in places:
        lab.expect(needle not in path.read_bytes(), f"plaintext found in {path}")
    print(f"no plaintext in {len(places)} files")


def run():
    networked = args.network == "af_packet"
    with lab.Lab(args.chappe, networked) as the_lab:
        port = lab.PORT if networked else 20000 + os.getpid() % 20000
        folder = the_lab.init("node", "--port", str(port))
        process = the_lab.start(folder)
        capture, sniffer = the_lab.folder / "traffic.pcap", None
        if networked:
            sniffer = subprocess.Popen(the_lab.in_host(the_lab.peer_host, [
                "tcpdump", "-i", "peer0", "-s", "0", "-B", "32768", "-U", "-w", str(capture), "udp"]),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            the_lab.processes.append(sniffer)
            the_lab.wait_until(capture.exists, 20, "tcpdump listens")
        node = f"{lab.NODE_IP if networked else '127.0.0.1'}:{port}"
        genesis = folder / "chain.genesis"
        registrar = new_registrar(the_lab, folder, node)
        alice, bob, mallory = (Person(the_lab, name, genesis, node) for name in ("alice", "bob", "mallory"))

        register(the_lab, alice, registrar, "alice")
        register(the_lab, bob, registrar, "bob")
        register(the_lab, mallory, registrar, "alice", refused="the handle is taken")
        request, approval = the_lab.folder / "m.request", the_lab.folder / "m.approval"
        mallory.run("register", "mallory", "--request", str(request))
        registrar.run("registrar", "approve", "--yes", "--request", str(request), "--out", str(approval))
        forged = forged_approval(approval, the_lab.folder / "m.forged")
        done = subprocess.run(mallory.words("register", "--approval", str(forged)), capture_output=True, text=True, timeout=60)
        lab.expect(done.returncode != 0 and ("BAD_APPROVAL" in done.stderr or "approval" in done.stderr), f"forged: {done}")
        mallory.run("register", "--approval", str(approval))

        alice.run("send", "bob", CANARY, refused="NOT_BOUND")
        alice.run("bind", "bob")
        alice.run("bind", "bob", refused="ALREADY_REQUESTED")
        bob.run("accept", "alice")
        mallory.run("send", "bob", CANARY, refused="NOT_BOUND")
        alice.run("send", "bob", f"hello bob {CANARY}")
        bob.run("send", "alice", f"hello alice {CANARY}")
        for sender, recipient in ((alice, bob), (bob, alice)):
            plain = the_lab.folder / f"{sender.name}.bin"
            plain.write_bytes((CANARY.encode() + os.urandom(64)) * (FILE_BYTES // (len(CANARY) + 64) + 1))
            sender.run("send", recipient.name, "--attach", str(plain))
            out = the_lab.folder / f"{sender.name}.out"
            recipient.run("fetch", "2", "--out", str(out))
            lab.expect(out.read_bytes() == plain.read_bytes(), "the file came out different")
        lab.expect(len(bob.inbox()) == 2 and len(alice.inbox()) == 2, "two messages in each inbox")
        lab.expect(CANARY in json.dumps(bob.inbox()), "the recipient reads the text")
        pieces = pieces_of_objects(the_lab, alice, FILE_BYTES) + pieces_of_objects(the_lab, bob, FILE_BYTES)
        alice.run("unbind", "bob")
        bob.run("send", "alice", CANARY, refused="UNBINDING")
        bob.run("confirm", "alice")
        alice.run("send", "bob", CANARY, refused="NOT_BOUND")
        alice.run("revoke", "--yes")
        bob.run("bind", "alice", refused="PEER_REVOKED")
        status = the_lab.status(folder)
        lab.expect(status["profile"] == args.network, "another profile runs")
        if networked:
            lab.expect(status["port"]["rx_arp"] > 0, "ARP was not ours to answer")
            ping = subprocess.run(the_lab.in_host(the_lab.peer_host, ["ping", "-c", "2", "-W", "2", lab.NODE_IP]),
                                  capture_output=True, text=True)
            lab.expect(ping.returncode == 0, f"no echo: {ping.stdout} {ping.stderr}")
            lab.expect(status["link"], "the link is up")
            for way in ("down", "up"):
                the_lab.shell("ip", "-n", the_lab.peer_host, "link", "set", "peer0", way)
                the_lab.wait_until(lambda: the_lab.status(folder)["link"] == (way == "up"), 10, f"the node sees its link {way}")
        the_lab.stop(folder, process)
        if sniffer:
            sniffer.terminate()
            sniffer.wait(20)
        check_no_canary(folder, capture if networked else None)
        check_no_ciphertext(folder, pieces)


lab.enter_namespace(needed=args.network == "af_packet")
lab.main(run)
