#!/usr/bin/env python3
"""The Trustless Gateway of a running validator: blocks, CARs in depth-first order, ranges, caching; hostile and slow
clients."""
import argparse
import http.client
import os
import pathlib
import re
import socket
import time

import lab
import ipld
from people import Person, new_registrar, register

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("--bytes", type=int, default=5_000_000)
args = parser.parse_args()

RAW, CAR = "application/vnd.ipld.raw", "application/vnd.ipld.car"
UNKNOWN = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"  # the empty file, which nobody put here


class Gateway:
    def __init__(self, port):
        self.port = port

    def ask(self, target, method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, target, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def raw(self, line):
        """Sends bytes as they are; the first line of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as s:
            s.sendall(line)
            return s.recv(200).split(b"\r\n")[0].decode("latin-1")


def check_blocks(gateway, root):
    """Every block under the root, fetched one by one, is what its CID says. Returns the file's bytes."""
    status, headers, body = gateway.ask(f"/ipfs/{root}?format=raw")
    lab.expect(status == 200 and ipld.matches(root, body), f"{root}: {status}")
    lab.expect(headers["Content-Type"] == RAW and "immutable" in headers["Cache-Control"] and
               headers["Etag"] == f'"{root}.raw"' and headers["X-Ipfs-Path"] == f"/ipfs/{root}" and
               headers["X-Content-Type-Options"] == "nosniff" and
               headers["Content-Disposition"] == f'attachment; filename="{root}.bin"', f"headers: {headers}")
    same = gateway.ask(f"/ipfs/{root}", Accept=RAW)
    lab.expect(same[0] == 200 and same[2] == body, "Accept gives something else than format=raw")
    if ipld.is_raw(root):
        return body
    return b"".join(check_blocks(gateway, link) for link in ipld.links(body))


def check_car(gateway, root, content):
    status, headers, body = gateway.ask(f"/ipfs/{root}", Accept=f"{CAR}; version=1; order=dfs; dups=n")
    lab.expect(status == 200 and headers["Content-Type"] == f"{CAR}; version=1; order=dfs; dups=n", f"{status} {headers}")
    roots, blocks = ipld.read_car(body)
    lab.expect(roots == [root], f"roots {roots}")
    for cid, block in blocks:
        lab.expect(ipld.matches(cid, block), f"{cid} in the CAR is something else")
    order, known = [], dict(blocks)

    def walk(cid):
        if cid not in order:
            order.append(cid)
        if not ipld.is_raw(cid):
            for link in ipld.links(known[cid]):
                walk(link)
    walk(root)
    lab.expect([cid for cid, _ in blocks] == order, "not depth first, or with doubles")
    lab.expect(b"".join(known[cid] for cid in order if ipld.is_raw(cid)) == content, "the leaves are not the file")
    etag = headers["Etag"]
    lab.expect(gateway.ask(f"/ipfs/{root}?format=car", If_None_Match=etag)[0] == 304, "no 304 for the CAR")
    alone = ipld.read_car(gateway.ask(f"/ipfs/{root}?format=car&dag-scope=block")[2])[1]
    lab.expect([cid for cid, _ in alone] == [root], "dag-scope=block gives more than the root")
    head = gateway.ask(f"/ipfs/{root}?format=car", "HEAD")
    lab.expect(head[0] == 200 and head[2] == b"" and head[1]["Etag"] == etag, f"HEAD: {head}")


def check_twins(net, gateway, person):
    """A leaf may have the very bytes of a node: two blocks, though their hash is one."""
    raw, pb = 0x55, 0x70
    leaves = [(ipld.cid_of(raw, leaf), leaf) for leaf in (b"one leaf", b"another leaf")]
    below = ipld.node([(cid, len(leaf), len(leaf)) for cid, leaf in leaves])
    twins = [(ipld.cid_of(raw, below), below), (ipld.cid_of(pb, below), below)]
    top = ipld.node([(twins[0][0], len(below), len(below)), (twins[1][0], 20, len(below) + 20)])
    blocks = [(ipld.cid_of(pb, top), top), *twins, *leaves]
    car = net.folder / "twins.car"
    car.write_bytes(ipld.write_car(blocks[0][0], blocks))
    root = person.run("object", "import", "--car", str(car)).strip()
    status, _, body = gateway.ask(f"/ipfs/{root}?format=car&car-dups=n")
    lab.expect(status == 200 and body == car.read_bytes(), f"twins: {status}, {ipld.read_car(body)[1]}")


def check_ranges(gateway, cid, block):
    def part(text):
        status, headers, body = gateway.ask(f"/ipfs/{cid}?format=raw", Range=text)
        return status, headers["Content-Range"], body
    n = len(block)
    lab.expect(part("bytes=0-9") == (206, f"bytes 0-9/{n}", block[:10]), "the first ten bytes")
    lab.expect(part("bytes=-5") == (206, f"bytes {n - 5}-{n - 1}/{n}", block[-5:]), "the last five bytes")
    lab.expect(part(f"bytes={n - 1}-") == (206, f"bytes {n - 1}-{n - 1}/{n}", block[-1:]), "from the last byte on")
    lab.expect(part(f"bytes=7-{10 * n}") == (206, f"bytes 7-{n - 1}/{n}", block[7:]), "beyond the end")
    lab.expect(part(f"bytes={n}-")[:2] == (416, f"bytes */{n}"), "behind the end")
    lab.expect(part("bytes=-0")[0] == 416, "no bytes at all")
    for ignored in ("bytes=5-3", "bytes=0-1,4-5", "lines=0-1", "bytes=", "bytes=x-", "bytes=-", "bytes=99999999999999999999-"):
        lab.expect(part(ignored)[::2] == (200, block), f"{ignored} is not ignored")
    status, headers, body = gateway.ask(f"/ipfs/{cid}?format=raw", "HEAD")
    lab.expect((status, headers["Content-Length"], body) == (200, str(n), b""), f"HEAD: {status} {headers}")
    lab.expect(gateway.ask(f"/ipfs/{cid}?format=raw", If_None_Match=f'"x", "{cid}.raw"')[0] == 304, "no 304")
    for method in ("GET", "HEAD"):
        status, headers, body = gateway.ask(f"/ipfs/{cid}?format=raw", method, If_None_Match="*", Range="bytes=0-9")
        lab.expect((status, headers["Etag"], body) == (304, f'"{cid}.raw"', b""), f"{method}, If-None-Match: *: {status}")
    lab.expect(gateway.ask(f"/ipfs/{UNKNOWN}?format=raw", If_None_Match="*")[0] == 404, "any of what is not here")
    lab.expect(gateway.ask("/ipfs/bafkqaaa?format=raw", If_None_Match='W/"bafkqaaa.raw"')[0] == 304, "no 304 for the empty block")
    other = gateway.ask(f"/ipfs/{cid}?format=raw", Range="bytes=0-9", If_Range='"other"')
    lab.expect(other[0] == 200 and other[2] == block, "If-Range of something else gives a part")


def check_refusals(gateway, root):
    cid = f"/ipfs/{root}"
    for target, accept, expected in (
            ("/", None, 404), ("/ipfs/", None, 400), ("/ipfs", None, 404), ("/ipns/example.org", None, 404),
            ("/metrics", None, 404), (f"/ipfs/{UNKNOWN}?format=raw", None, 404), (f"/ipfs/{UNKNOWN}?format=car", None, 404),
            (cid, None, 400), (cid, "text/html", 406), (cid, "*/*", 406), (f"{cid}?format=tar", None, 406),
            (f"{cid}?format=", RAW, 406), (cid, f"{RAW};q=0", 406), (cid, f"{CAR};version=2", 406),
            (f"{cid}?format=car&car-order=bfs", None, 406), (f"{cid}?format=car&car-dups=maybe", None, 406),
            (f"{cid}?format=car&dag-scope=some", None, 400), (f"{cid}/x?format=raw", None, 404),
            (f"{cid}/../../etc/passwd?format=raw", None, 404), ("/ipfs/..%2f..%2fetc%2fpasswd?format=raw", None, 400),
            (f"{cid.upper()}?format=raw", None, 404), (f"/ipfs/{root.upper()}?format=raw", None, 400),
            ("/ipfs/QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n?format=raw", None, 400),
            (f"/ipfs/{root[:-1]}?format=raw", None, 400), (f"/ipfs/{root}a?format=raw", None, 400),
            ("/ipfs/" + "b" * 20000 + "?format=raw", None, 400), (f"{cid}%00x?format=raw", None, 200),
            (cid, f"text/html, {CAR};q=0.5, {RAW};q=0.9", 200), (f"{cid}/?format=raw", None, 200),
            ("/ipfs/bafkqaaa?format=raw", None, 200), ("/ipfs/bafkqaaa?format=car", None, 406)):
        status, headers, body = gateway.ask(target, **({"Accept": accept} if accept else {}))
        lab.expect(status == expected, f"{target[:99]} with {accept}: {status}, {expected} expected")
        lab.expect(status == 200 or (headers["Cache-Control"] == "no-store" and len(body) > 9), f"no reason: {target[:99]}")
    lab.expect(gateway.ask(cid, "POST")[0] == 405, "POST")
    lab.expect(gateway.ask(cid, "DELETE")[1]["Allow"] == "GET, HEAD", "DELETE")
    for line in (b"\0\1\2\3\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 200000, b"GET /ipfs/%ff%fe?format=%zz HTTP/1.0\r\n\r\n"):
        try:
            answer = gateway.raw(line)
        except OSError:
            answer = ""
        lab.expect(answer == "" or " 4" in answer or " 5" in answer, f"{line[:20]}: {answer}")


def check_crowd(net, gateway, root):
    """Connections that say nothing and connections that don't read keep nobody else out, and are ended."""
    idle = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(5)]
    slow = []
    for _ in range(5):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", gateway.port))
        s.sendall(f"GET /ipfs/{root}?format=car HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        slow.append(s)
    lab.expect(gateway.ask(f"/ipfs/{root}?format=raw")[0] == 200, "kept out by silent connections")
    began = time.monotonic()
    for s in idle:
        s.settimeout(60)
        lab.expect(s.recv(1) == b"", "a silent connection got something")
        s.close()
    lab.expect(time.monotonic() - began < 60, "a silent connection stays")
    net.wait_until(lambda: net.status_of(1)["counters"]["ipfs_connections"] == 0, 60, "slow readers are ended")
    for s in slow:
        got = 0
        try:
            while piece := s.recv(65536):
                got += len(piece)
        except OSError:
            pass
        lab.expect(got < args.bytes, "who read nothing for so long got it all")
        s.close()


def check_drip(gateway):
    """A request that comes letter by letter is not waited for."""
    with socket.create_connection(("127.0.0.1", gateway.port)) as s:
        s.sendall(b"GET /ipfs/ HTTP/1.1\r\nX: ")
        s.settimeout(0.2)
        for _ in range(200):
            try:
                s.sendall(b"x")
                if s.recv(1) == b"":
                    return
            except TimeoutError:
                pass
            except OSError:
                return
    raise lab.Failed("a request was waited for letter by letter")


def memory_kib(pid):
    return int(re.search(r"VmHWM:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))


def run():
    with lab.Devnet(args.chappe, 1) as net:
        port = net.free_port()
        net.configure(1, ipfs_port=port, idle_seconds=2)
        gateway = Gateway(port)
        alice = Person(net, "alice", net.folder_of(1) / "chain.genesis", net.address_of(1))
        registrar = new_registrar(net, net.folder_of(1), net.address_of(1))
        register(net, alice, registrar, "alice")
        secret, name = os.urandom(args.bytes), net.folder / "picture"
        name.write_bytes(secret)
        alice.run("send", "alice", "--attach", str(name))
        root = alice.inbox()[-1]["object"]["cid"]

        content = check_blocks(gateway, root)
        lab.expect(len(content) >= args.bytes and secret[:64] not in content, "the object is not the ciphertext")
        check_car(gateway, root, content)
        leaf = ipld.links(gateway.ask(f"/ipfs/{root}?format=raw")[2])[-1]
        check_ranges(gateway, leaf, gateway.ask(f"/ipfs/{leaf}?format=raw")[2])
        check_refusals(gateway, root)
        check_twins(net, gateway, alice)
        # What it does not give is whole: with a leaf's block alone, a CAR of that leaf.
        lab.expect(ipld.read_car(gateway.ask(f"/ipfs/{leaf}?format=car")[2])[1][0][0] == leaf, "a leaf's CAR")
        pid = net.status_of(1)["pid"]
        before = memory_kib(pid)
        for _ in range(3):
            gateway.ask(f"/ipfs/{root}?format=car")
        grown = memory_kib(pid) - before
        lab.expect(grown < 16 << 10, f"{grown} KiB more for three CARs")
        check_crowd(net, gateway, root)
        check_drip(gateway)
        counters = net.status_of(1)["counters"]
        lab.expect(counters["ipfs_answers_broken_off_total"] >= 5 and counters["ipfs_connections"] == 0, f"{counters}")


lab.main(run)
