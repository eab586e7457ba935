"""`python -m benchmarks.migration`: files of Amp into a store, verified, beside what a script would do.

    ampstore migrate    in a new process: reads, decodes, encodes, writes, reads back, compares
    legacy, sqlitedict  in a new process: unpickles each file and sets it in a sqlitedict, one commit at the end;
                        nothing is read back, and any code in a pickle would run

Whole programs are timed, from their start to their end, in turns. CPU over wall time says how many cores
were used; memory is the greatest resident set of any of the processes. The files are made by
`make_corpus.py` of AMPSTORE_CORPUS if that has one, else here in the same way; both vary what Amp wrote.
"""

import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
from rich.console import Console

from benchmarks.document import Document, Metrics, document, outputs, publish
from benchmarks.engines import is_present
from benchmarks.processes import environment
from benchmarks.report import Sheet
from benchmarks.values import ROOT, default_corpus, key_of, load, vary

FILES = {
    "quick": {"neighborlists": 10, "fingerprints": 20, "fingerprint-primes": 3},
    "default": {"neighborlists": 1000, "fingerprints": 4000, "fingerprint-primes": 100},
    "full": {"neighborlists": 3000, "fingerprints": 12_000, "fingerprint-primes": 300},
}
ROUNDS = {"quick": 1, "default": 3, "full": 2}
ATOMS = 20
MAKER = "make_corpus.py"
SCRIPT_CODE = """
import os, pickle, sys
from sqlitedict import SqliteDict
loose = os.path.join(sys.argv[1], "loose")
with SqliteDict(sys.argv[2], journal_mode="WAL") as target:
    for key in os.listdir(loose):
        with open(os.path.join(loose, key), "rb") as file:
            target[key] = pickle.load(file)
    target.commit()
"""
MIGRATE, ONE_JOB, SCRIPT = "ampstore migrate", "ampstore migrate --jobs 1", "legacy read, sqlitedict write"


class Run(NamedTuple):
    """One program from its start to its end.

    Attributes
    ----------
    seconds, cpu : float
        Of the wall, and of the processors of all its processes.
    memory : int
        Bytes, greatest resident set of any of its processes.
    disk : int
        Bytes of what it wrote.
    """

    seconds: float
    cpu: float
    memory: int
    disk: int


Found = dict[str, dict[str, list[Run]]]
"""By kind of values, by program, of each round."""


def commands(container: Path, target: Path) -> dict[str, list[str]]:
    """Every program's command line."""
    migrate = [sys.executable, "-m", "ampstore", "migrate", str(container), "--into", f"{target}.db"]
    found = {MIGRATE: migrate, ONE_JOB: [*migrate, "--jobs", "1"]}
    if is_present("sqlitedict"):
        found[SCRIPT] = [sys.executable, "-c", SCRIPT_CODE, str(container), f"{target}.db"]
    return found


def measure(effort: str, directory: str | None, progress: Callable[[str], object]) -> Found:
    """Make the files of each kind and run every program on them."""
    found: Found = {}
    for kind, files in FILES[effort].items():
        with tempfile.TemporaryDirectory(dir=directory, prefix="migration-") as scratch:
            progress(f"{kind}: making {files:,} files")
            container = make_container(kind, files, Path(scratch))
            found[kind] = {}
            for number in range(effort == "quick", ROUNDS[effort] + 1):  # no warm-up where only start-up is seen
                progress(f"{kind}: " + (f"round {number}" if number else "warm-up"))
                programs = commands(container, Path(scratch, "target"))
                for name in random.Random(number).sample(list(programs), len(programs)):
                    run = _run(programs[name], Path(scratch), files if name != SCRIPT else None)
                    if number:
                        found[kind].setdefault(name, []).append(run)
    return found


def make_container(kind: str, files: int, directory: Path) -> Path:
    """Write a container of Amp with so many loose files."""
    maker = default_corpus() / MAKER
    if maker.is_file():
        command = [sys.executable, maker, "--n", str(files), "--atoms", str(ATOMS), "--out", directory, "--kinds", kind]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
        return directory / f"amp-{kind}.ampdb"
    loose = directory / f"amp-{kind}.ampdb" / "loose"
    loose.mkdir(parents=True)
    templates = load(default_corpus(), ATOMS).kinds[kind]
    for number in range(files):
        value = vary(templates[number % len(templates)], random.Random(f"{kind} {number}"))
        (loose / key_of(number)).write_bytes(pickle.dumps(value, 0))
    return loose.parent


def _run(command: list[str], scratch: Path, expected: int | None) -> Run:
    """Run a program that writes `target.db`; of ampstore's, count what it wrote."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    written = sorted(scratch.glob("target.db*"))
    disk = sum(file.stat().st_blocks * 512 for file in written)
    if expected is not None:
        _refuse_fewer(scratch / "target.db", expected)
    for file in scratch.glob("target*"):
        file.unlink()
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, disk)


def _refuse_fewer(file: Path, expected: int) -> None:
    import sqlite3

    connection = sqlite3.connect(file)
    (count,) = connection.execute("SELECT count(*) FROM entry").fetchone()
    connection.close()
    if count != expected:
        raise AssertionError(f"{count} of {expected} files were migrated")


def metrics(found: Found) -> Metrics:
    """Time of ampstore relative to the script."""
    numbers: Metrics = {}
    for kind, programs in found.items():
        for name in (MIGRATE, ONE_JOB):
            if SCRIPT in programs:
                pairs = zip(programs[name], programs[SCRIPT], strict=True)
                numbers[f"{kind} | {name}"] = [one.seconds / other.seconds for one, other in pairs]
    return numbers


def run(effort: str, directory: str | None, progress: Callable[[str], object]) -> Document:
    """Measure and put it into a document."""
    found = measure(effort, directory, progress)
    numbers = {
        kind: {name: [one._asdict() for one in runs] for name, runs in programs.items()}
        for kind, programs in found.items()
    }
    return document("migration", metrics(found), files=FILES[effort], runs=numbers)


def sheets(content: Document) -> list[Sheet]:
    """Tabulate a document."""
    rows = [
        [kind, name, *_cells(runs, content["files"][kind]), _ratio(content["metrics"].get(f"{kind} | {name}"))]
        for kind, programs in content["runs"].items()
        for name, runs in programs.items()
    ]
    header = ["files of", "program", "files/s", "seconds", "cores used", "MB of memory", "MB on disk", "times faster"]
    return [Sheet(f"Migration, medians; times faster than {SCRIPT} (least-most)", header, rows)]


def _cells(runs: list[dict[str, Any]], files: int) -> list[str]:
    seconds = median(one["seconds"] for one in runs)
    cores = median(one["cpu"] / one["seconds"] for one in runs)
    memory, disk = (max(one[name] for one in runs) / 1e6 for name in ("memory", "disk"))
    return [f"{files / seconds:,.0f}", f"{seconds:.2f}", f"{cores:.2f}", f"{memory:.0f}", f"{disk:.1f}"]


def _ratio(found: list[float] | None) -> str:
    if not found:
        return "1"
    faster = [1 / one for one in found]
    return f"{median(faster):.2f} ({min(faster):.2f}-{max(faster):.2f})"


@click.command()
@click.option("--quick", "effort", flag_value="quick", help="Some hundred files: seconds, most of it start-up.")
@click.option("--full", "effort", flag_value="full", help="15,000 files: a minute or two.")
@click.option("--directory", type=click.Path(file_okay=False, exists=True), help="Where the files are made.")
@outputs
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw it here (.png, .svg, .pdf).")
def main(
    effort: str | None, directory: str | None,
    json_file: Path | None, markdown_file: Path | None, plot_file: Path | None,
) -> None:  # fmt: skip
    """Time the verified migration of Amp's files beside reading them as Amp does and writing with sqlitedict."""
    with Console(stderr=True).status("") as status:
        content = run(effort or "default", directory, status.update)
    publish(content, sheets(content), json_file, markdown_file)
    if plot_file:
        from benchmarks import plots

        plots.migration(content, plot_file)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.migration")
