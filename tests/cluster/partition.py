#!/usr/bin/env python3
"""Validators on hosts of their own, with DPDK, and a network that is broken: delay and loss, a cut one way, two and two."""
import argparse
import json

import lab
from people import Person, Sender, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("--n", type=int, default=4)
args = parser.parse_args()


def links(net):
    return json.loads(net.devnet("status", "--json"))["links"]


def run():
    with lab.Devnet(args.chappe, args.n, "--netns") as net:
        genesis = net.folder_of(1) / "chain.genesis"
        every = list(range(1, args.n + 1))
        for validator in net.every():
            lab.expect(validator["status"]["profile"] == "af_packet", "no DPDK")
        registrar = new_registrar(net, net.folder_of(1), net.address_of(1))
        senders = []
        for i in (1, args.n):
            person = Person(net, f"sender{i}", genesis, net.address_of(i))
            register(net, person, registrar, person.name)
            senders.append(Sender(person))
            if args.n == 1:
                break
        net.expect_progress(every)
        if args.n >= 4:
            for sender in senders:
                sender.start()

            net.devnet("loss", "1", "2", "30")
            net.devnet("delay", "1", "2", "50")
            lab.expect(all(link["loss_percent"] == 30 and link["delay_ms"] == 50 for link in links(net)), "loss and delay")
            for _ in range(3):
                net.expect_progress(every)
            lab.expect(any(link["lost"] > 0 for link in links(net)), "nothing was lost")
            print("30 % loss and 50 ms between 1 and 2: progress")

            net.devnet("heal")
            net.devnet("cut", "1", "3")
            lab.expect([(link["from"], link["to"], link["cut"]) for link in links(net)] == [(1, 3, True)], "one way is cut")
            for _ in range(3):
                net.expect_progress(every)
            print("what 1 sends does not reach 3: progress")

            net.devnet("heal")
            net.devnet("partition", "1,2/3,4")
            net.expect_standstill([1, 2, 3, 4])
            print("1, 2 and 3, 4 parted: standstill")

            net.devnet("heal")
            lab.expect(not links(net), "links stay broken after heal")
            net.expect_progress(every, 60)
            net.devnet("partition", "4/1,2,3")
            net.expect_progress([1, 2, 3])
            net.expect_standstill([4], 2)
            net.devnet("heal")
            net.expect_progress(every, 60)
            print("healed: progress")
            for sender in senders:
                sender.end()
                sender.check_inbox()
            lab.expect(sum(len(sender.done) for sender in senders) > 0, "nobody's message was taken")
            net.expect_equal()
        net.devnet("partition", "1/9", refused='"9": there is no such validator')
        net.devnet("delay", "1", "1", "5", refused="no link to itself")
        net.devnet("kill", "1")
        net.devnet("restart", "1")
        net.expect_progress(every, 60)


lab.enter_namespace()
lab.main(run)
