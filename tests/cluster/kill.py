#!/usr/bin/env python3
"""kill -9 at random moments under load: every receipt that said "applied" is there after the restart."""
import argparse
import os
import random
import time

import lab
from people import Person, Sender, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("--kills", type=int, default=10)
args = parser.parse_args()
SENDERS = 3


def run():
    seed = int(os.environ.get("CHAPPE_SEED", time.time_ns()))
    print(f"seed {seed} (CHAPPE_SEED)")
    chance = random.Random(seed)
    with lab.Lab(args.chappe, networked=False) as the_lab:
        port = 20000 + os.getpid() % 20000
        folder = the_lab.init("node", "--port", str(port))
        process = the_lab.start(folder)
        node = f"127.0.0.1:{port}"
        registrar = new_registrar(the_lab, folder, node)
        senders = []
        for i in range(SENDERS):
            person = Person(the_lab, f"sender{i}", folder / "chain.genesis", node)
            register(the_lab, person, registrar, person.name)
            senders.append(Sender(person))
        for sender in senders:
            sender.start()
        for kill in range(args.kills):
            time.sleep(chance.uniform(0.05, 1.5))
            process.kill()
            process.wait()
            process = the_lab.start(folder)
        time.sleep(1)
        for sender in senders:
            sender.end()
        total = sum(len(sender.done) for sender in senders)
        for sender in senders:
            sender.check_inbox()
        lab.expect(total >= args.kills, f"only {total} messages were sent around {args.kills} kills")
        print(f"{args.kills} kills, {total} receipts, none lost, none applied twice")
        the_lab.stop(folder, process)


lab.enter_namespace(needed=False)
lab.main(run)
