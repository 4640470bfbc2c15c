#!/usr/bin/env python3
"""Validators die and come back under load: nothing that had a receipt is lost, all agree; without a quorum all stands still."""
import argparse
import os
import random
import shutil
import time

import lab
from people import Person, Sender, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("state_digest")
parser.add_argument("--kills", type=int, default=3)
args = parser.parse_args()
N = 4


def start_senders(net):
    genesis = net.folder_of(1) / "chain.genesis"
    registrar = new_registrar(net, net.folder_of(1), net.address_of(1))
    senders = []
    for i in range(1, N + 1):
        person = Person(net, f"sender{i}", genesis, net.address_of(i))
        register(net, person, registrar, person.name)
        senders.append(Sender(person))
    for sender in senders:
        sender.start()
    return senders


def kill_and_restart(net, chance):
    for _ in range(args.kills):
        time.sleep(chance.uniform(0.1, 1.5))
        victim = chance.randint(1, N)
        net.devnet("kill", str(victim))
        net.expect_progress([i for i in range(1, N + 1) if i != victim])
        net.devnet("restart", str(victim))
        net.expect_progress(range(1, N + 1), 60)


def lose_two(net):
    net.devnet("kill", "1")
    net.devnet("kill", "3")
    net.expect_standstill([2, 4])
    net.wait_until(lambda: not net.status_of(2)["quorum"], 30, "a validator without a quorum says so")
    net.devnet("restart", "3")
    net.expect_progress([2, 3, 4], 60)
    lab.expect(net.status_of(2)["quorum"], "a quorum is back and not told")
    net.devnet("restart", "1")
    net.expect_progress(range(1, N + 1), 60)


def lose_a_disk(net):
    """Keys, genesis and settings come from a backup; all else is gone."""
    net.devnet("stop", "2")
    for name in ("wal", "lmdb", "obj", "index", "guard"):
        path = net.folder_of(2) / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    net.devnet("restart", "2", "--rejoin")
    net.expect_progress(range(1, N + 1), 90)
    net.wait_until(lambda: net.status_of(2)["signing"], 60, "the validator signs again")


def run():
    seed = int(os.environ.get("CHAPPE_SEED", time.time_ns()))
    print(f"seed {seed} (CHAPPE_SEED)")
    chance = random.Random(seed)
    with lab.Devnet(args.chappe, N) as net:
        senders = start_senders(net)
        kill_and_restart(net, chance)
        print(f"{args.kills} kills: progress after each")
        lose_two(net)
        print("two dead: standstill; one back: progress")
        lose_a_disk(net)
        print("a disk lost: the validator is whole again")
        for sender in senders:
            sender.end()
        net.expect_equal(60)
        for sender in senders:
            sender.check_inbox()
        print(f"{sum(len(sender.done) for sender in senders)} receipts, none lost, none applied twice")
        states = [net.status_of(i) for i in range(1, N + 1)]
        lab.expect(all(state["halt"] == "none" for state in states), "a validator halted")
        net.expect_equal_states(args.state_digest)
    with lab.Devnet(args.chappe, 7) as net:
        net.devnet("kill", "2")
        net.devnet("kill", "6")
        net.expect_progress([1, 3, 4, 5, 7])
        print("seven, two of them dead: progress")


lab.main(run)
