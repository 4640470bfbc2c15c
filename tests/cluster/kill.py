#!/usr/bin/env python3
"""kill -9 at random moments under load: every receipt that said "applied" is there after the restart."""
import argparse
import json
import os
import random
import subprocess
import threading
import time

import lab

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("--kills", type=int, default=10)
args = parser.parse_args()
SENDERS = 3


class Sender(threading.Thread):
    """One account that writes to itself without end; keeps what was answered as done."""

    def __init__(self, the_lab, index, genesis, node):
        super().__init__(daemon=True)
        self.lab, self.home, self.index = the_lab, the_lab.folder / f"sender{index}", index
        self.genesis, self.node, self.done, self.tried, self.over = genesis, node, [], 0, False

    def chappe(self, *words):
        return subprocess.run([self.lab.chappe, *words, "--home", str(self.home)], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=60)

    def must(self, *words):
        done = self.chappe(*words)
        lab.expect(done.returncode == 0, f"{words}: {done.stderr}")
        return done.stdout

    def register(self, registrar_home):
        self.must("account", "new", "--plain", "--genesis", str(self.genesis), "--node", self.node)
        request, approval = self.home / "request", self.home / "approval"
        self.must("register", f"sender{self.index}", "--request", str(request))
        done = subprocess.run([self.lab.chappe, "registrar", "approve", "--yes", "--home", str(registrar_home), "--node",
                               self.node, "--request", str(request), "--out", str(approval)], capture_output=True, text=True)
        lab.expect(done.returncode == 0, done.stderr)
        self.must("register", "--approval", str(approval))

    def run(self):
        while not self.over:
            text = f"message {self.index}.{self.tried}"
            self.tried += 1
            try:
                answer = self.chappe("send", f"sender{self.index}", text, "--json", "--timeout", "5")
            except subprocess.TimeoutExpired:
                continue
            if answer.returncode == 0:
                self.done.append((text, json.loads(answer.stdout.splitlines()[-1])))


def run():
    seed = int(os.environ.get("CHAPPE_SEED", time.time_ns()))
    print(f"seed {seed} (CHAPPE_SEED)")
    chance = random.Random(seed)
    with lab.Lab(args.chappe, networked=False) as the_lab:
        port = 20000 + os.getpid() % 20000
        folder = the_lab.init("node", "--port", str(port))
        process = the_lab.start(folder)
        registrar = the_lab.folder / "registrar"
        registrar.mkdir(mode=0o700)
        for name in ("registrar.key", "chain.genesis"):
            (registrar / name).write_bytes((folder / name).read_bytes())
            (registrar / name).chmod(0o600)
        senders = [Sender(the_lab, i, folder / "chain.genesis", f"127.0.0.1:{port}") for i in range(SENDERS)]
        for sender in senders:
            sender.register(registrar)
        for sender in senders:
            sender.start()
        for kill in range(args.kills):
            time.sleep(chance.uniform(0.05, 1.5))
            process.kill()
            process.wait()
            process = the_lab.start(folder)
        time.sleep(1)
        for sender in senders:
            sender.over = True
        for sender in senders:
            sender.join(60)
            lab.expect(not sender.is_alive(), "a sender hangs")
        total = sum(len(sender.done) for sender in senders)
        for sender in senders:
            inbox = [json.loads(line) for line in sender.must("inbox", "--json").splitlines()]
            texts = [message.get("text") for message in inbox]
            for text, receipt in sender.done:
                lab.expect(texts.count(text) == 1, f"{text} has a receipt {receipt} and is there {texts.count(text)} times")
            sequences = [message["sequence"] for message in inbox]
            lab.expect(sequences == list(range(1, len(sequences) + 1)), "the inbox has gaps")
        lab.expect(total >= args.kills, f"only {total} messages were sent around {args.kills} kills")
        print(f"{args.kills} kills, {total} receipts, none lost, none applied twice")
        the_lab.stop(folder, process)


lab.main(run)
