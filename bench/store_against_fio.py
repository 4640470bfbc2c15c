#!/usr/bin/env python3
"""The log and the objects against fio's durable write, in the same folder: fio before and after, the better one counts.

    bench/store_against_fio.py build/bench FOLDER [--mib 512] [--repeats 3]
"""
import argparse
import json
import pathlib
import shutil
import subprocess

from machine import durable_write, spread

parser = argparse.ArgumentParser()
parser.add_argument("programs", type=pathlib.Path, help="the folder of bench_log and bench_object")
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--mib", type=int, default=512)
parser.add_argument("--repeats", type=int, default=3)
args = parser.parse_args()


def bench(program):
    folder = args.folder / "bench"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    found = json.loads(subprocess.run([args.programs / program, folder, str(args.mib)], check=True, capture_output=True,
                                      text=True).stdout)
    shutil.rmtree(folder)
    return found


def one_run():
    rates = [durable_write(args.folder, args.mib)[0]]
    sync_us = [durable_write(args.folder, args.mib, "4k", 1)[1]]
    found = bench("bench_log")
    rates.append(durable_write(args.folder, args.mib)[0])
    sync_us.append(durable_write(args.folder, args.mib, "4k", 1)[1])
    found |= {"fio_log_mb_s": max(rates), "fio_4k_sync_p50_us": min(sync_us)}
    found |= bench("bench_object")
    rates.append(durable_write(args.folder, args.mib)[0])
    return found | {"fio_mb_s": max(rates)}


args.folder.mkdir(parents=True, exist_ok=True)
runs = [one_run() for _ in range(args.repeats)]
(args.folder / "fio.file").unlink()
print(f"median, least .. most of {args.repeats} runs of {args.mib} MiB; MB/s unless it says otherwise")
print(f"fio 512 KiB, depth 4, fdatasync   {spread([run['fio_mb_s'] for run in runs])}")
print(f"fio 4 KiB fdatasync, p50 in us    {spread([run['fio_4k_sync_p50_us'] for run in runs])}")
print(f"log                               {spread([run['log_mb_s'] for run in runs])}")
print(f"log / fio                         {spread([run['log_mb_s'] / run['fio_log_mb_s'] for run in runs])}")
print(f"log in new segments               {spread([run['log_new_mb_s'] for run in runs])}")
print(f"log, CPU in ns a record           {spread([run['log_cpu_ns_a_record'] for run in runs])}")
print(f"log at {runs[0]['steady_records_s']} records/s, p50 in us {spread([run['steady_p50_us'] for run in runs])}")
print(f"that / fio's 4 KiB p50            {spread([run['steady_p50_us'] / run['fio_4k_sync_p50_us'] for run in runs])}")
print(f"and p99 in us                     {spread([run['steady_p99_us'] for run in runs])}")
for size in ("4 KiB", "1 MiB", "100 MiB"):
    for what in ("put", "get"):
        print(f"{what} {size:<8}                      {spread([run[size][f'{what}_mb_s'] for run in runs])}")
    print(f"put {size:<8} / fio                {spread([run[size]['put_mb_s'] / run['fio_mb_s'] for run in runs])}")
    if size == "100 MiB":
        continue
    print(f"put {size:<8} with one thread      {spread([run[size]['put_one_thread_mb_s'] for run in runs])}")
    # put: the bytes are hashed, encrypted, written
    sums = [1 / (1 / run[size]["hash_mb_s"] + 1 / run[size]["cipher_mb_s"] + 1 / run["fio_mb_s"]) for run in runs]
    gets = [1 / (1 / run[size]["hash_mb_s"] + 1 / run[size]["cipher_mb_s"]) for run in runs]
    print(f"put {size:<8} / sum of its stages  {spread([run[size]['put_mb_s'] / s for run, s in zip(runs, sums)])}")
    print(f"get {size:<8} / sum of its stages  {spread([run[size]['get_mb_s'] / s for run, s in zip(runs, gets)])}")
    print(f"hash, {size:<8}                    {spread([run[size]['hash_mb_s'] for run in runs])}")
    print(f"cipher, {size:<8}                  {spread([run[size]['cipher_mb_s'] for run in runs])}")
    print(f"put {size:<8} p50 in us            {spread([run[size]['put_p50_us'] for run in runs])}")
print(f"index, bytes a block              {spread([run['index']['bytes_per_block'] for run in runs])}")
print(f"open a million blocks, s          {spread([run['index']['open_s'] for run in runs])}")
