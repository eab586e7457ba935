"""`python -m benchmarks`: time ampstore beside its peers and print what it cost."""

import json
from pathlib import Path

import click
from rich.console import Console

from benchmarks import report
from benchmarks.engines import present
from benchmarks.values import Values, all_values
from benchmarks.workload import Result, Setting, measure

SHARE = {"quick": 0.3, "default": 1.0, "full": 2.0}
ROUNDS = {"quick": 3, "default": 5, "full": 7}
NARROWEST = 150  # columns: piped output would be folded at 80


@click.command()
@click.option("--values", "chosen", metavar="TEXT", multiple=True, help="Only values whose name begins so; repeatable.")
@click.option("--engine", "engines", multiple=True, metavar="NAME", help="Only this beside the two bases; repeatable.")
@click.option("--entries", type=click.IntRange(2), help="Entries in each store.  [default: 800 to 8 by size]")
@click.option("--rounds", type=click.IntRange(1), help="Counted rounds.  [default: 5; quick 3, full 7]")
@click.option("--quick", "size", flag_value="quick", help="A third of the entries, 3 rounds.")
@click.option("--full", "size", flag_value="full", help="Twice the entries, 7 rounds, 48-atom cells too.")
@click.option("--corpus", type=click.Path(path_type=Path, exists=True), help="Templates of Amp's values.")
@click.option("--directory", type=click.Path(file_okay=False, exists=True), help="Where the stores are made.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all times of all rounds here.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the tables here.")
def main(
    chosen: tuple[str, ...], engines: tuple[str, ...], entries: int | None, rounds: int | None, size: str | None,
    corpus: Path | None, directory: str | None, json_file: Path | None, markdown_file: Path | None,
) -> None:  # fmt: skip
    """Time get, contains, keys, items, set, bulk set, overwrite, delete and the first get of a process."""
    size = size or "default"
    names = _engines(engines)
    setting = Setting(names, rounds or ROUNDS[size], directory)
    counts = [(one, entries or max(2, int(one.entries * SHARE[size]))) for one in _selected(corpus, size, chosen)]
    results = _measured(counts, setting)
    _print(results, names)
    if json_file:
        json_file.write_text(json.dumps(_document(results), indent=1) + "\n")
    if markdown_file:
        markdown_file.write_text(_text(results, names))


def _engines(chosen: tuple[str, ...]) -> list[str]:
    names = list(present())
    if absent := [name for name in chosen if name not in names]:
        raise click.UsageError(f"there is no engine {absent[0]!r} here; there are {', '.join(map(repr, names))}")
    return [name for name in names if not chosen or name in (*chosen, report.AMPSTORE, report.MINIMAL)]


def _selected(corpus: Path | None, size: str, chosen: tuple[str, ...]) -> list[Values]:
    try:
        values = all_values(corpus, size == "full")
    except FileNotFoundError as err:
        raise click.ClickException(f"no templates of Amp's values: {err}; name some with --corpus") from err
    found = [one for one in values if not chosen or one.name.startswith(chosen)]
    if not found:
        names = ", ".join(repr(one.name) for one in values)
        raise click.UsageError(f"no values are named like {', '.join(chosen)}; there are {names}")
    return found


def _measured(counts: list[tuple[Values, int]], setting: Setting) -> list[Result]:
    results: list[Result] = []
    with Console(stderr=True).status("") as status:
        for values, entries in counts:
            # Imports dominate the first get, whatever the value: one kind is enough.
            first = not results
            results.append(measure(values, entries, setting, with_processes=first, progress=status.update))
    return results


def _print(results: list[Result], names: list[str]) -> None:
    console = Console()
    if console.width < NARROWEST and not console.is_terminal:
        console = Console(width=NARROWEST)
    for result in results:
        for sheet in report.sheets(result):
            report.show(sheet, console)
    report.show(report.engine_sheet(names), console)
    for result in results:
        console.print(*report.verdict(result), sep="\n", highlight=False)
    console.print(", ".join(report.machine().values()), highlight=False)


def _text(results: list[Result], names: list[str]) -> str:
    parts = [report.markdown(report.engine_sheet(names))]
    for result in results:
        heading, *lines = report.verdict(result)
        parts += [*map(report.markdown, report.sheets(result)), heading, "", *lines, ""]
    return "\n".join([*parts, "Machine: " + ", ".join(report.machine().values()) + ".", ""])


def _document(results: list[Result]) -> dict[str, object]:
    return {"machine": report.machine(), "results": [result._asdict() for result in results]}


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
