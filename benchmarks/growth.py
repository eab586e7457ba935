"""`python -m benchmarks.growth`: what entries and values cost as they become many and large.

    entries   1,000 to 1,000,000 in one store, small values: get, set, contains, missing, len, in turns with a
              store of 1,000 of the same engine, so that the growth is a ratio within a round; then what
              reads everything: keys, items, verify, compact, backup; and opening
    values    100 B to 100 MB each, float64 arrays of random numbers: set and get

`compact` is VACUUM and `verify` an integrity check where the sqlite3 loop does it, which reads no payload.
"""

import contextlib
import gc
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from rich.console import Console

from benchmarks.document import Document, Metrics, document, outputs, publish
from benchmarks.engines import Engine, is_present, opened, size_on_disk
from benchmarks.report import NOTHING, Sheet
from benchmarks.values import key_of

MANY = ("ampstore", "sqlite3 loop", "LMDB, no sync")
LARGE = ("ampstore", "sqlite3 loop", "diskcache", "LMDB, no sync", "legacy loose")
LISTING = "listing of loose files"
SMALLEST = 1000
ENTRIES = {
    "quick": (200, 1_000),
    "default": (1_000, 10_000, 100_000),
    "full": (1_000, 10_000, 100_000, 1_000_000),
    "huge": (1_000, 1_000_000, 10_000_000),
}
BYTES = {"quick": 10**4, "default": 10**7, "full": 10**8, "huge": 10**4}
ROUNDS = {"quick": 2, "default": 3, "full": 3, "huge": 3}
MOST_LISTED = 100_000
"""Files of the legacy layout, at most: making a million takes longer than all the rest."""
READS, COMMITS, LENGTHS = 1000, 100, 10

Found = dict[str, dict[str, dict[int, list[float]]]]
"""Seconds by operation, engine and number (of entries, or of bytes of a value), of each round."""

# -- many entries ------------------------------------------------------------------------------------


def small_value(number: int) -> object:
    """About 80 bytes, cheap to make."""
    return {"energy": -100.0 - 1e-3 * number, "steps": number % 1000, "name": f"calculation {number}"}


def many(sizes: tuple[int, ...], rounds: int, directory: str | None, progress: Callable[[str], object]) -> Found:
    """Fill one store of each engine up to each size, and measure there."""
    found: Found = {}
    names = [name for name in MANY if is_present(name)]
    with tempfile.TemporaryDirectory(dir=directory, prefix="growth-") as scratch:
        for name in names:
            for role in ("large", "small"):
                os.makedirs(f"{scratch}/{name}/{role}")
            with _open(name, f"{scratch}/{name}/small") as small:
                small.put_many((key_of(i), small_value(i)) for i in range(SMALLEST))
        before = 0
        for size in sizes:
            progress(f"{size:,} entries")
            for name in names:
                _fill(found, name, f"{scratch}/{name}/large", before, size)
            for number in range(rounds):
                for name in random.Random(number).sample(names, len(names)):
                    _one_round(found, name, f"{scratch}/{name}", size, number)
            for name in names:
                _whole(found, name, f"{scratch}/{name}/large", size)
            if size <= MOST_LISTED:
                _listing(found, Path(scratch, "loose"), before, size, rounds)
            before = size
    return found


@contextlib.contextmanager
def _open(name: str, path: str) -> Iterator[Engine]:
    engine = opened(name, path)
    try:
        yield engine
    finally:
        engine.close()


def _timed(run: Callable[[], object], count: int = 1) -> float:
    gc.collect()
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) / count


def _add(found: Found, operation: str, name: str, size: int, seconds: float) -> None:
    found.setdefault(operation, {}).setdefault(name, {}).setdefault(size, []).append(seconds)


def _fill(found: Found, name: str, path: str, before: int, size: int) -> None:
    """Bulk set of what is lacking, per entry; the values are made meanwhile, which is the same for all."""
    with _open(name, path) as engine:
        pairs = ((key_of(i), small_value(i)) for i in range(before, size))
        _add(found, "bulk set", name, size, _timed(lambda: engine.put_many(pairs), size - before))


def _one_round(found: Found, name: str, path: str, size: int, number: int) -> None:
    """Each operation on the large store, and right after it on the one of 1,000."""
    with _open(name, f"{path}/large") as large, _open(name, f"{path}/small") as small:
        runs = {"large": _runs(large, size, number), "small": _runs(small, SMALLEST, number)}
        for operation, (_, count) in runs["large"].items():
            for role in ("large", "small") if number % 2 else ("small", "large"):
                title = operation if role == "large" else f"{operation}, of 1,000"
                _add(found, title, name, size, _timed(runs[role][operation][0], count))
        for engine in (large, small):
            for key in _new_keys(number):
                engine.delete(key)
    _add(found, "open", name, size, _timed(lambda: opened(name, f"{path}/large").close()))


def _runs(engine: Engine, size: int, number: int) -> dict[str, tuple[Callable[[], object], int]]:
    rng = random.Random(number)
    reads = [key_of(rng.randrange(size)) for _ in range(READS)]
    tests = [key_of(rng.randrange(-size, size)) for _ in range(READS)]
    new = _new_keys(number)
    return {
        "get": (lambda: [engine.get(key) for key in reads], READS),
        "contains": (lambda: [engine.contains(key) for key in tests], READS),
        "missing": (lambda: engine.missing(tests), READS),
        "len": (lambda: [engine.count() for _ in range(LENGTHS)], LENGTHS),
        "set": (lambda: [engine.put(key, small_value(-1)) for key in new], COMMITS),
    }


def _new_keys(number: int) -> list[str]:
    return [key_of(-(10**9) - COMMITS * number - i) for i in range(COMMITS)]


def _whole(found: Found, name: str, path: str, size: int) -> None:
    """What looks at everything, once: seconds for all of it."""
    with _open(name, path) as engine:
        _add(found, "keys, all", name, size, _timed(engine.keys))
        _add(found, "items, all", name, size, _timed(lambda: sum(1 for _ in engine.items())))
        if name == "LMDB, no sync":
            return
        copy = f"{path}-copy"
        care = _care_of_store(engine.db, copy) if name == "ampstore" else _care_of_sqlite(engine.db, copy)
        for operation, run in care.items():
            _add(found, f"{operation}, all", name, size, _timed(run))
        os.unlink(copy)


def _care_of_store(store: Any, copy: str) -> dict[str, Callable[[], object]]:
    return {
        "verify": lambda: _refuse(list(store.verify())),
        "compact": store.compact,
        "backup": lambda: store.backup(copy),
    }


def _care_of_sqlite(connection: Any, copy: str) -> dict[str, Callable[[], object]]:
    import sqlite3

    def backup() -> None:
        with contextlib.closing(sqlite3.connect(copy)) as target:
            connection.backup(target)

    return {
        "verify": lambda: connection.execute("PRAGMA integrity_check").fetchall(),
        "compact": lambda: connection.execute("VACUUM"),
        "backup": backup,
    }


def _refuse(damage: list[object]) -> None:
    if damage:
        raise AssertionError(f"a store that was just written is damaged: {damage[0]}")


def _listing(found: Found, loose: Path, before: int, size: int, rounds: int) -> None:
    """What Amp does: list the directory, to look for one key or for those that are missing."""
    loose.mkdir(exist_ok=True)
    for i in range(before, size):
        (loose / key_of(i)).touch()  # listing does not look inside
    wanted = [key_of(i) for i in range(2 * READS)]
    for _ in range(rounds):
        _add(found, "contains", LISTING, size, _timed(lambda: wanted[0] in os.listdir(loose)))
        seconds = _timed(lambda: set(wanted) - set(os.listdir(loose)), len(wanted))
        _add(found, "missing", LISTING, size, seconds)


# -- large values ------------------------------------------------------------------------------------


def large(most: int, rounds: int, directory: str | None, progress: Callable[[str], object]) -> Found:
    """Set and get of values of 100 bytes to `most`, by every engine in turn; half of the rounds from 10 MB on."""
    found: Found = {}
    names = [name for name in LARGE if is_present(name)]
    rng = np.random.default_rng(0)
    size = 100
    while size <= most:
        progress(f"values of {size:,} bytes")
        values = [rng.standard_normal(max(1, size // 8)) for _ in range(max(1, min(100, 10**7 // size)))]
        for number in range(max(1, rounds // 2) if size >= 10**7 else rounds):
            for name in random.Random(number).sample(names, len(names)):
                _put_and_get(found, name, values, size, directory)
        size *= 10
    return found


def _put_and_get(found: Found, name: str, values: list[Any], size: int, directory: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=directory, prefix="growth-") as path:
        pairs = [(key_of(i), value) for i, value in enumerate(values)]
        with _open(name, path) as engine:
            _add(found, "set", name, size, _timed(lambda: [engine.put(*pair) for pair in pairs], len(pairs)))
            _add(found, "get", name, size, _timed(lambda: [engine.get(key) for key, _ in pairs], len(pairs)))
            if not np.array_equal(engine.get(pairs[-1][0]), pairs[-1][1]):  # type: ignore[arg-type]
                raise AssertionError(f"{name} gave back another array of {size} bytes")
        _add(found, "disk", name, size, size_on_disk(path) / len(pairs))


# -- results -----------------------------------------------------------------------------------------


def run(effort: str, directory: str | None, progress: Callable[[str], object]) -> Document:
    """Measure both and put them into a document."""
    gc.freeze()  # what was there before is not collected before every timing
    entries = many(ENTRIES[effort], ROUNDS[effort], directory, progress)
    values = large(BYTES[effort], ROUNDS[effort], directory, progress)
    return document("growth", metrics(entries, values), entries=_texts(entries), values=_texts(values))


def metrics(entries: Found, values: Found) -> Metrics:
    """Growth of ampstore against its own store of 1,000; large values against the sqlite3 loop."""
    found: Metrics = {}
    for operation in ("get", "set", "contains", "missing", "len"):
        small = entries[f"{operation}, of 1,000"]["ampstore"]
        for size, seconds in entries[operation]["ampstore"].items():
            found[f"{operation}, {size} entries to {SMALLEST}"] = _divided(seconds, small[size])
    for operation in ("contains", "missing"):
        for size, seconds in entries[operation].get(LISTING, {}).items():
            ours = entries[operation]["ampstore"][size]
            found[f"{operation}, {size} entries, to a {LISTING}"] = _divided(ours, seconds)
    for operation in ("get", "set"):
        for size, seconds in values[operation]["ampstore"].items():
            found[f"{operation} of {size} bytes, to sqlite3 loop"] = _divided(
                seconds, values[operation]["sqlite3 loop"][size]
            )
    return found


def _divided(ours: list[float], others: list[float]) -> list[float]:
    return [one / other for one, other in zip(ours, others, strict=True)]


def _texts(found: Found) -> dict[str, Any]:
    """The same with text for the numbers that JSON cannot have as names."""
    return {
        operation: {name: {str(size): seconds for size, seconds in sizes.items()} for name, sizes in engines.items()}
        for operation, engines in found.items()
    }


def sheets(content: Document) -> list[Sheet]:
    """Tabulate a document."""
    per_entry = {name: one for name, one in content["entries"].items() if not name.endswith((", all", ", of 1,000"))}
    whole = {name.removesuffix(", all"): one for name, one in content["entries"].items() if name.endswith(", all")}
    rows = [[name, f"{median(one):.2f}", f"{min(one):.2f}-{max(one):.2f}"] for name, one in content["metrics"].items()]
    disk = content["values"].get("disk", {})
    times = {name: one for name, one in content["values"].items() if name != "disk"}
    return [
        _sheet("µs per call, by the number of entries", per_entry, 1e6),
        _sheet("Seconds for all of it, by the number of entries", whole, 1.0),
        _sheet("ms per value, by its bytes", times, 1e3),
        _sheet("Bytes on disk per value, by its bytes", {"disk": disk}, 1.0),
        Sheet("Ratios of ampstore within a round, median and spread", ["what", "ratio", "min-max"], rows),
    ]


def _sheet(title: str, found: Mapping[str, Mapping[str, Mapping[str, list[float]]]], unit: float) -> Sheet:
    sizes = sorted({int(size) for engines in found.values() for one in engines.values() for size in one})
    rows = [
        [operation, name, *(_cell(one.get(str(size)), unit) for size in sizes)]
        for operation, engines in found.items()
        for name, one in engines.items()
    ]
    return Sheet(title, ["operation", "engine", *(f"{size:,}" for size in sizes)], rows)


def _cell(seconds: list[float] | None, unit: float) -> str:
    if not seconds:
        return NOTHING
    number = unit * median(seconds)
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


@click.command()
@click.option("--quick", "effort", flag_value="quick", help="1,000 entries, values up to 10 kB: seconds.")
@click.option("--full", "effort", flag_value="full", help="1,000,000 entries, values up to 100 MB: minutes.")
@click.option("--huge", "effort", flag_value="huge", help="10,000,000 entries: most of an hour, some 10 GB.")
@click.option("--directory", type=click.Path(file_okay=False, exists=True), help="Where the stores are made.")
@outputs
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw them here (.png, .svg, .pdf).")
def main(
    effort: str | None, directory: str | None,
    json_file: Path | None, markdown_file: Path | None, plot_file: Path | None,
) -> None:  # fmt: skip
    """Measure what entries and values cost as they become many and large."""
    with Console(stderr=True).status("") as status:
        content = run(effort or "default", directory, status.update)
    publish(content, sheets(content), json_file, markdown_file)
    if plot_file:
        from benchmarks import plots

        plots.growth(content, plot_file)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.growth")
