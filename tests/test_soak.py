"""Mixed load for half an hour: what is used of WAL, memory, disk and descriptors stays bounded, and space comes back.

    AMPSTORE_SOAK_SECONDS=60 python -m pytest tests/test_soak.py -m soak -s

Prints its seed and what it saw.
"""

import multiprocessing
import os
import random
import time
from pathlib import Path

import numpy
import pytest

from ampstore import FileDatabase, LegacyDatabase, Store
from ampstore.backend import wal

SECONDS = float(os.environ.get("AMPSTORE_SOAK_SECONDS", "1800"))
KEYS = 150  # of each writer, so that there is an end to what has to be kept
MEAN = 12_000  # bytes of an entry, with what it takes besides
CACHE = 4 << 20
WRITERS = 3
BATCH = 20
LARGEST = 40_000


def value(chooser, key):
    """Key, then numbers of which zstd makes nothing smaller, up to 40 kB."""
    size = chooser.choice((3, 40, 400, LARGEST // 8))
    return [key, numpy.random.default_rng(chooser.randrange(2**30)).random(size)]


def write(path, deadline, name, seed):
    """Sets, batches, deletes and reads; every value says under which key it was stored."""
    chooser = random.Random(seed)
    with FileDatabase(path, cache=CACHE) as database:
        while time.monotonic() < deadline:
            key = f"{name}-{chooser.randrange(KEYS)}"
            action = chooser.random()
            if action < 0.5:
                database[key] = value(chooser, key)
            elif action < 0.6:
                keys = [f"{name}-{chooser.randrange(KEYS)}" for _ in range(BATCH)]
                database.update({key: value(chooser, key) for key in keys})
            elif action < 0.7:
                database.pop(key, None)
            elif action < 0.98:
                found = database.get(key)
                assert found is None or found[0] == key
            else:
                database.close()  # and opened again by the next use


def write_loose(path, deadline, name, seed):
    """A legacy program beside it, whose files are folded in by whoever archives."""
    chooser = random.Random(seed)
    database = LegacyDatabase(path)
    while time.monotonic() < deadline:
        key = f"{name}-{chooser.randrange(KEYS)}"
        database[key] = value(chooser, key)
        time.sleep(0.02)  # legacy programs calculate in between


def read_slowly(path, deadline, seconds):
    """One iteration after the other, each held open for a long time."""
    with Store(path / "store.sqlite3", "r", cache=CACHE) as store:
        while time.monotonic() < deadline:
            pause = seconds / max(1, len(store))
            for key, found in store.items():
                assert found[0] == key
                if time.monotonic() > deadline:
                    break
                time.sleep(pause)


def maintain(path, deadline, pause):
    """Archives, compacts and verifies, again and again."""
    with FileDatabase(path, cache=CACHE) as database:
        while time.monotonic() < deadline:
            database.archive()
            damage = list(database.store.verify())
            assert not damage, damage
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))


class Watch:
    """Samples of what the processes and the container use."""

    def __init__(self, path, processes):
        self.path, self.processes = path, processes
        self.samples = []

    def look(self):
        """One sample: bytes of WAL and of all files, and of each process its bytes of memory and its descriptors."""
        sizes = {}
        for directory, _, names in os.walk(self.path):
            for name in names:
                try:
                    sizes[name] = os.lstat(os.path.join(directory, name)).st_size
                except FileNotFoundError:
                    continue
        sample = {"wal": sizes.get("store.sqlite3-wal", 0), "disk": sum(sizes.values())}
        for process in self.processes:
            try:
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                descriptors = len(os.listdir(f"/proc/{process.pid}/fd"))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it ended just now
            if pages:
                sample[f"memory of {process.name}"] = pages * os.sysconf("SC_PAGE_SIZE")
                sample[f"descriptors of {process.name}"] = descriptors
        self.samples.append(sample)

    def largest(self, what, start, end):
        """The largest sample of one thing in a part of the run."""
        count = len(self.samples)
        return max(sample.get(what, 0) for sample in self.samples[int(start * count) : int(end * count)])


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 900)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="samples are read from /proc")
def test_what_mixed_load_uses_stays_bounded_and_space_comes_back(tmp_path):
    """Second half against second quarter: nothing grows; after deletes and compact the file is small."""
    path, seed = tmp_path / "c.ampdb", int(os.environ.get("AMPSTORE_SOAK_SEED", random.randrange(2**30)))
    print(f"AMPSTORE_SOAK_SEED={seed} AMPSTORE_SOAK_SECONDS={SECONDS:g}")
    with FileDatabase(path) as database:
        database["first"] = ["first"]
    context = multiprocessing.get_context("spawn")
    deadline = time.monotonic() + SECONDS
    work = [(f"writer{n}", write, (f"w{n}", seed + n)) for n in range(WRITERS)]
    work += [
        ("legacy", write_loose, ("legacy", seed + WRITERS)),
        ("reader", read_slowly, (SECONDS / 8,)),
        ("maintainer", maintain, (SECONDS / 40,)),
    ]
    processes = [context.Process(target=target, args=(path, deadline, *more), name=name) for name, target, more in work]
    watch = Watch(path, processes)
    for process in processes:
        process.start()
    try:
        while time.monotonic() < deadline:
            time.sleep(max(0.1, SECONDS / 1000))
            watch.look()
    finally:
        for process in processes:
            process.join(timeout=300)
            if process.is_alive():
                process.kill()
                process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)

    for what in sorted({name for sample in watch.samples for name in sample}):
        early, late = watch.largest(what, 0.25, 0.5), watch.largest(what, 0.5, 1)
        print(f"{what:28} {early:12,} in the second quarter, {late:12,} in the second half, at most")
        if what.startswith("memory"):
            assert late < 1.1 * early + (16 << 20), what
        elif what.startswith("descriptors"):
            # Those of a fold and of a compaction come and go, and a sample may have missed them.
            assert late <= early + 8, what
    # A compaction ends with a VACUUM, which writes the whole file into the WAL once.
    kept = (WRITERS + 1) * KEYS * MEAN
    assert watch.largest("wal", 0, 1) < wal.TRUNCATED_ABOVE + kept
    # The file, as much again of free pages, the legacy program's files, and the WAL.
    assert watch.largest("disk", 0, 1) < 4 * kept + wal.TRUNCATED_ABOVE + kept

    with FileDatabase(path) as database:
        database.archive()
        before = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        keys = database.keys()
        for key in keys[: len(keys) * 9 // 10]:
            del database[key]
        database.store.compact()
        assert all(database[key][0] == key for key in database)
        assert list(database.verify()) == []
    after = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print(f"{before:,} bytes with {len(keys)} entries, {after:,} with a tenth of them")
    assert after < before / 3
    assert sorted(file.name for file in path.rglob("*") if file.is_file()) == ["store.lock", "store.sqlite3"]
