#!/usr/bin/env python3
"""The log is cut by size: disk use stays bounded, what is gone is named as such, and a restart needs none of it."""
import argparse
import json
import os
import subprocess

import lab
from people import Person, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("submit_load")
parser.add_argument("--messages", type=int, default=60000)
args = parser.parse_args()
SEGMENT_MIB, KEEP_MIB, SPARE_SEGMENTS, INLINE = 4, 8, 2, 900
A_LOAD = 5000


def run():
    with lab.Lab(args.chappe, networked=False) as the_lab:
        port = 20000 + os.getpid() % 20000
        chain = the_lab.folder / "chain.yaml"
        chain.write_text("name: short\nlimits:\n  window_back_ms: 4000\n  window_ahead_ms: 2000\n")
        folder = the_lab.init("node", "--port", str(port), "--genesis", str(chain))
        config = folder / "chappe.yaml"
        text = config.read_text()
        lab.expect("log_keep_mib: 0" in text, "log_keep_mib is not in the configuration")
        text = text.replace("idle_round_ms: 500", "idle_round_ms: 40")  # the replay window moves on with the rounds
        config.write_text(text.replace("log_keep_mib: 0", f"log_keep_mib: {KEEP_MIB}"))
        process = the_lab.start(folder)
        node = f"127.0.0.1:{port}"
        registrar = new_registrar(the_lab, folder, node)
        person = Person(the_lab, "ann", folder / "chain.genesis", node)
        register(the_lab, person, registrar, "ann")
        for text in ("one", "two", "three"):
            person.run("send", "ann", text)
        lab.expect(len(person.inbox()) == 3, "the messages are not there")

        applied = loads = 0
        while applied < args.messages:  # in parts, since what a busy machine takes too long for is too old in this chain
            loads += 1
            lab.expect(loads <= 3 * args.messages // A_LOAD, f"only {applied} messages were taken")
            done = subprocess.run(
                [args.submit_load, "--node", node, "--genesis", str(folder / "chain.genesis"), "--registrar",
                 str(folder / "registrar.key"), "--handle", f"load{loads}", "--messages", str(A_LOAD), "--per-frame", "16",
                 "--in-flight", "64", "--inline", str(INLINE)], capture_output=True, text=True, timeout=240)
            lab.expect(done.returncode == 0, f"load: {done.stderr}")
            applied += json.loads(done.stdout)["final"].get("OK", 0)
        most = (KEEP_MIB + (3 + SPARE_SEGMENTS) * SEGMENT_MIB) << 20
        lab.expect(args.messages * INLINE > most + (20 << 20), "the load is too small to tell")
        # Segments that the replay window still needs go once it has moved on, with the idle rounds.
        the_lab.wait_until(lambda: the_lab.status(folder)["log_bytes"] <= most, 120, "the log is cut", process)
        lab.expect(the_lab.status(folder)["log_first"] > 1 << 32, "the log begins where it began")

        def gone():
            told = person.attempt("inbox", "--from", "1")
            lab.expect(told.returncode == 0 and "Messages 1 to 3 are no longer kept" in told.stderr, f"inbox: {told}")
            person.run("fetch", "2", refused="PRUNED")

        gone()
        person.run("send", "ann", "four")
        lab.expect([m["sequence"] for m in person.inbox()] == [4], "the new message is not there alone")
        before = the_lab.status(folder)["log_first"]
        process.kill()
        process.wait()
        process = the_lab.start(folder)
        gone()
        person.run("send", "ann", "five")
        lab.expect([m["text"] for m in person.inbox()] == ["four", "five"], "messages were lost with the restart")
        lab.expect(the_lab.status(folder)["log_first"] >= before, "the log has grown backwards")
        the_lab.stop(folder, process)


lab.main(run)
