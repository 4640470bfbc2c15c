#!/usr/bin/env python3
"""A validator that was away for many transactions catches up from servers that were restarted meanwhile, while the others go on.

Prints its rate against the rate at which the others had made what it missed."""
import argparse
import json
import subprocess
import time

import lab

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("submit_load")
parser.add_argument("state_digest")
parser.add_argument("--messages", type=int, default=6000)
parser.add_argument("--rate", type=int, default=200, help="transactions a second while it catches up")
parser.add_argument("--settle", type=float, default=0, help="seconds before the servers restart: longer ago is not replayed")
parser.add_argument("--made-at", type=int, help="transactions a second that it misses; as fast as they are taken if left out")
args = parser.parse_args()
N, AWAY = 4, 4


def load(net, validator, handle, messages, *options):
    words = [args.submit_load, "--node", net.address_of(validator), "--genesis", str(net.folder_of(1) / "chain.genesis"),
             "--registrar", str(net.folder_of(1) / "registrar.key"), "--handle", handle, "--messages", str(messages), *options]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process, twice=False):
    out, err = process.communicate(timeout=1200)
    lab.expect(process.returncode == 0, f"submit_load: {err}")
    answer = json.loads(out)
    lab.expect(answer["final"].get("OK", 0) == answer["sent"] // (1 + twice), f"not all were applied: {out}")
    lab.expect(answer["final"].get("DUPLICATE", 0) == answer["sent"] // 2 * twice, f"what came twice: {out}")
    return answer


def counter(net, i, name):
    return net.status(net.folder_of(i)).get("counters", {}).get(name, 0)


def verified_once(net, count=100):
    """Who had transactions of a client does not verify them again in another validator's block; who had not does."""
    before = [counter(net, i, "apply_signatures_known_total") for i in range(1, N + 1)]
    end(load(net, 1, "twice", count, "--again", net.address_of(2)), twice=True)

    def known():
        return [counter(net, i, "apply_signatures_known_total") - before[i - 1] for i in range(1, N + 1)]
    net.wait_until(lambda: known()[0] == count, 20, "validator 1 meets in a block of 2 what it had verified")
    lab.expect(known()[2:] == [0, 0], f"known: {known()}")


def run():
    with lab.Devnet(args.chappe, N) as net:
        verified_once(net)
        net.devnet("stop", str(AWAY))
        before = net.status_of(1)["commit_index"]
        pace = ("--per-frame", "8", "--rate", str(args.made_at)) if args.made_at else ("--per-frame", "64")
        answer = end(load(net, 1, "missed", args.messages, "--in-flight", "64", *pace))
        live = answer["sent"] / answer["seconds"]
        time.sleep(args.settle)
        for i in range(1, N):  # what they knew by heart is gone
            net.devnet("restart", str(i))
            net.expect_progress([i], 60)
        goal = net.status_of(1)
        going_on = load(net, 1, "goeson", max(args.messages // 10, 400), "--per-frame", "8", "--rate", str(args.rate))
        began = time.monotonic()
        net.devnet("restart", str(AWAY))
        net.wait_until(lambda: net.status(net.folder_of(AWAY)).get("commit_index", 0) >= goal["commit_index"], 900,
                       "it has what it missed")
        seconds = time.monotonic() - began
        end(going_on)
        net.wait_until(lambda: counter(net, AWAY, "apply_transactions_applied_total") >= args.messages, 30, "all is applied")
        rate = args.messages / seconds
        print(f"{args.messages} transactions in {goal['commit_index'] - before} commits: made at {live:.0f}/s, caught up in "
              f"{seconds:.1f} s, {rate:.0f}/s: {rate / live:.1f} times, while {args.rate}/s went on")
        lab.expect(all(net.status_of(i)["halt"] == "none" for i in range(1, N + 1)), "a validator halted")
        net.expect_equal_states(args.state_digest)


lab.main(run)
