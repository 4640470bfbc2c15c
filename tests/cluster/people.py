"""People with the command line: accounts that register, and senders that write without end and keep their receipts."""
import json
import shutil
import subprocess
import threading

import lab


class Person:
    def __init__(self, the_lab, name, genesis, node):
        self.lab, self.name, self.home = the_lab, name, the_lab.folder / name
        self.run("account", "new", "--plain", "--genesis", str(genesis), "--node", node)

    def words(self, *words):
        return self.lab.among_people([self.lab.chappe, *words, "--home", str(self.home)])

    def attempt(self, *words):
        return subprocess.run(self.words(*words), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)

    def run(self, *words, refused=None):
        done = self.attempt(*words)
        told = f"{self.name}: chappe {' '.join(words)}: {done.returncode} {done.stdout} {done.stderr}"
        if refused:
            lab.expect(done.returncode == 1 and refused in done.stderr, f"{refused} expected of {told}")
        else:
            lab.expect(done.returncode == 0, told)
        return done.stdout

    def inbox(self):
        return [json.loads(line) for line in self.run("inbox", "--json", "--from", "1", "--limit", "1000000").splitlines()]


def new_registrar(the_lab, folder, node):
    """Who holds the registrar's key that `chappe init` made in the node's folder."""
    registrar = Person(the_lab, "registrar", folder / "chain.genesis", node)
    shutil.copy(folder / "registrar.key", registrar.home / "registrar.key")
    (registrar.home / "registrar.key").chmod(0o600)
    return registrar


def register(the_lab, person, registrar, handle, refused=None):
    request, approval = the_lab.folder / f"{handle}.request", the_lab.folder / f"{handle}.{person.name}.approval"
    person.run("register", handle, "--request", str(request))
    registrar.run("registrar", "approve", "--yes", "--request", str(request), "--out", str(approval), refused=refused)
    if not refused:
        person.run("register", "--approval", str(approval))
    return approval


class Sender(threading.Thread):
    """One account that writes to itself without end; keeps what was answered as done."""

    def __init__(self, person):
        super().__init__(daemon=True)
        self.person, self.done, self.tried, self.over = person, [], 0, False

    def run(self):
        while not self.over:
            text = f"{self.person.name} {self.tried}"
            self.tried += 1
            answer = self.person.attempt("send", self.person.name, text, "--json", "--timeout", "5")
            if answer.returncode == 0:
                self.done.append((text, json.loads(answer.stdout.splitlines()[-1])))

    def end(self):
        self.over = True
        self.join(60)
        lab.expect(not self.is_alive(), "a sender hangs")

    def check_inbox(self):
        """What was answered as done is there once, and the inbox has no gaps."""
        inbox = self.person.inbox()
        texts = [message.get("text") for message in inbox]
        for text, receipt in self.done:
            lab.expect(texts.count(text) == 1, f"{text} has a receipt {receipt} and is there {texts.count(text)} times")
        sequences = [message["sequence"] for message in inbox]
        lab.expect(sequences == list(range(1, len(sequences) + 1)), "the inbox has gaps")
