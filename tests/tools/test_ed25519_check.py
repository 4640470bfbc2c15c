#!/usr/bin/env python3
"""Runs ed25519_check on lines with known verdicts, on malformed ones, and under each mask."""
import random
import subprocess
import sys

tool = sys.argv[1]
KEY = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"  # RFC 8032 7.1, TEST 1: empty message
SIGNATURE = (
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555"
    "fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
)
KEY_3 = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"  # TEST 3
SIGNATURE_3 = (
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac1"
    "8ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)
MINUS_ZERO = "01" + "00" * 30 + "80"  # decodes to the identity under ZIP-215, and not under RFC 8032
VALID = [f"{KEY} - {SIGNATURE}", f"{KEY_3} af82 {SIGNATURE_3}", f"{MINUS_ZERO} 00 {MINUS_ZERO}{'00' * 32}"]
INVALID = [f"{KEY} 00 {SIGNATURE}", f"{KEY_3} - {SIGNATURE_3}", f"{'ff' * 32} - {SIGNATURE}", f"{KEY} - {'ff' * 64}"]


def run(lines, *arguments):
    done = subprocess.run([tool, *arguments], input="".join(line + "\n" for line in lines), capture_output=True, text=True)
    return done.returncode, done.stdout.split(), done.stderr


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got}, not {wanted}")


lines = VALID * 6 + INVALID * 2
random.Random(1).shuffle(lines)
verdicts = ["valid" if line in VALID else "invalid" for line in lines]
status, kernels, _ = run([], "--list")
expect("--list", status, 0)
usable = [line for line in subprocess.run([tool, "--list"], capture_output=True, text=True).stdout.splitlines() if " " not in line]
assert usable, "no kernel can run here"
for mask in ["all", "avx512", "avx2", "portable", *usable]:
    status, printed, errors = run(lines, "--cpu-mask", mask)
    expect(f"mask {mask}: {errors}", (status, printed), (0, verdicts))
expect("no lines", run([])[:2], (0, []))
expect("an unknown mask", run([], "--cpu-mask", "abacus")[0], 2)
expect("an unknown option", run([], "--abacus")[0], 2)
for bad in ["", KEY, f"{KEY} -", f"{KEY}  - {SIGNATURE}", f"{KEY} - {SIGNATURE} ", f"{KEY} 0 {SIGNATURE}", f"{KEY} zz {SIGNATURE}",
            f"{KEY} - {SIGNATURE}00", f"{KEY[:-1]}g - {SIGNATURE}", f"{KEY[2:]} - {SIGNATURE}", f"{KEY} - {SIGNATURE[:-1]}-"]:
    status, printed, errors = run([VALID[0], INVALID[0], bad, VALID[0]])
    expect(f"malformed line {bad!r}", (status, printed), (3, ["valid", "invalid"]))
    if "line 3" not in errors:
        sys.exit(f"malformed line {bad!r}: the error does not name line 3: {errors}")
print(f"{len(lines)} lines, kernels: {', '.join(usable)}")
