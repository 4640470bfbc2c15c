#!/usr/bin/env python3
"""One peer that sends bad signatures at full rate beside three honest ones: it slows and harms only itself."""
import argparse
import json
import os
import re
import subprocess

import lab

parser = argparse.ArgumentParser()
parser.add_argument("chappe")
parser.add_argument("submit_load")
parser.add_argument("--messages", type=int, default=4000, help="of each honest peer")
args = parser.parse_args()
HONEST, LONE, PER_FRAME, BAD_MESSAGES, BAD_EVERY, BAD_MAX, BAD_SIGNATURES, HASTY = 3, 20, 16, 24000, 2, 10000, 9, 2000


class Load:
    def __init__(self, the_lab, folder, port, handle, **options):
        words = [args.submit_load, "--node", f"127.0.0.1:{port}", "--genesis", str(folder / "chain.genesis"), "--registrar",
                 str(folder / "registrar.key"), "--handle", handle]
        for name, value in options.items():
            words += ["--" + name.replace("_", "-"), str(value)]
        self.handle = handle
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        the_lab.processes.append(self.process)

    def result(self):
        told, complaint = self.process.communicate(timeout=240)
        lab.expect(self.process.returncode == 0, f"{self.handle}: {complaint}")
        print(f"{self.handle}: {told.strip()}")
        return json.loads(told)


def counters(the_lab, folder):
    status = the_lab.status(folder)
    return {**status["counters"], **{"early " + name: count for name, count in status["early"].items()}}


def an_account_has_its_rate(the_lab, folder, port):
    """What is too fast is refused, each transaction by name; what was taken is applied, and another account goes on."""
    config = folder / "chappe.yaml"
    config.write_text(re.sub(r"(?m)^  tx_rate_per_account: .*$", "  tx_rate_per_account: 10", config.read_text()))
    process = the_lab.start(folder)
    told = Load(the_lab, folder, port, "hasty", messages=HASTY, per_frame=PER_FRAME, in_flight=4).result()
    lab.expect(set(told["early"]) == {"OK", "RATE_LIMITED"} and sum(told["early"].values()) == HASTY,
               "an account above its rate is not slowed, or for another reason")
    lab.expect(told["final"] == {"OK": told["early"]["OK"]}, "what was taken is not final")
    told = Load(the_lab, folder, port, "patient", messages=1, per_frame=1).result()
    lab.expect(told["final"] == {"OK": 1}, "one account slows another")
    the_lab.stop(folder, process)


def run():
    with lab.Lab(args.chappe, networked=False) as the_lab:
        port = 20000 + os.getpid() % 20000
        folder = the_lab.init("node", "--port", str(port))
        process = the_lab.start(folder)

        def grown(before):
            now = counters(the_lab, folder)
            return lambda name: now.get(name, 0) - before.get(name, 0)

        # Transactions that come one by one are verified one by one: a registration with its approval, then the messages.
        before = counters(the_lab, folder)
        lone = Load(the_lab, folder, port, "lone", messages=LONE, per_frame=1, in_flight=1).result()
        more = grown(before)
        lab.expect(lone["final"] == {"OK": LONE}, "the lone transactions are not all final")
        lab.expect(more("verify_batches_total") == LONE + 1, "a lone transaction was not a batch of its own")
        lab.expect(more("verify_signatures_checked_total") == LONE + 2, "other signatures were checked")

        # Receipts to show to others: each one's path leads to the root that the validator signed.
        told = Load(the_lab, folder, port, "proven", messages=args.messages, per_frame=256, in_flight=16, signed=1).result()
        lab.expect(told["final"] == {"OK": args.messages} and told["proofs"] > 0, "receipts without their proof")

        # A queue of them is verified in batches larger than the frames it came in.
        before = counters(the_lab, folder)
        honest = [Load(the_lab, folder, port, f"calm{i}", messages=args.messages, per_frame=PER_FRAME, in_flight=64)
                  for i in range(HONEST)]
        for load in honest:
            told = load.result()
            lab.expect(set(told["early"]) == {"OK"} and told["final"] == {"OK": args.messages},
                       "an honest peer's transactions were refused")
        more = grown(before)
        frames = HONEST * (-(-args.messages // PER_FRAME) + 1)
        print(f"{more('verify_signatures_checked_total')} signatures of {frames} frames in {more('verify_batches_total')} batches")
        lab.expect(more("verify_signatures_checked_total") == HONEST * (args.messages + 2), "signatures were lost or doubled")
        lab.expect(more("verify_batches_total") < frames, "batches don't grow with the queue")
        lab.expect(more("verify_suspect_signatures_total") == 0, "an honest peer is suspected")

        before = counters(the_lab, folder)
        bad = Load(the_lab, folder, port, "poison", messages=BAD_MESSAGES, per_frame=PER_FRAME, in_flight=64, bad_every=BAD_EVERY)
        honest = [Load(the_lab, folder, port, f"honest{i}", messages=args.messages, per_frame=PER_FRAME, in_flight=16)
                  for i in range(HONEST)]
        for load in honest:
            told = load.result()
            lab.expect(set(told["early"]) == {"OK"} and told["final"] == {"OK": args.messages},
                       f"{load.handle} suffers from the poison")
            lab.expect("closed_with" not in told, f"{load.handle} was closed")
        told = bad.result()
        lab.expect(told.get("closed_with") == BAD_SIGNATURES, "who sends bad signatures without end is not closed")
        the_lab.wait_until(lambda: grown(before)("order_transactions_pooled_total") ==
                           grown(before)("apply_transactions_applied_total"), 60, "all is applied", process)
        more = grown(before)
        lab.expect(more("early BAD_SIGNATURE") == more("verify_signatures_bad_total"), "a verdict was not answered")
        lab.expect(BAD_MAX < more("verify_signatures_bad_total") <= BAD_MESSAGES // BAD_EVERY, "bad signatures are miscounted")
        lab.expect(set(told["early"]) == {"OK", "BAD_SIGNATURE"}, "the poisoner was refused for other reasons")
        lab.expect(told["early"]["BAD_SIGNATURE"] <= more("verify_signatures_bad_total"), "verdicts from nowhere")
        lab.expect(set(told["final"]) == {"OK"}, "the ledger refused what was good")
        suspect = more("verify_suspect_signatures_total")
        lab.expect(BAD_MAX < suspect <= BAD_MESSAGES, "suspects are not verified apart")
        of_honest = HONEST * (args.messages + 1)
        lab.expect(of_honest + told["final"]["OK"] <= more("apply_transactions_applied_total") <= of_honest + 1 + BAD_MESSAGES // BAD_EVERY,
                   "what was applied is not what was sent")
        print(f"{suspect} signatures verified apart; closed after {more('verify_signatures_bad_total')} bad ones")
        the_lab.stop(folder, process)
        an_account_has_its_rate(the_lab, folder, port)


lab.enter_namespace(needed=False)
lab.main(run)
