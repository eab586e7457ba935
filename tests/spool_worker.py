"""A program on one of several hosts, or a maintainer: started by the tests under the shim, which says NFS.

python spool_worker.py write DIRECTORY NAME COUNT    prints the number of each entry when it is stored
python spool_worker.py maintain DIRECTORY            folds until it is killed
python spool_worker.py judge DIRECTORY COUNT         folds, and says "whole" if every entry is there
python spool_worker.py crash DIRECTORY               folds, killed at every call; prints how many there were
"""

import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from faults.shim import Action, Call, Shim

import ampstore.lease
from ampstore import FileDatabase

NFS = 0x6969
HOSTS = ("n0", "n1", "n2", "n3")


def write(directory, name, count):
    """Store entries, and watch the last numbers of all hosts: they never fall."""
    last = dict.fromkeys(HOSTS, -1)
    with FileDatabase(directory / "shared") as database:
        for number in range(int(count)):
            database.update({f"{name}-{number}": [name, number], f"last-{name}": number})
            print(number, flush=True)
            for host in HOSTS if number % 10 == 0 else (name,):
                seen = database.get(f"last-{host}", -1)
                if seen < last[host]:
                    print(f"OLD {host}: {seen} after {last[host]}", flush=True)
                last[host] = seen


def maintain(directory):
    """Fold again and again."""
    with FileDatabase(directory / "shared") as database:
        while True:
            with database._maintained():
                print("folding", flush=True)
            print("folded", flush=True)


def judge(directory, count):
    """Compare what was acknowledged with what is there, before and after a last fold."""
    expected = {f"{name}-{number}": [name, number] for name in HOSTS for number in range(int(count))}
    expected |= {f"last-{name}": int(count) - 1 for name in HOSTS}
    with FileDatabase(directory / "shared") as database:
        for _ in range(2):
            found = dict(database)
            for key in expected.keys() - found.keys():
                print("lost", key)
            for key, value in found.items():
                if expected.get(key) != value:
                    print("wrong", key, value, expected.get(key))
            with database._maintained():
                pass
        assert not list(database.verify())
    print("whole")


EXPECTED = {"a": "new", "b": "stored", "c": "newest", "d": "spooled"}


def prepare(directory):
    """A container with entries in the store and in the segments of two writers, one of them closed."""
    one, two = FileDatabase(directory / "made"), FileDatabase(directory / "made")
    one.update({"a": "old", "b": "stored", "c": "old", "gone": 1})
    one.archive()
    one["c"] = "newer"
    two.update({"a": "new", "d": "spooled", "c": "newest"})
    del one["gone"]
    two.close()
    return one


def crash(directory, shim):
    """Every call of a fold."""
    at, made = 0, prepare(directory).path
    while True:
        at += 1
        shutil.copytree(made, directory / "x.ampdb")
        child = os.fork()
        if not child:
            shim.arm(str(directory), Action.KILL, Call.CHANGES, at)
            shim.filesystem(NFS)
            with FileDatabase(directory / "x")._maintained():
                pass
            os._exit(0)
        survived = os.waitpid(child, 0)[1] == 0
        with FileDatabase(directory / "x") as look:
            assert dict(look) == EXPECTED, (at, dict(look))
            with look._maintained():
                pass
            assert dict(look) == EXPECTED, (at, dict(look))
            look["a"] = "after"
            assert look["a"] == "after"
        shutil.rmtree(directory / "x.ampdb")
        if survived:
            print(at)
            return


def main(role, directory, *arguments):
    """Do one of these."""
    shim, directory = Shim(), Path(directory)
    shim.arm(str(directory), Action.NOTHING, 0)
    shim.filesystem(NFS)
    ampstore.lease.LEASE = 1.0
    if role == "crash":
        crash(directory, shim)
    else:
        {"write": write, "maintain": maintain, "judge": judge}[role](directory, *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
