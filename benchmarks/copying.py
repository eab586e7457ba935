"""Copies between stores with one thread and with several: `python -m benchmarks.copying`.

Rounds are interleaved, so a busy machine makes all of them slower; medians and their ratios count. The destination
on PostgreSQL is a server of its own on this machine, with fsync, which shares the cores with the copy.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

SIZES = {"20,000 of 1 kB": (20_000, 1000), "300 of 300 kB": (300, 300_000)}


def _source(path: Path, entries: int, size: int) -> Path:
    from ampstore import Store

    noise = random.Random(size)
    with Store(path) as store:
        store.put_many((f"{number:032x}", noise.randbytes(size)) for number in range(entries))
    return path


def _seconds(source: object, destination: str, jobs: int) -> float:
    from ampstore import copy

    began = time.perf_counter()
    report = copy(source, destination, jobs=jobs)
    if not report.complete or not report.written:
        raise SystemExit(f"{report.written} written, {len(report.left)} left")
    return time.perf_counter() - began


def main() -> None:
    import postgres

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    postgres._SETTINGS["fsync"] = "on"
    server = postgres.Server()
    print("| entries | pair |" + "".join(f" --jobs {jobs}, s |" for jobs in given.jobs) + " ratio to the first |")
    print("|---|---|" + "---|" * (len(given.jobs) + 1))
    try:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as directory:
            for name, (entries, size) in SIZES.items():
                source = _source(Path(directory) / f"{size}.db", entries, size)
                served = server.url(f"source_{size}")
                _seconds(source, served, 1)
                pairs = {
                    "SQLite -> SQLite": (source, lambda mark: f"{directory}/{mark}.db"),
                    "SQLite -> PostgreSQL": (source, server.url),
                    "PostgreSQL -> SQLite": (served, lambda mark: f"{directory}/{mark}.db"),
                }
                for pair, (origin, place) in pairs.items():
                    times: dict[int, list[float]] = {jobs: [] for jobs in given.jobs}
                    for turn in range(given.rounds):
                        for jobs in given.jobs:
                            mark = f"copy_{size}_{pair[0]}_{pair[-1]}_{turn}_{jobs}"
                            times[jobs].append(_seconds(origin, place(mark), jobs))
                            for left in Path(directory).glob(f"{mark}.db*"):
                                left.unlink()
                    medians = [statistics.median(times[jobs]) for jobs in given.jobs]
                    shown = "".join(f" {one:.2f} |" for one in medians)
                    ratios = ", ".join(f"{one / medians[0]:.2f}" for one in medians[1:])
                    print(f"| {name} | {pair} |{shown} {ratios} |", flush=True)
    finally:
        server.close()


if __name__ == "__main__":
    main()
