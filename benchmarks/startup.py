"""`python -m benchmarks.startup`: how long a new process takes until it has done something, from start to end.

Everything is started in turns, in random order. Python itself and click, which the command cannot do without,
are beside it. Measure in an environment where ampstore was installed from a wheel: an editable install looks
for every module by a hook of its own.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import click

from ampstore.store import Store
from benchmarks import report
from benchmarks.document import Document, Metrics, document, outputs, publish
from benchmarks.engines import is_present, opened
from benchmarks.processes import environment
from benchmarks.values import generic

ROUNDS = {"quick": 2, "default": 25, "full": 51}
LONGEST = 60
"""Seconds after which a process that does not end is given up."""

PYTHON, CLICK, HELP, LS = "python -c pass", "import click", "ampstore --help", "ampstore ls"
GET, PEER = "import ampstore, open, get", "import diskcache, open, get"


def programs(directory: Path) -> dict[str, list[str]]:
    """Command lines by name, and the stores that they look into."""
    script = Path(sys.executable).with_name("ampstore")
    ampstore = [str(script)] if script.exists() else [sys.executable, "-m", "ampstore"]
    with Store(directory / "a.db") as store:
        store["k"] = generic(0)
    found = {
        PYTHON: _python("pass"),
        CLICK: _python("import click"),
        HELP: [*ampstore, "--help"],
        LS: [*ampstore, "ls", "a.db"],
        GET: _python("import ampstore; ampstore.open('a.db')['k']"),
    }
    if is_present("diskcache"):
        engine = opened("diskcache", str(directory / "diskcache"))
        engine.put_many([("k", generic(0))])
        engine.close()
        found[PEER] = _python("import diskcache; diskcache.Cache('diskcache').get('k')")
    return found


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def measure(rounds: int, directory: Path) -> dict[str, list[float]]:
    """Seconds of each program; one more round, in which modules are compiled, comes first."""
    lines = programs(directory)
    found: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(rounds + 1):
        for name in random.sample(list(lines), len(lines)):
            start = time.perf_counter()
            subprocess.run(
                lines[name],
                cwd=directory,
                env=environment(),
                stdout=subprocess.PIPE,  # its end is noticed at once, where a bounded wait alone looks every 50 ms
                check=True,
                timeout=LONGEST,
            )
            found[name].append(time.perf_counter() - start)
    return {name: times[1:] for name, times in found.items()}


def as_document(found: dict[str, list[float]]) -> Document:
    """Milliseconds of the commands: a person waits for them, whatever Python's share is."""
    metrics: Metrics = {f"{name} | ms": [1e3 * one for one in found[name]] for name in (HELP, LS)}
    return document("startup", metrics, seconds=found)


def sheet(found: dict[str, list[float]]) -> report.Sheet:
    """Least, median and greatest."""
    rows = [
        [name, *(f"{1e3 * of(times):.0f}" for of in (min, median, max))]  # type: ignore[operator]
        for name, times in found.items()
    ]
    rounds = len(found[PYTHON])
    return report.Sheet(
        f"ms from the start of a process to its end, {rounds} rounds", ["", "least", "median", "greatest"], rows
    )


@click.command()
@click.option("--quick", "effort", flag_value="quick", help="2 rounds.")
@click.option("--full", "effort", flag_value="full", help="51 rounds.")
@outputs
def main(effort: str | None, json_file: Path | None, markdown_file: Path | None) -> None:
    """Time the start of the command and of a program that reads one entry."""
    with tempfile.TemporaryDirectory(prefix="startup-") as directory:
        found = measure(ROUNDS[effort or "default"], Path(directory))
    publish(as_document(found), [sheet(found)], json_file, markdown_file)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.startup")
