"""F11: 16 writers and 8 readers at once, F12: a reader that takes its time."""

import contextlib
import json
import os
import sqlite3

import pytest

from ampstore import Store
from ampstore.backend import wal
from faults.processes import python, run


@pytest.mark.fault("F11", "16 writers and 8 readers, processes and threads, on one store (injections: writes, reads)")
def test_a_crowd_is_linearizable_and_nobody_is_locked_out(fault, elsewhere):
    """Every read lies between what was acknowledged before and what was begun; no increment is lost."""
    seconds = fault.times(4, 30)
    ended = run(python("crowd", elsewhere / "a.db", 4, 4, 8, seconds), seconds + 150)
    if ended.hung:
        fault.hung("the crowd did not end in time")
        return
    told = json.loads(ended.output or "{}") or fault.wrong(ended.errors[-2000:])
    fault.injected(sum(told["writes"]) + told["reads"])
    if any(told["codes"]):
        fault.wrong(ended.errors[:3000])
    for number, (acknowledged, final) in enumerate(zip(told["writes"], told["final"], strict=True)):
        if final != acknowledged:
            fault.lost(f"w{number} is {final}, acknowledged was {acknowledged}")
    if told["common"] != sum(told["writes"]):
        fault.lost(f"{told['common']} increments of {sum(told['writes'])}")
    slowest, fastest = min(told["writes"]), max(told["writes"])
    fault.fact(fastest_over_slowest_writer=round(fastest / max(1, slowest), 1))
    if fault.long and fastest > 10 * slowest:
        fault.wrong(f"the slowest writer made {slowest} writes, the fastest {fastest}")


@pytest.mark.fault("F12", "iteration held open under writes")
def test_an_open_iteration_keeps_neither_the_wal_nor_the_disk(fault, elsewhere):
    """It reads a chunk at a time, so that the WAL is emptied meanwhile; deleted space comes back."""
    path, size, largest = elsewhere / "a.db", 100_000, 0
    with Store(path) as store, Store(path) as writer:
        store.put_many((f"k{n}", os.urandom(size)) for n in range(200))
        pairs = iter(store.items())
        next(pairs)
        for number in range(fault.times(300, 3000)):
            writer[f"k{number % 200}"] = os.urandom(size)
            largest = max(largest, os.path.getsize(f"{path}-wal"))
            if number % 50 == 0:
                next(pairs, None)
            fault.injected()
        if largest > wal.TRUNCATED_ABOVE + wal.WAL_BOUND:
            fault.wrong(f"the WAL grew to {largest:,} bytes")
        if len(list(pairs)) < 100:
            fault.wrong("the iteration ended early")
        writer.clear()
        writer.compact()
        if writer.stats().disk > 1_000_000:
            fault.wrong(f"{writer.stats().disk:,} bytes are kept by an empty store")
    fault.fact(largest_wal=largest)


@pytest.mark.fault("F12", "a transaction of plain sqlite3 held open under writes")
def test_after_a_foreign_reader_ends_the_wal_shrinks(fault, elsewhere):
    """While it lasts, SQLite cannot empty the WAL; no writer waits for it."""
    path = elsewhere / "a.db"
    with Store(path) as store, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        store["a"] = 1
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entry").fetchone()
        for number in range(fault.times(250, 1000)):
            store[f"k{number % 10}"] = os.urandom(100_000)
            fault.injected()
        held = os.path.getsize(f"{path}-wal")
        reader.execute("COMMIT")
        for number in range(100):
            store[f"k{number % 10}"] = os.urandom(100_000)
        after = os.path.getsize(f"{path}-wal")
        if after > wal.TRUNCATED_ABOVE:
            fault.wrong(f"the WAL has {after:,} bytes after the reader ended, {held:,} before")
    fault.fact(wal_while_held=held, wal_afterwards=after)
