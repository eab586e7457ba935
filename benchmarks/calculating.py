"""What `Data.calculate_items` costs: when nothing is missing, and when two cores calculate.

Nothing missing: one image that is there, as a simulation asks at every step. The legacy way is
written anew from what it does: open, list all keys, take those that are not among them.

Parallel: calculations that keep a core busy for a time of CPU, not of the wall, so that two on one
core take twice as long. Efficiency is that time over what the cores had: 1 is all of it. ampstore
stores each result, durably; multiprocessing and joblib give them back and store nothing.
"""

import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from ampstore import FileDatabase, Store
from ampstore.data import Data
from benchmarks.values import generic, key_of

CORES = 2
LEGACY = "legacy way, loose files"
POOL = "multiprocessing.Pool, stores nothing"

Times = dict[str, dict[str, list[float]]]
"""Seconds by the heading of a table, by engine, of each round."""

# -- nothing missing ---------------------------------------------------------------------------------


def legacy_way(container: Path, images: dict[str, object]) -> list[str]:
    """Open a container, list its keys and compare: what is missing."""
    os.makedirs(container / "loose", exist_ok=True)
    keys = os.listdir(container / "loose")
    return sorted(set(images) - set(keys))


@contextmanager
def _askers(directory: Path, entries: int) -> Iterator[dict[str, Callable[[], object]]]:
    """Functions that ask for one image that is there, by engine."""
    image: dict[str, object] = {key_of(entries // 2): None}
    values = [generic(number) for number in range(50)]
    pairs = [(key_of(number), values[number % 50]) for number in range(entries)]
    with FileDatabase(directory / "container") as database:
        database.update(pairs)
    with Store(directory / "results.db") as store:
        store.put_many(pairs)
    loose = directory / "legacy.ampdb" / "loose"
    loose.mkdir(parents=True)
    for key, _ in pairs:
        (loose / key).touch()  # listing does not look inside
    with Data(directory / "container", FileDatabase) as one, Data(directory / "results.db", Store) as other:
        yield {
            "Data on FileDatabase": lambda: one.calculate_items(image),
            "Data on Store, opened anew": lambda: other.calculate_items(image),
            LEGACY: lambda: legacy_way(loose.parent, image),
        }


def nothing_missing(
    rounds: int, sizes: Sequence[int], directory: str | None, progress: Callable[[str], object]
) -> Times:
    """Time `calculate_items` of one image that is there; databases of all sizes take turns."""
    found: Times = {}
    with ExitStack() as stack:
        askers: dict[tuple[str, str], Callable[[], object]] = {}
        for entries in sizes:
            heading = f"{entries:,} entries"
            progress(f"nothing missing: making {heading}")
            scratch = stack.enter_context(tempfile.TemporaryDirectory(dir=directory, prefix="benchmark-"))
            for name, ask in stack.enter_context(_askers(Path(scratch), entries)).items():
                if ask():
                    raise AssertionError(f"{name}: an image that is there was missing")
                askers[heading, name] = ask
                found.setdefault(heading, {})[name] = []
        for number in range(rounds + 1):
            progress(f"nothing missing: round {number} of {rounds}" if number else "nothing missing: warm-up")
            for heading, name in random.Random(number).sample(list(askers), len(askers)):
                seconds = _per_call(askers[heading, name], 0.03)
                if number:
                    found[heading][name].append(seconds)
    return found


def _per_call(function: Callable[[], object], least: float) -> float:
    """Seconds per call, of as many calls as take `least` seconds."""
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < least or not calls:
        function()
        calls += 1
    return elapsed / calls


# -- parallel ----------------------------------------------------------------------------------------


def busy(image: float) -> float:
    """Keep a core busy for `image` seconds of CPU time."""
    end = time.thread_time() + image
    number = 0.5
    while time.thread_time() < end:
        for _ in range(100):
            number = 3.7 * number * (1 - number)
    return number


def with_data(jobs: list[float], directory: Path) -> int:
    """Calculate and store."""
    with Data(directory / "results", FileDatabase, busy) as data:
        data.calculate_items({key_of(n): image for n, image in enumerate(jobs)}, {"cores": CORES, "envcommand": None})
    with FileDatabase(directory / "results", "r") as database:
        return len(database)


def with_pool(jobs: list[float], _directory: Path, chunk: int = 1) -> int:
    """Calculate in processes that fork."""
    with multiprocessing.get_context("fork").Pool(CORES) as pool:
        return sum(1 for _ in pool.imap_unordered(busy, jobs, chunk))


def with_spawned_pool(jobs: list[float], _directory: Path) -> int:
    """Calculate in processes that are started as those of ampstore are."""
    with multiprocessing.get_context("spawn").Pool(CORES) as pool:
        return sum(1 for _ in pool.imap_unordered(busy, jobs))


def with_joblib(jobs: list[float], _directory: Path) -> int:
    """Calculate in joblib's processes, ended afterwards."""
    import joblib
    from joblib.externals.loky import get_reusable_executor

    try:
        parallel = joblib.Parallel(n_jobs=CORES, return_as="generator_unordered")
        return sum(1 for _ in parallel(joblib.delayed(busy)(image) for image in jobs))
    finally:
        get_reusable_executor().shutdown(wait=True)


WORKERS: dict[str, Callable[[list[float], Path], int]] = {
    "ampstore Data, stores all": with_data,
    POOL: with_pool,
    "Pool, chunks of 16": partial(with_pool, chunk=16),
    "Pool, spawned": with_spawned_pool,
    "joblib": with_joblib,
}


def present() -> dict[str, Callable[[list[float], Path], int]]:
    """Those that can run here."""
    try:
        import joblib  # noqa: F401
    except ImportError:
        return {name: run for name, run in WORKERS.items() if name != "joblib"}
    return WORKERS


def parallel(
    rounds: int, seconds: float, directory: str | None, progress: Callable[[str], object]
) -> tuple[Times, dict[str, float]]:
    """Seconds of the wall for jobs of 1, 10 and 100 ms, and what one core would need, by heading."""
    found, alone = Times(), dict[str, float]()
    workers = present()
    for title, each, count in (
        ("start and two", 0.001, 2),
        *((None, e, max(4, int(seconds / e))) for e in (0.001, 0.01, 0.1)),
    ):
        heading = f"{title or f'{count:,}'} calculations of {1000 * each:.0f} ms"
        times, alone[heading] = found.setdefault(heading, {name: [] for name in workers}), each * count
        for number in range(rounds):
            progress(f"{heading}: round {number + 1} of {rounds}")
            for name in random.Random(number).sample(list(workers), len(workers)):
                with tempfile.TemporaryDirectory(dir=directory, prefix="benchmark-") as scratch:
                    start = time.perf_counter()
                    done = workers[name]([each] * count, Path(scratch))
                    times[name].append(time.perf_counter() - start)
                if done != count:
                    raise AssertionError(f"{name} gave {done} results of {count}")
    return found, alone
