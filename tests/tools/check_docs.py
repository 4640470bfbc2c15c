#!/usr/bin/env python3
"""The tables of docs/ that list what a header lists are the same list: usage: check_docs.py SOURCE_ROOT"""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])


def items(header, pattern):
    """What the X macros of a header say, as the pattern's groups."""
    return re.findall(pattern, (root / header).read_text())


def rows(doc):
    return set(line.strip() for line in (root / doc).read_text().splitlines() if line.startswith("| "))


operations, protocol = rows("docs/operations.md"), rows("docs/protocol.md")
missing = []


def expect(table, row, doc):
    if row not in table:
        missing.append(f"docs/{doc} lacks: {row}")


metrics = items("node/metrics.h", r'X\((\w+), (\w+),[\s\\]*"([^"]*)"\)')
for stage, name, what in metrics:
    expect(operations, f"| {stage}_{name} | {what} |", "operations.md")
names = {f"{stage}_{name}" for stage, name, what in metrics}
told = [line.strip() for line in (root / "docs/operations.md").read_text().splitlines() if re.match(r"\| \w+_\w+ \|", line)]
missing += [f"docs/operations.md has twice: {row}" for row in sorted(set(told)) if told.count(row) > 1]
for row in operations:
    found = re.match(rf"\| ((?:{'|'.join({stage for stage, name, what in metrics})})_\w+) \|", row)
    if found and found.group(1) not in names:
        missing.append(f"node/metrics.h lacks: {found.group(1)}")
for name, what in items("dataplane/port.h", r'X\(([a-z_]+), "([^"]*)"\)'):
    expect(operations, f"| {name} | {what} |", "operations.md")
for name, what in items("dataplane/quic.h", r'X\(([a-z_]+), "([^"]*)"\)'):
    expect(operations, f"| {name} | {what} |", "operations.md")
counted = (root / "docs/operations.md").read_text().split("`chappe_consensus_NAME_total`", 1)[-1].split("\n\n", 1)[0]
for name in re.findall(r"X\(([a-z_]+)\)", (root / "consensus/core.h").read_text().split("CH_CORE_COUNTER_LIST(X)", 1)[1].split("struct", 1)[0]):
    if not re.search(rf"\b{name}\b", counted):
        missing.append(f"docs/operations.md lacks the consensus machine's {name}")
keys = items("node/config.h", r'(TEXT|NUMBER|SWITCH)\((\w+), (\w+), ([^,]+), (?:[^,"]+, [^,"]+, )?"([^"]*)"\)')
for kind, section, name, preset, what in keys:
    text = preset.strip()
    shown = {'""': "empty"}.get(text, text.replace('"', "`"))
    row = next((row for row in operations if row.startswith(f"| {section}.{name} | {shown} |")), "")
    if not row.endswith(f"| {what} |"):
        missing.append(f"docs/operations.md lacks: | {section}.{name} | {shown} | | {what} |")
statuses = items("wire/status.h", r'X\(([A-Z_]+), (\d+), "([^"]*)"\)')
for name, number, what in statuses:
    expect(protocol, f"| {number} | {name} | {what} |", "protocol.md")
codes = items("dataplane/quic.h", r'X\(([A-Z_]+), (\d+), "[^"]*"\)')
for name, number in codes:
    if not any(row.startswith(f"| {number} | {name} |") for row in protocol):
        missing.append(f"docs/protocol.md lacks: | {number} | {name} |")
frames = items("wire/frame.h", r"X\(([A-Z_]+), (0x[0-9a-f]+)\)")
for name, number in frames:
    if name != "CONSENSUS" and not any(row.startswith(f"| {number} | {name} |") for row in protocol):
        missing.append(f"docs/protocol.md lacks: | {number} | {name} |")
for what, count in (("metrics", len(metrics)), ("settings", len(keys)), ("statuses", len(statuses)), ("codes", len(codes)),
                    ("frames", len(frames))):
    if count < 10:
        missing.append(f"only {count} {what} found in the headers: this check reads them no longer")
for line in missing:
    print(line)
sys.exit(1 if missing else 0)
