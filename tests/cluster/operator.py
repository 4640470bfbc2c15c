#!/usr/bin/env python3
"""What an operator is told when something is wrong: each case has its exit code and names what it is about."""
import argparse
import re
import shutil
import subprocess
import urllib.request

import lab

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
args = parser.parse_args()
DONE, REFUSED, USAGE, UNREACHABLE, KEY, FAILED = 0, 1, 2, 3, 4, 6


def attempt(net, *words):
    return subprocess.run([net.chappe, *map(str, words)], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)


def case(net, code, named, *words):
    done = attempt(net, *words)
    lab.expect(done.returncode == code, f"{code} expected of {words}: {done.returncode} {done.stdout}{done.stderr}")
    lab.expect(named in done.stderr, f"\"{named}\" expected of {words}: {done.stderr}")


def init(net):
    new = net.folder / "new"
    plain = ["init", "--folder", new, "--plain-keys"]
    case(net, USAGE, "--folder DIR", "init")
    case(net, USAGE, "unrecognized option", "init", "--folder", new, "--bogus")
    for option, value in [("--registrar", "a"), ("--registrar", "+1" * 32), ("--registrar", " 1" * 32), ("--port", "x"),
                          ("--port", "-1"), ("--port", "99999999999999999999"), ("--window-back", "18446744073709552"),
                          ("--window-ids", "18446744073709551616"), ("--name", "")]:
        case(net, USAGE, "not what its option takes", *plain, option, value)
    case(net, USAGE, "network.port is 70000", *plain, "--port", "70000")
    case(net, USAGE, "no genesis can be made", *plain, "--window-back", "999999999999")
    case(net, USAGE, "is weak", *plain, "--registrar", "00" * 32)
    case(net, FAILED, "can't make the folder", "init", "--folder", net.folder / "no" / "where", "--plain-keys")
    case(net, REFUSED, "chain.genesis: exists already", "init", "--folder", net.node, "--plain-keys")
    case(net, KEY, "no passphrase", "init", "--folder", new)


def keys(net):
    """A key file that isn't one, isn't there, isn't ours alone or another's: always the code for keys."""
    def changed(change, named):
        folder = net.folder / "changed"
        shutil.copytree(net.node, folder)
        change(folder / "validator.key")
        case(net, KEY, named, "run", "--folder", folder)
        shutil.rmtree(folder)
    changed(lambda key: key.chmod(0o640), "validator.key: the key file can be read by others")
    changed(lambda key: key.chmod(0o604), "validator.key: the key file can be read by others")
    changed(lambda key: key.unlink(), "validator.key: not found")
    changed(lambda key: key.write_text("junk"), "validator.key: no key file, or one for another purpose")
    changed(lambda key: shutil.copy(key.parent / "registrar.key", key), "validator.key: no key file, or one for another purpose")
    changed(lambda key: key.write_bytes(key.read_bytes()[:-1]), "validator.key: ")
    changed(lambda key: (key.unlink(), key.symlink_to(net.node / "validator.key")), "validator.key: permission denied")
    changed(lambda key: (key.parent / "master.key").chmod(0o644), "master.key: the key file can be read by others")


def settings(net):
    folder, file = net.node, net.node / "chappe.yaml"
    good = file.read_text()
    for old, new, told in [("  port: ", "  prt: ", 'unknown key "prt"; did you mean "port"?'),
                           ("\nstages:", "\nstage:", 'unknown key "stage"; did you mean "stages"?'),
                           ("  open: true", "  open: flase", "flase"),
                           ("  busy: false", "  busy: 0", "0"),
                           ('profile: "socket"', 'profile: "sockt"', 'network.profile: "sockt" is no profile')]:
        lab.expect(good.count(old) == 1, f"{old} is not in the file once")
        file.write_text(good.replace(old, new))
        line = good[:good.index(old)].count("\n") + 1 + old.startswith("\n")
        case(net, USAGE, told, "run", "--folder", folder)
        if "profile" not in old:
            case(net, USAGE, f"chappe.yaml:{line}: ", "run", "--folder", folder)
    file.write_text(good)
    genesis = (folder / "chain.genesis").read_bytes()
    (folder / "chain.genesis").write_bytes(genesis[:-1])
    case(net, USAGE, "chain.genesis is no genesis of a chain", "run", "--folder", folder)
    (folder / "chain.genesis").write_bytes(genesis)


def counters_are_told(net):
    """What the port, the QUIC engine and the consensus machine count is in the status and in the metrics, all of it."""
    attempt(net, "account", "new", "--plain", "--home", net.folder / "a", "--genesis", net.node / "chain.genesis")
    case(net, REFUSED, "nobody", "whois", "--home", net.folder / "a", "--node", "127.0.0.1:4747")
    net.wait_until(lambda: net.status(net.node)["consensus"]["commits_direct"], 10, "a commit is counted")
    status = net.status(net.node)
    with urllib.request.urlopen("http://127.0.0.1:4748/metrics") as answer:
        metrics = dict(re.findall(r"(?m)^(chappe_\w+) (\d+)$", answer.read().decode()))
    for whose, alive in [("port", "rx_datagrams"), ("quic", "connected"), ("consensus", "commits_direct")]:
        lab.expect(status[whose][alive] > 0, f"{whose}: no {alive}")
        for name, value in status[whose].items():
            lab.expect(int(metrics.get(f"chappe_{whose}_{name}_total", -1)) >= value, f"{name} of {whose} is not in the metrics")


def life(net):
    nowhere = net.folder / "nowhere"
    for command in ["status", "stop"]:
        case(net, UNREACHABLE, "no validator runs in that folder", command, "--folder", nowhere)
        case(net, USAGE, "usage: ", command)
    case(net, FAILED, "chappe.yaml: No such file", "run", "--folder", nowhere)
    case(net, USAGE, "usage: ", "run")
    case(net, USAGE, "folder's name is too long", "run", "--folder", "x" * 300)
    case(net, USAGE, '"bogus" is no command', "bogus")
    configure = net.node / "chappe.yaml"
    configure.write_text(configure.read_text().replace("  http_port: 0", "  http_port: 4748"))
    process = net.start(net.node)
    counters_are_told(net)
    case(net, FAILED, "in use by another process", "run", "--folder", net.node)
    for words in [["status", "--folder", net.node], ["status", "--folder", net.node, "--json"], ["--help"], ["help"],
                  ["run", "--help"], ["account", "--help"], ["account", "new", "--help"], ["devnet", "--help"]]:
        done = attempt(net, *words)
        lab.expect(done.returncode == DONE and done.stdout and not done.stderr, f"{words}: {done}")
    net.stop(net.node, process)


def run():
    with lab.Lab(args.chappe, networked=False) as net:
        net.node = net.init("node", "--port", "4747")
        for part in [init, keys, settings, life]:
            part(net)


lab.enter_namespace(needed=False)
lab.main(run)
