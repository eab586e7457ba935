"""`python -m benchmarks.readers`: random batches through PyTorch's DataLoader, beside other stores.

Every engine is filled with the same values. An epoch reads all of them once, in a new random order, in batches. Workers
are forked once and stay; the first epoch, in which they open the store, is not counted. ampstore is read by its
`Dataset`; a peer by a dataset of the same shape, `__getitem__` on its adapter, which is opened in each process when
it reads first. Samples are the values as they are, so the way from a worker to the trainer is in the time of all alike.
"""

import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import click
from rich.console import Console

from ampstore import Dataset
from benchmarks.document import document, outputs, write
from benchmarks.engines import Engine, is_present, opened
from benchmarks.report import Sheet, machine, markdown, show
from benchmarks.values import Values, all_values, default_corpus, key_of

PEERS = ("LMDB", "ase.db", "aselmdb", "Atompack")
OURS = "ampstore"
WORKERS = (0, 2, 4)
Times = dict[str, dict[int, list[float]]]


class PeerDataset:
    """A peer as a map-style dataset: opened in each process when it reads first."""

    def __init__(self, name: str, path: str, keys: list[str]) -> None:
        self.name, self.path, self.keys = name, path, keys
        self.process = 0
        self.engine: Engine | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> object:
        if self.engine is None or self.process != os.getpid():
            self.engine, self.process = opened(self.name, self.path), os.getpid()
        return self.engine.get(self.keys[index])


def unchanged(samples: list[object]) -> list[object]:
    """A batch as it is."""
    return samples


def measure(values: Values, entries: int, batch: int, rounds: int, workers: Iterable[int], folder: str) -> Times:
    """Seconds per sample of each engine and number of workers, round by round, interleaved."""
    from torch.utils.data import DataLoader

    pairs = [(key_of(number), values.make(number)) for number in range(entries)]
    datasets: dict[str, Any] = dict(_filled(pairs, folder))
    loaders = {
        (name, count): iter(
            _endless(DataLoader(dataset, batch, shuffle=True, num_workers=count, persistent_workers=count > 0,
                                multiprocessing_context="fork" if count else None, collate_fn=unchanged))
        )
        for name, dataset in datasets.items()
        for count in sorted(workers, reverse=True)  # LMDB must not be open here when workers are forked
    }  # fmt: skip
    times: Times = {name: {count: [] for count in workers} for name in datasets}
    for number in range(rounds + 1):
        for (name, count), epochs in loaders.items():
            seconds = next(epochs)
            if number:
                times[name][count].append(seconds / entries)
    return times


def _filled(pairs: list[tuple[str, object]], folder: str) -> Iterator[tuple[str, Any]]:
    keys = [key for key, _ in pairs]
    for name in (OURS, *(name for name in PEERS if is_present(name))):
        path = os.path.join(folder, name)
        os.mkdir(path)
        engine = opened(name, path)
        engine.put_many(pairs)
        engine.close()
        if name == OURS:
            (file,) = (entry for entry in Path(path).iterdir() if not entry.name.endswith(("-wal", "-shm")))
            yield name, Dataset(file, keys, allow="*")
        else:
            yield name, PeerDataset(name, path, keys)


def _endless(loader: Any) -> Iterator[float]:
    """Seconds of one epoch after the other."""
    while True:
        start = time.perf_counter()
        count = sum(len(samples) for samples in loader)
        seconds = time.perf_counter() - start
        if count != len(loader.dataset):
            raise RuntimeError(f"{count} samples of {len(loader.dataset)}")
        yield seconds


def sheet(title: str, times: Times) -> Sheet:
    """A row for each engine: samples per second, and how many times ampstore's time it takes."""
    rows = []
    for name, found in times.items():
        row = [name]
        for count, seconds in found.items():
            ratios = [one / ours for one, ours in zip(seconds, times[OURS][count], strict=True)]
            spread = "" if name == OURS else f": {median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            row.append(f"{1 / median(seconds):,.0f}{spread}")
        rows.append(row)
    return Sheet(title, ["samples/s: times ampstore", *(f"{count} workers" for count in times[OURS])], rows)


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Counted epochs of each.")
@click.option("--entries", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True)
@click.option("--quick", is_flag=True, help="Under a minute: 500 entries, 3 epochs.")
@click.option("--directory", type=click.Path(file_okay=False, exists=True), help="Where the stores are made.")
@outputs
def main(
    rounds: int, entries: int, batch: int, quick: bool,
    directory: str | None, json_file: Path | None, markdown_file: Path | None,
) -> None:  # fmt: skip
    """Time random batches of fingerprints and of values of 1 kB."""
    if quick:
        rounds, entries = 3, 500
    kinds = [values for values in all_values(default_corpus(), False) if values.name.startswith(("generic", "fing"))]
    sheets, numbers, metrics = list[Sheet](), dict[str, Any](), dict[str, list[float]]()
    for values in kinds:
        with tempfile.TemporaryDirectory(dir=directory) as folder:
            times = measure(values, entries, batch, rounds, WORKERS, folder)
        title = f"{values.name}, {entries} entries, batches of {batch}"
        sheets.append(sheet(title, times))
        numbers[values.name] = {name: {str(n): one for n, one in found.items()} for name, found in times.items()}
        for name, found in times.items():
            for count, seconds in found.items():
                if name != OURS:
                    ours = times[OURS][count]
                    metrics[f"{values.name} | {count} | {name}"] = [a / b for a, b in zip(ours, seconds, strict=True)]
    console = Console()
    for one in sheets:
        show(one, console if console.is_terminal else Console(width=150))
    console.print(", ".join(machine().values()), highlight=False)
    if json_file:
        write(json_file, document("readers", metrics, **numbers))
    if markdown_file:
        text = "\n".join([*map(markdown, sheets), "Machine: " + ", ".join(machine().values()) + ".", ""])
        markdown_file.write_text(text)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.readers")
