"""The HTML of a report. Everything that comes from a store is escaped: keys and messages may be anybody's."""

import html
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ampstore.anneal.plot import kept_searches, sections
from ampstore.data.runs import runs
from ampstore.database import FileDatabase
from ampstore.errors import CheckpointError, CodecError
from ampstore.overview import state_of
from ampstore.report.pictures import draw_growth, draw_kinds
from ampstore.report.survey import Survey, survey
from ampstore.store import Store


def write_report(target: "Store | FileDatabase", path: str | os.PathLike[str]) -> Path:
    """Write a report on a store or container that is open for reading.

    Parameters
    ----------
    target : Store or FileDatabase
    path : path-like
        The HTML file; one that is there is replaced when the new one is whole.

    Returns
    -------
    Path

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    made = Path(path)
    text = page(target)
    partial = made.with_name(f".{made.name}.{secrets.token_hex(8)}.new")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, made)
    finally:
        partial.unlink(missing_ok=True)
    return made


def page(target: "Store | FileDatabase") -> str:
    """Text of the whole page."""
    store = target.store if isinstance(target, FileDatabase) else target
    name = html.escape(Path(target.location).name)
    found = survey(target.listing())
    parts = [f"<h1>{name}</h1>", *_facts(target, store, found)]
    if found.total.entries:
        parts += [*_kinds(found), *_growth(found), *_largest(found)]
    if store is not None:
        parts += [*_runs(store), *_annealing(store)]
    return _PAGE.format(title=name, body="\n".join(parts))


def _facts(target: "Store | FileDatabase", store: Store | None, found: Survey) -> Iterator[str]:
    total = found.total
    rows: list[tuple[str, object]] = [("entries", f"{total.entries:,}")]
    rows += [("values", _size(total.size)), ("stored", f"{_size(total.stored)}, 1/{total.ratio:.1f}")]
    if store is not None:
        rows += [("on disk", _size(store.stats().disk)), *store.info().items()]
    if isinstance(target, FileDatabase):
        rows += [(f"in {tier}", f"{count:,}") for tier, count in target.tiers().items()]
    rows += [("report made", _time(time.time()))]
    yield _table((), rows)


def _kinds(found: Survey) -> Iterator[str]:
    yield "<h2>Size by kind</h2>"
    yield draw_kinds(found.groups)
    rows = [
        (kind, f"{group.entries:,}", _size(group.size), _size(group.stored), f"{group.ratio:.1f}")
        for kind, group in found.groups.items()
    ]
    yield _table(("kind", "entries", "values", "stored", "ratio"), rows)
    yield _table(("codec", "entries"), [(codec, f"{count:,}") for codec, count in found.codecs.most_common()])


def _growth(found: Survey) -> Iterator[str]:
    yield "<h2>Growth</h2>"
    yield "<p>By the time when the entries of today were last written.</p>"
    yield draw_growth(found.growth)


def _largest(found: Survey) -> Iterator[str]:
    yield "<h2>Largest entries</h2>"
    rows = [(key, kind, _size(size), _size(stored), _time(at)) for key, kind, size, stored, _, at in found.largest]
    yield _table(("key", "kind", "value", "stored", "written"), rows)


def _runs(store: Store) -> Iterator[str]:
    told, claims = runs(store), {owner: keys for owner, keys, _ in store.claimants()}
    if not told and not claims:
        return
    yield "<h2>Calculations</h2>"
    rows = []
    for run in told:
        held = claims.pop(run.owner, 0)
        numbers = (f"{run.done:,} of {run.total:,}", f"{run.failed:,}", f"{held:,}")
        rows.append((run.place, run.program, _time(run.started), state_of(run, held), *numbers))
    rows += [(owner, "", "", "claims only", "", "", f"{keys:,}") for owner, keys in claims.items()]
    yield _table(("where", "program", "started", "state", "done", "failed", "claims"), rows)
    failures = [(run.place, *failure) for run in told for failure in run.failures]
    if failures:
        yield "<h3>Failures</h3>"
        yield _table(("where", "key", "reason"), failures)


def _annealing(store: Store) -> Iterator[str]:
    try:
        searches = kept_searches(store)
    except (CheckpointError, CodecError):
        return
    yield "<h2>Searches by simulated annealing</h2>"
    yield sections(searches)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(_cell(str(cell)) for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{body}</table>"


LONGEST_TIME = len("2026-11-27 12:30:39 UTC")


def _cell(text: str) -> str:
    """A cell; sizes and times stay on a line, since a table is narrow beside long keys."""
    together = ' class="line"' if len(text) <= LONGEST_TIME and text[:1].isdigit() and " " in text else ""
    return f"<td{together}>{html.escape(text)}</td>"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1b2a38; max-width: 60em; margin: 2em auto; padding: 0 1em }}
h1 {{ font-size: 1.6em }} h2 {{ font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #d5dde5 }}
table {{ border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto }}
td, th {{ padding: .2em 1em .2em 0; text-align: left; vertical-align: top; border-bottom: 1px solid #eef2f6 }}
td {{ overflow-wrap: anywhere; max-width: 32em }} .line {{ white-space: nowrap }}
svg, img {{ max-width: 100%; height: auto }}
</style>
</head><body>
{body}
</body></html>
"""
