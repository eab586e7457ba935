"""`python -m benchmarks.profile`: where the time of a get and of a bulk set goes, part by part.

Each part is done for every entry, all parts in turn, and the least time of the rounds is taken: what other
programs take away only ever adds. It is time of the processor, so waiting for a disk or for other programs is
left out. The parts are the calls that a store makes, with what they get there. "between" is what the whole
takes beyond its parts: Python's steps from one to the next, and caches that are colder when all parts take
turns for each entry.
"""

import gc
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import count, starmap
from pathlib import Path
from typing import Any

import click

from ampstore.codec import columns, summarise, vectors
from ampstore.store import Store
from benchmarks.engines import Engine, opened
from benchmarks.values import Values, all_values, key_of

Pairs = list[tuple[str, Any]]
Parts = dict[str, Callable[[], object]]
"""What does a part for all entries, by the name of the part."""

WHOLE, BETWEEN = "whole", "between"
PEERS = ("sqlite3 loop", "diskcache")


def parts_of_get(store: Store, peers: dict[str, Engine], pairs: Pairs) -> Parts:
    """Parts of a get, and a get of each peer."""
    codec, keys = store.codec, [key for key, _ in pairs]
    rows: list[Any] = [(key, *(store.read_blob(key) or ())) for key in keys]
    streams = [(row[0], row[1], codec.unpack(*row)) for row in rows]
    return {
        "SQLite: SELECT": lambda: _run(map(store.backend.fetch, keys)),
        "CRC-32, zstd": lambda: _run(starmap(codec.unpack, rows)),
        "objects, under the rule": lambda: _run(starmap(codec.value, streams)),
        WHOLE: lambda: _run(map(store.__getitem__, keys)),
        **{name: _bound(_gets, peer, keys) for name, peer in peers.items()},
    }


def parts_of_set(store: Store, peers: dict[str, Engine], pairs: Pairs) -> Parts:
    """Parts of a bulk set of new keys, and one of each peer."""
    codec, values, numbers = store.codec, [value for _, value in pairs], count()
    made = [(key, codec.encode(value)) for key, value in pairs]
    packed = [
        (blob.codec.removesuffix("+zstd"), blob.kind, codec.unpack(key, blob.codec, *blob[2:])) for key, blob in made
    ]
    kind = vectors.kind if made[0][1].codec.startswith("vectors") else summarise
    return {
        "stream: vectors, columns or pickle": lambda: _run(map(store_stream(store), values)),
        "kind, for people": lambda: _run(map(kind, values)),
        "SHA-256, CRC-32, zstd where it pays": lambda: _run(starmap(codec._pack, packed)),
        "SQLite: rows, commit": lambda: store.put_blobs(_renamed(made, numbers)),
        WHOLE: lambda: store.put_many(_renamed(pairs, numbers)),
        **{name: _bound(_puts, peer, pairs, numbers) for name, peer in peers.items()},
    }


def store_stream(store: Store) -> Callable[[Any], bytes]:
    """Function that makes the stream of a value, as `Codec.encode` does."""
    dumps = store.codec.rule.dumps
    return lambda value: vectors.encode(value) or columns.encode(value) or dumps(value)


def _gets(peer: Engine, keys: list[str]) -> None:
    _run(map(peer.get, keys))


def _puts(peer: Engine, pairs: Pairs, numbers: "count[int]") -> None:
    peer.put_many(list(_renamed(pairs, numbers)))


def _bound(do: Callable[..., None], *arguments: object) -> Callable[[], None]:
    return lambda: do(*arguments)


def _run(results: Iterable[object]) -> None:
    for _ in results:
        pass


def _renamed(pairs: Iterable[tuple[str, Any]], numbers: "count[int]") -> Iterable[tuple[str, Any]]:
    """The same under keys that are new."""
    number = next(numbers)
    return ((f"{key[8:]}{number:08x}", value) for key, value in pairs)


def profile(values: Values, entries: int, rounds: int, directory: str) -> dict[str, dict[str, float]]:
    """Microseconds per entry of each part, for a get and for a bulk set."""
    pairs = [(key_of(number), values.make(number)) for number in range(entries)]
    peers = {name: opened(name, _made(directory, name)) for name in PEERS}
    with Store(Path(directory) / "profiled.db") as store:
        for put_many in (store.put_many, *(peer.put_many for peer in peers.values())):
            put_many(pairs)
        gc.collect()
        gc.freeze()  # values in waiting are nobody's garbage
        get = _least(parts_of_get(store, peers, pairs), entries, rounds)
        bulk = _least(parts_of_set(store, peers, pairs), entries, max(5, rounds // 2))
        gc.unfreeze()
    for peer in peers.values():
        peer.close()
    return {"get": get, "bulk set": bulk}


def _made(directory: str, name: str) -> str:
    path = Path(directory) / name.replace(" ", "-")
    path.mkdir()
    return str(path)


def _least(parts: Parts, entries: int, rounds: int) -> dict[str, float]:
    """Least microseconds per entry; "between" is what the whole takes beyond the parts before it."""
    least = dict.fromkeys(parts, float("inf"))
    for _ in range(rounds):
        for name in random.sample(list(parts), len(parts)):
            start = time.thread_time()
            parts[name]()
            least[name] = min(least[name], 1e6 * (time.thread_time() - start) / entries)
    inner = [name for name in parts if name != WHOLE and name not in PEERS]
    found = {name: least[name] for name in inner}
    return {**found, BETWEEN: least[WHOLE] - sum(found.values()), **{name: least[name] for name in (WHOLE, *PEERS)}}


def table(operation: str, columns_: dict[str, dict[str, float]]) -> str:
    """Markdown table of one operation: parts down, kinds of values across."""
    lines = [f"| {operation}, µs | {' | '.join(columns_)} |", "| --- |" + " --- |" * len(columns_)]
    for part in next(iter(columns_.values())):
        lines.append(f"| {part} | " + " | ".join(f"{found[part]:,.1f}" for found in columns_.values()) + " |")
    return "\n".join(lines)


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=40, help="Least of so many; half as many bulk sets.")
@click.option("--directory", type=click.Path(file_okay=False, exists=True), help="Where the stores are made.")
def main(rounds: int, directory: str | None) -> None:
    """Print where the time of a get and of a bulk set goes, for each kind of values."""
    found = {}
    for values in all_values(None, False):
        entries = max(4, values.entries // 4)
        with tempfile.TemporaryDirectory(dir=directory, prefix="profile-") as scratch:
            found[values.name] = profile(values, entries, max(3, min(rounds, rounds * entries // 10)), scratch)
    for operation in ("get", "bulk set"):
        click.echo(table(operation, {name: one[operation] for name, one in found.items()}) + "\n")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.profile")
