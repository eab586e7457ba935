"""`python -m benchmarks.all --output DIR`: every benchmark, one after the other, results in one directory.

Each is a process of its own, so that none finds the memory of another: `NAME.json` with all numbers,
`NAME.md` with the tables, `NAME.png` with the pictures, of those that make them. At the end the table of
targets. One that fails does not stop the others; the exit code is then 1.
"""

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click

from benchmarks import fairness
from benchmarks.document import Document, write
from benchmarks.values import ROOT

EFFORTS = ("quick", "default", "full")
LONGEST = 3600
"""Seconds after which a benchmark is given up."""


class Section(NamedTuple):
    """One benchmark.

    Attributes
    ----------
    module : str
    efforts : tuple of str
        Of "quick" and "full" those that it knows as options; the others are its default.
    outputs : dict of str to str
        Option and suffix of each file that it writes.
    arguments : tuple of str
    printed : callable(rows) -> document, optional
        It prints JSON instead of writing it: what makes a document of that.
    """

    module: str
    efforts: tuple[str, ...]
    outputs: dict[str, str]
    arguments: tuple[str, ...] = ()
    printed: Callable[[Any], Document] | None = None


TABLES = {"--json": "json", "--markdown": "md"}
PICTURES = {**TABLES, "--plot": "png"}
SECTIONS = {
    "peers": Section("benchmarks", ("quick", "full"), PICTURES),
    "growth": Section("benchmarks.growth", ("quick", "full"), PICTURES),
    "migration": Section("benchmarks.migration", ("quick", "full"), PICTURES),
    "sizes": Section("benchmarks.sizes", ("quick", "full"), TABLES),
    "writers": Section(
        "benchmarks.writers", ("quick",), {}, ("--json", "--rounds", "2", "--seconds", "2"), fairness.as_document
    ),
    "images": Section(
        "benchmarks.images", ("quick",), TABLES, ("--only", "hashing", "--only", "nothing", "--rounds", "3")
    ),
    "startup": Section("benchmarks.startup", ("quick", "full"), TABLES),
    "threads": Section("benchmarks.threads", ("quick", "full"), TABLES),
    "memory": Section("benchmarks.memory", ("quick", "full"), TABLES),
    "annealing": Section("benchmarks.annealing", ("quick",), {"--json": "json"}, ("--only", "overhead")),
}


def command(name: str, effort: str, output: Path) -> list[str]:
    """Command line of one benchmark that writes into a directory."""
    section = SECTIONS[name]
    files = [part for option, suffix in section.outputs.items() for part in (option, str(output / f"{name}.{suffix}"))]
    flags = [f"--{effort}"] if effort in section.efforts else []
    return [sys.executable, "-m", section.module, *flags, *section.arguments, *files]


def there() -> list[str]:
    """Benchmarks whose modules are there."""
    return [name for name, one in SECTIONS.items() if importlib.util.find_spec(one.module)]


def run(names: list[str], effort: str, output: Path) -> list[str]:
    """Run benchmarks; those that failed."""
    output.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in names:
        start = time.monotonic()
        code = _code(command(name, effort, output.resolve()), SECTIONS[name].printed, output / f"{name}.json")
        click.echo(f"{name}: {time.monotonic() - start:.0f} s" + (f", failed with {code}" if code else ""), err=True)
        if code:
            failed.append(name)
    return failed


def _code(arguments: list[str], printed: Callable[[Any], Document] | None, file: Path) -> int | str:
    try:
        done = subprocess.run(arguments, cwd=ROOT, stdout=subprocess.PIPE, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        return f"no end after {LONGEST} s"
    if printed and not done.returncode:
        write(file, printed(json.loads(done.stdout)))
    return done.returncode


@click.command()
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where results go.")
@click.option("--only", type=click.Choice(list(SECTIONS)), multiple=True, help="Only this; repeatable.")
@click.option("--quick", "effort", flag_value="quick", help="Tiny sizes: whether all of it works.")
@click.option("--full", "effort", flag_value="full", help="All sizes and more rounds, about ten minutes.")
def main(output: Path, only: tuple[str, ...], effort: str | None) -> None:
    """Run every benchmark and judge the targets."""
    from benchmarks import targets

    names = [name for name in there() if not only or name in only]
    failed = run(names, effort or "default", output)
    sheet = targets.sheet(targets.judged(targets.read_all(output)))
    targets.show(sheet, targets.console())
    (output / "targets.md").write_text(targets.markdown(sheet))
    if failed:
        raise click.ClickException(f"these failed: {', '.join(failed)}")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.all")
