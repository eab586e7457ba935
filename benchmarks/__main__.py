"""`python -m benchmarks`: time ampstore beside its peers and print what it cost."""

from pathlib import Path

import click
from rich.console import Console

from benchmarks import peers, report
from benchmarks.document import outputs, write
from benchmarks.engines import ENGINES, FSYNC, present
from benchmarks.values import Values, all_values
from benchmarks.workload import Result, Setting


@click.command()
@click.option("--values", "chosen", metavar="TEXT", multiple=True, help="Only values whose name begins so; repeatable.")
@click.option("--engine", "engines", multiple=True, metavar="NAME", help="Only this beside the bases; repeatable.")
@click.option("--entries", type=click.IntRange(2), help="Entries in each store.  [default: 1000 to 16 by size]")
@click.option("--rounds", type=click.IntRange(1), help="Counted rounds.  [default: 3; quick 1, full 4]")
@click.option("--quick", "size", flag_value="quick", help="A tenth of the entries, 1 round.")
@click.option("--full", "size", flag_value="full", help="4 rounds, 48-atom cells too.")
@click.option("--corpus", type=click.Path(path_type=Path, exists=True), help="Templates of Amp's values.")
@click.option("--directory", type=click.Path(file_okay=False, exists=True), help="Where the stores are made.")
@outputs
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw the ratios here (.png, .svg, .pdf).")
def main(
    chosen: tuple[str, ...], engines: tuple[str, ...], entries: int | None, rounds: int | None, size: str | None,
    corpus: Path | None, directory: str | None, json_file: Path | None, markdown_file: Path | None,
    plot_file: Path | None,
) -> None:  # fmt: skip
    """Time every operation of every engine, cold and warm, and measure space on the disk and in memory."""
    size = size or "default"
    names = _engines(engines)
    setting = Setting(names, rounds or peers.ROUNDS[size], directory)
    values = peers.counts(_selected(corpus, size, chosen), size, entries)
    with Console(stderr=True).status("") as status:
        results = peers.results(values, setting, status.update)
    _print(results, names)
    if json_file:
        write(json_file, peers.as_document(results))
    if markdown_file:
        markdown_file.write_text(report.text(results, names))
    if plot_file:
        from benchmarks import plots

        plots.ratios(results, plot_file)


def _engines(chosen: tuple[str, ...]) -> list[str]:
    names = list(present())
    if absent := [name for name in chosen if name not in names]:
        raise click.UsageError(f"there is no engine {absent[0]!r} here; there are {', '.join(map(repr, names))}")
    bases = {report.AMPSTORE, report.MINIMAL}
    if any(ENGINES[name].durability == FSYNC for name in chosen):
        bases.add(report.FULL)  # what syncs is set beside what syncs
    return [name for name in names if not chosen or name in bases.union(chosen)]


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


def _print(results: list[Result], names: list[str]) -> None:
    terminal = report.console()
    for result in results:
        for sheet in report.sheets(result):
            report.show(sheet, terminal)
    report.show(report.engine_sheet(names), terminal)
    for result in results:
        terminal.print(*report.verdict(result), sep="\n", highlight=False)
    terminal.print(", ".join(report.machine().values()), highlight=False)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
