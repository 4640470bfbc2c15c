"""A laboratory for real nodes: folders, processes, and hosts on virtual cables, all gone when it closes."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import places

SKIP = 77
NODE_IP, PEER_IP, PORT, HOSE_PORT = "10.77.0.2", "10.77.0.1", 4740, 4741


class Failed(Exception):
    pass


def expect(condition, text):
    if not condition:
        raise Failed(text)


def configure(folder, **settings):
    """Changes the configuration that init wrote."""
    text = (folder / "chappe.yaml").read_text()
    for name, value in settings.items():
        text, found = re.subn(rf"(?m)^  {name}: .*$", f"  {name}: {value}", text)
        expect(found == 1, f"{name} is in the configuration {found} times")
    (folder / "chappe.yaml").write_text(text)


def enter_namespace(needed=True):
    """Goes on in a network and a /run of its own, so that others may run beside, as root: real, or of a user namespace of our
    own. Where there is neither, skips if that is needed, and else stays where it is."""
    if os.environ.get("CHAPPE_IN_NAMESPACE"):
        return
    unshare = ["unshare", "-nm"] if os.geteuid() == 0 else ["unshare", "-Urnm"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        if needed:
            print("SKIP: neither root nor user namespaces")
            sys.exit(SKIP)
        return
    os.environ["CHAPPE_IN_NAMESPACE"] = "1"
    script = "mount -t tmpfs tmpfs /run && ip link set lo up && exec \"$@\""
    os.execvp("unshare", [*unshare, "sh", "-c", script, "sh", sys.executable, *sys.argv])


class Lab:
    def __init__(self, chappe, networked):
        self.chappe = str(pathlib.Path(chappe).resolve())
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="chappe-lab-"))
        self.processes = []
        self.namespaces = []
        self.networked = networked
        self.tag = f"ch{os.getpid() % 100000}"

    def __enter__(self):
        if self.networked:
            self.cable()
        return self

    def __exit__(self, kind, value, trace):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if kind is not None:
            for log in sorted(self.folder.rglob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}")
        for namespace in self.namespaces:
            subprocess.run(["ip", "netns", "del", namespace], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def cable(self):
        """Two hosts: the node's, whose interface the kernel has no address for, and the peer's."""
        self.node_host, self.peer_host = f"{self.tag}n", f"{self.tag}p"
        for namespace in (self.node_host, self.peer_host):
            self.shell("ip", "netns", "add", namespace)
            self.namespaces.append(namespace)
        self.shell("ip", "link", "add", "peer0", "netns", self.peer_host, "type", "veth", "peer", "name", "node0",
                   "netns", self.node_host)
        for namespace, interface in ((self.node_host, "node0"), (self.peer_host, "peer0")):
            self.shell("ip", "netns", "exec", namespace, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", check=False)
            self.shell("ip", "-n", namespace, "link", "set", interface, "up")
            self.shell("ip", "-n", namespace, "link", "set", "lo", "up")
        # The kernel leaves checksums and segmentation to a device that a virtual cable doesn't have.
        self.shell("ip", "netns", "exec", self.peer_host, "ethtool", "-K", "peer0", "tx", "off", "gso", "off", "tso",
                   "off", "gro", "off")
        self.shell("ip", "-n", self.peer_host, "addr", "add", f"{PEER_IP}/24", "dev", "peer0")

    def shell(self, *words, check=True):
        done = subprocess.run(words, capture_output=True, text=True)
        if check and done.returncode != 0:
            raise Failed(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def mac(self, namespace, interface):
        return json.loads(self.shell("ip", "-j", "-n", namespace, "link", "show", interface))[0]["address"]

    def packets_received(self, namespace, interface):
        shown = json.loads(self.shell("ip", "-j", "-s", "-n", namespace, "link", "show", interface))
        return shown[0]["stats64"]["rx"]["packets"]

    def in_host(self, host, words):
        return ["ip", "netns", "exec", host, *words] if self.networked else list(words)

    def among_people(self, words):
        """The words of a command that runs where the validators can be reached."""
        return self.in_host(self.peer_host, words) if self.networked else list(words)

    def init(self, name, *options):
        folder = self.folder / name
        network = ["--profile", "af_packet", "--interface", "node0", "--address", NODE_IP] if self.networked else []
        done = subprocess.run([self.chappe, "init", "--folder", str(folder), "--plain-keys", "--small", *network, *options],
                              capture_output=True, text=True)
        expect(done.returncode == 0, f"init: {done.stderr}")
        configure(folder, **places.settings())
        return folder

    def start(self, folder, wait=True):
        log = open(self.folder / f"{folder.name}.log", "ab")
        host = self.node_host if self.networked else None
        process = subprocess.Popen(self.in_host(host, [self.chappe, "run", "--folder", str(folder)]), stdout=log,
                                   stderr=log, stdin=subprocess.DEVNULL)
        self.processes.append(process)
        if wait:
            self.wait_until(lambda: self.status(folder).get("ready"), 60, "the node is ready", process)
        return process

    def status(self, folder):
        done = subprocess.run([self.chappe, "status", "--folder", str(folder), "--json"], capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def stop(self, folder, process):
        done = subprocess.run([self.chappe, "stop", "--folder", str(folder)], capture_output=True, text=True)
        expect(done.returncode == 0, f"stop: {done.stderr}")
        expect(process.wait(20) == 0, "the node ended with an error")

    def wait_until(self, condition, seconds, what, process=None):
        end = time.monotonic() + seconds
        while not condition():
            if process is not None and process.poll() is not None:
                raise Failed(f"the node ended with {process.returncode} before: {what}")
            if time.monotonic() > end:
                raise Failed(f"not within {seconds} s: {what}")
            time.sleep(0.05)


class Devnet(Lab):
    """`chappe devnet` in a folder of its own; when it closes, nothing of it may be left."""

    def __init__(self, chappe, validators, *options):
        super().__init__(chappe, networked=False)
        self.net, self.validators, self.options = self.folder / "net", validators, options
        self.port = 20000 + os.getpid() % 20000
        self.before = self.host_network()

    def __enter__(self):
        self.devnet("start", "--n", str(self.validators), "--port", str(self.port), *self.options)
        self.places = [places.Folder(self.folder_of(i)) for i in range(1, self.validators + 1)]
        if places.settings():
            self.move_into_pool()
        return self

    def __exit__(self, kind, value, trace):
        stopped = subprocess.run(self.devnet_words("stop"), capture_output=True, text=True)
        left = self.left_processes()
        after = self.host_network()
        super().__exit__(kind, value, trace)
        if kind is None:
            expect(stopped.returncode == 0, f"devnet stop: {stopped.stderr}")
            expect(not left, f"processes are left: {left}")
            more = [sorted(set(now) - set(was)) for now, was in zip(after, self.before)]
            expect(more == [[], []], f"of the machine's network is left: {more}")

    @staticmethod
    def host_network():
        names = pathlib.Path("/run/netns")
        return sorted(os.listdir("/sys/class/net")), sorted(os.listdir(names)) if names.exists() else []

    def left_processes(self):
        left = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if str(self.net) in (process / "cmdline").read_text() and int(process.name) != os.getpid():
                    left.append(process.name)
            except OSError:
                pass  # it ended meanwhile
        return left

    def devnet_words(self, command, *words):
        return [self.chappe, "devnet", command, "--folder", str(self.net), *words]

    def devnet(self, command, *words, refused=None):
        done = subprocess.run(self.devnet_words(command, *words), capture_output=True, text=True, timeout=150)
        told = f"devnet {command} {' '.join(words)}: {done.returncode} {done.stdout} {done.stderr}"
        if refused is None:
            expect(done.returncode == 0, told)
        else:
            expect(done.returncode != 0 and refused in done.stderr, f"\"{refused}\" expected of {told}")
        return done.stdout

    def among_people(self, words):
        return [*self.devnet_words("exec"), "--", *words]

    def move_into_pool(self):
        """Before anything was stored."""
        status = [self.status_of(i) for i in range(1, self.validators + 1)]
        self.devnet("stop")
        for i, folder in enumerate(self.places, 1):
            folder.erase()
            self.configure_stopped(i, **places.settings())
        self.places = [places.Namespace(self.folder_of(i), told) for i, told in enumerate(status, 1)]
        self.devnet("start")

    def objects_of(self, i):
        """Where the objects of a validator lie (places.py)."""
        return self.places[i - 1]

    def folder_of(self, i):
        return self.net / str(i)

    def free_port(self):
        """A TCP port that nobody listens on now."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            return s.getsockname()[1]

    def configure(self, i, **settings):
        """Sets lines of a validator's configuration and starts it again."""
        self.configure_stopped(i, **settings)
        self.devnet("restart", str(i))
        self.wait_until(lambda: self.status_of(i).get("ready"), 60, f"validator {i} is ready")

    def configure_stopped(self, i, **settings):
        configure(self.folder_of(i), **settings)

    def every(self):
        return json.loads(self.devnet("status", "--json"))["validators"]

    def status_of(self, i):
        return self.every()[i - 1]["status"] or {}

    def address_of(self, i):
        return self.every()[i - 1]["address"]

    def commits(self):
        return [(validator["status"] or {}).get("commit_index", -1) for validator in self.every()]

    def expect_progress(self, watched, seconds=30):
        """Each of the watched validators commits something that is new to all of them."""
        newest = max(self.commits()[i - 1] for i in watched)
        self.wait_until(lambda: min(self.commits()[i - 1] for i in watched) > newest, seconds,
                        f"progress at {watched} beyond {newest}")

    def expect_standstill(self, watched, seconds=3):
        """None of the watched validators commits anything, once what was on its way has arrived."""
        time.sleep(2)
        before = [self.commits()[i - 1] for i in watched]
        time.sleep(seconds)
        after = [self.commits()[i - 1] for i in watched]
        expect(before == after, f"commits at {watched} went from {before} to {after}")

    def expect_equal(self, seconds=30):
        """All have the same log, of which each tells the root."""
        def roots():
            return {(validator["status"] or {}).get("log_root") for validator in self.every()}
        self.wait_until(lambda: len(roots()) == 1 and None not in roots(), seconds, "all have the same log root")


    def expect_equal_states(self, state_digest):
        """All have applied the same, and it made the same state of each: they are stopped for it."""
        self.expect_equal(60)
        self.devnet("stop")
        digests = [self.shell(state_digest, str(self.folder_of(i) / "lmdb")).strip() for i in range(1, self.validators + 1)]
        expect(len(set(digests)) == 1, f"the states are {digests}")
        print(f"state of all: {digests[0]}")


def main(run):
    try:
        run()
    except Failed as failure:
        print(f"FAILED: {failure}")
        sys.exit(1)
    print("passed")
