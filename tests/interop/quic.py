#!/usr/bin/env python3
"""A client written from docs/protocol.md alone, on another QUIC stack (quiche), registers an account on a running devnet and
checks the validator's signature over its receipt."""
import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "cluster"))
import lab
import npm
from people import Person, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("build")
args = parser.parse_args()


def run():
    scripts = npm.install(args.build)
    with lab.Devnet(args.chappe, 1) as net:
        genesis, address = net.folder_of(1) / "chain.genesis", net.address_of(1)
        alice = Person(net, "alice", genesis, address)
        registrar = new_registrar(net, net.folder_of(1), address)
        register(net, alice, registrar, "alice")
        foreign = net.folder / "foreign"
        foreign.mkdir()

        def client(*words):
            done = npm.node(scripts, "quic.mjs", words[0], foreign, *words[1:])
            lab.expect(done.returncode == 0, f"{words}: {done.stdout} {done.stderr}")
            return done.stdout.strip()
        client("request", "foreigner", net.status_of(1)["chain_id"])
        registrar.run("registrar", "approve", "--yes", "--request", str(foreign / "request"), "--out", str(foreign / "approval"))
        told = client("register", address, genesis, "alice")
        lab.expect(told == "registered foreigner", told)
        lab.expect("foreigner" in alice.run("whois", "foreigner"), "ours does not see the account")
        told = client("wrong-chain", address, genesis)
        lab.expect(told == "closed 1", f"WRONG_CHAIN expected: {told}")


lab.main(run)
