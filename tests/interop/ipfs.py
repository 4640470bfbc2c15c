#!/usr/bin/env python3
"""Other people's IPFS clients against ours: the same CIDs as ipfs-unixfs-importer's, and a message's object fetched from a
running devnet by Helia, which refuses it when a bit was flipped on the way."""
import argparse
import http.client
import http.server
import pathlib
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "cluster"))
import ipld
import lab
import npm
from people import Person, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("build")
parser.add_argument("--large", action="store_true")
args = parser.parse_args()
MIB = 1 << 20
SIZES = [0, 1, MIB - 1, MIB, MIB + 1, 5_000_000] + ([200_000_000, 1_000_000_000] if args.large else [])


def write_content(path, length):
    """Byte i is (i * 31 + (i >> 13)) & 255, as in cids.mjs."""
    first = bytes(j * 31 & 255 for j in range(8192))
    with open(path, "wb") as f:
        for block in range(-(-length // 8192)):
            more = bytes((value + block) & 255 for value in range(256))
            f.write(first.translate(more)[:length - block * 8192])


def check_cids(folder, net):
    theirs = npm.node(folder, "cids.mjs", *SIZES, timeout=1500)
    lab.expect(theirs.returncode == 0, theirs.stderr)
    for line in theirs.stdout.splitlines():
        length, cid = line.split()
        path = net.folder / "content"
        write_content(path, int(length))
        ours = subprocess.run([net.chappe, "object", "cid", str(path)], capture_output=True, text=True).stdout.strip()
        lab.expect(ours == cid, f"{length} bytes: {ours}, {cid} expected")
    print(f"the CIDs of {len(SIZES)} sizes are theirs")


class Flipper(http.server.BaseHTTPRequestHandler):
    """Passes a gateway's answers on; of one block with one bit changed."""
    gateway = victim = None
    seen = []

    def do_GET(self):
        ours = http.client.HTTPConnection("127.0.0.1", self.gateway)
        ours.request("GET", self.path, headers={"Accept": self.headers.get("Accept", "")})
        answer = ours.getresponse()
        body = bytearray(answer.read())
        self.seen.append(self.path)
        if self.victim and self.victim in self.path:
            body[len(body) // 2] ^= 1
        self.send_response(answer.status)
        for name in ("Content-Type", "Cache-Control", "Etag"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


def check_helia(folder, net, port, root, expected):
    out = net.folder / "helia"
    done = npm.node(folder, "helia.mjs", f"http://127.0.0.1:{port}", root, out)
    lab.expect(done.returncode == 0 and out.read_bytes() == expected, f"Helia: {done.stdout} {done.stderr}")
    out.unlink()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flipper)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Flipper.gateway = port
    through = f"http://127.0.0.1:{server.server_port}"
    done = npm.node(folder, "helia.mjs", through, root, out)
    lab.expect(done.returncode == 0 and out.read_bytes() == expected, f"through the proxy: {done.stdout} {done.stderr}")
    out.unlink()
    status, Flipper.victim = ask(port, f"/ipfs/{root}?format=raw")
    lab.expect(status == 200, "the root")
    Flipper.victim = ipld.links(Flipper.victim)[2]
    Flipper.seen.clear()
    done = npm.node(folder, "helia.mjs", through, root, out, 5000)
    lab.expect(any(Flipper.victim in path for path in Flipper.seen), f"the changed block was not asked for: {done.stdout}")
    lab.expect(done.returncode == 1 and "refused" in done.stdout and not out.exists(), f"a flipped bit: {done}")
    server.shutdown()
    print(f"Helia fetched {len(expected)} bytes, and with a flipped bit: {done.stdout.strip()}")


def ask(port, target):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", target)
    answer = connection.getresponse()
    return answer.status, answer.read()


def run():
    folder = npm.install(args.build)
    with lab.Devnet(args.chappe, 1) as net:
        check_cids(folder, net)
        port = net.free_port()
        net.configure(1, ipfs_port=port)
        alice = Person(net, "alice", net.folder_of(1) / "chain.genesis", net.address_of(1))
        registrar = new_registrar(net, net.folder_of(1), net.address_of(1))
        register(net, alice, registrar, "alice")
        write_content(net.folder / "picture", 5_000_000)
        alice.run("send", "alice", "--attach", str(net.folder / "picture"))
        root = alice.inbox()[-1]["object"]["cid"]
        alice.run("object", "export", root, "--out", str(net.folder / "object"))
        check_helia(folder, net, port, root, (net.folder / "object").read_bytes())
        car = net.folder / "object.car"
        car.write_bytes(ask(port, f"/ipfs/{root}?format=car")[1])
        done = npm.node(folder, "car.mjs", car, root)
        lab.expect(done.returncode == 0 and done.stdout.strip() == str(len(ipld.read_car(car.read_bytes())[1])), f"@ipld/car: {done}")
        alice.run("object", "export", root, "--car", "--out", str(net.folder / "mine.car"))
        lab.expect((net.folder / "mine.car").read_bytes() == car.read_bytes(), "the two CARs of the object differ")


lab.main(run)
