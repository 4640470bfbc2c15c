#!/usr/bin/env python3
"""The consensus library takes nothing from outside but memory functions, our lower layers, and heap at opening."""
import re
import subprocess
import sys

ALLOWED = {"memcpy", "memmove", "memset", "memcmp", "__stack_chk_fail", "__memcpy_chk", "__memmove_chk", "__memset_chk",
           "_GLOBAL_OFFSET_TABLE_"}
HEAP = {"malloc", "calloc", "free"}
HEAP_OBJECTS = {"core.c.o", "commit_sync.c.o", "rejoin.c.o"}  # their _open and _close
LOWER = re.compile(r"ch_(assert_failed|hash|block|ref|commit|committee|payload|epoch)")

listing = subprocess.run(["nm", "-A", sys.argv[1]], capture_output=True, text=True, check=True).stdout
defined, wanted = set(), []
for line in listing.splitlines():
    place, _, rest = line.partition(" ")
    parts = line.split()
    kind, name = parts[-2], parts[-1]
    where = re.search(r"consensus_([a-z_]+\.c\.o)", line)
    if kind == "U":
        wanted.append((where.group(1) if where else "?", name))
    elif kind in "TVWRBDC":
        defined.add(name)

table = subprocess.run(["objdump", "-t", sys.argv[1]], capture_output=True, text=True, check=True).stdout
data = [line.split()[-1] for line in table.splitlines() if re.search(r" O \.(data|bss)\s| O \*COM\*", line)]

bad = [f"{where} uses {name}" for where, name in wanted
       if name not in defined and name not in ALLOWED and not LOWER.match(name)
       and not (name in HEAP and where in HEAP_OBJECTS)]
bad += [f"{name} is a global that can change" for name in data]
print("\n".join(bad) if bad else f"{len(wanted)} uses checked")
sys.exit(1 if bad or not wanted else 0)
