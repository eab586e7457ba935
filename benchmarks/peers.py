"""The workload on every kind of values, as one document: what `python -m benchmarks` runs."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.document import Document, Metrics, document
from benchmarks.engines import ENGINES
from benchmarks.operations import FIRST_GET, ORDER
from benchmarks.report import AMPSTORE, equal_to
from benchmarks.values import Values, all_values
from benchmarks.workload import MEMORY, Result, Setting, measure, ratios

SHARE = {"quick": 0.1, "default": 1.0, "full": 1.0}
ROUNDS = {"quick": 1, "default": 3, "full": 4}


def counts(values: list[Values], size: str, entries: int | None = None) -> list[tuple[Values, int]]:
    """Each kind of values, and how many of them a store holds."""
    return [(one, entries or max(2, int(one.entries * SHARE[size]))) for one in values]


def run(size: str, setting: Setting, corpus: Path | None, progress: Callable[[str], object]) -> list[Result]:
    """Time all kinds of values."""
    return results(counts(all_values(corpus, size == "full"), size), setting, progress)


def results(values: list[tuple[Values, int]], setting: Setting, progress: Callable[[str], object]) -> list[Result]:
    """Time these kinds of values; what needs a process for each engine with the first kind only, memory with two."""
    found = []
    for number, (one, entries) in enumerate(values):
        wanted = {FIRST_GET, MEMORY} if number == 0 else {MEMORY} if one.name.startswith("derivatives, 20") else set()
        found.append(measure(one, entries, setting, processes=wanted, progress=progress))
    return found


def as_document(found: list[Result]) -> Document:
    """Write down everything, and ampstore relative to every other engine."""
    return document("peers", metrics(found), results=[result._asdict() for result in found])


def metrics(found: list[Result]) -> Metrics:
    """Tell for each operation the cost of ampstore relative to each engine, of equal durability where it writes."""
    return {name: numbers for result in found for name, numbers in _of_result(result)}


def _of_result(result: Result) -> list[tuple[str, list[float]]]:
    others = [name for name in result.sizes if ENGINES[name].is_peer]
    rows = [
        (
            f"{result.values} | {operation} | {name}",
            ratios(result.times, operation, equal_to(name, operation, result), name),
        )
        for operation in ORDER
        for name in others
        if operation in result.times
    ]
    for title, numbers in (("disk", result.sizes), ("memory", result.memory)):
        rows += [
            (f"{result.values} | {title} | {name}", [numbers[AMPSTORE] / numbers[name]])
            for name in others
            if numbers.get(name)
        ]
    return [(name, ratio) for name, ratio in rows if ratio]


def read_results(content: Document) -> list[Result]:
    """Take the results out of a document."""
    return [Result(**one) for one in content["results"]]
