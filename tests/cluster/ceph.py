#!/usr/bin/env python3
"""A Ceph cluster of one node: a monitor, a manager and OSDs on files, in a folder and a network of their own. Everybody needs
a key; client.chappe's is for the pool alone.

ceph.py [--osds N] COMMAND... starts one, runs the command with CHAPPE_CEPH (the configuration file) and CHAPPE_CEPH_OSDS (the
OSDs' processes), and ends with its result; nothing stays. Each OSD has a copy. 77: Ceph is not installed."""
import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

SKIP = 77
PACKAGES = {"ceph-mon": "ceph-mon", "ceph-mgr": "ceph-mgr", "ceph-osd": "ceph-osd", "ceph": "ceph-common"}
POOL, USER = "chappe", "chappe"
# What a validator may do: read maps, shut out a client that had the validator's lock before it, and use one pool.
CAPS = ["mon", "profile rbd", "osd", f"allow rwx pool={POOL}"]
# Loopback; a copy on each OSD, of which one is enough to go on; statistics each second; a file that grows as it is written. Who
# is silent is soon missed where there is another one. Alone it is not: an OSD that is stopped for longer than its lease, 0.8 of
# the grace, may wait for ever for somebody to renew it.
CONFIG = """[global]
fsid = {fsid}
mon host = v2:127.0.0.1:3300
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = {folder}/ceph.$name.keyring
public network = 127.0.0.0/8
ms bind ipv6 = false
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
crash dir = {folder}
mon data = {folder}/mon
mgr data = {folder}/mgr
osd data = {folder}/osd.$id
osd pool default size = {osds}
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
mon osd min down reporters = 1
mon osd reporter subtree level = osd
osd heartbeat grace = {grace}
osd heartbeat interval = 1
paxos propose interval = 0.2
mgr stats period = 1
mgr tick period = 1
mgr module path = {folder}/mgr
osd objectstore = bluestore
bluestore block size = 68719476736
"""


def missing():
    """The Debian packages that are not there."""
    return sorted({package for program, package in PACKAGES.items() if not shutil.which(program)})


def enter_network():
    """Goes on in a network of its own, so that nothing else is reached and ports are free. Skips where it can't."""
    lacking = missing()
    if lacking:
        print("SKIP: Ceph is not installed: apt-get install --no-install-recommends " + " ".join(lacking))
        sys.exit(SKIP)
    if not os.environ.get("CHAPPE_IN_CEPH_NETWORK"):
        unshare = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-Urn"]
        if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
            print("SKIP: neither root nor user namespaces")
            sys.exit(SKIP)
        os.environ["CHAPPE_IN_CEPH_NETWORK"] = "1"
        os.execvp("unshare", [*unshare, sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))


class Ceph:
    def __init__(self, osds=1):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="chappe-ceph-"))
        self.config = self.folder / "ceph.conf"
        self.processes = {}
        self.osds = [f"osd.{i}" for i in range(osds)]

    def __enter__(self):
        try:
            self.begin()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, value, trace):
        for name in list(self.processes):
            self.kill(name)
        if kind is not None:
            for log in sorted(self.folder.glob("*.out")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}")
        shutil.rmtree(self.folder, ignore_errors=True)

    def begin(self):
        fsid = str(uuid.uuid4())
        self.config.write_text(CONFIG.format(fsid=fsid, folder=self.folder, osds=len(self.osds),
                                             grace=6 if len(self.osds) > 1 else 120))
        monmap, keys = self.folder / "monmap", self.folder / "mon.keys"
        for name in ("mon", "mgr", *self.osds):
            (self.folder / name).mkdir()
        self.run("ceph-authtool", "-C", keys, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        self.run("ceph-authtool", "-C", self.keyring("client.admin"), "--gen-key", "-n", "client.admin", "--cap", "mon", "allow *",
                 "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
        self.run("ceph-authtool", keys, "--import-keyring", self.keyring("client.admin"))
        self.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", "[v2:127.0.0.1:3300]", monmap)
        self.run("ceph-mon", "-c", self.config, "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keys)
        self.start_mon()
        self.new_key("mgr.x", "mon", "profile mgr", "osd", "allow *")
        self.start("mgr", "ceph-mgr", "-i", "x")
        for i, name in enumerate(self.osds):
            osd = str(uuid.uuid4())
            self.ceph("osd", "new", osd)
            self.new_key(name, "mon", "profile osd", "mgr", "profile osd", "osd", "allow *")
            self.run("ceph-osd", "-c", self.config, "-i", str(i), "--mkfs", "--osd-uuid", osd)
            self.start_osd(i)
        self.ceph("osd", "pool", "create", POOL, "8")
        self.new_key(f"client.{USER}", *CAPS)
        self.wait_until(self.pool_is_known, 120, "the monitor knows the pool's space")

    def keyring(self, entity):
        return self.folder / f"ceph.{entity}.keyring"

    def new_key(self, entity, *caps):
        """Gives an entity a key, and leaves it where the configuration says."""
        self.keyring(entity).write_text(self.ceph("auth", "get-or-create", entity, *caps))

    def run(self, *words):
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"{words[0]}: {done.stderr.strip()[-1000:]}")
        return done.stdout

    def ceph(self, *words):
        return self.run("ceph", "-c", self.config, "--connect-timeout", "30", *words)

    def rados(self, *words):
        return self.run("rados", "-c", self.config, "-p", POOL, *words)

    def start(self, name, *words):
        with open(self.folder / f"{name}.out", "ab") as out:
            words = ["setpriv", "--pdeathsig", "KILL", *words, "-c", str(self.config), "-f"]
            self.processes[name] = subprocess.Popen(words, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def start_mon(self):
        self.start("mon", "ceph-mon", "-i", "a")

    def start_osd(self, i=0):
        self.start(self.osds[i], "ceph-osd", "-i", str(i))

    def kill(self, name):
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def environment(self):
        pids = [str(self.processes[name].pid) for name in self.osds]
        return {**os.environ, "CHAPPE_CEPH": str(self.config), "CHAPPE_CEPH_OSDS": " ".join(pids)}

    def answers(self):
        """An object can be written: the OSD is back."""
        words = ["rados", "-c", str(self.config), "--rados-osd-op-timeout", "2", "-p", POOL, "put", "answers", "/dev/null"]
        return subprocess.run(words, capture_output=True, timeout=60).returncode == 0

    def is_whole(self):
        """Each OSD is there and has its copy of everything."""
        state = json.loads(self.ceph("status", "--format", "json"))
        groups = state["pgmap"].get("pgs_by_state", [])
        return state["osdmap"]["num_up_osds"] == len(self.osds) and [g["state_name"] for g in groups] == ["active+clean"]

    def pool_is_known(self):
        if any(process.poll() is not None for process in self.processes.values()):
            raise RuntimeError("a daemon of Ceph ended")
        pools = json.loads(self.ceph("df", "detail", "--format", "json"))["pools"]
        return any(pool["name"] == POOL and pool["stats"].get("max_avail") for pool in pools)

    def wait_until(self, condition, seconds, what):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError(f"not within {seconds} s: {what}")
            time.sleep(0.2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--osds", type=int, default=1)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if not args.command:
        parser.error("no command")
    enter_network()
    with Ceph(args.osds) as ceph:
        return subprocess.run(args.command, env=ceph.environment()).returncode


if __name__ == "__main__":
    sys.exit(main())
