"""One to sixteen processes that write to one store, each entry committed alone: throughput, waits, fairness.

    python -m benchmarks.writers [--quick] [--json]

A value of 1 kB per commit. The store has the same 32,000 entries from the start however many write:
each writer has an equal share of them and writes it again and again. Else sixteen would fill a store
sixteen times as large as that of one, and most of the difference would be that of new entries to
those written again, 5 to 1 for the minimal loop, and none of waiting for each other.

A round runs every engine once before the next round begins, so that what else the machine does hits
all alike; the table shows medians. Compare ratios within one run, not times of two.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

from benchmarks.engines import Ampstore, AmpstoreFull, Diskcache, Engine, Lmdb, LmdbNoSync, Minimal, Sqlitedict

KEYS = 32_000
"""Entries of the store, those of a batch counted one by one."""

VALUE = 1000


class MinimalFull(Minimal):
    """The loop with a sync per commit, and SQLite's busy handler as the only queue."""

    name = "sqlite3 loop, full"

    def open(self, path: str) -> None:
        super().open(path)
        self.db.execute("PRAGMA synchronous=FULL")


class Grouped(Ampstore):
    """Sixteen values to a transaction; a commit is sixteen entries."""

    name = "ampstore, 16 to a batch"
    group = 16

    def put(self, key: str, value: object) -> None:
        self.db.put_many((f"{key}.{n}", value) for n in range(self.group))


class GroupedFull(AmpstoreFull):
    """The same with durability full."""

    name = "ampstore, full, 16 to a batch"
    group = 16
    put = Grouped.put


class Threads(AmpstoreFull):
    """Durability full, four threads in every process, which share syncs."""

    name = "ampstore, full, 4 threads"
    threads = 4


ENGINES: tuple[type[Engine], ...] = (
    Minimal,
    Ampstore,
    Grouped,
    Diskcache,
    Sqlitedict,
    LmdbNoSync,
    MinimalFull,
    AmpstoreFull,
    GroupedFull,
    Threads,
    Lmdb,
)
QUICK = (Minimal, Ampstore, Diskcache, MinimalFull, AmpstoreFull, Lmdb)


class Run(NamedTuple):
    """One engine with some processes: entries per second, waits in ms, slowest against fastest, errors."""

    rate: float
    p50: float
    p99: float
    worst: float
    fairness: float
    errors: int


def measure(engine: type[Engine], processes: int, seconds: float) -> Run:
    """Run `processes` writers for some seconds in a directory of their own."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=os.environ.get("AMPSTORE_BENCHMARK_DIR")) as directory:
        _prepare(engine, directory)
        ready, done, results = context.Barrier(processes + 1), context.Barrier(processes), context.Queue()
        size = KEYS // engine.group // processes
        writers = [
            context.Process(
                target=_write,
                args=(engine, directory, range(size * number, size * (number + 1)), seconds, ready, done, results),
            )
            for number in range(processes)
        ]
        for writer in writers:
            writer.start()
        ready.wait(timeout=120)
        found = [results.get(timeout=60 + 20 * seconds) for _ in writers]
        for writer in writers:
            writer.join(timeout=60)
    counts = [len(waits) for waits, _ in found]
    waits = sorted(1000 * wait for some, _ in found for wait in some) or [float("nan")]
    return Run(
        rate=engine.group * sum(counts) / seconds,
        p50=waits[len(waits) // 2],
        p99=waits[len(waits) * 99 // 100],
        worst=waits[-1],
        fairness=min(counts) / max(*counts, 1),
        errors=sum(errors for _, errors in found),
    )


def _prepare(engine: type[Engine], directory: str) -> None:
    store = engine()
    store.open(directory)
    keys: Iterable[str] = _names(range(KEYS // engine.group))
    if engine.group > 1:
        keys = (f"{key}.{n}" for key in keys for n in range(engine.group))
    store.put_many((key, (-1, os.urandom(VALUE))) for key in keys)
    store.close()


def _names(numbers: range) -> Iterator[str]:
    return (f"{number:06d}" for number in numbers)


def _write(
    engine: type[Engine], directory: str, share: range, seconds: float, ready: Any, done: Any, results: Any
) -> None:
    store = engine()
    store.open(directory)
    waits: list[float] = []
    errors = [0]
    size = len(share) // engine.threads
    shares = [list(_names(share[size * thread : size * (thread + 1)])) for thread in range(engine.threads)]
    with contextlib.suppress(Exception):  # untimed: whatever an engine imports at its first write, sixteen do at once
        store.put(shares[0][0], (-1, b""))
    ready.wait(timeout=120)
    end = time.perf_counter() + seconds
    threads = [threading.Thread(target=_write_until, args=(store, keys, end, waits, errors)) for keys in shares[1:]]
    for thread in threads:
        thread.start()
    _write_until(store, shares[0], end, waits, errors)  # here: some peers want the thread that opened them
    for thread in threads:
        thread.join()
    done.wait(timeout=120)  # a process that ends takes a core from those that still write
    results.put((waits, errors[0]))
    with contextlib.suppress(Exception):  # a peer that fails at closing has been measured all the same
        store.close()


def _write_until(store: Engine, keys: list[str], end: float, waits: list[float], errors: list[int]) -> None:
    value, n = os.urandom(VALUE), 0
    while (start := time.perf_counter()) < end:
        try:
            store.put(keys[n % len(keys)], (n, value))
        except Exception:
            errors[0] += 1  # a peer's "locked": counted, not hidden
        waits.append(time.perf_counter() - start)
        n += 1


def compare(engines: tuple[type[Engine], ...], processes: tuple[int, ...], seconds: float, rounds: int) -> list[Any]:
    """Medians over the rounds, one row for each engine and number of processes."""
    found: dict[tuple[str, int], list[Run]] = {}
    there = [engine for engine in engines if _is_installed(engine)]
    for _ in range(rounds):
        for number in processes:
            for engine in there:
                found.setdefault((engine.name, number), []).append(measure(engine, number, seconds))
    return [
        {"engine": name, "processes": number, **_medians(runs), "runs": [run._asdict() for run in runs]}
        for (name, number), runs in found.items()
    ]


def _medians(runs: list[Run]) -> dict[str, float]:
    return {field: statistics.median(getattr(run, field) for run in runs) for field in Run._fields}


def _is_installed(engine: type[Engine]) -> bool:
    try:
        import_module({"python": "sqlite3"}.get(engine.distribution, engine.distribution))
    except ImportError:
        return False
    return True


def table(rows: list[Any]) -> str:
    """The rows as Markdown, by number of processes and engine."""
    names: dict[str, Callable[[Any], str]] = {
        "processes": lambda row: str(row["processes"]),
        "engine": lambda row: row["engine"],
        "entries/s": lambda row: f"{row['rate']:,.0f}",
        "p50, ms": lambda row: f"{row['p50']:.2f}",
        "p99, ms": lambda row: f"{row['p99']:.1f}",
        "worst, ms": lambda row: f"{row['worst']:.0f}",
        "slowest/fastest": lambda row: f"{row['fairness']:.2f}",
        "errors": lambda row: f"{row['errors']:.0f}",
    }
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(cell(row) for cell in names.values()) + " |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.writers", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="six engines, 1 and 16 processes, one round")
    parser.add_argument("--json", action="store_true", help="all figures of all rounds")
    parser.add_argument("--rounds", type=int, default=3, help="how often each engine has its turn")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long it writes then")
    options = parser.parse_args()
    several = (ENGINES, (1, 4, 16), options.seconds, options.rounds)
    rows = compare(QUICK, (1, 16), 1.5, 1) if options.quick else compare(*several)
    print(json.dumps(rows, indent=1) if options.json else table(rows))


if __name__ == "__main__":
    main()
