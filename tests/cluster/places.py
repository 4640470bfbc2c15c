"""Where a validator's objects lie: files in its folder, or its namespace in the pool of the cluster that CHAPPE_CEPH names.
The same tests run on both: `ceph.py TEST...` runs one with a pool."""
import os
import shutil
import subprocess

import ceph

CONFIG = os.environ.get("CHAPPE_CEPH")


def settings():
    """Lines of a configuration."""
    return {"objects": '"rados"', "rados_config": f'"{CONFIG}"'} if CONFIG else {}


class Folder:
    def __init__(self, folder):
        self.folder = folder / "obj"

    def segments(self):
        return sorted(path.name for path in self.folder.glob("*.obj"))

    def read(self, name):
        return (self.folder / name).read_bytes()

    def write(self, name, content):
        (self.folder / name).write_bytes(content)

    def erase(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Namespace:
    def __init__(self, folder, status):
        self.folder = folder / "obj"
        self.name = f"{status['chain_id'][:16]}-{status['validator'][:16]}"

    def rados(self, *words, given=b""):
        words = ["rados", "-c", CONFIG, "-p", ceph.POOL, "-N", self.name, *words]
        return subprocess.run(words, input=given, capture_output=True, timeout=120, check=True).stdout

    def segments(self):
        names = self.rados("ls").decode().split()
        return sorted(name.removeprefix("obj/") for name in names if name.endswith(".obj"))

    def read(self, name):
        return self.rados("get", f"obj/{name}", "-")

    def write(self, name, content):
        self.rados("put", f"obj/{name}", "-", given=content)

    def erase(self):
        for name in self.rados("ls").decode().split():
            self.rados("rm", name)
        shutil.rmtree(self.folder, ignore_errors=True)
