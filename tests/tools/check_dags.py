#!/usr/bin/env python3
"""Random Byzantine DAGs: the committer against the oracle, when a build names the oracle's folder (-Doracle=...)."""
import os
import pathlib
import subprocess
import sys
import time

oracle = os.environ.get("CHAPPE_ORACLE")
if not oracle:
    print("no oracle given (meson option oracle): skipped")
    sys.exit(77)
count = 2000 if os.environ.get("CHAPPE_TEST_SIZE") == "full" else 200
seed = int(os.environ.get("CHAPPE_SEED") or time.time_ns() % 10**9)
print(f"{count} DAGs from seed {seed} (CHAPPE_SEED)", flush=True)
oracle = pathlib.Path(oracle)
if not (oracle / "dagtext.py").exists():
    oracle = oracle / "consensus"
sys.exit(subprocess.run([sys.executable, "-B", "dagtext.py", "check", str(count), str(seed),
                         str(pathlib.Path(sys.argv[1]).resolve())], cwd=oracle).returncode)
