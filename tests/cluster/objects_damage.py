#!/usr/bin/env python3
"""Four validators, and what a disk may change of one: shards, a footer, a record, the state, a row, the log. Each is noticed,
objects are restored from the others, and in the end all is read back equal where the damaged one is needed. Before: an account
is held to its quota, over a restart too, and no object's own ciphertext lies in a file of any of the four."""
import argparse
import os
import random
import re
import shutil
import subprocess
import time

import lab
from ciphertext import check_no_ciphertext, pieces_of_objects
from people import Person, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
args = parser.parse_args()
N, FILES, FILE_BYTES, QUOTA_MIB, DISK_FAILED = 4, 9, 5_000_000, 52, 6
HANDLE = "anna.of.the.old.tower"
ILL, GONE, SHARD = 2, 3, 3


def flip(path, at, bit):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


def flip_object(place, name, at, bit):
    content = bytearray(place.read(name))
    content[at] ^= 1 << bit
    place.write(name, content)


def footer_of(place, name):
    """Where a sealed segment's footer begins, by its trailer; and the file's length."""
    content = place.read(name)
    trailer = content[-4096:]
    lab.expect(trailer[:4] == b"COF3", f"{name} is not sealed")
    return int.from_bytes(trailer[24:32], "little"), len(content)


def shards_of(place, name, footer):
    """Where the records of shards begin."""
    content = place.read(name)[:footer]
    return [at for at in range(8192, footer, 64) if content[at:at + 4] == b"COR1" and content[at + 33] == SHARD]


class Ill:
    """The validator whose disk betrays it."""

    def __init__(self, net, chance):
        self.net, self.chance, self.folder = net, chance, net.folder_of(ILL)

    def counters(self):
        return self.net.status_of(ILL).get("counters", {})

    def is_whole(self):
        c = self.counters()
        return c and c["serve_repair_left"] == 0 and c["serve_repair_waiting"] == 0 and c["scrub_passes_total"] > 0

    def again(self, what, restored_min=0, *options):
        """It is started, goes through all it has, and is whole."""
        self.net.devnet("restart", str(ILL), *options)
        self.net.wait_until(lambda: self.is_whole() and self.counters()["serve_blocks_restored_total"] >= restored_min, 90,
                            f"validator {ILL} is whole after {what}")
        c = self.counters()
        print(f"{what}: {c['scrub_blocks_damaged_total']} blocks found damaged, {c['serve_blocks_restored_total']} restored")
        return c

    def ends_by_itself(self, what):
        done = subprocess.run([args.chappe, "run", "--folder", str(self.folder)], capture_output=True, text=True, timeout=90)
        lab.expect(done.returncode == DISK_FAILED, f"{what} was run on: {done.returncode} {done.stderr}")

    def stop(self):
        self.net.devnet("stop", str(ILL))


def damage_objects(ill, net):
    chance, place = ill.chance, net.objects_of(ILL)
    first = place.segments()[0]
    footer, length = footer_of(place, first)
    shards = shards_of(place, first, footer)
    lab.expect(len(shards) >= 5, f"{first} has few shards")
    chance.shuffle(shards)
    ill.stop()
    for at in shards[:3]:
        flip_object(place, first, at + 96 + chance.randrange(16384), chance.randrange(8))
    c = ill.again("bits of shards", 3)
    lab.expect(c["scrub_blocks_damaged_total"] == 3, "the scrubber found others")
    told = subprocess.run([args.chappe, "status", "--folder", str(ill.folder)], capture_output=True, text=True).stdout
    lab.expect(re.search(r"objects +all here; .* [1-9]\d* restored", told), f"the status says: {told}")

    ill.stop()
    flip_object(place, first, chance.choice([footer + chance.randrange(60), length - 4096 + chance.randrange(32)]), chance.randrange(8))
    c = ill.again("a bit of a footer")
    lab.expect(c["scrub_segments_damaged_total"] == 0, "the footer was not made again")
    footer_of(place, first)

    ill.stop()
    flip_object(place, first, shards[3] + chance.randrange(84), chance.randrange(8))
    ill.again("a bit of a record's header", 1)

    ill.stop()  # both at once: the record is in no index any more, only the block's certificate tells of it
    footer, _ = footer_of(place, first)  # it lies elsewhere when the last record was damaged as it was made again
    flip_object(place, first, footer + 5, 1)
    flip_object(place, first, shards[4] + chance.randrange(84), chance.randrange(8))
    ill.again("a bit of both", 1)


def damage_state_and_log(ill, net):
    chance, data = ill.chance, ill.folder / "lmdb" / "data.mdb"
    ill.stop()
    for low in (16, 4096 + 16):  # both meta pages: one alone may be the older one, which nobody reads
        flip(data, low + chance.randrange(136), chance.randrange(8))
    index = [path for path in (ill.folder / "index").iterdir() if path.stat().st_size]
    lab.expect(index, "there is no index of blocks")
    for path in index:  # none of its slots is trusted
        for _ in range(50):
            flip(path, chance.randrange(min(path.stat().st_size, 40_000)), chance.randrange(8))
    ill.again("bits of LMDB's meta pages and of the index of blocks")

    ill.stop()
    whole = data.read_bytes()
    places = [found.start() for found in re.finditer(re.escape(HANDLE.encode()), whole)]
    lab.expect(places, "the handle is in no row")
    for at in places:
        flip(data, at + 5, 2)
    ill.ends_by_itself("a changed row")
    ill.again("a bit of a row")

    ill.stop()
    flip(sorted((ill.folder / "wal").glob("*.wal"))[0], 4096 + chance.randrange(64), chance.randrange(8))
    ill.ends_by_itself("a damaged log")
    for name in ("wal", "lmdb", "guard"):  # keys and objects stay; the rest comes from the others
        path = ill.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    ill.again("a bit of the log", 0, "--rejoin")
    net.expect_progress(range(1, N + 1))


def run():
    seed = int(os.environ.get("CHAPPE_SEED", time.time_ns()))
    print(f"seed {seed} (CHAPPE_SEED)")
    chance = random.Random(seed)
    with lab.Devnet(args.chappe, N) as net:
        net.devnet("stop")
        for i in range(1, N + 1):
            net.configure_stopped(i, object_quota_mib=QUOTA_MIB, object_segment_mib=16, upkeep_mib_s=4096)
        net.devnet("start")
        at = {i: net.address_of(i) for i in range(1, N + 1)}
        registrar = new_registrar(net, net.folder_of(1), at[1])
        ann = Person(net, "ann", net.folder_of(1) / "chain.genesis", at[1])
        register(net, ann, registrar, HANDLE)
        files = []
        for i in range(FILES):
            files.append(net.folder / f"{i}.bin")
            files[-1].write_bytes(chance.randbytes(FILE_BYTES))
            ann.run("send", HANDLE, "--attach", str(files[-1]))

        large = net.folder / "large.bin"
        large.write_bytes(chance.randbytes(2 * FILE_BYTES))
        ann.run("send", HANDLE, "--attach", str(large), refused="QUOTA")
        ann.run("send", HANDLE, "a text needs no quota")
        net.devnet("restart", "1")
        net.wait_until(lambda: net.status_of(1).get("ready"), 60, "validator 1 is ready")
        ann.run("send", HANDLE, "--attach", str(large), refused="QUOTA")

        pieces = pieces_of_objects(net, ann, FILE_BYTES, 8)
        for i in range(1, N + 1):
            check_no_ciphertext(net.folder_of(i), pieces, net.objects_of(i))

        ill = Ill(net, chance)
        damage_objects(ill, net)
        damage_state_and_log(ill, net)

        net.devnet("kill", str(GONE))
        out = net.folder / "out.bin"
        for i in range(FILES):
            ann.run("fetch", str(i + 1), "--out", str(out), "--force", "--node", at[ILL])
            lab.expect(out.read_bytes() == files[i].read_bytes(), f"file {i} came out different")
        c = ill.counters()
        lab.expect(c["serve_blocks_failed_total"] == 0 and c["serve_block_manifests_wrong_total"] == 0, f"in the end: {c}")
        print(f"all {FILES} files read back equal at validator {ILL} with {GONE} gone")


lab.main(run)
