#!/usr/bin/env python3
"""A devnet from its start to its end: two people at two validators, one that is killed and comes back; bad arguments."""
import argparse
import os

import lab
from people import Person, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("--n", type=int, default=4)
args = parser.parse_args()


def check_refusals(net):
    net.devnet("start", "--n", str(args.n + 1), refused="other options need another --folder")
    net.devnet("start", "--n", "99", refused="--n 99 is not from 1 to 32")
    net.devnet("kill", "7", refused='"7": there is no such validator')
    net.devnet("kill", "1x", refused='"1x" is no validator')
    net.devnet("kill", refused="kill takes a validator's number")
    net.devnet("restart", "1", "--n", "2", refused="go with start")
    net.devnet("stop", "--rejoin", refused="go with restart")
    net.devnet("heal", refused="--netns")
    net.devnet("partition", "1", refused="one group")
    net.devnet("partition", "1,1/1", refused="is no list of groups")
    net.devnet("wander", refused='"wander" is no command')


def check_pid_files(net, last):
    """A number that another process has by now is never killed."""
    pid_file = net.net / f"{last}.pid"
    named = pid_file.read_text()
    _, start, boot = named.split()
    for forged in (f"{os.getpid()} {start} {boot}", f"{named.split()[0]} {start} 00000000-0000-0000-0000-000000000000", "1"):
        pid_file.write_text(forged + "\n")
        net.devnet("kill", str(last), refused=f"validator {last} does not run")
    pid_file.write_text(named)
    lab.expect(net.every()[last - 1]["alive"], "the validator did not survive the forged pid files")


def run():
    with lab.Devnet(args.chappe, args.n) as net:
        first, second, third = 1, min(2, args.n), min(3, args.n)
        check_refusals(net)
        check_pid_files(net, args.n)
        genesis = net.folder_of(1) / "chain.genesis"
        for validator in net.every():
            lab.expect(validator["alive"] and validator["status"]["ready"], f"not ready after the start: {validator}")
        alice = Person(net, "alice", genesis, net.address_of(first))
        bob = Person(net, "bob", genesis, net.address_of(third))
        registrar = new_registrar(net, net.folder_of(1), net.address_of(first))
        register(net, alice, registrar, "alice")
        register(net, bob, registrar, "bob")
        alice.run("bind", "bob")
        net.wait_until(lambda: "alice" in bob.run("relations"), 20, "the request is at bob's validator")
        bob.run("accept", "alice")

        def talk(number):
            """One message each way; the other reads it at his own validator."""
            alice.run("send", "bob", f"question {number}")
            net.wait_until(lambda: f"question {number}" in str(bob.inbox()), 20, "the question is at bob's validator")
            bob.run("send", "alice", f"answer {number}")
            net.wait_until(lambda: f"answer {number}" in str(alice.inbox()), 20, "the answer is at alice's validator")

        talk(1)
        net.devnet("kill", str(second))
        lab.expect(not net.every()[second - 1]["alive"], "it was killed and is said to live")
        net.devnet("kill", str(second), refused=f"validator {second} does not run")
        if args.n >= 4:
            talk(2)
            net.expect_progress([i for i in range(1, args.n + 1) if i != second])
        net.devnet("restart", str(second))
        net.wait_until(lambda: net.status_of(second).get("ready"), 60, "the restarted validator is ready")
        talk(3)
        net.devnet("restart", str(third))
        net.wait_until(lambda: net.status_of(third).get("ready"), 60, "the stopped and started validator is ready")
        talk(4)
        if args.n > 1:
            net.expect_equal()
        net.devnet("stop", str(first))
        net.devnet("start")
        talk(5)
        lab.expect(len(alice.inbox()) == len(bob.inbox()), "a message is missing")


lab.main(run)
