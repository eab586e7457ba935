"""`python -m benchmarks.targets`: what was aimed at, what was reached, and why not where it was not.

Every target is a bound on a metric of one of the documents: the cost of ampstore relative to something
timed in the same round, lower is better, so "20 times faster" is at most 0.05. The median counts; a
target is reached narrowly or missed narrowly where the spread lies on both sides of the bound.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click

from benchmarks import all as everything
from benchmarks.document import Document, Metrics, read
from benchmarks.reasons import WHY
from benchmarks.report import NOTHING, Sheet, console, markdown, show

Documents = dict[str, Document]
SMALL, DERIVATIVES, NEIGHBOURS, FINGERPRINTS = "generic 1 kB", "derivatives", "neighbour lists", "fingerprints"
EVERYDAY = ("get", "contains", "keys", "items", "set", "bulk set", "overwrite", "delete")
BEHIND_ALL = (
    "diskcache", "diskcache, Fanout", "sqlitedict", "shelve, sqlite3", "ase.db", "h5py", "zarr", "joblib.Memory",
    "zict.File", "klepto", "legacy loose", "legacy archive",
)  # fmt: skip
FAST = ("LMDB", "LMDB, no sync", "shelve, gnu", "rocksdict")


class Target(NamedTuple):
    """Something to reach.

    Attributes
    ----------
    group, what : str
    benchmark : str
        The document that has it.
    bound : float
        The metric shall be at most this.
    found : callable(document) -> list of float
        The rounds of the metric; empty if the document lacks it.
    """

    group: str
    what: str
    benchmark: str
    bound: float
    found: Callable[[Document], list[float]]


class Judged(NamedTuple):
    """A target and what was reached; `reached` is empty where it was not measured."""

    target: Target
    reached: list[float]

    @property
    def answer(self) -> str:
        """Tell whether it was reached."""
        if not self.reached:
            return "not measured"
        is_met = median(self.reached) <= self.target.bound
        is_clear = max(self.reached) <= self.target.bound or min(self.reached) > self.target.bound
        return ("yes" if is_met else "no") + ("" if is_clear else ", narrowly")


def metric(name: str) -> Callable[[Document], list[float]]:
    """Look up a metric by its whole name."""
    return lambda content: list(content["metrics"].get(name, []))


def of_peers(values: str, operation: str, engine: str) -> Callable[[Document], list[float]]:
    """Look up a metric of the peers; cells of the values may have any number of atoms, the first found counts."""

    def found(content: Document) -> list[float]:
        metrics: Metrics = content["metrics"]
        ends = f" | {operation} | {engine}"
        return next((one for name, one in metrics.items() if name.startswith(values) and name.endswith(ends)), [])

    return found


def dearer_share(engine: str) -> Callable[[Document], list[float]]:
    """Greatest median, over values and everyday operations and the disk, of the cost relative to one engine."""

    def found(content: Document) -> list[float]:
        parts = ((name.split(" | "), numbers) for name, numbers in content["metrics"].items())
        cells = [median(one) for (_, operation, other), one in parts if other == engine and operation in EVERYDAY]
        return [max(cells)] if cells else []

    return found


def _small() -> Iterator[Target]:
    group = "small values, to the minimal sqlite3 loop"
    for operation in ("get", "contains", "keys", "set"):
        yield Target(group, operation, "peers", 1.25, of_peers(SMALL, operation, "sqlite3 loop"))
    yield Target(group, "bulk set", "peers", 0.9, of_peers(SMALL, "bulk set", "sqlite3 loop"))


def _ahead() -> Iterator[Target]:
    for engine in BEHIND_ALL:
        yield Target(
            "ahead of it in every operation, on every kind of values", engine, "peers", 1.0, dearer_share(engine)
        )


def _beside_the_fast() -> Iterator[Target]:
    for engine in FAST:
        group = f"real values, to {engine}"
        for values, read_bound in ((DERIVATIVES, 0.25), (NEIGHBOURS, 1.0), (FINGERPRINTS, 1.3)):
            write_bound = 1.3 if values == FINGERPRINTS else 1.0
            for operation, bound in (("get", read_bound), ("set", write_bound), ("disk", 1.0)):
                yield Target(group, f"{values}: {operation}", "peers", bound, of_peers(values, operation, engine))


def _kinds() -> Iterator[Target]:
    loose = "legacy loose"
    yield Target("derivatives", "get, to a loose file", "peers", 1 / 20, of_peers(DERIVATIVES, "get", loose))
    yield Target("derivatives", "set, to a loose file", "peers", 1 / 4, of_peers(DERIVATIVES, "set", loose))
    for values, before, after in (
        ("derivatives", 0.45, None), ("neighbour lists", 0.30, 0.15), ("fingerprints", 0.76, 0.76),
    ):  # fmt: skip
        name = metric(f"{values} | before archive | tar.gz")
        yield Target(values, "size of an entry, to the tar.gz", "sizes", before, name)
        if after:
            name = metric(f"{values} | after archive | tar.gz")
            yield Target(values, "size after archive(), to the tar.gz", "sizes", after, name)
    yield Target(
        "neighbour lists", "get, to a pickle in SQLite", "peers", 1 / 2, of_peers(NEIGHBOURS, "get", "sqlite3 loop")
    )
    yield Target("fingerprints", "get, to a loose file", "peers", 1 / 8, of_peers(FINGERPRINTS, "get", loose))


def _growth() -> Iterator[Target]:
    million, listed = 10**6, 10**5
    for operation in ("get", "set", "contains"):
        name = f"{operation}, {million} entries to 1000"
        yield Target("a million entries, to a thousand", operation, "growth", 1.5, metric(name))
    yield Target("a million entries, to a thousand", "len", "growth", 1.25, metric(f"len, {million} entries to 1000"))
    for operation in ("contains", "missing"):
        name = f"{operation}, {listed} entries, to a listing of loose files"
        yield Target("10^5 keys, to the listing of Amp", operation, "growth", 0.01, metric(name))


def _migration() -> Iterator[Target]:
    for kind in ("neighborlists", "fingerprints", "fingerprint-primes"):
        name = f"{kind} | ampstore migrate"
        yield Target("verified migration, to a script with sqlitedict", kind, "migration", 0.5, metric(name))
        yield Target("verified migration: idle share of two cores", kind, "migration", 0.25, idle(kind))


def _writers() -> Iterator[Target]:
    for name, fairness, wait in (("ampstore", 0.5, 150.0), ("ampstore, full", 0.85, 30.0)):
        group = f"16 writers, one entry per commit, {name}"
        yield Target(
            group, "rate of one writer to theirs", "writers", 1 / 0.9, metric(f"{name} | rate of 1 to 16 writers")
        )
        yield Target(
            group, "fastest to slowest", "writers", 1 / fairness, metric(f"{name} | fastest to slowest writer")
        )
        yield Target(group, "worst wait, ms", "writers", wait, metric(f"{name} | worst wait, ms"))
        yield Target(group, "errors", "writers", 0.0, metric(f"{name} | errors"))
    group = "16 writers, to a peer"
    yield Target(group, "LMDB, both synced", "writers", 1 / 1.9, metric("ampstore, full | rate of LMDB to ours"))
    yield Target(group, "diskcache", "writers", 1 / 1.7, metric("ampstore | rate of diskcache to ours"))


def idle(kind: str) -> Callable[[Document], list[float]]:
    """Share of the time of two cores that a migration did not use."""
    return lambda content: [
        max(0.0, 1 - one["cpu"] / (2 * one["seconds"]))
        for one in content["runs"].get(kind, {}).get("ampstore migrate", [])
    ]


def _others() -> Iterator[Target]:
    for atoms, faster in ((20, 7), (100, 3)):
        for engine in ("get_hash", "hash_images"):
            name = f"frames of one trajectory, {atoms} atoms | {engine}"
            yield Target(
                "keys of images, to formatting number by number",
                f"{engine}, {atoms} atoms",
                "images",
                1 / faster,
                metric(name),
            )
    yield Target("annealing, a step at 1,000 parameters", "µs", "annealing", 4.0, microseconds)
    yield Target(
        "annealing, a step at 1,000 parameters", "to simanneal", "annealing", 1 / 2.5, metric("step | simanneal")
    )
    for command in ("ampstore --help", "ampstore ls"):
        yield Target("a new process", f"{command}, ms", "startup", 150.0, metric(f"{command} | ms"))
    yield Target(
        "a new process", "import, open, get, to diskcache", "peers", 1.3, of_peers(SMALL, "first get", "diskcache")
    )


def microseconds(content: Document) -> list[float]:
    """Time of a step of annealing."""
    return list(content.get("overhead", {}).get("ampstore", []))


def targets() -> list[Target]:
    """All of them, in the order of the table."""
    parts = (_small, _ahead, _beside_the_fast, _kinds, _growth, _writers, _migration, _others)
    return [target for part in parts for target in part()]


def judged(documents: Documents) -> list[Judged]:
    """Set what the documents have beside the targets."""
    return [
        Judged(target, target.found(documents[target.benchmark]) if target.benchmark in documents else [])
        for target in targets()
    ]


def read_all(directory: Path) -> Documents:
    """Documents of a directory, by the name of the file."""
    return {file.stem: read(file) for file in sorted(directory.glob("*.json"))}


def sheet(found: list[Judged]) -> Sheet:
    """Tabulate them."""
    rows = [_row(one) for one in found]
    met = sum(one.answer.startswith("yes") for one in found)
    measured = sum(bool(one.reached) for one in found)
    header = ["target", "", "at most", "reached", "reached/target", "met", "why not"]
    return Sheet(f"Targets: {met} of {measured} reached, {len(found) - measured} not measured", header, rows)


def _row(one: Judged) -> list[str]:
    target = one.target
    if not one.reached:
        return [
            target.group,
            target.what,
            _number(target.bound),
            NOTHING,
            NOTHING,
            one.answer,
            f"run benchmarks.all --only {target.benchmark}",
        ]
    spread = f" ({_number(min(one.reached))}-{_number(max(one.reached))})" if len(one.reached) > 1 else ""
    reached = median(one.reached)
    why = WHY.get((target.group, target.what), "") if one.answer.startswith("no") else ""
    return [
        target.group,
        target.what,
        _number(target.bound),
        f"{_number(reached)}{spread}",
        f"{reached / target.bound:.2f}" if target.bound else NOTHING,
        one.answer,
        why,
    ]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


@click.command()
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Results of benchmarks.all; else they are made.",
)
@click.option("--quick", "effort", flag_value="quick", help="Tiny sizes: whether all of it works.")
@click.option("--full", "effort", flag_value="full", help="All sizes: also the targets at a million entries.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the table here.")
def main(source: Path | None, effort: str | None, markdown_file: Path | None) -> None:
    """Show for each target what was reached."""
    with tempfile.TemporaryDirectory(prefix="targets-") as scratch:
        if source is None:
            source = Path(scratch)
            everything.run(everything.there(), effort or "default", source)
        try:
            table = sheet(judged(read_all(source)))
        except ValueError as err:  # also what json raises
            raise click.ClickException(str(err)) from err
    show(table, console())
    if markdown_file:
        markdown_file.write_text(markdown(table))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.targets")
