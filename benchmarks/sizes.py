"""`python -m benchmarks.sizes`: how small each kind of values becomes, before and after `archive()`.

Sizes are bytes of an entry, as parts of what it takes in the legacy `archive.tar.gz` of the same entries.
Times are of the processor (`process_time`), each as a ratio within one round; the median of the rounds counts.
"""

import contextlib
import io
import pickle
import random
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import zstandard

from ampstore import Store
from benchmarks import report
from benchmarks.document import Metrics, document, outputs, write
from benchmarks.values import KINDS as AMP_KINDS
from benchmarks.values import Values, default_corpus, equal, generic, key_of, load, vary

ATOMS = {"quick": (20,), "default": (20, 48), "full": (20, 48, 100)}
NAMES = {"neighborlists": "neighbour lists", "fingerprints": "fingerprints", "fingerprint-primes": "derivatives"}
ENTRIES = {"neighborlists": 2400, "fingerprints": 2400, "fingerprint-primes": 160}  # divided by the atoms
ROUNDS = {"quick": 1, "default": 3, "full": 5}


class Result(NamedTuple):
    """One kind: bytes of an entry, and ratios of times; over 1 is faster than what it is compared with."""

    name: str
    entries: int
    tar_gz: float
    loose: float
    pickled: float
    before: float
    after: float
    file: float
    level: int
    trained: int
    read_loose: float
    read_loose_after: float
    read_pickle: float
    read_pickle_after: float
    write_loose: float


@click.command()
@click.option("--corpus", type=click.Path(path_type=Path, exists=True), help="Templates of Amp's values.")
@click.option("--rounds", type=click.IntRange(1), help="Counted rounds.  [default: 3; quick 1, full 5]")
@click.option("--quick", "effort", flag_value="quick", help="Cells of 20 atoms, one round.")
@click.option("--full", "effort", flag_value="full", help="Cells of 20, 48 and 100 atoms, five rounds.")
@outputs
def main(
    corpus: Path | None, rounds: int | None, effort: str | None, json_file: Path | None, markdown_file: Path | None
) -> None:
    """Sizes of all kinds before and after archive(), beside loose files and tar.gz, and ratios of times."""
    effort = effort or "default"
    results = [measure(kind, rounds or ROUNDS[effort]) for kind in kinds(corpus or default_corpus(), ATOMS[effort])]
    terminal = report.console()
    for sheet in sheets(results):
        report.show(sheet, terminal)
    terminal.print(", ".join(report.machine().values()), highlight=False)
    if json_file:
        write(json_file, document("sizes", metrics(results), results=[one._asdict() for one in results]))
    if markdown_file:
        machine = ", ".join(report.machine().values())
        markdown_file.write_text("\n".join([*map(report.markdown, sheets(results)), f"Machine: {machine}.", ""]))


def metrics(results: list[Result]) -> Metrics:
    """Sizes in parts of the tar.gz, the largest cell of each kind counting last; times as ours over theirs."""
    found: Metrics = {}
    for one in results:
        kind = one.name.split(",")[0]
        for moment, size in (("before archive", one.before), ("after archive", one.after)):
            found.setdefault(f"{kind} | {moment} | tar.gz", []).append(size / one.tar_gz)
        found[f"{one.name} | read | loose"] = [1 / one.read_loose]
        found[f"{one.name} | decode | pickle + zstd"] = [1 / one.read_pickle]
        found[f"{one.name} | write | loose"] = [1 / one.write_loose]
    return found


def kinds(corpus: Path, atoms: tuple[int, ...]) -> list[Values]:
    """Values of every kind and size, and of no kind."""
    found = []
    for source in {source.atoms: source for source in (load(corpus, one) for one in atoms)}.values():
        for kind in AMP_KINDS:
            templates = source.kinds[kind]
            found.append(_varied(kind, source.atoms, templates))
    return [*found, Values("generic 1 kB", 200, generic)]


def _varied(kind: str, atoms: int, templates: list[object]) -> Values:
    def make(number: int) -> object:
        return vary(templates[number % len(templates)], random.Random(f"{kind} {number}"))

    return Values(f"{NAMES[kind]}, {atoms} atoms", max(2, ENTRIES[kind] // atoms), make)


def measure(values: Values, rounds: int) -> Result:
    """Sizes and times of one kind."""
    made = {key_of(n): values.make(n) for n in range(values.entries)}
    loose = {key: pickle.dumps(value, 0) for key, value in made.items()}
    count = len(made)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store, scratch = (stack.enter_context(Store(directory / name)) for name in ("a.db", "b.db"))
        store.put_many(made)
        before = store.stats().stored / count
        times = _times(store, scratch, made, directory / "loose", rounds)
        compaction = store.compact()
        after = _times(store, scratch, made, directory / "loose", rounds)
        if not all(equal(store[key], value) for key, value in made.items()):
            raise AssertionError(f"{values.name}: a value changed")
        gain = compaction.kinds[0]
        trained = sum(size for *_, size in store.backend.dictionaries())
        return Result(
            values.name, count, _tar_gz(loose) / count, sum(map(len, loose.values())) / count,
            statistics.fmean(len(_pickled(value)) for value in made.values()), before,
            (store.stats().stored + trained) / count, compaction.after / count, gain.level, trained,
            times["read"], after["read"], times["decode"], after["decode"], times["write"],
        )  # fmt: skip


def _tar_gz(loose: dict[str, bytes]) -> int:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for key, data in loose.items():
            member = tarfile.TarInfo(key)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return len(buffer.getvalue())


def _pickled(value: object) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(pickle.dumps(value, 5))


def _times(store: Store, scratch: Store, made: dict[str, object], directory: Path, rounds: int) -> dict[str, float]:
    """Times of others over ours: read and write of loose files, decoding of pickle 5 + zstd."""
    directory.mkdir(exist_ok=True)
    keys, decompressor = list(made), zstandard.ZstdDecompressor()
    rows = {key: store.read_blob(key) for key in keys}
    frames = {key: _pickled(made[key]) for key in keys}

    def write_loose() -> None:
        for key in keys:
            with (directory / key).open("wb") as file:
                pickle.dump(made[key], file, 0)

    def read_loose() -> None:
        for key in keys:
            with (directory / key).open("rb") as file:
                pickle.load(file)

    ratios: dict[str, list[float]] = {"write": [], "read": [], "decode": []}
    for _ in range(rounds + 1):
        scratch.clear()
        ratios["write"].append(_clock(write_loose) / _clock(lambda: _set_all(scratch, made)))
        ratios["read"].append(_clock(read_loose) / _clock(lambda: [store[key] for key in keys]))
        theirs = _clock(lambda: [pickle.loads(decompressor.decompress(frames[key])) for key in keys])
        ratios["decode"].append(theirs / _clock(lambda: [store.codec.decode(key, *rows[key]) for key in keys]))
    return {name: statistics.median(found[1:]) for name, found in ratios.items()}


def _set_all(store: Store, made: dict[str, object]) -> None:
    for key, value in made.items():
        store[key] = value


def _clock(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def sheets(results: list[Result]) -> list[report.Sheet]:
    """Two tables: sizes, and times."""
    sizes = [
        [
            one.name, str(one.entries), f"{one.tar_gz:,.0f}", *(f"{size / one.tar_gz:.3f}" for size in
            (one.loose, one.pickled, one.before, one.after, one.file)), str(one.level), f"{one.trained / 1e3:.1f} kB",
        ]
        for one in results
    ]  # fmt: skip
    times = [
        [one.name, *(f"{ratio:.1f}" for ratio in one[-5:])]
        for one in results
    ]  # fmt: skip
    header = ["", "entries", "tar.gz, bytes", "loose", "pickle 5 + zstd 3", "before", "after", "file after", "level"]
    title = "bytes of an entry, as parts of the tar.gz; after archive() with a share of the dictionaries"
    faster = ["", "read, loose", "read after, loose", "decode, pickle", "decode after, pickle", "write, loose"]
    return [
        report.Sheet(title, [*header, "dictionaries"], sizes),
        report.Sheet("times as fast as loose files, and as pickle 5 + zstd", faster, times),
    ]


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.sizes")
