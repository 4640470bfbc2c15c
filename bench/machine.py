"""What the benches share: the disk's own speed by fio, the processor time of threads, what the machine is."""
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess

TICK = os.sysconf("SC_CLK_TCK")


def durable_write(folder, mib, block="512k", depth=4):
    """fio's MB/s of writes with fdatasync after each, into a file that was written before; and the sync's median in us."""
    file = pathlib.Path(folder) / "fio.file"
    words = ["fio", "--name=durable", f"--filename={file}", f"--size={mib}m", "--ioengine=io_uring", "--direct=1", "--rw=write",
             f"--bs={block}", f"--iodepth={depth}", "--fdatasync=1", "--output-format=json"]
    if not file.exists():
        subprocess.run(["dd", "if=/dev/zero", f"of={file}", "bs=1M", f"count={mib}", "conv=fsync", "status=none"], check=True)
    if block == "4k":
        words += ["--time_based", "--runtime=3"]
    job = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)["jobs"][0]
    return job["write"]["bw_bytes"] / 1e6, job["sync"]["lat_ns"]["percentile"]["50.000000"] / 1e3


def cpu_by_thread(pid):
    """Processor seconds so far of a process's threads, by name; the kernel's for io_uring as `disk`."""
    seconds = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        stat = (task / "stat").read_text()
        name, fields = stat[stat.index("(") + 1:stat.rindex(")")], stat[stat.rindex(")") + 2:].split()
        name = "disk" if name.startswith("iou-") else name
        seconds[name] = seconds.get(name, 0) + (int(fields[11]) + int(fields[12])) / TICK
    return seconds


def described():
    names = re.findall(r"(?m)^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text())
    return {"processor": names[0] if names else platform.machine(), "cores": os.cpu_count(), "kernel": platform.release(),
            "load": os.getloadavg()}


def spread(values, digits=2):
    return f"{statistics.median(values):10,.{digits}f}   {min(values):,.{digits}f} .. {max(values):,.{digits}f}"
