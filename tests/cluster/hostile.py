#!/usr/bin/env python3
"""Peers that mean harm: one of the committee whose key a rogue holds, strangers, half-open dials. The others go on, in bounds."""
import argparse
import json
import os
import pathlib
import subprocess
import time

import lab
from people import Person, Sender, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("rogue")
parser.add_argument("--frames", type=int, default=500)
args = parser.parse_args()
N, HONEST, GROWTH_KIB_MAX = 4, [1, 2, 3], 16 << 10  # pools are made at the start: once touched they grow no more


def rogue(net, deed, target, count, key=None):
    words = [args.rogue, "--node", net.address_of(target), "--genesis", str(net.folder_of(1) / "chain.genesis"), "--count",
             str(count), "--seed", str(seed), deed] + (["--key", str(key)] if key else [])
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    lab.expect(done.returncode == 0, f"rogue {deed}: {done.stderr}")
    print(f"{deed} at validator {target} {'with the key of validator 4' if key else 'as a stranger'}: {done.stdout.strip()}")
    return json.loads(done.stdout)


def a_greedy_client(net, target, person):
    """It asks for what isn't there as fast as it can; who comes after it is answered all the same."""
    words = [args.rogue, "--node", net.address_of(target), "--genesis", str(net.folder_of(1) / "chain.genesis"), "--count",
             "100000000", "greedy"]
    before = counter(net, target, "serve_requests_total")
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as one:
        net.wait_until(lambda: counter(net, target, "serve_requests_total") > before + 1000, 30, "it is answered")
        answers = [person.attempt("inbox", "--timeout", "10") for _ in range(5)]
        lab.expect(one.poll() is None, "the greedy one was not there to the end")
        one.kill()
    lab.expect(all(answer.returncode == 0 for answer in answers), f"starved: {[answer.stderr for answer in answers]}")


def resident_kib(net, i):
    status = pathlib.Path(f"/proc/{net.every()[i - 1]['pid']}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0])


def counter(net, i, name):
    return net.status_of(i)["counters"][name]


def a_key_forced(net, key):
    """Who signs with a key that another process has, past its guard: evidence, and the key's own process stops."""
    net.wait_until(lambda: min(net.commits()) > 0, 30, "the first commits")
    for target in HONEST[:2]:
        rogue(net, "equivocate", target, 1, key)

    def log(i):
        return (net.net / f"{i}.log").read_text(errors="replace")
    for i in HONEST:
        net.wait_until(lambda: "signed two blocks of one round; the evidence is in the log" in log(i), 30, f"evidence at {i}")
    net.wait_until(lambda: "SELF_EQUIVOCATION" in log(4) or "KEY_IN_USE" in log(4), 30, "the key's own process stops")
    net.expect_progress(HONEST)


def run():
    with lab.Devnet(args.chappe, N) as net:
        key = net.folder_of(4) / "validator.key"
        a_key_forced(net, key)
        registrar = new_registrar(net, net.folder_of(1), net.address_of(1))
        person = Person(net, "sender", net.folder_of(1) / "chain.genesis", net.address_of(1))
        register(net, person, registrar, person.name)
        sender = Sender(person)
        sender.start()
        net.expect_progress(HONEST)
        refused = counter(net, 1, "order_messages_refused_total")
        deeds = [("payloads", 100), ("requests", args.frames), ("blocks", args.frames), ("garbage", args.frames)]
        for turn in range(2):
            for deed, count in deeds[:3]:
                told = rogue(net, deed, 1, count, key)
                lab.expect(told["sent"] == count, f"the frames of {deed} were not taken or dropped, but held up: {told}")
                net.expect_progress(HONEST)
            if turn == 0:
                before = resident_kib(net, 1)
        grown = resident_kib(net, 1) - before
        print(f"memory grew by {grown} KiB from the first turn to the second")
        lab.expect(grown < GROWTH_KIB_MAX, "memory grew beyond its bounds")
        told = rogue(net, "garbage", 1, 20000, key)
        lab.expect(told["closed_with"] == "BAD_SIGNATURES", f"garbage without end, and it is let in: {told}")
        lab.expect(counter(net, 1, "order_messages_refused_total") >= refused + 256, "garbage was not refused")
        lab.expect("not_let_in" in rogue(net, "blocks", 1, 10, key), "shut out, and let in at once")
        net.expect_progress(HONEST)
        for deed, count in deeds:
            if deed != "blocks":
                rogue(net, deed, 3, count)
        lab.expect(counter(net, 3, "order_messages_refused_total") == 0, "a stranger's frame reached the consensus machine")
        malformed = counter(net, 3, "net_frames_malformed_total")
        told = rogue(net, "questions", 3, args.frames)
        lab.expect(told["sent"] == args.frames and told["closed_with"] is None, f"malformed questions are answered: {told}")
        net.wait_until(lambda: counter(net, 3, "net_frames_malformed_total") > malformed + args.frames // 2, 30,
                       "malformed questions are counted")
        a_greedy_client(net, 1, person)
        lab.expect(rogue(net, "wrong-chain", 2, 1, key)["closed_with"] == "WRONG_CHAIN", "another chain's peer was let in")
        for target in HONEST:
            rogue(net, "half-open", target, 150)
        done = len(sender.done)
        net.wait_until(lambda: len(sender.done) > done + 2, 30, "messages go on beside half-open dials")
        net.expect_progress(HONEST)
        sender.end()
        sender.check_inbox()
        lab.expect(all(net.status_of(i)["halt"] == "none" for i in HONEST), "a validator halted")


seed = int(os.environ.get("CHAPPE_SEED", time.time_ns() % 1000000))
print(f"seed {seed} (CHAPPE_SEED)")
lab.main(run)
