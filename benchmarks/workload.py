"""The interleaved timing: in every round each operation is done by every engine, in random order.

A machine drifts by tens of per cent within a minute, so only times of one round are set in
relation, and the ratios of the rounds are reported with their median and their spread. One more
round comes first and is not counted; in it everything is read back and compared.

    round   fresh directories -> bulk set -> close, size, open -> get, contains, keys, items
            -> set -> overwrite -> delete -> close -> first get in a new process
"""

import gc
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks.engines import Engine, opened, size_on_disk
from benchmarks.values import ROOT, Values, equal, key_of

MOST_COMMITS = 200
FEWEST_KEYS = 500
FIRST_GET = "first get"
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

Times = dict[str, dict[str, list[float]]]
"""Seconds per entry: of each operation, of each engine, of each round."""


class Plan(NamedTuple):
    """What one round does; equal for all engines.

    Attributes
    ----------
    stored, new, changed : list of (str, object)
        Entries of the bulk set, of the sets of new keys, and of the overwrites.
    deleted, reads, tests : list of str
        Keys to delete; keys to get, shuffled; keys to look for, half of them absent.
    repeats : int
        How often to list and look for keys: in a small store once is too short to time.
    """

    stored: list[tuple[str, object]]
    new: list[tuple[str, object]]
    changed: list[tuple[str, object]]
    deleted: list[str]
    reads: list[str]
    tests: list[str]
    repeats: int


class Operation(NamedTuple):
    """One thing to time, on engines that can do it; `run` returns for how many entries it did."""

    name: str
    writes: bool
    run: Callable[[Engine, Plan], int]


class Result(NamedTuple):
    """Times and sizes of one kind of values.

    Attributes
    ----------
    values : str
    entries : int
    times : Times
    sizes : dict of str to float
        Bytes on disk per entry after the bulk set, by engine.
    """

    values: str
    entries: int
    times: Times
    sizes: dict[str, float]


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
    values: Values, entries: int, setting: Setting, *, with_processes: bool, progress: Callable[[str], object]
) -> Result:
    """Time every operation of every engine on one kind of values, in stores of `entries` entries."""
    plan, times, sizes = make_plan(values, entries), Times(), dict[str, float]()
    gc.collect()
    gc.freeze()  # the values in waiting are nobody's garbage: no engine pays for walking them
    for number in range(setting.rounds + 1):
        progress(f"{values.name}: " + (f"round {number} of {setting.rounds}" if number else "warm-up, comparing"))
        with tempfile.TemporaryDirectory(dir=setting.directory, prefix="benchmark-") as scratch:
            paths = _directories(setting.engines, scratch)
            found = one_round(plan, paths, random.Random(number), check=number == 0, process=with_processes)
        if number:
            _add(times, found.times)
        sizes |= found.sizes
    gc.unfreeze()
    return Result(values.name, entries, times, sizes)


def make_plan(values: Values, entries: int) -> Plan:
    """Keys and values of a round; the overwrites differ from what they replace."""
    rng = random.Random(0)
    commits = max(1, min(MOST_COMMITS, entries // 2))
    stored = [(key_of(i), values.make(i)) for i in range(entries)]
    new = [(key_of(entries + i), values.make(entries + i)) for i in range(commits)]
    changed = [(key_of(i), values.make(entries + commits + i)) for i in range(commits)]
    reads = [key for key, _ in stored]
    tests = reads + [key_of(-1 - i) for i in range(entries)]
    deleted = reads[commits : 2 * commits]
    for keys in (reads, tests, deleted):
        rng.shuffle(keys)
    return Plan(stored, new, changed, deleted, reads, tests, max(1, FEWEST_KEYS // entries))


class Round(NamedTuple):
    """Seconds per entry by operation and engine, and bytes per entry by engine."""

    times: dict[str, dict[str, float]]
    sizes: dict[str, float]


def one_round(plan: Plan, paths: dict[str, str], rng: random.Random, *, check: bool, process: bool) -> Round:
    """Every operation once by every engine, in their directories."""
    with _all_open(paths) as engines:
        times = {BULK.name: _interleaved(BULK, engines, plan, rng)}
    sizes = {name: size_on_disk(path) / len(plan.stored) for name, path in paths.items()}
    with _all_open(paths) as engines:
        if check:
            _compare(engines, plan.stored, absent=[key for key, _ in plan.new])
        times |= {operation.name: _interleaved(operation, engines, plan, rng) for operation in OPERATIONS}
        if check:
            written = {name: engine for name, engine in engines.items() if not engine.readonly}
            _compare(written, plan.changed + plan.new, absent=plan.deleted)
    if process:
        times[FIRST_GET] = _first_gets(paths, plan.changed[0][0], rng)
    return Round(times, sizes)


def ratios(times: Times, operation: str, engine: str, base: str) -> list[float]:
    """Cost relative to another engine, round by round; empty if one of them cannot do it."""
    found = times.get(operation, {})
    return [one / other for one, other in zip(found.get(engine, ()), found.get(base, ()), strict=False)]


def _bulk_set(engine: Engine, plan: Plan) -> int:
    engine.put_many(plan.stored)
    return len(plan.stored)


def _get(engine: Engine, plan: Plan) -> int:
    keys = plan.reads[: engine.most.get("get")]
    for key in keys:
        engine.get(key)
    return len(keys)


def _contains(engine: Engine, plan: Plan) -> int:
    keys = (plan.tests * plan.repeats)[: engine.most.get("contains")]
    for key in keys:
        engine.contains(key)
    return len(keys)


def _keys(engine: Engine, plan: Plan) -> int:
    return sum(len(engine.keys()) for _ in range(engine.most.get("keys", plan.repeats)))


def _items(engine: Engine, _plan: Plan) -> int:
    if engine.most.get("items") == 0:
        return 0
    return sum(1 for _ in engine.items())


def _set(engine: Engine, plan: Plan) -> int:
    for key, value in plan.new:
        engine.put(key, value)
    return len(plan.new)


def _overwrite(engine: Engine, plan: Plan) -> int:
    for key, value in plan.changed:
        engine.put(key, value)
    return len(plan.changed)


def _delete(engine: Engine, plan: Plan) -> int:
    for key in plan.deleted:
        engine.delete(key)
    return len(plan.deleted)


BULK = Operation("bulk set", True, _bulk_set)
OPERATIONS = (
    Operation("get", False, _get),
    Operation("contains", False, _contains),
    Operation("keys", False, _keys),
    Operation("items", False, _items),
    Operation("set", True, _set),
    Operation("overwrite", True, _overwrite),
    Operation("delete", True, _delete),
)
ORDER = ("get", "contains", "keys", "items", "set", "bulk set", "overwrite", "delete", FIRST_GET)


def _interleaved(operation: Operation, engines: dict[str, Engine], plan: Plan, rng: random.Random) -> dict[str, float]:
    """Seconds per entry of each engine that can do it, in random order."""
    found = {}
    for name in rng.sample(list(engines), len(engines)):
        engine = engines[name]
        seconds, count = _timed(operation, engine, plan)
        if count and not (operation.writes and engine.readonly):
            found[name] = seconds / count
    return found


def _timed(operation: Operation, engine: Engine, plan: Plan) -> tuple[float, int]:
    if operation.writes and engine.readonly and operation is not BULK:
        return 0.0, 0
    gc.collect()  # and then leave it on: programs run with it, and engines differ in what they make it do
    start = time.perf_counter()
    count = operation.run(engine, plan)
    return time.perf_counter() - start, count


def _first_gets(paths: dict[str, str], key: str, rng: random.Random) -> dict[str, float]:
    return {name: _first_get(name, paths[name], key) for name in rng.sample(list(paths), len(paths))}


def _first_get(name: str, path: str, key: str) -> float:
    """Import, open and one get in a new process, without the start of Python."""
    command = [sys.executable, "-c", FIRST_GET_CODE, name, path, key]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def _directories(names: list[str], scratch: str) -> dict[str, str]:
    paths = {name: os.path.join(scratch, name.replace(" ", "-").replace(",", "")) for name in names}
    for path in paths.values():
        os.mkdir(path)
    return paths


@contextmanager
def _all_open(paths: dict[str, str]) -> Iterator[dict[str, Engine]]:
    engines = {name: opened(name, path) for name, path in paths.items()}
    try:
        yield engines
    finally:
        for engine in engines.values():
            engine.close()


def _compare(engines: dict[str, Engine], entries: list[tuple[str, object]], absent: list[str]) -> None:
    """Refuse engines that do not give back what they were given; slow ones by a sample."""
    for name, engine in engines.items():
        for key, value in entries[: engine.most.get("get")]:
            if not engine.contains(key) or not equal(engine.get(key), value):
                raise WrongValueError(f"{name} gave back something else for {key}")
        if any(engine.contains(key) for key in absent[: engine.most.get("contains")]):
            raise WrongValueError(f"{name} has a key that was deleted or never written")


def _add(times: Times, found: dict[str, dict[str, float]]) -> None:
    for operation, by_engine in found.items():
        for name, seconds in by_engine.items():
            times.setdefault(operation, {}).setdefault(name, []).append(seconds)
