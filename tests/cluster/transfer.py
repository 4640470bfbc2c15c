#!/usr/bin/env python3
"""Large files on their way while validators die: another one takes over, nothing is sent twice that is there, nothing half
is shown as whole; the client's memory stays small."""
import argparse
import hashlib
import json
import os
import signal
import socket
import subprocess
import time

import lab
from people import Person, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("--bytes", type=int, default=20_000_000)
args = parser.parse_args()
CLIENT_KIB_MAX = 64 << 10


def quick_status(net, i):
    """Without starting a process: the moment matters."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(net.folder_of(i) / "control"))
        s.sendall(b"status")
        text = b""
        while piece := s.recv(1 << 20):
            text += piece
    return json.loads(text)


def counter(net, i, name):
    return quick_status(net, i)["counters"][name]


class Running:
    """A command of a person's that goes on beside us; what it took of memory at most."""

    def __init__(self, person, *words):
        self.told = f"{person.name}: {' '.join(words)}"
        self.out = open(person.lab.folder / f"{person.name}.out", "w+b")
        self.process = subprocess.Popen(person.words(*words, "--json"), stdout=self.out, stderr=self.out,
                                        stdin=subprocess.DEVNULL, cwd=person.lab.folder)

    def over(self):
        """Without reaping it: end wants to know what it took."""
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self):
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.out.seek(0)
        text = self.out.read().decode()
        lab.expect(self.process.returncode == 0, f"{self.told}: {self.process.returncode} {text}")
        lab.expect(usage.ru_maxrss < CLIENT_KIB_MAX, f"{self.told}: {usage.ru_maxrss} KiB of memory")
        return json.loads(text.splitlines()[-1]), usage.ru_maxrss


def write_secret(path, length):
    with open(path, "wb") as f:
        while length:
            piece = os.urandom(min(length, 1 << 20))
            f.write(piece)
            length -= len(piece)


def digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def strike(net, i, name, from_count, running, sign=signal.SIGKILL):
    """Sends validator i a signal once its counter has grown by so much; its pid, or 0 where the transfer was over before."""
    begun = counter(net, i, name)
    pid = quick_status(net, i)["pid"]
    while counter(net, i, name) < begun + from_count:
        if running.over():
            return 0
        time.sleep(0.001)
    os.kill(pid, sign)
    return pid


def in_the_middle(attempt, length=min(args.bytes, 200_000_000)):
    """The transfer may be over before it is struck: then again with more."""
    for _ in range(4):
        if attempt(length):
            return
        length *= 2
    raise lab.Failed("it is always over before it is struck")


def upload(net, alice, bob):
    """The validator that takes the file in dies; another one gets all of it, and the message."""
    def attempt(length):
        path, got = net.folder / "up", net.folder / "up.got"
        write_secret(path, length)
        begun = time.monotonic()
        sending = Running(alice, "send", "bob", "--attach", str(path))
        if not strike(net, 1, "serve_objects_stored_total", 5, sending):
            sending.end()
            return False
        receipt, kib = sending.end()
        print(f"upload of {length} bytes, its validator killed on the way: {time.monotonic() - begun:.1f} s, {kib} KiB")
        net.wait_until(lambda: bob.inbox()[-1]["log_index"] == receipt["log_index"], 30, "the message at bob's validator")
        sequence = bob.inbox()[-1]["sequence"]
        begun = time.monotonic()
        _, kib = Running(bob, "fetch", str(sequence), "--out", str(got), "--force").end()
        print(f"download of {length} bytes: {time.monotonic() - begun:.1f} s, {kib} KiB")
        lab.expect(digest(got) == digest(path), "another file came out")
        path.unlink()
        got.unlink()
        return True
    in_the_middle(attempt, args.bytes)
    net.devnet("restart", "1")
    net.wait_until(lambda: net.status_of(1).get("ready"), 60, "validator 1 is back")


def resume(net, alice):
    """The same validator comes back: it is not sent what it has."""
    def attempt(length):
        path = net.folder / "again"
        write_secret(path, length)
        sending = Running(alice, "object", "import", str(path), "--node", net.address_of(1))
        if not strike(net, 1, "serve_objects_stored_total", 5, sending):
            sending.end()
            return False
        net.devnet("restart", "1")
        sending.end()
        path.unlink()
        blocks, stored = -(-length // (1 << 20)) + 1, counter(net, 1, "serve_objects_stored_total")
        lab.expect(stored <= blocks - 5, f"{stored} blocks were stored after the restart, of {blocks}")
        return True
    in_the_middle(attempt)


def download(net, alice, bob):
    """One of two validators that have the object dies, or falls silent, while it is fetched."""
    path, car, got = net.folder / "down", net.folder / "down.car", net.folder / "down.got"

    def attempt(sign):
        def go(length):
            write_secret(path, length)
            alice.run("send", "bob", "--attach", str(path))
            net.wait_until(lambda: bob.inbox()[-1]["object"]["name"] == path.name, 30, "the message")
            message = bob.inbox()[-1]
            alice.run("object", "export", message["object"]["cid"], "--car", "--out", str(car), "--force")
            other = bob.run("object", "import", "--car", str(car), "--node", net.address_of(3)).strip()
            lab.expect(other == message["object"]["cid"], f"{other} is not the CID")
            fetching = Running(bob, "fetch", str(message["sequence"]), "--out", str(got), "--force")
            pid = strike(net, 1, "serve_requests_total", 4, fetching, sign)
            if not pid:
                fetching.end()
                return False
            _, kib = fetching.end()
            if sign == signal.SIGSTOP:
                os.kill(pid, signal.SIGCONT)
            lab.expect(digest(got) == digest(path), "another file came out")
            print(f"download of {length} bytes, {sign.name} on the way: {kib} KiB")
            return True
        return go
    in_the_middle(attempt(signal.SIGSTOP))
    net.wait_until(lambda: net.status_of(1).get("ready"), 60, "validator 1 goes on")
    in_the_middle(attempt(signal.SIGKILL))
    left = [name for name in os.listdir(net.folder) if name.startswith("down.got.")]
    lab.expect(not left, f"half files are left: {left}")


def half(net, bob):
    """A reader that is killed on the way leaves no file under the name."""
    got = net.folder / "half"
    message = bob.inbox()[-1]

    def attempt(length):
        fetching = Running(bob, "fetch", str(message["sequence"]), "--out", str(got), "--node", net.address_of(3))
        before = counter(net, 3, "serve_requests_total")
        while counter(net, 3, "serve_requests_total") < before + 4 and not fetching.over():
            time.sleep(0.001)
        fetching.process.kill()
        return fetching.process.wait() == -signal.SIGKILL
    in_the_middle(attempt)
    lab.expect(not got.exists(), "half a file has the name of the whole")


def refusals(net, alice):
    """What is cut or changed is not taken for an object."""
    car = net.folder / "down.car"
    data = bytearray(car.read_bytes())
    bad = net.folder / "bad.car"
    for content, why in ((data[:-9], "cut off"), (data[:59], "lacks the block of its root"), (data[:-1] + b"x", "not what its address"),
                         (b"x" * 100, "not a CAR"), (b"", "not a CAR")):
        bad.write_bytes(content)
        done = alice.attempt("object", "import", "--car", str(bad), "--node", net.address_of(2))
        lab.expect(done.returncode == 5 and why in done.stderr, f"\"{why}\" expected of {done.stderr}")
    empty = net.folder / "empty"
    empty.write_bytes(b"")
    lab.expect(alice.attempt("object", "import", str(empty)).returncode == 6, "an empty file is stored")
    unknown = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
    alice.run("object", "export", unknown, "--out", str(net.folder / "none"), refused="NOT_FOUND")
    lab.expect(not (net.folder / "none").exists(), "a file without an object")


def run():
    with lab.Devnet(args.chappe, 4, "--no-relation") as net:
        genesis = net.folder_of(1) / "chain.genesis"
        registrar = new_registrar(net, net.folder_of(1), net.address_of(1))
        alice, bob = (Person(net, name, genesis, net.address_of(1)) for name in ("alice", "bob"))
        register(net, alice, registrar, "alice")
        register(net, bob, registrar, "bob")
        upload(net, alice, bob)
        resume(net, alice)
        download(net, alice, bob)
        half(net, bob)
        refusals(net, alice)


lab.main(run)
