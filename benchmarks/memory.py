"""`python -m benchmarks.memory`: what long work takes of memory, by the number of entries that it goes through.

Each operation is done in a process of its own on values of 10 kB that do not compress. Its peak is the greatest
resident set above what it was when the work began. It should not grow with the entries, which are far more than that
in bytes. What the caller holds himself, the images of `calculate_items`, was there before.
"""

import os
import pickle
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from ampstore.store import Store
from benchmarks import report
from benchmarks.document import Document, document, outputs, publish
from benchmarks.processes import environment
from benchmarks.values import ROOT, key_of

VALUE = 10_000
"""Bytes of a value."""

LONGEST = 900
"""Seconds after which an operation is given up."""

_PROLOGUE = """
import sys
from pathlib import Path
from benchmarks.processes import forget_peak, peak, resident
place, count = Path(sys.argv[1]), int(sys.argv[2])
def begin():
    forget_peak()
    return resident()
"""
_EPILOGUE = """
print(done, peak() - before)
"""
OPERATIONS = {
    "items": """
from ampstore import Store
with Store(place / "a.db", "r") as store:
    next(iter(store.items()))
    before = begin()
    done = sum(1 for _ in store.items())
""",
    "copy": """
import ampstore
ampstore.copy(place / "few.db", place / "few copied.db")
before = begin()
done = ampstore.copy(place / "a.db", place / "b.db").written
""",
    "migrate": """
import ampstore
ampstore.import_legacy(place / "few.ampdb", jobs=1)
before = begin()
done = ampstore.import_legacy(place / "a.ampdb", jobs=1).written
""",
    "calculate_items": """
import random
from ampstore import Data
def calculate(image, key): return random.Random(key).randbytes(10_000)
few, images = {f"few {n}": None for n in range(10)}, {f"image {n}": None for n in range(count)}
data = Data(str(place / "calculated"), calculator=calculate)
data.calculate_items(few, parallel={"cores": 1})
before = begin()
data.calculate_items(images, parallel={"cores": 1})
data.open()
done = len(data.d) - len(few)
data.close()
""",
}


def prepare(place: Path, entries: int) -> None:
    """A store and loose files of Amp's with so many entries, and small ones to get imports out of the way."""
    chance = random.Random(entries)
    for name, count in (("few", 10), ("a", entries)):
        loose = place / f"{name}.ampdb" / "loose"
        loose.mkdir(parents=True)
        for number in range(count):
            (loose / key_of(number)).write_bytes(pickle.dumps(chance.randbytes(VALUE), 2))
        with Store(place / f"{name}.db") as store:
            store.put_many((key_of(number), chance.randbytes(VALUE)) for number in range(count))


def peak(operation: str, place: Path, entries: int) -> int:
    """Bytes above what was there when the work began.

    Raises
    ------
    AssertionError
        If it went through another number of entries.
    """
    code = _PROLOGUE + OPERATIONS[operation] + _EPILOGUE
    ended = subprocess.run(
        [sys.executable, "-c", code, str(place), str(entries)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=LONGEST,
    )
    done, grown = map(int, ended.stdout.split()[-2:])
    if done != entries:
        raise AssertionError(f"{operation} went through {done} of {entries} entries")
    return max(grown, 0)


def measure(sizes: list[int], directory: str | None) -> dict[str, list[int]]:
    """Peaks of each operation, by size."""
    found: dict[str, list[int]] = {name: [] for name in OPERATIONS}
    for entries in sizes:
        with tempfile.TemporaryDirectory(prefix="memory-", dir=directory) as scratch:
            prepare(Path(scratch), entries)
            for name, peaks in found.items():
                peaks.append(peak(name, Path(scratch), entries))
    return found


def as_document(found: dict[str, list[int]], sizes: list[int]) -> Document:
    """Growth: the peak of the most entries over that of the fewest."""
    metrics = {
        f"{name} | peak, {sizes[-1]} to {sizes[0]}": [peaks[-1] / max(peaks[0], 1)] for name, peaks in found.items()
    }
    return document("memory", metrics, entries=sizes, peaks=found)


def sheet(found: dict[str, list[int]], sizes: list[int]) -> report.Sheet:
    """A row for each operation."""
    rows = [[name, *(f"{peak / 1e6:.1f}" for peak in peaks)] for name, peaks in found.items()]
    title = f"peak of the memory, MB, by the number of entries of {VALUE // 1000} kB"
    return report.Sheet(title, ["", *(f"{entries:,}" for entries in sizes)], rows)


@click.command()
@click.option("--quick", "effort", flag_value="quick", help="100 and 1,000 entries.")
@click.option("--full", "effort", flag_value="full", help="Up to 100,000 entries, 1 GB.")
@click.option("--directory", type=click.Path(exists=True, file_okay=False), help="Where the stores are made.")
@outputs
def main(effort: str | None, directory: str | None, json_file: Path | None, markdown_file: Path | None) -> None:
    """Measure the memory of iteration, copies, migrations and calculations."""
    sizes = {"quick": [100, 1000], "full": [1000, 10_000, 100_000]}.get(effort or "", [1000, 10_000])
    found = measure(sizes, directory or os.environ.get("TMPDIR"))
    publish(as_document(found, sizes), [sheet(found, sizes)], json_file, markdown_file)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.memory")
