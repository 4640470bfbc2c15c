#!/usr/bin/env python3
"""One validator that keeps its objects in a real Ceph pool: they outlive kill -9; a cluster that does not answer is a named
refusal, everything else goes on, and objects are taken again when it answers."""
import argparse
import os
import shutil
import signal
import subprocess

import ceph
import lab
from people import Person, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("--bytes", type=int, default=3_000_000, help="of each file")
args = parser.parse_args()
PORT = 20740


class Files:
    """What was sent, and whether it can be had again."""

    def __init__(self, the_lab, person, handle):
        self.lab, self.person, self.handle, self.sent = the_lab, person, handle, []

    def send(self, refused=None):
        path = self.lab.folder / f"{len(self.sent)}.bin"
        path.write_bytes(os.urandom(args.bytes))
        self.person.run("send", self.handle, "--attach", str(path), refused=refused)
        if not refused:
            self.sent.append(path)

    def fetch(self, i, refused=None):
        out = self.lab.folder / "out.bin"
        self.person.run("fetch", str(self.attached()[i]), "--out", str(out), refused=refused)
        lab.expect(refused or out.read_bytes() == self.sent[i].read_bytes(), "a file came out different")
        out.unlink(missing_ok=True)

    def attached(self):
        return [message["sequence"] for message in self.person.inbox() if not message.get("text")]

    def fetch_all(self):
        lab.expect(len(self.attached()) == len(self.sent), f"{len(self.attached())} files, {len(self.sent)} were sent")
        for i in range(len(self.sent)):
            self.fetch(i)


SETTING, KEY, MACHINE = 2, 4, 6  # exit codes


def not_started(the_lab, folder, why, code=1, *before):
    """A start that ends by itself, and says why."""
    words = [*before, the_lab.chappe, "run", "--folder", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    lab.expect(done.returncode == code and why in done.stderr,
               f"{code} and \"{why}\" expected of {done.returncode} {done.stderr}")


def away(the_lab, cluster, files, folder):
    """The OSD is killed: what is not an object goes on."""
    cluster.kill("osd.0")
    files.send(refused="STORE_AWAY")
    files.fetch(0, refused="STORE_AWAY")
    files.person.run("send", files.handle, "a text is no object")
    status = the_lab.status(folder)
    lab.expect(status.get("ready") and status["counters"]["serve_objects_refusing"] == 1, f"status: {status}")
    cluster.start_osd()
    the_lab.wait_until(lambda: the_lab.status(folder)["counters"]["serve_objects_refusing"] == 0, 60,
                       "objects are taken again")


def refusals_to_start(the_lab, cluster, folder):
    keyless = the_lab.folder / "keyless.conf"
    keyless.write_text(cluster.config.read_text().replace("keyring = ", "keyring = /nonexistent"))
    stranger = the_lab.folder / "stranger.conf"
    stranger.write_text(cluster.config.read_text().replace("keyring = ", f"keyring = {the_lab.folder}/stranger.key #"))
    (the_lab.folder / "stranger.key").write_text(
        cluster.keyring("client.chappe").read_text().replace("key = AQ", "key = AA"))
    for settings, why, code in (({"rados_pool": '"nowhere"'}, "there is no such pool", SETTING),
                                ({"rados_config": '"/nonexistent"'}, "store.rados_config can't be read", SETTING),
                                ({"rados_config": f'"{keyless}"'}, "no keyring, another key", KEY),
                                ({"rados_config": f'"{stranger}"'}, "no keyring, another key", KEY),
                                ({"rados_user": '"nobody"'}, "no keyring, another key", KEY),
                                ({"objects": '"segments"'}, "says that the objects are in a pool", 1)):
        before = (folder / "chappe.yaml").read_text()
        lab.configure(folder, **settings)
        not_started(the_lab, folder, why, code)
        (folder / "chappe.yaml").write_text(before)
    for daemon, start_again in (("osd.0", cluster.start_osd), ("mon", cluster.start_mon)):
        cluster.kill(daemon)
        not_started(the_lab, folder, "the cluster does not answer", MACHINE)
        start_again()
        the_lab.wait_until(cluster.answers, 60, "the cluster answers")
    segments = the_lab.init("segments", "--port", str(PORT + 1))
    (segments / "obj").mkdir(exist_ok=True)
    (segments / "obj" / "00000001.obj").touch()
    lab.configure(segments, objects='"rados"', rados_config=f'"{cluster.config}"')
    not_started(the_lab, segments, "nothing moves them into a pool")


def run(the_lab, cluster):
    folder = the_lab.init("node", "--port", str(PORT))
    lab.configure(folder, objects='"rados"', rados_config=f'"{cluster.config}"', low_water_mib=64,
                 rados_timeout_seconds=4)
    process = the_lab.start(folder)
    node = f"127.0.0.1:{PORT}"
    registrar = new_registrar(the_lab, folder, node)
    ann = Person(the_lab, "ann", folder / "chain.genesis", node)
    register(the_lab, ann, registrar, "ann")
    files = Files(the_lab, ann, "ann")
    files.send()
    files.send()
    files.fetch_all()
    lab.expect(not list((folder / "obj").glob("*.obj")), "a segment lies in the node's folder")
    listed = cluster.rados("--all", "ls")
    lab.expect("obj/00000001.obj" in listed, f"in the pool: {listed}")

    process.send_signal(signal.SIGKILL)
    process.wait()
    process = the_lab.start(folder)
    files.fetch_all()
    files.send()

    away(the_lab, cluster, files, folder)
    files.send()
    files.fetch_all()

    copy = the_lab.folder / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("control"))
    not_started(the_lab, copy, "holds this validator's objects", MACHINE)
    as_on_another_machine = ["unshare", "-m", "sh", "-c", f"mount --bind {copy} {folder} && exec \"$@\"", "sh"]
    not_started(the_lab, folder, "holds this validator's objects", MACHINE, *as_on_another_machine)
    files.send()
    the_lab.stop(folder, process)
    refusals_to_start(the_lab, cluster, folder)
    process = the_lab.start(folder)
    files.fetch_all()
    the_lab.stop(folder, process)
    print(f"{len(files.sent)} files of {args.bytes} bytes in the pool, all read back")


if __name__ == "__main__":
    ceph.enter_network()
    with ceph.Ceph() as started, lab.Lab(args.chappe, networked=False) as opened:
        run(opened, started)
