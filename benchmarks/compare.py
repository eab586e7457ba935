"""`python -m benchmarks.compare OLD NEW`: what became cheaper or dearer from one result to another.

Both are JSON files of any of these benchmarks, or directories of them as `benchmarks.all` writes.
A metric has changed if its rounds do not overlap: the cheapest of one is dearer than the dearest of
the other. Ratios to other engines change with the versions of those too; the machine is divided out
only as far as it slows all alike.
"""

import sys
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click

from benchmarks.document import Document, Metrics, read
from benchmarks.report import NOTHING, Sheet, console, markdown, show

SAME, CHEAPER, DEARER, ONLY_OLD, ONLY_NEW = "same", "cheaper", "dearer", "gone", "new"


class Change(NamedTuple):
    """One metric in both results.

    Attributes
    ----------
    name : str
    old, new : list of float
        Its rounds; empty where it is lacking.
    verdict : {"same", "cheaper", "dearer", "gone", "new"}
    """

    name: str
    old: list[float]
    new: list[float]
    verdict: str

    @property
    def factor(self) -> float:
        """New median over old; 1 where one is lacking."""
        if not self.old or not self.new or not median(self.old):
            return 1.0
        return median(self.new) / median(self.old)


def changes(old: Metrics, new: Metrics) -> list[Change]:
    """Compare metric by metric, in the order of the new result."""
    names = [*new, *(name for name in old if name not in new)]
    return [_change(name, old.get(name, []), new.get(name, [])) for name in names]


def _change(name: str, old: list[float], new: list[float]) -> Change:
    if not old or not new:
        return Change(name, old, new, ONLY_NEW if new else ONLY_OLD)
    if max(new) < min(old):
        return Change(name, old, new, CHEAPER)
    return Change(name, old, new, DEARER if min(new) > max(old) else SAME)


def documents(path: Path) -> list[Document]:
    """One file, or all results of a directory.

    Raises
    ------
    ValueError
        If there are none, or a file is something else.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"there are no results in {path}")
    return [read(file) for file in files]


def metrics_of(path: Path) -> Metrics:
    """All metrics of a file or directory, each after the name of its benchmark."""
    return {
        f"{content['benchmark']}: {name}": numbers
        for content in documents(path)
        for name, numbers in content["metrics"].items()
    }


def sheet(found: list[Change], least: float) -> Sheet:
    """Tabulate what changed by more than a share, greatest first."""
    shown = [one for one in found if one.verdict in (CHEAPER, DEARER) and abs(one.factor - 1) >= least]
    rows = [
        [one.name, _spread(one.old), _spread(one.new), f"{one.factor:.2f}", one.verdict]
        for one in sorted(shown, key=lambda one: -one.factor)
    ]
    return Sheet("Cost of ampstore, old and new", ["metric", "old", "new", "new/old", ""], rows)


def _spread(numbers: list[float]) -> str:
    if not numbers:
        return NOTHING
    return f"{median(numbers):.3g} ({min(numbers):.3g}-{max(numbers):.3g})"


@click.command()
@click.argument("old", type=click.Path(path_type=Path, exists=True))
@click.argument("new", type=click.Path(path_type=Path, exists=True))
@click.option("--least", type=click.FloatRange(0), default=0.05, show_default=True, help="Hide smaller changes.")
@click.option("--fail-over", type=click.FloatRange(0), help="Exit with 1 if something is dearer by more than this.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the table here.")
def main(old: Path, new: Path, least: float, fail_over: float | None, markdown_file: Path | None) -> None:
    """Show what became cheaper or dearer from OLD to NEW, for example from history/0.1.0.json."""
    try:
        found = changes(metrics_of(old), metrics_of(new))
    except ValueError as err:  # also what json raises
        raise click.ClickException(str(err)) from err
    terminal, table = console(), sheet(found, least)
    show(table, terminal)
    counts = {name: sum(one.verdict == name for one in found) for name in (CHEAPER, DEARER, SAME, ONLY_NEW, ONLY_OLD)}
    terminal.print(", ".join(f"{count} {name}" for name, count in counts.items()), highlight=False)
    if markdown_file:
        markdown_file.write_text(markdown(table))
    if fail_over is not None and any(one.verdict == DEARER and one.factor > 1 + fail_over for one in found):
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.compare")
