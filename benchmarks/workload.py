"""The interleaved timing: in every round each operation is done by every engine, in random order.

A machine drifts by tens of per cent within a minute, so only times of one round are set in
relation, and the ratios of the rounds are reported with their median and their spread. One more
round comes first and is not counted; in it everything is read back and compared, and what takes
long is found out, so that later rounds do less of it.

    round   fresh directories -> bulk set -> close, size -> open -> get, contains, missing, len, keys,
            items -> set -> overwrite -> delete -> close -> drop from the page cache, open, cold get
            -> first get in a new process
"""

import gc
import os
import random
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from benchmarks.engines import ENGINES, FSYNC, Engine, drop_from_page_cache, opened, size_on_disk
from benchmarks.operations import (
    BULK,
    COLD,
    FIRST_GET,
    OPEN,
    OPERATIONS,
    Operation,
    Plan,
    bulk_set,
    cold_get,
    make_plan,
)
from benchmarks.processes import first_get, peak_memory
from benchmarks.values import Values, equal

MEMORY = "memory"
MOST_FIRST_GETS = 3
MOST_SYNCED = 20
"""Commits with an fsync in the warm-up, where it is not known yet how long each takes."""
MOST = 10**9
LONGEST = 0.05
"""Seconds that an operation of one engine may take in a counted round, unless one entry takes longer."""

Times = dict[str, dict[str, list[float]]]
"""Seconds per entry: of each operation, of each engine, of each round."""
Once = dict[str, dict[str, float]]
"""The same of one round."""
Limits = dict[str, dict[str, int]]
"""Most entries: of each operation, of each engine."""


class Result(NamedTuple):
    """Times and sizes of one kind of values.

    Attributes
    ----------
    values : str
    entries : int
    times : Times
    sizes : dict of str to float
        Bytes on disk per entry after the bulk set, by engine.
    memory : dict of str to int
        Peak of the resident set, bytes, by engine; empty where it was not measured.
    """

    values: str
    entries: int
    times: Times
    sizes: dict[str, float]
    memory: dict[str, int]


class WrongValueError(Exception):
    """An engine gave back something else than it was given; its times would mean nothing."""


class Setting(NamedTuple):
    """How to measure.

    Attributes
    ----------
    engines : list of str
        Names.
    rounds : int
        Counted rounds; one more comes first.
    directory : str, optional
        Where the stores are made; their file system is what is measured.
    """

    engines: list[str]
    rounds: int
    directory: str | None = None


def measure(
    values: Values,
    entries: int,
    setting: Setting,
    *,
    processes: Collection[str] = (),
    progress: Callable[[str], object] = str,
) -> Result:
    """Time every operation of every engine on one kind of values, in stores of `entries` entries.

    `processes` names what to measure in processes of their own, FIRST_GET or MEMORY: imports dominate
    both, whatever the value.
    """
    plan, times, sizes, limits = make_plan(values, entries), Times(), dict[str, float](), Limits()
    gc.collect()
    gc.freeze()  # the values in waiting are nobody's garbage: no engine pays for walking them
    try:
        for number in range(setting.rounds + 1):
            progress(f"{values.name}: " + (f"round {number} of {setting.rounds}" if number else "warm-up, comparing"))
            with tempfile.TemporaryDirectory(dir=setting.directory, prefix="benchmark-") as scratch:
                paths, rng = _directories(setting.engines, scratch), random.Random(number)
                todo = plan if number else plan._replace(repeats=1)
                found, sizes = one_round(todo, paths, rng, limits, check=number == 0)
                if FIRST_GET in processes and 0 < number <= MOST_FIRST_GETS:
                    found[FIRST_GET] = _shuffled(paths, rng, partial(_first_get, paths, plan))
            if number:
                _add(times, found)
            else:
                limits = _limits(found)
        progress(f"{values.name}: memory")
        with tempfile.TemporaryDirectory(dir=setting.directory, prefix="benchmark-") as scratch:
            memory = peak_memory(setting.engines, plan.stored, scratch) if MEMORY in processes else {}
    finally:
        gc.unfreeze()
    return Result(values.name, entries, times, sizes, memory)


def one_round(
    plan: Plan, paths: dict[str, str], rng: random.Random, limits: Limits, *, check: bool
) -> tuple[Once, dict[str, float]]:
    """Every operation once by every engine, in their directories; seconds and bytes on disk, both per entry."""
    with _all_open(paths, rng) as (engines, _):
        times: Once = {BULK: _shuffled(engines, rng, lambda name: _bulk(engines[name], plan))}
    sizes = {name: size_on_disk(path) / len(plan.stored) for name, path in paths.items()}
    with _all_open(paths, rng) as (engines, times[OPEN]):
        if check:
            _compare(engines, plan.stored, absent=[key for key, _ in plan.new])
        for operation in OPERATIONS:
            times[operation.name] = _interleaved(operation, engines, plan, rng, limits.get(operation.name, {}))
        if check:
            _compare_written(engines, plan)
    for path in paths.values():
        drop_from_page_cache(path)
    times[COLD] = _shuffled(paths, rng, lambda name: _cold(name, paths[name], plan, limits.get(COLD, {}).get(name)))
    return times, sizes


def ratios(times: Times, operation: str, engine: str, base: str) -> list[float]:
    """Cost relative to another engine, round by round; empty if one of them cannot do it."""
    found = times.get(operation, {})
    return [one / other for one, other in zip(found.get(engine, ()), found.get(base, ()), strict=False)]


def _shuffled(names: dict[str, object], rng: random.Random, timed: Callable[[str], float]) -> dict[str, float]:
    return {name: timed(name) for name in rng.sample(list(names), len(names))}


def _first_get(paths: dict[str, str], plan: Plan, name: str) -> float:
    return first_get(name, paths[name], plan.cold[0])


def _bulk(engine: Engine, plan: Plan) -> float:
    gc.collect()
    start = time.perf_counter()
    count = bulk_set(engine, plan)
    return (time.perf_counter() - start) / count


def _interleaved(
    operation: Operation, engines: dict[str, Engine], plan: Plan, rng: random.Random, limits: dict[str, int]
) -> dict[str, float]:
    """Seconds per entry of each engine that can do it, in random order."""
    able = {name: engine for name, engine in engines.items() if _can(engine, operation)}
    return _shuffled(able, rng, lambda name: _timed(operation, able[name], plan, limits.get(name)))


def _can(engine: Engine, operation: Operation) -> bool:
    return operation.name not in engine.cannot and not (operation.writes and engine.readonly)


def _timed(operation: Operation, engine: Engine, plan: Plan, limit: int | None) -> float:
    most = limit or most_at_first(engine, operation.name)
    gc.collect()  # and then leave it on: programs run with it, and engines differ in what they make it do
    start = time.perf_counter()
    count = operation.run(engine, plan, most)
    return (time.perf_counter() - start) / max(1, count)


def most_at_first(engine: Engine, operation: str) -> int | None:
    """Entries of an operation before it is known how long each takes; None is all."""
    syncs = engine.durability == FSYNC and operation in ("set", "overwrite", "delete")
    return engine.most.get(operation, MOST_SYNCED if syncs else None)


def _cold(name: str, path: str, plan: Plan, limit: int | None) -> float:
    """Open and gets of files that are on the disk only; the import was long before."""
    engine = ENGINES[name]()
    gc.collect()
    start = time.perf_counter()
    engine.open(path)
    count = cold_get(engine, plan, limit or engine.most.get("get"))
    seconds = (time.perf_counter() - start) / count
    engine.close()
    return seconds


def _limits(found: Once) -> Limits:
    return {
        operation: {
            name: min(max(1, int(LONGEST / seconds)), ENGINES[name].most.get(operation, MOST))
            for name, seconds in by_engine.items()
        }
        for operation, by_engine in found.items()
    }


def _directories(names: list[str], scratch: str) -> dict[str, str]:
    paths = {name: os.path.join(scratch, "".join(filter(str.isalnum, name))) for name in names}
    for path in paths.values():
        os.mkdir(path)
    return paths


@contextmanager
def _all_open(paths: dict[str, str], rng: random.Random) -> Iterator[tuple[dict[str, Engine], dict[str, float]]]:
    """Engines in their directories, and the seconds that opening each took."""
    engines: dict[str, Engine] = {}

    def open_one(name: str) -> float:
        start = time.perf_counter()
        engine = opened(name, paths[name])
        seconds = time.perf_counter() - start
        engines[name] = engine
        return seconds

    try:
        seconds = _shuffled(paths, rng, open_one)
        gc.collect()
        gc.freeze()  # nor do they pay for what others imported: 25 ms a collection
        yield {name: engines[name] for name in paths}, seconds
    finally:
        for engine in engines.values():
            engine.close()


def _compare(engines: dict[str, Engine], entries: list[tuple[str, object]], absent: list[str]) -> None:
    """Refuse engines that do not give back what they were given; slow ones by a sample."""
    for name, engine in engines.items():
        _compare_one(name, engine, entries[: engine.most.get("get")], absent[: engine.most.get("contains")])


def _compare_one(name: str, engine: Engine, entries: list[tuple[str, object]], absent: list[str]) -> None:
    for key, value in entries:
        if not engine.contains(key) or not equal(engine.get(key), value):
            raise WrongValueError(f"{name} gave back something else for {key}")
    if any(engine.contains(key) for key in absent):
        raise WrongValueError(f"{name} has a key that was deleted or never written")


def _compare_written(engines: dict[str, Engine], plan: Plan) -> None:
    """Read back what was set, overwritten and deleted, as far as it was."""
    for name, engine in engines.items():
        if not engine.readonly:
            changed = [] if "overwrite" in engine.cannot else plan.changed[: most_at_first(engine, "overwrite")]
            deleted = [] if "delete" in engine.cannot else plan.deleted[: most_at_first(engine, "delete")]
            _compare_one(name, engine, plan.new[: most_at_first(engine, "set")] + changed, deleted)


def _add(times: Times, found: Once) -> None:
    for operation, by_engine in found.items():
        for name, seconds in by_engine.items():
            times.setdefault(operation, {}).setdefault(name, []).append(seconds)
