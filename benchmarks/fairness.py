"""Metrics of the many writers, from the rows that `benchmarks.writers --json` prints.

As all metrics, lower is better: what should be great, a rate or the share of the slowest writer, is
turned over. Waits are milliseconds, and so are of the machine.
"""

from typing import Any

from benchmarks.document import Document, Metrics, document

Rows = list[dict[str, Any]]
MOST = 16


def as_document(rows: Rows) -> Document:
    """Put rows into a document that can be compared and judged."""
    return document("writers", metrics(rows), rows=rows)


def metrics(rows: Rows) -> Metrics:
    """What the targets ask of many writers; what was not measured is left out."""
    runs = {(row["engine"], row["processes"]): row["runs"] for row in rows}
    found: Metrics = {}
    for name in ("ampstore", "ampstore, full"):
        one, many = runs.get((name, 1), []), runs.get((name, MOST), [])
        found[f"{name} | rate of 1 to {MOST} writers"] = _divided(one, many)
        found[f"{name} | fastest to slowest writer"] = [1 / max(run["fairness"], 1e-6) for run in many]
        found[f"{name} | worst wait, ms"] = [float(run["worst"]) for run in many]
        found[f"{name} | errors"] = [float(run["errors"]) for run in many]
    for peer, name in (("LMDB", "ampstore, full"), ("diskcache", "ampstore")):
        found[f"{name} | rate of {peer} to ours"] = _divided(runs.get((peer, MOST), []), runs.get((name, MOST), []))
    return {name: numbers for name, numbers in found.items() if numbers}


def _divided(others: Rows, ours: Rows) -> list[float]:
    return [other["rate"] / max(our["rate"], 1e-6) for other, our in zip(others, ours, strict=False)]
