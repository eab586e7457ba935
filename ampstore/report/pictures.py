"""Pictures of a report, by matplotlib as SVG text: no pyplot, so no window and no global state."""

import io
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ampstore.report.survey import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#9db8d2", "#2f6690")


def draw_kinds(groups: Mapping[str, Group]) -> str:
    """Bars of bytes before and after compression, by kind."""
    names = [name if len(name) <= 40 else f"{name[:39]}…" for name in groups]
    figure = _figure(8.0, 0.9 + 0.45 * max(len(names), 1))
    axes = figure.add_subplot()
    rows = range(len(names))
    unit, name = _unit(max((max(group.size, group.stored) for group in groups.values()), default=0))
    before = [group.size / unit for group in groups.values()]
    after = [group.stored / unit for group in groups.values()]
    axes.barh([row - 0.2 for row in rows], before, 0.38, color=COLOURS[0], label="values")
    axes.barh([row + 0.2 for row in rows], after, 0.38, color=COLOURS[1], label="stored")
    axes.set_yticks(list(rows), names)
    axes.invert_yaxis()
    axes.set_xlabel(name)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return _svg(figure)


def draw_growth(growth: Sequence[tuple[float, int, int]]) -> str:
    """Entries and stored bytes over time."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    figure = _figure(8.0, 3.2)
    axes = figure.add_subplot()
    times = [
        float(date2num(datetime.fromtimestamp(moment, UTC)))  # type: ignore[no-untyped-call]
        for moment, _, _ in growth
    ]
    axes.plot(times, [entries for _, entries, _ in growth], color=COLOURS[1])
    axes.set_ylabel("entries", color=COLOURS[1])
    dates = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(dates)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(dates))  # type: ignore[no-untyped-call]
    unit, name = _unit(max((stored for *_, stored in growth), default=0))
    right = axes.twinx()
    right.plot(times, [stored / unit for *_, stored in growth], color=COLOURS[0], linestyle="--")
    right.set_ylabel(f"{name} stored", color=COLOURS[0])
    return _svg(figure)


def _unit(largest: int) -> tuple[float, str]:
    """Bytes of a unit in which the largest number is short, and its name."""
    units = ((1.0, "bytes"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"))
    return max((unit for unit in units if unit[0] <= largest), default=units[0])


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def _svg(figure: "Figure") -> str:
    """The element alone, to stand in a page; its names carry no date, so equal stores make equal pages."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    svg = text[text.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
