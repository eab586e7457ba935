"""Writers and readers at once: `python -m faults.crowd FILE PROCESSES THREADS READERS SECONDS`; prints a JSON.

Every writer thread has a register of its own, whose value only goes up. Arrays in shared memory tell how
far it has begun and how far it was acknowledged. A reader takes the bounds before and after its read:

    acknowledged, or seen by any reader, before <= value read <= begun after

which is what linearizable means for a register with one writer. All writers also add to one common
counter, read and written in a transaction.
"""

import json
import mmap
import os
import struct
import sys
import threading
import time
import traceback
from pathlib import Path

from ampstore import Store

COMMON = "common"


class Numbers:
    """Integers that all processes see; each is written by one thread only."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, 8 * count)

    def __getitem__(self, index: int) -> int:
        return int(struct.unpack_from("=q", self._memory, 8 * index)[0])

    def __setitem__(self, index: int, value: int) -> None:
        struct.pack_into("=q", self._memory, 8 * index, value)


class Crowd:
    """What the threads of all processes share."""

    def __init__(self, file: Path, writers: int, readers: int, seconds: float) -> None:
        self.file, self.writers, self.readers = file, writers, readers
        self.begun, self.acknowledged, self.reads = Numbers(writers), Numbers(writers), Numbers(readers)
        self.seen = Numbers(writers * readers)
        self.end = time.monotonic() + seconds
        self.errors: list[str] = []

    def write(self, store: Store, number: int) -> None:
        value = 0
        while time.monotonic() < self.end:
            value += 1
            self.begun[number] = value
            with store.batch():
                store[f"w{number}"] = [value] * 20
                store[COMMON] = int(store.get(COMMON, 0)) + 1  # type: ignore[call-overload]
            self.acknowledged[number] = value

    def read(self, store: Store, number: int) -> None:
        turn = number
        while time.monotonic() < self.end:
            turn += 1
            which = turn % self.writers
            least = max(self.acknowledged[which], *(self.seen[r * self.writers + which] for r in range(self.readers)))
            found = store.get(f"w{which}", [0] * 20)
            most = self.begun[which]
            if not (found == [found[0]] * 20 and least <= found[0] <= most):  # type: ignore[index]
                self.errors.append(f"reader {number} of w{which}: {found}, may be {least} to {most}")
            self.seen[number * self.writers + which] = found[0]  # type: ignore[index]
            self.reads[number] += 1

    def guard(self, work, store: Store, number: int) -> None:  # type: ignore[no-untyped-def]
        try:
            work(store, number)
        except BaseException:
            self.errors.append(traceback.format_exc())

    def process(self, work, numbers: range) -> int:  # type: ignore[no-untyped-def]
        """Fork a process with a thread for every number."""
        child = os.fork()
        if child:
            return child
        with Store(self.file, timeout=60) as store:
            threads = [threading.Thread(target=self.guard, args=(work, store, number)) for number in numbers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for error in self.errors[:5]:
            print(error, file=sys.stderr)
        os._exit(bool(self.errors))


def main(file: Path, processes: int, threads: int, readers: int, seconds: float) -> None:
    Store(file).close()
    crowd = Crowd(file, processes * threads, readers, seconds)
    children = [crowd.process(crowd.write, range(n * threads, (n + 1) * threads)) for n in range(processes)]
    half = readers // 2
    children += [crowd.process(crowd.read, part) for part in (range(half), range(half, readers))]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    writes = [crowd.acknowledged[n] for n in range(crowd.writers)]
    with Store(file) as store:
        final = [(store.get(f"w{n}") or [0])[0] for n in range(crowd.writers)]  # type: ignore[index]
        common = store.get(COMMON, 0)
    reads = sum(crowd.reads[n] for n in range(readers))
    print(json.dumps({"codes": codes, "writes": writes, "final": final, "common": common, "reads": reads}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]), float(sys.argv[5]))
