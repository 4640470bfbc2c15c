#!/usr/bin/env python3
"""A full disk: new work is refused by name and reads go on; where not a byte is left, nothing acknowledged is lost."""
import argparse
import os
import subprocess
import time

import lab
from people import Person, Sender, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("--rounds", type=int, default=3, help="times that the last byte is taken")
args = parser.parse_args()
DISK_MIB, LOW_WATER_MIB, FILE_BYTES = 192, 32, 300_000
DISK_ENDED = 6  # the exit code of a validator whose disk failed it


class Disk:
    """A small file system of its own, and a ballast file that takes its room."""

    def __init__(self, folder):
        self.folder, self.ballast = folder, folder / "ballast"

    def __enter__(self):
        self.folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "tmpfs", str(self.folder)],
                              capture_output=True, text=True)
        if done.returncode != 0:
            print(f"SKIP: no file system can be mounted here: {done.stderr.strip()}")
            raise SystemExit(lab.SKIP)
        return self

    def __exit__(self, kind, value, trace):
        subprocess.run(["umount", "-l", str(self.folder)], check=False)

    def free(self):
        room = os.statvfs(self.folder)
        return room.f_bavail * room.f_frsize

    def leave(self, free_bytes):
        """Fills the disk up to so many bytes; 0: until nothing more can be written, while others write too."""
        with open(self.ballast, "ab", buffering=0) as ballast:
            try:
                if free_bytes:
                    os.posix_fallocate(ballast.fileno(), 0, self.free() - free_bytes)
                else:
                    for size in (1 << 20, 4096, 1):
                        self.take_all(ballast, bytes(size))
            except OSError as error:
                lab.expect(not free_bytes, f"the ballast does not fit: {error}")

    @staticmethod
    def take_all(ballast, piece):
        try:
            while ballast.write(piece) == len(piece):
                pass
        except OSError:
            pass

    def clear(self):
        self.ballast.unlink()


def nearly_full(the_lab, folder, disk, process, alice):
    """Below the low-water mark: refused by name, read as ever, and taken again when there is room."""
    sent = the_lab.folder / "file"
    sent.write_bytes(os.urandom(FILE_BYTES))
    alice.run("send", "alice", "before")
    alice.run("send", "alice", "--attach", str(sent))
    disk.leave((LOW_WATER_MIB << 20) // 2)
    the_lab.wait_until(lambda: the_lab.status(folder).get("disk_low"), 20, "the node sees that the disk is full", process)
    alice.run("send", "alice", "meanwhile", refused="DISK_FULL")
    alice.run("send", "alice", "--attach", str(sent), refused="DISK_FULL")
    alice.run("whois", "alice")
    lab.expect(len(alice.inbox()) == 2, "two messages were sent before the disk was full")
    fetched = the_lab.folder / "fetched"
    alice.run("fetch", "2", "--out", str(fetched))
    lab.expect(fetched.read_bytes() == sent.read_bytes(), "the file came out different")
    disk.clear()
    the_lab.wait_until(lambda: not the_lab.status(folder)["disk_low"], 20, "the node sees that there is room", process)
    alice.run("send", "alice", "after")
    texts = [message.get("text") for message in alice.inbox()]
    lab.expect(texts[0] == "before" and texts[2:] == ["after"], f"the inbox holds {texts}")
    lab.expect(the_lab.status(folder)["counters"]["apply_transactions_applied_total"] == 4, "work was done on a full disk")


def really_full(the_lab, folder, disk, process, sender):
    """The last byte is gone: the node goes on, or ends loudly and starts again once there is room."""
    ends = 0
    for _ in range(args.rounds):
        before = len(sender.done)
        the_lab.wait_until(lambda: len(sender.done) > before, 60, "messages are taken", process)
        disk.leave(0)
        for _ in range(20):
            time.sleep(0.1)
            disk.leave(0)
        ended = process.poll()
        lab.expect(ended in (None, DISK_ENDED), f"on a full disk the node ended with {ended}")
        disk.clear()
        if ended is not None:
            ends += 1
            log = (the_lab.folder / f"{folder.name}.log").read_text()
            lab.expect("; its disk is full" in log, "the node ended without a word")
            process = the_lab.start(folder)
    before = len(sender.done)
    the_lab.wait_until(lambda: len(sender.done) > before, 60, "messages are taken", process)
    sender.end()
    sender.check_inbox()
    print(f"{args.rounds} times not a byte was left: the node ended {ends} times; {len(sender.done)} receipts, none lost")
    return process


def run():
    with lab.Lab(args.chappe, networked=False) as the_lab, Disk(the_lab.folder / "disk") as disk:
        port = 20000 + os.getpid() % 20000
        folder = the_lab.init("disk/node", "--port", str(port))
        lab.configure(folder, low_water_mib=LOW_WATER_MIB, object_segment_mib=16)
        process = the_lab.start(folder)
        node = f"127.0.0.1:{port}"
        registrar = new_registrar(the_lab, folder, node)
        alice, bob = (Person(the_lab, name, folder / "chain.genesis", node) for name in ("alice", "bob"))
        register(the_lab, alice, registrar, "alice")
        nearly_full(the_lab, folder, disk, process, alice)
        register(the_lab, bob, registrar, "bob")
        the_lab.stop(folder, process)
        lab.configure(folder, low_water_mib=1)
        process = the_lab.start(folder)
        sender = Sender(bob)
        sender.start()
        process = really_full(the_lab, folder, disk, process, sender)
        the_lab.stop(folder, process)


lab.enter_namespace()
lab.main(run)
