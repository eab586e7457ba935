"""Pictures of the documents. The only module here that knows matplotlib; the suffix of the file chooses the format."""

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.document import Document
from benchmarks.operations import ORDER
from benchmarks.report import AMPSTORE, equal_to
from benchmarks.workload import Result
from benchmarks.workload import ratios as ratios_of

MARKS = "os^vD<>Ph*"


def ratios(results: list[Result], file: Path) -> None:
    """Draw a table of colours for each kind of values: red where ampstore is cheaper, blue where the engine is."""
    figure, axes = _figure(len(results), height=0.28 * max(len(one.sizes) for one in results) + 1.4, width=10.5)
    for axis, result in zip(axes, results, strict=True):
        _coloured(axis, result)
    _save(figure, file)


def _coloured(axis: Any, result: Result) -> None:
    import numpy as np

    operations = [name for name in ORDER if name in result.times]
    engines = [name for name in result.sizes if name != AMPSTORE]
    numbers = np.full((len(engines), len(operations) + 1), np.nan)
    for row, name in enumerate(engines):
        for column, operation in enumerate(operations):
            if found := ratios_of(result.times, operation, name, equal_to(name, operation, result)):
                numbers[row, column] = median(found)
        numbers[row, -1] = result.sizes[name] / result.sizes[AMPSTORE]
    axis.imshow(np.log10(numbers), cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto")
    for (row, column), number in np.ndenumerate(numbers):
        if np.isfinite(number):
            colour = "white" if abs(np.log10(number)) > 1.2 else "black"
            text = f"{number:.2g}" if number < 10 else f"{number:.0f}" if number < 1000 else f"{number / 1000:.0f}k"
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    axis.set_xticks(range(len(operations) + 1), [*operations, "disk"], rotation=30, ha="right", fontsize=8)
    axis.set_yticks(range(len(engines)), engines, fontsize=8)
    axis.set_title(f"{result.values}, {result.entries} entries: cost relative to ampstore", fontsize=10)


def growth(content: Document, file: Path) -> None:
    """Draw time by number of entries and by bytes of a value, an axis for each operation."""
    titles = [("entries", name, 1e6, "µs") for name in ("get", "contains", "missing", "len", "set", "bulk set", "open")]
    titles += [("entries", f"{name}, all", 1.0, "s") for name in ("items", "verify", "compact", "backup")]
    titles += [("values", name, 1e3, "ms") for name in ("set", "get")]
    titles = [title for title in titles if title[1] in content[title[0]]]
    engines = dict.fromkeys(name for part in ("entries", "values") for one in content[part].values() for name in one)
    numbers = {name: number for number, name in enumerate(engines)}
    figure, axes = _figure(len(titles), height=2.6, width=4.2, columns=3)
    for axis, (part, operation, unit, symbol) in zip(axes, titles, strict=False):
        for name, sizes in sorted(content[part].get(operation, {}).items()):
            _line(axis, {int(size): unit * median(found) for size, found in sizes.items()}, name, numbers[name])
        axis.set_title(operation, fontsize=9)
        axis.set_ylabel(symbol, fontsize=8)
        axis.set_xlabel("entries" if part == "entries" else "bytes of a value", fontsize=8)
        axis.legend(fontsize=6)
    _save(figure, file)


def _line(axis: Any, points: dict[int, float], name: str, number: int) -> None:
    sizes = sorted(points)
    style = {"marker": MARKS[number % len(MARKS)], "color": f"C{number}", "markersize": 4}
    axis.loglog(sizes, [points[size] for size in sizes], label=name, **style)


def migration(content: Document, file: Path) -> None:
    """Draw files per second of each program, an axis for each kind of values."""
    figure, axes = _figure(len(content["runs"]), height=2.2, width=7.0)
    for axis, (kind, programs) in zip(axes, content["runs"].items(), strict=True):
        names = list(programs)
        speeds = [content["files"][kind] / median(one["seconds"] for one in programs[name]) for name in names]
        axis.barh(names, speeds)
        axis.set_title(f"{kind}, {content['files'][kind]:,} files: files per second", fontsize=9)
        axis.tick_params(labelsize=8)
    _save(figure, file)


def _figure(count: int, *, height: float, width: float, columns: int = 1) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def _save(figure: Any, file: Path) -> None:
    figure.savefig(file, dpi=110)
