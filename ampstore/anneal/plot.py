"""Pictures of searches, by matplotlib, without a display: no pyplot, so no window and no global state."""

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ampstore.anneal.checkpoint import FORMAT, PREFIX
from ampstore.anneal.exchange import rates
from ampstore.anneal.trace import Trace
from ampstore.errors import CheckpointError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_trace(trace: Trace, axes: "Sequence[Axes] | None" = None) -> "Sequence[Axes]":
    """Loss and best, temperature, acceptance and improvement, one below the other.

    Parameters
    ----------
    trace : Trace
    axes : three Axes, optional

    Returns
    -------
    sequence of three Axes
    """
    axes = _three(axes)
    columns, steps = trace.columns(), trace.step
    axes[0].plot(steps, columns["loss"], lw=0.8, label="loss")
    axes[0].plot(steps, columns["best"], lw=1.5, label="best")
    _scale(axes[0], columns["best"])
    axes[1].plot(steps, columns["temperature"], color="tab:red", label="temperature")
    _scale(axes[1], columns["temperature"])
    for name in ("acceptance", "improvement"):
        axes[2].plot(steps[1:], 100 * columns[name][1:], lw=0.8, label=name)
    _label(axes, ("loss", "temperature", "% of moves"))
    axes[2].set_xlabel("step")
    return axes


def draw_exchange(
    temperatures: Sequence[float],
    traces: Sequence[Trace],
    swap_rates: Sequence[float],
    axes: "Sequence[Axes] | None" = None,
) -> "Sequence[Axes]":
    """Losses of all rungs over the steps; their acceptance and the exchange rates over the ladder.

    Returns
    -------
    sequence of three Axes
    """
    axes = _three(axes)
    for number, (temperature, trace) in enumerate(zip(temperatures, traces, strict=True)):
        shade = number / max(len(traces) - 1, 1)
        label = f"T = {temperature:.3g}" if number in (0, len(traces) - 1) else None
        axes[0].plot(trace.step, trace.loss, lw=0.8, color=(shade, 0.2, 1 - shade), label=label)
    axes[0].set_xlabel("step")
    shares = [100 * float(trace.acceptance[1:].mean()) if len(trace) > 1 else 0.0 for trace in traces]
    axes[1].plot(temperatures, shares, "o-", color="tab:red", label="moves accepted")
    axes[1].set_xscale("log")
    axes[1].set_xlabel("temperature")
    pairs = range(len(swap_rates))
    axes[2].bar(pairs, [100 * rate for rate in swap_rates], color="tab:green", label="exchanges accepted")
    names = [f"{low:.2g}\n{high:.2g}" for low, high in pairwise(temperatures)]
    axes[2].set_xticks(list(pairs), names)
    axes[2].set_xlabel("temperatures of the pair")
    _label(axes, ("loss", "% of moves", "% of swaps"))
    return axes


class Kept(NamedTuple):
    """A search as its checkpoint tells it.

    Attributes
    ----------
    name : str
    facts : dict of str to str
        For people.
    kind : str
    traces : list of Trace
    temperatures, swap_rates : list of float
        Of a replica exchange, else empty.
    """

    name: str
    facts: dict[str, str]
    kind: str
    traces: list[Trace]
    temperatures: list[float]
    swap_rates: list[float]

    def draw(self, axes: "Sequence[Axes] | None" = None) -> "Sequence[Axes]":
        """Picture of it: of the best of several independent searches."""
        if self.temperatures:
            return draw_exchange(self.temperatures, self.traces, self.swap_rates, axes)
        return draw_trace(min(self.traces, key=lambda trace: trace[-1].best), axes)


def kept_searches(mapping: Mapping[str, Any], name: str | None = None) -> list[Kept]:
    """The searches that have a checkpoint in a mapping, by name.

    Parameters
    ----------
    mapping : Store or another mapping
    name : str, optional
        Only this one.

    Raises
    ------
    CheckpointError
        If there is none, or none of that name.
    """
    keys = sorted(key for key in mapping if key.startswith(PREFIX)) if name is None else [PREFIX + name]
    found = [_kept(key.removeprefix(PREFIX), mapping[key]) for key in keys if key in mapping]
    if not found:
        raise CheckpointError(name or "", "there is no checkpoint of a search here")
    return found


def _kept(name: str, value: Any) -> Kept:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise CheckpointError(name, "it is no checkpoint of a search")
    search, memory = value["search"], value["memory"]
    chains = memory.get("rungs") or memory.get("chains") or [memory]
    best = min(chain["best_loss"] for chain in chains)
    facts = {
        "search": search["kind"],
        "problem": search["problem"] or "-",
        "state": search["state"],
        "schedule": ", ".join(f"{key} {fact}" for key, fact in search["schedule"].items()),
        "moves made": f"{sum(chain['step'] for chain in chains):,}",
        "accepted": f"{sum(chain['accepted'] for chain in chains):,}",
        "loss not finite": f"{sum(chain['not_finite'] for chain in chains):,}",
        "best loss": f"{best:.6g}",
        "seconds of work": f"{sum(chain['elapsed'] for chain in chains):.1f}",
        "finished": "yes" if value["finished"] else "no",
    }
    traces = [Trace.from_columns(chain["trace"]) for chain in chains]
    ladder = list(search.get("temperatures", []))
    return Kept(
        name, facts, search["kind"], traces, ladder, list(rates(memory["tried"], memory["done"])) if ladder else []
    )


def report(searches: Sequence[Kept], path: str | os.PathLike[str]) -> Path:
    """Write pictures of searches: a PNG, or one HTML file that needs no other.

    Parameters
    ----------
    searches : sequence of Kept
    path : str or path-like
        Ends in ``.png``, ``.html`` or ``.htm``.

    Raises
    ------
    ValueError
        For another ending.
    """
    target = Path(path)
    if target.suffix == ".png":
        target.write_bytes(_png(searches))
    elif target.suffix in (".html", ".htm"):
        target.write_text(_page(searches), encoding="utf-8")
    else:
        raise ValueError(f"{target.name}: a report is a .png or an .html file")
    return target


def _png(searches: Sequence[Kept]) -> bytes:
    figure = _figure(6.4 * len(searches), 7.2)
    for number, search in enumerate(searches):
        axes = [figure.add_subplot(3, len(searches), row * len(searches) + number + 1) for row in range(3)]
        search.draw(axes)
        axes[0].set_title(search.name)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _page(searches: Sequence[Kept]) -> str:
    return _PAGE.format(body=sections(searches))


def sections(searches: Sequence[Kept]) -> str:
    """HTML of searches, to stand in a page: a heading, facts and a picture of each."""
    return "\n".join(_section(search) for search in searches)


def _section(search: Kept) -> str:
    name = html.escape(search.name)
    rows = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(fact)}</td></tr>" for key, fact in search.facts.items()
    )
    picture = base64.b64encode(_png([search])).decode()
    image = f'<img alt="loss, temperature and acceptance of {name}" src="data:image/png;base64,{picture}">'
    return f"<h2>{name}</h2>\n<table>{rows}</table>\n{image}"


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Searches by simulated annealing</title>
<style>body{{font-family:sans-serif;margin:2em}}th{{text-align:left;padding-right:1em}}img{{max-width:100%}}</style>
</head><body><h1>Searches by simulated annealing</h1>
{body}
</body></html>
"""


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _three(axes: "Sequence[Axes] | None") -> "Sequence[Axes]":
    if axes is None:
        figure = _figure(6.4, 7.2)
        return [figure.add_subplot(3, 1, row) for row in (1, 2, 3)]
    if len(axes) != 3:
        raise ValueError(f"a picture of a search takes 3 Axes, not {len(axes)}")
    return axes


def _scale(axes: "Axes", numbers: Any) -> None:
    """Logarithmic where the numbers allow it and span more than a factor of ten."""
    if len(numbers) and numbers.min() > 0 and numbers.max() > 10 * numbers.min():
        axes.set_yscale("log")


def _label(axes: "Sequence[Axes]", names: Sequence[str]) -> None:
    for one, name in zip(axes, names, strict=True):
        one.set_ylabel(name)
        if one.get_legend_handles_labels()[1]:
            one.legend(frameon=False, fontsize="small")
