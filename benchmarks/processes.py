"""What needs a process of its own: the first get with its imports, and the peak of the memory.

Memory is the peak of the resident set above what it was before the engine was opened: import, open,
bulk set of everything, close, open, get of everything, one at a time. The values that are put are
there before, so they do not count; pages of a file that an engine maps do.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.values import ROOT

FIRST_GET_CODE = """
import sys, time
from benchmarks.engines import opened
start = time.perf_counter()
opened(sys.argv[1], sys.argv[2]).get(sys.argv[3])
print(time.perf_counter() - start)
sys.stdout.flush()
import os
os._exit(0)
"""

MEMORY_CODE = """
import gc, pickle, sys
from benchmarks.engines import opened
from benchmarks.processes import forget_peak, peak, resident
with open(sys.argv[3], "rb") as file:
    pairs = pickle.load(file)
gc.collect()
forget_peak()
before = resident()
engine = opened(sys.argv[1], sys.argv[2])
engine.put_many(pairs)
engine.close()
engine = opened(sys.argv[1], sys.argv[2])
for key, _ in pairs[:engine.most.get("get")]:
    engine.get(key)
print(max(0, peak() - before))
sys.stdout.flush()
import os
os._exit(0)
"""


def first_get(name: str, path: str, key: str) -> float:
    """Import, open and one get in a new process, seconds, without the start of Python; the second of two.

    The first one may find no compiled modules, which is so once in the life of an installation.
    """
    _output(FIRST_GET_CODE, name, path, key)
    return float(_output(FIRST_GET_CODE, name, path, key))


def peak_memory(names: list[str], pairs: list[tuple[str, object]], scratch: str) -> dict[str, int]:
    """Bytes that each engine needs at most; empty where the system does not tell."""
    if not Path("/proc/self/clear_refs").exists():
        return {}
    found = {}
    with tempfile.TemporaryDirectory(dir=scratch, prefix="memory-") as directory:
        file = os.path.join(directory, "pairs.pickle")
        with open(file, "wb") as stream:
            pickle.dump(pairs, stream, 5)
        for number, name in enumerate(names):
            path = os.path.join(directory, str(number))
            os.mkdir(path)
            found[name] = int(_output(MEMORY_CODE, name, path, file))
    return found


def _output(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), check=True, stdout=subprocess.PIPE, text=True, timeout=300
    )
    return done.stdout


def environment() -> dict[str, str]:
    """That of this process, with compiled modules: a user has them, and without them imports are all that is timed."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def forget_peak() -> None:
    """Begin to measure the peak of this process anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Greatest resident set since, bytes."""
    return _status("VmHWM:")


def resident() -> int:
    """Resident set of this process, bytes."""
    return _status("VmRSS:")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
