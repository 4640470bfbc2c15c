#!/usr/bin/env python3
"""One validator whose pool has two copies, while people write files and texts: OSDs that are slow, silent, and killed. Texts go on
all the time; a file is late, or refused by name, and none with a receipt is lost, whichever copy is left; memory is bounded."""
import argparse
import hashlib
import os
import pathlib
import random
import signal
import threading
import time

import ceph
import lab
from people import Person, Sender, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("--silent", type=int, default=8, help="seconds without an answer")
args = parser.parse_args()
PORT, TIMEOUT_SECONDS, LATE_SECONDS, GROWTH_KIB = 20760, 4, 2, 96 << 10


class Writer(threading.Thread):
    """Sends files to itself without end, and keeps the digest of each that has a receipt."""

    def __init__(self, person, seed):
        super().__init__(daemon=True)
        self.person, self.chance, self.over = person, random.Random(seed), False
        self.done, self.away, self.wrong = [], 0, []

    def run(self):
        path = self.person.home / "file"
        while not self.over:
            content = self.chance.randbytes(self.chance.choice([5_000, 300_000, 2_500_000]))
            path.write_bytes(content)
            answer = self.person.attempt("send", self.person.name, "--attach", str(path), "--timeout", "60")
            if answer.returncode == 0:
                self.done.append(hashlib.sha256(content).hexdigest())
            elif "STORE_AWAY" in answer.stderr:
                self.away += 1
                time.sleep(0.2)
            else:
                self.wrong.append(answer.stderr)

    def check(self):
        """Every file with a receipt is there, equal and in order."""
        lab.expect(not self.wrong, f"{self.person.name}: {self.wrong}")
        sequences = [message["sequence"] for message in self.person.inbox()]
        lab.expect(len(sequences) == len(self.done), f"{len(sequences)} in the inbox, {len(self.done)} receipts")
        out = self.person.home / "out"
        for sequence, digest in zip(sequences, self.done):
            self.person.run("fetch", str(sequence), "--out", str(out), "--force", "--timeout", "60")
            lab.expect(hashlib.sha256(out.read_bytes()).hexdigest() == digest, f"{sequence} came out different")


class World:
    def __init__(self, the_lab, cluster, seed):
        self.lab, self.cluster = the_lab, cluster
        self.folder = the_lab.init("node", "--port", str(PORT))
        lab.configure(self.folder, objects='"rados"', rados_config=f'"{cluster.config}"', low_water_mib=64,
                      rados_timeout_seconds=TIMEOUT_SECONDS)
        self.process = the_lab.start(self.folder)
        node = f"127.0.0.1:{PORT}"
        registrar = new_registrar(the_lab, self.folder, node)
        people = [Person(the_lab, name, self.folder / "chain.genesis", node) for name in ("ann", "bob", "eve", "dan")]
        for person in people:
            register(the_lab, person, registrar, person.name)
        self.writers = [Writer(person, seed + k) for k, person in enumerate(people[:2])]
        self.texts, self.reader = Sender(people[2]), people[3]
        self.file = the_lab.folder / "read.bin"
        self.file.write_bytes(os.urandom(2_500_000))
        self.reader.run("send", "dan", "--attach", str(self.file))
        for thread in (*self.writers, self.texts):
            thread.start()

    def kib(self, what):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{what}:")[1].split()[0])

    def signal_osds(self, sign):
        for name in self.cluster.osds:
            self.cluster.processes[name].send_signal(sign)

    def refused(self):
        return sum(writer.away for writer in self.writers)

    def expect_files(self, more, what):
        before = [len(writer.done) for writer in self.writers]
        self.lab.wait_until(lambda: all(len(w.done) >= b + more for w, b in zip(self.writers, before)), 120, what, self.process)

    def expect_texts(self, more, what):
        before = len(self.texts.done)
        self.lab.wait_until(lambda: len(self.texts.done) >= before + more, 60, what, self.process)

    def late(self):
        """Silent for less than the time-out: nobody is refused."""
        self.signal_osds(signal.SIGSTOP)
        time.sleep(LATE_SECONDS)
        self.signal_osds(signal.SIGCONT)
        self.expect_files(2, "files are stored after a pause")
        lab.expect(self.refused() == 0, "refused for a pause below the time-out")

    def slow(self):
        """Every answer takes a second or two, for a while: what is read is late and right, and the rest goes on."""
        over, read, out = threading.Event(), 0, self.lab.folder / "read.out"

        def stutter():
            while not over.is_set():
                self.signal_osds(signal.SIGSTOP)
                time.sleep(1.2)
                self.signal_osds(signal.SIGCONT)
                time.sleep(0.3)
        stuttering = threading.Thread(target=stutter, daemon=True)
        before = len(self.texts.done)
        stuttering.start()
        end = time.monotonic() + args.silent
        while time.monotonic() < end or read < 2 or len(self.texts.done) < before + 3:
            lab.expect(time.monotonic() < end + 60, f"{read} files read, {len(self.texts.done) - before} texts")
            self.reader.run("fetch", "1", "--out", str(out), "--force", "--timeout", "60")
            lab.expect(out.read_bytes() == self.file.read_bytes(), "a file came out different")
            read += 1
        over.set()
        stuttering.join()
        print(f"while OSDs were slow: {read} files read, {len(self.texts.done) - before} texts")
        lab.expect(self.refused() == 0, "refused for answers that came in time")

    def silent(self):
        before = self.kib("VmRSS")
        self.signal_osds(signal.SIGSTOP)
        end = time.monotonic() + args.silent
        self.lab.wait_until(lambda: self.refused() >= 2, 60, "files are refused by name", self.process)
        self.expect_texts(5, "texts go on without the storage")
        time.sleep(max(0, end - time.monotonic()))
        lab.expect(self.lab.status(self.folder).get("ready"), "the node is not ready")
        self.signal_osds(signal.SIGCONT)
        self.expect_files(2, "files are stored again")
        grown = self.kib("VmHWM") - before
        print(f"{self.refused()} files refused; {grown} KiB more memory at most")
        lab.expect(grown < GROWTH_KIB, f"{grown} KiB more memory")

    def killed(self):
        """In the middle of puts; then the other, when the first has its copies again."""
        self.cluster.kill("osd.0")
        self.expect_files(3, "files are stored on one OSD")
        self.cluster.start_osd(0)
        self.expect_files(1, "files are stored while copies are made")
        for thread in (*self.writers, self.texts):
            thread.over = True
        for thread in (*self.writers, self.texts):
            thread.join(120)
            lab.expect(not thread.is_alive(), "somebody hangs")
        self.lab.wait_until(self.cluster.is_whole, 120, "each OSD has its copy")
        for gone, back in (("osd.1", 1), ("osd.0", None)):
            self.cluster.kill(gone)
            self.lab.wait_until(self.cluster.answers, 60, "the cluster answers")
            self.lab.wait_until(lambda: self.lab.status(self.folder)["counters"]["serve_objects_refusing"] == 0, 60,
                                "objects are taken")
            for writer in self.writers:
                writer.check()
            if back is not None:
                self.cluster.start_osd(back)
                self.lab.wait_until(self.cluster.is_whole, 120, "each OSD has its copy")
        self.texts.check_inbox()


def run(the_lab, cluster):
    seed = int(os.environ.get("CHAPPE_SEED", time.time_ns()))
    print(f"seed {seed} (CHAPPE_SEED)")
    world = World(the_lab, cluster, seed)
    world.expect_files(1, "files are stored")
    world.late()
    world.slow()
    world.silent()
    world.killed()
    the_lab.stop(world.folder, world.process)
    print(f"{sum(len(w.done) for w in world.writers)} files and {len(world.texts.done)} texts, all read back")


if __name__ == "__main__":
    ceph.enter_network()
    with ceph.Ceph(2) as started, lab.Lab(args.chappe, networked=False) as opened:
        run(opened, started)
