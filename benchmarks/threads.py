"""`python -m benchmarks.threads`: bulk encoding and decoding in one thread and in several.

zstd lets other threads run while it works, and NumPy some of the time; walking over lists and making objects
does not. A bulk operation would gain by threads as much as the first two weigh. All is in memory, in turns.
"""

import functools
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import click

from ampstore.codec import Codec
from benchmarks import report
from benchmarks.document import Document, document, outputs, publish
from benchmarks.values import Values, all_values, key_of

CHUNKS = 4
"""Parts of the values for each thread, so that none waits long for the last."""

ROUNDS = {"quick": 1, "default": 7, "full": 15}
OPERATIONS = ("encode", "decode")


def measure(values: Values, threads: int, rounds: int) -> dict[str, list[float]]:
    """Time with several threads over that with one, in each round."""
    made = [(key_of(number), values.make(number)) for number in range(values.entries)]
    codec = Codec()
    blobs = [(key, *codec.encode(value)) for key, value in made]
    rows = [(key, name, size, checksum, payload) for key, name, _, size, checksum, payload in blobs]
    work: dict[str, Callable[[slice], object]] = {
        "encode": lambda part: [codec.encode(value) for _, value in made[part]],
        "decode": lambda part: [codec.decode(*row) for row in rows[part]],
    }
    step = max(1, len(made) // (CHUNKS * threads))
    parts = [slice(start, start + step) for start in range(0, len(made), step)]
    found: dict[str, list[float]] = {name: [] for name in OPERATIONS}
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds + 1):
            for name in OPERATIONS:
                alone = _clock(functools.partial(_all, map(work[name], parts)))
                found[name].append(_clock(functools.partial(_all, pool.map(work[name], parts))) / alone)
    return {name: ratios[1:] for name, ratios in found.items()}


_all = functools.partial(deque, maxlen=0)
"""Take every step of an iterator, and keep none."""


def _clock(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def as_document(found: dict[str, dict[str, list[float]]]) -> Document:
    """Several threads over one."""
    metrics = {
        f"{values} | {name} | one thread": ratios for values, both in found.items() for name, ratios in both.items()
    }
    return document("threads", metrics)


def sheet(found: dict[str, dict[str, list[float]]], threads: int) -> report.Sheet:
    """A row for each kind of values."""
    rows = [
        [values, *(f"{median(both[name]):.2f} ({min(both[name]):.2f}-{max(both[name]):.2f})" for name in OPERATIONS)]
        for values, both in found.items()
    ]
    return report.Sheet(f"time of {threads} threads over that of one", ["", *OPERATIONS], rows)


@click.command()
@click.option("--threads", type=click.IntRange(2), default=os.cpu_count() or 2, show_default="cores")
@click.option("--corpus", type=click.Path(path_type=Path, exists=True), help="Templates of Amp's values.")
@click.option("--quick", "effort", flag_value="quick", help="1 round.")
@click.option("--full", "effort", flag_value="full", help="15 rounds, larger cells too.")
@outputs
def main(
    threads: int, corpus: Path | None, effort: str | None, json_file: Path | None, markdown_file: Path | None
) -> None:
    """Time bulk encoding and decoding in one thread and in several."""
    found = {
        values.name: measure(values, threads, ROUNDS[effort or "default"])
        for values in all_values(corpus, effort == "full")
    }
    publish(as_document(found), [sheet(found, threads)], json_file, markdown_file)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.threads")
