#!/usr/bin/env python3
"""What the disk changes is noticed: the state is made anew from the log, a damaged log is not run on, a damaged object is
found by the scrubber and named. Quotas are held."""
import argparse
import os
import random
import re
import subprocess
import time

import lab
from people import Person, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
args = parser.parse_args()
HANDLE = "anna.of.the.old.tower"
FILES, FILE_BYTES, QUOTA_MIB, DISK_FAILED = 5, 4_000_000, 21, 6


def flip(path, chance, low, high):
    with open(path, "r+b") as file:
        at = chance.randrange(low, high)
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))


def run():
    seed = int(os.environ.get("CHAPPE_SEED", time.time_ns()))
    print(f"seed {seed} (CHAPPE_SEED)")
    chance = random.Random(seed)
    with lab.Lab(args.chappe, networked=False) as the_lab:
        port = 20000 + os.getpid() % 20000
        folder = the_lab.init("node", "--port", str(port))
        config = folder / "chappe.yaml"
        text = config.read_text()
        for key, value, wanted in (("object_segment_mib", 1024, 16), ("upkeep_mib_s", 16, 4096),
                                   ("object_quota_mib", 0, QUOTA_MIB)):
            lab.expect(f"  {key}: " in text, f"{key} is not in the configuration")
            text = "\n".join(f"  {key}: {wanted}" if line.startswith(f"  {key}: ") else line for line in text.split("\n"))
        config.write_text(text)
        process = the_lab.start(folder)
        registrar = new_registrar(the_lab, folder, f"127.0.0.1:{port}")
        ann = Person(the_lab, "ann", folder / "chain.genesis", f"127.0.0.1:{port}")
        register(the_lab, ann, registrar, HANDLE)
        files = []
        for i in range(FILES):
            files.append(the_lab.folder / f"{i}.bin")
            files[-1].write_bytes(chance.randbytes(FILE_BYTES))
            ann.run("send", HANDLE, "--attach", str(files[-1]))
        ann.run("send", HANDLE, "--attach", str(files[0]), refused="QUOTA")
        ann.run("send", HANDLE, "a text needs no quota")

        def inbox():
            return [(message["sequence"], message.get("text")) for message in ann.inbox()]

        def fetched():
            whole = 0
            for i in range(FILES):
                out = the_lab.folder / "out.bin"
                done = ann.attempt("fetch", str(i + 1), "--out", str(out))
                whole += done.returncode == 0
                lab.expect(done.returncode or out.read_bytes() == files[i].read_bytes(), "a file came out different")
                out.unlink(missing_ok=True)
            return whole

        before = inbox()
        lab.expect(len(before) == FILES + 1 and fetched() == FILES, "not all is there")
        the_lab.stop(folder, process)

        log = the_lab.folder / "node.log"
        for name, low, high in (("mark", 8, 36), ("data.mdb", 16, 152)):
            told = log.read_text().count("made anew from the log")
            # both slots, or both meta pages: one alone may be the older one, which nobody reads
            flip(folder / "lmdb" / name, chance, low, high)
            flip(folder / "lmdb" / name, chance, low + 4096, high + 4096)
            process = the_lab.start(folder)
            lab.expect(log.read_text().count("made anew from the log") == told + 1, f"damage of {name} was not noticed")
            lab.expect(inbox() == before and fetched() == FILES, f"damage of {name} cost messages")
            the_lab.stop(folder, process)

        # Of every copy of the row: the scrubber goes through all that is alive.
        data = folder / "lmdb" / "data.mdb"
        whole = data.read_bytes()
        places = [found.start() for found in re.finditer(re.escape(HANDLE.encode()), whole)]
        lab.expect(places, "the handle is in no row")
        for at in places:
            with open(data, "r+b") as file:
                file.seek(at + 5)
                file.write(bytes([whole[at + 5] ^ 4]))
        process = the_lab.start(folder, wait=False)
        lab.expect(process.wait(60) == DISK_FAILED, "a changed row was not found")
        process = the_lab.start(folder)
        lab.expect(inbox() == before and fetched() == FILES, "damage of a row cost messages")
        the_lab.stop(folder, process)

        wal = folder / "wal" / "00000001.wal"
        whole = wal.read_bytes()
        flip(wal, chance, 4096, 4096 + 64)  # a frame's header; what fills its block up is nobody's
        done = subprocess.run([args.chappe, "run", "--folder", str(folder)], capture_output=True, text=True, timeout=60)
        lab.expect(done.returncode == DISK_FAILED, f"a damaged log was run on: {done.stderr}")
        wal.write_bytes(whole)

        flip(folder / "obj" / "00000001.obj", chance, 3_000_000, 6_000_000)
        process = the_lab.start(folder)
        the_lab.wait_until(lambda: the_lab.status(folder)["counters"]["scrub_blocks_damaged_total"] == 1, 60,
                           "the scrubber finds the block", process)
        lab.expect(fetched() == FILES - 1, "the damaged file was given out, or another was not")
        lab.expect(inbox() == before, "messages are gone")
        the_lab.stop(folder, process)


lab.main(run)
