#!/usr/bin/env python3
"""Holds every #include to the table of layers in the root meson.build."""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
text = (root / "meson.build").read_text()
table = re.search(r"layer_uses = \{(.*?)\n\}", text, re.S).group(1)
uses = {name: re.findall(r"'([^']+)'", used) for name, used in re.findall(r"'([^']+)': \[(.*?)\]", table)}
programs = {"tests", "bench"}


def layer_of(path):
    for name in sorted(uses, key=len, reverse=True):
        if path.startswith(name + "/"):
            return name
    return path.split("/")[0]


bad = checked = 0
for path in sorted(root.rglob("*.[ch]")):
    here = path.relative_to(root).as_posix()
    layer = layer_of(here)
    if here.startswith(("build", ".")) or layer in programs:
        continue
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not match:
            continue
        checked += 1
        target = match.group(1)
        if "/" not in target:
            print(f"{here}:{number}: name the layer in the include: {target}")
            bad += 1
            continue
        other = layer_of(target)
        if other != layer and other not in uses.get(layer, []):
            print(f"{here}:{number}: {layer} may not use {other}: {target}")
            bad += 1
        if other != layer and target.endswith("_impl.h"):
            print(f"{here}:{number}: {target} belongs to {other} alone")
            bad += 1
print(f"{checked} includes checked, {bad} against the table")
sys.exit(1 if bad or not checked else 0)
