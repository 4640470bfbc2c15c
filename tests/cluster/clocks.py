#!/usr/bin/env python3
"""A validator whose clock is wrong, and one whose key runs twice: the others go on, and say or do what they should."""
import argparse
import glob
import os
import shutil
import subprocess
from pathlib import Path

import lab
from people import Person, Sender, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
args = parser.parse_args()
N = 4
LIBRARY = (glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1") or [None])[0]


def run_apart(net, folder, log, shift=None, options=()):
    """A validator of the devnet outside of its care, by a clock that is `shift` off, or what the file `shift` says now."""
    environment = dict(os.environ)
    if shift:
        environment |= {"LD_PRELOAD": LIBRARY, "DONT_FAKE_MONOTONIC": "1"}
        environment |= {"FAKETIME_TIMESTAMP_FILE": str(shift), "FAKETIME_NO_CACHE": "1"} if isinstance(shift, Path) else {"FAKETIME": shift}
    with open(net.folder / log, "wb") as output:
        process = subprocess.Popen([net.chappe, "run", "--folder", str(folder), *options], stdout=output, stderr=output,
                                   stdin=subprocess.DEVNULL, env=environment)
    net.processes.append(process)
    return process


def told(net, log):
    return (net.folder / log).read_text(errors="replace")


def an_hour_off(net, senders):
    for shift in ("+1h", "-1h"):
        net.devnet("stop", "4")
        process = run_apart(net, net.folder_of(4), f"hour{shift}.log", shift)
        net.wait_until(lambda: net.status(net.folder_of(4)).get("ready"), 30, "ready with another clock", process)
        net.expect_progress([1, 2, 3])
        before = [len(sender.done) for sender in senders]
        net.wait_until(lambda: all(len(s.done) > b for s, b in zip(senders, before)), 30, "messages go on")
        at = net.status_of(1)["commit_index"]
        net.wait_until(lambda: net.status(net.folder_of(4))["commit_index"] >= at, 30, "it follows", process)
        lab.expect(net.status(net.folder_of(4))["signing"], f"an hour {shift} off, and it does not sign")
        net.stop(net.folder_of(4), process)
        net.devnet("restart", "4")
        net.expect_progress([1, 2, 3, 4])
        print(f"a clock {shift} off: messages are judged as before")


def signing(net):
    return net.status(net.folder_of(4)).get("signing")


def asks_for_the_operator(net, log, process):
    net.wait_until(lambda: "--clock-ok" in told(net, log), 30, "it asks for --clock-ok", process)
    net.wait_until(lambda: signing(net) is False, 30, "it signs nothing", process)
    net.expect_progress([1, 2, 3])


def a_day_off(net):
    net.devnet("stop", "4")
    process = run_apart(net, net.folder_of(4), "day.log", "+25h")
    asks_for_the_operator(net, "day.log", process)
    net.stop(net.folder_of(4), process)
    process = run_apart(net, net.folder_of(4), "vouched.log", "+25h", ["--clock-ok"])
    net.wait_until(lambda: signing(net) is True, 30, "it signs for an operator who vouches", process)
    net.stop(net.folder_of(4), process)
    print("a day off: it asks for --clock-ok and signs nothing without it")


def a_jump(net):
    clock = net.folder / "clock"
    for jump in ("+15m", "-15m"):
        clock.write_text("+0")
        process = run_apart(net, net.folder_of(4), f"jump{jump}.log", clock)
        net.wait_until(lambda: net.status(net.folder_of(4)).get("ready") and signing(net), 30, "ready and signing", process)
        clock.write_text(jump)
        asks_for_the_operator(net, f"jump{jump}.log", process)
        net.stop(net.folder_of(4), process)
    net.devnet("restart", "4")
    net.expect_progress([1, 2, 3, 4])
    print("a jump of 15 minutes either way: it asks for --clock-ok and signs nothing")


def a_key_twice(net):
    """The same key from a copy of the folder, as a careless restore would have it, at another port."""
    net.devnet("stop", "3")
    twin = net.folder / "twin"
    shutil.copytree(net.folder_of(3), twin, ignore=shutil.ignore_patterns("control"))
    port = net.address_of(3).split(":")[1]
    config = twin / "chappe.yaml"
    lab.expect(f"port: {port}" in config.read_text(), "the port is not where it was")
    config.write_text(config.read_text().replace(f"port: {port}", f"port: {int(port) + 100}"))
    net.devnet("restart", "3")
    process = run_apart(net, twin, "twin.log")

    def one_noticed():
        logs = told(net, "twin.log") + (net.net / "3.log").read_text(errors="replace")
        return "KEY_IN_USE" in logs or "SELF_EQUIVOCATION" in logs
    net.wait_until(one_noticed, 60, "one of the two notices")
    net.expect_progress([1, 2, 4])
    print("a key that runs twice: one notices and stops, the others go on")
    if process.poll() is None:
        process.terminate()
        process.wait(20)


def run():
    with lab.Devnet(args.chappe, N) as net:
        registrar = new_registrar(net, net.folder_of(1), net.address_of(1))
        senders = []
        for i in (1, 2):
            person = Person(net, f"sender{i}", net.folder_of(1) / "chain.genesis", net.address_of(i))
            register(net, person, registrar, person.name)
            senders.append(Sender(person))
            senders[-1].start()
        if LIBRARY:
            an_hour_off(net, senders)
            a_day_off(net)
            a_jump(net)
        else:
            print("without libfaketime: no clock can be wrong here")
        a_key_twice(net)
        for sender in senders:
            sender.end()
            sender.check_inbox()


lab.main(run)
