"""docs/protocol-vectors.txt is what the code prints: check_vectors.py PROGRAM FILE."""
import difflib
import subprocess
import sys

printed = subprocess.run([sys.argv[1]], check=True, capture_output=True, text=True, timeout=60).stdout
with open(sys.argv[2], encoding="ascii") as file:
    written = file.read()
if printed != written:
    sys.stdout.writelines(difflib.unified_diff(written.splitlines(True), printed.splitlines(True), sys.argv[2], "printed"))
    sys.exit(1)
