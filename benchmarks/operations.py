"""What is timed: a plan that is equal for all engines, and the operations that carry it out.

Each operation does at most as many entries as an engine's limit allows and returns how many, so
that one that takes milliseconds an entry does not hold up the others.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.engines import Engine
from benchmarks.values import Values, key_of

MOST_COMMITS = 1000
FEWEST_KEYS = 500
MOST_COLD = 50
BULK, OPEN, COLD, FIRST_GET = "bulk set", "open", "cold get", "first get"


class Plan(NamedTuple):
    """What one round does; equal for all engines.

    Attributes
    ----------
    stored, new, changed : list of (str, object)
        Entries of the bulk set, of the sets of new keys, and of the overwrites.
    deleted, reads, tests, cold : list of str
        Keys to delete; keys to get, shuffled; keys to look for, half of them absent; keys to get
        when the files are not in memory.
    repeats : int
        How often to list and look for keys: in a small store once is too short to time.
    """

    stored: list[tuple[str, object]]
    new: list[tuple[str, object]]
    changed: list[tuple[str, object]]
    deleted: list[str]
    reads: list[str]
    tests: list[str]
    cold: list[str]
    repeats: int


class Operation(NamedTuple):
    """One thing to time, on engines that can do it.

    Attributes
    ----------
    name : str
    writes : bool
    run : callable(engine, plan, most)
        Does at most that many entries, all if it is None; returns how many it did.
    """

    name: str
    writes: bool
    run: Callable[[Engine, Plan, int | None], int]


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
    cold = rng.sample(reads[:commits], min(MOST_COLD, commits))
    for keys in (reads, tests, deleted):
        rng.shuffle(keys)
    return Plan(stored, new, changed, deleted, reads, tests, cold, max(1, FEWEST_KEYS // entries))


def bulk_set(engine: Engine, plan: Plan) -> int:
    engine.put_many(plan.stored)
    return len(plan.stored)


def cold_get(engine: Engine, plan: Plan, most: int | None = None) -> int:
    return _get_each(engine, plan.cold[:most])


def _get(engine: Engine, plan: Plan, most: int | None) -> int:
    return _get_each(engine, plan.reads[:most])


def _get_each(engine: Engine, keys: list[str]) -> int:
    for key in keys:
        engine.get(key)
    return len(keys)


def _contains(engine: Engine, plan: Plan, most: int | None) -> int:
    keys = (plan.tests * plan.repeats)[:most]
    for key in keys:
        engine.contains(key)
    return len(keys)


def _missing(engine: Engine, plan: Plan, most: int | None) -> int:
    keys = plan.tests[:most]
    engine.missing(keys)
    return len(keys)


def _len(engine: Engine, plan: Plan, most: int | None) -> int:
    calls = min(10 * plan.repeats, most or 10 * plan.repeats)
    for _ in range(calls):
        engine.count()
    return calls


def _keys(engine: Engine, plan: Plan, most: int | None) -> int:
    # A limit counts keys, yet they come all at once or not at all.
    times = max(1, min(plan.repeats, (most or FEWEST_KEYS) // len(plan.stored)))
    return sum(len(engine.keys()) for _ in range(times))


def _items(engine: Engine, _plan: Plan, most: int | None) -> int:
    count = 0
    for count, _ in enumerate(engine.items(), 1):
        if count == most:
            break
    return count


def _set(engine: Engine, plan: Plan, most: int | None) -> int:
    return _put_each(engine, plan.new[:most])


def _overwrite(engine: Engine, plan: Plan, most: int | None) -> int:
    return _put_each(engine, plan.changed[:most])


def _put_each(engine: Engine, pairs: list[tuple[str, object]]) -> int:
    for key, value in pairs:
        engine.put(key, value)
    return len(pairs)


def _delete(engine: Engine, plan: Plan, most: int | None) -> int:
    keys = plan.deleted[:most]
    for key in keys:
        engine.delete(key)
    return len(keys)


OPERATIONS = (
    Operation("get", False, _get),
    Operation("contains", False, _contains),
    Operation("missing", False, _missing),
    Operation("len", False, _len),
    Operation("keys", False, _keys),
    Operation("items", False, _items),
    Operation("set", True, _set),
    Operation("overwrite", True, _overwrite),
    Operation("delete", True, _delete),
)
ORDER = (
    "get", COLD, "contains", "missing", "len", "keys", "items", "set", BULK, "overwrite", "delete", OPEN, FIRST_GET,
)  # fmt: skip
