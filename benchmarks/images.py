"""`python -m benchmarks.images`: what keys of images cost, and calculating what is missing.

hashing    get_hash and hash_images beside the loop that formats number by number
nothing    calculate_items of one image that is there, in 20 to 200,000 entries, beside the legacy way
parallel   1, 10 and 100 ms of calculation on two cores, beside multiprocessing and joblib
"""

from pathlib import Path
from statistics import median
from typing import Any

import click
from rich.console import Console

from benchmarks import calculating, hashing
from benchmarks.document import Metrics, document, outputs, write
from benchmarks.report import Sheet, machine, markdown, show

SECTIONS = ("hashing", "nothing", "parallel")
SIZES = (20, 20_000, 200_000)
Rounds = list[float]
Times = dict[str, dict[str, Rounds]]


@click.command()
@click.option("--only", type=click.Choice(SECTIONS), multiple=True, help="Only this section; repeatable.")
@click.option("--rounds", type=click.IntRange(1), help="Counted rounds.  [default: 9, of parallel 3; quick 3 and 2]")
@click.option("--quick", is_flag=True, help="About a minute: fewer rounds, less to do in each.")
@click.option("--directory", type=click.Path(file_okay=False, exists=True), help="Where the databases are made.")
@outputs
def main(
    only: tuple[str, ...], rounds: int | None, quick: bool,
    directory: str | None, json_file: Path | None, markdown_file: Path | None,
) -> None:  # fmt: skip
    """Time keys of images and the calculation of what is missing."""
    sheets, numbers = list[Sheet](), dict[str, Any]()
    with Console(stderr=True).status("") as status:
        if not only or "hashing" in only:
            times = numbers["hashing"] = hashing.measure(rounds or (3 if quick else 9), 4000, status.update)
            sheets += [
                _faster(f"µs per image, and times faster than the {hashing.REFERENCE}", times, hashing.REFERENCE)
            ]
        if not only or "nothing" in only:
            times = calculating.nothing_missing(rounds or (3 if quick else 9), SIZES, directory, status.update)
            numbers["nothing"] = times
            title = f"calculate_items of one image that is there: µs, and times faster than the {calculating.LEGACY}"
            sheets += [_faster(title, times, calculating.LEGACY)]
        if not only or "parallel" in only:
            seconds = 2.0 if quick else 8.0
            found, alone = calculating.parallel(rounds or (2 if quick else 3), seconds, directory, status.update)
            numbers["parallel"] = {"seconds": found, "seconds of one core": alone}
            sheets += [_efficiency(found, alone)]
    console = Console()
    if not console.is_terminal:
        console = Console(width=170)
    for sheet in sheets:
        show(sheet, console)
    console.print(", ".join(machine().values()), highlight=False)
    if json_file:
        write(json_file, document("images", _metrics(numbers.get("hashing", {}), hashing.REFERENCE), **numbers))
    if markdown_file:
        text = "\n".join([*map(markdown, sheets), "Machine: " + ", ".join(machine().values()) + ".", ""])
        markdown_file.write_text(text)


def _metrics(times: Times, reference: str) -> Metrics:
    """Time of each engine relative to the reference, round by round."""
    return {
        f"{heading} | {name}": [one / base for one, base in zip(seconds, found[reference], strict=True)]
        for heading, found in times.items()
        for name, seconds in found.items()
        if name != reference
    }


def _faster(title: str, times: Times, reference: str) -> Sheet:
    """A row for each input: times of every engine, and how often the reference takes as long."""
    rows = []
    for heading, found in times.items():
        row = [heading, f"{1e6 * median(found[reference]):,.1f}"]
        for name, seconds in found.items():
            if name != reference:
                ratios = [base / one for base, one in zip(found[reference], seconds, strict=True)]
                row.append(f"{1e6 * median(seconds):,.1f}: {_spread(ratios, 1)}")
        rows.append(row)
    names = next(iter(times.values()))
    return Sheet(title, ["median (min-max)", reference, *(name for name in names if name != reference)], rows)


def _efficiency(times: Times, alone: dict[str, float]) -> Sheet:
    """A row for each length of a calculation: the part of both cores' time that was spent calculating."""
    rows = [
        [
            heading,
            *(_spread([alone[heading] / calculating.CORES / one for one in seconds], 3) for seconds in found.values()),
        ]
        for heading, found in times.items()
    ]
    first, *_ = times
    rows.insert(1, ["the same, seconds", *(_spread(seconds, 2) for seconds in times[first].values())])
    title = f"Efficiency on {calculating.CORES} cores, start and end of the workers included: median (min-max)"
    return Sheet(title, ["", *times[first]], rows)


def _spread(numbers: Rounds, digits: int) -> str:
    return f"{median(numbers):.{digits}f} ({min(numbers):.{digits}f}-{max(numbers):.{digits}f})"


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.images")
